"""From the upstreams' sockets to committed rows.

Tasks read and queue, one commits. A batch and the position that it reaches are one transaction; a
batch that can't be committed is tried again until it can; while it waits the queue fills and the
sockets are not read. So nothing is dropped, and after a crash reading goes on where the rows end.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from appliance import crash_points, telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput, Corrupt, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier, Batch, Tally
from appliance.ingest.care import LIVE_WITHIN_US, QUIET_S
from appliance.ingest.doors import CatchUp, Door, Host, Tools
from appliance.ingest.jetstream_v1 import JetstreamV1
from appliance.ingest.jetstream_v2 import JetstreamV2
from appliance.ingest.line import Line
from appliance.ingest.lines import Lines
from appliance.ingest.lists import CONNECTIONS_MAX, PER_CONNECTION_MAX, Wanted
from appliance.ingest.modes import Chooser, Limits
from appliance.ingest.relay import Relay
from appliance.ingest.sampling import Misses, Sampler
from appliance.ingest.skew import Skew
from appliance.ingest.skews import Skews
from appliance.ingest.upstream import Chunk, Gap, Start, Wire, origin_of
from appliance.ingest.waiting import Waiting
from appliance.outbound.client import Outbound
from appliance.protocol.events import Event
from appliance.store import gaps, repos
from appliance.store.coverage import Mode
from appliance.store.database import Database, Transaction

T = TypeVar("T")

log = telemetry.Log("ingest")
EVENTS = telemetry.counter("ingest_events", "Events committed, by what became of them.", ["outcome"])
SEAM_FOUND = telemetry.counter("ingest_seam_found", "Operations lost where a replay ended, and found again.")
JUMPS = telemetry.counter("ingest_clock_jumps", "Times that our wall clock jumped, as after a suspend.")
RETRIES = telemetry.counter("ingest_retries", "Batches that had to be committed again.")
REFUSED_S = telemetry.gauge(
    "ingest_refused_seconds", "For how long the batch at hand can't be stored; 0: it can."
)
LAG = telemetry.gauge("ingest_lag_seconds", "Age of the newest committed event; -1 while unknown.")
QUEUED = telemetry.gauge("ingest_queued_events", "Events between the socket and the writer.")
CONNECTED = telemetry.gauge("ingest_connected", "Whether an upstream is connected.")

QUEUE_EVENTS_MAX = 20_000
COMMIT_RETRY_S = 1.0
REFUSED_ALARM_S = 30.0
GAPS_EVERY_S = 60.0
CLOCK_LOOK_S = 5.0
CLOCK_JUMP_US = 30_000_000


class Pipeline:
    """Reads the upstreams for as long as ``run`` does. ``listeners`` hear of each commit."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        identities: Identities,
        applier: Applier,
        settings: Settings,
        clock: Clock,
        *,
        limits: Limits | None = None,
        misses: Misses | None = None,
        catch_up: CatchUp | None = None,
        per_connection: int = PER_CONNECTION_MAX,
    ) -> None:
        """``misses`` tells what audits found that an upstream had not told, ``catch_up`` reads an archive."""
        self._database = database
        self._identities = identities
        self._applier = applier
        self._settings = settings
        self._clock = clock
        self._waiting = self._empty_queue()
        self.listeners: list[Callable[[Tally], None]] = []
        self._moved = asyncio.Condition()
        self._events = 0
        self._kept = 0
        self._stored_ok = True
        self._committing = False
        self.hosts = hosts = _hosts(outbound, identities, applier, settings, clock)
        self._skews = Skews()
        self.skew = Skew(clock)
        # The randomness only spreads reconnections; nothing depends on it being unguessable.
        tools = Tools(
            database,
            clock,
            self._deliver,
            self._settled,
            self._until_written,
            catch_up,
            self._skews,
            self.skew,
            random.Random(),  # noqa: S311
        )
        most = settings.coverage_accounts_max
        assert most <= CONNECTIONS_MAX * PER_CONNECTION_MAX
        limits = limits or Limits(up=most, down=most * 7 // 9)
        list_modes = frozenset(mode for mode in hosts if mode != "FULL" and settings.coverage == "dids")
        chooser = Chooser(limits, list_modes)
        self.lines = Lines(hosts, tools, chooser, settings.canary_dids, per_connection)
        self.sampler = Sampler(
            lambda: self.lines.in_force, tools, settings.host_sampling_minutes * 60.0, misses
        )
        self._filtering = bool(list_modes)
        LAG.set_function(lambda: -1.0 if (lag_s := self.lag_s()) is None else lag_s)
        QUEUED.set_function(lambda: self._waiting.events)
        CONNECTED.set_function(self.connected)

    async def run(self) -> None:
        """Read and commit, until cancelled. Raises what only a restart from the stored position mends."""
        self._waiting = self._empty_queue()
        self._committing = False
        # Before the first frame is read: whose commits are to be checked.
        await self._until_written(self._applier.tracked.refresh)
        async with asyncio.TaskGroup() as group:
            await self.lines.begin(group)
            async with self._moved:
                self._moved.notify_all()
            group.create_task(self._commit_forever(), name="ingest committer")
            group.create_task(self._close_gaps_forever(), name="ingest gaps")
            group.create_task(self._watch_clock(), name="ingest clock")
            group.create_task(self.sampler.run(), name="ingest sampler")
            if self._filtering:
                group.create_task(self.lines.keep(), name="ingest lists")

    # ---------------------------------------------------------------- how it fares

    def lag_s(self) -> float | None:
        """Age of the newest committed event; 0 while a quiet stream has nothing to tell, None: unknown.

        Of several connections that of the slowest; a host's clock that is wrong is allowed for.
        """
        worst_s = 0.0
        for line in self.lines.in_force:
            if self._caught_up(line):
                continue
            if line.committed is None or line.committed[1].time_us is None:
                return None
            worst_s = max(worst_s, self._age_us(line) / 1e6)
        return worst_s

    def facts(self) -> dict[str, Any]:
        """For probes and the status page."""
        lag_s = self.lag_s()
        lines = self.lines.in_force
        return {
            "upstream": next((line.connected_to for line in lines if line.connected_to is not None), None),
            "connected": self.connected(),
            "caught_up": all(map(self._caught_up, lines)),
            "lag_s": None if lag_s is None else round(lag_s, 1),
            "events": self._events,
            "kept": self._kept,
            "queued": self._waiting.events,
            "storing": self._stored_ok,
            "clock_skew_s": self.skew.seconds,
            "mode": self.lines.mode,
            "connections": sum(line.connected_to is not None for line in lines),
        }

    def connected(self) -> bool:
        """Whether every connection that there should be stands: what is written from here on will be told."""
        return bool(self.lines.in_force or self.lines.mode != "FULL") and all(
            line.connected_to is not None for line in self.lines.in_force
        )

    async def wait_for(self, *, seq: int | None = None, time_us: int | None = None) -> None:
        """Return once the committed position, of whichever host, has reached that number or upstream time."""

        def reached(line: Line) -> bool:
            if line.committed is None:
                return False
            start = line.committed[1]
            if seq is not None:
                return start.seq is not None and start.seq >= seq
            return start.time_us is not None and time_us is not None and start.time_us >= time_us

        async with self._moved:
            await self._moved.wait_for(
                lambda: bool(self.lines.in_force) and all(map(reached, self.lines.in_force))
            )

    def _age_us(self, line: Line) -> int:
        assert line.committed is not None
        name, start = line.committed
        assert start.time_us is not None
        return self._clock.now_us() + self._skews.of(name) - start.time_us

    def _caught_up(self, line: Line) -> bool:
        """Connected, nothing waiting, and the newest event is young or nothing has come for a while."""
        if line.connected_to is None or len(self._waiting) or not self._stored_ok:
            return False
        if (
            line.committed is not None
            and line.committed[1].time_us is not None
            and self._age_us(line) < LIVE_WITHIN_US
        ):
            return True
        # A server with more to tell would tell it.
        return self._clock.monotonic_s() - line.heard_s >= QUIET_S

    async def _deliver(self, door: Door, chunk: Chunk) -> None:
        await self._waiting.put(door, chunk)

    async def _settled(self) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: not len(self._waiting) and not self._committing)

    async def _watch_clock(self) -> None:
        """After a suspend a connection may look alive that is not: read on from the position."""
        while True:
            before_us = self._clock.now_us()
            await self._clock.sleep(CLOCK_LOOK_S)
            passed_us = self._clock.now_us() - before_us
            if abs(passed_us - CLOCK_LOOK_S * 1e6) > CLOCK_JUMP_US:
                JUMPS.inc()
                log.warning("clock_jumped", seconds=round(passed_us / 1e6 - CLOCK_LOOK_S, 1))
                for line in self.lines.in_force:
                    line.cut("our clock jumped")

    # ---------------------------------------------------------------- committing

    async def _close_gaps_forever(self) -> None:
        """Note which gaps have been made good."""
        while True:
            await self._clock.sleep(GAPS_EVERY_S)
            if await self._database.read(gaps.open_count):
                closed = await self._until_written(lambda tx: gaps.close_settled(tx, self._clock.now_us()))
                if closed:
                    log.info("gaps_closed", number=closed)

    async def _commit_forever(self) -> None:
        settings = self._settings
        while True:
            await self._waiting.some()
            if self._waiting.events < settings.commit_events_max:
                await _first_of(
                    self._waiting.enough(settings.commit_events_max),
                    self._clock.sleep(settings.commit_every_ms / 1000),
                )
            self._committing = True
            await self._commit(self._waiting.take(settings.commit_events_max))

    async def _commit(self, taken: dict[Door, list[Chunk]]) -> None:
        parts = [_part(door, chunks) for door, chunks in taken.items()]

        def work(tx: Transaction) -> list[Tally | None]:
            now_us = self._clock.now_us()
            done = [self._apply(tx, part, now_us) for part in parts]
            crash_points.reach("batch-before-commit")
            return done

        tallies = await self._until_written(work)
        crash_points.reach("batch-after-commit")
        for part, tally in zip(parts, tallies, strict=True):
            if part.position is not None:
                part.door.line.committed = part.door.name, part.position
            if tally is not None:
                self._count(part.door, tally, len(part.events))
        self._committing = False
        async with self._moved:
            self._moved.notify_all()

    def _apply(self, tx: Transaction, part: _Part, now_us: int) -> Tally | None:
        door, gap, position = part.door, part.gap, part.position
        if gap is not None:
            gaps.add(tx, door.name, gap.from_us, gap.to_us, gap.reason, now_us)
            repos.suspect_all(tx, f"{repos.STREAM_GAP}: {gap.reason}", now_us, from_us=gap.from_us)
        tally = None
        if part.events or position is not None:
            wanted = door.line.wanted
            batch = Batch(
                door.name,
                door.wire,
                position.seq if position is not None else None,
                position.time_us if position is not None else None,
                part.events,
                line="" if wanted.dids is None else wanted.name(door.name),
                # Judged here, in the writer: a line may have been taken out of force meanwhile.
                stored=door.line.in_force and not door.seals,
            )
            tally = self._applier.apply_batch(tx, batch, now_us=now_us)
        for note in part.notes:
            note(tx)
        return tally

    async def _until_written(self, work: Callable[[Transaction], T]) -> T:
        """Commit, however long the disk refuses: the batch that comes after must not overtake it."""
        began_s = self._clock.monotonic_s()
        alarmed = False
        while True:
            try:
                result = await self._database.write(work)
            except (Unavailable, sqlite3.OperationalError) as error:
                RETRIES.inc()
                if self._stored_ok:
                    log.error("commit_failed", error=error)
                self._stored_ok = False
                refused_s = self._clock.monotonic_s() - began_s
                REFUSED_S.set(refused_s)
                if refused_s >= REFUSED_ALARM_S and not alarmed:
                    alarmed = True
                    log.error("commit_refused_for_long", seconds=round(refused_s, 1), error=error)
                await self._clock.sleep(COMMIT_RETRY_S)
            except sqlite3.DatabaseError as error:
                if type(error) is sqlite3.DatabaseError:
                    raise Corrupt(f"the database is damaged: {error}") from error
                raise
            else:
                if not self._stored_ok:
                    log.info("commit_works_again")
                    REFUSED_S.set(0)
                self._stored_ok = True
                return result

    def _count(self, door: Door, tally: Tally, events: int) -> None:
        self._events += events
        self._kept += tally.applied
        if door.seals and tally.applied:
            SEAM_FOUND.inc(tally.applied)
            log.warning("seam_found", upstream=door.name, number=tally.applied)
        for outcome in ("applied", "known", "old", "strangers", "dead"):
            number = getattr(tally, outcome)
            if number:
                EVENTS.labels(outcome).inc(number)
        if tally.accounts:
            self._identities.wake()
        for listener in self.listeners:
            listener(tally)

    def _empty_queue(self) -> Waiting[Door]:
        return Waiting(self._settings.ingest_queue_mb * 1024 * 1024, QUEUE_EVENTS_MAX)


