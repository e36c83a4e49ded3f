"""Intervals that an upstream did not deliver, and whether everything in them has been looked at since."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Open(NamedTuple):
    """A gap whose accounts have not all been compared yet. Times are the upstream's, but ``noticed_us``."""

    id: int
    upstream: str
    from_us: int
    to_us: int
    reason: str
    noticed_us: int


def add(tx: Transaction, upstream: str, from_us: int, to_us: int, reason: str, now_us: int) -> int:
    """Note one; the accounts that it may have touched go into doubt in the same transaction."""
    return tx.insert(
        "INSERT INTO gap (upstream, from_us, to_us, reason, noticed_us) VALUES (?, ?, ?, ?, ?)",
        (upstream, from_us, to_us, reason, now_us),
    )


def close_settled(tx: Transaction, now_us: int) -> int:
    """Close those whose accounts have all been compared since: nobody is in doubt from before then."""
    return tx.run(
        "UPDATE gap SET closed_us = ?1 WHERE closed_us IS NULL AND NOT EXISTS ("
        " SELECT 1 FROM repo WHERE (state IN ('QUEUED', 'SCANNING', 'SUSPECT', 'WAIT') OR doubt <> '')"
        " AND (cert_us IS NULL OR cert_us <= gap.noticed_us))",
        (now_us,),
    )


def open_count(reader: Reader) -> int:
    """How many are open."""
    found: int = reader.value("SELECT count(*) FROM gap WHERE closed_us IS NULL")
    return found


def open_(reader: Reader) -> list[Open]:
    """Those that are open, oldest first."""
    rows = reader.all(
        "SELECT id, upstream, from_us, to_us, reason, noticed_us FROM gap WHERE closed_us IS NULL ORDER BY id"
    )
    return [Open(*row) for row in rows]
