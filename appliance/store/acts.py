"""What was done by the operator: rows that are only ever added."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class By(NamedTuple):
    """Who did it: a DID, or the kind of proof; and from which address, where there is one."""

    who: str
    address: str = ""


class Act(NamedTuple):
    """One of them. ``before`` and ``after`` are what it changed, in words."""

    id: int
    at_us: int
    who: str
    address: str
    name: str
    subject: str
    before: str
    after: str


def add(tx: Transaction, by: By, name: str, subject: str, before: str, after: str, now_us: int) -> None:
    """In the transaction of what it tells."""
    tx.run(
        "INSERT INTO act (at_us, who, address, name, subject, before, after) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (now_us, by.who, by.address, name, subject[:500], before[:500], after[:500]),
    )


def latest(reader: Reader, limit: int, before: int | None = None) -> list[Act]:
    """The newest first, below that number."""
    rows = reader.all(
        "SELECT id, at_us, who, address, name, subject, before, after FROM act"
        " WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
        (before, limit),
    )
    return list(map(Act._make, rows))
