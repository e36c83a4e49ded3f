"""Numbers for Prometheus that are read from rows and files when somebody asks for them."""

from __future__ import annotations

from appliance import telemetry
from appliance.ops.status import Snapshot

INCOMPLETE = ("QUEUED", "SCANNING", "SUSPECT", "WAIT")

POSITION_AGE = telemetry.gauge(
    "position_age_seconds",
    "Age of the newest stored position; it also grows while the network is quiet.",
    ["upstream"],
)
LIVE = telemetry.gauge("stream_live", "Whether a stream delivers and is at most a minute behind.")
GAPS = telemetry.gauge("gaps_open", "Gaps of the stream that are not made good yet.")
DOUBTS = telemetry.gauge("doubts_open", "Accounts in doubt.")
DOUBT_AGE = telemetry.gauge("doubt_age_seconds", "Age of the oldest open doubt; 0 without any.")
INCOMPLETE_AGE = telemetry.gauge(
    "incomplete_age_seconds",
    "For how long the oldest incomplete repository has been in its state; 0 without any.",
)
WAITING = telemetry.gauge(
    "repos_waiting", "Repositories that can't be read just now, by class of reason.", ["reason"]
)
AUDITS = telemetry.gauge(
    "audit_accounts", "Accounts that are to be compared with their servers, by level.", ["level"]
)
CANARY_AGE = telemetry.gauge(
    "canary_age_seconds", "Since the stream last showed anything of those known to post; 0 without any."
)
FINDINGS = telemetry.gauge(
    "findings_open",
    "Differences that audits met and that are open, by the door that should have delivered.",
    ["door"],
)
FINDINGS_DAY = telemetry.gauge("findings_day", "Differences that audits met within a day, by door.", ["door"])
DEAD_LETTERS = telemetry.gauge("dead_letters", "Events that could not be applied.")
MEMBERS = telemetry.gauge("members", "People who belong here.")
DATABASE = telemetry.gauge("database_bytes", "Size of the database file.")
WAL = telemetry.gauge("database_wal_bytes", "Size of the database's log.")
FREE = telemetry.gauge("disk_free_bytes", "Free room on the volume of the database.")
RESIDENT = telemetry.gauge("process_resident_bytes", "Memory of the process.")
FILES = telemetry.gauge("process_open_files", "Open files and sockets of the process.")
UPTIME = telemetry.gauge("process_uptime_seconds", "Since the process began.")


def update(snapshot: Snapshot) -> None:
    """Set every gauge from these facts."""
    found, at_us = snapshot.standing, snapshot.at_us
    POSITION_AGE.clear()
    for upstream in found.upstreams:
        if upstream.time_us is not None:
            POSITION_AGE.labels(upstream.name).set(_age_s(at_us, upstream.time_us))
    LIVE.set(bool(snapshot.pipeline.get("live")))
    GAPS.set(found.gaps_open)
    DOUBTS.set(found.doubts)
    DOUBT_AGE.set(_age_s(at_us, found.oldest_doubt_us))
    INCOMPLETE_AGE.set(
        max((_age_s(at_us, one.oldest_us) for one in found.states if one.state in INCOMPLETE), default=0.0)
    )
    WAITING.clear()
    for reason, number in found.waits.items():
        WAITING.labels(reason).set(number)
    for level, audits in found.audits.items():
        AUDITS.labels(level).set(audits.accounts)
    CANARY_AGE.set(_age_s(at_us, found.canary_us))
    FINDINGS.clear()
    FINDINGS_DAY.clear()
    for one in found.findings:
        FINDINGS.labels(one.door).set(one.open)
        FINDINGS_DAY.labels(one.door).set(one.day)
    DEAD_LETTERS.set(found.dead_letters)
    MEMBERS.set(found.members)
    DATABASE.set(snapshot.machine.database)
    WAL.set(snapshot.machine.wal)
    FREE.set(snapshot.machine.free)
    RESIDENT.set(snapshot.machine.resident)
    FILES.set(snapshot.machine.open_files)
    UPTIME.set(snapshot.uptime_s)


def _age_s(at_us: int, us: int | None) -> float:
    return 0.0 if us is None else max((at_us - us) / 1e6, 0.0)
