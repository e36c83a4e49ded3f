"""Rows of what members are told of. Each is made with the record that causes it and goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from appliance.store.database import Reader, Transaction

MENTION: Final = 1
QUOTE: Final = 2
REPLY: Final = 3
LIKE: Final = 4
REPOST: Final = 5
FOLLOW: Final = 6
LIKE_VIA_REPOST: Final = 7
REPOST_VIA_REPOST: Final = 8
JOINED: Final = 9
VERIFIED: Final = 10
UNVERIFIED: Final = 11
SUBSCRIBED: Final = 12

# As the lexicon spells them.
NAMES: Final[dict[int, str]] = {
    MENTION: "mention",
    QUOTE: "quote",
    REPLY: "reply",
    LIKE: "like",
    REPOST: "repost",
    FOLLOW: "follow",
    LIKE_VIA_REPOST: "like-via-repost",
    REPOST_VIA_REPOST: "repost-via-repost",
    JOINED: "starterpack-joined",
    VERIFIED: "verified",
    UNVERIFIED: "unverified",
    SUBSCRIBED: "subscribed-post",
}
# A reply speaks to the post it answers and so many above that one.
HEIGHT_MAX: Final = 4


class Cause(NamedTuple):
    """A living record of which somebody may have to be told, and whose it is; ``only`` this member if set."""

    record: int
    author: int
    sort_ms: int
    only: int | None = None


class Answered(NamedTuple):
    """A post above another."""

    id: int
    actor: int
    is_members: bool


_OF = "INSERT INTO notification (viewer, sort_ms, record, reason, author, subject)"
# Of mention, quote, reply and subscribed-post a record has one for each member.
_ONCE = (
    "NOT EXISTS (SELECT 1 FROM notification n WHERE n.record = ?3 AND n.viewer = m.actor"
    " AND n.reason IN (1, 2, 3, 12))"
)
_NOT_MUTED = (
    "NOT EXISTS (SELECT 1 FROM thread_mute t WHERE t.viewer = m.actor"
    " AND t.root = coalesce((SELECT root FROM post WHERE id = ?5), ?5))"
)
_TELL_OWNER = (
    f"{_OF} SELECT m.actor, ?1, ?3, ?4, ?2, ?5 FROM record s JOIN member m ON m.actor = s.actor"
    f" WHERE s.id = ?5 AND m.actor <> ?2 AND coalesce(?6, m.actor) = m.actor AND {_NOT_MUTED}"
)
_TELL = (
    f"{_OF} SELECT m.actor, ?1, ?3, ?4, ?2, NULL FROM member m"
    " WHERE m.actor = ?5 AND coalesce(?6, m.actor) = m.actor"
)


def tell_owner(tx: Transaction, cause: Cause, reason: int, subject: int, *, once: bool = False) -> bool:
    """Tell the member whose record that is, unless it was his own doing or he muted the thread.

    ``once``: only if this record has told him nothing yet.
    """
    also = f" AND {_ONCE}" if once else ""
    return _made(tx, f"{_TELL_OWNER}{also} ON CONFLICT DO NOTHING", cause, reason, subject)


def tell(tx: Transaction, cause: Cause, reason: int, viewer: int, *, once: bool = False) -> bool:
    """Tell this account if it is a member. ``once``: as of ``tell_owner``."""
    also = f" AND {_ONCE}" if once else ""
    return _made(tx, f"{_TELL}{also} ON CONFLICT DO NOTHING", cause, reason, viewer)


def tell_subscribers(tx: Transaction, cause: Cause, viewers: Iterable[int]) -> None:
    """Tell these of the post, unless it has told them something already."""
    for viewer in viewers:
        tell(tx, cause, SUBSCRIBED, viewer, once=True)


def _made(tx: Transaction, sql: str, cause: Cause, reason: int, other: int) -> bool:
    if tx.run(sql, (cause.sort_ms, cause.author, cause.record, reason, other, cause.only)) == 0:
        return False
    # What is older than a subscription was never meant for it.
    tx.run(
        "INSERT INTO push_due (subscription, record, reason)"
        " SELECT s.id, n.record, n.reason FROM notification n"
        " JOIN push_subscription s ON s.viewer = n.viewer AND s.created_us / 1000 <= n.sort_ms"
        " WHERE n.record = ? AND n.reason = ? ON CONFLICT DO NOTHING",
        (cause.record, reason),
    )
    return True


def gone(tx: Transaction, record: int) -> list[int]:
    """The cause lives no more: take back what it told. Whom it had told that they are verified."""
    rows = tx.all(
        "DELETE FROM notification WHERE record = ? AND reason <> 11 RETURNING viewer, reason", (record,)
    )
    return [viewer for viewer, reason in rows if reason == VERIFIED]


def answered_by(reader: Reader, parent: int | None) -> list[Answered]:
    """From this post up the living ones, nearest first; nothing is known above one that isn't here."""
    found: list[Answered] = []
    while parent is not None and len(found) < HEIGHT_MAX:
        row = reader.one(
            "SELECT p.actor, p.parent, EXISTS (SELECT 1 FROM member m WHERE m.actor = p.actor)"
            " FROM post p WHERE p.id = ?",
            (parent,),
        )
        if row is None:
            break
        found.append(Answered(parent, row[0], bool(row[2])))
        parent = row[1]
    return found


