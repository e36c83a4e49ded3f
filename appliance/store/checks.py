"""Whether the file is sound: SQLite's own look at every table and its indexes, and what it last found."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from appliance.store.database import Reader, Transaction

_MARK: Final = "quick_check"
SOUND: Final = "ok"
FINDINGS_MAX: Final = 5


class Check(msgspec.Struct, frozen=True):
    """One look at the whole file. ``found`` is "ok", or what is wrong in SQLite's words."""

    at_us: int
    seconds: float
    tables: int
    found: str

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return self.found == SOUND


def connect(path: Path) -> sqlite3.Connection:
    """A connection of its own, for one look; any thread may interrupt it."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def look(connection: sqlite3.Connection) -> tuple[int, str]:
    """Number of tables, and what is wrong with them: "ok" for nothing.

    Table by table: a snapshot is held for as long as one of them takes, so the log can be folded in between.
    """
    found: list[str] = []
    tables = 0
    try:
        connection.execute("PRAGMA busy_timeout=10000")
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for name in names:
            tables += 1
            for (line,) in connection.execute(f'PRAGMA quick_check("{name}")').fetchall():
                if line != SOUND:
                    found.append(f"{name}: {line}")
            if len(found) >= FINDINGS_MAX:
                break
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise
        found.append(str(error))
    return tables, "; ".join(found[:FINDINGS_MAX]) or SOUND


def remember(tx: Transaction, check: Check) -> None:
    """Keep what was found, for the next start and for whoever asks."""
    text = msgspec.json.encode(check).decode()
    tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_MARK, text))


def last(reader: Reader) -> Check | None:
    """What was found the last time; None before the first."""
    text = reader.value("SELECT value FROM meta WHERE name = ?", (_MARK,))
    return None if text is None else msgspec.json.decode(text, type=Check)
