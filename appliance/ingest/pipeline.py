"""From the upstream's socket to committed rows.

One task reads and queues, one commits. A batch and the position that it reaches are one transaction; a
batch that can't be committed is tried again until it can; while it waits the queue fills and the
socket is not read. So nothing is dropped, and after a crash reading goes on where the rows end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from appliance import crash_points, telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Corrupt, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier, Batch, Tally
from appliance.ingest.connection import chunks
from appliance.ingest.jetstream_v1 import JetstreamV1
from appliance.ingest.jetstream_v2 import JetstreamV2
from appliance.ingest.relay import Relay
from appliance.ingest.upstream import OTHER_HOST_MARGIN_US, Chunk, Gap, Poisoned, Start, TooOld, Wire
from appliance.ingest.waiting import Waiting
from appliance.outbound.client import Outbound
from appliance.protocol.events import Event
from appliance.store import gaps, repos, upstreams
from appliance.store.database import Database, Transaction

log = telemetry.Log("ingest")
EVENTS = telemetry.counter("ingest_events", "Events committed, by what became of them.", ["outcome"])
CONNECTIONS = telemetry.counter("ingest_connections", "Connections to upstreams, by how they ended.", ["end"])
RETRIES = telemetry.counter("ingest_retries", "Batches that had to be committed again.")
GAPS = telemetry.counter("ingest_gaps", "Intervals that upstreams did not deliver.")
LAG = telemetry.gauge("ingest_lag_seconds", "Age of the newest committed event; -1 while unknown.")
QUEUED = telemetry.gauge("ingest_queued_events", "Events between the socket and the writer.")
CONNECTED = telemetry.gauge("ingest_connected", "Whether an upstream is connected.")

QUEUE_EVENTS_MAX = 20_000
BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 30.0
COMMIT_RETRY_S = 1.0
FAILURES_BEFORE_NEXT_HOST = 3
POISON_BEFORE_PLAIN = 2
POISON_BEFORE_SKIP = 4
LIVE_WITHIN_US = 10_000_000
AHEAD_MAX_US = 300_000_000
GAPS_EVERY_S = 60.0
QUIET_S = 3.0


class Pipeline:
    """Reads the chosen upstream for as long as ``run`` does. ``listeners`` hear of each commit."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        identities: Identities,
        applier: Applier,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._identities = identities
        self._applier = applier
        self._settings = settings
        self._clock = clock
        self._wires = _wires(outbound, identities, applier, settings, clock)
        self._waiting = self._empty_queue()
        self.listeners: list[Callable[[Tally], None]] = []
        # Only spreads reconnections; nothing depends on it being unguessable.
        self._random = random.Random()  # noqa: S311
        self._moved = asyncio.Condition()
        self._position: tuple[str, Start] | None = None  # queued
        self._committed: tuple[str, Start] | None = None
        self._connected_to: str | None = None
        self._heard_s = 0.0
        self._events = 0
        self._kept = 0
        self._stored_ok = True
        LAG.set_function(lambda: -1.0 if (lag_s := self.lag_s()) is None else lag_s)
        QUEUED.set_function(lambda: self._waiting.events)
        CONNECTED.set_function(self.connected)

    async def run(self) -> None:
        """Read and commit, until cancelled. Raises what only a restart from the stored position mends."""
        self._waiting = self._empty_queue()
        self._position = self._committed = await self._stored()
        async with self._moved:
            self._moved.notify_all()
        # Before the first frame is read: whose commits are to be checked.
        await self._database.write(self._applier.tracked.refresh)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_forever(), name="ingest reader")
            group.create_task(self._commit_forever(), name="ingest committer")
            group.create_task(self._close_gaps_forever(), name="ingest gaps")

    # ---------------------------------------------------------------- how it fares

    def lag_s(self) -> float | None:
        """Age of the newest committed event; 0 while a quiet stream has nothing to tell, None: unknown."""
        if self._caught_up():
            return 0.0
        if self._committed is None or self._committed[1].time_us is None:
            return None
        return max((self._clock.now_us() - self._committed[1].time_us) / 1e6, 0.0)

    def facts(self) -> dict[str, Any]:
        """For probes and the status page."""
        lag_s = self.lag_s()
        return {
            "upstream": self._connected_to,
            "connected": self._connected_to is not None,
            "caught_up": self._caught_up(),
            "lag_s": None if lag_s is None else round(lag_s, 1),
            "events": self._events,
            "kept": self._kept,
            "queued": self._waiting.events,
            "storing": self._stored_ok,
        }

    def connected(self) -> bool:
        """Whether a connection stands now: what is written from here on will be told."""
        return self._connected_to is not None

    async def wait_for(self, *, seq: int | None = None, time_us: int | None = None) -> None:
        """Return once the committed position, of whichever host, has reached that number or upstream time."""

        def reached() -> bool:
            if self._committed is None:
                return False
            start = self._committed[1]
            if seq is not None:
                return start.seq is not None and start.seq >= seq
            return start.time_us is not None and time_us is not None and start.time_us >= time_us

        async with self._moved:
            await self._moved.wait_for(reached)

    def _caught_up(self) -> bool:
        """Connected, nothing waiting, and the newest event is young or nothing has come for a while."""
        if self._connected_to is None or len(self._waiting) or not self._stored_ok:
            return False
        newest_us = self._committed[1].time_us if self._committed is not None else None
        if newest_us is not None and self._clock.now_us() - newest_us < LIVE_WITHIN_US:
            return True
        # A server with more to tell would tell it.
        return self._clock.monotonic_s() - self._heard_s >= QUIET_S

    # ---------------------------------------------------------------- reading

    async def _read_forever(self) -> None:
        at = failures = poison = 0
        start_over = ""
        while True:
            wire = self._wires[at]
            reached = self._position[1] if self._position is not None else Start(None, None, False)
            start, owed = self._start(wire), None
            if start_over:
                begin_us = reached.time_us or 0
                start, owed = None, Gap(begin_us, begin_us, start_over)
            elif start is None and await self._database.read(repos.any_begun):
                # It was lost before its first event, and with it what would have told where to go on.
                begin_us = self._clock.now_us()
                owed = Gap(begin_us, begin_us, "there was no position yet")
            progress = False
            end: ApplianceError
            try:
                reading = chunks(wire, start, self._clock, owed)
                async with contextlib.aclosing(reading):
                    async for chunk in reading:
                        if not progress and _is_news(chunk, reached):
                            progress = True
                            failures = poison = 0
                            start_over = ""
                        await self._take(wire, chunk)
                raise AssertionError("a connection ends by raising")
            except TooOld as error:
                end, start_over = error, error.message
            except Poisoned as error:
                end = error
                poison += 1
                if poison >= POISON_BEFORE_SKIP:
                    # Nothing gets past this frame: what lies behind it is worth more.
                    start_over, poison = error.message, 0
                elif poison >= POISON_BEFORE_PLAIN and wire.go_plain():
                    log.warning("compression_given_up", upstream=wire.name)
            except (Unavailable, BadInput) as error:
                end = error
            finally:
                self._connected_to = None
            CONNECTIONS.labels(type(end).__name__).inc()
            failures += 1
            log.warning("upstream_lost", upstream=wire.name, error=end, failures=failures)
            if failures >= FAILURES_BEFORE_NEXT_HOST and len(self._wires) > 1:
                at, failures = (at + 1) % len(self._wires), 0
                log.warning("upstream_changed", upstream=self._wires[at].name)
            pause_s = min(BACKOFF_MIN_S * 2 ** min(failures, 10) / 2, BACKOFF_MAX_S)
            if isinstance(end, Unavailable) and end.retry_after_s is not None:
                pause_s = max(pause_s, min(end.retry_after_s, BACKOFF_MAX_S))
            await self._clock.sleep(pause_s * self._random.uniform(0.5, 1.0))

    async def _take(self, wire: Wire, chunk: Chunk) -> None:
        if self._connected_to is None:
            self._connected_to = wire.name
            log.info("upstream_connected", upstream=wire.name)
            if self._position is None:
                # The connection stands, so whatever comes from now on is kept: a network that has nothing to
                # say yet is covered as well. The margin is for the difference of clocks.
                chunk = chunk._replace(time_us=self._clock.now_us() - OTHER_HOST_MARGIN_US)
        self._heard_s = self._clock.monotonic_s()
        if chunk.gap is not None:
            GAPS.inc()
            log.warning("gap_found", upstream=wire.name, **chunk.gap._asdict())
        if chunk.time_us is not None:
            chunk = self._placed(wire, chunk, chunk.time_us)
        if chunk.events or chunk.gap is not None or chunk.time_us is not None or chunk.seq is not None:
            await self._waiting.put(wire.name, chunk)

    def _placed(self, wire: Wire, chunk: Chunk, time_us: int) -> Chunk:
        """The chunk with a time that may be stored as a position; the position moves there."""
        known = self._position
        before_us = known[1].time_us if known is not None and known[0] == wire.name else None
        if time_us > self._clock.now_us() + AHEAD_MAX_US:
            # A position in the future would be answered with the live tail, in silence.
            chunk = chunk._replace(time_us=before_us)
        elif chunk.seq is None and before_us is not None and time_us < before_us:
            # Asked for again, or the server's clock has stepped back: the rewind covers that.
            chunk = chunk._replace(time_us=before_us)
        # A chunk that says nothing but a time is the connection's own.
        seen = chunk.seq is not None or bool(chunk.events) or (known is not None and known[1].seen)
        self._position = (wire.name, Start(chunk.seq, chunk.time_us, same_host=True, seen=seen))
        return chunk

    def _start(self, wire: Wire) -> Start | None:
        if self._position is None:
            return None
        name, start = self._position
        return start if name == wire.name else start._replace(seq=None, same_host=False)

    async def _stored(self) -> tuple[str, Start] | None:
        found = await self._database.read(upstreams.newest)
        if found is None:
            return None
        name, position = found
        return name, Start(position.seq, position.time_us, same_host=True, seen=position.events > 0)

    # ---------------------------------------------------------------- committing

    async def _close_gaps_forever(self) -> None:
        """Note which gaps have been made good."""
        while True:
            await self._clock.sleep(GAPS_EVERY_S)
            if await self._database.read(gaps.open_count):
                closed = await self._database.write(lambda tx: gaps.close_settled(tx, self._clock.now_us()))
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
            upstream, taken = self._waiting.take(settings.commit_events_max)
            await self._commit(upstream, taken)

    async def _commit(self, upstream: str, taken: list[Chunk]) -> None:
        wire = next(wire for wire in self._wires if wire.name == upstream)
        events: list[Event] = []
        position: Start | None = None
        for chunk in taken:
            events += chunk.events
            if chunk.seq is not None or chunk.time_us is not None:
                position = Start(chunk.seq, chunk.time_us, same_host=True)
        gap = taken[0].gap
        if position is None and self._committed is not None and self._committed[0] == upstream:
            position = self._committed[1]
        batch = Batch(
            upstream,
            wire.wire,
            position.seq if position is not None else None,
            position.time_us if position is not None else None,
            events,
        )

        def work(tx: Transaction) -> Tally | None:
            now_us = self._clock.now_us()
            if gap is not None:
                gaps.add(tx, upstream, gap.from_us, gap.to_us, gap.reason, now_us)
                repos.suspect_all(tx, f"{repos.STREAM_GAP}: {gap.reason}", now_us, from_us=gap.from_us)
            if not events and position is None:
                return None
            done = self._applier.apply_batch(tx, batch, now_us=now_us)
            crash_points.reach("batch-before-commit")
            return done

        tally = await self._until_written(work)
        crash_points.reach("batch-after-commit")
        if position is not None:
            self._committed = (upstream, position)
        if tally is not None:
            self._count(tally, len(events))
        async with self._moved:
            self._moved.notify_all()

    async def _until_written(self, work: Callable[[Transaction], Tally | None]) -> Tally | None:
        """Commit, however long the disk refuses: the batch that comes after must not overtake it."""
        while True:
            try:
                tally = await self._database.write(work)
            except (Unavailable, sqlite3.OperationalError) as error:
                RETRIES.inc()
                if self._stored_ok:
                    log.error("commit_failed", error=error)
                self._stored_ok = False
                await self._clock.sleep(COMMIT_RETRY_S)
            except sqlite3.DatabaseError as error:
                if type(error) is sqlite3.DatabaseError:
                    raise Corrupt(f"the database is damaged: {error}") from error
                raise
            else:
                if not self._stored_ok:
                    log.info("commit_works_again")
                self._stored_ok = True
                return tally

    def _count(self, tally: Tally, events: int) -> None:
        self._events += events
        self._kept += tally.applied
        for outcome in ("applied", "known", "old", "strangers", "dead"):
            number = getattr(tally, outcome)
            if number:
                EVENTS.labels(outcome).inc(number)
        if tally.accounts:
            self._identities.wake()
        for listener in self.listeners:
            listener(tally)

    def _empty_queue(self) -> Waiting:
        return Waiting(self._settings.ingest_queue_mb * 1024 * 1024, QUEUE_EVENTS_MAX)


