"""Rows of strangers' records and profiles that somebody wants to see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import orjson

from appliance.store.database import Reader, Transaction

Kind = Literal["record", "actor"]
Outcome = Literal["gone", "refused"]

# What was gone may have come back; it is asked for again when it is wanted so much later.
RECHECK_AFTER_US: Final = 24 * 3_600_000_000
# What somebody waits for goes before all that only completes a timeline; priorities are seconds since 1970.
NOW: Final = 1 << 40
_MARK: Final = "fetch_arrival"


class Wanted(NamedTuple):
    """One thing to fetch. ``collection`` and ``rkey`` are empty for an actor; ``pds`` may be unknown."""

    kind: Kind
    target: int
    priority: int
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


def is_open(reader: Reader, kind: Kind, target: int) -> bool:
    """Whether it is still to be fetched."""
    return (
        reader.value("SELECT 1 FROM fetch WHERE kind = ? AND target = ? AND outcome = ''", (kind, target))
        is not None
    )


def due(reader: Reader, now_us: int, rows_max: int, hosts_busy: Iterable[str]) -> list[Wanted]:
    """What may be fetched now, most urgent first, leaving out these hosts (origins)."""
    rows = reader.all(
        "SELECT f.kind, f.target, f.priority, f.attempts, a.did, a.pds,"
        " coalesce(c.nsid, ''), coalesce(r.rkey, '')"
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


_SWEEP = """
WITH fresh AS (
  SELECT i.arrival, i.actor, i.sort_ms, i.flags & 1 AS repost, i.subject, p.parent, p.root, p.quote
  FROM item i LEFT JOIN post p ON p.id = i.id WHERE i.arrival > ?1 AND i.arrival <= ?2
), shown AS (
  SELECT subject AS target, sort_ms, actor FROM fresh WHERE repost
  UNION ALL SELECT parent, sort_ms, actor FROM fresh WHERE parent IS NOT NULL AND sort_ms >= ?3
  UNION ALL SELECT root, sort_ms, actor FROM fresh WHERE root IS NOT NULL AND sort_ms >= ?3
  UNION ALL SELECT quote, sort_ms, actor FROM fresh WHERE quote IS NOT NULL AND sort_ms >= ?3
)
INSERT INTO fetch (kind, target, priority, wanted_us)
SELECT 'record', s.target, max(s.sort_ms) / 1000, ?4 FROM shown s
JOIN record r ON r.id = s.target AND r.state = 0
JOIN repo reader ON reader.actor = s.actor AND reader.refs > 0
WHERE NOT EXISTS (
  SELECT 1 FROM repo owner WHERE owner.actor = r.actor AND owner.refs > 0 AND owner.state <> 'LIVE')
GROUP BY s.target
ON CONFLICT (kind, target) DO UPDATE SET priority = max(priority, excluded.priority)
WHERE outcome = '' AND priority < excluded.priority
"""


def sweep(tx: Transaction, recent_ms: int, now_us: int, rows_max: int) -> bool:
    """Ask for what newly arrived items show and we lack; True when there may be more to go through.

    Reposted records always, since without them the repost shows nothing; parents, roots and quotes of
    items from ``recent_ms`` on, older ones when a page shows them. Records of accounts whose own scan
    is still to come are left to that. How far arrivals were gone through is kept in the same
    transaction, so none is missed and the writing of items costs nothing for this.
    """
    mark = int(tx.value("SELECT value FROM meta WHERE name = ?", (_MARK,)) or 0)
    end = tx.value(
        "SELECT max(arrival) FROM (SELECT arrival FROM item WHERE arrival > ? ORDER BY arrival LIMIT ?)",
        (mark, rows_max),
    )
    if end is None:
        return False
    tx.run(_SWEEP, (mark, end, recent_ms, now_us))
    tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_MARK, str(end)))
    return True


def want_shown_of(tx: Transaction, actor: int, now_us: int) -> int:
    """Ask for those records of an account no longer tracked that tracked ones still show; how many."""
    return tx.run(
        "INSERT INTO fetch (kind, target, priority, wanted_us) SELECT 'record', r.id, 0, ?2 FROM record r"
        " WHERE r.actor = ?1 AND r.state = 0 AND ("
        "  EXISTS (SELECT 1 FROM item i JOIN repo t ON t.actor = i.actor AND t.refs > 0"
        "   WHERE i.subject = r.id AND i.flags & 1)"
        "  OR EXISTS (SELECT 1 FROM post p JOIN repo t ON t.actor = p.actor AND t.refs > 0"
        "   WHERE p.parent = r.id OR p.quote = r.id OR p.root = r.id)"
        " ) ON CONFLICT (kind, target) DO NOTHING",
        (actor, now_us),
    )


def want_profile(tx: Transaction, actor: int, priority: int, now_us: int) -> None:
    """Ask who somebody is, unless we know."""
    known = tx.value(
        "SELECT 1 FROM actor a JOIN record r ON r.actor = a.id AND r.collection = 5 AND r.rkey = 'self'"
        " WHERE a.id = ? AND a.resolved_us IS NOT NULL AND r.state <> 0",
        (actor,),
    )
    if known is None:
        want(tx, "actor", actor, priority, now_us)
