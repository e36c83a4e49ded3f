"""150 consecutive frames of the real network, and what a production server made of them."""

from __future__ import annotations

import json
from typing import Any

from appliance.protocol import car, cbor, cid, commits, datamodel, firehose, mst
from appliance.protocol.events import AccountEvent, CommitEvent, Event, IdentityEvent
from tests.real_frames import CORPUS, frames, identities
from tests.shared import shared


def expected(path: str = CORPUS + "expected_v1.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in shared(path).read_text().splitlines()]


def all_events() -> list[Event]:
    return [event for raw in frames() for event in firehose.events(firehose.decode_frame(raw), raw)]


def test_the_frames_give_the_events_that_production_gave() -> None:
    manifest = json.loads(shared(CORPUS + "manifest.json").read_text())
    events, wanted = all_events(), expected()

    assert (len(frames()), len(events), len(wanted)) == (manifest["frames"], manifest["v1_events"], 152)
    counts: dict[str, int] = {}
    for event, line in zip(events, wanted, strict=True):
        counts[line["kind"]] = counts.get(line["kind"], 0) + 1
        if line["kind"] == "commit":
            commit = line["commit"]
            assert isinstance(event, CommitEvent)
            assert event.did == line["did"]
            assert [event.rev, event.operation, event.collection, event.rkey, event.cid] == [
                commit.get(name) for name in ("rev", "operation", "collection", "rkey", "cid")
            ]
            assert (event.record is None) == ("record" not in commit)
            if event.record is not None:
                assert json.loads(event.record) == commit["record"]
        elif line["kind"] == "identity":
            assert isinstance(event, IdentityEvent)
            assert (event.did, event.upstream_seq) == (line["did"], line["identity"]["seq"])
        else:
            assert isinstance(event, AccountEvent)
            assert (event.did, event.active, event.upstream_seq) == (
                line["did"],
                line["account"]["active"],
                line["account"]["seq"],
            )
    assert counts == {"commit": 150, "identity": 1, "account": 1}


def test_operations_are_numbered_within_their_commit() -> None:
    for raw in frames():
        frame = firehose.decode_frame(raw)
        if frame.kind == "#commit":
            numbers = [event.n for event in firehose.operations(frame) if isinstance(event, CommitEvent)]
            assert numbers == list(range(len(frame.body["ops"])))


def test_every_record_goes_to_json_and_back_under_its_cid() -> None:
    lines = expected() + expected("data/jetstream/wire-v1/golden_v1.jsonl")

    records = [line["commit"] for line in lines if "record" in line.get("commit", {})]
    for commit in records:
        value = datamodel.from_json(json.dumps(commit["record"]))
        block = cbor.encode(value)
        assert cid.to_text(cid.cid_of(block)) == commit["cid"]
        assert cbor.decode_strict(block) == value
    assert len(records) == 146 + 7


def test_every_commit_is_signed_by_its_account_and_leads_back() -> None:
    checked = inverted = 0
    for raw in frames():
        frame = firehose.decode_frame(raw)
        if frame.kind != "#commit":
            continue
        assert frame.did is not None
        key = identities()[frame.did].signing_key
        assert key is not None
        commit = firehose.check_commit(frame, key, now_us=1_783_175_900_000_000)
        assert commit.rev == frame.body["rev"]
        checked += 1
        inverted += firehose.previous_data(frame) is not None and firehose.since(frame) is not None
    assert (checked, inverted) == (148, 148)


def test_frames_survive_a_round_trip() -> None:
    for raw in frames():
        frame = firehose.decode_frame(raw)
        assert firehose.encode_frame(frame.kind, frame.body) == raw


def test_a_real_export_holds_the_records_that_another_reader_found() -> None:
    archive = car.read(shared(CORPUS + "repo.car").read_bytes())
    rows = [line.split("\t") for line in shared(CORPUS + "car_expected_records.tsv").read_text().splitlines()]
    commit = commits.parse(archive.blocks[archive.root])
    lines = shared(CORPUS + "car_expected_commit.txt").read_text().splitlines()

    tree = mst.Tree(archive.blocks.get, commit.data)

    assert [[key, cid.to_text(value)] for key, value in tree.items()] == rows
    assert len(rows) == 23
    assert f"DID: {commit.did}" in lines
    assert f"Data CID: {cid.to_text(commit.data)}" in lines
    assert f"Revision: {commit.rev}" in lines
    assert mst.build(dict(tree.items()))[0] == commit.data
    assert set(tree.node_cids()) <= set(archive.blocks)
