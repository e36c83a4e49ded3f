"""How far each upstream was read.

A row stands for a connection in force, or for one that was: of several hosts the one written last counts.
Where only a list of accounts was asked for, the list is part of the name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.database import Reader, Transaction

OF_LIST = " dids "


class Position(NamedTuple):
    """Where to go on. ``seq`` counts on this upstream only; ``time_us`` is its clock."""

    seq: int | None
    time_us: int | None
    events: int


def find(reader: Reader, name: str) -> Position | None:
    """The stored position; None before the first event."""
    row = reader.one("SELECT seq, time_us, events FROM upstream WHERE name = ?", (name,))
    return None if row is None else Position(*row)


def save(
    tx: Transaction, name: str, wire: str, seq: int | None, time_us: int | None, events: int, now_us: int
) -> None:
    """Everything up to here is in; belongs in the transaction of the rows."""
    tx.run(
        "INSERT INTO upstream (name, wire, seq, time_us, events, updated_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        " ON CONFLICT (name) DO UPDATE SET wire = ?2, seq = ?3, time_us = coalesce(?4, time_us),"
        " events = events + ?5, updated_us = ?6",
        (name, wire, seq, time_us, events, now_us),
    )


def keep_only(tx: Transaction, names: Collection[str]) -> None:
    """Forget all others: what they carried is carried by these now."""
    for (name,) in tx.all("SELECT name FROM upstream"):
        if name not in names:
            tx.run("DELETE FROM upstream WHERE name = ?", (name,))


def newest(reader: Reader) -> tuple[str, Position] | None:
    """The upstream that was read last, and how far; None before the first event."""
    row = reader.one("SELECT name, seq, time_us, events FROM upstream ORDER BY updated_us DESC, name LIMIT 1")
    return None if row is None else (row[0], Position(*row[1:]))


def of_lists(reader: Reader) -> list[tuple[str, Position]]:
    """Of each list of accounts the host that was read last, and how far."""
    rows = reader.all(
        "SELECT name, seq, time_us, events, max(updated_us) FROM upstream WHERE instr(name, ?1)"
        " GROUP BY substr(name, instr(name, ?1)) ORDER BY name",
        (OF_LIST,),
    )
    return [(row[0], Position(*row[1:4])) for row in rows]


def newest_time_us(reader: Reader) -> int | None:
    """The upstream time that the writer has reached; None before the first event."""
    found: int | None = reader.value("SELECT max(time_us) FROM upstream")
    return found
