"""Telling an older copy of the database from the one that ran here last.

The database counts beats, and a small file beside it says how many there were. A beat is durable before
the file tells of it, so no crash and no power cut leaves the file ahead: a database with fewer beats, or of
another name, is a copy that somebody put back. Then nothing that came since can be taken for known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from appliance.errors import Corrupt
from appliance.store import repos, sessions, upstreams
from appliance.store.database import Reader, Transaction

SUFFIX: Final = ".beat"
# Like a gap: something may be missing, nothing here is wrong by it.
RESTORED: Final = f"{repos.STREAM_GAP}: restored from a backup"
_STORE: Final = "store"
_BEAT: Final = "beat"
_SAMPLES: Final = "pace"


class Beat(msgspec.Struct, frozen=True):
    """Which database, and how many times it has beaten."""

    store: str
    number: int


def beside(database: Path) -> Path:
    """The file that tells of a database's beats."""
    return database.with_name(database.name + SUFFIX)


def told(database: Path) -> Beat | None:
    """What the file beside it says; None where there is none, or it can't be read."""
    try:
        return msgspec.json.decode(beside(database).read_bytes(), type=Beat)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def tell(database: Path, beat: Beat) -> None:
    """Write the file, whole or not at all. Call it after the commit of that beat."""
    path = beside(database)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(beat))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that new names in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def expect(database: Path) -> None:
    """Raises Corrupt where a database was and is no more: an empty one in its place would hide the loss."""
    if beside(database).exists() and not database.exists():
        raise Corrupt(
            f"{database} is gone. Restore a backup, or remove {beside(database)} to begin with nothing"
        )


def current(reader: Reader) -> Beat | None:
    """The database's own count; None in one that has never beaten."""
    store = reader.value("SELECT value FROM meta WHERE name = ?", (_STORE,))
    number = reader.value("SELECT value FROM meta WHERE name = ?", (_BEAT,))
    return None if store is None else Beat(store, int(number))


def went_back(reader: Reader, told: Beat | None) -> str:
    """Why the database is not the one that ran here last; '' if it is, or if nobody knows."""
    here = current(reader)
    if told is None:
        return ""
    if here is None:
        return "a database from before beats were counted lies here"
    if here.store != told.store:
        return "another database lies here"
    return "an older copy of the database lies here" if here.number < told.number else ""


def begin(tx: Transaction, told: Beat | None, now_us: int) -> tuple[Beat, str]:
    """The first beat of a process, and why the database is not the one that ran here last ('' if it is).

    In that case every account goes into doubt, in this transaction, from where the copy stands on, and
    whoever was signed in has to sign in again.
    """
    why = went_back(tx, told)
    if why:
        doubt(tx, now_us)
    return beat(tx, after=told), why


def doubt(tx: Transaction, now_us: int) -> None:
    """This is an older copy: doubt every account from where it stands on, and use no sign-in of it."""
    repos.suspect_all(tx, RESTORED, now_us, from_us=upstreams.newest_time_us(tx))
    # Its tokens may have been used since: at some servers a refresh token that comes a second time ends
    # the sign-in that came of it.
    sessions.kill_all(tx, "restored")


def beat(tx: Transaction, after: Beat | None = None) -> Beat:
    """Count one more, beyond ``after`` as well. Has to be committed durably before anybody is told."""
    tx.run(
        "INSERT OR IGNORE INTO meta (name, value) VALUES (?, lower(hex(randomblob(12)))), (?, '0')",
        (_STORE, _BEAT),
    )
    least = 0 if after is None else after.number
    tx.run(
        "UPDATE meta SET value = CAST(max(CAST(value AS INTEGER), ?) + 1 AS TEXT) WHERE name = ?",
        (least, _BEAT),
    )
    found = current(tx)
    assert found is not None
    return found


def samples(reader: Reader) -> list[tuple[int, int]]:
    """Where the stream stood when: (our clock, upstream time), oldest first."""
    text = reader.value("SELECT value FROM meta WHERE name = ?", (_SAMPLES,))
    return [] if text is None else msgspec.json.decode(text, type=list[tuple[int, int]])


def keep_samples(tx: Transaction, samples: Sequence[tuple[int, int]]) -> None:
    """Keep these in place of those before."""
    text = msgspec.json.encode(list(samples)).decode()
    tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_SAMPLES, text))
