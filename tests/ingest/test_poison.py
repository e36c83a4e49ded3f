"""Events that can't be applied: kept, doubted, and passed; nothing else is lost by them."""

import sqlite3
from typing import Any

import msgspec
import pytest

from appliance.errors import Corrupt
from appliance.ingest import merge
from appliance.protocol.events import BrokenEvent
from appliance.protocol.tid import tid_of
from appliance.store import records
from tests.ingest.world import CREATED, FOLLOW, NOW_US, POST, World, batch, did, uri

OK = {"text": "", "createdAt": CREATED}


def letters(world: World) -> list[tuple[Any, ...]]:
    return world.all("SELECT did, error, raw FROM dead_letter ORDER BY id")


def fail_for(monkeypatch: pytest.MonkeyPatch, rkey: str, error: Exception) -> None:
    put = merge.put

    def failing(tx: Any, fact: merge.Fact, rules: merge.Rules) -> merge.Verdict:
        verdict = put(tx, fact, rules)
        if fact.rkey == rkey:
            raise error
        return verdict

    monkeypatch.setattr(merge, "put", failing)


@pytest.mark.invariant("position-with-rows")
def test_one_event_that_raises_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.live("alice", "bob")
    fail_for(monkeypatch, "bad", ValueError("no way"))
    events = [
        world.event(who, POST, rkey, OK) for who, rkey in [("bob", "1"), ("alice", "bad"), ("bob", "2")]
    ]

    tally = world.applier.apply_batch(world.tx, batch(events, seq=77), now_us=NOW_US)

    assert (tally.applied, tally.dead, tally.suspected) == (2, 1, 1)
    assert set(world.items()) == {uri("bob", POST, "1"), uri("bob", POST, "2")}
    assert world.find(uri("alice", POST, "bad")) is None
    assert (world.repo("alice").state, world.repo("bob").state) == ("SUSPECT", "LIVE")
    assert world.all("SELECT seq FROM upstream") == [(77,)]
    [(owner, error, raw)] = letters(world)
    assert (owner, error) == (did("alice"), "ValueError: no way")
    assert msgspec.json.decode(raw)["rkey"] == "bad"


