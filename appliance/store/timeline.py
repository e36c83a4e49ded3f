"""Timelines and author feeds as lists of ids: the read queries over ``item``.

The order is (sort_ms, tie, id), newest first; every page asks for what lies strictly before a
place in that order, so a row is on exactly one page whatever arrives or goes in between.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from appliance.store.database import Reader

FOLLOW = 3

# Flags of item and post rows (schema.sql).
REPOST = 1
REPLY = 2
IMAGES = 4
VIDEO = 8
QUOTE = 16
BREAKS_THREAD_GATE = 32
BREAKS_POST_GATE = 64
AGAIN = 128

TimelineFilter: TypeAlias = Literal["all", "no_reposts", "no_replies", "media"]
AuthorFilter: TypeAlias = Literal["all", "no_replies", "media", "video", "author_threads"]


class Place(NamedTuple):
    """A point in the order of rows."""

    sort_ms: int
    tie: int
    id: int


NEWEST = Place(2**62, 2**62, 2**62)


class Item(NamedTuple):
    """One row of a feed: record ``id`` shows post ``subject``."""

    id: int
    actor: int
    subject: int
    flags: int
    sort_ms: int
    tie: int


# CROSS JOIN pins the plan: each author's newest rows are read from the index and left as soon as they are
# older than the worst of those kept. A viewer who follows himself appears once, and so does what one
# account has reposted twice.
_READ = f"""
SELECT subject AS actor FROM link WHERE kind = {FOLLOW} AND actor = ?1 AND waiting = 0
UNION ALL SELECT ?1 WHERE NOT EXISTS (
  SELECT 1 FROM link WHERE kind = {FOLLOW} AND actor = ?1 AND subject = ?1 AND waiting = 0)
"""
_TIMELINE = f"""
SELECT i.id, i.actor, i.subject, i.flags, i.sort_ms, i.tie
FROM ({_READ}) AS f
CROSS JOIN item AS i INDEXED BY item_of_actor ON i.actor = f.actor
WHERE (i.sort_ms, i.tie, i.id) < (?2, ?3, ?4) AND i.flags & {AGAIN} = 0
ORDER BY i.sort_ms DESC, i.tie DESC, i.id DESC
LIMIT ?5
"""

# Filters stand in the statement, so that a page of what is rare is one statement, too.
_TIMELINE_CONDITIONS: dict[TimelineFilter, str] = {
    "all": "",
    "no_reposts": f"AND i.flags & {REPOST} = 0 ",
    "no_replies": f"AND i.flags & {REPLY | REPOST} <> {REPLY} ",
    "media": f"AND i.flags & {REPOST} = 0 AND i.flags & {IMAGES | VIDEO} <> 0 ",
}
_TIMELINES = {
    name: _TIMELINE.replace("ORDER BY", f"{condition}ORDER BY")
    for name, condition in _TIMELINE_CONDITIONS.items()
}

# The same rows upwards: the nearest newer ones, oldest first.
_NEWER = f"""
SELECT i.id, i.actor, i.subject, i.flags, i.sort_ms, i.tie
FROM ({_READ}) AS f
CROSS JOIN item AS i INDEXED BY item_of_actor ON i.actor = f.actor
WHERE (i.sort_ms, i.tie, i.id) > (?2, ?3, ?4) AND i.flags & {AGAIN} = 0
ORDER BY i.sort_ms, i.tie, i.id
LIMIT ?5
"""

# Posts of whoever is on a list; reposts are not what lists are for.
_ON_LIST = "SELECT subject AS actor FROM link WHERE kind = 6 AND actor = ?1 AND waiting = 0"
_LISTED = _TIMELINE.replace(_READ, _ON_LIST).replace(f"& {AGAIN} = 0", f"& {REPOST} = 0")
_NEWER_LISTED = _NEWER.replace(_READ, _ON_LIST).replace(f"& {AGAIN} = 0", f"& {REPOST} = 0")

# Joined with the post, so that reposts of what is not here don't shorten pages.
_AUTHOR = """
SELECT i.id, i.actor, i.subject, i.flags, i.sort_ms, i.tie
FROM item AS i INDEXED BY item_of_actor
CROSS JOIN post AS s ON s.id = i.subject
WHERE i.actor = ?1 AND (i.sort_ms, i.tie, i.id) < (?2, ?3, ?4){condition}
ORDER BY i.sort_ms DESC, i.tie DESC, i.id DESC
LIMIT ?5
"""

_CONDITIONS: dict[AuthorFilter, str] = {
    "all": "",
    "no_replies": f" AND i.flags & {REPLY | REPOST} <> {REPLY}",
    "media": f" AND i.flags & {IMAGES | REPOST} = {IMAGES}",
    "video": f" AND i.flags & {VIDEO | REPOST} = {VIDEO}",
    "author_threads": f" AND (i.flags & {REPLY | REPOST} <> {REPLY} OR EXISTS ("
    "SELECT 1 FROM post AS p JOIN record AS root ON root.id = p.root"
    " WHERE p.id = i.id AND root.actor = i.actor))",
}
_AUTHOR_FILTERED = {name: _AUTHOR.format(condition=condition) for name, condition in _CONDITIONS.items()}


def timeline_page(
    reader: Reader, viewer: int, before: Place, limit: int, only: TimelineFilter = "all"
) -> list[Item]:
    """Posts and reposts of the viewer and of everybody he follows."""
    return list(map(Item._make, reader.all(_TIMELINES[only], (viewer, *before, limit))))


def newer_timeline_page(reader: Reader, viewer: int, after: Place, limit: int) -> list[Item]:
    """The nearest rows newer than a place, newest first."""
    return list(map(Item._make, reader.all(_NEWER, (viewer, *after, limit))))[::-1]


def list_page(reader: Reader, list_record: int, before: Place, limit: int) -> list[Item]:
    """Posts of everybody on a list."""
    return list(map(Item._make, reader.all(_LISTED, (list_record, *before, limit))))


def newer_list_page(reader: Reader, list_record: int, after: Place, limit: int) -> list[Item]:
    """The nearest posts of those on a list that are newer than a place, newest first."""
    return list(map(Item._make, reader.all(_NEWER_LISTED, (list_record, *after, limit))))[::-1]


def repost_of(reader: Reader, repost: int, post: int) -> Item | None:
    """The row of this repost, if that is the post that it reposts."""
    row = reader.one(
        "SELECT id, actor, subject, flags, sort_ms, tie FROM item"
        f" WHERE id = ? AND subject = ? AND flags & {REPOST}",
        (repost, post),
    )
    return None if row is None else Item._make(row)


def author_page(reader: Reader, actor: int, only: AuthorFilter, before: Place, limit: int) -> list[Item]:
    """Posts and reposts of one account."""
    return list(map(Item._make, reader.all(_AUTHOR_FILTERED[only], (actor, *before, limit))))
