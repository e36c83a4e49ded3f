"""The database file: one writer with group commit, a few read-only connections.

A unit of work is a plain function over a ``Reader`` or ``Transaction`` and costs one thread hop,
however many statements it runs. See docs/decisions/0002-one-function-per-hop.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from appliance import telemetry
from appliance.errors import Corrupt, Unavailable
from appliance.store import migrations
from appliance.store.changes import Changed, Feed, Noted
from appliance.store.migrations import SCHEMA_VERSION

T = TypeVar("T")
Row = tuple[Any, ...]
Params = Sequence[object]

log = telemetry.Log("store")
READS_CUT = telemetry.counter("store_reads_cut", "Reads that held their snapshot for too long.", [])
ANNOUNCEMENTS_FAILED = telemetry.counter("announcements_failed", "Callbacks after a commit that raised.", [])

WAL_PAGES_BEFORE_CHECKPOINT = 4000
WAL_KEPT_BYTES = 64 * 1024 * 1024
JOBS_PER_COMMIT_MAX = 64
QUEUE_JOBS_MAX = 10_000
# A snapshot keeps the log from being folded into the file for as long as it is held.
READ_LIMIT_S = 30.0
WATCH_EVERY_S = 1.0

# What the name of an Unavailable says about our own disk; nobody else is to blame for it.
STORAGE_FULL = "StorageFull"
STORAGE_BUSY = "StorageBusy"
OWN_FAULTS = frozenset({STORAGE_FULL, STORAGE_BUSY})

# No mmap: after each commit a reader would unmap the whole file, and fault in every page anew.
_PRAGMAS = ("busy_timeout=10000", "cache_size=-65536", "mmap_size=0", "temp_store=MEMORY")
_WRITER_PRAGMAS = (
    "foreign_keys=ON",
    f"wal_autocheckpoint={WAL_PAGES_BEFORE_CHECKPOINT}",
    # One large transaction must not keep its room in the log for ever.
    f"journal_size_limit={WAL_KEPT_BYTES}",
)

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
}  # fmt: skip


class _Turn:
    """One read: since when, and whether it has had its time."""

    __slots__ = ("began_s", "overdue")

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.overdue = False


_FREE = _Turn()  # of those that nobody hurries


class Reader:
    """One snapshot of the database. Valid only inside the function that received it."""

    def __init__(
        self, connection: sqlite3.Connection, feed: Feed | None = None, settled: int = 0, turn: _Turn = _FREE
    ) -> None:
        self._connection = connection
        self._turn = turn
        self._feed = feed
        self.settled = settled  # this snapshot sees at least the commits up to this number

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Every row."""
        if self._turn.overdue:
            raise _too_long()
        return self._connection.execute(sql, params).fetchall()

    def one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row, or None."""
        if self._turn.overdue:
            raise _too_long()
        row: Row | None = self._connection.execute(sql, params).fetchone()
        return row

    def snapshot(self) -> tuple[int, int]:
        """Equal values mean that this connection has seen no commit in between: rows read then hold now."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return id(self._connection), version

    def changes(self, settled: int) -> Sequence[Changed] | None:
        """What may differ from a snapshot with that ``settled``; None where that can't be told.

        Ask after the first look into the snapshot, and only about snapshots of this process.
        """
        return None if self._feed is None else self._feed.since(settled)

    def value(self, sql: str, params: Params = ()) -> Any:
        """The first column of the first row, or None when there is no row."""
        if self._turn.overdue:
            raise _too_long()
        row = self._connection.execute(sql, params).fetchone()
        return None if row is None else row[0]


class Transaction(Reader):
    """The right to write. Only ``Database.write`` makes one."""

    def __init__(self, connection: sqlite3.Connection, changed: Noted | None = None) -> None:
        super().__init__(connection)
        self.changed = changed or Noted()
        self.announcements: list[Callable[[], None]] = []

    def run(self, sql: str, params: Params = ()) -> int:
        """Execute; the number of rows changed."""
        return self._connection.execute(sql, params).rowcount

    def insert(self, sql: str, params: Params = ()) -> int:
        """Execute an INSERT that inserts; the new rowid."""
        rowid = self._connection.execute(sql, params).lastrowid
        assert rowid is not None
        return rowid

    def many(self, sql: str, rows: Iterable[Params]) -> None:
        """Execute once for each row of parameters."""
        self._connection.executemany(sql, rows)

    def announce(self, callback: Callable[[], None]) -> None:
        """Call this on the event loop once the commit is durable, and not if it fails."""
        self.announcements.append(callback)

    @contextlib.contextmanager
    def savepoint(self) -> Any:
        """Undo what the block wrote if it raises, and nothing else."""
        self._connection.execute("SAVEPOINT part")
        kept = len(self.announcements)
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO part")
                self._connection.execute("RELEASE part")
            del self.announcements[kept:]
            raise
        self._connection.execute("RELEASE part")


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread, asked to run whole functions."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result

    async def ended(self) -> None:
        """Wait for the thread of a connection that failed: it still has a word for our loop."""
        await asyncio.to_thread(self._thread.join)


