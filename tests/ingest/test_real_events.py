"""150 real frames of the network, through the merge rule with the published lexicons."""

from functools import partial

import msgspec
import pytest

from appliance.protocol import firehose, lexicons
from appliance.protocol.events import CommitEvent, Event
from tests.ingest.world import World, batch
from tests.merge.checker import index_faults
from tests.real_frames import frames
from tests.shared import shared

# Shortly after the capture.
NOW_US = 1_783_180_000_000_000


def real_events() -> list[Event]:
    found: list[Event] = []
    for frame in frames():
        found += firehose.events(firehose.decode_frame(frame), frame)
    return found


def network() -> World:
    return World(scope="network", validate=partial(lexicons.validate_record, published=True))


@pytest.mark.invariant("replay-is-harmless")
def test_the_rows_of_real_frames_are_those_of_the_events_that_the_network_made_of_them() -> None:
    world = network()
    events = real_events()
    lines = shared("data/jetstream/corpus/expected_v1.jsonl").read_bytes().splitlines()
    expected = {}
    for line in lines:
        event = msgspec.json.decode(line)
        commit = event.get("commit")
        if commit is not None and not commit["collection"].startswith("fm.teal."):
            key = (event["did"], commit["collection"], commit["rkey"])
            expected[key] = (commit.get("cid"), commit.get("record"))
    assert len(expected) > 140

    tally = world.applier.apply_batch(world.tx, batch(events), now_us=NOW_US)
    again = world.applier.apply_batch(world.tx, batch(events), now_us=NOW_US)

    assert (tally.dead, tally.unknown_collection, again.applied) == (0, 1, 0)
    rows = world.all(
        "SELECT a.did, c.nsid, r.rkey, r.cid, r.body FROM record r JOIN actor a ON a.id = r.actor"
        " JOIN collection c ON c.id = r.collection WHERE r.state IN (1, 2)"
    )
    assert {
        (did, nsid, rkey): (cid, None if body is None else msgspec.json.decode(body))
        for did, nsid, rkey, cid, body in rows
    } == expected
    assert world.all("SELECT count(*) FROM record WHERE state = 3") == [(0,)]
    assert index_faults(world.tx) == []


def test_only_what_tracked_accounts_did_is_kept_in_the_usual_scope() -> None:
    world = World(validate=partial(lexicons.validate_record, published=True))
    events = real_events()
    whose = [event.did for event in events if isinstance(event, CommitEvent)][:10]
    for did in set(whose):
        world.track_did(did)

    tally = world.applier.apply_batch(world.tx, batch(events), now_us=NOW_US)

    kept = {
        row[0]
        for row in world.all("SELECT DISTINCT a.did FROM record r JOIN actor a ON a.id = r.actor WHERE state")
    }
    assert kept == set(whose)
    assert tally.strangers > 100
