"""The position is never ahead of its rows, and no batch is skipped, whatever keeps one from being stored."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Unavailable
from appliance.ingest import pipeline as pipeline_module
from appliance.store import database as database_module
from appliance.store.database import Database
from tests.ingest.hosts import (
    BEGIN_US,
    ClockAt,
    Host,
    Reading,
    connected,
    post_event,
    reading,
    remember,
    v2_line,
)

COUNT = 300
FIRST = 1001


class Quick(ClockAt):
    """Pauses are a hundred times shorter."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    def monotonic_s(self) -> float:
        return super().monotonic_s() * 100


def host_of(count: int = COUNT) -> Host:
    lines = [
        v2_line(FIRST + n, post_event(n % 7, n, BEGIN_US - 600_000_000 + n * 1_000_000)) for n in range(count)
    ]
    before = post_event(0, 0, lines[0].time_us, collection="com.example.thing")
    return Host("v2", [v2_line(FIRST - 1, before), *lines])


async def agreed(database: Database) -> int:
    """Events stored; rows and position must tell the same."""

    def look(reader: Any) -> tuple[int, int]:
        seq = reader.value("SELECT max(seq) FROM upstream") or FIRST - 1
        return seq - FIRST + 1, reader.value("SELECT count(*) FROM record WHERE state = 1")

    by_position, by_rows = await database.read(look)
    assert by_position == by_rows
    return by_rows


async def watched(at: Reading, stop: asyncio.Event) -> int:
    """Look all the time; how often."""
    looks = 0
    while not stop.is_set():
        await agreed(at.database)
        looks += 1
        await asyncio.sleep(0.001)
    return looks


@pytest.mark.invariant("position-with-rows")
async def test_another_process_that_holds_the_lock_delays_batches_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catalogue 6, and 2: SQLITE_BUSY."""
    caplog.set_level("INFO")
    monkeypatch.setattr(database_module, "_PRAGMAS", ("busy_timeout=5", *database_module._PRAGMAS[1:]))
    host = host_of()
    later = host.lines[COUNT // 2 :]
    del host.lines[COUNT // 2 :]
    async with host.running():
        await remember(tmp_path, host, FIRST - 1, host.lines[0].time_us)
        outside = sqlite3.connect(tmp_path / "test.db", isolation_level=None, check_same_thread=False)
        retried = pipeline_module.RETRIES._value.get()
        async with reading(tmp_path, host, clock=Quick(), commit_events_max=7, commit_every_ms=1) as at:
            stop = asyncio.Event()
            watching = asyncio.create_task(watched(at, stop))
            await connected(host)
            outside.execute("BEGIN IMMEDIATE")
            await host.add(*later)
            while pipeline_module.RETRIES._value.get() < retried + 3:
                await asyncio.sleep(0.005)
            stuck = await agreed(at.database)
            assert at.pipeline.facts()["storing"] is False
            while "commit_refused_for_long" not in caplog.text:  # half a minute of that clock
                await asyncio.sleep(0.005)
            assert await agreed(at.database) == stuck
            assert pipeline_module.REFUSED_S._value.get() >= 30
            outside.execute("COMMIT")
            await at.pipeline.wait_for(seq=host.lines[-1].seq)
            stop.set()
            assert await watching > 3
            assert await agreed(at.database) == COUNT
            assert at.pipeline.facts()["storing"] is True
            assert pipeline_module.REFUSED_S._value.get() == 0
        outside.close()
    assert "commit_works_again" in caplog.text


@pytest.mark.invariant("position-with-rows")
async def test_commits_that_are_refused_at_random_leave_rows_and_position_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catalogue 2, 3 and 7: before the work, after it, and in the middle."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    host = host_of()
    refused = 0
    async with host.running():
        await remember(tmp_path, host, FIRST - 1, host.lines[0].time_us)
        async with reading(tmp_path, host, clock=Quick(), commit_events_max=5, commit_every_ms=1) as at:
            write = at.database.write

            async def perhaps(work: Any, *, durable: bool = False) -> Any:
                nonlocal refused

                def failing(tx: Any) -> Any:
                    if rng.random() < 0.2:
                        raise sqlite3.OperationalError("database or disk is full")
                    done = work(tx)
                    if rng.random() < 0.2:
                        raise sqlite3.OperationalError("disk I/O error")
                    return done

                if rng.random() < 0.1:
                    refused += 1
                    raise Unavailable("full", name="StorageFull")
                try:
                    return await write(failing, durable=durable)
                except sqlite3.OperationalError:
                    refused += 1
                    raise

            monkeypatch.setattr(at.database, "write", perhaps)
            stop = asyncio.Event()
            watching = asyncio.create_task(watched(at, stop))
            await at.pipeline.wait_for(seq=host.lines[-1].seq)
            stop.set()
            await watching
            assert await agreed(at.database) == COUNT
    assert refused > 10


async def test_a_writer_that_stands_still_neither_stalls_the_reader_nor_drops_what_it_reads(
    tmp_path: Path,
) -> None:
    """Catalogue 10 and 11: the queue fills to its bound, then the socket waits; nothing is lost."""
    host = host_of(850)
    later = host.lines[100:]
    del host.lines[100:]
    gate, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def block(_tx: Any) -> None:
        loop.call_soon_threadsafe(entered.set)
        assert gate.wait(60)

    async with host.running():
        await remember(tmp_path, host, FIRST - 1, host.lines[0].time_us)
        async with reading(tmp_path, host, ingest_queue_mb=1) as at:
            await at.pipeline.wait_for(seq=host.lines[-1].seq)
            blocking = asyncio.create_task(at.database.write(block))
            await entered.wait()
            await host.add(*later)
            queued = 0
            turns = 0
            while queued < 100 or at.pipeline.facts()["queued"] > queued:
                queued = at.pipeline.facts()["queued"]
                turns += 1
                await asyncio.sleep(0.02)
            assert turns > 1, "the loop went on"
            gate.set()
            await blocking
            await at.pipeline.wait_for(seq=host.lines[-1].seq)
            assert await agreed(at.database) == 850
