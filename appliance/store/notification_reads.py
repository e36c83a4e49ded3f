"""A member's notifications as pages list and count them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.database import Reader
from appliance.store.timeline import Place


class Kept(NamedTuple):
    """How far a member has seen (None: never), and what he wants."""

    seen_ms: int | None
    priority: bool
    preferences: str


class Wanted(NamedTuple):
    """Numbers of reasons: those told of anybody, and those told of whom the member follows only."""

    of_all: Collection[int]
    of_followed: Collection[int]


class Told(NamedTuple):
    """One notification. The place in the list is (``sort_ms``, ``tie``: the cause's id, ``id``: the reason).

    ``cid`` and ``body`` are None where the cause is gone, as it is where a verification ended.
    """

    sort_ms: int
    tie: int
    id: int
    author: int
    author_did: str
    collection: int
    rkey: str
    cid: str | None
    body: bytes | None
    takedown: str | None
    subject_did: str | None
    subject_collection: int | None
    subject_rkey: str | None


def state(reader: Reader, viewer: int) -> Kept:
    """What is kept of the member, or the beginning."""
    row = reader.one(
        "SELECT seen_ms, priority, preferences FROM notification_state WHERE viewer = ?", (viewer,)
    )
    return Kept(None, False, "{}") if row is None else Kept(row[0], bool(row[1]), row[2])


_FOLLOWED = (
    "EXISTS (SELECT 1 FROM link l WHERE l.kind = 3 AND l.actor = n.viewer AND l.subject = n.author"
    " AND l.waiting = 0)"
)


def _wanted(wanted: Wanted, *, priority: bool) -> str:
    of_all, of_followed = (",".join(str(int(reason)) for reason in sorted(part)) for part in wanted)
    if priority:
        both = ",".join(part for part in (of_all, of_followed) if part)
        return f"n.reason IN ({both}) AND {_FOLLOWED}"
    return f"(n.reason IN ({of_all}) OR (n.reason IN ({of_followed}) AND {_FOLLOWED}))"


_TOLD = (
    "SELECT n.sort_ms, n.record, n.reason, n.author, a.did, r.collection, r.rkey, r.cid, r.body,"
    " r.takedown, o.did, s.collection, s.rkey FROM notification n"
    " CROSS JOIN record r ON r.id = n.record CROSS JOIN actor a ON a.id = n.author"
    " LEFT JOIN record s ON s.id = n.subject LEFT JOIN actor o ON o.id = s.actor"
)


def told(
    reader: Reader, viewer: int, wanted: Wanted, before: Place, limit: int, *, priority: bool
) -> list[Told]:
    """The member's notifications below that place, the latest first, without those of what is gone."""
    rows = reader.all(
        f"{_TOLD} WHERE n.viewer = ?1 AND (n.sort_ms, n.record, n.reason) < (?2, ?3, ?4)"
        f" AND {_wanted(wanted, priority=priority)} AND (n.subject IS NULL OR s.state = 1)"
        " ORDER BY n.sort_ms DESC, n.record DESC, n.reason DESC LIMIT ?5",
        (viewer, *before, limit),
    )
    return list(map(Told._make, rows))


def unread(reader: Reader, viewer: int, wanted: Wanted, seen_ms: int | None) -> int:
    """How many came after what was seen last. Who is blocked or muted counts, but not who is deleted."""
    since = -(2**62) if seen_ms is None else seen_ms
    number: int = reader.value(
        "SELECT count(*) FROM notification n WHERE n.viewer = ? AND n.sort_ms > ?"
        f" AND {_wanted(wanted, priority=False)}"
        " AND n.author NOT IN (SELECT id FROM actor INDEXED BY actor_deleted WHERE status = 'deleted')",
        (viewer, since),
    )
    return number


def still_told(
    reader: Reader, viewer: int, wanted: Wanted, causes: Collection[tuple[int, int]]
) -> list[Told]:
    """Those of these (record, reason) of which the member is told and wants to be, the latest first."""
    found: list[Told] = []
    for record, reason in causes:
        rows = reader.all(
            f"{_TOLD} WHERE n.record = ?1 AND n.viewer = ?2 AND n.reason = ?3"
            f" AND {_wanted(wanted, priority=False)} AND (n.subject IS NULL OR s.state = 1)",
            (record, viewer, reason),
        )
        found += map(Told._make, rows)
    return sorted(found, key=lambda row: row[:3], reverse=True)
