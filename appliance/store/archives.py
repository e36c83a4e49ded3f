"""Runs of bulk history from an archive: whose, how far, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Run(NamedTuple):
    """A run. Segments up to ``after_seq`` are in; of ``segment``, in its generation ``checksum``, rows up to
    ``seq``. ``tip_seq`` is where it ends, None before that is known."""

    id: int
    source: str
    tip_seq: int | None
    after_seq: int
    segment: str
    checksum: str
    seq: int
    rows: int
    started_us: int


class Waiting(NamedTuple):
    """An account that nothing has been read of yet."""

    actor: int
    did: str
    epoch: int


_COLUMNS = ", ".join(Run._fields)
# New, and not a member: what members need goes before everything else anyway.
_WAITING = """
FROM repo r JOIN actor a ON a.id = r.actor
WHERE r.state IN ('QUEUED', 'WAIT') AND r.base_rev = '' AND r.cert_rev IS NULL AND r.epoch = 0 AND r.refs > 0
  AND NOT EXISTS (SELECT 1 FROM member m WHERE m.actor = r.actor)
  AND NOT EXISTS (SELECT 1 FROM archive_account w WHERE w.actor = r.actor)
"""


def waiting(reader: Reader, rows_max: int) -> list[Waiting]:
    """Accounts whose history an archive could bring, those that are wanted most first."""
    rows = reader.all(
        f"SELECT r.actor, a.did, r.epoch {_WAITING} ORDER BY r.priority DESC, r.since_us LIMIT ?", (rows_max,)
    )
    return [Waiting(*row) for row in rows]


def begin(tx: Transaction, source: str, accounts: Iterable[Waiting], now_us: int) -> Run:
    """A new run for these accounts."""
    run = tx.insert("INSERT INTO archive_run (source, started_us) VALUES (?, ?)", (source, now_us))
    tx.many(
        "INSERT INTO archive_account (actor, run, epoch) VALUES (?, ?, ?)",
        [(account.actor, run, account.epoch) for account in accounts],
    )
    found = find(tx, run)
    assert found is not None
    return found


def find(reader: Reader, run: int) -> Run | None:
    """The run, unless it has ended."""
    row = reader.one(f"SELECT {_COLUMNS} FROM archive_run WHERE id = ? AND ended_us IS NULL", (run,))
    return None if row is None else Run(*row)


def unfinished(reader: Reader) -> Run | None:
    """The run that goes on."""
    row = reader.one(f"SELECT {_COLUMNS} FROM archive_run WHERE ended_us IS NULL ORDER BY id LIMIT 1")
    return None if row is None else Run(*row)


def epochs(reader: Reader, run: int) -> dict[str, int]:
    """DIDs of the run, and in which epoch their history was asked for."""
    rows = reader.all(
        "SELECT a.did, w.epoch FROM archive_account w JOIN actor a ON a.id = w.actor WHERE w.run = ?", (run,)
    )
    return dict(rows)


def planned(tx: Transaction, run: int, tip_seq: int) -> None:
    """Where the run ends is known: what is written later comes by the stream."""
    tx.run("UPDATE archive_run SET tip_seq = ? WHERE id = ? AND tip_seq IS NULL", (tip_seq, run))


def moved(tx: Transaction, run: int, segment: str, checksum: str, seq: int, rows: int) -> None:
    """Rows of that generation of the segment are in up to ``seq``; belongs in their transaction."""
    tx.run(
        "UPDATE archive_run SET segment = ?, checksum = ?, seq = ?, rows = rows + ? WHERE id = ?",
        (segment, checksum, seq, rows, run),
    )


def passed(tx: Transaction, run: int, after_seq: int) -> None:
    """Everything up to there is in."""
    tx.run(
        "UPDATE archive_run SET after_seq = max(after_seq, ?), segment = '', checksum = '', seq = 0"
        " WHERE id = ?",
        (after_seq, run),
    )


def end(tx: Transaction, run: int, outcome: str, now_us: int) -> None:
    """It is done, or given up."""
    tx.run("UPDATE archive_run SET ended_us = ?, outcome = ? WHERE id = ?", (now_us, outcome, run))
