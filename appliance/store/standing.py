"""How the whole appliance stands, by its rows: what probes, the status page and ``status`` tell."""

from __future__ import annotations

from typing import Final, NamedTuple

from appliance.store import audits
from appliance.store.audits import LevelHealth
from appliance.store.database import Reader

DAY_US: Final = 86_400_000_000


class Upstream(NamedTuple):
    """A stream and how far it was read; ``time_us`` is its own clock there."""

    name: str
    wire: str
    seq: int | None
    time_us: int | None
    events: int
    updated_us: int


class Connection(NamedTuple):
    """A connection that is open, and what it covers."""

    upstream: str
    mode: str
    accounts: int | None
    opened_us: int
    from_us: int | None
    live_us: int | None
    sealed_us: int | None


class States(NamedTuple):
    """Tracked repositories in one state; ``oldest_us`` is since when the first of them is in it."""

    state: str
    accounts: int
    oldest_us: int


class Found(NamedTuple):
    """Differences that audits met, by the door that should have delivered the record."""

    door: str
    open: int
    day: int


class ArchiveRun(NamedTuple):
    """The newest run through an archive; ``ended_us`` is None while it goes on."""

    source: str
    tip_seq: int | None
    after_seq: int
    rows: int
    started_us: int
    ended_us: int | None
    outcome: str


class Standing(NamedTuple):
    """Everything at one moment."""

    upstreams: list[Upstream]
    connections: list[Connection]
    states: list[States]
    waits: dict[str, int]
    doubts: int
    oldest_doubt_us: int | None
    gaps_open: int
    oldest_gap_us: int | None
    gaps_day: int
    audits: dict[str, LevelHealth]
    canary_seen: bool | None
    canary_us: int | None
    findings: list[Found]
    archive: ArchiveRun | None
    dead_letters: int
    dead_letters_day: int
    members: int
    certified_records: int


_STATES = "SELECT state, count(*), min(since_us) FROM repo GROUP BY state ORDER BY state"
_WAITS = (
    "SELECT substr(reason, 1, instr(reason || ':', ':') - 1) AS class, count(*) FROM repo"
    " WHERE state = 'WAIT' GROUP BY 1 ORDER BY 2 DESC, 1"
)
# A doubt is open until a scan or an audit has answered it. What waits for its host is counted as such.
_DOUBTS = (
    "SELECT count(*), min(since_us) FROM repo WHERE state = 'SUSPECT'"
    " OR (state IN ('QUEUED', 'SCANNING') AND (doubt <> '' OR doubt_us IS NOT NULL))"
)
_GAPS = "SELECT count(*), min(noticed_us) FROM gap WHERE closed_us IS NULL"


def look(reader: Reader, now_us: int) -> Standing:
    """Read it all from one snapshot."""
    doubts, oldest_doubt_us = reader.all(_DOUBTS)[0]
    gaps_open, oldest_gap_us = reader.all(_GAPS)[0]
    health = audits.health(reader, now_us)
    run = reader.one(
        "SELECT source, tip_seq, after_seq, rows, started_us, ended_us, outcome FROM archive_run"
        " ORDER BY id DESC LIMIT 1"
    )
    return Standing(
        upstreams=[
            Upstream(*row)
            for row in reader.all(
                "SELECT name, wire, seq, time_us, events, updated_us FROM upstream"
                " ORDER BY updated_us DESC, name"
            )
        ],
        connections=[
            Connection(*row)
            for row in reader.all(
                "SELECT upstream, mode, accounts, opened_us, from_us, live_us, sealed_us FROM coverage"
                " WHERE closed_us IS NULL ORDER BY id"
            )
        ],
        states=[States(*row) for row in reader.all(_STATES)],
        waits=dict(reader.all(_WAITS)),
        doubts=doubts,
        oldest_doubt_us=oldest_doubt_us,
        gaps_open=gaps_open,
        oldest_gap_us=oldest_gap_us,
        gaps_day=reader.value("SELECT count(*) FROM gap WHERE noticed_us > ?", (now_us - DAY_US,)),
        audits=health.levels,
        canary_seen=health.canary_seen,
        canary_us=max((one.seen_us for one in health.canaries if one.seen_us is not None), default=None),
        findings=[
            Found(*row)
            for row in reader.all(
                "SELECT door, sum(outcome = 'open'), sum(found_us > ?1) FROM finding"
                " WHERE outcome = 'open' OR found_us > ?1 GROUP BY door ORDER BY door",
                (now_us - DAY_US,),
            )
        ],
        archive=None if run is None else ArchiveRun(*run),
        dead_letters=reader.value("SELECT count(*) FROM dead_letter"),
        dead_letters_day=reader.value("SELECT count(*) FROM dead_letter WHERE at_us > ?", (now_us - DAY_US,)),
        members=reader.value("SELECT count(*) FROM member"),
        certified_records=int(reader.value("SELECT total(cert_count) FROM repo")),
    )


def oldest_doubt_us(reader: Reader) -> int | None:
    """Since when the oldest doubt is open; None without any. Also tells that the database answers."""
    found: int | None = reader.all(_DOUBTS)[0][1]
    return found


def wanted_dids(reader: Reader) -> list[str]:
    """Every account that somebody here follows, and every member."""
    rows = reader.all(
        "SELECT a.did FROM repo r JOIN actor a ON a.id = r.actor"
        " WHERE r.refs > 0 AND r.state <> 'PRUNING' ORDER BY a.did"
    )
    return [row[0] for row in rows]
