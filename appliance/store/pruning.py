"""Rows that nobody needs any more: what hangs on them decides whether they go or become mentions."""

from __future__ import annotations

from appliance.store import records
from appliance.store.database import Transaction

# Somebody's living record, or a member's bookmark, names it by its id.
POINTED_AT = (
    "(EXISTS (SELECT 1 FROM post WHERE parent = r.id) OR EXISTS (SELECT 1 FROM post WHERE root = r.id)"
    " OR EXISTS (SELECT 1 FROM post WHERE quote = r.id)"
    " OR EXISTS (SELECT 1 FROM link WHERE kind IN (1, 2, 5, 7) AND subject = r.id AND waiting = 0)"
    " OR EXISTS (SELECT 1 FROM link WHERE kind = 6 AND actor = r.id AND waiting = 0)"
    " OR EXISTS (SELECT 1 FROM bookmark WHERE post = r.id)"
    " OR EXISTS (SELECT 1 FROM list_mute WHERE list = r.id)"
    " OR EXISTS (SELECT 1 FROM thread_mute WHERE root = r.id)"
    " OR EXISTS (SELECT 1 FROM notification WHERE record = r.id AND reason = 11))"
)


def spent_tombstones(tx: Transaction, before_us: int, rows_max: int) -> list[int]:
    """Tombstones that guard nothing: no source can bring an older version back.

    The floor of their collection stands as high, no running scan began below them, and they are
    older than the longest replay of an upstream. Those of strangers have no floor and are never scanned.
    One that others point at stays: it tells that its subject is gone.
    """
    return [
        row[0]
        for row in tx.all(
            "SELECT r.id FROM record r"
            " LEFT JOIN floor f ON f.actor = r.actor AND f.collection = r.collection"
            " WHERE r.state = 2 AND r.indexed_us < ?1"
            " AND iif(f.rev IS NULL, NOT EXISTS (SELECT 1 FROM repo WHERE repo.actor = r.actor),"
            "  (r.epoch, r.rev, r.n) <= (f.epoch, f.rev, 2147483647))"
            " AND NOT EXISTS (SELECT 1 FROM scan s WHERE s.actor = r.actor"
            "  AND (s.epoch, s.base_rev, 2147483647) < (r.epoch, r.rev, r.n))"
            f" AND NOT {POINTED_AT} LIMIT ?2",
            (before_us, rows_max),
        )
    ]


def forget_record(tx: Transaction, record: int) -> bool:
    """Remove a record whose index rows are gone already. False where it became a mention:
    others still point at it, or its number is the highest and would be given out again."""
    records.changes(tx, record)
    tx.run("DELETE FROM fetch WHERE kind = 'record' AND target = ?", (record,))
    if tx.run(
        "UPDATE record AS r SET state = 0, epoch = NULL, rev = NULL, n = NULL, cid = NULL, body ="
        " NULL, scan = NULL"
        f" WHERE id = ? AND ({POINTED_AT} OR id = (SELECT max(id) FROM record))",
        (record,),
    ):
        return False
    tx.run("DELETE FROM post_count WHERE id = ?", (record,))
    tx.run("DELETE FROM record WHERE id = ?", (record,))
    return True


def find_prunable(tx: Transaction, actor: int, rows_max: int) -> list[tuple[int, int, int]]:
    """(record, collection, state) to remove; none as soon as somebody wants the account again."""
    rows: list[tuple[int, int, int]] = tx.all(
        "SELECT r.id, r.collection, r.state FROM repo JOIN record r ON r.actor = repo.actor"
        " WHERE repo.actor = ? AND repo.refs = 0 AND repo.state = 'PRUNING' AND r.state <> 0 LIMIT ?",
        (actor, rows_max),
    )
    return rows


def forget_idle_mentions(tx: Transaction, actor: int) -> None:
    """Remove the names of an unwanted account's records that nothing points at any more."""
    idle = tx.all(
        "SELECT r.id FROM repo JOIN record r ON r.actor = repo.actor"
        " WHERE repo.actor = ? AND repo.refs = 0 AND repo.state = 'PRUNING' AND r.state = 0"
        f" AND NOT {POINTED_AT}",
        (actor,),
    )
    for (record,) in idle:
        forget_record(tx, record)
