"""Upstreams that misbehave: counted, kept for a person to look at, and never the end."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from appliance.ingest.connection import BROKEN_MAX
from appliance.protocol import firehose
from appliance.store.database import Transaction
from tests.ingest.hosts import (
    BEGIN_US,
    SPACE,
    Host,
    Line,
    connected,
    did,
    post_event,
    reading,
    relay_line,
    remember,
    squeezed,
    track,
    v1_line,
    v2_line,
)
from tests.real_frames import frames

WIRES = ["v1", "v2", "relay"]


def posts(wire: str, count: int) -> list[Line]:
    if wire == "relay":
        return [relay_line(frame) for frame in frames()[:count]]
    make = v1_line if wire == "v1" else v2_line
    return [
        make(1001 + n, post_event(n % 7, n, BEGIN_US - 600_000_000 + n * 1_000_000)) for n in range(count)
    ]


def hostile_texts(wire: str) -> list[bytes]:
    """Messages that are no events, or bad ones, before compression."""
    deep = b"[" * 100_000 + b"]" * 100_000
    texts = [
        b"", b"{}", b"[]", b"null", b"7", b'"x"', b"{", b'{"a":', b"\xff\xfe\x00", b"\x00" * 1000, deep,
        b'{"did":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, b"{" + b'"x":1,' * 1000 + b'"y":2}',
        b'{"kind":"commit"}', b'{"did":5,"time_us":"x","kind":[]}', b"A" * 9_000_000,
    ]  # fmt: skip
    time_us = BEGIN_US - 700_000_000
    nested: Any = 1
    for _ in range(200):
        nested = {"a": nested}
    good = orjson.loads((v1_line if wire == "v1" else v2_line)(900, post_event(1, 1, time_us)).data)
    damages: list[dict[str, Any]] = [
        {"did": 5}, {"did": None}, {"rev": 5}, {"operation": None}, {"collection": {}}, {"rkey": ["x"]},
        {"record": nested}, {"cid": 7}, {"seq": "x"},
        {"seq": -1}, {"seq": 2**70}, {"time": "never"}, {"time": 7}, {"$type": SPACE + "identity"},
        {"$type": SPACE + "account", "account": {"did": did(1)}}, {"$type": SPACE + "sync", "sync": []},
        {"$type": SPACE + "later"}, {"$type": ""}, {"kind": "later"}, {"kind": "identity"},
        {"kind": "account", "account": {"active": "yes"}}, {"time_us": 5}, {"time_us": 10**18},
    ]  # fmt: skip
    for damage in damages:
        if wire == "v1":
            event = dict(good)
            event["commit"] = good["commit"] | {k: v for k, v in damage.items() if k in good["commit"]}
            event |= {k: v for k, v in damage.items() if k not in good["commit"] and k != "$type"}
        else:
            event = {"$type": "message", "payload": good["payload"] | damage}
        texts.append(json.dumps(event).encode())
    return texts


def hostile_frames() -> list[bytes]:
    """Binary frames of a repository stream that are none, or bad ones."""
    chance = random.Random(5)
    good = frames()[20]
    found = [b"", b"\x00", b"\xa0\xa0", b"\xff" * 100, good[:100], good[:-3], good + b"\x00", good + good,
             b"\x81" * 100_000, b"\x9b" + b"\xff" * 8, b"\x7b" + b"\xff" * 8, b"x" * 6_000_000]  # fmt: skip
    for _ in range(60):
        damaged = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        found.append(bytes(damaged))
    for kind, body in [
        ("#commit", {"seq": 5, "time": "2026-07-04T00:00:00Z"}), ("#commit", {"seq": -5}),
        ("#later", {"seq": 1}),
        ("#identity", {"seq": 31527015322, "did": "x", "time": "2026-07-04T00:00:00Z"}), ("#info", {}),
        ("#commit", {"seq": 31527015322, "time": "2026-07-04T00:00:00Z", "repo": did(1), "ops": 5}),
    ]:  # fmt: skip
        found.append(firehose.encode_frame(kind, body))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("wire", WIRES)
async def test_good_events_land_between_hostile_ones(tmp_path: Path, wire: str) -> None:
    host = Host(wire, posts(wire, 100))
    if wire == "relay":
        bad = hostile_frames()
    else:
        bad = [squeezed(text, wire) for text in hostile_texts(wire)]
        bad += hostile_texts(wire)[5:9]  # not compressed at all
    host.raw = [(10 + n % 80, frame) for n, frame in enumerate(bad)]
    host.raw.sort(key=lambda entry: entry[0])
    assert len(bad) > 40
    async with host.running():
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            if wire == "v1":
                await asyncio.wait_for(at.pipeline.wait_for(time_us=host.lines[-1].time_us), 30)
            else:
                await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 30)
            if wire != "relay":
                good = {line.data.split(b'"rkey":"')[1][:13].decode() for line in host.lines[1:]}
                assert good <= {row[2] for row in await at.rows()}
            assert await at.value("SELECT count(*) FROM dead_letter") >= 20
            assert await at.value("SELECT max(length(raw)) FROM dead_letter") <= 64 * 1024
            assert not at.task.done()
    assert len(host.asked) == 1, "a bad event must not cost the connection"


@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_a_zip_bomb_is_refused_and_passed(tmp_path: Path, wire: str) -> None:
    host = Host(wire, posts(wire, 10))
    plain = zstandard.ZstdCompressor(write_content_size=False)
    bomb = squeezed(bytes(1_000_000_000), wire)
    pieces = plain.compressobj()
    unsized = b"".join(pieces.compress(bytes(1_000_000)) for _ in range(300)) + pieces.flush()
    assert len(bomb) < 200_000
    host.raw = [(5, bomb), (6, unsized)]
    async with host.running():
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM record WHERE state = 1", 10 if wire == "v1" else 9)
            assert await at.value("SELECT count(*) FROM dead_letter") == 2
    assert len(host.asked) == 1


@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_a_frame_that_does_not_decompress_costs_the_connection_and_then_the_compression(
    tmp_path: Path, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.line.BACKOFF_MIN_S", 0.001)
    host = Host(wire, posts(wire, 10))
    host.raw = [(5, b"\x28\xb5\x2f\xfd" + b"\xff" * 50)]

    def heal() -> None:
        """Called for each connection; cuts none."""
        if len(host.asked) > 3:
            host.raw = []

    host.cuts = heal
    async with host.running():
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM record WHERE state = 1", 10 if wire == "v1" else 9)
            assert await at.value("SELECT count(*) FROM gap") == 0
    compressed = ["zstdDictionary" in asked or "compress" in asked for asked in host.asked]
    assert compressed[0]
    assert not compressed[-1]


@pytest.mark.parametrize("wire", WIRES)
async def test_what_nothing_gets_past_is_left_behind_as_a_gap(
    tmp_path: Path, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.line.BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr("appliance.ingest.jetstream_v1.FRAME_MAX", 1_000_000)
    monkeypatch.setattr("appliance.ingest.jetstream_v2.FRAME_MAX", 1_000_000)
    monkeypatch.setattr("appliance.ingest.relay.FRAME_MAX", 1_000_000)
    lines = posts(wire, 12)
    host = Host(wire, lines[:10])
    host.raw = [(5, b"x" * 2_000_000)]
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM gap", 1)
            assert await at.value("SELECT state FROM repo") == "SUSPECT"
            asked = len(host.asked)
            await host.add(*lines[10:])
            if wire == "v1":
                await asyncio.wait_for(at.pipeline.wait_for(time_us=lines[-1].time_us), 20)
            else:
                await asyncio.wait_for(at.pipeline.wait_for(seq=lines[-1].seq), 20)
    assert asked >= 5
    assert "cursor" not in host.asked[asked - 1]


async def test_a_stream_of_nonsense_is_left_before_it_fills_the_disk(tmp_path: Path) -> None:
    host = Host("v2", posts("v2", 3))
    host.raw = [(1, b"[]")] * (BROKEN_MAX * 3)
    async with host.running():
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await connected(host, 2)
            assert await at.value("SELECT count(*) FROM dead_letter") <= BROKEN_MAX * 2


@pytest.mark.defect("D6")
@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_while_the_writer_stands_still_the_socket_is_not_read_and_nothing_is_dropped(
    tmp_path: Path, wire: str
) -> None:
    number, padding = 5000, 16_000
    record = {"$type": "app.bsky.feed.post", "text": "x" * padding}
    make = v1_line if wire == "v1" else v2_line
    lines = [
        make(1001 + n, post_event(n % 7, n, BEGIN_US - 600_000_000 + n * 100_000, record=record))
        for n in range(number)
    ]
    host = Host(wire, lines[:1])
    host.plain = True
    release = threading.Event()
    async with host.running():
        await remember(tmp_path, host, lines[0].seq, lines[0].time_us)
        async with reading(tmp_path, host, scope="tracked", ingest_queue_mb=1) as at:
            await connected(host)

            def stand_still(tx: Transaction) -> None:
                release.wait(60)

            blocked = asyncio.create_task(at.database.write(stand_still))
            await host.add(*lines[1:])
            before = -1
            while host.sent != before or host.sent < 10:
                before = host.sent
                await asyncio.sleep(0.3)
            # Beyond the queue and a batch only the sockets' own buffers hold anything.
            assert at.pipeline.facts()["queued"] * padding < 2_500_000
            assert host.sent < number * 0.75  # they hold at most half of it
            release.set()
            await blocked
            await at.until("SELECT seq FROM upstream" if wire == "v2" else "SELECT time_us FROM upstream",
                           lines[-1].seq if wire == "v2" else lines[-1].time_us)  # fmt: skip
            assert await at.value("SELECT events FROM upstream") == number + (1 if wire == "v1" else 0)
            assert await at.value("SELECT count(*) FROM gap") == 0
    assert len(host.asked) == 1


async def test_a_full_disk_holds_the_batch_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.pipeline.COMMIT_RETRY_S", 0.02)
    host = Host("v2", posts("v2", 600))
    async with host.running():
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host, commit_events_max=50) as at:
            await at.until("SELECT count(*) > 50 FROM record", 1)
            # SQLite says FULL as soon as it would have to grow, as on a full disk.
            await at.database._writer.run(lambda c: c.execute("PRAGMA max_page_count=1").fetchall())
            async with asyncio.timeout(20):
                while at.pipeline.facts()["storing"]:
                    await asyncio.sleep(0.01)
            seq, rows = await at.database.read(
                lambda r: (
                    r.value("SELECT seq FROM upstream"),
                    r.value("SELECT count(*) FROM record WHERE state = 1"),
                )
            )
            assert seq - 1001 == rows, "position and rows must agree at every moment"
            assert at.pipeline.lag_s() is not None
            await at.database._writer.run(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchall())
            await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 30)
            assert await at.value("SELECT count(*) FROM record WHERE state = 1") == 599
            assert at.pipeline.facts()["storing"] is True
    assert len(host.asked) == 1
