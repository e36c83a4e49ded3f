"""Rows of an archive as events, and where their records then stand in time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from appliance.ingest import snapshot
from appliance.ingest.apply import Batch
from appliance.ingest.archived import event_of
from appliance.ingest.snapshot import Seen
from appliance.ingest.upstream import Places
from appliance.protocol import cbor, cid
from appliance.protocol.datamodel import Value
from appliance.protocol.events import AccountEvent, BrokenEvent, CommitEvent, IdentityEvent, SyncEvent
from appliance.protocol.segments import ACCOUNT, CREATE, DELETE, IDENTITY, RESYNC, SYNC, UPDATE, Row
from appliance.protocol.tid import tid_of
from appliance.store import actors, repos
from tests.ingest.world import FOLLOW, NOW_US, POST, World, did, rev

ALICE = did("alice")
SOURCE = "archive https://archive.test"
DAY_US = 86_400_000_000
# A repository that was downloaded a day after its newest commit.
HEAD_US = NOW_US - 30 * DAY_US
DOWNLOADED_US = HEAD_US + DAY_US


def record(created: str | None = "2025-06-01T00:00:00.000Z", **more: Value) -> bytes:
    body: dict[str, Value] = {"$type": POST, "text": "hello", **more}
    return cbor.encode(body | ({} if created is None else {"createdAt": created}))


def row(kind: int = CREATE, **fields: Any) -> Row:
    """A row of Alice, heard at HEAD_US unless told."""
    payload = b"" if kind == DELETE else record()
    made = Row(7, HEAD_US + 1_000_000, kind, POST, ALICE, tid_of(HEAD_US), tid_of(HEAD_US), payload)
    return made._replace(**fields)


def marker(kind: int, **body: Value) -> Row:
    head: dict[str, Value] = {"did": ALICE, "seq": 77, "time": "2026-01-01T00:00:00.000Z"}
    return Row(8, NOW_US, kind, "", ALICE, "", "", cbor.encode(head | body))


def commit(found: object) -> CommitEvent:
    assert isinstance(found, CommitEvent)
    return found


def test_a_record_gets_the_cid_of_its_bytes_and_its_json() -> None:
    block = record(text="grüße")
    event = commit(event_of(row(payload=block), Places()))

    assert event.cid == cid.to_text(cid.cid_of(block))
    assert event.record is not None
    assert msgspec.json.decode(event.record) == {
        "$type": POST,
        "createdAt": "2025-06-01T00:00:00.000Z",
        "text": "grüße",
    }
    assert (event.did, event.collection, event.operation) == (ALICE, POST, "create")


def test_create_update_delete_and_resync_rows_are_operations_in_their_places() -> None:
    places = Places()
    kinds = (CREATE, UPDATE, DELETE, RESYNC)
    events = [commit(event_of(row(kind), places)) for kind in kinds]

    assert [event.operation for event in events] == ["create", "update", "delete", "create"]
    assert [event.n for event in events] == [0, 1, 2, 3]
    assert [event.cid is None for event in events] == [False, False, True, False]


def test_markers_are_what_they_are_on_the_stream() -> None:
    places = Places()

    assert event_of(marker(IDENTITY, handle="alice.test"), places) == IdentityEvent(
        ALICE, "alice.test", NOW_US, 77
    )
    assert event_of(marker(ACCOUNT, active=False, status="takendown"), places) == AccountEvent(
        ALICE, False, "takendown", NOW_US, 77
    )
    assert event_of(marker(SYNC, rev=rev(5), blocks=b"car"), places) == SyncEvent(ALICE, rev(5), NOW_US)
    # Some writers keep no body of it.
    bare = event_of(marker(IDENTITY)._replace(payload=b""), places)
    assert isinstance(bare, IdentityEvent)


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", cbor.encode({"did": did("mallory"), "seq": 1}), cbor.encode({"did": ALICE})]
)
def test_a_marker_that_makes_no_sense_is_broken_and_names_its_account(payload: bytes) -> None:
    event = event_of(marker(ACCOUNT)._replace(payload=payload), Places())

    assert isinstance(event, BrokenEvent)
    assert event.did == ALICE


def test_a_kind_that_is_not_known_yet_says_nothing() -> None:
    assert event_of(row(9), Places()) is None


def test_a_record_that_can_not_be_json_is_kept_as_one_that_no_lexicon_allows() -> None:
    event = commit(event_of(row(payload=b"\xff\xff"), Places()))

    assert event.record == b"{}"
    assert event.cid == cid.to_text(cid.cid_of(b"\xff\xff"))


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, False),
        ({"kind": RESYNC}, True),
        ({"time_us": DOWNLOADED_US}, True),
        # Downloaded right after a commit: old records are there under its rev, too.
        ({"rkey": tid_of(HEAD_US - DAY_US)}, True),
        ({"rkey": "self"}, False),
        ({"rev": "no-tid"}, True),
    ],
    ids=["heard", "resync", "downloaded later", "old key, fresh rev", "a key without time", "no rev"],
)
def test_the_archive_time_counts_only_where_it_is_that_of_the_commit(
    fields: dict[str, Any], found: bool
) -> None:
    assert commit(event_of(row()._replace(**fields), Places())).found is found


# ---------------------------------------------------------------- where it stands


def stand(made: Row) -> tuple[int, int]:
    """Apply the row as history and say where its record stands: time and order of equal times."""
    world = World()
    world.track("alice")
    event = event_of(made, Places())
    assert event is not None
    world.applier.apply_history(world.tx, SOURCE, 7, [event], {ALICE: 0}, now_us=NOW_US)
    return _stands(world, made)


def by_listing(made: Row) -> tuple[int, int]:
    """Where the same record stands when a listing of its PDS brings it now."""
    world = World()
    world.track("alice")
    seen = Seen(made.rkey, cid.to_text(cid.cid_of(made.payload)), cbor.to_json(made.payload))
    assert snapshot.page_done(world.tx, world.begin("alice", 0), world.rules, [seen], None, NOW_US)
    return _stands(world, made)


def _stands(world: World, made: Row) -> tuple[int, int]:
    ((sort_ms, tie),) = world.all("SELECT sort_ms, tie FROM record WHERE rkey = ?", made.rkey)
    return sort_ms, tie


@pytest.mark.parametrize("kind", [CREATE, RESYNC])
@pytest.mark.parametrize(
    "created", ["2025-06-01T00:00:00.000Z", "1969-12-31T00:00:00Z", "2025-11-30T12:00:00.123456+01:00"]
)
def test_91_an_old_post_stands_where_a_listing_would_put_it_not_at_its_download(
    kind: int, created: str
) -> None:
    made = row(kind, payload=record(created), time_us=DOWNLOADED_US)

    assert stand(made) == by_listing(made)


@pytest.mark.parametrize("created", [None, "not a date", "2125-01-01T00:00:00Z"])
def test_90_without_a_date_of_use_a_downloaded_record_stands_where_its_key_says(created: str | None) -> None:
    made = row(RESYNC, payload=record(created), time_us=DOWNLOADED_US)

    assert stand(made) == by_listing(made)
    assert stand(made)[0] == HEAD_US // 1000


@pytest.mark.parametrize("created", [None, "2125-01-01T00:00:00Z"])
def test_89_without_a_date_of_use_a_record_that_was_heard_stands_where_it_was_heard(
    created: str | None,
) -> None:
    made = row(payload=record(created))

    assert stand(made)[0] == made.time_us // 1000


def test_a_date_between_the_download_and_now_is_bounded_by_the_download() -> None:
    made = row(RESYNC, rkey="self", payload=record("2025-12-31T23:00:00Z"), time_us=DOWNLOADED_US)

    assert stand(made)[0] == DOWNLOADED_US // 1000


# ---------------------------------------------------------------- what it may touch


def test_history_of_an_account_in_another_epoch_or_of_another_account_is_left_out() -> None:
    world = World()
    for name in ("alice", "bob", "carol"):
        world.track(name)
    bob = actors.find_id(world.tx, did("bob"))
    assert bob is not None
    assert repos.raise_epoch(world.tx, bob, 0, "the PDS went back", NOW_US)
    places = Places()
    events = [
        event
        for who in ("alice", "bob", "carol", "stranger")
        if (event := event_of(row(did=did(who)), places)) is not None
    ]
    tally = world.applier.apply_history(world.tx, SOURCE, 7, events, {ALICE: 0, did("bob"): 0}, now_us=NOW_US)

    assert tally.applied == 1
    assert world.all("SELECT a.did FROM record r JOIN actor a ON a.id = r.actor") == [(ALICE,)]


@pytest.mark.invariant("newest-wins")
def test_history_never_beats_what_a_stream_or_a_scan_has_shown_since() -> None:
    world = World()
    world.track("alice")
    newer = commit(event_of(row(DELETE, rev=tid_of(HEAD_US + 5)), Places()))
    world.applier.apply(world.tx, newer, now_us=NOW_US)
    old = event_of(row(), Places())
    assert old is not None
    tally = world.applier.apply_history(world.tx, SOURCE, 7, [old], {ALICE: 0}, now_us=NOW_US)

    assert (tally.applied, tally.old) == (0, 1)
    assert world.all("SELECT state FROM record") == [(2,)]


@pytest.mark.invariant("replay-is-harmless")
def test_history_that_comes_twice_changes_nothing() -> None:
    world = World()
    world.track("alice")
    places = Places()
    events = [commit(event_of(row(kind), places)) for kind in (CREATE, UPDATE)]
    kept = []
    for _ in range(2):
        world.applier.apply_history(world.tx, SOURCE, 7, events, {ALICE: 0}, now_us=NOW_US)
        kept.append(world.all("SELECT id, state, rev, n, cid, sort_ms, arrival FROM record"))

    assert kept[0] == kept[1]
    assert len(kept[0]) == 1


def test_28_a_row_that_can_not_be_applied_is_buried_alone_and_its_account_doubted() -> None:
    world = World()
    world.live("alice")
    places = Places()
    rows = (row(rkey="a"), row(rkey="b", rev="no-tid"), row(rkey="c", rev=tid_of(NOW_US + DAY_US)))
    events = [commit(event_of(each, places)) for each in rows]
    world.tx.run("DELETE FROM floor")
    tally = world.applier.apply_history(world.tx, SOURCE, 7, events, {ALICE: 0}, now_us=NOW_US)

    assert (tally.applied, tally.dead) == (1, 2)
    assert world.all("SELECT upstream, position, did FROM dead_letter") == [(SOURCE, 7, ALICE)] * 2
    assert world.repo("alice").state == "SUSPECT"


def test_history_moves_no_stream_raises_no_floor_and_certifies_nothing() -> None:
    world = World()
    world.track("alice")
    event = event_of(row(), Places())
    assert event is not None
    world.applier.apply_history(world.tx, SOURCE, 7, [event], {ALICE: 0}, now_us=NOW_US)

    assert world.all("SELECT * FROM upstream") == []
    assert world.all("SELECT * FROM floor") == []
    assert world.all("SELECT state, base_rev, cert_rev, cert_us FROM repo") == [("QUEUED", "", None, None)]


def test_40_whom_an_archived_follow_makes_tracked_is_covered_from_now_on_not_from_the_follow() -> None:
    world = World()
    world.member("alice")
    follow = cbor.encode({"$type": FOLLOW, "subject": did("bob"), "createdAt": "2025-06-01T00:00:00.000Z"})
    event = event_of(row(collection=FOLLOW, payload=follow), Places())
    assert event is not None
    name = "jetstream-v2 wss://stream.test"
    batch = Batch(name, "jetstream-v2", 7, HEAD_US, [event], archived=True)
    tally = world.applier.apply_batch(world.tx, batch, now_us=NOW_US)

    assert tally.newly_tracked == 1
    bob = world.all(
        "SELECT r.cover_us FROM repo r JOIN actor a ON a.id = r.actor WHERE a.did = ?", did("bob")
    )
    assert bob == [(NOW_US,)]