def _wires(
    outbound: Outbound, identities: Identities, applier: Applier, settings: Settings, clock: Clock
) -> list[Wire]:
    """The upstreams that the settings name, in order of preference. Raises BadInput for an unknown kind."""

    def tracked(did: str) -> bool:
        return applier.tracked.find(did) is not None

    if settings.reads_relay:
        return [Relay(outbound, identities, settings.relay_url, tracked, clock)]
    wires: list[Wire] = []
    for url in settings.jetstream_urls:
        path = urlsplit(url).path
        if path.endswith("/subscribe"):
            wires.append(JetstreamV1(outbound, url))
        elif path.endswith("subscribeEvents"):
            wires.append(JetstreamV2(outbound, url, settings.data_path / "cache"))
        else:
            raise BadInput(f"JETSTREAM_URLS: {url} ends neither in /subscribe nor in subscribeEvents")
    if not wires:
        raise BadInput("JETSTREAM_URLS names no upstream")
    return wires


def _is_news(chunk: Chunk, reached: Start) -> bool:
    """Whether the chunk lies beyond what was reached before this connection."""
    if chunk.seq is not None:
        return True
    return chunk.time_us is not None and (reached.time_us is None or chunk.time_us > reached.time_us)


async def _first_of(*waits: Any) -> None:
    """Return when one of them has; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
