"""Which repositories wait for backfill, and how their work stands, for workers and for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson

from appliance.store.database import Reader, Transaction

# How the reason of a LIVE repository begins that was read only back to a date.
HISTORY_SINCE: Final = "history since "


class Due(NamedTuple):
    """A repository to work on. ``pds`` may not be known yet; ``begun`` when a scan is under way, ``doubt``
    when it is first to be compared."""

    actor: int
    did: str
    pds: str | None
    member: bool
    begun: bool
    doubt: bool = False


_DUE = """
WITH waiting AS (
  SELECT r.actor, r.state, r.priority, r.next_at_us, 0 AS begun FROM repo r
  WHERE r.state IN ('QUEUED', 'WAIT', 'SUSPECT') AND r.next_at_us <= ?1 AND r.refs > 0
    AND r.cover_us IS NOT NULL
  UNION ALL
  SELECT r.actor, r.state, r.priority, r.next_at_us, s.id IS NOT NULL FROM repo r
  LEFT JOIN scan s ON s.actor = r.actor WHERE r.state = 'SCANNING' AND r.refs > 0
  UNION ALL
  SELECT r.actor, r.state, -1, r.next_at_us, 0 FROM repo r
  WHERE r.state IN ('INACTIVE', 'GONE') AND r.next_at_us <= ?1 AND r.refs > 0
), ranked AS (
  SELECT w.*, a.did, a.pds, row_number() OVER (PARTITION BY a.pds, w.state = 'SUSPECT'
    ORDER BY w.begun, w.priority DESC, w.next_at_us, w.actor) AS place
  FROM waiting w JOIN actor a ON a.id = w.actor
  WHERE (a.pds IS NULL OR a.pds NOT IN (SELECT value FROM json_each(?2)))
    AND w.actor NOT IN (SELECT value FROM json_each(?3))
)
SELECT k.actor, k.did, k.pds, EXISTS (SELECT 1 FROM member m WHERE m.actor = k.actor), k.begun,
  k.state = 'SUSPECT'
FROM ranked k WHERE k.place <= ?4
ORDER BY k.begun, k.priority DESC, k.place, (k.state = 'SUSPECT') <> ?6, k.next_at_us
LIMIT ?5
"""


def due(
    reader: Reader,
    now_us: int,
    hosts_busy: Iterable[str],
    actors_busy: Iterable[int],
    per_host: int,
    rows_max: int,
    *,
    doubts_first: bool = False,
) -> list[Due]:
    """What may be worked on now, leaving out these hosts and actors.

    At most ``per_host`` of one host, so that a thousand of one don't hide the others, and as many that are
    in doubt; ``doubts_first`` is to change from look to look, so that neither kind starves the other. Those
    whose first page nobody has seen yet come before those that only go on.
    """
    rows = reader.all(
        _DUE,
        (
            now_us,
            orjson.dumps(list(hosts_busy)).decode(),
            orjson.dumps(list(actors_busy)).decode(),
            per_host,
            rows_max,
            doubts_first,
        ),
    )
    return [
        Due(actor, did, pds, bool(member), bool(begun), bool(doubt))
        for actor, did, pds, member, begun, doubt in rows
    ]


def due_of(reader: Reader, actor: int) -> Due | None:
    """The same of one actor, due or not; None when nobody wants it."""
    row = reader.one(
        "SELECT a.did, a.pds, EXISTS (SELECT 1 FROM member m WHERE m.actor = r.actor), s.id IS NOT NULL"
        " FROM repo r JOIN actor a ON a.id = r.actor LEFT JOIN scan s ON s.actor = r.actor"
        " WHERE r.actor = ? AND r.refs > 0",
        (actor,),
    )
    return None if row is None else Due(actor, row[0], row[1], bool(row[2]), bool(row[3]))


def forget_digest(tx: Transaction, actor: int) -> None:
    """The account wrote while it was read: our rows follow the merge rule, the digest belongs to no rev."""
    tx.run(
        "UPDATE repo SET cert_digest = NULL, shown_digest = NULL WHERE actor = ? AND cert_rev IS NOT NULL",
        (actor,),
    )


def left_out(tx: Transaction, actor: int, window_us: int) -> None:
    """The snapshot under way has not read what is older. Of several such times the latest holds."""
    tx.run(
        "UPDATE repo SET window_us = max(coalesce(window_us, ?1), ?1) WHERE actor = ?2", (window_us, actor)
    )


def complete_since(tx: Transaction, actor: int, window_us: int) -> None:
    """Say what is missing by the operator's choice: what was left out, or, where no snapshot has noted
    that, everything before ``window_us``."""
    left_out(tx, actor, tx.value("SELECT window_us FROM repo WHERE actor = ?", (actor,)) or window_us)
    since_us = tx.value("SELECT window_us FROM repo WHERE actor = ?", (actor,))
    reason = f"{HISTORY_SINCE}{_date(since_us)}"
    tx.run("UPDATE repo SET reason = ? WHERE actor = ? AND state = 'LIVE'", (reason, actor))


def find_narrow(reader: Reader, bound_us: int | None, rows_max: int) -> list[tuple[int, int]]:
    """(actor, epoch) of repositories read less far back than is wanted now; ``bound_us`` None: all of it."""
    rows: list[tuple[int, int]] = reader.all(
        "SELECT actor, epoch FROM repo WHERE window_us IS NOT NULL AND (?1 IS NULL OR window_us > ?1)"
        " AND state IN ('LIVE', 'SUSPECT') AND refs > 0 LIMIT ?2",
        (bound_us, rows_max),
    )
    return rows


def windowed_scans(reader: Reader, bound_us: int | None) -> list[int]:
    """Actors whose snapshot under way has already left out what is wanted now."""
    rows = reader.all(
        "SELECT s.actor FROM scan s JOIN repo r ON r.actor = s.actor WHERE s.partial = 1"
        " AND (?1 IS NULL OR r.window_us IS NULL OR r.window_us > ?1)",
        (bound_us,),
    )
    return [row[0] for row in rows]


def _date(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%d")


def is_covered(reader: Reader) -> bool:
    """Is there a stream whose position we hold, so that it goes on from there whatever happens?"""
    return reader.value("SELECT 1 FROM upstream LIMIT 1") is not None


class Progress(NamedTuple):
    """How one repository stands. ``pages`` and ``rows`` are of the scan under way."""

    did: str
    handle: str | None
    state: str
    reason: str
    since_us: int
    next_at_us: int
    attempts: int
    pages: int
    rows: int
    cert_rev: str | None
    cert_us: int | None
    cert_method: str | None
    cert_count: int | None


def progress(reader: Reader, *, did: str | None = None, rows_max: int = 1000) -> list[Progress]:
    """How tracked repositories stand, the incomplete ones first; of one DID, or of all."""
    rows = reader.all(
        "SELECT a.did, a.handle, r.state, r.reason, r.since_us, r.next_at_us, r.attempts,"
        " coalesce(s.pages, 0), coalesce(s.rows, 0), r.cert_rev, r.cert_us, r.cert_method, r.cert_count"
        " FROM repo r JOIN actor a ON a.id = r.actor LEFT JOIN scan s ON s.actor = r.actor"
        " WHERE r.refs > 0 AND (?1 IS NULL OR a.did = ?1)"
        " ORDER BY r.state = 'LIVE', r.priority DESC, r.actor LIMIT ?2",
        (did, rows_max),
    )
    return [Progress(*row) for row in rows]
