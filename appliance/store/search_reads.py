"""What searches find: posts and starter packs, the newest first, and people."""

from __future__ import annotations

from heapq import nlargest
from typing import NamedTuple

from appliance.store.database import Reader
from appliance.store.timeline import Place

COUNT_MAX = 1000
# So few are asked for by name, the more are looked up of each post that has the words.
AUTHORS_MAX = 64
PEOPLE_LOOKED_AT_MAX = 5000

_LAST = 2**63 - 1


class Wanted(NamedTuple):
    """``match`` is an expression of FTS5, made by ``timeline/search_query.py`` and by nothing else.

    ``following`` and ``timeline`` are viewers: only what those have written whom he follows, or what his home
    timeline shows. ``parent``, ``root`` and ``embeds`` are records of which the posts must hang on one, and
    ``embeds_none`` those on which they must not.
    """

    match: str
    from_ms: int | None = None
    to_ms: int | None = None
    following: int | None = None
    timeline: int | None = None
    parent: int | None = None
    root: int | None = None
    embeds: tuple[int, ...] = ()
    embeds_none: tuple[int, ...] = ()


class Hit(NamedTuple):
    """A record that was found, with its place in the order of searches."""

    id: int
    sort_ms: int
    tie: int


def page(reader: Reader, wanted: Wanted, before: Place, limit: int) -> list[Hit]:
    """What is found below that place, the newest first."""
    upper = _LAST if before.sort_ms >= 1 << 43 else (max(0, before.sort_ms) << 20) + (before.tie >> 40)
    rows = reader.all(*_statement(reader, wanted, min(upper, _LAST), limit))
    return [Hit(record, place >> 20, (place & 0xFFFFF) << 40) for place, record in rows]


def count(reader: Reader, wanted: Wanted) -> int | None:
    """How many are found, but no more than COUNT_MAX are counted. None where that would mean to look at
    everything that has the words."""
    if wanted.timeline is not None:
        return None
    if wanted.following is not None and _few_followed(reader, wanted.following) is None:
        return None
    sql, parameters = _statement(reader, wanted, _LAST, COUNT_MAX)
    found: int = reader.value(f"SELECT count(*) FROM ({sql})", parameters)
    return found


class Liked(NamedTuple):
    """A post that was found, with what people did with it."""

    id: int
    made_ms: int
    likes: int
    reposts: int
    replies: int
    quotes: int


def newest_with_counts(reader: Reader, wanted: Wanted, limit: int) -> list[Liked]:
    """The newest that are found, with their numbers."""
    sql, parameters = _statement(reader, wanted, _LAST, limit)
    rows = reader.all(
        "SELECT found.record, found.place >> 20, coalesce(c.likes, 0), coalesce(c.reposts, 0),"
        f" coalesce(c.replies, 0), coalesce(c.quotes, 0) FROM ({sql}) AS found"
        " LEFT JOIN post_count c ON c.id = found.record",
        parameters,
    )
    return list(map(Liked._make, rows))


