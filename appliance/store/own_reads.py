"""What a viewer keeps, and whom he might like to follow."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader
from appliance.store.timeline import Place

SUGGESTED_FROM = 2000
# Whoever has more followers than that has them looked at no further: some say as much as all.
FANS_MAX = 200


class Kept(NamedTuple):
    """A bookmark; ``id`` is the post's."""

    id: int
    cid: str
    created_us: int
    sort_ms: int
    tie: int


def bookmarks(reader: Reader, viewer: int, before: Place, limit: int) -> list[Kept]:
    """The viewer's bookmarks, the latest first."""
    rows = reader.all(
        "SELECT post, cid, created_us, created_us / 1000 AS ms, 0 FROM bookmark WHERE viewer = ?1"
        " AND (created_us / 1000, 0, post) < (?2, ?3, ?4) ORDER BY ms DESC, post DESC LIMIT ?5",
        (viewer, *before, limit),
    )
    return list(map(Kept._make, rows))


class Subscribed(NamedTuple):
    """Somebody of whom the viewer wants to be told; ``key`` is the place in the list."""

    subject: int
    key: str


def subscriptions(reader: Reader, viewer: int, before: str, limit: int) -> list[Subscribed]:
    """The viewer's subscriptions, the latest first."""
    rows = reader.all(
        "SELECT subject, key FROM activity_subscription WHERE viewer = ? AND (? = '' OR key < ?)"
        " ORDER BY key DESC LIMIT ?",
        (viewer, before, before, limit),
    )
    return list(map(Subscribed._make, rows))


class Ranked(NamedTuple):
    """Somebody or something in a list by numbers: its place is that number (``sort_ms``), what decides
    between equals (``tie``), and itself."""

    id: int
    sort_ms: int
    tie: int


def followed_by_followed(reader: Reader, viewer: int, before: Place, limit: int) -> list[Ranked]:
    """Whom those follow whom the viewer follows, and he doesn't: by how many of them do."""
    rows = reader.all(
        "SELECT theirs.subject AS who, count(*) AS many, 0 FROM"
        " (SELECT subject FROM link WHERE kind = 3 AND actor = ?1 AND waiting = 0 LIMIT ?6) AS mine"
        " CROSS JOIN link AS theirs INDEXED BY link_by_actor"
        " ON theirs.kind = 3 AND theirs.actor = mine.subject AND theirs.waiting = 0"
        " WHERE theirs.subject <> ?1 AND theirs.subject NOT IN"
        "  (SELECT f.subject FROM link f WHERE f.kind = 3 AND f.actor = ?1 AND f.waiting = 0)"
        " GROUP BY theirs.subject HAVING (many, 0, who) < (?2, ?3, ?4)"
        " ORDER BY many DESC, who DESC LIMIT ?5",
        (viewer, *before, limit, SUGGESTED_FROM),
    )
    return list(map(Ranked._make, rows))


def followed_beside(reader: Reader, actor: int, limit: int) -> list[int]:
    """Whom those follow, too, who follow this account: by how many of them do."""
    return [
        row[0]
        for row in reader.all(
            "SELECT theirs.subject FROM"
            " (SELECT actor FROM link WHERE kind = 3 AND subject = ?1 AND waiting = 0 LIMIT ?3) AS fans"
            " CROSS JOIN link AS theirs INDEXED BY link_by_actor"
            " ON theirs.kind = 3 AND theirs.actor = fans.actor AND theirs.waiting = 0"
            " WHERE theirs.subject <> ?1 GROUP BY theirs.subject"
            " ORDER BY count(*) DESC, theirs.subject LIMIT ?2",
            (actor, limit, FANS_MAX),
        )
    ]


def feeds_by_likes(reader: Reader, words: str, before: Place, limit: int) -> list[Ranked]:
    """Feed generators by their likes; with ``words``, those in whose name they stand."""
    rows = reader.all(
        "SELECT r.id, coalesce(c.likes, 0) AS likes, max(r.sort_ms, 0) AS made"
        " FROM record r INDEXED BY record_feed LEFT JOIN post_count c ON c.id = r.id"
        " WHERE r.collection + 0 = 12 AND r.state = 1"
        " AND (?1 = '' OR instr(lower(json_extract(r.body, '$.displayName')), lower(?1)))"
        " AND (coalesce(c.likes, 0), max(r.sort_ms, 0), r.id) < (?2, ?3, ?4)"
        " ORDER BY likes DESC, made DESC, r.id DESC LIMIT ?5",
        (words, *before, limit),
    )
    return list(map(Ranked._make, rows))
