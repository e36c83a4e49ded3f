"""How complete what somebody reads is, account by account, and what proves it.

One rule decides for sums, lists and certificates: the text ``_SHOWN``. It never says more than the rows
do; what a doubt leaves standing is ``proved_us``, the time up to which nothing can be missing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from appliance.store.collections import NSIDS, OF_EVERYBODY
from appliance.store.database import Reader, Row
from appliance.store.repos import STREAM_GAP

FOLLOW: Final = 3

COMPLETE: Final = "complete"
UNTIL: Final = "complete-until"
CATCHING_UP: Final = "catching-up"
WAITING: Final = "waiting"
INACTIVE: Final = "inactive"

# How many rows one look for late arrivals goes through at most: a marker of long ago costs no more.
LATE_LOOKED_AT_MAX: Final = 5_000
DIDS_OF_A_DOUBT_MAX: Final = 50

# A plain subquery, so that SQLite makes one loop of it and the join; the viewer is read beside it.
_FOLLOWED = f"""
(SELECT subject AS actor FROM link INDEXED BY link_by_actor
 WHERE kind = {FOLLOW} AND actor = ?1 AND waiting = 0 AND subject <> ?1)
"""
_SELF = "(SELECT ?1 AS actor)"
_READ = f"(SELECT actor FROM {_FOLLOWED} UNION ALL SELECT ?1)"

# The account's rows are proved: nothing known contradicts the certificate, or the part of it that the
# operator keeps. Rows of ``finding`` that are open are few, or none.
_OPEN = "(SELECT actor FROM finding WHERE outcome = 'open')"
_PROVED = (
    f"r.state = 'LIVE' AND (r.cert_rev IS NOT NULL OR r.window_us IS NOT NULL) AND r.actor NOT IN {_OPEN}"
)
_FINDING_US = (
    "(SELECT min(coalesce(from_us, 0)) FROM finding f WHERE f.actor = r.actor AND f.outcome = 'open')"
)

# What is proved of an account in doubt: up to the earliest thing found wrong, or the beginning of the
# doubt, or, where nobody knows that, up to the certificate. Without a certificate, or with something found
# wrong that has no beginning, nothing is; nor is it while a repeated scan runs.
_PROVED_US = f"""
CASE WHEN r.cert_rev IS NULL OR r.state NOT IN ('LIVE', 'SUSPECT') THEN NULL
  WHEN r.actor IN {_OPEN} THEN nullif(min({_FINDING_US}, coalesce(r.doubt_us, {_FINDING_US})), 0)
  ELSE coalesce(r.doubt_us, r.cert_us) END
"""
_SHOWN = f"""
SELECT w.actor, r.state AS repo_state, r.reason, r.since_us, r.next_at_us, r.attempts,
  CASE WHEN {_PROVED} THEN '{COMPLETE}'
    WHEN r.state IN ('INACTIVE', 'GONE') THEN '{INACTIVE}'
    WHEN r.state = 'WAIT' THEN '{WAITING}'
    WHEN {_PROVED_US} IS NOT NULL THEN '{UNTIL}'
    ELSE '{CATCHING_UP}' END AS shown,
  CASE WHEN {_PROVED} THEN NULL ELSE {_PROVED_US} END AS proved_us,
  r.cert_rev, r.cert_us, r.cert_method, r.cert_digest, r.cert_count,
  coalesce(date(r.window_us / 1000000, 'unixepoch'), '') AS history_since
FROM {{wanted}} AS w LEFT JOIN repo AS r ON r.actor = w.actor
"""
_OF_VIEWER = _SHOWN.format(wanted=_READ)
_OF_ACTOR = _SHOWN.format(wanted=_SELF)

# Nearly all are proved: those are only counted, and the few others looked at.
_COMPLETE = f"""
SELECT count(*), min(cert_us), total(cert_count),
  coalesce(max(date(r.window_us / 1000000, 'unixepoch')), '')