class _Job:
    """A function waiting for its commit."""

    __slots__ = ("announcements", "done", "durable", "error", "result", "work")

    def __init__(self, work: Callable[[Transaction], Any], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        self.announcements: list[Callable[[], None]] = []


class Database:
    """The open file. ``read`` and ``write`` are its only doors."""

    def __init__(
        self, path: Path, writer: _Connection, readers: list[_Connection], feed: Feed, read_limit_s: float
    ) -> None:
        self.path = path
        self._owner: str | None = None
        self._read_limit_s = read_limit_s
        self._reading: dict[_Connection, _Turn] = {}
        self._feed = feed
        self._writer = writer
        self._readers = readers
        self._idle: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for reader in readers:
            self._idle.put_nowait(reader)
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue(QUEUE_JOBS_MAX)
        self._loop_task = asyncio.create_task(self._commit_forever(), name="database writer")
        self._watch_task = asyncio.create_task(self._watch_reads(), name="database reads")
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, readers: int = 2, read_limit_s: float = READ_LIMIT_S) -> Database:
        """Open or create. Raises Corrupt for a file of another kind or a newer schema."""
        path.parent.mkdir(parents=True, exist_ok=True)
        opened: list[_Connection] = []
        feed = Feed()
        try:
            opened.append(await _connect(path, read_only=False))
            await opened[0].run(prepare)
            await opened[0].run(feed.watch)
            for _ in range(readers):
                opened.append(await _connect(path, read_only=True))  # noqa: PERF401 - what was opened must be known if the next one fails
        except BaseException as error:
            for connection in opened:
                await connection.close()
            if isinstance(error, sqlite3.Error) and (told := _told(error)) is not error:
                raise told from error
            raise
        return cls(path, opened[0], opened[1:], feed, read_limit_s)

    async def read(self, work: Callable[[Reader], T]) -> T:
        """Run the function on one snapshot, in a reader's thread. Raises Corrupt for a damaged file,
        Unavailable for a function that holds its snapshot too long."""
        if self._closed:
            raise Unavailable("the database is closed")
        connection = await self._idle.get()
        turn = self._reading[connection] = _Turn()
        try:
            return await connection.run(partial(_in_snapshot, work, self._feed, turn))
        finally:
            del self._reading[connection]
            self._idle.put_nowait(connection)

    async def write(self, work: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """Run the function in the writer and return after its commit.

        Functions waiting at the same time share a commit; one that raises is undone alone.
        ``durable`` means that the answer survives a power cut: use it where somebody was told.
        Raises Unavailable when the disk refuses; then nothing was written.
        """
        if self._closed:
            raise Unavailable("the database is closed")
        job = _Job(work, durable)
        await self._jobs.put(job)
        result: T = await job.done
        return result

    async def claim(self, owner: str) -> None:
        """From now on each commit of ours makes sure that the file is still ours, and raises Corrupt when
        somebody else has claimed it. See docs/decisions/0016-one-owner-one-past.md."""
        await self.write(lambda tx: _set_owner(tx, owner), durable=True)
        self._owner = owner

    async def fold(self) -> bool:
        """Bring the log into the file and cut it to nothing, unless somebody holds an older snapshot or
        a write waits; whether that was done."""
        if self._closed or not self._jobs.empty():
            return False
        return await self._writer.run(_fold)

    def log_bytes(self) -> int:
        """Size of the log beside the file."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    async def close(self) -> None:
        """Finish the writes under way, fold the log into the file, and let go."""
        if self._closed:
            return
        self._closed = True
        self._watch_task.cancel()
        await self._jobs.put(None)
        await self._loop_task
        while not self._jobs.empty():
            # It waited for room in the queue while we closed: its turn never comes.
            late = self._jobs.get_nowait()
            if late is not None and not late.done.done():
                late.done.set_exception(Unavailable("the database is closed"))
            await asyncio.sleep(0)
        for reader in self._readers:
            await reader.close()
        try:
            await self._writer.run(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        except sqlite3.Error as error:
            # A full disk has no room to fold into; the log is read again at the next start.
            log.error("log_not_folded", error=error)
        await self._writer.close()

    async def _watch_reads(self) -> None:
        """Interrupt who holds a snapshot too long. Real time, whatever any clock says."""
        while True:
            await asyncio.sleep(min(WATCH_EVERY_S, self._read_limit_s / 4))
            late_s = time.monotonic() - self._read_limit_s
            for connection, turn in list(self._reading.items()):
                if turn.began_s > late_s:
                    continue
                if not turn.overdue:
                    turn.overdue = True
                    READS_CUT.inc()
                    log.error("read_cut", seconds=round(self._read_limit_s, 1))
                # Again each time: what runs between two statements is not reached by it.
                await connection.interrupt()

    async def _commit_forever(self) -> None:
        while True:
            job = await self._jobs.get()
            if job is None:
                return
            jobs = [job]
            last = False
            while len(jobs) < JOBS_PER_COMMIT_MAX and not self._jobs.empty():
                another = self._jobs.get_nowait()
                if another is None:
                    last = True
                    break
                jobs.append(another)
            try:
                await self._writer.run(partial(_commit, jobs, self._feed, self._owner))
            except Exception as error:  # noqa: BLE001 - the group failed as a whole: each waiter is told
                for waiting in jobs:
                    waiting.error = error
            for waiting in jobs:
                if waiting.error is None:
                    for announce in waiting.announcements:
                        _announce(announce)
                if waiting.done.cancelled():
                    continue
                if waiting.error is None:
                    waiting.done.set_result(waiting.result)
                else:
                    waiting.done.set_exception(waiting.error)
            if last:
                return


def _commit(jobs: list[_Job], feed: Feed, owner: str | None, connection: sqlite3.Connection) -> None:
    durable = any(job.durable for job in jobs)
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    try:
        connection.execute("BEGIN IMMEDIATE")
        if owner is not None and _owner(connection) != owner:
            raise Corrupt("another process has taken this database over")
        for job in jobs:
            transaction = Transaction(connection, feed.noted)
            try:
                with transaction.savepoint():
                    job.result = job.work(transaction)
            except Exception as error:
                if not connection.in_transaction:
                    # The disk's refusal undid the whole transaction, not this job alone.
                    raise
                job.error = _told(error) if isinstance(error, sqlite3.Error) else error
            else:
                job.announcements = transaction.announcements
        feed.publish()
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if (told := _told(error)) is not error:
            raise told from error
        raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        feed.settle()


def _owner(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = 'owner'").fetchone()
    return None if row is None else row[0]


def _set_owner(tx: Transaction, owner: str) -> None:
    tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('owner', ?)", (owner,))


def _fold(connection: sqlite3.Connection) -> bool:
    # Nobody is waited for: those who write have more right to this thread.
    connection.execute("PRAGMA busy_timeout=0")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        if (told := _told(error)) is not error:
            raise told from error
        raise
    finally:
        connection.execute(f"PRAGMA {_PRAGMAS[0]}")
    return not busy


def _in_snapshot(work: Callable[[Reader], T], feed: Feed, turn: _Turn, connection: sqlite3.Connection) -> T:
    settled = feed.settled  # before the snapshot begins: it sees all of these
    try:
        connection.execute("BEGIN")
        return work(Reader(connection, feed, settled, turn))
    except sqlite3.Error as error:
        if (told := _told(error)) is not error:
            raise told from error
        raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _announce(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception as error:  # noqa: BLE001 - one announcement: the rows are committed and the writer must go on
        ANNOUNCEMENTS_FAILED.inc()
        log.error("announcement_failed", error=error, trace=error)


def _too_long() -> Unavailable:
    return Unavailable("this took too long to read", name="ReadTooLong")


def _told(error: sqlite3.Error) -> Exception:
    """What SQLite's error means for the caller; a mistake in our SQL stays as it is."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _DAMAGED:
        return Corrupt(f"the database is damaged: {error}")
    if code in _BUSY:
        return Unavailable(f"the database is busy: {error}", name=STORAGE_BUSY)
    if code == sqlite3.SQLITE_INTERRUPT:
        return _too_long()
    if code in _REFUSED:
        return Unavailable(f"the database can't be used: {error}", name=STORAGE_FULL)
    return error


async def _connect(path: Path, *, read_only: bool) -> _Connection:
    def connector() -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            for pragma in _PRAGMAS if read_only else _PRAGMAS + _WRITER_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    connection = _Connection(connector, iter_chunk_size=64)
    try:
        await connection
    except BaseException:
        await connection.ended()
        raise
    return connection


def check_kind(connection: sqlite3.Connection) -> int:
    """The version of the file's schema; 0 for an empty file. Raises Corrupt for what we can't read."""
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        raise Corrupt(f"not a database of the appliance: {error}") from error
    if version == 0 and objects:
        raise Corrupt("not a database of the appliance: it holds other tables")
    if version > SCHEMA_VERSION:
        raise Corrupt(
            f"the database has schema {version}, this version knows up to {SCHEMA_VERSION}:"
            " it was written by a newer appliance"
        )
    return int(version)


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the file to the schema of this version."""
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as error:
        raise Corrupt(f"not a database of the appliance: {error}") from error
    version = check_kind(connection)
    if version == 0:
        migrations.create(connection)
    elif version < SCHEMA_VERSION:
        migrations.upgrade(connection, version, SCHEMA_VERSION, migrations.steps())
