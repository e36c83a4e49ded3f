"""Links: living records that point from one thing at another. Of several for one pair one counts."""

from __future__ import annotations

from typing import Final, NamedTuple

from appliance.store.database import Reader, Transaction

LIKE: Final = 1
REPOST: Final = 2
FOLLOW: Final = 3
BLOCK: Final = 4
LIST_BLOCK: Final = 5
LIST_ITEM: Final = 6
JOINED: Final = 7
VERIFICATION: Final = 8


class Removed(NamedTuple):
    """A link that is gone. ``pair_ended`` is False while another record for the pair took its place
    or was counting all along."""

    kind: int
    actor: int
    subject: int
    pair_ended: bool
    successor: int | None


def add(tx: Transaction, link: int, kind: int, actor: int, subject: int, sort_ms: int, tie: int) -> bool:
    """The link lives; True when it is the first of its pair, False when it waits behind another."""
    tx.changed.link(kind, actor, subject)
    sql = (
        "INSERT INTO link (id, kind, actor, subject, sort_ms, tie, waiting) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (kind, actor, subject) WHERE waiting = 0 DO NOTHING"
    )
    if tx.run(sql, (link, kind, actor, subject, sort_ms, tie, 0)):
        return True
    tx.run(sql, (link, kind, actor, subject, sort_ms, tie, 1))
    return False


def remove(tx: Transaction, link: int) -> Removed | None:
    """The link lives no more; the oldest that waits takes its place. None when there was none."""
    rows = tx.all("DELETE FROM link WHERE id = ? RETURNING kind, actor, subject, waiting", (link,))
    if not rows:
        return None
    kind, actor, subject, waited = rows[0]
    tx.changed.link(kind, actor, subject)
    if waited:
        return Removed(kind, actor, subject, pair_ended=False, successor=None)
    successor = tx.value(
        "UPDATE link SET waiting = 0 WHERE id ="
        " (SELECT id FROM link WHERE kind = ? AND actor = ? AND subject = ? AND waiting = 1"
        " ORDER BY id LIMIT 1) RETURNING id",
        (kind, actor, subject),
    )
    return Removed(kind, actor, subject, pair_ended=successor is None, successor=successor)


class Counting(NamedTuple):
    """A link that counts for its pair."""

    kind: int
    actor: int
    subject: int


def counting(reader: Reader, link: int) -> Counting | None:
    """The link of this record, if it counts and doesn't wait."""
    row = reader.one("SELECT kind, actor, subject FROM link WHERE id = ? AND waiting = 0", (link,))
    return None if row is None else Counting(*row)


def exists(reader: Reader, kind: int, actor: int, subject: int) -> bool:
    """Does such a link live?"""
    return (
        reader.value(
            "SELECT 1 FROM link WHERE kind = ? AND actor = ? AND subject = ? AND waiting = 0",
            (kind, actor, subject),
        )
        is not None
    )


def subjects(reader: Reader, kind: int, actor: int) -> list[int]:
    """Everything that the actor's links of this kind point at, each once."""
    return [
        row[0]
        for row in reader.all(
            "SELECT subject FROM link WHERE kind = ? AND actor = ? AND waiting = 0 ORDER BY subject",
            (kind, actor),
        )
    ]


def lists_a_member(reader: Reader, list_record: int) -> bool:
    """Is any member on that list?"""
    return (
        reader.value(
            "SELECT 1 FROM member m JOIN link l ON l.kind = 6 AND l.actor = ?1 AND l.subject = m.actor"
            " AND l.waiting = 0 LIMIT 1",
            (list_record,),
        )
        is not None
    )
