"""When everybody is read and when a list, and how a list is cut and named; catalogue numbers in the names."""

from __future__ import annotations

import hashlib

import pytest

from appliance.ingest.lists import EVERYBODY, PER_CONNECTION_MAX, V2_MAX, Wanted, divided
from appliance.ingest.modes import Chooser, Limits
from appliance.store.coverage import Mode

LISTS: frozenset[Mode] = frozenset({"DIDS", "DIDS-V2"})


def names(count: int) -> list[str]:
    return [f"did:plc:{number:024d}" for number in range(count)]


def test_42_an_empty_list_can_not_even_be_made() -> None:
    with pytest.raises(AssertionError):
        Wanted("DIDS", [])
    assert EVERYBODY.hash == ""


def test_42_the_hash_of_a_list_is_that_of_its_sorted_accounts() -> None:
    one, same = Wanted("DIDS", ["did:b", "did:a"]), Wanted("DIDS", ["did:a", "did:b"], ["did:canary"])
    assert one.hash == same.hash == hashlib.sha256(b"did:a\ndid:b").hexdigest()
    assert one.asked == ["did:a", "did:b"]
    assert same.asked == ["did:a", "did:b", "did:canary"]
    assert (
        one.name("jetstream-v1 wss://h/subscribe") == f"jetstream-v1 wss://h/subscribe dids {one.hash[:12]}"
    )


def test_43_no_connection_asks_for_more_than_the_server_takes() -> None:
    assert len(Wanted("DIDS", names(PER_CONNECTION_MAX), names(20_000)[10_000:]).asked) == 10_000
    for mode, most in (("DIDS", PER_CONNECTION_MAX), ("DIDS-V2", V2_MAX)):
        with pytest.raises(AssertionError):
            Wanted(mode, names(most + 1))  # type: ignore[arg-type]


def test_43_a_list_is_too_long_above_nine_thousand_and_short_again_after_a_calm_day() -> None:
    chooser = Chooser(Limits(), frozenset({"DIDS"}))
    assert chooser.choose(0, 9_000, "DIDS") == "DIDS"
    assert chooser.choose(1, 9_001, "DIDS") == "FULL"
    assert chooser.choose(2, 10_001, "FULL") == "FULL"
    for hour in range(30):
        assert chooser.choose(10 + hour * 3600, 7_000, "FULL") == "FULL"
    at = 10 + 29 * 3600
    for hour in range(24):
        assert chooser.choose(at + hour * 3600, 6_999, "FULL") == "FULL", hour
    assert chooser.choose(at + 24 * 3600, 6_999, "FULL") == "DIDS"


def test_45_ten_restless_minutes_change_to_everybody_and_a_busy_one_does_not() -> None:
    chooser = Chooser(Limits(), frozenset({"DIDS"}))
    chooser.changed(0, 5_000)
    assert all(chooser.choose(float(s), 5_000, "DIDS") == "DIDS" for s in range(100))
    modes = []
    for second in range(1000, 1000 + 640):
        chooser.changed(second, 2)
        modes.append(chooser.choose(second, 6_000, "DIDS"))
    assert modes[:600] == ["DIDS"] * 600
    assert modes[-1] == "FULL"


def test_a_short_list_goes_by_v2_and_the_border_is_not_crossed_by_each_follow() -> None:
    chooser = Chooser(Limits(), LISTS)
    assert chooser.choose(0, 150, "FULL") == "DIDS-V2"
    assert chooser.choose(0, 151, "DIDS-V2") == "DIDS"
    assert chooser.choose(0, 150, "DIDS") == "DIDS"
    assert chooser.choose(0, 120, "DIDS") == "DIDS-V2"
    assert Chooser(Limits(), frozenset({"DIDS-V2"})).choose(0, 151, "DIDS-V2") == "FULL"
    assert Chooser(Limits(), frozenset()).choose(0, 3, "FULL") == "FULL"


def test_a_crowd_of_before_the_restart_still_counts() -> None:
    chooser = Chooser(Limits(), frozenset({"DIDS"}))
    chooser.crowded_before(100.0, 3600.0)
    assert chooser.choose(100.0, 5, "FULL") == "FULL"
    assert chooser.choose(100.0 + 23 * 3600, 5, "FULL") == "DIDS"


def test_lists_take_newcomers_where_there_is_room_and_stay_as_they_are_elsewhere() -> None:
    people = names(9)
    lists = divided(people[:5], [], 2, 3)
    assert [len(one) for one in lists] == [2, 2, 1]

    # One of the first list has gone: nothing is added there, so that connection stays.
    after = divided([*people[1:5], people[5]], lists, 2, 3)
    assert after[:2] == lists[:2]
    assert after[2] == lists[2] | {people[5]}

    # Only when room is needed the one that has gone makes it.
    full = divided(people[1:7], after, 2, 3)
    assert frozenset().union(*full) == frozenset(people[1:7])
    with pytest.raises(AssertionError):
        divided(people, after, 2, 3)
    assert divided([], lists, 2, 3) == []
