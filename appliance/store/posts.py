"""Index rows of posts: the item that feeds list, how it hangs together with others, and the counts."""

from __future__ import annotations

from typing import Final, NamedTuple

from appliance.store import counts
from appliance.store.database import Reader, Transaction

REPOST: Final = 1
REPLY: Final = 2
IMAGES: Final = 4
VIDEO: Final = 8
QUOTE: Final = 16
BREAKS_THREAD_GATE: Final = 32
BREAKS_POST_GATE: Final = 64
THREAD_GATE: Final = 256  # its author set rules for replies
POST_GATE: Final = 512  # or for quotes
# Of an item only: a repost of what the same account has reposted before. Home shows a thing once.
AGAIN: Final = 128


class Ties(NamedTuple):
    """Record ids of what a post hangs on."""

    root: int | None
    parent: int | None
    quote: int | None


def add(
    tx: Transaction, post: int, actor: int, sort_ms: int, tie: int, arrival: int, flags: int, ties: Ties
) -> None:
    """The post lives from now on."""
    tx.changed.records.add(post)
    tx.run(
        "INSERT INTO item (id, actor, sort_ms, tie, subject, flags, arrival) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (post, actor, sort_ms, tie, post, flags & 31, arrival),
    )
    tx.run(
        "INSERT INTO post (id, actor, root, parent, quote, sort_ms, tie, flags)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (post, actor, *ties, sort_ms, tie, flags),
    )
    _count(tx, actor, ties.parent, ties.quote, flags, 1)


def remove(tx: Transaction, post: int) -> None:
    """The post doesn't live any more. What points at it stays."""
    tx.changed.records.add(post)
    tx.run("DELETE FROM item WHERE id = ?", (post,))
    for actor, parent, quote, flags in tx.all(
        "DELETE FROM post WHERE id = ? RETURNING actor, parent, quote, flags", (post,)
    ):
        _count(tx, actor, parent, quote, flags, -1)


def add_repost(
    tx: Transaction,
    repost: int,
    actor: int,
    subject: int,
    sort_ms: int,
    tie: int,
    arrival: int,
    *,
    again: bool,
) -> None:
    """List the repost, unless its subject is known to be gone."""
    tx.run(
        "INSERT INTO item (id, actor, sort_ms, tie, subject, flags, arrival)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?7, ?6 WHERE (SELECT state FROM record WHERE id = ?5) <> 2",
        (repost, actor, sort_ms, tie, subject, arrival, REPOST | (AGAIN if again else 0)),
    )


def repost_counts(tx: Transaction, repost: int) -> None:
    """The repost before it is gone: now this is the one."""
    tx.run("UPDATE item SET flags = ? WHERE id = ?", (REPOST, repost))


def remove_repost(tx: Transaction, repost: int) -> None:
    """Take a repost off the lists."""
    tx.run("DELETE FROM item WHERE id = ?", (repost,))


def hide_reposts(tx: Transaction, subject: int) -> None:
    """The subject is gone: its reposts show nothing."""
    tx.run("DELETE FROM item WHERE subject = ? AND flags & 1", (subject,))


def show_reposts(tx: Transaction, subject: int) -> None:
    """The subject is back: list its reposts where they always stood."""
    # The partial indexes of link are used only where waiting is compared with a constant.
    tx.run(
        "INSERT INTO item (id, actor, sort_ms, tie, subject, flags, arrival)"
        " SELECT r.id, r.actor, r.sort_ms, r.tie, ?1, listed.flags, r.arrival FROM ("
        "  SELECT l.id, ?2 AS flags FROM link l WHERE l.kind = 2 AND l.subject = ?1 AND l.waiting = 0"
        "  UNION ALL SELECT w.id, ?3 FROM link l"
        "   CROSS JOIN link w ON w.kind = 2 AND w.actor = l.actor AND w.subject = ?1 AND w.waiting = 1"
        "   WHERE l.kind = 2 AND l.subject = ?1 AND l.waiting = 0) AS listed"
        " CROSS JOIN record r ON r.id = listed.id",
        (subject, REPOST, REPOST | AGAIN),
    )


def gates_of(reader: Reader, post: int) -> int:
    """Flags for the living gates that stand beside this post."""
    found = reader.all(
        "SELECT g.collection FROM record p JOIN record g ON g.actor = p.actor AND g.collection IN (7, 8)"
        " AND g.rkey = p.rkey AND g.state = 1 WHERE p.id = ?",
        (post,),
    )
    return sum(THREAD_GATE if collection == 7 else POST_GATE for (collection,) in found)


def mark_gate(tx: Transaction, gate: int, flag: int, *, there: bool) -> None:
    """The gate begins or ceases to stand beside its post, which has its author and key."""
    for (post,) in tx.all(
        "UPDATE post SET flags = (flags & ~?2) | ?3 WHERE id = (SELECT p.id FROM record g JOIN record p"
        " ON p.actor = g.actor AND p.collection = 1 AND p.rkey = g.rkey WHERE g.id = ?1) RETURNING id",
        (gate, flag, flag if there else 0),
    ):
        tx.changed.records.add(post)


def standing(reader: Reader, post: int) -> tuple[int, Ties] | None:
    """The flags of a living post and what it hangs on."""
    row = reader.one("SELECT flags, root, parent, quote FROM post WHERE id = ?", (post,))
    return None if row is None else (row[0], Ties(*row[1:]))


def flags_of(reader: Reader, post: int) -> int | None:
    """The flags of a living post."""
    found: int | None = reader.value("SELECT flags FROM post WHERE id = ?", (post,))
    return found


def _count(tx: Transaction, actor: int, parent: int | None, quote: int | None, flags: int, by: int) -> None:
    counts.add_posts(tx, actor, by)
    if parent is not None and not flags & BREAKS_THREAD_GATE:
        counts.add_replies(tx, parent, by)
    if quote is not None and flags & QUOTE:
        counts.add_quotes(tx, quote, by)
