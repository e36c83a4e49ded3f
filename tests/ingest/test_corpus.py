"""150 real frames by each of three wires: each of the 152 events that they stand for is accounted for."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance.protocol.syntax import parse_datetime_us
from appliance.store.collections import NUMBERS
from tests.ingest.hosts import Host, reading, relay_line, remember, track, v1_line, v2_line
from tests.real_frames import frames
from tests.shared import shared

LAG_MS = 2000  # the relay and Jetstream stamp an event within that of each other


def expected() -> list[dict[str, Any]]:
    text = shared("data/jetstream/corpus/expected_v1.jsonl").read_bytes()
    return [orjson.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("wire", ["v1", "v2", "relay"])
async def test_each_event_of_the_corpus_is_a_row_or_what_it_says_by_each_wire(
    tmp_path: Path, wire: str
) -> None:
    events = expected()
    make = v1_line if wire == "v1" else v2_line
    lines = [relay_line(frame) for frame in frames()] if wire == "relay" else [
        make(seq, event) for seq, event in enumerate(events, 1001)
    ]  # fmt: skip
    (named,) = {event["did"] for event in events if event["kind"] != "commit"}
    host = Host(wire, lines)
    host.plain = wire == "v1"
    if wire == "v2":
        # The one that the position stands on; the host still has it.
        first = {**events[0], "commit": {**events[0]["commit"], "collection": "com.example.thing"}}
        host.lines.insert(0, v2_line(1000, first))
    await track(tmp_path, named)
    async with host.running():
        start = lines[0]
        await remember(tmp_path, host, start.seq - 1, start.time_us)
        async with reading(tmp_path, host) as at:
            reached = {"time_us": lines[-1].time_us} if wire == "v1" else {"seq": lines[-1].seq}
            await asyncio.wait_for(at.pipeline.wait_for(**reached), 60)
            rows = await at.database.read(
                lambda r: {
                    (did, nsid, rkey): rest
                    for did, nsid, rkey, *rest in r.all(
                        "SELECT a.did, c.nsid, k.rkey, k.rev, k.cid, k.state, k.body, k.sort_ms FROM record k"
                        " JOIN actor a ON a.id = k.actor JOIN collection c ON c.id = k.collection"
                        " WHERE k.state > 0"
                    )
                }
            )
            who = await at.database.read(
                lambda r: r.one(
                    "SELECT a.status, a.resolved_us, p.state FROM actor a JOIN repo p ON p.actor = a.id"
                    " WHERE a.did = ?",
                    (named,),
                )
            )
            assert await at.value("SELECT count(*) FROM dead_letter") == 0
            assert await at.value("SELECT count(*) FROM gap") == 0

    became: Counter[str] = Counter()
    for event in events:
        if event["kind"] != "commit":
            # Active, as before; who it is will be asked anew.
            assert who == (None, None, "LIVE"), event
            became[event["kind"]] += 1
            continue
        commit = event["commit"]
        key = (event["did"], commit["collection"], commit["rkey"])
        if commit["collection"] not in NUMBERS:
            assert key not in rows, event
            became["not kept"] += 1
            continue
        rev, cid, state, body, sort_ms = rows.pop(key)
        assert rev == commit["rev"], event
        if commit["operation"] == "delete":
            assert (state, cid, body) == (2, None, None), event
        else:
            assert state == 1, event
            assert cid == commit["cid"], event
            assert orjson.loads(body) == commit["record"], event
            created_ms = parse_datetime_us(commit["record"]["createdAt"]) // 1000
            # A client whose clock is ahead is sorted at first sight.
            seen_ms = event["time_us"] // 1000
            if created_ms < seen_ms - LAG_MS:
                assert sort_ms == created_ms, event
            else:
                assert sort_ms <= created_ms, event
                assert abs(sort_ms - min(created_ms, seen_ms)) <= LAG_MS, event
        became[commit["operation"]] += 1
    assert rows == {}, "there is nothing else"
    assert became == {"create": 144, "update": 1, "delete": 4, "not kept": 1, "identity": 1, "account": 1}
    assert became.total() == 152
