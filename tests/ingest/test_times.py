"""When something was said: dates that people write, and where they put a record."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadInput
from appliance.ingest import times
from appliance.protocol.syntax import parse_datetime_us
from appliance.protocol.tid import tid_of
from tests.ingest.world import NOW_US, POST, World, uri
from tests.shared import shared

NOW_MS = NOW_US // 1000
DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2025-01-01T00:00:00.123456Z", 1_735_689_600_123),
        ("2025-01-01T00:00:00.123456789Z", 1_735_689_600_123),
        ("2025-01-01T00:00:00.9999Z", 1_735_689_600_999),
        ("2025-01-01T09:00:00+09:00", 1_735_689_600_000),
        ("2024-12-31T19:30:00-04:30", 1_735_689_600_000),
        ("2025-01-01T00:00:00-00:00", 1_735_689_600_000),
        ("2025-01-01T00:00:00", 1_735_689_600_000),
        ("2025-01-01t00:00:00z", 1_735_689_600_000),
        ("2025-01-01 00:00:00Z", 1_735_689_600_000),
        ("2025-01-01", 1_735_689_600_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2025-01-01T00:00:00.1+0100", 1_735_686_000_100),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        ("0000-01-01T00:00:00Z", -62_135_596_800_000),  # where the calendar begins
        ("9999-12-31T23:59:59-23:59", 253_402_387_139_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_dates_are_read_leniently(text: str, ms: int) -> None:
    assert times.created_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2025-13-01T00:00:00Z", "2025-01-01T00:00:61Z", "2025", "1e9", "9" * 65, "٢٠٢٥-٠١-٠١x"],
)
def test_what_is_no_date_tells_nothing(text: str) -> None:
    assert times.created_ms(text) is None


@given(st.text())
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = times.created_ms(text)

    assert found is None or abs(found) < 2**53


@given(st.datetimes(timezones=st.timezones()))
def test_a_date_that_the_protocol_allows_is_read_exactly(moment: object) -> None:
    text = str(moment).replace(" ", "T")
    try:
        us = parse_datetime_us(text)
    except BadInput:
        return
    assert times.created_ms(text) == us // 1000


def test_every_valid_date_of_the_published_vectors_is_read() -> None:
    lines = shared("interop-tests/syntax/datetime_syntax_valid.txt").read_text("utf-8").splitlines()
    dates = [line for line in lines if line and not line.startswith("#")]

    assert len(dates) > 10
    for text in dates:
        found = times.created_ms(text)
        assert found == parse_datetime_us(text) // 1000 or (found is not None and text.startswith("0000")), (
            text
        )


@pytest.mark.defect("D14")
def test_a_post_from_the_future_stands_where_it_was_first_seen() -> None:
    world = World()
    world.track("alice")

    world.post("alice", "1", {"createdAt": "2036-01-01T00:00:00Z"}, at_us=NOW_US - 5_000_000)

    assert world.sort_ms(uri("alice", POST, "1")) == NOW_MS - 5_000


def test_a_live_post_without_a_readable_date_stands_where_it_was_first_seen() -> None:
    world = World()
    world.track("alice")

    world.post("alice", "1", {"createdAt": "some day"}, at_us=NOW_US - 7_000_000)

    assert world.sort_ms(uri("alice", POST, "1")) == NOW_MS - 7_000


def test_the_upstream_s_clock_counts_and_not_ours() -> None:
    world = World()
    world.track("alice")
    world.now_us += 3600 * 1_000_000

    world.post("alice", "1", {"createdAt": "2036-01-01T00:00:00Z"}, at_us=NOW_US)

    assert world.sort_ms(uri("alice", POST, "1")) == NOW_MS


@pytest.mark.defect("D13")
def test_offsets_are_converted_and_not_cut_off() -> None:
    world = World()
    world.track("alice")

    world.post("alice", "1", {"createdAt": "2025-06-01T09:00:00+09:00"})
    world.post("alice", "2", {"createdAt": "2025-06-01T00:00:00Z"})

    assert world.sort_ms(uri("alice", POST, "1")) == world.sort_ms(uri("alice", POST, "2"))


@pytest.mark.parametrize(
    ("created", "rkey", "ms"),
    [
        ("2020-01-01T00:00:00Z", tid_of(NOW_US - DAY_US), 1_577_836_800_000),
        ("2036-01-01T00:00:00Z", tid_of(NOW_US - DAY_US), NOW_MS - 86_400_000),
        ("2036-01-01T00:00:00Z", tid_of(NOW_US + DAY_US), NOW_MS),
        ("some day", tid_of(NOW_US - DAY_US), NOW_MS - 86_400_000),
        ("some day", "self", NOW_MS),
        ("0001-01-01T00:00:00Z", "self", -62_135_596_800_000),
    ],
)
def test_a_post_found_in_a_repository_is_not_stamped_with_the_time_of_finding(
    created: str, rkey: str, ms: int
) -> None:
    world = World()
    world.track("alice")

    world.scan("alice", 1, [[(rkey, 1, {"text": "", "createdAt": created})]])

    assert world.sort_ms(uri("alice", POST, rkey)) == ms


def test_a_thousand_old_posts_found_at_once_do_not_flood_the_top() -> None:
    world = World()
    world.track("alice", "bob")
    newest = world.post("bob", "new", {"createdAt": "2025-12-31T23:59:00Z"})
    old = [
        (str(n), n, {"text": "", "createdAt": f"2019-01-01T00:{n // 60 % 60:02}:{n % 60:02}Z"})
        for n in range(1000)
    ]

    world.scan("alice", 1, [old])

    assert len(world.items()) == 1001
    assert world.items()[0] == newest
    assert (
        world.all("SELECT max(sort_ms) FROM item WHERE actor = ?", world.actor("alice"))[0][0]
        < NOW_MS - 2**30
    )


def test_a_place_once_given_survives_a_scan_that_shows_another_date() -> None:
    world = World()
    world.track("alice")
    world.post("alice", "1", {"createdAt": "2025-06-01T00:00:00Z"}, number=1)
    before = world.all("SELECT sort_ms, tie, arrival FROM item")

    world.scan("alice", 2, [[("1", 55, {"text": "", "createdAt": "2024-01-01T00:00:00Z"})]])

    assert world.all("SELECT sort_ms, tie, arrival FROM item") == before
    found = world.find(uri("alice", POST, "1"))
    assert found is not None
    assert found.body is not None
    assert msgspec.json.decode(found.body)["createdAt"] == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize("file", ["datetime_syntax_invalid.txt", "datetime_parse_invalid.txt"])
def test_no_date_of_the_published_vectors_costs_a_post_or_its_place(file: str) -> None:
    """90. Live it stands where it was first seen or earlier; found in a repository, at its key or earlier."""
    lines = shared(f"interop-tests/syntax/{file}").read_text("utf-8").splitlines()
    dates = [line for line in lines if line and not line.startswith("#")]
    assert len(dates) > 3
    world = World()
    world.track("alice")
    named_us = NOW_US - DAY_US
    found = [
        (tid_of(named_us, number), number, {"text": "", "createdAt": text})
        for number, text in enumerate(dates)
    ]

    for number, text in enumerate(dates):
        world.post("alice", f"live{number}", {"createdAt": text}, at_us=NOW_US - 5_000_000)
    world.scan("alice", 900, [found])

    assert world.count("dead_letter") == 0
    for number, (rkey, _, _) in enumerate(found):
        assert world.sort_ms(uri("alice", POST, rkey)) <= named_us // 1000
        assert world.sort_ms(uri("alice", POST, f"live{number}")) <= NOW_MS - 5_000
