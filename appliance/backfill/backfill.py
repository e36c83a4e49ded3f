"""The long task that keeps every tracked repository complete: who is worked on, and when."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from appliance import telemetry
from appliance.backfill import job
from appliance.backfill.tools import DAY_US, Tools, log, make_tools
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import Corrupt, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest.merge import Rules
from appliance.outbound.client import Outbound
from appliance.store import backlog, repos, scans
from appliance.store.backlog import Due
from appliance.store.database import Database, Reader, Transaction

RUNNING = telemetry.gauge("backfill_running", "Repositories that are being read right now.")
REPOS = telemetry.gauge("repos", "Tracked repositories by state.", ["state"])
FAILED = telemetry.counter("backfill_failures", "Jobs that ended in a way that nobody foresaw.")

POLL_S: Final = 0.5
COUNT_EVERY_S: Final = 15.0
# Places that only a repository may take whose newest page nobody has seen yet.
PLACES_FOR_NEW: Final = 8
# Their host is not known before the directory has been asked.
UNPLACED_MAX: Final = 8
AFTER_FAILURE_S: Final = 60.0
AFTER_REFUSAL_S: Final = 2.0
# Choosing among ten thousand takes 50 ms of a reader: it must not be done after each of them.
REST_PER_LOOK: Final = 4.0
REST_MAX_S: Final = 1.0
# The window of a scan began a little before its end; only a wider setting lies beyond it.
WIDEN_SLACK_US: Final = 3_600_000_000
WIDEN_PER_WRITE: Final = 200


class Backfill:
    """Works through the repositories that are due. ``run`` lasts until it is cancelled.

    Nothing is lost by that: all it knows is in the database, and the next run goes on from there.
    """

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        identities: Identities,
        settings: Settings,
        clock: Clock,
        rules: Rules,
        *,
        connected: Callable[[], bool] | None = None,
        lag_s: Callable[[], float | None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """``connected`` tells whether a stream is being read, for the time before its first event;
        ``lag_s`` how far it is behind."""
        self._tools = make_tools(database, outbound, identities, settings, clock, rules, lag_s=lag_s, rng=rng)
        self._connected = connected or (lambda: False)
        self._running: dict[int, tuple[Due, asyncio.Task[None]]] = {}
        self._resting: dict[int, float] = {}
        self._wake = asyncio.Event()
        self._counted_s = float("-inf")
        self._rest_s = 0.0
        self._doubts_first = False

    @property
    def tools(self) -> Tools:
        """What its work is done with, so that others share its pacing."""
        return self._tools

    def wake(self) -> None:
        """There may be something to do: look now, not at the next poll."""
        self._wake.set()

    async def run(self) -> None:
        """Start what is due, as far as places go; for ever."""
        async with asyncio.TaskGroup() as group:
            await self._widen()
            while True:
                await asyncio.sleep(self._rest_s)
                self._wake.clear()
                await self._start_due(group)
                await self._count()
                await self._sleep()

    async def _widen(self) -> None:
        """More history may be wanted than before: read again who was read less far back."""
        days = self._tools.settings.backfill_days

        def some(tx: Transaction) -> int:
            now_us = self._tools.clock.now_us()
            bound_us = now_us - days * DAY_US + WIDEN_SLACK_US if days else None
            for actor in backlog.windowed_scans(tx, bound_us):
                # Its first pages may have been cut by the narrower setting.
                scans.end_of(tx, actor)
            narrow = backlog.find_narrow(tx, bound_us, WIDEN_PER_WRITE)
            for actor, epoch in narrow:
                repos.resync(tx, actor, epoch, "more history is wanted", 0, now_us)
            return len(narrow)

        while number := await self._tools.database.write(some):
            log.info("history_widened", accounts=number)

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        places = self._tools.settings.outbound_total - len(self._running)
        if places <= 0:
            return
        now_us = self._tools.clock.now_us()
        now_s = self._tools.clock.monotonic_s()
        self._resting = {actor: until for actor, until in self._resting.items() if until > now_s}
        busy = [*self._running, *self._resting]
        hosts = self._tools.hosts.resting(now_s)
        per_host = max(self._tools.settings.outbound_per_host, UNPLACED_MAX)

        connected = self._connected()
        self._doubts_first = not self._doubts_first

        def find(reader: Reader) -> list[Due]:
            # Without a stream that goes on from here, what is written from now on is never heard of.
            if not connected and not backlog.is_covered(reader):
                return []
            return backlog.due(
                reader, now_us, hosts, busy, per_host, 2 * places, doubts_first=self._doubts_first
            )

        # Real time, whatever the clock says: it is that of a reader.
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        found = await self._tools.database.read(find)
        self._rest_s = min((loop.time() - began_s) * REST_PER_LOOK, REST_MAX_S)
        for due in found:
            if len(self._running) >= self._tools.settings.outbound_total:
                break
            if self._has_place(due):
                task = group.create_task(self._work(due), name=f"backfill {due.did}")
                self._running[due.actor] = (due, task)
        RUNNING.set(len(self._running))

    def _has_place(self, due: Due) -> bool:
        """Whether this one may start beside those that run.

        Of a host's places one is kept for repositories that nobody has seen a page of, so that
        long ones don't keep new ones waiting.
        """
        settings = self._tools.settings
        on_host = [running for running, _ in self._running.values() if running.pds == due.pds]
        if due.pds is None:
            return len(on_host) < UNPLACED_MAX
        if len(on_host) >= settings.outbound_per_host:
            return False
        if not due.begun:
            return True
        going_on = Counter(running.begun for running, _ in self._running.values())[True]
        if going_on >= max(settings.outbound_total - PLACES_FOR_NEW, 1):
            return False
        return sum(running.begun for running in on_host) < max(settings.outbound_per_host - 1, 1)

    async def _work(self, due: Due) -> None:
        try:
            await job.work(self._tools, due)
        except Corrupt:
            raise
        except Unavailable as error:
            # Our own disk refuses: nobody else is to blame, and soon there may be room.
            log.warning("backfill_not_stored", did=due.did, error=error)
            self._resting[due.actor] = self._tools.clock.monotonic_s() + AFTER_REFUSAL_S
        except Exception as error:  # noqa: BLE001 - one job: it is counted and tried again, the others go on
            FAILED.inc()
            log.error("backfill_failed", did=due.did, error=error, trace=error)
            self._resting[due.actor] = self._tools.clock.monotonic_s() + AFTER_FAILURE_S
        finally:
            del self._running[due.actor]
            self._wake.set()

    async def _count(self) -> None:
        now_s = self._tools.clock.monotonic_s()
        if now_s - self._counted_s < COUNT_EVERY_S:
            return
        self._counted_s = now_s
        counts = await self._tools.database.read(repos.counts)
        for state in repos.STATES:
            REPOS.labels(state).set(counts.get(state, 0))

    async def _sleep(self) -> None:
        """Until woken, or for the time of a poll: others write jobs into the database without a word."""
        woken = asyncio.ensure_future(self._wake.wait())
        passed = asyncio.ensure_future(self._tools.clock.sleep(POLL_S))
        try:
            await asyncio.wait({woken, passed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            passed.cancel()