FROM {{wanted}} AS w CROSS JOIN repo AS r ON r.actor = w.actor WHERE {_PROVED}
"""
# The class of a reason is what stands before its first colon.
_REST = f"""
SELECT shown, iif(shown = '{WAITING}', substr(reason, 1, instr(reason || ':', ':') - 1), ''), count(*),
  count(*) - count(proved_us), min(proved_us), min(cert_us),
  min(iif(shown = '{WAITING}', next_at_us, NULL)), total(cert_count), ''
FROM ({_SHOWN} WHERE ({_PROVED}) IS NOT TRUE) GROUP BY 1, 2
"""

_PLAIN = "s.actor, a.did, a.handle, s.shown, coalesce(s.repo_state, 'QUEUED'), coalesce(s.reason, ''),"
_ACCOUNT = (
    f"SELECT {_PLAIN} coalesce(s.since_us, 0), coalesce(s.next_at_us, 0), coalesce(s.attempts, 0),"
    " s.proved_us, coalesce(sc.pages, 0), coalesce(sc.rows, 0),"
    " s.cert_rev, s.cert_us, s.cert_method, s.cert_digest, s.cert_count, s.history_since"
    " FROM ({shown}) AS s JOIN actor a ON a.id = s.actor LEFT JOIN scan sc ON sc.actor = s.actor"
)

_DOUBTS = f"""
SELECT reason, proved_us, count(*), min(since_us), json_group_array(did) FILTER (WHERE place <= ?2)
FROM (SELECT s.reason, s.proved_us, s.since_us, a.did,
        row_number() OVER (PARTITION BY s.reason, s.proved_us ORDER BY s.actor) AS place
      FROM ({_OF_VIEWER}) AS s JOIN actor a ON a.id = s.actor WHERE s.shown = '{UNTIL}')
GROUP BY reason, proved_us ORDER BY proved_us, reason
"""

# What was on top when the marker was given: whatever arrived since and stands below it, a reader who
# goes on upwards from there would never meet. Planned as the timeline is (store/timeline.py).
_TOP = f"""
SELECT i.sort_ms FROM {_READ} AS f CROSS JOIN item AS i INDEXED BY item_of_actor ON i.actor = f.actor
WHERE i.arrival <= ?2 ORDER BY i.sort_ms DESC LIMIT 1
"""
_LATE = f"""
SELECT a.did, a.handle, r.collection, r.rkey, i.sort_ms, r.indexed_us, i.arrival
FROM item AS i INDEXED BY item_by_arrival
JOIN record AS r ON r.id = i.id JOIN actor AS a ON a.id = i.actor
WHERE i.arrival > ?2 AND i.arrival <= ?3 AND i.sort_ms <= ?4
  AND (i.actor = ?1 OR EXISTS (SELECT 1 FROM link WHERE kind = {FOLLOW} AND link.actor = ?1
       AND link.subject = i.actor AND waiting = 0))
ORDER BY i.arrival LIMIT ?5
"""


class Share(NamedTuple):
    """Accounts of which the same can be said. ``reason_class`` is of those that wait; of ``unproved`` ones
    there is no time up to which nothing is missing."""

    shown: str
    reason_class: str
    accounts: int
    unproved: int
    proved_us: int | None
    oldest_check_us: int | None
    next_at_us: int | None
    records: int
    since: str


class Account(NamedTuple):
    """One account: what can be said of it, why, and its certificate. ``pages`` and ``rows`` are of a
    running scan. ``digest`` is None where the certificate belongs to no single rev. ``history_since`` is the
    date before which nothing was read, '' where nothing was left out."""

    actor: int
    did: str
    handle: str | None
    shown: str
    state: str
    reason: str
    since_us: int
    next_at_us: int
    attempts: int
    proved_us: int | None
    pages: int
    rows: int
    rev: str | None
    certified_us: int | None
    method: str | None
    digest: bytes | None
    records: int | None
    history_since: str


class Doubt(NamedTuple):
    """An interval of which something may be missing. ``to_us`` is None while it is not over."""

    reason: str
    from_us: int | None
    to_us: int | None
    accounts: int
    noticed_us: int
    dids: list[str]


class Late(NamedTuple):
    """A row that arrived below what a reader had seen."""

    uri: str
    handle: str | None
    sort_ms: int
    arrived_us: int
    arrival: int


def _share(row: Row) -> Share:
    share = Share(*row)
    return share._replace(records=int(share.records))


def of_viewer(reader: Reader, viewer: int) -> list[Share]:
    """Everybody whom the viewer follows, and the viewer, counted by what can be said of them.

    The same class may come twice: its accounts are to be added up.
    """
    shares = []
    for wanted in (_FOLLOWED, _SELF):
        (accounts,) = reader.all(f"SELECT count(*) FROM {wanted}", (viewer,))[0]
        number, checked_us, records, since = reader.all(_COMPLETE.format(wanted=wanted), (viewer,))[0]
        if number:
            shares.append(Share(COMPLETE, "", number, 0, None, checked_us, None, int(records), since))
        if number < accounts:
            shares += [_share(row) for row in reader.all(_REST.format(wanted=wanted), (viewer,))]
    return shares


def accounts_of_viewer(
    reader: Reader, viewer: int, *, after: int, limit: int, incomplete: bool = False
) -> list[Account]:
    """The same one by one, from the actor number ``after`` on; perhaps those alone that aren't complete."""
    only = f" AND s.shown <> '{COMPLETE}'" if incomplete else ""
    rows = reader.all(
        f"{_ACCOUNT.format(shown=_OF_VIEWER)} WHERE s.actor > ?2{only} ORDER BY s.actor LIMIT ?3",
        (viewer, after, limit),
    )
    return [Account(*row) for row in rows]