def answers_to(reader: Reader, post: int) -> list[tuple[Cause, int]]:
    """The living posts below this one to which it is near enough, without those that break the gate; each
    with the one that it answers."""
    rows = reader.all(
        "WITH RECURSIVE down (id, depth) AS ("
        " SELECT ?1, 0 UNION ALL SELECT p.id, down.depth + 1 FROM down"
        "  CROSS JOIN post p INDEXED BY post_by_parent ON p.parent = down.id WHERE down.depth < ?2)"
        " SELECT p.id, p.actor, p.sort_ms, p.parent FROM down CROSS JOIN post p ON p.id = down.id"
        " WHERE down.depth > 0 AND NOT p.flags & 32 ORDER BY down.depth, p.id",
        (post, HEIGHT_MAX),
    )
    return [(Cause(*row[:3]), row[3]) for row in rows]


def interest(reader: Reader, actor: int) -> tuple[bool, bool]:
    """Whether the account is a member, and whether anybody subscribed to it."""
    row = reader.one(
        "SELECT EXISTS (SELECT 1 FROM member WHERE actor = ?1),"
        " EXISTS (SELECT 1 FROM activity_subscription WHERE subject = ?1)",
        (actor,),
    )
    assert row is not None
    return bool(row[0]), bool(row[1])


def owner_of(reader: Reader, record: int) -> int:
    """Whose record that is."""
    found: int = reader.value("SELECT actor FROM record WHERE id = ?", (record,))
    return found


class Subscriber(NamedTuple):
    """A member who wants to be told of an account's posts (``post``) or replies, since ``key``, a TID."""

    viewer: int
    post: int
    reply: int
    key: str
    follows: int
    is_followed: int


def subscribers(reader: Reader, actor: int) -> list[Subscriber]:
    """Everybody who subscribed to the account, and how they follow each other."""
    follows = (
        "EXISTS (SELECT 1 FROM link l WHERE l.kind = 3 AND l.actor = {} AND l.subject = {} AND waiting = 0)"
    )
    rows = reader.all(
        f"SELECT s.viewer, s.post, s.reply, s.key, {follows.format('s.viewer', 's.subject')},"
        f" {follows.format('s.subject', 's.viewer')} FROM activity_subscription s WHERE s.subject = ?",
        (actor,),
    )
    return list(map(Subscriber._make, rows))


# ---------------------------------------------------------------- members who come and go


class Behind(NamedTuple):
    """A member for whom the records up to ``record`` are still to be looked through."""

    viewer: int
    did: str
    record: int


class Candidate(NamedTuple):
    """A living record that names somebody."""

    id: int
    actor: int
    did: str
    collection: int
    rkey: str
    body: bytes
    sort_ms: int


def behind(reader: Reader) -> Behind | None:
    """The member who has waited longest."""
    row = reader.one(
        "SELECT m.actor, a.did, m.behind FROM member m JOIN actor a ON a.id = m.actor"
        " WHERE m.behind > 0 ORDER BY m.admitted_us LIMIT 1"
    )
    return None if row is None else Behind(*row)


_CANDIDATE = (
    "SELECT r.id, r.actor, a.did, r.collection, r.rkey, r.body, r.sort_ms FROM record r"
    " JOIN actor a ON a.id = r.actor WHERE r.state = 1"
)


def naming(reader: Reader, did: str, above: int, upto: int) -> list[int]:
    """Among the records with these ids those that may tell the account something: they spell its DID."""
    rows = reader.all(
        "SELECT id FROM record WHERE id > ? AND id <= ? AND state = 1 AND collection IN (1, 2, 3, 4, 5, 18)"
        " AND instr(body, CAST(? AS BLOB)) > 0 ORDER BY id",
        (above, upto, did),
    )
    return [row[0] for row in rows]


def candidate(reader: Reader, record: int) -> Candidate | None:
    """What this record says, if it lives."""
    row = reader.one(f"{_CANDIDATE} AND r.id = ?", (record,))
    return None if row is None else Candidate(*row)


def looked_through(tx: Transaction, viewer: int, down_to: int) -> None:
    """What remains to be looked through for this member; 0 is nothing."""
    tx.run("UPDATE member SET behind = ? WHERE actor = ? AND behind > ?", (down_to, viewer, down_to))


def forget_member(tx: Transaction, viewer: int) -> None:
    """Nobody is told any more, and nothing that was kept about it stays."""
    tx.run("DELETE FROM notification WHERE viewer = ?", (viewer,))
    tx.run("DELETE FROM notification_state WHERE viewer = ?", (viewer,))
    tx.run("DELETE FROM push_subscription WHERE viewer = ?", (viewer,))


# ---------------------------------------------------------------- what members say about it


def seen(tx: Transaction, viewer: int, seen_ms: int) -> None:
    """Everything up to then has been seen; an earlier time never replaces a later one."""
    tx.run(
        "INSERT INTO notification_state (viewer, seen_ms) VALUES (?1, ?2) ON CONFLICT (viewer) DO UPDATE"
        " SET seen_ms = ?2 WHERE seen_ms IS NULL OR seen_ms < ?2",
        (viewer, seen_ms),
    )


def set_priority(tx: Transaction, viewer: int, *, priority: bool) -> None:
    """Whether lists hold only those whom the member follows."""
    tx.run(
        "INSERT INTO notification_state (viewer, priority) VALUES (?1, ?2)"
        " ON CONFLICT (viewer) DO UPDATE SET priority = ?2",
        (viewer, int(priority)),
    )


def set_preferences(tx: Transaction, viewer: int, preferences: str) -> None:
    """JSON of what differs from the defaults."""
    tx.run(
        "INSERT INTO notification_state (viewer, preferences) VALUES (?1, ?2)"
        " ON CONFLICT (viewer) DO UPDATE SET preferences = ?2",
        (viewer, preferences),
    )
