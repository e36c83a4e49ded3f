"""Who follows, likes and reposts: pages of links, newest first."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.batches import batches
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
