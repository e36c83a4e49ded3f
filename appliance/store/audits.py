"""When each account is due to be compared with its own PDS, and what those comparisons said.

What they found is in ``findings``; what they may write into a certificate is in backfill/verdicts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias, cast, get_args

import orjson

from appliance.protocol import syntax, tid
from appliance.store import findings, repos
from appliance.store.database import Reader, Transaction

Level: TypeAlias = Literal["rev", "tail", "listing", "signed"]
Outcome: TypeAlias = Literal["equal", "undecided", "differs", "failed"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
# How often a LIVE account is compared by itself. The newest page is asked for when the rev leaves it open,
# and of members, whose follows decide what others are tracked, every day.
PERIOD_US: Final[Mapping[Level, int]] = {
    "rev": 6 * HOUR_US,
    "tail": DAY_US,
    "listing": 7 * DAY_US,
    "signed": 30 * DAY_US,
}
NEVER_US: Final = 1 << 62
# One that waits for this part of its period beyond it shows that the auditor is off or can't keep up.
OVERDUE_PART: Final = 0.5
_CANARIES: Final = "canaries"


class Due(NamedTuple):
    """An account to compare, how, and where it lives."""

    actor: int
    did: str
    pds: str | None
    member: bool
    level: Level


class Verdict(NamedTuple):
    """What the last comparison at a level said."""

    due_us: int
    at_us: int | None
    outcome: str
    rev: str | None


def find(reader: Reader, actor: int, level: Level) -> Verdict | None:
    """The schedule and last verdict; None before the account was planned for."""
    row = reader.one(
        "SELECT due_us, at_us, outcome, rev FROM audit WHERE actor = ? AND level = ?", (actor, level)
    )
    return None if row is None else Verdict(*row)


def plan(tx: Transaction, now_us: int) -> int:
    """Give every LIVE account a time for each level, spread over the period; forget who is not tracked.

    How many times were given. The newest page of a non-member has no time of its own.
    """
    made = 0
    for level in LEVELS:
        made += tx.run(
            "INSERT INTO audit (actor, level, due_us)"
            " SELECT r.actor, ?1, iif(?1 = 'tail' AND NOT EXISTS (SELECT 1 FROM member m"
            " WHERE m.actor = r.actor), ?4, ?2 + abs(random() % ?3)) FROM repo r WHERE r.state = 'LIVE'"
            " AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.actor = r.actor AND a.level = ?1)",
            (level, now_us, PERIOD_US[level], NEVER_US),
        )
    tx.run("DELETE FROM audit WHERE actor NOT IN (SELECT actor FROM repo)")
    # A member's follows decide what others are tracked.
    tx.run(
        "UPDATE audit SET due_us = ?1 + ?2 / 2 + abs(random() % ?2) / 2 WHERE level = 'tail' AND due_us = ?3"
        " AND actor IN (SELECT actor FROM member)",
        (now_us, PERIOD_US["tail"], NEVER_US),
    )
    return made


def judged(
    tx: Transaction, actor: int, level: Level, outcome: Outcome, rev: str | None, due_us: int, now_us: int
) -> None:
    """Write down a verdict, or that there was none, and when to look again."""
    at_us = None if outcome == "failed" else now_us
    tx.run(
        "INSERT INTO audit (actor, level, due_us, at_us, outcome, rev) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        " ON CONFLICT (actor, level) DO UPDATE SET due_us = ?3, at_us = coalesce(?4, at_us), outcome = ?5,"
        " rev = coalesce(?6, rev)",
        (actor, level, due_us, at_us, outcome, rev),
    )


def hasten(tx: Transaction, actors: Iterable[int], level: Level, due_us: int) -> int:
    """Not later than then; how many were later."""
    return tx.run(
        "INSERT INTO audit (actor, level, due_us)"
        " SELECT r.actor, ?1, ?2 FROM json_each(?3) j JOIN repo r ON r.actor = j.value WHERE true"
        " ON CONFLICT (actor, level) DO UPDATE SET due_us = ?2 WHERE due_us > ?2",
        (level, due_us, orjson.dumps(list(actors)).decode()),
    )


def hasten_dids(tx: Transaction, dids: Iterable[str], level: Level, due_us: int) -> int:
    """The same by DID."""
    text = orjson.dumps(list(dids)).decode()
    rows = tx.all("SELECT id FROM actor WHERE did IN (SELECT value FROM json_each(?))", (text,))
    return hasten(tx, [row[0] for row in rows], level, due_us)


def draw(tx: Transaction, level: Level, part: float, now_us: int) -> int:
    """Have this part of all accounts, drawn at random, compared now at that level; how many."""
    return tx.run(
        "UPDATE audit SET due_us = ?2 WHERE level = ?1 AND due_us > ?2 AND abs(random() % 1000000) < ?3",
        (level, now_us, round(part * 1_000_000)),
    )


def lift_read(tx: Transaction, viewers: Iterable[str], stale_us: int, priority: int, now_us: int) -> int:
    """Somebody reads these timelines now: what they show and nobody has looked at lately comes first."""
    text = orjson.dumps(list(viewers)).decode()
    shown = (
        "(SELECT l.subject FROM json_each(?1) j JOIN actor a ON a.did = j.value"
        " JOIN link l ON l.actor = a.id AND l.kind = 3 AND l.waiting = 0)"
    )
    tx.run(
        f"UPDATE repo SET priority = ?2 WHERE actor IN {shown} AND priority < ?2"
        " AND state IN ('QUEUED', 'WAIT', 'SUSPECT')",
        (text, priority),
    )
    return tx.run(
        f"UPDATE audit SET due_us = ?2 WHERE level = 'rev' AND due_us > ?2 AND actor IN {shown}"
        " AND (at_us IS NULL OR at_us < ?3)",
        (text, now_us, stale_us),
    )


_DUE = """
WITH waiting AS (
  SELECT u.actor, u.level, u.due_us
    + CASE u.level WHEN 'listing' THEN ?7 WHEN 'signed' THEN 7 * ?7 ELSE 0 END AS turn
  FROM audit u JOIN repo r ON r.actor = u.actor
  WHERE u.due_us <= ?1 AND r.state = 'LIVE' AND r.refs > 0 AND u.level <> ?6
), ranked AS (
  SELECT w.*, a.did, a.pds, row_number() OVER (PARTITION BY a.pds ORDER BY w.turn, w.actor) AS place
  FROM waiting w JOIN actor a ON a.id = w.actor
  WHERE (a.pds IS NULL OR a.pds NOT IN (SELECT value FROM json_each(?2)))
    AND w.actor NOT IN (SELECT value FROM json_each(?3))
)
SELECT k.actor, k.did, k.pds, EXISTS (SELECT 1 FROM member m WHERE m.actor = k.actor), k.level
FROM ranked k WHERE k.place <= ?4 ORDER BY k.place, k.turn LIMIT ?5
"""


def due(
    reader: Reader,
    now_us: int,
    hosts_busy: Iterable[str],
    actors_busy: Iterable[int],
    per_host: int,
    rows_max: int,
    *,
    but: Level | Literal[""] = "",
) -> list[Due]:
    """What is to be compared now, host by host in turn; longer comparisons give way to short ones for a
    day, not for ever. ``but`` leaves out one level."""
    rows = reader.all(
        _DUE,
        (
            now_us,
            orjson.dumps(list(hosts_busy)).decode(),
            orjson.dumps(list(actors_busy)).decode(),
            per_host,
            rows_max,
            but,
            DAY_US,
        ),
    )
    return [Due(actor, did, pds, bool(member), level) for actor, did, pds, member, level in rows]


class OnHost(NamedTuple):
    """An account of a host whose rev may be compared."""

    actor: int
    did: str


def many_on_one_host(reader: Reader, now_us: int, soon_us: int, number_min: int) -> list[tuple[str, int]]:
    """(host, how many) where one account's rev is to be looked at now and so many by then, the most first."""
    rows: list[tuple[str, int]] = reader.all(
        "SELECT pds, count(*) AS number FROM ("
        " SELECT a.pds, u.due_us FROM audit u JOIN repo r ON r.actor = u.actor JOIN actor a ON a.id = r.actor"
        "  WHERE u.level = 'rev' AND u.due_us <= ?4 AND r.state = 'LIVE' AND r.refs > 0"
        " UNION ALL SELECT a.pds, r.next_at_us FROM repo r JOIN actor a ON a.id = r.actor"
        "  WHERE r.state = 'SUSPECT' AND r.next_at_us <= ?1 AND r.refs > 0"
        "  AND substr(r.reason, 1, length(?3)) = ?3"
        ") WHERE pds IS NOT NULL GROUP BY pds HAVING count(*) >= ?2 AND min(due_us) <= ?1"
        " ORDER BY number DESC",
        (now_us, number_min, repos.STREAM_GAP, soon_us),
    )
    return rows


