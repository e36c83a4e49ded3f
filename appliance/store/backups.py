"""Copies of the whole database: one made while it is in use, and one put in its place.

Everything is checked before anything takes a name: a backup that is there is whole, and a restore either
has happened or has not.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from appliance.errors import BadInput, Corrupt, Unavailable
from appliance.store import checks, generation, upstreams
from appliance.store.database import Reader, Transaction, check_kind, prepare

PRIVATE = 0o600


class Copied(NamedTuple):
    """What a copy holds."""

    bytes: int
    accounts: int
    position_us: int | None  # how far the stream had been read


def back_up(database: Path, target: Path) -> Copied:
    """Copy the database as it is at one moment, whether or not a process is using it; blocks until done.

    ``target`` appears when the copy has been checked and is on the disk. Raises BadInput where something
    has that name already, Corrupt when the copy isn't sound.
    """
    if not database.exists():
        raise BadInput(f"there is no database at {database}")
    if target.exists():
        raise BadInput(f"{target} exists already")
    fresh = target.with_name(target.name + ".part")
    try:
        _copy(database, fresh)
        copied = _describe(fresh)
        _sync(fresh)
        # Not a rename: it would replace what has come to that name meanwhile.
        os.link(fresh, target)
        generation.sync_folder(target.parent)
    except FileExistsError as error:
        raise BadInput(f"{target} exists already") from error
    except OSError as error:
        raise Unavailable(f"the backup can't be written to {target}: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
    return copied


def restore(source: Path, database: Path, now_us: int) -> tuple[Copied, Path | None]:
    """Put a backup in the database's place, every account in doubt from where the backup stands on.

    No process may use the database: the caller holds the lock. What was there is kept beside it; its path
    is returned. Raises BadInput or Corrupt, having changed nothing, for a file that isn't a sound backup.
    """
    if not source.is_file():
        raise BadInput(f"there is no backup at {source}")
    database.parent.mkdir(parents=True, exist_ok=True)
    fresh = database.with_name(database.name + ".restored")
    _remove(fresh)
    try:
        _copy(source, fresh)
        copied = _describe(fresh)
        beat = _doubted(fresh, generation.told(database), now_us)
        _sync(fresh)
        kept = _set_aside(database, now_us)
        fresh.replace(database)
        generation.sync_folder(database.parent)
    except OSError as error:
        raise Unavailable(f"the backup can't be restored: {error.strerror}") from error
    finally:
        _remove(fresh)
    generation.tell(database, beat)
    return copied, kept


def _doubted(path: Path, told: generation.Beat | None, now_us: int) -> generation.Beat:
    """Bring the copy to this version's schema and doubt it, all before it has the database's name."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        prepare(connection)
        connection.execute("BEGIN IMMEDIATE")
        tx = Transaction(connection)
        generation.doubt(tx, now_us)
        beat = generation.beat(tx, after=told)
        connection.execute("COMMIT")
        # Closing folds the log into the file; it moves without one.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    return beat


def _set_aside(database: Path, now_us: int) -> Path | None:
    """Give what is there another name too, with all that its log holds; None where there is nothing.

    A log that stayed behind would be read into the file that comes in its place.
    """
    if not database.exists():
        _remove_beside(database)
        return None
    kept = database.with_name(f"{database.name}.before-restore-{now_us}")
    log, kept_log = (path.with_name(path.name + "-wal") for path in (database, kept))
    if log.exists():
        os.link(log, kept_log)
    try:
        old = sqlite3.connect(database, isolation_level=None)
        try:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            old.close()
    except sqlite3.DatabaseError:
        pass  # it is damaged, and may be why somebody restores: its log is kept with it for whoever looks
    else:
        kept_log.unlink(missing_ok=True)
    os.link(database, kept)
    _remove_beside(database)
    generation.sync_folder(database.parent)
    return kept


def _copy(source: Path, target: Path) -> None:
    _remove(target)
    target.touch(mode=PRIVATE)
    try:
        reading = checks.connect(source)
        try:
            reading.execute("PRAGMA busy_timeout=10000")
            writing = sqlite3.connect(target, isolation_level=None)
            try:
                # All in one step: one that is interrupted by commits begins anew each time.
                reading.backup(writing, pages=-1)
                writing.execute("PRAGMA journal_mode=DELETE").fetchall()
            finally:
                writing.close()
        finally:
            reading.close()
    except sqlite3.DatabaseError as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        if full:
            raise Unavailable(f"the copy can't be written: {error}") from error
        raise Corrupt(f"{source} is not a sound database: {error}") from error


def _describe(path: Path) -> Copied:
    """What the copy holds. Raises Corrupt where it is damaged, not ours, or of a newer schema."""
    connection = checks.connect(path)
    try:
        if check_kind(connection) == 0:
            raise Corrupt("the copy holds nothing")
        _, found = checks.look(connection)
        if found != checks.SOUND:
            raise Corrupt(f"the copy is damaged: {found}")
        (accounts,) = connection.execute("SELECT count(*) FROM repo").fetchone()
        return Copied(path.stat().st_size, accounts, upstreams.newest_time_us(Reader(connection)))
    finally:
        connection.close()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_beside(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _remove(path: Path) -> None:
    _remove_beside(path)
    path.unlink(missing_ok=True)