def _statement(reader: Reader, wanted: Wanted, upper: int, limit: int) -> tuple[str, list[object]]:
    match, more, parameters = wanted.match, "", []
    lower = -1 if wanted.from_ms is None else _bound(wanted.from_ms)
    if wanted.to_ms is not None:
        upper = min(upper, _bound(wanted.to_ms))
    if wanted.following is not None:
        few = _few_followed(reader, wanted.following)
        if few is None:
            more += (
                " AND EXISTS (SELECT 1 FROM record r CROSS JOIN link l INDEXED BY link_pair ON l.kind = 3"
                " AND l.actor = ? AND l.subject = r.actor AND l.waiting = 0 WHERE r.id = m.record)"
            )
            parameters.append(wanted.following)
        else:
            # Nobody has the number 0.
            match = f"({match}) AND facts : ({' OR '.join(f'a{each}' for each in few or [0])})"
    if wanted.timeline is not None:
        more += _IN_TIMELINE
        parameters += [wanted.timeline] * 3
    for record, column in ((wanted.parent, "parent"), (wanted.root, "root")):
        if record is not None:
            more += (
                " AND s.rowid IN (SELECT o.place FROM post p JOIN searched o ON o.record = p.id"
                f" WHERE p.{column} = ?)"
            )
            parameters.append(record)
    for records, word in ((wanted.embeds, "IN"), (wanted.embeds_none, "NOT IN")):
        if records:
            marks = ",".join("?" * len(records))
            more += (
                f" AND s.rowid {word} (SELECT o.place FROM post p JOIN searched o ON o.record = p.id"
                f" WHERE p.quote IN ({marks}))"
            )
            parameters += records
    sql = (
        "SELECT s.rowid AS place, m.record AS record FROM search s CROSS JOIN searched m ON m.place = s.rowid"
        f" WHERE search MATCH ? AND s.rowid < ? AND s.rowid >= ?{more} ORDER BY s.rowid DESC LIMIT ?"
    )
    return sql, [match, upper, lower, *parameters, limit]


# What he wrote, what those wrote whom he follows, and what they reposted.
_IN_TIMELINE = (
    " AND EXISTS (SELECT 1 FROM record r WHERE r.id = m.record AND (r.actor = ?"
    " OR EXISTS (SELECT 1 FROM link l INDEXED BY link_pair WHERE l.kind = 3 AND l.actor = ?"
    "  AND l.subject = r.actor AND l.waiting = 0)"
    " OR EXISTS (SELECT 1 FROM item i CROSS JOIN link l INDEXED BY link_pair ON l.kind = 3 AND l.actor = ?"
    "  AND l.subject = i.actor AND l.waiting = 0 WHERE i.subject = m.record AND i.flags & 1)))"
)


def _bound(ms: int) -> int:
    return min(max(0, ms), (1 << 43) - 1) << 20


def _few_followed(reader: Reader, viewer: int) -> list[int] | None:
    rows = reader.all(
        "SELECT subject FROM link INDEXED BY link_pair WHERE kind = 3 AND actor = ? AND waiting = 0 LIMIT ?",
        (viewer, AUTHORS_MAX + 1),
    )
    return None if len(rows) > AUTHORS_MAX else [row[0] for row in rows]


class Person(NamedTuple):
    """Somebody who was found. The order is ``sort_ms`` (how many digits the number of followers has, in
    binary: it seldom changes), then the number of the account."""

    id: int
    sort_ms: int
    tie: int


def people(reader: Reader, match: str, before: Place, limit: int) -> list[Person]:
    """Those with the most followers first."""
    rows = reader.all(
        "SELECT found.rowid, coalesce(c.followers, 0)"
        " FROM (SELECT rowid FROM person_search WHERE person_search MATCH ? LIMIT ?) AS found"
        " LEFT JOIN actor_count c ON c.actor = found.rowid",
        (match, PEOPLE_LOOKED_AT_MAX),
    )
    keys = [(followers.bit_length(), actor) for actor, followers in rows]
    place = (before.sort_ms, before.tie)
    return [Person(actor, size, actor) for size, actor in nlargest(limit, (k for k in keys if k < place))]


def followed_people(reader: Reader, viewer: int, match: str, limit: int) -> list[int]:
    """Those of them whom the viewer follows."""
    rows = reader.all(
        "SELECT found.rowid"
        " FROM (SELECT rowid FROM person_search WHERE person_search MATCH ? LIMIT ?) AS found"
        " CROSS JOIN link l INDEXED BY link_pair ON l.kind = 3 AND l.actor = ? AND l.subject = found.rowid"
        " AND l.waiting = 0 LIMIT ?",
        (match, PEOPLE_LOOKED_AT_MAX, viewer, limit),
    )
    return [row[0] for row in rows]
