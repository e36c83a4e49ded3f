"""Watches whether the process does its work: the stream moves, rows are stored, the loop turns.

Quiet is not stalled: a connection that stands and has nothing to tell is well. What counts is whether
events that wait are taken, and whether the database answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from appliance import telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.store import standing
from appliance.store.database import Database
from appliance.timeline.completeness import LAG_MAX_S, Stream

log = telemetry.Log("watch")
STALLS = telemetry.gauge("event_loop_stall_seconds", "Longest stall of the event loop in the last minute.")

LOOK_EVERY_S: Final = 1.0
ASK_EVERY_S: Final = 5.0
STALL_MIN_S: Final = 0.01
# A connection that breaks and comes back within this time is no news.
GRACE_S: Final = 10.0
STALLS_KEPT_S: Final = 60.0


class Verdict(NamedTuple):
    """What is wrong, in words; nothing where all is well."""

    dead: list[str]
    unready: list[str]


class Watch:
    """``facts`` are the pipeline's; everything is judged when somebody asks, by monotonic time."""

    def __init__(
        self, database: Database, facts: Callable[[], dict[str, Any]], settings: Settings, clock: Clock
    ) -> None:
        self._database = database
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self.started_us = clock.now_us()
        start_s = clock.monotonic_s()
        self._start_s = start_s
        self._live_s: float | None = None  # when the stream was last seen live
        self._live_us = self.started_us
        self._live_lag_s = 0.0
        self._events = -1
        self._moved_s = start_s  # when the committed events last grew, or none waited
        self._stored_s = start_s
        self._answered_s = start_s
        self._oldest_doubt_us: int | None = None
        self._stalls: list[tuple[float, float]] = []
        STALLS.set_function(self.longest_stall_s)

    async def run(self) -> None:
        """Look every second, so that times of good and bad are known when somebody asks."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_forever(), name="watch")
            group.create_task(self._ask_forever(), name="watch database")

    async def _look_forever(self) -> None:
        while True:
            before_s = self._clock.monotonic_s()
            await self._clock.sleep(LOOK_EVERY_S)
            self.late(self._clock.monotonic_s() - before_s - LOOK_EVERY_S)
            self.stream()

    async def _ask_forever(self) -> None:
        while True:
            await self.ask()
            await self._clock.sleep(ASK_EVERY_S)

    async def ask(self) -> None:
        """Ask the database for the oldest doubt; whether it answers is as much worth knowing."""
        try:
            self._oldest_doubt_us = await self._database.read(standing.oldest_doubt_us)
            self._answered_s = self._clock.monotonic_s()
        except Exception as error:  # noqa: BLE001 - one look at the database: what counts is for how long it fails
            log.error("database_does_not_answer", error=error)

    def late(self, late_s: float) -> None:
        """The event loop came back from a pause so much later than it should have."""
        now_s = self._clock.monotonic_s()
        self._stalls = [kept for kept in self._stalls if now_s - kept[0] < STALLS_KEPT_S]
        if late_s > STALL_MIN_S:
            self._stalls.append((now_s, late_s))

    def longest_stall_s(self) -> float:
        """How long the event loop was late at most within the last minute."""
        return max((late_s for _, late_s in self._stalls), default=0.0)

    def uptime_s(self) -> float:
        """Since the process began."""
        return self._clock.monotonic_s() - self._start_s

    def stream(self) -> Stream:
        """The live stream as it stands now."""
        facts, now_s = self._facts(), self._clock.monotonic_s()
        if not facts["queued"] or facts["events"] != self._events:
            self._events, self._moved_s = facts["events"], now_s
        if facts["storing"]:
            self._stored_s = now_s
        lag_s = facts["lag_s"]
        delivers = facts["connected"] and facts["storing"] and not self._is_stalled(now_s)
        if delivers and lag_s is not None and lag_s <= LAG_MAX_S:
            self._live_s, self._live_us, self._live_lag_s = now_s, self._clock.now_us(), lag_s
            return Stream(None, lag_s)
        since_s = now_s - (self._start_s if self._live_s is None else self._live_s)
        if since_s <= GRACE_S and self._live_s is not None:
            # Everything up to then was here: whatever the position's age says of a network that is quiet.
            known_s = self._live_lag_s + since_s
            return Stream(None, known_s if lag_s is None else min(lag_s, known_s))
        if delivers or since_s <= GRACE_S:
            return Stream(None, lag_s)
        return Stream(self._live_us, lag_s)

    def verdict(self) -> Verdict:
        """Whether the process does its work, and whether readers get what they were promised."""
        self.stream()
        settings, now_s = self._settings, self._clock.monotonic_s()
        dead: list[str] = []
        if self._is_stalled(now_s):
            dead.append(f"events wait and none was stored for {_span(now_s - self._moved_s)}")
        if now_s - self._stored_s > settings.health_stalled_s:
            dead.append(f"the database has refused to store for {_span(now_s - self._stored_s)}")
        if now_s - self._answered_s > settings.health_stalled_s + ASK_EVERY_S:
            dead.append(f"the database has not answered for {_span(now_s - self._answered_s)}")
        unready = list(dead)
        not_live_s = now_s - (self._start_s if self._live_s is None else self._live_s)
        if not_live_s > settings.ready_lag_max_s:
            unready.append(f"the stream has not been live for {_span(not_live_s)}")
        limit_s = settings.ready_doubt_max_hours * 3600
        if limit_s and (doubt_s := self.doubt_age_s()) > limit_s:
            unready.append(f"a doubt has been open for {_span(doubt_s)}")
        return Verdict(dead, unready)

    def doubt_age_s(self) -> float:
        """Age of the oldest open doubt; 0 without any."""
        if self._oldest_doubt_us is None:
            return 0.0
        return max((self._clock.now_us() - self._oldest_doubt_us) / 1e6, 0.0)

    def facts(self) -> dict[str, Any]:
        """For probes: what the verdict rests on."""
        stream, now_s = self.stream(), self._clock.monotonic_s()
        return {
            **self._facts(),
            "live": stream.down_since_us is None and stream.lag_s is not None and stream.lag_s <= LAG_MAX_S,
            "stalled_s": round(now_s - self._moved_s, 1),
            "oldest_doubt_s": round(self.doubt_age_s(), 1),
            "uptime_s": round(self.uptime_s(), 1),
        }

    def _is_stalled(self, now_s: float) -> bool:
        return now_s - self._moved_s > self._settings.health_stalled_s


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"
