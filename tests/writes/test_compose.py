import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadInput
from appliance.writes import compose
from appliance.writes.compose import Answered, spans

CID = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
DIDS = {"bob.test": "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}


async def resolve(handle: str) -> str | None:
    return DIDS.get(handle)


async def made(text: str, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"reply": None, "langs": [], "now_us": 1_767_225_600_123_456} | more
    return await compose.post(text, resolve=resolve, **options)


def found(text: str) -> list[tuple[str, str, str]]:
    return [(span.kind, text[span.start : span.end], span.target) for span in spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "see https://example.net/a?b=c#d.",
            [("link", "https://example.net/a?b=c#d", "https://example.net/a?b=c#d")],
        ),
        ("(https://example.net/x_(y))", [("link", "https://example.net/x_(y)", "https://example.net/x_(y)")]),
        ("example.com is", [("link", "example.com", "https://example.com")]),
        ("example.com/path, yes", [("link", "example.com/path", "https://example.com/path")]),
        ("file.txt and e.g. this", []),
        ("mail me@example.com", []),
        ("javascript:alert(1) ftp://example.com/x", []),
        ("hi @bob.test!", [("mention", "@bob.test", "bob.test")]),
        ("(@Bob.Test)", [("mention", "@Bob.Test", "bob.test")]),
        ("@nobody and a@bob.test", []),
        ("#tag #two, #3 ##no", [("tag", "#tag", "tag"), ("tag", "#two", "two")]),
        ("#日本語 ＃full", [("tag", "#日本語", "日本語"), ("tag", "＃full", "full")]),
        ("#" + "x" * 65, []),
        ("https://example.com/#tag", [("link", "https://example.com/#tag", "https://example.com/#tag")]),
    ],
)
def test_links_mentions_and_tags_are_found(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert found(text) == expected


async def test_facets_count_bytes() -> None:
    text = "🧑‍🧑‍🧒 é @bob.test → https://example.net #ü"
    record = await made(text)
    data = text.encode()
    cut = [data[f["index"]["byteStart"] : f["index"]["byteEnd"]].decode() for f in record["facets"]]
    assert cut == ["@bob.test", "https://example.net", "#ü"]
    assert record["facets"][0]["features"][0]["did"] == DIDS["bob.test"]


@given(st.text(st.sampled_from("a@#.:/ \n🧑é()htps-bob.test"), max_size=60))
def test_spans_are_in_order_and_disjoint(text: str) -> None:
    taken = spans(text)
    assert all(0 <= span.start < span.end <= len(text) for span in taken)
    assert all(one.end <= other.start for one, other in itertools.pairwise(taken))


async def test_a_handle_that_nobody_has_stays_text() -> None:
    assert "facets" not in await made("hi @nobody.test")


async def test_a_record_holds_what_was_said() -> None:
    parent = ("at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.post/3l3qo2vuowo2b", CID)
    root = ("at://did:plc:cccccccccccccccccccccccc/app.bsky.feed.post/3l3qo2vuowo2b", CID)
    record = await made("yes", langs=["de", "en-GB"], reply=Answered(parent, root))
    assert record == {
        "$type": "app.bsky.feed.post",
        "text": "yes",
        "createdAt": "2026-01-01T00:00:00.123Z",
        "langs": ["de", "en-GB"],
        "reply": {"root": {"uri": root[0], "cid": root[1]}, "parent": {"uri": parent[0], "cid": parent[1]}},
    }


FAMILY = "👨‍👩‍👧‍👦"


async def test_the_limit_counts_what_a_reader_counts() -> None:
    assert (await made("e\u0301" * 300))["text"]
    assert (await made("x" * 300))["text"]
    for text in ("x" * 301, FAMILY * 120 + "x" * 3, "é" * 1501):
        with pytest.raises(BadInput):
            await made(text)


@pytest.mark.parametrize("text", ["", "   \n", "a\x00b", "a\ud800b", "\x1b[0m", FAMILY * 300])
async def test_what_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        await made(text)


async def test_languages_are_few_and_real() -> None:
    for langs in (["a", "b", "c", "d"], ["de", "en", "fr", "it"], ["nonsense!"]):
        with pytest.raises(BadInput):
            await made("x", langs=langs)
