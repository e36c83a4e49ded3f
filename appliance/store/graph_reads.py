"""Who follows, likes and reposts: pages of links, newest first."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.batches import batches, text_batches
from appliance.store.database import Reader
from appliance.store.timeline import Place

FOLLOW = 3


class Link(NamedTuple):
    """Record ``id`` says that ``actor`` points at ``subject``."""

    id: int
    actor: int
    subject: int
    sort_ms: int
    tie: int


_PAGE = """
SELECT id, actor, subject, sort_ms, tie FROM link
WHERE kind = ?1 AND {column} = ?2 AND waiting = 0 AND (sort_ms, tie) <= (?3, ?4)
  AND (sort_ms, tie, id) < (?3, ?4, ?5)
ORDER BY sort_ms DESC, tie DESC, id DESC LIMIT ?6
"""


def links_by(reader: Reader, kind: int, actor: int, before: Place, limit: int) -> list[Link]:
    """What the actor points at."""
    rows = reader.all(_PAGE.format(column="actor"), (kind, actor, *before, limit))
    return list(map(Link._make, rows))


def links_to(reader: Reader, kind: int, subject: int, before: Place, limit: int) -> list[Link]:
    """Who points at the subject."""
    rows = reader.all(_PAGE.format(column="subject"), (kind, subject, *before, limit))
    return list(map(Link._make, rows))


def known_followers(reader: Reader, viewer: int, subjects: Collection[int]) -> list[tuple[int, int]]:
    """(subject, follower): whom the viewer follows and who follow the subject, oldest follows first."""
    found: list[tuple[int, int]] = []
    for marks, part in batches(subjects):
        found.extend(
            reader.all(
                "SELECT theirs.subject, mine.subject FROM link AS mine"
                " CROSS JOIN link AS theirs INDEXED BY link_pair"
                f" ON theirs.kind = {FOLLOW} AND theirs.actor = mine.subject AND theirs.waiting = 0"
                f" AND theirs.subject IN ({marks})"
                f" WHERE mine.kind = {FOLLOW} AND mine.actor = ? AND mine.waiting = 0 ORDER BY mine.id",
                [*part, viewer],
            )
        )
    return found


def mutes(reader: Reader, viewer: int, before: Place, limit: int) -> list[Link]:
    """Whom the viewer mutes altogether, as links that have their subject for an id."""
    rows = reader.all(
        "SELECT subject, viewer, subject, created_us / 1000 AS ms, 0 FROM mute WHERE viewer = ?1 AND only = 0"
        " AND (created_us / 1000, 0, subject) < (?2, ?3, ?4) ORDER BY ms DESC, subject DESC LIMIT ?5",
        (viewer, *before, limit),
    )
    return list(map(Link._make, rows))


def muted_lists(reader: Reader, viewer: int, before: Place, limit: int) -> list[Link]:
    """The lists that the viewer mutes, by the time of the lists; each with the list's record for an id."""
    rows = reader.all(
        "SELECT m.list, m.viewer, m.list, r.sort_ms, r.tie FROM list_mute m JOIN record r ON r.id = m.list"
        " WHERE m.viewer = ?1 AND r.state = 1 AND (r.sort_ms, r.tie, r.id) < (?2, ?3, ?4)"
        " ORDER BY r.sort_ms DESC, r.tie DESC, r.id DESC LIMIT ?5",
        (viewer, *before, limit),
    )
    return list(map(Link._make, rows))


def blocked_lists(reader: Reader, viewer: int, before: Place, limit: int) -> list[Link]:
    """The lists that the viewer blocks, by the time of the lists; each with the list's record for an id."""
    rows = reader.all(
        "SELECT r.id, l.actor, r.id, r.sort_ms, r.tie FROM link l JOIN record r ON r.id = l.subject"
        " WHERE l.kind = 5 AND l.actor = ?1 AND l.waiting = 0 AND r.state = 1"
        " AND (r.sort_ms, r.tie, r.id) < (?2, ?3, ?4)"
        " ORDER BY r.sort_ms DESC, r.tie DESC, r.id DESC LIMIT ?5",
        (viewer, *before, limit),
    )
    return list(map(Link._make, rows))


def records_by(reader: Reader, actor: int, collection: int, before: Place, limit: int) -> list[Link]:
    """An actor's living records of a kind, newest first, as links that point at themselves."""
    rows = reader.all(
        "SELECT id, actor, id, sort_ms, tie FROM record WHERE actor = ?1 AND collection = ?2 AND state = 1"
        " AND (sort_ms, tie, id) < (?3, ?4, ?5) ORDER BY sort_ms DESC, tie DESC, id DESC LIMIT ?6",
        (actor, collection, *before, limit),
    )
    return list(map(Link._make, rows))


def item_keys(reader: Reader, lists: Collection[int], person: int) -> dict[int, str]:
    """By list: the record key of the item that puts this person on it."""
    found: dict[int, str] = {}
    for marks, part in batches(lists):
        found.update(
            reader.all(
                "SELECT l.actor, r.rkey FROM link l INDEXED BY link_pair CROSS JOIN record r ON r.id = l.id"
                f" WHERE l.kind = 6 AND l.actor IN ({marks}) AND l.subject = ? AND l.waiting = 0",
                [*part, person],
            )
        )
    return found


def quotes_of(reader: Reader, post: int, before: Place, limit: int) -> list[Link]:
    """Posts that quote this one, newest first, as links that point at it."""
    rows = reader.all(
        "SELECT id, actor, quote, sort_ms, tie FROM post WHERE quote = ?1"
        " AND (sort_ms, tie, id) < (?2, ?3, ?4) ORDER BY sort_ms DESC, tie DESC, id DESC LIMIT ?5",
        (post, *before, limit),
    )
    return list(map(Link._make, rows))


def follower_counts(reader: Reader, people: Collection[int]) -> dict[int, int]:
    """How many follow each of these; nobody without is in it."""
    found: dict[int, int] = {}
    for marks, part in batches(people):
        found.update(reader.all(f"SELECT actor, followers FROM actor_count WHERE actor IN ({marks})", part))
    return found


def labelers(reader: Reader, dids: Collection[str]) -> dict[str, int]:
    """By DID: the record of its labeler service."""
    found: dict[str, int] = {}
    for marks, part in text_batches(dids):
        found.update(
            reader.all(
                "SELECT a.did, r.id FROM actor a CROSS JOIN record r ON r.actor = a.id AND r.collection = 14"
                f" AND r.rkey = 'self' AND r.state = 1 WHERE a.did IN ({marks})",
                part,
            )
        )
    return found