def of_actor(reader: Reader, actor: int) -> Account | None:
    """One account; None when it is not tracked."""
    row = reader.one(f"{_ACCOUNT.format(shown=_OF_ACTOR)} WHERE s.repo_state IS NOT NULL", (actor,))
    return None if row is None else Account(*row)


def shown_to_anybody(reader: Reader, actor: int) -> Account | None:
    """The same with digest and number of records of the collections that are read of everybody: those of
    all that is read here would tell who is a member. None when the account is not tracked."""
    found = of_actor(reader, actor)
    row = reader.one("SELECT shown_digest, shown_count FROM repo WHERE actor = ?", (actor,))
    return None if found is None or row is None else found._replace(digest=row[0], records=row[1])


# Of which collections that digest speaks.
SHOWN_COLLECTIONS: Final = sorted(NSIDS[number] for number in OF_EVERYBODY)


def doubts_of_viewer(reader: Reader, viewer: int) -> list[Doubt]:
    """Intervals in doubt among whom the viewer reads, earliest first."""
    open_to_us: int | None = reader.value("SELECT max(to_us) FROM gap WHERE closed_us IS NULL")
    rows = reader.all(_DOUBTS, (viewer, DIDS_OF_A_DOUBT_MAX))
    return [
        # Only a gap of the stream has an end: any other doubt lasts until somebody has looked.
        Doubt(
            reason,
            from_us,
            open_to_us if reason.startswith(STREAM_GAP) else None,
            accounts,
            since_us,
            orjson.loads(dids),
        )
        for reason, from_us, accounts, since_us, dids in rows
    ]


def last_arrival(reader: Reader) -> int:
    """The number of the newest row here."""
    found: int | None = reader.value("SELECT max(arrival) FROM item")
    return found or 0


def late(reader: Reader, viewer: int, since: int, rows_max: int) -> tuple[list[Late], int, bool]:
    """Rows that arrived after the marker below what was on top then, in order of arrival.

    Also the marker to ask with next, and whether there is more to tell at once.
    """
    newest = last_arrival(reader)
    top: int | None = reader.value(_TOP, (viewer, since))
    last = min(newest, since + LATE_LOOKED_AT_MAX)
    if top is None:
        # Nothing was there to read below of.
        return [], newest, False
    found = reader.all(_LATE, (viewer, since, last, top, rows_max + 1))
    rows = [
        Late(f"at://{did}/{NSIDS[collection]}/{rkey}", handle, sort_ms, indexed_us, arrival)
        for did, handle, collection, rkey, sort_ms, indexed_us, arrival in found[:rows_max]
    ]
    if len(found) > rows_max:
        return rows, rows[-1].arrival, True
    return rows, max(last, since), last < newest
