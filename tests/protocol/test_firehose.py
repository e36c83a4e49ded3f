"""Frames of a repository stream: given captures, and frames that lie."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from appliance.errors import BadInput
from appliance.protocol import car, cbor_exact, cid, commits, datamodel, firehose, keys, mst
from appliance.protocol.events import AccountEvent, BrokenEvent, CommitEvent, IdentityEvent, SyncEvent
from tests.real_frames import frames, identities
from tests.shared import shared

SCENARIOS = {
    "account_lifecycle": 4,
    "deactivation": 8,
    "legacy": 3,
    "post_lifecycle": 6,
    "post_lifecycle_legacy": 6,
    "rev_ordering": 4,
    "seq_ordering": 4,
}


def from_json(kind: str, body: Any) -> firehose.Frame:
    return firehose.decode_frame(firehose.encode_frame(kind, datamodel.from_parsed(body)))


@pytest.mark.parametrize(("name", "number"), SCENARIOS.items())
def test_relay_scenarios_are_read_and_their_commits_check(name: str, number: int) -> None:
    scenario = json.loads(shared(f"data/jetstream/sync/relay-scenarios/{name}.json").read_text())
    published = {
        account["identity"]["did"]: account["identity"]["keys"]["atproto"] for account in scenario["accounts"]
    }
    did_keys = {
        did: keys.parse_multibase(key["publicKeyMultibase"], key["type"]) for did, key in published.items()
    }

    assert len(scenario["messages"]) == number
    for message in scenario["messages"]:
        kind, body = message["frame"]["header"]["t"], message["frame"]["body"]
        frame = from_json(kind, body)
        events = firehose.events(frame)
        # One rev of these is no TID.
        usual = BrokenEvent if body.get("rev") == "3lmxjza3nva00" else CommitEvent
        assert [type(event) for event in events] == {
            "#commit": [usual] * len(body.get("ops", [])),
            "#identity": [IdentityEvent],
            "#account": [AccountEvent],
            "#sync": [SyncEvent],
        }[kind]
        assert frame.seq == body["seq"]
        if kind in ("#commit", "#sync"):
            assert frame.did is not None
            # Two frames of one scenario tell another rev than their commit does.
            if name == "rev_ordering" and body["seq"] in (101, 102):
                with pytest.raises(BadInput, match="doesn't match its commit"):
                    firehose.check_commit(frame, did_keys[frame.did])
            else:
                assert firehose.check_commit(frame, did_keys[frame.did]).rev == body["rev"]


@pytest.mark.parametrize(
    ("seq", "operations", "before"),
    [
        (4623075231, 1, "bafyreicfeeojgjj7gtgl6go25tk5jmcuoytjp5hhulbdd7gwzk7gtqw3ka"),
        # Of the time before covering proofs: the neighbours' nodes aren't there.
        (4621317030, 1, None),
        (4621317332, 1, None),
        (4621332152, 42, None),
    ],
)
def test_commits_of_2025_are_read_and_undone_as_far_as_they_go(
    seq: int, operations: int, before: str | None
) -> None:
    body = json.loads(shared(f"data/jetstream/sync/firehose_commit_{seq}.json").read_text())
    frame = from_json("#commit", body)
    archive = car.read(frame.body["blocks"])
    commit = commits.parse(archive.blocks[archive.root])
    tree = mst.Tree(archive.blocks.get, commit.data)
    listed = firehose.repo_operations(frame)

    assert len(listed) == operations
    events = firehose.operations(frame)
    assert all(isinstance(event, CommitEvent) and event.record for event in events)
    assert all(tree.get(operation.path) == operation.cid for operation in listed)
    if before is None:
        with pytest.raises(mst.Missing):
            firehose.invert(tree, listed)
    else:
        assert cid.to_text(firehose.invert(tree, listed)) == before


KEY = keys.PrivateKey.from_hex("9085d2bef69286a6cbb51623c8fa258629945cd55ca705cc4e66700396894e0c")
DID, REV = "did:plc:abc", "3jzfcijpj2z2a"
RECORD = cbor_exact.encode({"$type": "com.example.a", "n": 1})


def commit_body() -> dict[str, Any]:
    """An honest commit: one record made, one changed, one removed."""
    old_root, old_nodes = mst.build({f"com.example.a/{n}": cid.cid_of(bytes([n])) for n in range(40)})
    before = mst.Tree(old_nodes.get, old_root)
    made = cid.cid_of(RECORD)
    after, blocks = before.with_changes(
        {"com.example.a/new": made, "com.example.a/7": made, "com.example.a/8": None}
    )
    for key in ("com.example.a/new", "com.example.a/7", "com.example.a/8"):
        blocks |= after.proof(key)
    root, block = commits.sign(DID, REV, after.root, KEY)
    return {
        "seq": 5,
        "repo": DID,
        "rev": REV,
        "since": "3jzfcijpj2y2a",
        "time": "2026-07-04T14:38:07.877Z",
        "commit": root,
        "prevData": old_root,
        "rebase": False,
        "tooBig": False,
        "blobs": [],
        "ops": [
            {"action": "create", "path": "com.example.a/new", "cid": made},
            {"action": "update", "path": "com.example.a/7", "cid": made, "prev": cid.cid_of(bytes([7]))},
            {"action": "delete", "path": "com.example.a/8", "cid": None, "prev": cid.cid_of(bytes([8]))},
        ],
        "blocks": car.write(root, {root: block, made: RECORD} | blocks),
    }


def framed(body: dict[str, Any], kind: str = "#commit") -> firehose.Frame:
    return firehose.decode_frame(firehose.encode_frame(kind, body))


def test_an_honest_commit_passes_and_gives_its_operations() -> None:
    frame = framed(commit_body())

    commit = firehose.check_commit(frame, KEY.did_key, now_us=1_783_175_900_000_000)

    assert (commit.did, commit.rev) == (DID, REV)
    events = firehose.operations(frame)
    assert events == [
        CommitEvent(
            DID,
            REV,
            0,
            "create",
            "com.example.a",
            "new",
            cid.to_text(cid.cid_of(RECORD)),
            b'{"n":1,"$type":"com.example.a"}',
            1_783_175_887_877_000,
        ),
        CommitEvent(
            DID,
            REV,
            1,
            "update",
            "com.example.a",
            "7",
            cid.to_text(cid.cid_of(RECORD)),
            b'{"n":1,"$type":"com.example.a"}',
            1_783_175_887_877_000,
        ),
        CommitEvent(DID, REV, 2, "delete", "com.example.a", "8", None, None, 1_783_175_887_877_000),
    ]
    assert firehose.since(frame) == "3jzfcijpj2y2a"


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another repo": lambda body: body.update(repo="did:plc:xyz"),
    "another rev": lambda body: body.update(rev="3jzfcijpj2z2b"),
    "another commit": lambda body: body.update(commit=cid.cid_of(b"x")),
    "another previous tree": lambda body: body.update(prevData=cid.cid_of(b"x")),
    "previous tree of another kind": lambda body: body.update(prevData="x"),
    "an operation left out": lambda body: body["ops"].pop(),
    "an operation invented": lambda body: body["ops"].append(
        {"action": "create", "path": "com.example.a/ghost", "cid": cid.cid_of(b"x")}
    ),
    "another record": lambda body: body["ops"][0].update(cid=cid.cid_of(b"x")),
    "another previous record": lambda body: body["ops"][1].update(prev=cid.cid_of(b"x")),
    "no previous record": lambda body: body["ops"][2].pop("prev"),
    "an unknown action": lambda body: body["ops"][0].update(action="merge"),
    "a path that is none": lambda body: body["ops"][0].update(path="x"),
    "operations of another kind": lambda body: body.update(ops={}),
    "too many operations": lambda body: body.update(ops=body["ops"] * 70),
    "blocks missing": lambda body: body.pop("blocks"),
    "blocks cut": lambda body: body.update(blocks=body["blocks"][:-1]),
    "blocks too large": lambda body: body.update(blocks=bytes(2_000_001)),
    "commit block missing": lambda body: body.update(blocks=car.write(body["commit"], {})),
    "tree missing": lambda body: body.update(
        blocks=car.write(body["commit"], {body["commit"]: car.read(body["blocks"]).blocks[body["commit"]]})
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_commit_that_lies_is_refused(name: str) -> None:
    body = commit_body()
    LIES[name](body)

    with pytest.raises(BadInput) as caught:
        firehose.check_commit(framed(body), KEY.did_key)
    assert caught.value.name != "InvalidSignature"


def test_another_key_is_told_apart_from_other_lies() -> None:
    other = keys.PrivateKey.generate().did_key

    with pytest.raises(BadInput) as caught:
        firehose.check_commit(framed(commit_body()), other)
    assert caught.value.name == "InvalidSignature"


def test_a_rev_of_the_future_is_refused_where_the_time_is_told() -> None:
    frame = framed(commit_body())
    rev_us = 1_688_137_381_887_007

    firehose.check_commit(frame, KEY.did_key, now_us=rev_us - 300_000_000)
    with pytest.raises(BadInput):
        firehose.check_commit(frame, KEY.did_key, now_us=rev_us - 300_000_001)


def test_a_record_whose_block_is_absent_is_told_as_such() -> None:
    body = commit_body()
    blocks = car.read(body["blocks"]).blocks
    del blocks[cid.cid_of(RECORD)]
    body["blocks"] = car.write(body["commit"], blocks)

    events = firehose.operations(framed(body))

    assert [event.record for event in events if isinstance(event, CommitEvent)] == [None, None, None]


def test_one_broken_operation_does_not_take_the_others_along() -> None:
    body = commit_body()
    body["ops"][1]["path"] = "not a path"

    first, broken, last = firehose.operations(framed(body), b"raw")

    assert isinstance(first, CommitEvent)
    assert isinstance(last, CommitEvent)
    assert (first.n, last.n) == (0, 2)
    assert broken == BrokenEvent(DID, b"raw", "operation 1: not a repository path", 1_783_175_887_877_000)


def test_a_record_that_is_no_cbor_is_a_broken_event() -> None:
    body = commit_body()
    junk = b"\xff\xff"
    body["ops"][0]["cid"] = cid.cid_of(junk)
    body["blocks"] += car.frame(cid.cid_of(junk), junk)

    assert isinstance(firehose.operations(framed(body))[0], BrokenEvent)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("#commit", {"rev": "1"}),
        ("#commit", {"repo": "abc"}),
        ("#commit", {"time": "yesterday"}),
        ("#commit", {"time": None}),
        ("#commit", {"blocks": b"x"}),
        ("#commit", {"ops": None}),
        ("#sync", {"did": DID, "rev": None}),
        ("#identity", {"did": "x"}),
        ("#identity", {"did": DID, "seq": "1"}),
        ("#account", {"did": DID, "active": None}),
        ("#account", {"did": DID, "active": False, "status": 5}),
    ],
)
def test_what_can_not_be_understood_is_a_broken_event_of_its_account(
    kind: str, change: dict[str, Any]
) -> None:
    frame = framed({**commit_body(), **change}, kind)

    (event,) = firehose.events(frame, b"raw")

    assert isinstance(event, BrokenEvent)
    assert event.did == frame.did
    assert event.raw == b"raw"


def test_other_messages_become_events() -> None:
    base = {"seq": 9, "did": DID, "time": "2026-07-04T14:38:07.877Z"}
    time_us = 1_783_175_887_877_000

    assert firehose.events(framed({**base, "handle": "a.test"}, "#identity")) == [
        IdentityEvent(DID, "a.test", time_us, 9)
    ]
    assert firehose.events(framed({**base, "active": False, "status": "odd"}, "#account")) == [
        AccountEvent(DID, False, "odd", time_us, 9)
    ]
    assert firehose.events(framed({**base, "active": True, "status": "x"}, "#account")) == [
        AccountEvent(DID, True, None, time_us, 9)
    ]
    root, block = commits.sign(DID, REV, cid.cid_of(b"tree"), KEY)
    sync = framed({**base, "rev": REV, "blocks": car.write(root, {root: block})}, "#sync")
    assert firehose.events(sync) == [SyncEvent(DID, REV, time_us)]
    assert firehose.check_commit(sync, KEY.did_key).data == cid.cid_of(b"tree")


def test_unknown_kinds_and_errors_are_frames_without_events() -> None:
    error = framed({"error": "FutureCursor", "message": "no"}, "error")
    info = framed({"name": "OutdatedCursor"}, "#info")
    new = framed({"seq": 1}, "#new")
    odd = firehose.decode_frame(cbor_exact.encode({"op": 7}) + cbor_exact.encode({}))

    assert (error.kind, error.body["error"]) == ("error", "FutureCursor")
    assert (info.kind, new.kind, odd.kind) == ("#info", "#new", "unknown")
    assert [firehose.events(frame) for frame in (error, info, new, odd)] == [[], [], [], []]
    assert (info.seq, new.seq) == (None, 1)


@pytest.mark.parametrize(
    "data", [b"", b"\xa0", b"\xa0\xa0\xa0", b"\x80\xa0", b"\xa0\x80", b"text", bytes(5_000_001)]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        firehose.decode_frame(data)


def test_damaged_real_frames_break_nothing() -> None:
    chance = random.Random(20260704)
    refused = broken = 0
    for raw in frames():
        for _ in range(8):
            damaged = bytearray(raw)
            for _ in range(chance.choice([1, 1, 3, 20])):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            if chance.random() < 0.2:
                del damaged[chance.randrange(len(damaged)) :]
            try:
                frame = firehose.decode_frame(bytes(damaged))
            except BadInput:
                refused += 1
                continue
            broken += any(isinstance(event, BrokenEvent) for event in firehose.events(frame, bytes(damaged)))
            identity = identities().get(frame.did or "")
            if frame.kind == "#commit" and identity is not None and bytes(damaged) != raw:
                try:
                    firehose.check_commit(frame, identity.signing_key or "")
                except BadInput:
                    continue
    assert refused > 100
    assert broken > 100
