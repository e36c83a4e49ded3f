"""What is watched over: the file, its log, the room on the disk, the event loop, the clock."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import Corrupt, Unavailable
from appliance.ops import upkeep as upkeep_module
from appliance.ops.upkeep import BEAT_EVERY_S, MB, Upkeep
from appliance.store import checks, generation
from appliance.store import database as database_module
from appliance.store.database import Database, Reader, Transaction
from appliance.supervisor import Supervisor


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "appliance.db", read_limit_s=0.2)
    yield opened
    await opened.close()


class Set(ManualClock):
    """A clock that somebody sets; ``stopped_us`` is what the wall has moved by without time passing."""

    stopped_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.stopped_us


def upkeep_of(database: Database, clock: ManualClock, reached: Any = None, **settings: Any) -> Upkeep:
    chosen = Settings(data_dir=str(database.path.parent), **settings)
    return Upkeep(database, chosen, clock, reached or (lambda: None))


def large(tx: Transaction) -> None:
    tx.many("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(f"n{i}", "x" * 4000) for i in range(6000)])


def count(reader: Reader) -> int:
    return int(reader.value("SELECT count(*) FROM meta"))


# ---------------------------------------------------------------- the log of the database


async def test_the_log_is_folded_while_nobody_writes(database: Database) -> None:
    """Catalogue 8."""
    await database.write(large)
    assert database.log_bytes() > upkeep_module.FOLD_ABOVE_BYTES

    await upkeep_of(database, ManualClock()).look()

    assert database.log_bytes() == 0
    assert await database.read(count) >= 6000


async def test_a_reader_that_holds_its_snapshot_lets_the_log_grow_is_told_and_then_it_shrinks(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catalogue 8: somebody's shell, open for minutes, under load."""
    monkeypatch.setattr(upkeep_module, "LOG_LARGE_BYTES", 40 * MB)
    upkeep = upkeep_of(database, ManualClock())
    outside = sqlite3.connect(database.path, isolation_level=None)
    outside.execute("BEGIN")
    outside.execute("SELECT count(*) FROM meta").fetchone()
    caplog.set_level("INFO")

    for _ in range(3):
        await database.write(large)
        await upkeep.look()
    assert database.log_bytes() > 40 * MB, "it can't be folded past the snapshot"
    assert "log_large" in caplog.text
    assert "log_folded" not in caplog.text
    assert upkeep.facts()["log_bytes"] == database.log_bytes()

    outside.execute("COMMIT")
    outside.close()
    await upkeep.look()
    assert database.log_bytes() == 0
    assert "log_folded" in caplog.text
    await upkeep.look()
    assert "log_small_again" in caplog.text


async def test_folding_waits_for_nobody(database: Database) -> None:
    outside = sqlite3.connect(database.path, isolation_level=None)
    outside.execute("BEGIN")
    outside.execute("SELECT count(*) FROM meta").fetchone()
    await database.write(large)
    began_s = time.monotonic()

    assert not await database.fold()

    assert time.monotonic() - began_s < 8, "the busy timeout is 10 s"
    outside.close()
    assert await database.fold()


# ---------------------------------------------------------------- reads that last


async def test_a_statement_that_lasts_too_long_is_cut_off_and_others_are_not(database: Database) -> None:
    """Catalogue 8: a read of ours has a limit."""

    def endless(reader: Reader) -> Any:
        return reader.value(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        )

    cut = asyncio.create_task(database.read(endless))
    for _ in range(20):
        assert await database.read(count) >= 0
    with pytest.raises(Unavailable) as told:
        await cut
    assert told.value.name == "ReadTooLong"
    assert await asyncio.gather(*(database.read(count) for _ in range(4)))


async def test_a_function_that_asks_on_and_on_is_cut_off_between_its_statements(database: Database) -> None:
    release = threading.Event()

    def dawdle(reader: Reader) -> None:
        count(reader)
        assert release.wait(20)
        count(reader)

    reading = asyncio.create_task(database.read(dawdle))
    cut = database_module.READS_CUT._value.get()
    while database_module.READS_CUT._value.get() == cut:
        await asyncio.sleep(0.01)
    release.set()

    with pytest.raises(Unavailable, match="too long"):
        await reading