def on_host(reader: Reader, pds: str, due_before_us: int, now_us: int) -> list[OnHost]:
    """Accounts there whose rev is due by then, and those that a gap made SUSPECT."""
    rows = reader.all(
        "SELECT r.actor, a.did FROM actor a JOIN repo r ON r.actor = a.id"
        " LEFT JOIN audit u ON u.actor = r.actor AND u.level = 'rev'"
        " WHERE a.pds = ?1 AND r.refs > 0 AND ((r.state = 'LIVE' AND coalesce(u.due_us, 0) <= ?2)"
        " OR (r.state = 'SUSPECT' AND r.next_at_us <= ?3 AND substr(r.reason, 1, length(?4)) = ?4))",
        (pds, due_before_us, now_us, repos.STREAM_GAP),
    )
    return [OnHost(*row) for row in rows]


class Account(NamedTuple):
    """A tracked account, for who asks about it by name."""

    actor: int
    did: str
    handle: str | None
    pds: str | None
    member: bool
    state: str


def of_dids(reader: Reader, dids: Iterable[str] | None) -> list[Account]:
    """Tracked accounts of these DIDs, or all of them, in an order that spreads hosts."""
    text = None if dids is None else orjson.dumps(list(dids)).decode()
    rows = reader.all(
        "SELECT r.actor, a.did, a.handle, a.pds, EXISTS (SELECT 1 FROM member m WHERE m.actor = r.actor),"
        " r.state FROM repo r JOIN actor a ON a.id = r.actor"
        " WHERE r.refs > 0 AND (?1 IS NULL OR a.did IN (SELECT value FROM json_each(?1)))"
        " ORDER BY row_number() OVER (PARTITION BY a.pds ORDER BY r.actor), a.pds",
        (text,),
    )
    return [
        Account(actor, did, handle, pds, bool(member), state)
        for actor, did, handle, pds, member, state in rows
    ]


