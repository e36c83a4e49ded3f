"""How the appliance fares: the facts, what is wrong with them in words, and what to do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from appliance import __version__
from appliance.clock import Clock
from appliance.ops import machine
from appliance.ops.machine import Machine
from appliance.ops.watch import Watch
from appliance.store import standing
from appliance.store.database import Database
from appliance.store.standing import Standing
from appliance.timeline.completeness import Stream

# A disk with less than this left is about to stop everything.
FREE_BYTES_MIN: Final = 1_000_000_000
WAL_BYTES_MAX: Final = 1_000_000_000
FILES_SHARE_MAX: Final = 0.8
STALE_S: Final = 5.0


class Problem(NamedTuple):
    """Something that is not as it should be. ``fact`` names it for machines.

    What is not ``grave`` is worth knowing, and no fault of ours: the appliance is healthy all the same.
    """

    fact: str
    words: str
    hint: str
    grave: bool = True


class Snapshot(NamedTuple):
    """Everything at one moment. ``watch`` is None where no process runs."""

    at_us: int
    standing: Standing
    machine: Machine
    stream: Stream | None
    pipeline: dict[str, Any]
    uptime_s: float
    loop_stall_s: float


class Status:
    """Looks when asked, at most every few seconds."""

    def __init__(self, database: Database, clock: Clock, watch: Watch | None) -> None:
        self._database = database
        self._clock = clock
        self._watch = watch
        self._last: tuple[float, Snapshot] | None = None

    async def look(self) -> Snapshot:
        """The facts, not older than a few seconds."""
        now_s = self._clock.monotonic_s()
        if self._last is None or now_s - self._last[0] > STALE_S:
            now_us = self._clock.now_us()
            found = await self._database.read(lambda reader: standing.look(reader, now_us))
            watch = self._watch
            snapshot = Snapshot(
                now_us,
                found,
                machine.look(self._database.path),
                None if watch is None else watch.stream(),
                {} if watch is None else watch.facts(),
                0.0 if watch is None else watch.uptime_s(),
                0.0 if watch is None else watch.longest_stall_s(),
            )
            self._last = now_s, snapshot
        return self._last[1]

    async def told(self) -> dict[str, Any]:
        """Facts and problems as JSON for ``status``."""
        snapshot = await self.look()
        dead = [] if self._watch is None else self._watch.verdict().dead
        return as_json(snapshot, problems(snapshot, dead))

    async def public(self) -> dict[str, Any]:
        """What anybody may know: numbers, no names, nothing of the machine."""
        snapshot = await self.look()
        dead = [] if self._watch is None else self._watch.verdict().dead
        whole = as_json(snapshot, problems(snapshot, dead))
        found = snapshot.standing
        return {
            "version": __version__,
            "healthy": whole["healthy"],
            "at": whole["at"],
            "uptimeSeconds": whole["uptimeSeconds"],
            "problems": [
                {name: p[name] for name in ("fact", "words", "grave")}
                for p in whole["problems"]
                if p["fact"] not in ("disk", "wal", "files", "loop")
            ],
            "stream": {
                name: whole["stream"][name] for name in ("live", "lagSeconds", "downSince", "positionAt")
            },
            "accounts": whole["accounts"],
            "records": whole["records"],
            "doubts": whole["doubts"],
            "gaps": whole["gaps"],
            "audits": whole["audits"],
            "findings": {
                "open": sum(one.open for one in found.findings),
                "lastDay": sum(one.day for one in found.findings),
            },
        }


def problems(snapshot: Snapshot, dead: list[str]) -> list[Problem]:
    """What is wrong, gravest first; nothing where all is well."""
    found, at_us = snapshot.standing, snapshot.at_us
    wrong = [Problem("process", words, "look into the log; restart if it does not end") for words in dead]
    stream = snapshot.stream
    if stream is None:
        wrong.append(Problem("process", "no appliance is running on this data", "start it with serve"))
    elif stream.down_since_us is not None:
        wrong.append(
            Problem(
                "stream",
                f"no stream is live since {_moment(stream.down_since_us)}",
                "see upstream_lost in the log, and whether JETSTREAM_URLS or RELAY_URL answer",
            )
        )
    elif stream.lag_s is None or stream.lag_s > 60:
        words = "unknown" if stream.lag_s is None else f"{round(stream.lag_s)} s"
        hint = "it catches up by itself; if the lag grows, the machine or the disk is too slow"
        wrong.append(Problem("lag", f"the stream is behind: {words}", hint))
    if found.gaps_open:
        words = f"{found.gaps_open} gaps of the stream are not made good, the oldest since"
        hint = "every account is compared by itself; audit --all --repair does it now"
        wrong.append(Problem("gaps", f"{words} {_moment(found.oldest_gap_us)}", hint))
    if found.doubts:
        words = f"{found.doubts} accounts are in doubt, the oldest since {_moment(found.oldest_doubt_us)}"
        wrong.append(Problem("doubts", words, "they are compared by themselves; audit HANDLE shows one"))
    open_findings = sum(one.open for one in found.findings)
    if open_findings:
        doors = ", ".join(one.door for one in found.findings if one.open)
        hint = "audit --all --repair mends them; what one door loses often, another would deliver"
        wrong.append(Problem("findings", f"{open_findings} differences are open (from {doors})", hint))
    wrong += _audits(found)
    waiting = sum(found.waits.values())
    if waiting:
        kinds = ", ".join(f"{number} {kind}" for kind, number in found.waits.items())
        hint = "their servers are asked again by themselves; nothing can be done here"
        words = f"{waiting} accounts can't be read just now ({kinds})"
        wrong.append(Problem("waiting", words, hint, grave=False))
    loading = [one for one in found.states if one.state in ("QUEUED", "SCANNING")]
    if loading and at_us - min(one.oldest_us for one in loading) > standing.DAY_US:
        number = sum(one.accounts for one in loading)
        words = f"{number} accounts are still loading, some for longer than a day"
        wrong.append(Problem("loading", words, "see backfill_waits in the log"))
    if found.dead_letters:
        hint = "their accounts are compared by themselves; the table dead_letter keeps the raw events"
        words = f"{found.dead_letters} events could not be applied, {found.dead_letters_day} within a day"
        wrong.append(Problem("dead-letters", words, hint, grave=found.dead_letters_day > 0))
    wrong += _of_machine(snapshot.machine)
    return sorted(wrong, key=lambda problem: not problem.grave)


def _audits(found: Standing) -> list[Problem]:
    wrong = []
    overdue = {level: one.overdue for level, one in found.audits.items() if one.overdue}
    if overdue:
        levels = ", ".join(f"{number} {level}" for level, number in overdue.items())
        words = f"{sum(overdue.values())} audits are overdue ({levels})"
        hint = "their servers may be away; if none ran within a day, see task_failed in the log"
        wrong.append(Problem("audits", words, hint))
    if found.canary_seen is False:
        words = f"the stream shows nothing of those who are known to post, since {_moment(found.canary_us)}"
        hint = "it may be blind while it looks healthy: name another one in JETSTREAM_URLS or RELAY_URL"
        wrong.append(Problem("canary", words, hint))
    return wrong


def _of_machine(of: Machine) -> list[Problem]:
    wrong = []
    if of.free < FREE_BYTES_MIN:
        hint = "make room or move DATA_DIR; reading goes on, storing stops when it is full"
        wrong.append(Problem("disk", f"only {of.free // 1_000_000} MB are free on the volume", hint))
    if of.wal > WAL_BYTES_MAX:
        hint = "something reads for very long; a restart folds the log into the file"
        wrong.append(Problem("wal", f"the log of the database has {of.wal // 1_000_000} MB", hint))
    if of.files_max > 0 and of.open_files > of.files_max * FILES_SHARE_MAX:
        words = f"{of.open_files} of {of.files_max} files are open"
        wrong.append(Problem("files", words, "raise LimitNOFILE of the service"))
    return wrong


def as_json(snapshot: Snapshot, wrong: list[Problem]) -> dict[str, Any]:
    """Every fact, by names that stay."""
    found, of = snapshot.standing, snapshot.machine
    stream = snapshot.stream or Stream(None, None)
    newest = found.upstreams[0] if found.upstreams else None
    return {
        "version": __version__,
        "healthy": not any(problem.grave for problem in wrong),
        "at": _moment(snapshot.at_us),
        "running": snapshot.stream is not None,
        "uptimeSeconds": round(snapshot.uptime_s),
        "problems": [problem._asdict() for problem in wrong],
        "stream": {
            "live": snapshot.stream is not None
            and stream.down_since_us is None
            and stream.lag_s is not None
            and stream.lag_s <= 60,
            "lagSeconds": None if stream.lag_s is None else round(stream.lag_s, 1),
            "downSince": _moment(stream.down_since_us),
            "positionAt": _moment(newest.time_us if newest else None),
            "connectedTo": snapshot.pipeline.get("upstream"),
            "queued": snapshot.pipeline.get("queued", 0),
        },
        "upstreams": [
            {
                "name": one.name,
                "wire": one.wire,
                "sequence": one.seq,
                "positionAt": _moment(one.time_us),
                "events": one.events,
                "storedAt": _moment(one.updated_us),
            }
            for one in found.upstreams
        ],
        "coverage": [
            {
                "upstream": one.upstream,
                "mode": one.mode,
                "accounts": one.accounts,
                "openedAt": _moment(one.opened_us),
                "from": _moment(one.from_us),
                "liveAt": _moment(one.live_us),
                "sealedAt": _moment(one.sealed_us),
            }
            for one in found.connections
        ],
        "accounts": {
            one.state: {"number": one.accounts, "oldest": _moment(one.oldest_us)} for one in found.states
        },
        "waiting": found.waits,
        "members": found.members,
        "records": found.certified_records,
        "doubts": {"accounts": found.doubts, "oldest": _moment(found.oldest_doubt_us)},
        "gaps": {
            "open": found.gaps_open,
            "oldest": _moment(found.oldest_gap_us),
            "lastDay": found.gaps_day,
        },
        "audits": {
            level: {
                "accounts": one.accounts,
                "due": one.due,
                "overdue": one.overdue,
                "lastDay": one.run,
                "failed": one.failed,
                "oldest": _moment(one.oldest_us),
            }
            for level, one in found.audits.items()
        },
        "canary": {"seen": found.canary_seen, "last": _moment(found.canary_us)},
        "findings": {one.door: {"open": one.open, "lastDay": one.day} for one in found.findings},
        "archive": None
        if found.archive is None
        else {
            "source": found.archive.source,
            "upTo": found.archive.after_seq,
            "tip": found.archive.tip_seq,
            "rows": found.archive.rows,
            "startedAt": _moment(found.archive.started_us),
            "endedAt": _moment(found.archive.ended_us),
            "outcome": found.archive.outcome,
        },
        "deadLetters": found.dead_letters,
        "disk": {"databaseBytes": of.database, "walBytes": of.wal, "freeBytes": of.free},
        "process": {
            "residentBytes": of.resident,
            "openFiles": of.open_files,
            "loopStallSeconds": round(snapshot.loop_stall_s, 3),
        },
    }


def _moment(us: int | None) -> str | None:
    if us is None:
        return None
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
