"""How far members have read, and what they leave out: markers, filters, rows that came late.

A marker is a place in the order of rows. Forward it moves to whatever is further; anything else is an
explicit wish and gives it a new version, so that a page of before can't undo it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from appliance.store.database import Reader, Transaction
from appliance.store.timeline import AGAIN, FOLLOW, Item, Place

HOME: Final = ""

# What may be left out: bits of reading.hide and account_filter.hide.
REPOSTS: Final = 1
REPLIES: Final = 2
REPLIES_TO_STRANGERS: Final = 4
QUOTES: Final = 8
ALL_BUT_MEDIA: Final = 16
OWN_REPOSTS: Final = 32
EVERYTHING: Final = 63

LATE_ROWS_MAX: Final = 1000


class Marker(NamedTuple):
    """A timeline's row of this table. ``place`` is None before the first mark."""

    place: Place | None
    moved_us: int
    device: str
    version: int
    was: Place | None
    arrival: int
    hide: int
    oldest_first: bool


UNREAD: Final = Marker(None, 0, "", 0, None, 0, 0, False)


def find(reader: Reader, viewer: int, timeline: str) -> Marker:
    """Where the member stands in it; nowhere yet for who never marked."""
    row = reader.one(
        "SELECT sort_ms, tie, item, moved_us, device, version, was_ms, was_tie, was_item, arrival, hide,"
        " oldest_first FROM reading WHERE viewer = ? AND timeline = ?",
        (viewer, timeline),
    )
    if row is None:
        return UNREAD
    return Marker(
        None if row[0] is None else Place(*row[:3]),
        row[3] or 0,
        row[4],
        row[5],
        None if row[6] is None else Place(*row[6:9]),
        row[9],
        row[10],
        bool(row[11]),
    )


def move(
    tx: Transaction,
    viewer: int,
    timeline: str,
    place: Place,
    *,
    version: int,
    arrival: int,
    exactly: bool,
    device: str,
    now_us: int,
) -> bool:
    """Read up to here; ``arrival`` is that of the page that was read. Whether it was moved.

    Forward only, and not from a page that knows an older version; ``exactly`` moves it wherever the
    reader wants it.
    """
    before = find(tx, viewer, timeline)
    if not exactly and (version != before.version or (before.place is not None and before.place >= place)):
        return False
    if before.place is None:
        # Who marks for the first time has not missed what came before.
        before = before._replace(arrival=arrival)
    elif timeline == HOME:
        tx.run(_KEEP_LATE, (viewer, before.arrival, arrival, *min(before.place, place), LATE_ROWS_MAX))
        # A page of before the other device's last move has not shown what came in until that.
        unseen = arrived_between(tx, viewer, (arrival, before.arrival), before.place, place)
        for item in unseen:
            tx.run(
                "INSERT INTO late_row (viewer, item) VALUES (?, ?) ON CONFLICT DO NOTHING", (viewer, item.id)
            )
    _ensure(tx, viewer, timeline)
    was = before.place or (None, None, None)
    tx.run(
        "UPDATE reading SET sort_ms = ?3, tie = ?4, item = ?5, was_ms = ?6, was_tie = ?7, was_item = ?8,"
        " version = version + ?9, arrival = max(arrival, ?10), moved_us = ?11, device = ?12"
        " WHERE viewer = ?1 AND timeline = ?2",
        (viewer, timeline, *place, *was, int(exactly), arrival, now_us, device),
    )
    return True


def undo(tx: Transaction, viewer: int, timeline: str, *, device: str, now_us: int) -> bool:
    """The last move, once; a second time it is made again."""
    return bool(
        tx.run(
            "UPDATE reading SET sort_ms = was_ms, tie = was_tie, item = was_item,"
            " was_ms = sort_ms, was_tie = tie, was_item = item,"
            " version = version + 1, moved_us = ?3, device = ?4"
            " WHERE viewer = ?1 AND timeline = ?2 AND was_ms IS NOT NULL",
            (viewer, timeline, now_us, device),
        )
    )


def choose(tx: Transaction, viewer: int, timeline: str, *, hide: int, oldest_first: bool) -> None:
    """What of a timeline is left out, and where it begins."""
    _ensure(tx, viewer, timeline)
    tx.run(
        "UPDATE reading SET hide = ?, oldest_first = ? WHERE viewer = ? AND timeline = ?",
        (hide & EVERYTHING, int(oldest_first), viewer, timeline),
    )


