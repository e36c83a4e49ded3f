"""Other people's text can't become markup, a wrong link or a crash."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.web import richtext


def facet(start: Any, end: Any, **feature: Any) -> dict[str, Any]:
    return {"index": {"byteStart": start, "byteEnd": end}, "features": [feature]}


def link(start: int, end: int, uri: str) -> dict[str, Any]:
    return facet(start, end, **{"$type": "app.bsky.richtext.facet#link", "uri": uri})


def test_facets_count_bytes_and_not_characters() -> None:
    text = "héllo 🌍 @bob.test end"
    start = len("héllo 🌍 ".encode())
    mention = {"$type": "app.bsky.richtext.facet#mention", "did": "did:plc:44ybard66vv44zksje25o7dz"}

    parts = richtext.segments(text, [facet(start, start + 9, **mention)])

    assert [(p.kind, p.text) for p in parts] == [
        ("text", "héllo 🌍 "),
        ("mention", "@bob.test"),
        ("text", " end"),
    ]
    assert parts[1].href == "/profile/did:plc:44ybard66vv44zksje25o7dz"


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        {},
        facet(0, 0, **{"$type": "app.bsky.richtext.facet#link", "uri": "https://a.example"}),
        link(5, 2, "https://a.example"),
        link(-1, 2, "https://a.example"),
        link(0, 99, "https://a.example"),
        link(1, 2, "https://a.example"),  # cuts the é
        facet(True, 3, **{"$type": "app.bsky.richtext.facet#link", "uri": "https://a.example"}),
        link(0, 3, "javascript:alert(1)"),
        link(0, 3, "https://user:pw@a.example"),
        link(0, 3, "https:\\\\a.example"),
        link(0, 3, "https://"),
        link(0, 3, "https://a.example/" + "x" * 3000),
        facet(0, 3, **{"$type": "app.bsky.richtext.facet#mention", "did": "did:plc:../../x"}),
        facet(0, 3, **{"$type": "unknown"}),
    ],
)
def test_a_facet_that_is_wrong_is_dropped_and_the_text_stays(bad: Any) -> None:
    parts = richtext.segments("éa plain words", [bad])

    assert [p.kind for p in parts] == ["text"]
    assert "".join(p.text for p in parts) == "éa plain words"


def test_of_two_facets_that_overlap_the_first_counts() -> None:
    parts = richtext.segments("abcdef", [link(2, 6, "https://b.example"), link(0, 3, "https://a.example")])

    assert [(p.kind, p.text) for p in parts] == [("link", "abc"), ("text", "def")]


@pytest.mark.parametrize(
    ("shown", "target", "beware"),
    [
        ("bsky.app/profile/x", "https://bsky.app/profile/x", ""),
        ("https://www.example.org", "https://example.org/", ""),
        ("my-bank.example", "https://evil.example/", "evil.example"),
        ("https://my-bank.example/login", "https://evil.example/", "evil.example"),
        ("help@my-bank.example", "https://evil.example/", "evil.example"),
        ("read this", "https://evil.example/", ""),
    ],
)
def test_a_link_whose_text_names_another_host_says_where_it_leads(
    shown: str, target: str, beware: str
) -> None:
    [part] = richtext.segments(shown, [link(0, len(shown), target)])

    assert part.beware == beware


def test_names_lose_direction_marks_controls_and_lines() -> None:
    assert richtext.name("a‮b\x00\n c\x1b") == "ab c"


def test_stacked_marks_are_cut() -> None:
    assert len(richtext.plain("z" + "̶" * 100)) == 4


@given(st.text(), st.lists(st.tuples(st.integers(-5, 60), st.integers(-5, 60)), max_size=5))
def test_whatever_the_facets_say_the_text_is_shown_once(text: str, ranges: list[tuple[int, int]]) -> None:
    parts = richtext.segments(text, [link(a, b, "https://a.example") for a, b in ranges])

    shown = "".join(p.text for p in parts)
    assert shown == "".join(richtext.plain(p.text) for p in parts)
    assert richtext.plain(richtext.plain(text)) == richtext.plain(shown)