def test_text_that_no_database_takes_is_a_dead_letter() -> None:
    world = World()
    world.live("alice")

    tally = world.apply(
        msgspec.structs.replace(world.event("alice", POST, "1", OK), cid="bafyrei\ud800" + "a" * 52),
        world.event("alice", POST, "2", OK),
    )

    assert (tally.dead, tally.applied) == (1, 1)
    assert len(letters(world)) == 1


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("disk full"), sqlite3.DatabaseError("malformed"), Corrupt("x")]
)
def test_our_own_store_s_failure_is_nobody_s_dead_letter(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = World()
    world.live("alice")
    fail_for(monkeypatch, "1", error)

    with pytest.raises(type(error)):
        world.apply(world.event("alice", POST, "1", OK))

    assert letters(world) == []
    assert world.all("SELECT seq FROM upstream") == []


def test_a_rev_from_the_future_is_not_stored_and_blocks_nothing() -> None:
    world = World()
    world.live("alice")
    event = world.event("alice", POST, "1", OK)
    future = msgspec.structs.replace(event, rev=tid_of(NOW_US + 366 * 86_400_000_000))

    tally = world.apply(future)
    assert (tally.dead, tally.suspected) == (1, 1)
    assert world.items() == []
    world.apply(event)

    assert len(world.items()) == 1
    assert world.repo("alice").seen_rev == event.rev


def test_a_rev_a_little_ahead_of_our_clock_is_fine() -> None:
    world = World()
    world.live("alice")
    event = world.event("alice", POST, "1", OK)

    tally = world.apply(msgspec.structs.replace(event, rev=tid_of(NOW_US + 299_000_000)))

    assert (tally.applied, tally.dead) == (1, 0)


@pytest.mark.parametrize("rev", ["", "1", "zzzzzzzzzzzzz", "3jzfcijpj2z2", "3JZFCIJPJ2Z2A", "2222222222222 "])
def test_a_rev_that_is_no_tid_is_a_dead_letter(rev: str) -> None:
    world = World()
    world.live("alice")

    tally = world.apply(msgspec.structs.replace(world.event("alice", POST, "1", OK), rev=rev))

    assert (tally.dead, tally.applied) == (1, 0)


@pytest.mark.parametrize("rkey", ["", ".", "..", "a/b", "a b", "a" * 513])
def test_a_key_that_is_none_is_a_dead_letter(rkey: str) -> None:
    world = World()
    world.live("alice")

    tally = world.apply(world.event("alice", POST, rkey, OK))

    assert (tally.dead, world.count("record")) == (1, 0)


def test_a_create_without_its_record_is_fetched_and_doubted() -> None:
    world = World()
    world.live("alice")
    event = msgspec.structs.replace(world.event("alice", POST, "1", OK), record=None)

    world.apply(event)

    post = uri("alice", POST, "1")
    assert world.state(post) == 0
    assert world.all("SELECT kind, target FROM fetch") == [("record", world.id(post))]
    assert world.repo("alice").state == "SUSPECT"
    world.fetched(post, OK)
    assert world.items() == [post]


def test_an_unknown_operation_raises_doubt() -> None:
    world = World()
    world.live("alice")

    world.apply(world.event("alice", POST, "1", OK, operation="rename"))

    assert world.items() == []
    assert world.repo("alice").state == "SUSPECT"


def test_one_version_with_two_values_raises_doubt_and_keeps_the_first() -> None:
    world = World()
    world.live("alice")
    world.apply(world.event("alice", POST, "1", OK, number=5, value=1))

    tally = world.apply(world.event("alice", POST, "1", OK, number=5, value=2))

    assert tally.suspected == 1
    assert world.repo("alice").state == "SUSPECT"
    assert world.all("SELECT count(*) FROM record WHERE cid LIKE '%3aaaa%'") == [(1,)]


def test_broken_events_are_kept_raw_for_accounts_that_matter_here() -> None:
    world = World()
    world.live("alice")

    tally = world.apply(
        BrokenEvent(did("alice"), b"\x00raw", "no kind", NOW_US),
        BrokenEvent(did("stranger"), b"raw", "no kind", NOW_US),
        BrokenEvent(None, b"???", "no JSON", NOW_US),
    )

    assert (tally.dead, tally.strangers) == (2, 1)
    assert letters(world) == [(did("alice"), "no kind", b"\x00raw"), (None, "no JSON", b"???")]
    assert world.repo("alice").state == "SUSPECT"


def test_a_dead_letter_while_a_scan_runs_keeps_it_from_certifying() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 1)

    world.apply(BrokenEvent(did("alice"), b"raw", "no kind", NOW_US))
    world.page(scan, [("1", 1, OK)])
    certificate = world.finish(scan)

    assert certificate is None
    assert (world.repo("alice").state, world.repo("alice").cert_rev) == ("SUSPECT", None)
    assert world.repo("alice").reason == "an event could not be applied"


def test_doubt_before_a_scan_began_does_not_touch_it() -> None:
    world = World()
    world.track("alice")
    world.apply(BrokenEvent(did("alice"), b"raw", "no kind", NOW_US))

    world.scan("alice", 1, [[]])

    assert world.repo("alice").state == "LIVE"


def test_what_an_undone_event_made_tracked_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.member("alice")
    fail_for(monkeypatch, "f", ValueError("after the follow"))
    world.apply(world.event("alice", FOLLOW, "f", {"subject": did("bob"), "createdAt": CREATED}))
    monkeypatch.undo()

    tally = world.apply(world.event("bob", POST, "1", OK))

    assert (tally.strangers, tally.applied) == (1, 0)
    world.follow("alice", "g", "bob")
    assert world.apply(world.event("bob", POST, "1", OK)).applied == 1
    assert records.find(world.tx, uri("bob", POST, "1")) is not None