def filter_account(tx: Transaction, viewer: int, subject: int, hide: int) -> None:
    """What of an account is left out of every timeline; 0 is nothing."""
    if hide & EVERYTHING:
        tx.run(
            "INSERT INTO account_filter (viewer, subject, hide) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (viewer, subject) DO UPDATE SET hide = ?3",
            (viewer, subject, hide & EVERYTHING),
        )
    else:
        tx.run("DELETE FROM account_filter WHERE viewer = ? AND subject = ?", (viewer, subject))


def account_filters(reader: Reader, viewer: int) -> dict[int, int]:
    """By account: what is left out of it."""
    return dict(reader.all("SELECT subject, hide FROM account_filter WHERE viewer = ?", (viewer,)))


def arrivals(reader: Reader, ids: Collection[int]) -> dict[int, int]:
    """By row: its number of arrival."""
    marks = ",".join("?" * len(ids))
    return dict(reader.all(f"SELECT id, arrival FROM item WHERE id IN ({marks})", tuple(ids)))


# Of whom the viewer follows, what was written since he does: the history of a new follow is no late row.
_ARRIVED = f"""
SELECT i.id, i.actor, i.subject, i.flags, i.sort_ms, i.tie
FROM item AS i INDEXED BY item_by_arrival
WHERE i.arrival > ?2 AND i.arrival <= ?3 AND i.flags & {AGAIN} = 0
  AND (i.actor = ?1 OR EXISTS (SELECT 1 FROM link AS f WHERE f.kind = {FOLLOW} AND f.actor = ?1
       AND f.subject = i.actor AND f.waiting = 0 AND f.sort_ms <= i.sort_ms))
"""
_ARRIVED_BELOW = f"{_ARRIVED}  AND (i.sort_ms, i.tie, i.id) <= (?4, ?5, ?6) ORDER BY i.arrival LIMIT ?7"
_KEEP_LATE = f"""
INSERT INTO late_row (viewer, item) SELECT ?1, id FROM ({_ARRIVED_BELOW}) WHERE true ON CONFLICT DO NOTHING
"""


def arrived_between(
    reader: Reader, viewer: int, arrival: tuple[int, int], above: Place, upto: Place
) -> list[Item]:
    """Rows of home, newest first, between two places, that came in between two numbers of arrival."""
    rows = reader.all(
        f"{_ARRIVED}  AND (i.sort_ms, i.tie, i.id) <= (?4, ?5, ?6)"
        " AND (i.sort_ms, i.tie, i.id) > (?7, ?8, ?9)"
        " ORDER BY i.sort_ms DESC, i.tie DESC, i.id DESC LIMIT ?10",
        (viewer, *arrival, *upto, *above, LATE_ROWS_MAX),
    )
    return [Item._make(row) for row in rows]


def late(reader: Reader, viewer: int, marker: Marker, until: int) -> list[Item]:
    """Rows of home, newest first, that came in below the marker after the reader had passed their place."""
    kept = reader.all(
        "SELECT i.id, i.actor, i.subject, i.flags, i.sort_ms, i.tie"
        " FROM late_row AS l JOIN item AS i ON i.id = l.item WHERE l.viewer = ?",
        (viewer,),
    )
    found = {row[0]: Item._make(row) for row in kept}
    if marker.place is not None:
        rows = reader.all(_ARRIVED_BELOW, (viewer, marker.arrival, until, *marker.place, LATE_ROWS_MAX))
        found.update((row[0], Item._make(row)) for row in rows)
    return sorted(found.values(), key=lambda item: (item.sort_ms, item.tie, item.id), reverse=True)


def late_seen(tx: Transaction, viewer: int, until: int) -> None:
    """All of these were looked at."""
    tx.run("DELETE FROM late_row WHERE viewer = ?", (viewer,))
    tx.run(
        "UPDATE reading SET arrival = max(arrival, ?) WHERE viewer = ? AND timeline = ''",
        (until, viewer),
    )


def _ensure(tx: Transaction, viewer: int, timeline: str) -> None:
    tx.run(
        "INSERT INTO reading (viewer, timeline) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (viewer, timeline),
    )