# ---------------------------------------------------------------- one owner


async def test_whoever_has_lost_the_database_to_another_process_writes_no_more(database: Database) -> None:
    """Catalogue 12: the lock did not hold (a copied folder, a file system without locks)."""
    await database.claim("first")
    await database.write(lambda tx: tx.run("INSERT INTO meta VALUES ('mine', '')"))
    second = await Database.open(database.path)
    await second.claim("second")

    with pytest.raises(Corrupt, match="taken this database over"):
        await database.write(lambda tx: tx.run("INSERT INTO meta VALUES ('late', '')"))

    assert await second.read(lambda r: r.value("SELECT 1 FROM meta WHERE name = 'late'")) is None
    await second.write(lambda tx: tx.run("INSERT INTO meta VALUES ('theirs', '')"))
    await second.close()


# ---------------------------------------------------------------- room


async def test_low_space_is_told_before_it_is_none(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catalogue 7, the warning."""
    caplog.set_level("INFO")
    upkeep = upkeep_of(database, ManualClock(), low_space_mb=100)
    free = 101 * MB
    monkeypatch.setattr(upkeep, "free_bytes", lambda: free)
    await upkeep.look()
    assert "storage_low" not in caplog.text

    free = 99 * MB
    await upkeep.look()
    await upkeep.look()
    assert caplog.text.count("storage_low") == 1
    assert upkeep.facts()["low_space"] is True

    free = 200 * MB
    await upkeep.look()
    assert "storage_enough" in caplog.text
    assert upkeep.facts()["low_space"] is False


async def test_the_room_is_that_of_the_data_s_disk(database: Database) -> None:
    assert upkeep_of(database, ManualClock()).free_bytes() > 0


# ---------------------------------------------------------------- is the file sound


async def test_a_sound_file_is_found_sound_after_the_start(database: Database) -> None:
    clock = ManualClock()
    upkeep = upkeep_of(database, clock)
    running = asyncio.create_task(upkeep.run())
    await asyncio.sleep(0)
    while (found := await database.read(checks.last)) is None:
        await clock.advance(1)
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

    assert found.sound
    assert found.tables > 20


async def test_damage_ends_the_process_loudly_and_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catalogue 9: bytes flip while nobody looks at that page."""
    path = tmp_path / "appliance.db"
    opened = await Database.open(path)
    await opened.write(
        lambda tx: tx.many("INSERT INTO actor (did) VALUES (?)", [(f"did:x:{i}",) for i in range(5000)])
    )
    await opened.close()
    spoiled = bytearray(path.read_bytes())
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'actor'").fetchone()
    connection.close()
    spoiled[(root - 1) * 4096 + 8 : (root - 1) * 4096 + 200] = b"\xff" * 192
    path.write_bytes(spoiled)
    database = await Database.open(path)
    clock = ManualClock()
    supervisor = Supervisor(clock)
    supervisor.start("upkeep", upkeep_of(database, clock).run)
    running = asyncio.create_task(supervisor.run())
    while not running.done():
        await clock.advance(1)
        await asyncio.sleep(0.01)

    with pytest.raises(Corrupt, match="damaged"):
        running.result()
    assert "store_damaged" in caplog.text
    found = await database.read(checks.last)
    assert found is not None
    assert not found.sound
    await database.close()


async def test_a_check_under_way_does_not_keep_the_process_from_ending(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = threading.Event()

    def slow(connection: sqlite3.Connection) -> tuple[int, str]:
        entered.set()
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        ).fetchall()
        raise AssertionError("it has no end")

    monkeypatch.setattr(checks, "look", slow)
    checking = asyncio.create_task(upkeep_of(database, ManualClock()).check())
    while not entered.is_set():
        await asyncio.sleep(0.01)

    checking.cancel()
    await asyncio.wait([checking], timeout=20)
    assert checking.cancelled()


# ---------------------------------------------------------------- time


async def turning(upkeep: Upkeep, clock: ManualClock) -> asyncio.Task[None]:
    running = asyncio.create_task(upkeep._watch_time())
    await asyncio.sleep(0)
    for _ in range(4):
        await clock.advance(0.3)
    return running


async def test_a_machine_that_slept_is_noticed_and_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Catalogue 100: the wall moves on while monotonic time stands; and an NTP jump backwards."""
    clock = Set()
    heard: list[float] = []
    upkeep = upkeep_of(database, clock)
    upkeep._woken.append(heard.append)
    running = await turning(upkeep, clock)
    assert heard == []

    clock.stopped_us += 45_000_000
    await clock.advance(0.3)
    clock.stopped_us -= 3600_000_000
    await clock.advance(0.3)
    clock.stopped_us += 20_000_000
    await clock.advance(0.3)
    running.cancel()

    assert [round(one) for one in heard] == [45, -3600]
    assert caplog.text.count("clock_gap") == 2


async def test_a_loop_that_stands_still_shows_for_a_minute(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Catalogue 10."""

    class Late(ManualClock):
        late_s = 0.0

        def monotonic_s(self) -> float:
            return super().monotonic_s() + self.late_s

    clock = Late()
    upkeep = upkeep_of(database, clock)
    running = await turning(upkeep, clock)
    assert upkeep.stall_s() == 0

    clock.late_s = 6
    await clock.advance(0.3)
    assert 5.5 < upkeep.facts()["stall_s"] < 6.5
    assert "loop_stalled" in caplog.text

    await clock.advance(61)
    assert upkeep.stall_s() == 0
    running.cancel()


async def test_beats_go_on_and_the_file_beside_the_database_never_is_ahead(database: Database) -> None:
    clock = ManualClock()
    upkeep = upkeep_of(database, clock)
    running = asyncio.create_task(upkeep._beat_forever())
    for number in range(1, 5):
        while (told := generation.told(database.path)) is None or told.number < number:
            await clock.advance(BEAT_EVERY_S / 4)
            await asyncio.sleep(0.01)
        here = await database.read(generation.current)
        assert here is not None
        assert told.number <= here.number
    running.cancel()


async def test_a_beat_that_is_not_stored_is_not_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = upkeep_of(database, ManualClock())
    await upkeep.beat()
    before = generation.told(database.path)

    async def refuse(*_: Any, **__: Any) -> None:
        raise Unavailable("full", name="StorageFull")

    monkeypatch.setattr(database, "write", refuse)
    with pytest.raises(Unavailable):
        await upkeep.beat()

    assert generation.told(database.path) == before


async def test_who_never_catches_up_is_told_over_restarts(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Catalogue 102: started every 40 s, each time two hours behind."""
    clock = ManualClock()
    begin_us = clock.now_us() - 7200 * 1_000_000
    for number in range(20):
        # A process gains 30 s of the stream, then it is killed.
        reached_us = begin_us + number * 30_000_000
        upkeep = upkeep_of(database, clock, lambda reached_us=reached_us: reached_us)
        await upkeep.beat()
        await clock.advance(40)

    assert upkeep.facts()["falls_behind"] is True
    assert upkeep.facts()["seconds_per_second"] == 0.75
    assert "falls_behind" in caplog.text


async def test_a_quiet_stream_whose_connection_breaks_has_not_gone_back(database: Database) -> None:
    """Live, it was read up to each moment; cut off, all that is known is the age of the last event."""
    clock = ManualClock()
    quiet_since_us = clock.now_us() - 36_000_000_000
    for number in range(20):
        reached_us = clock.now_us() if number < 19 else quiet_since_us
        upkeep = upkeep_of(database, clock, lambda reached_us=reached_us: reached_us)
        await upkeep.beat()
        await clock.advance(40)

    assert upkeep.facts()["seconds_per_second"] > 0.9
    assert upkeep.facts()["falls_behind"] is False


async def test_who_catches_up_or_is_live_does_not_fall_behind(database: Database) -> None:
    for gain in (4.0, 1.0):
        clock = ManualClock()
        await database.write(lambda tx: generation.keep_samples(tx, []))
        begin_us = clock.now_us() - (7_200_000_000 if gain > 1 else 100_000_000)
        for number in range(20):
            reached_us = begin_us + round(number * 40_000_000 * gain)
            upkeep = upkeep_of(database, clock, lambda reached_us=reached_us: reached_us)
            await upkeep.beat()
            await clock.advance(40)
        assert upkeep.facts()["falls_behind"] is False
        assert upkeep.facts()["seconds_per_second"] == gain