def misses_since(reader: Reader, upstream: str, since_us: int) -> list[tuple[int, int]]:
    """(actor, from_us): accounts of which this upstream did not deliver something that was found after
    ``since_us``, and the upstream time since which an account's last audit vouches for nothing."""
    rows: list[tuple[int, int]] = reader.all(
        "SELECT actor, min(coalesce(from_us, 0)) FROM finding WHERE door = ? AND found_us > ?"
        f" AND outcome IN ('open', 'repaired') AND note <> '{findings.IN_FLIGHT}' GROUP BY actor",
        (upstream, since_us),
    )
    return rows


# ---------------------------------------------------------------- do the audits that should run, run?


class LevelHealth(NamedTuple):
    """How one level stands. ``accounts`` are those that are to be compared at all."""

    accounts: int
    due: int
    run: int
    overdue: int
    failed: int
    oldest_us: int | None


class Canary(NamedTuple):
    """An account known to post: how long the stream may show nothing of it, and when it last did."""

    did: str
    silence_max_us: int
    seen_us: int | None


class Health(NamedTuple):
    """``run`` counts the last 24 hours. ``canary_seen`` is None while nobody is known to post."""

    levels: dict[str, LevelHealth]
    canaries: list[Canary]
    canary_seen: bool | None
    findings: dict[tuple[str, str], int]


