"""Posts and other records as pages show them: batches by id, and how posts hang together."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.batches import batches, text_batches
from appliance.store.database import Reader

LIKE = 1
REPOST_LINK = 2

MENTIONED = 0
LIVING = 1


class RecordRow(NamedTuple):
    """A record key, and what hangs on it when it is a living post (``flags`` is not None)."""

    id: int
    actor: int
    rkey: str
    state: int
    cid: str | None
    takedown: str | None
    root: int | None
    parent: int | None
    quote: int | None
    flags: int | None
    likes: int | None
    reposts: int | None
    replies: int | None
    quotes: int | None
    bookmarks: int | None


_RECORD_COLUMNS = """
SELECT r.id, r.actor, r.rkey, r.state, r.cid, r.takedown,
       p.root, p.parent, p.quote, p.flags,
       c.likes, c.reposts, c.replies, c.quotes, c.bookmarks
FROM record AS r
LEFT JOIN post AS p ON p.id = r.id
LEFT JOIN post_count AS c ON c.id = r.id
"""


def records(reader: Reader, ids: Collection[int]) -> list[RecordRow]:
    """These records, in no order; unknown ids are left out."""
    rows: list[RecordRow] = []
    for marks, part in batches(ids):
        rows.extend(map(RecordRow._make, reader.all(f"{_RECORD_COLUMNS} WHERE r.id IN ({marks})", part)))
    return rows


class Body(NamedTuple):
    """What a record says, and its times: its place in lists, and when this version was seen."""

    json: bytes
    sort_ms: int
    indexed_ms: int


def bodies(reader: Reader, ids: Collection[int]) -> dict[int, Body]:
    """Of living records."""
    found: dict[int, Body] = {}
    for marks, part in batches(ids):
        rows = reader.all(
            "SELECT id, body, sort_ms, indexed_us / 1000 FROM record"
            f" WHERE id IN ({marks}) AND body IS NOT NULL",
            part,
        )
        found.update((row[0], Body(*row[1:])) for row in rows)
    return found


def find_record(reader: Reader, actor: int, collection: int, rkey: str) -> int | None:
    """The id of a record key, living or not."""
    found: int | None = reader.value(
        "SELECT id FROM record WHERE actor = ? AND collection = ? AND rkey = ?", (actor, collection, rkey)
    )
    return found


def viewer_marks(reader: Reader, viewer: int, posts: Collection[int]) -> list[tuple[int, int, str]]:
    """(kind, post, record key) of the viewer's likes and reposts of these posts."""
    found: list[tuple[int, int, str]] = []
    for marks, part in batches(posts):
        found.extend(
            reader.all(
                "SELECT l.kind, l.subject, r.rkey FROM link AS l CROSS JOIN record AS r ON r.id = l.id"
                f" WHERE l.kind IN ({LIKE}, {REPOST_LINK}) AND l.actor = ? AND l.waiting = 0"
                f" AND l.subject IN ({marks})",
                [viewer, *part],
            )
        )
    return found


def bookmarked(reader: Reader, viewer: int, posts: Collection[int]) -> set[int]:
    """Those of the posts that the viewer keeps."""
    found: set[int] = set()
    if reader.value("SELECT 1 FROM bookmark WHERE viewer = ? LIMIT 1", (viewer,)) is None:
        return found
    for marks, part in batches(posts):
        rows = reader.all(
            f"SELECT post FROM bookmark WHERE viewer = ? AND post IN ({marks})", [viewer, *part]
        )
        found.update(row[0] for row in rows)
    return found


def likes_of(reader: Reader, pairs: Collection[tuple[int, int]]) -> dict[int, str]:
    """For (actor, post) pairs: post to the record key of that actor's like."""
    by_actor: dict[int, list[int]] = {}
    for actor, post in pairs:
        by_actor.setdefault(actor, []).append(post)
    found: dict[int, str] = {}
    for actor, posts in by_actor.items():
        for marks, part in batches(posts):
            rows = reader.all(
                "SELECT l.subject, r.rkey FROM link AS l CROSS JOIN record AS r ON r.id = l.id"
                f" WHERE l.kind = {LIKE} AND l.actor = ? AND l.waiting = 0 AND l.subject IN ({marks})",
                [actor, *part],
            )
            found.update(rows)
    return found


def above(reader: Reader, post: int, height: int) -> list[int]:
    """Ids from the post's parent upwards; ends where a post is not here, or after ``height``."""
    rows = reader.all(
        "WITH RECURSIVE up (id, level) AS ("
        " SELECT parent, 1 FROM post WHERE id = ?1 AND parent IS NOT NULL AND ?2 > 0"
        " UNION ALL SELECT p.parent, up.level + 1 FROM up CROSS JOIN post AS p ON p.id = up.id"
        " WHERE p.parent IS NOT NULL AND up.level < ?2)"
        " SELECT id FROM up ORDER BY level",
        (post, height),
    )
    return [row[0] for row in rows]


def missing_above(reader: Reader, post: int, height: int) -> int | None:
    """The first post upwards of which only the name is here; the post itself may be it."""
    up = [post, *above(reader, post, height)]
    return up[-1] if reader.value("SELECT state FROM record WHERE id = ?", (up[-1],)) == MENTIONED else None


def below(reader: Reader, post: int, depth: int, limit: int) -> list[tuple[int, int]]:
    """(id, parent) of replies down to ``depth``, the nearest ``limit``, newest first below each parent."""
    rows: list[tuple[int, int]] = reader.all(
        "WITH RECURSIVE down (id, parent, level) AS ("
        " SELECT ?1, NULL, 0"
        " UNION ALL SELECT p.id, p.parent, down.level + 1 FROM down"
        " CROSS JOIN post AS p ON p.parent = down.id WHERE down.level < ?2 LIMIT ?3)"
        " SELECT p.id, p.parent FROM down CROSS JOIN post AS p ON p.id = down.id WHERE down.level > 0"
        " ORDER BY p.sort_ms DESC, p.tie DESC, p.id DESC",
        (post, depth, limit + 1),
    )
    return rows


class LabelRow(NamedTuple):
    """A labeler's word about an address."""

    src: str
    uri: str
    val: str
    cid: str
    cts: str
    exp: str | None


def has_labels(reader: Reader) -> bool:
    """Whether there is any label at all."""
    return reader.value("SELECT 1 FROM label LIMIT 1") is not None


def labels(reader: Reader, uris: Collection[str], sources: Collection[str]) -> list[LabelRow]:
    """What these labelers say about these addresses and have not taken back, by address."""
    rows: list[LabelRow] = []
    wanted = frozenset(sources)
    for marks, part in text_batches(uris):
        found = reader.all(
            f"SELECT src, uri, val, cid, cts, exp FROM label WHERE uri IN ({marks}) AND neg = 0", part
        )
        rows.extend(LabelRow(*row) for row in found if row[0] in wanted)
    return rows
