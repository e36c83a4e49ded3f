"""What templates print, from views that may hold anything."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.web import present
from appliance.web.present import Look
from tests.shared import shared

NOW_US = 1_795_244_191_751_000
MINUTE_US = 60_000_000
LOOK = Look(NOW_US, "http://localhost:2580", "did:plc:44ybard66vv44zksje25o7dz")


@pytest.mark.parametrize(
    ("age_us", "short"),
    [
        (0, "now"),
        (5 * MINUTE_US, "5 min"),
        (3 * 60 * MINUTE_US, "3 h"),
        (50 * 60 * MINUTE_US, "2 d"),
        (30 * 24 * 60 * MINUTE_US, "22 Oct"),
        (400 * 24 * 60 * MINUTE_US, "17 Oct 2025"),
    ],
)
def test_times_are_short_and_exact_at_once(age_us: int, short: str) -> None:
    iso = present.when("2026-11-21T06:56:31.751Z", NOW_US).iso
    shown = present.when(_iso(NOW_US - age_us), NOW_US)

    assert shown.short == short
    assert iso == "2026-11-21T06:56:31Z"


@pytest.mark.parametrize("bad", [None, 5, "", "yesterday", "9999-99-99T00:00:00Z"])
def test_a_time_that_is_none_does_not_break_the_page(bad: Any) -> None:
    assert present.when(bad, NOW_US).short == "1 Jan 1970"


def test_every_recorded_timeline_can_be_shown() -> None:
    shown = 0
    for path in sorted(shared("conformance").glob("*/responses/*getTimeline*.json")):
        body = orjson.loads(path.read_bytes())["response"]["body"]
        for item in body.get("feed", []):
            entry = present.entry(item, LOOK)
            assert entry.post.author is not None
            assert entry.post.author.handle == item["post"]["author"]["handle"]
            shown += 1
    assert shown > 1000


KEYS = [
    "$type",
    "post",
    "record",
    "author",
    "embed",
    "images",
    "uri",
    "reply",
    "parent",
    "reason",
    "by",
    "facets",
    "text",
    "viewer",
    "labels",
    "langs",
    "external",
    "handle",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


@given(JSON)
def test_a_view_of_any_shape_gives_an_entry(item: Any) -> None:
    present.entry(item if isinstance(item, dict) else {"post": item}, LOOK)


def _iso(at_us: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(at_us / 1e6, dt.UTC).isoformat()
