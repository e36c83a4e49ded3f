"""The writer and the readers on real files, and what they do when the disk fails them."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from appliance.errors import BadInput, Corrupt, Unavailable
from appliance.store import database as database_module
from appliance.store import migrations
from appliance.store.database import Database, Reader, Transaction
from appliance.store.migrations import SCHEMA_VERSION


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "appliance.sqlite")
    yield opened
    await opened.close()


def put(name: str, value: str = "x") -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        return tx.run("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))

    return work


def names(reader: Reader) -> list[str]:
    return [name for (name,) in reader.all("SELECT name FROM meta ORDER BY name")]


class Gate:
    """A job that keeps the writer busy until it is opened, so that others gather behind it."""

    def __init__(self, database: Database) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self._database = database

    def __call__(self, tx: Transaction) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._open.wait(20)

    async def __aenter__(self) -> "Gate":
        self._task = asyncio.create_task(self._database.write(self))
        await self.entered.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        await self._task


async def test_functions_that_wait_together_share_a_commit(database: Database) -> None:
    snapshots: list[int] = []

    def look(tx: Transaction) -> None:
        # Rows of the same transaction are seen before anybody commits them.
        snapshots.append(tx.value("SELECT count(*) FROM meta"))
        tx.run("INSERT INTO meta (name, value) VALUES (?, '')", (f"row {len(snapshots)}",))

    outside: list[int] = []
    async with Gate(database):
        writes = [asyncio.create_task(database.write(look)) for _ in range(5)]
        last = asyncio.create_task(
            database.write(lambda tx: outside.append(_count_from_outside(database.path)))
        )
        await asyncio.sleep(0)
    await asyncio.gather(*writes, last)

    assert snapshots == [0, 1, 2, 3, 4]
    assert outside == [0], "five functions ran, and nothing of them was committed yet"


def _count_from_outside(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        (count,) = connection.execute("SELECT count(*) FROM meta").fetchone()
        return int(count)
    finally:
        connection.close()


async def test_a_commit_takes_so_many_functions_and_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "JOBS_PER_COMMIT_MAX", 3)
    seen: list[int] = []

    def work(tx: Transaction) -> None:
        tx.run("INSERT INTO meta (name, value) VALUES (?, '')", (f"row {len(seen)}",))
        seen.append(_count_from_outside(database.path))

    async with Gate(database):
        writes = [asyncio.create_task(database.write(work)) for _ in range(7)]
        await asyncio.sleep(0)
    await asyncio.gather(*writes)

    assert seen == [0, 0, 0, 3, 3, 3, 6]


async def test_a_function_that_raises_is_undone_alone(database: Database) -> None:
    def fail(tx: Transaction) -> None:
        tx.run("INSERT INTO meta (name, value) VALUES ('failed', '')")
        raise BadInput("no")

    async with Gate(database):
        results = asyncio.gather(
            database.write(put("before")),
            database.write(fail),
            database.write(put("after")),
            return_exceptions=True,
        )
        await asyncio.sleep(0)

    before, failed, after = await results
    assert (before, after) == (1, 1)
    assert isinstance(failed, BadInput)
    assert await database.read(names) == ["after", "before"]


async def test_a_constraint_that_fails_is_told_as_it_is_and_undone_alone(database: Database) -> None:
    await database.write(put("one"))

    with pytest.raises(sqlite3.IntegrityError):
        await database.write(put("one"))

    await database.write(put("two"))
    assert await database.read(names) == ["one", "two"]


async def test_a_savepoint_undoes_its_block_and_its_announcements(database: Database) -> None:
    told: list[str] = []

    def work(tx: Transaction) -> None:
        tx.announce(lambda: told.append("kept"))
        tx.run("INSERT INTO meta (name, value) VALUES ('kept', '')")
        with contextlib.suppress(BadInput), tx.savepoint():
            tx.announce(lambda: told.append("undone"))
            tx.run("INSERT INTO meta (name, value) VALUES ('undone', '')")
            raise BadInput("no")

    await database.write(work)

    assert await database.read(names) == ["kept"]
    assert told == ["kept"]


@pytest.mark.invariant("commit-before-announce")
async def test_an_announcement_is_made_after_the_commit_and_on_the_loop(database: Database) -> None:
    told: list[tuple[int, threading.Thread]] = []

    def work(tx: Transaction) -> None:
        tx.run("INSERT INTO meta (name, value) VALUES ('news', '')")
        tx.announce(lambda: told.append((_count_from_outside(database.path), threading.current_thread())))
        assert told == []

    await database.write(work)

    assert told == [(1, threading.main_thread())]


@pytest.mark.invariant("commit-before-announce")
async def test_nothing_is_announced_of_a_function_that_failed(database: Database) -> None:
    told: list[str] = []

    def fail(tx: Transaction) -> None:
        tx.announce(lambda: told.append("no"))
        raise BadInput("no")

    with pytest.raises(BadInput):
        await database.write(fail)

    await database.write(put("another"))
    assert told == []


async def test_an_announcement_that_raises_stops_nobody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def work(tx: Transaction) -> int:
        tx.announce(lambda: [][0])
        tx.announce(lambda: told.append("second"))
        return 7

    assert await database.write(work) == 7

    assert told == ["second"]
    assert "announcement_failed" in caplog.text
    assert await database.write(put("after")) == 1


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
async def test_a_write_that_somebody_was_told_of_waits_for_the_disk(
    database: Database, durable: bool, level: int
) -> None:
    found = await database.write(lambda tx: tx.value("PRAGMA synchronous"), durable=durable)

    assert found == level  # 1 NORMAL, 2 FULL


async def test_one_durable_function_makes_its_whole_commit_durable(database: Database) -> None:
    async with Gate(database):
        first = asyncio.create_task(database.write(lambda tx: tx.value("PRAGMA synchronous")))
        second = asyncio.create_task(database.write(put("told"), durable=True))
        await asyncio.sleep(0)
    assert (await first, await second) == (2, 1)


async def test_a_read_sees_one_moment_from_its_start_to_its_end(database: Database) -> None:
    loop = asyncio.get_running_loop()
    looked, written = asyncio.Event(), threading.Event()

    def look_twice(reader: Reader) -> tuple[list[str], list[str]]:
        first = names(reader)
        loop.call_soon_threadsafe(looked.set)
        assert written.wait(20)
        return first, names(reader)

    reading = asyncio.create_task(database.read(look_twice))
    await looked.wait()
    await database.write(put("meanwhile"))
    written.set()

    assert await reading == ([], [])
    assert await database.read(names) == ["meanwhile"]


async def test_reads_go_on_while_the_writer_is_busy(database: Database) -> None:
    async with Gate(database):
        assert await database.read(names) == []


@pytest.mark.invariant("one-writer")
async def test_a_reader_can_not_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await database.read(lambda reader: reader.all("INSERT INTO meta VALUES ('a', 'b') RETURNING 1"))

    assert await database.read(names) == []


@pytest.mark.invariant("one-writer")
async def test_every_write_runs_in_the_same_thread_one_after_the_other(database: Database) -> None:
    threads: list[int] = []
    running = 0

    def work(tx: Transaction) -> None:
        nonlocal running
        running += 1
        assert running == 1
        threads.append(threading.get_ident())
        running -= 1

    await asyncio.gather(*(database.write(work) for _ in range(200)))

    assert len(threads) == 200
    assert len(set(threads)) == 1


async def test_a_full_disk_refuses_the_write_and_later_ones_go_through(database: Database) -> None:
    await database.write(put("before"))
    pages = await database.write(lambda tx: tx.value("PRAGMA page_count"))
    await database.write(lambda tx: tx.value(f"PRAGMA max_page_count={pages}"))
    told: list[str] = []

    def too_much(tx: Transaction) -> None:
        tx.announce(lambda: told.append("no"))
        tx.many("INSERT INTO meta (name, value) VALUES (?, ?)", [(str(i), "x" * 4000) for i in range(100)])

    with pytest.raises(Unavailable) as refused:
        await database.write(too_much, durable=True)
    assert refused.value.name == "StorageFull"
    assert told == []
    assert await database.read(names) == ["before"]

    await database.write(lambda tx: tx.value("PRAGMA max_page_count=1000000"))
    await database.write(put("after"))
    assert await database.read(names) == ["after", "before"]


async def test_a_damaged_file_stops_us_loudly(tmp_path: Path) -> None:
    path = tmp_path / "appliance.sqlite"
    database = await Database.open(path)
    await database.write(
        lambda tx: tx.many(
            "INSERT INTO meta (name, value) VALUES (?, ?)", ((str(i), "x" * 900) for i in range(500))
        )
    )
    await database.close()
    damaged = bytearray(path.read_bytes())
    damaged[-20 * 4096 :] = b"\xff" * (20 * 4096)
    path.write_bytes(damaged)

    database = await Database.open(path)
    with pytest.raises(Corrupt, match="damaged"):
        await database.read(lambda reader: reader.all("SELECT * FROM meta"))
    with pytest.raises(Corrupt, match="damaged"):
        await database.write(lambda tx: tx.run("UPDATE meta SET value = ''"))
    await database.close()


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "appliance.sqlite"
    path.write_bytes(b"my diary, not yours" * 1000)

    with pytest.raises(Corrupt, match="file is not a database"):
        await Database.open(path)

    assert path.read_bytes() == b"my diary, not yours" * 1000


async def test_somebody_else_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "appliance.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipe (name)")
    connection.close()

    with pytest.raises(Corrupt, match="other tables"):
        await Database.open(path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "appliance.sqlite"
    await (await Database.open(path)).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(Corrupt, match="newer appliance"):
        await Database.open(path)


async def test_an_older_file_is_brought_up_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "appliance.sqlite"
    old = await Database.open(path)
    await old.write(put("kept"))
    await old.close()
    monkeypatch.setattr(database_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    step = "ALTER TABLE meta ADD COLUMN note TEXT NOT NULL DEFAULT 'old';"
    monkeypatch.setattr(migrations, "steps", lambda: {SCHEMA_VERSION + 1: step})

    database = await Database.open(path)

    assert await database.read(lambda r: r.all("SELECT name, note FROM meta")) == [("kept", "old")]
    assert await database.read(lambda r: r.value("PRAGMA user_version")) == SCHEMA_VERSION + 1
    await database.close()


async def test_closing_finishes_the_writes_under_way_and_folds_the_log(tmp_path: Path) -> None:
    path = tmp_path / "appliance.sqlite"
    database = await Database.open(path)
    async with Gate(database):
        writes = [asyncio.create_task(database.write(put(str(i)))) for i in range(10)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)

    await closing
    assert await asyncio.gather(*writes) == [1] * 10
    assert [file.name for file in tmp_path.iterdir()] == ["appliance.sqlite"]
    assert _count_from_outside(path) == 10
    await database.close()


async def test_a_closed_database_takes_nothing_more(database: Database) -> None:
    await database.close()

    with pytest.raises(Unavailable, match="closed"):
        await database.write(put("late"))
    with pytest.raises(Unavailable, match="closed"):
        await database.read(names)


async def test_a_write_that_waits_for_room_while_we_close_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "QUEUE_JOBS_MAX", 2)
    database = await Database.open(tmp_path / "appliance.sqlite")
    closing: list[asyncio.Task[None]] = []

    def close_next(tx: Transaction) -> None:
        # The writer makes room right after this, and closing takes it before those who wait wake up.
        tx.announce(lambda: closing.append(asyncio.create_task(database.close())))

    first = asyncio.create_task(database.write(close_next))
    await asyncio.sleep(0)
    writes = [asyncio.create_task(database.write(put(str(i)))) for i in range(6)]

    results = await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 20)

    await first
    await closing[0]
    done = [result for result in results if result == 1]
    late = [result for result in results if isinstance(result, Unavailable)]
    assert len(done) + len(late) == 6
    assert late
    assert len(done) == _count_from_outside(database.path) > 0


async def test_a_caller_that_goes_away_does_not_disturb_the_others(database: Database) -> None:
    async with Gate(database):
        gone = asyncio.create_task(database.write(put("gone")))
        stays = asyncio.create_task(database.write(put("stays")))
        await asyncio.sleep(0)
        gone.cancel()

    assert await stays == 1
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert "stays" in await database.read(names)


async def test_a_mistake_in_our_own_sql_is_not_blamed_on_the_disk(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.write(lambda tx: tx.run("DELETE FROM nowhere"))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.read(lambda reader: reader.all("SELECT * FROM nowhere"))
