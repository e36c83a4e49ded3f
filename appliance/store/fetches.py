"""Rows of strangers' records and profiles that somebody wants to see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import orjson

from appliance.store.database import Reader, Transaction

Kind = Literal["record", "actor"]
Outcome = Literal["gone", "refused"]

# What was gone may have come back; it is asked for again when it is wanted so much later.
RECHECK_AFTER_US = 24 * 3_600_000_000


class Wanted(NamedTuple):
    """One thing to fetch. ``collection`` and ``rkey`` are empty for an actor; ``pds`` may be unknown."""

    kind: Kind
    target: int
    attempts: int
    did: str
    pds: str | None
    collection: str
    rkey: str


def want(tx: Transaction, kind: Kind, target: int, priority: int, now_us: int) -> bool:
    """Ask for it, or ask more urgently; True when there is now something to do.

    One that was gone or refused is asked for again after a day.
    """
    return (
        tx.run(
            "INSERT INTO fetch (kind, target, priority, wanted_us) VALUES (?1, ?2, ?3, ?4)"
            " ON CONFLICT (kind, target) DO UPDATE SET"
            " priority = max(priority, ?3), wanted_us = ?4,"
            " attempts = iif(outcome = '', attempts, 0), next_at_us = iif(outcome = '', next_at_us, 0),"
            " outcome = ''"
            " WHERE (outcome = '' AND priority < ?3) OR (outcome <> '' AND wanted_us < ?4 - ?5)",
            (kind, target, priority, now_us, RECHECK_AFTER_US),
        )
        > 0
    )


def due(reader: Reader, now_us: int, rows_max: int, hosts_busy: Iterable[str]) -> list[Wanted]:
    """What may be fetched now, most urgent first, leaving out these hosts (origins)."""
    rows = reader.all(
        "SELECT f.kind, f.target, f.attempts, a.did, a.pds, coalesce(c.nsid, ''), coalesce(r.rkey, '')"
        " FROM fetch f"
        " LEFT JOIN record r ON f.kind = 'record' AND r.id = f.target"
        " LEFT JOIN collection c ON c.id = r.collection"
        " JOIN actor a ON a.id = iif(f.kind = 'record', r.actor, f.target)"
        " WHERE f.outcome = '' AND f.next_at_us <= ?"
        " AND (a.pds IS NULL OR a.pds NOT IN (SELECT value FROM json_each(?)))"
        " ORDER BY f.priority DESC LIMIT ?",
        (now_us, orjson.dumps(list(hosts_busy)).decode(), rows_max),
    )
    return [Wanted(*row) for row in rows]


def next_due_us(reader: Reader) -> int | None:
    """When the next one is due; None when nothing is open."""
    found: int | None = reader.value("SELECT min(next_at_us) FROM fetch WHERE outcome = ''")
    return found


def done(tx: Transaction, kind: Kind, target: int) -> None:
    """It has arrived."""
    tx.run("DELETE FROM fetch WHERE kind = ? AND target = ?", (kind, target))


def close(tx: Transaction, kind: Kind, target: int, outcome: Outcome) -> None:
    """It will not arrive, and this is why."""
    tx.run("UPDATE fetch SET outcome = ? WHERE kind = ? AND target = ?", (outcome, kind, target))


def postpone(tx: Transaction, kind: Kind, target: int, attempts: int, next_at_us: int) -> None:
    """It could not be found out; ask again then."""
    tx.run(
        "UPDATE fetch SET attempts = ?, next_at_us = ? WHERE kind = ? AND target = ? AND outcome = ''",
        (attempts, next_at_us, kind, target),
    )


def counts(reader: Reader) -> dict[str, int]:
    """How many are open, gone and refused."""
    rows = reader.all("SELECT iif(outcome = '', 'open', outcome), count(*) FROM fetch GROUP BY outcome")
    return dict(rows)


def forget_closed(tx: Transaction, before_us: int, rows_max: int) -> int:
    """Drop outcomes that nobody asked about since; how many."""
    return tx.run(
        "DELETE FROM fetch WHERE (kind, target) IN"
        " (SELECT kind, target FROM fetch WHERE outcome <> '' AND wanted_us < ? LIMIT ?)",
        (before_us, rows_max),
    )
