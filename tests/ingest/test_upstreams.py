"""The three wires, on real sockets: whatever the door, the same rows."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from appliance.protocol import cid, dictionaries
from appliance.store.collections import NUMBERS
from tests.ingest.hosts import (
    BEGIN_US,
    ClockAt,
    Host,
    Line,
    Reading,
    connected,
    did,
    post_event,
    reading,
    relay_line,
    remember,
    track,
    v1_line,
    v2_line,
)
from tests.real_frames import frames
from tests.shared import shared


def real_v1() -> list[dict[str, Any]]:
    text = shared("data/jetstream/corpus/expected_v1.jsonl").read_bytes()
    return [orjson.loads(line) for line in text.splitlines()]


def lines_of(wire: str, events: list[dict[str, Any]]) -> list[Line]:
    make = v1_line if wire == "v1" else v2_line
    return [make(seq, event) for seq, event in enumerate(events, 1001)]


def made(
    wire: str, count: int, begin_us: int = BEGIN_US - 600_000_000, step_us: int = 1_000_000
) -> list[Line]:
    return lines_of(wire, [post_event(n % 7, n, begin_us + n * step_us) for n in range(count)])


def behind(host: Host) -> Line:
    """The line before the first, which the position stands on; the host still has it."""
    first = host.lines[0]
    line = v2_line(first.seq - 1, post_event(0, 0, first.time_us, collection="com.example.thing"))
    if host.wire == "v2":
        host.lines.insert(0, line)
    return line


async def read_to_the_end(at: Reading, host: Host) -> None:
    if host.wire == "v1":
        await at.pipeline.wait_for(time_us=host.lines[-1].time_us)
    else:
        await at.pipeline.wait_for(seq=host.lines[-1].seq)


def expected_rows() -> set[tuple[Any, ...]]:
    found = set()
    for event in real_v1():
        if event["kind"] != "commit" or event["commit"]["collection"] not in NUMBERS:
            continue
        commit = event["commit"]
        body = commit.get("record")
        found.add(
            (event["did"], commit["collection"], commit["rkey"], commit.get("cid"), 2 if body is None else 1,
             None if body is None else orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
        )  # fmt: skip
    return found


@pytest.mark.parametrize("wire", ["v1", "v1 plain", "v2", "v2 plain", "relay"])
async def test_the_same_real_events_give_the_same_rows_by_every_door(tmp_path: Path, wire: str) -> None:
    wire, _, plain = wire.partition(" ")
    lines = [relay_line(frame) for frame in frames()] if wire == "relay" else lines_of(wire, real_v1())
    assert len(lines) == (150 if wire == "relay" else 152)
    host = Host(wire, lines)
    host.plain = bool(plain)
    async with host.running():
        before = behind(host)
        await remember(tmp_path, host, before.seq, before.time_us)
        async with reading(tmp_path, host) as at:
            await asyncio.wait_for(read_to_the_end(at, host), 20)
            rows = await at.rows()
            assert await at.value("SELECT count(*) FROM dead_letter") == 0
            assert await at.value("SELECT count(*) FROM gap") == 0
            assert await at.value("SELECT events FROM upstream") == 153  # and the one that was remembered
    expected = expected_rows()
    assert len(expected) > 100
    # A record that its lexicon refuses is kept, but counts as not valid.
    assert {(*row[:4], row[5]) for row in rows} == {(*row[:4], row[5]) for row in expected}
    assert {row[4] for row in rows} <= {1, 2, 3}


async def test_the_golden_lines_are_read(tmp_path: Path) -> None:
    text = shared("data/jetstream/wire-v1/golden_v1.jsonl").read_bytes()
    events = [orjson.loads(line) for line in text.splitlines()]
    assert len(events) == 10
    host = Host("v1", lines_of("v1", events))
    async with host.running():
        await remember(tmp_path, host, None, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await asyncio.wait_for(read_to_the_end(at, host), 20)
            rows = await at.rows()
            assert await at.value("SELECT count(*) FROM dead_letter") == 0
    kept = [e for e in events if e["kind"] == "commit" and e["commit"]["collection"] in NUMBERS]
    assert {row[2] for row in rows} == {e["commit"]["rkey"] for e in kept}
    assert len(kept) >= 5


@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_the_filter_is_our_collections_and_every_account(tmp_path: Path, wire: str) -> None:
    host = Host(wire)
    async with host.running(), reading(tmp_path, host):
        await connected(host)
        if wire == "v1":
            async with asyncio.timeout(10):
                while not host.hellos:
                    await asyncio.sleep(0.005)
            assert host.hellos == [{"wantedCollections": list(NUMBERS)}]
            told = {"requireHello": ["true"], "compress": ["true"]}
        else:
            told = {"collections": list(NUMBERS), "zstdDictionary": [str(dictionaries.CURRENT_ID)]}
        # From a little before the start: what a host tells between its greeting and its first event counts.
        (asked,) = host.asked
        assert int(asked.pop("cursor")[0]) < BEGIN_US
        assert asked == told


async def test_a_new_dictionary_is_fetched_once_and_kept(tmp_path: Path) -> None:
    host = Host("v2")
    host.dictionary = dictionaries.legacy()  # as if the server had been given another one
    async with host.running():
        for start in range(2):
            async with reading(tmp_path, host) as at:
                await connected(host, 2 + start)
                await host.add(v2_line(1001 + start, post_event(1, start, BEGIN_US + start * 10**6)))
                await at.until("SELECT count(*) FROM record WHERE state = 1", 1 + start)
    offered = [asked["zstdDictionary"] for asked in host.asked]
    assert offered == [["20260811"], ["1612007021"], ["1612007021"]]
    assert len(host.fetched) == 1


async def test_without_a_usable_dictionary_the_stream_is_read_plain(tmp_path: Path) -> None:
    host = Host("v2")
    host.dictionary = None
    async with host.running(), reading(tmp_path, host) as at:
        await connected(host, 2)
        await host.add(*made("v2", 3))
        await at.until("SELECT count(*) FROM record WHERE state = 1", 3)
    assert "zstdDictionary" not in host.asked[-1]


@pytest.mark.defect("D3")
@pytest.mark.parametrize("wire", ["v1", "v2", "relay"])
@pytest.mark.parametrize("seed", range(3))
async def test_connections_cut_anywhere_lose_nothing(
    tmp_path: Path, wire: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.line.BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr("appliance.ingest.jetstream_v1.REWIND_US", 5_000)
    chance = random.Random(seed)
    lines = [relay_line(frame) for frame in frames()] if wire == "relay" else lines_of(wire, real_v1())
    host = Host(wire, lines)
    host.cuts = lambda: chance.randrange(1, 40)
    async with host.running():
        before = behind(host)
        await remember(tmp_path, host, before.seq, before.time_us)
        done = False
        while not done:  # the reader is stopped and started, too
            async with reading(tmp_path, host, commit_every_ms=1, commit_events_max=7) as at:
                end = asyncio.create_task(read_to_the_end(at, host))
                cut = asyncio.create_task(connected(host, len(host.asked) + chance.randrange(1, 6)))
                over = asyncio.wait([end, cut, at.task], return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait_for(over, 60)
                if at.task.done():
                    at.task.result()
                done = end.done()
                end.cancel()
                cut.cancel()
                rows = await at.rows()
                assert await at.value("SELECT count(*) FROM gap") == 0
    assert len(host.asked) > 4, "no connection was cut"
    assert {(*row[:4], row[5]) for row in rows} == {(*row[:4], row[5]) for row in expected_rows()}


async def test_a_position_too_old_for_v2_becomes_a_gap_and_reading_goes_on_at_the_tip(tmp_path: Path) -> None:
    host = Host("v2", made("v2", 100))
    host.floor = 50
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, 1010, host.lines[9].time_us)
        async with reading(tmp_path, host, scope="tracked") as at:
            await at.until("SELECT count(*) FROM gap", 1)
            await at.until("SELECT state FROM repo", "SUSPECT")
            await connected(host, 2)
            assert int(host.asked[-1]["cursor"][0]) > host.lines[-1].time_us
            # Lost again before anybody said a word: the gap is known, and reading goes on behind it.
            host.drop_connections()
            await connected(host, 3)
            assert int(host.asked[-1]["cursor"][0]) > host.lines[9].time_us
            assert await at.value("SELECT count(*) FROM gap") == 1
            await host.add(v2_line(1101, post_event(1, 500, BEGIN_US)))
            await at.until("SELECT count(*) FROM record WHERE state = 1", 1)
            assert await at.value("SELECT seq FROM upstream") == 1101
            gap = await at.database.read(lambda r: r.one("SELECT from_us, to_us, reason FROM gap"))
    assert gap is not None
    assert gap[0] == host.lines[9].time_us
    assert gap[1] > gap[0]


@pytest.mark.parametrize(("wire", "seq"), [("v1", None), ("relay", 31527015322 - 500)])
async def test_a_position_that_is_changed_in_silence_is_noticed_by_the_first_event(
    tmp_path: Path, wire: str, seq: int | None
) -> None:
    lines = [relay_line(frame) for frame in frames()] if wire == "relay" else made(wire, 100)
    host = Host(wire, lines)
    host.floor = 50
    async with host.running():
        await remember(tmp_path, host, seq, host.lines[0].time_us - 3600_000_000)
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM gap", 1)
            await asyncio.wait_for(read_to_the_end(at, host), 20)
            assert await at.value("SELECT count(*) FROM gap") == 1


@pytest.mark.parametrize("wire", ["v1", "v2", "relay"])
async def test_a_quiet_stream_is_no_gap(tmp_path: Path, wire: str) -> None:
    frame = [relay_line(frame) for frame in frames()]
    lines = frame[:2] if wire == "relay" else made(wire, 2, BEGIN_US - 7200_000_000, 3600_000_000)
    host = Host(wire, lines[:1])
    async with host.running():
        await remember(tmp_path, host, lines[0].seq, lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await connected(host)
            await host.add(lines[1])
            await asyncio.wait_for(read_to_the_end(at, host), 20)
            assert await at.value("SELECT count(*) FROM gap") == 0


@pytest.mark.parametrize("wire", ["v2", "relay"])
async def test_numbers_that_start_over_are_a_gap_and_not_the_end(tmp_path: Path, wire: str) -> None:
    lines = [relay_line(frame) for frame in frames()][:50] if wire == "relay" else made(wire, 50)
    host = Host(wire, lines[:20])
    async with host.running():
        await remember(tmp_path, host, lines[-1].seq + 10**6, lines[0].time_us - 60_000_000)
        async with reading(tmp_path, host) as at:
            await connected(host, 2 if wire == "relay" else 1)
            await asyncio.sleep(0.05)
            await host.add(*lines[20:])
            await at.until("SELECT seq FROM upstream", lines[-1].seq)
            assert await at.value("SELECT count(*) FROM gap") == 1


async def test_another_host_is_asked_by_time_with_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.line.BACKOFF_MIN_S", 0.001)
    lines = made("v2", 400)
    first, second = Host("v2", lines[:200]), Host("v2", [line._replace(seq=line.seq + 5) for line in lines])
    second.lines = [
        v2_line(seq, post_event(n % 7, n, BEGIN_US - 600_000_000 + n * 1_000_000))
        for n, seq in enumerate(range(7, 407))
    ]
    async with second.running():
        async with first.running() as running:
            port = running.port
            await remember(tmp_path, first, lines[0].seq, lines[0].time_us)
            async with reading(tmp_path, first, second) as at:
                await asyncio.wait_for(at.pipeline.wait_for(seq=lines[199].seq), 20)
        first.port = port
        async with reading(tmp_path, first, second) as at:
            await at.until("SELECT count(*) FROM record WHERE state = 1", 399)
            assert await at.value("SELECT count(*) FROM gap") == 0
    assert second.asked[0]["cursor"] == [str(lines[199].time_us - 60_000_000)]


async def test_a_reader_of_the_wrong_wire_says_so_and_stores_nothing(tmp_path: Path) -> None:
    host = Host("v2", made("v1", 5))
    async with host.running():
        await remember(tmp_path, host, 1001, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await connected(host, 3)
            assert await at.value("SELECT count(*) FROM record") == 0
            assert await at.value("SELECT seq FROM upstream") == 1001
            assert at.pipeline.facts()["connected"] is False


async def test_a_busy_server_that_falls_mute_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.ingest.connection.SILENCE_BUSY_S", 0.3)
    host = Host("v2", made("v2", 30))
    async with host.running():
        await remember(tmp_path, host, 1001, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            await connected(host, 2)
            assert host.asked[1]["cursor"] == ["1030"]
            assert await at.value("SELECT count(*) FROM gap") == 0


def test_the_cid_of_a_made_up_post_is_well_formed() -> None:
    assert cid.from_text(post_event(1, 1, BEGIN_US)["commit"]["cid"])


@pytest.mark.parametrize("wire", ["v1", "v2", "relay"])
async def test_a_network_without_a_word_is_covered_from_the_connection_on(tmp_path: Path, wire: str) -> None:
    host = Host(wire)
    async with host.running():
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM upstream", 1)
            begun_us = await at.value("SELECT time_us FROM upstream")
            assert 0 <= BEGIN_US + 30_000_000 - begun_us <= 120_000_000
            assert await at.value("SELECT seq FROM upstream") is None
        # Away for hours; meanwhile something is written.
        later_us = BEGIN_US + 3 * 3600_000_000
        lines = [relay_line(frame) for frame in frames()[:5]] if wire == "relay" else made(wire, 5, later_us)
        host.lines += lines
        async with reading(tmp_path, host, clock=ClockAt(later_us + 60_000_000)) as at:
            if wire == "relay":
                await at.until("SELECT seq FROM upstream", host.lines[-1].seq)
                assert host.asked[-1]["cursor"] == ["0"]
                assert await at.value("SELECT sum(events) FROM upstream") >= 5
            else:
                await at.until("SELECT count(*) FROM record WHERE state = 1", 5)
            assert await at.value("SELECT count(*) FROM gap") == 0
        async with reading(tmp_path, host, clock=ClockAt(later_us + 120_000_000)) as at:
            await connected(host, 3)
            assert await at.value("SELECT count(*) FROM gap") == 0


async def test_a_v1_stream_that_was_left_longer_than_it_keeps_events_is_a_gap(tmp_path: Path) -> None:
    host = Host("v1")
    async with host.running():
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM upstream", 1)
        later_us = BEGIN_US + 30 * 3600_000_000
        host.lines += made("v1", 5, later_us)
        async with reading(tmp_path, host, clock=ClockAt(later_us + 60_000_000)) as at:
            await at.until("SELECT count(*) FROM gap", 1)


async def test_a_position_reached_before_the_start_needs_no_further_event(tmp_path: Path) -> None:
    host = Host("v2", made("v2", 3))
    async with host.running():
        await remember(tmp_path, host, 1003, host.lines[-1].time_us)
        async with reading(tmp_path, host) as at:
            await asyncio.wait_for(at.pipeline.wait_for(seq=1003), 10)
            assert await at.value("SELECT count(*) FROM record") == 0


async def test_a_server_that_hangs_up_right_after_the_greeting_is_asked_again(tmp_path: Path) -> None:
    host = Host("v1", made("v1", 5))
    asked = 0

    async def hang_up_at_first(connection: ServerConnection) -> None:
        nonlocal asked
        asked += 1
        if asked < 4:
            connection.transport.abort()
            return
        await host._talk(connection)

    server = await serve(hang_up_at_first, "127.0.0.1", 0, compression=None, close_timeout=0.1)
    host.port = next(iter(server.sockets)).getsockname()[1]
    try:
        await remember(tmp_path, host, None, host.lines[0].time_us)
        async with reading(tmp_path, host) as at:
            over = asyncio.create_task(at.pipeline.wait_for(time_us=host.lines[-1].time_us))
            await asyncio.wait_for(asyncio.wait([over, at.task], return_when=asyncio.FIRST_COMPLETED), 60)
            assert not at.task.done(), at.task
            assert await at.value("SELECT count(*) FROM record WHERE state = 1") == 5
            over.cancel()
    finally:
        host._ending = True
        await host.add()
        for connection in server.connections:
            connection.transport.abort()
        server.close()
        await server.wait_closed()
    assert asked == 4
