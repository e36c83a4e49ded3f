"""What members reported to the moderators."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Report(NamedTuple):
    """One of them; ``by`` is the DID of who sent it."""

    id: int
    by: str
    kind: str
    reason: str
    subject: str
    at_us: int
    forwarded: int


def add(tx: Transaction, actor: int, kind: str, reason: str, subject: str, cid: str, now_us: int) -> int:
    """Its number."""
    return tx.insert(
        "INSERT INTO report (actor, kind, reason, subject, cid, at_us) VALUES (?, ?, ?, ?, ?, ?)",
        (actor, kind, reason, subject, cid, now_us),
    )


def mark_forwarded(tx: Transaction, report: int) -> None:
    """The member's server has taken it."""
    tx.run("UPDATE report SET forwarded = 1 WHERE id = ?", (report,))


def settle(tx: Transaction, report: int, now_us: int) -> bool:
    """Somebody has looked at it; False when there is no such open report."""
    done = tx.run("UPDATE report SET settled_us = ? WHERE id = ? AND settled_us IS NULL", (now_us, report))
    return done > 0


def open_(reader: Reader, limit: int) -> list[Report]:
    """Those that nobody has looked at, the oldest first."""
    rows = reader.all(
        "SELECT r.id, a.did, r.kind, r.reason, r.subject, r.at_us, r.forwarded FROM report r"
        " JOIN actor a ON a.id = r.actor WHERE r.settled_us IS NULL ORDER BY r.id LIMIT ?",
        (limit,),
    )
    return list(map(Report._make, rows))