class _Part(NamedTuple):
    """What one door brought, of one transaction."""

    door: Door
    events: list[Event]
    position: Start | None
    gap: Gap | None
    notes: list[Callable[[Transaction], None]]


def _part(door: Door, chunks: list[Chunk]) -> _Part:
    events: list[Event] = []
    notes = []
    position: Start | None = None
    for chunk in chunks:
        events += chunk.events
        if chunk.seq is not None or chunk.time_us is not None:
            position = Start(chunk.seq, chunk.time_us, same_host=True)
        if chunk.note is not None:
            notes.append(chunk.note)
    if door.seals:
        position = None
    elif position is None and events and (known := door.line.committed) is not None and known[0] == door.name:
        position = known[1]
    return _Part(door, events, position, chunks[0].gap, notes)


def _hosts(
    outbound: Outbound, identities: Identities, applier: Applier, settings: Settings, clock: Clock
) -> dict[Mode, list[Host]]:
    """The upstreams that the settings name, in order of preference, for each mode that they can speak in.

    Raises BadInput for an unknown kind.
    """

    def tracked(did: str) -> bool:
        return applier.tracked.find(did) is not None

    if settings.reads_relay:
        relays = [Relay(outbound, identities, url, tracked, clock) for url in settings.relay_urls]

        def whole(relay: Relay) -> Host:
            def make(wanted: Wanted) -> Wire:
                assert wanted.dids is None, "a relay has no lists"
                return relay

            return Host(relay.name, relay.wire, make)

        return {"FULL": [whole(relay) for relay in relays]}

    def v1(url: str) -> Host:
        return Host(
            f"{JetstreamV1.wire} {url}", JetstreamV1.wire, lambda one: JetstreamV1(outbound, url, one)
        )

    def v2(url: str) -> Host:
        cache = settings.data_path / "cache"
        make: Callable[[Wanted], Wire] = lambda one: JetstreamV2(outbound, url, cache, one)  # noqa: E731
        return Host(f"{JetstreamV2.wire} {url}", JetstreamV2.wire, make)

    every: list[Host] = []
    older: list[Host] = []
    newer: list[Host] = []
    for url in settings.jetstream_urls:
        path = urlsplit(url).path
        if path.endswith("/subscribe"):
            every.append(v1(url))
            older.append(every[-1])
        elif path.endswith("subscribeEvents"):
            every.append(v2(url))
            newer.append(every[-1])
        else:
            raise BadInput(f"JETSTREAM_URLS: {url} ends neither in /subscribe nor in subscribeEvents")
    if not every:
        raise BadInput("JETSTREAM_URLS names no upstream")
    found: dict[Mode, list[Host]] = {"FULL": every}
    # A server of v2 also speaks v1, whose lists have no limit of length.
    found["DIDS"] = older or [
        v1(f"{'wss' if origin_of(url).startswith('https') else 'ws'}://{urlsplit(url).netloc}/subscribe")
        for url in settings.jetstream_urls
    ]
    if newer:
        found["DIDS-V2"] = newer
    return found


async def _first_of(*waits: Any) -> None:
    """Return when one of them has; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
