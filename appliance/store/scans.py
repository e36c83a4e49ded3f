"""Running snapshots: one row an account, moved on in the transaction of each page."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from appliance.store.database import Reader, Transaction

Method = Literal["listing", "signed"]


class Scan(NamedTuple):
    """A snapshot under way. Its rows have the version (epoch, base_rev, SNAPSHOT).

    ``collections`` are those still to read (numbers), the current one first.
    """

    id: int
    actor: int
    epoch: int
    host: str
    method: Method
    base_rev: str
    collections: tuple[int, ...]
    cursor: str | None
    pages: int
    rows: int
    partial: bool
    started_us: int


def begin(
    tx: Transaction,
    actor: int,
    epoch: int,
    host: str,
    method: Method,
    base_rev: str,
    collections: tuple[int, ...],
    now_us: int,
) -> int:
    """A new scan in place of any other of this account; its id, higher than all before."""
    tx.run("DELETE FROM scan WHERE actor = ?", (actor,))
    # What it leaves out is noted when it does.
    tx.run("UPDATE repo SET window_us = NULL WHERE actor = ?", (actor,))
    return tx.insert(
        "INSERT INTO scan (actor, epoch, host, method, base_rev, collections, started_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (actor, epoch, host, method, base_rev, _text(collections), now_us),
    )


def find(reader: Reader, scan: int) -> Scan | None:
    """The scan, unless it has ended."""
    return _scan(reader, "id", scan)


def find_of(reader: Reader, actor: int) -> Scan | None:
    """The account's running scan."""
    return _scan(reader, "actor", actor)


def move(
    tx: Transaction, scan: int, collections: tuple[int, ...], cursor: str | None, rows: int, partial: bool
) -> bool:
    """One page further; False when the scan has ended meanwhile."""
    return (
        tx.run(
            "UPDATE scan SET collections = ?, cursor = ?, pages = pages + 1, rows = rows + ?,"
            " partial = max(partial, ?) WHERE id = ?",
            (_text(collections), cursor, rows, partial, scan),
        )
        > 0
    )


def end(tx: Transaction, scan: int) -> None:
    """It is finished or given up."""
    tx.run("DELETE FROM scan WHERE id = ?", (scan,))


def end_of(tx: Transaction, actor: int) -> None:
    """Whatever snapshot of this account is under way is given up."""
    tx.run("DELETE FROM scan WHERE actor = ?", (actor,))


def raise_floor(tx: Transaction, actor: int, collection: int, epoch: int, rev: str) -> None:
    """From now on a key without a row is older than (epoch, rev, SNAPSHOT)."""
    tx.run(
        "INSERT INTO floor (actor, collection, epoch, rev) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (actor, collection) DO UPDATE SET epoch = ?3, rev = ?4 WHERE (epoch, rev) < (?3, ?4)",
        (actor, collection, epoch, rev),
    )


def _scan(reader: Reader, column: str, value: int) -> Scan | None:
    row = reader.one(
        "SELECT id, actor, epoch, host, method, base_rev, collections, cursor, pages, rows, partial,"
        " started_us"
        f" FROM scan WHERE {column} = ?",
        (value,),
    )
    if row is None:
        return None
    found, actor, epoch, host, method, base_rev, todo, cursor, pages, rows, partial, started_us = row
    collections = msgspec.json.decode(todo, type=tuple[int, ...])
    return Scan(
        found,
        actor,
        epoch,
        host,
        method,
        base_rev,
        collections,
        cursor,
        pages,
        rows,
        bool(partial),
        started_us,
    )


def _text(collections: tuple[int, ...]) -> str:
    return msgspec.json.encode(collections).decode()
