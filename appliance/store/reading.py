"""How far members have read, and what they leave out: markers, filters, rows that came late.

A marker is a place in the order of rows. Forward it moves to whatever is further; anything else is an
explicit wish and gives it a new version, so that a page of before can't undo it.
"""

from __future__ import annotations

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
# What comes in later than this below a marker is not told as late; it stands at its place.
LATE_WINDOW_MS: Final = 30 * 86_400_000
ARRIVALS_LOOKED_AT_MAX: Final = 20_000


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
        lower = min(before.place, place)
        unseen = arrived(tx, viewer, (before.arrival, arrival), _window(lower), lower)
        # A page of before the other device's last move has not shown what came in until that.
        unseen += arrived(tx, viewer, (arrival, before.arrival), before.place, place)
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


# Whom the viewer reads, and since when: the history of a new follow is no late row.
_READ_SINCE = f"""
SELECT subject AS actor, sort_ms AS since FROM link WHERE kind = {FOLLOW} AND actor = ?1 AND waiting = 0
UNION ALL SELECT ?1, {-(2**62)} WHERE NOT EXISTS (
  SELECT 1 FROM link WHERE kind = {FOLLOW} AND actor = ?1 AND subject = ?1 AND waiting = 0)
"""
_COLUMNS = "SELECT i.id, i.actor, i.subject, i.flags, i.sort_ms, i.tie"
_BETWEEN = f"""
  i.arrival > ?2 AND i.arrival <= ?3 AND i.flags & {AGAIN} = 0 AND i.sort_ms >= f.since
  AND (i.sort_ms, i.tie, i.id) > (?4, ?5, ?6) AND (i.sort_ms, i.tie, i.id) <= (?7, ?8, ?9)
ORDER BY i.sort_ms DESC, i.tie DESC, i.id DESC LIMIT {LATE_ROWS_MAX}
"""
# Few arrivals are looked through as they came; many would cost more than what these authors wrote.
_BY_ARRIVAL = f"""
WITH f (actor, since) AS MATERIALIZED ({_READ_SINCE})
{_COLUMNS} FROM item AS i INDEXED BY item_by_arrival CROSS JOIN f ON f.actor = i.actor WHERE {_BETWEEN}
"""
_BY_AUTHOR = f"""
{_COLUMNS} FROM ({_READ_SINCE}) AS f CROSS JOIN item AS i INDEXED BY item_of_actor ON i.actor = f.actor
WHERE {_BETWEEN}
"""


def arrived(reader: Reader, viewer: int, numbers: tuple[int, int], above: Place, upto: Place) -> list[Item]:
    """Rows of home, newest first, between two places, that came in after a number and not after another."""
    after, until = numbers
    few = until - after <= ARRIVALS_LOOKED_AT_MAX
    rows = reader.all(_BY_ARRIVAL if few else _BY_AUTHOR, (viewer, after, until, *above, *upto))
    return [Item._make(row) for row in rows]


def late(reader: Reader, viewer: int, marker: Marker, until: int) -> list[Item]:
    """Rows of home, newest first, that came in below the marker after the reader had passed their place."""
    kept = reader.all(
        f"{_COLUMNS} FROM late_row AS l JOIN item AS i ON i.id = l.item WHERE l.viewer = ?",
        (viewer,),
    )
    found = {row[0]: Item._make(row) for row in kept}
    if marker.place is not None:
        rows = arrived(reader, viewer, (marker.arrival, until), _window(marker.place), marker.place)
        found.update((item.id, item) for item in rows)
    return sorted(found.values(), key=lambda item: (item.sort_ms, item.tie, item.id), reverse=True)


def _window(place: Place) -> Place:
    return Place(place.sort_ms - LATE_WINDOW_MS, 0, 0)


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