def health(reader: Reader, now_us: int) -> Health:
    """Whether the audits that should have run did run, whether the stream shows those known to post, and
    the findings of the last 24 hours by (door, outcome). An auditor that is off shows as overdue."""
    levels: dict[str, LevelHealth] = {level: _level_health(reader, level, now_us) for level in LEVELS}
    found = find_canaries(reader)
    seen = any(
        canary.seen_us is not None and now_us - canary.seen_us <= canary.silence_max_us for canary in found
    )
    return Health(
        levels,
        found,
        seen if found else None,
        {
            (door, outcome): number
            for door, outcome, number in reader.all(
                "SELECT door, outcome, count(*) FROM finding WHERE found_us > ? GROUP BY 1, 2",
                (now_us - DAY_US,),
            )
        },
    )


def _level_health(reader: Reader, level: Level, now_us: int) -> LevelHealth:
    limit_us = round(PERIOD_US[level] * (1 + OVERDUE_PART))
    # What has no row yet counts from its certificate on, or from when it became LIVE.
    row = reader.one(
        "SELECT count(*), coalesce(sum(due_us <= ?2), 0), coalesce(sum(at_us > ?3), 0),"
        " coalesce(sum(stood_us < ?4 AND (?1 <> 'tail' OR due_us < ?4)), 0),"
        " coalesce(sum(outcome = 'failed'), 0), min(at_us)"
        " FROM (SELECT coalesce(u.due_us, iif(?1 = 'tail', ?5, 0)) AS due_us, u.at_us, u.outcome,"
        "  coalesce(u.at_us, r.cert_us, r.since_us) AS stood_us"
        "  FROM repo r LEFT JOIN audit u ON u.actor = r.actor AND u.level = ?1"
        "  WHERE r.state = 'LIVE' AND r.refs > 0)",
        (level, now_us, now_us - DAY_US, now_us - limit_us, NEVER_US),
    )
    assert row is not None
    return LevelHealth(*row)


def busiest(reader: Reader, since_ms: int, rows_max: int) -> list[tuple[str, int]]:
    """(DID, number of items since then) of the tracked accounts that post most. Looks at every item."""
    rows: list[tuple[str, int]] = reader.all(
        "SELECT a.did, count(*) FROM item i JOIN repo r ON r.actor = i.actor JOIN actor a ON a.id = i.actor"
        " WHERE i.sort_ms > ? AND r.state = 'LIVE' GROUP BY i.actor ORDER BY 2 DESC, i.actor LIMIT ?",
        (since_ms, rows_max),
    )
    return rows


def set_canaries(tx: Transaction, canaries: Mapping[str, int]) -> None:
    """DID -> how long, in microseconds, the stream may show nothing of it."""
    tx.run(
        "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
        (_CANARIES, orjson.dumps(dict(canaries)).decode()),
    )


def find_canaries(reader: Reader) -> list[Canary]:
    """Those set, with the time of the newest commit of theirs that is known here."""
    text = reader.value("SELECT value FROM meta WHERE name = ?", (_CANARIES,))
    if text is None:
        return []
    found = []
    for did, silence_max_us in cast("dict[str, int]", orjson.loads(text)).items():
        rev = reader.value(
            "SELECT r.seen_rev FROM repo r JOIN actor a ON a.id = r.actor WHERE a.did = ?", (did,)
        )
        found.append(Canary(did, silence_max_us, tid.tid_us(rev) if rev and syntax.is_tid(rev) else None))
    return found
