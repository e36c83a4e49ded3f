"""What one connection of a line proves, step by step: that it stands where it should, is live, and sealed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from appliance import crash_points, telemetry
from appliance.errors import BadInput, Unavailable
from appliance.ingest import jetstream_v1, looks
from appliance.ingest.connection import Ear
from appliance.ingest.doors import Door, Host, Tools
from appliance.ingest.lists import EVERYBODY
from appliance.ingest.upstream import FIRST_TIME_US, Chunk, Start, TooOld, Wire
from appliance.store import coverage
from appliance.store.database import Transaction

if TYPE_CHECKING:
    from appliance.ingest.line import Line

log = telemetry.Log("ingest")
SEALS = telemetry.counter("ingest_seals", "Second connections over the end of a replay.", ["end"])
CANARIES = telemetry.counter("ingest_canary_silent", "Connections given up because no canary was heard.")

LIVE_WITHIN_US = 10_000_000
# A stream that goes on as fast as time does has caught up, though its clock be wrong by that much.
SKEW_MAX_US = 600_000_000
PACE_S = 3.0
QUIET_S = 3.0
LOOK_S = 0.2
SEAL_BEFORE_US = 10_000_000
SEAL_AFTER_S = 3.0
SEAL_RETRY_S = 5.0
PROBE_RETRY_S = 5.0
CANARY_S = 600.0


class Care:
    """Looks after one connection while it stands."""

    def __init__(
        self, line: Line, tools: Tools, host: Host, wire: Wire, door: Door, start: Start | None, ear: Ear
    ) -> None:
        self._line = line
        self._tools = tools
        self._host = host
        self._wire = wire
        self._door = door
        self._start = start
        self._ear = ear

    async def run(self) -> None:
        """Prove step by step that this connection delivers everything after its start cursor."""
        line, clock = self._line, self._tools.clock
        try:
            if line.wanted.dids is not None and self._start is not None:
                await self._probe(self._start)
            await self._until_live()
            line.live = True
            await self._measure()
            await self._note(self._live)
            if self._door.wire == "jetstream-v1" and self._start is not None:
                await self._seal()
            await self._note(self._sealed)
            while True:
                await clock.sleep(LOOK_S * 5)
                if line.wanted.canaries and clock.monotonic_s() - line.canary_s > CANARY_S:
                    CANARIES.inc()
                    self._ear.cut("no canary is heard")
                    return
        except Exception as error:  # noqa: BLE001 - kept for the reader of the connection, which raises it
            line.broken = error
            self._ear.cut("it could not be looked after")

    async def _probe(self, start: Start) -> None:
        """Whether the host still has, and knows already, what comes after ``start``."""
        line = self._line
        while True:
            try:
                gap = await looks.find_gap(self._host.make(EVERYBODY), start, self._tools.clock)
            except TooOld:
                return  # of a number: then the connection itself was told so, or has been given what it asked
            except (Unavailable, BadInput) as error:
                log.info("probe_failed", upstream=self._door.name, error=error)
                await self._tools.clock.sleep(PROBE_RETRY_S)
                continue
            if gap is None:
                return
            if not line.in_force:
                self._ear.cut(f"no candidate: {gap.reason}")
                await asyncio.Event().wait()
            line.gap_found(self._door.name, gap)
            await self._tools.deliver(self._door, Chunk([], None, None, 0, gap))
            return

    async def _until_live(self) -> None:
        """Return when the connection has caught up: its events are young, or keep pace, or there are none."""
        line, clock = self._line, self._tools.clock
        paced_s, paced_us = clock.monotonic_s(), line.newest_us
        while True:
            now_s, newest_us = clock.monotonic_s(), line.newest_us
            if now_s - line.heard_s >= QUIET_S:
                return  # a server with more to tell would tell it
            if newest_us is not None and (line.passes_us is None or newest_us >= line.passes_us):
                age_us = abs(clock.now_us() - newest_us)
                if age_us < LIVE_WITHIN_US:
                    return
                if now_s - paced_s >= PACE_S:
                    gone_us = (now_s - paced_s) * 1e6
                    if age_us < SKEW_MAX_US and paced_us is not None and newest_us - paced_us < 1.3 * gone_us:
                        return
                    paced_s, paced_us = now_s, newest_us
            await clock.sleep(LOOK_S)

    async def _seal(self) -> None:
        """Read the end of the replay once more by a second connection; each covers where the other's ends."""
        line, clock, name = self._line, self._tools.clock, self._door.name
        newest_us = line.newest_us or line.from_us
        assert newest_us is not None, "a connection with a cursor begins somewhere"
        line.seam_us = seam_us = max(newest_us - SEAL_BEFORE_US, FIRST_TIME_US + SEAL_BEFORE_US)
        while not (isinstance(self._wire, jetstream_v1.JetstreamV1) and self._wire.numbered):
            # Its own replay must end later than that of the first, so that they don't lose the same.
            await clock.sleep(SEAL_AFTER_S)
            try:
                await self._read_again(seam_us, line.newest_us)
            except (Unavailable, BadInput) as error:
                SEALS.labels("failed").inc()
                log.info("seal_failed", upstream=name, error=error)
                await clock.sleep(SEAL_RETRY_S)
            else:
                SEALS.labels("done").inc()
                break
        line.seam_us = None

    async def _read_again(self, from_us: int, until_us: int | None) -> None:
        """Deliver what a second connection tells from there to there, or to where nothing more comes."""
        start = Start(None, from_us, same_host=True, seen=False)
        second = Door(self._line, self._door.name, self._door.wire, seals=True)
        wire = self._host.make(self._line.wanted)
        async with contextlib.aclosing(looks.look(wire, start, self._tools.clock, QUIET_S)) as reading:
            async for chunk in reading:
                if until_us is not None and chunk.time_us is not None and chunk.time_us > until_us:
                    return
                if chunk.events:
                    await self._tools.deliver(second, chunk._replace(gap=None))

    async def _measure(self) -> None:
        """Note how far the host's clock is from ours, at the tip."""
        line, name = self._line, self._door.name
        if line.newest_us is None or self._tools.clock.monotonic_s() - line.heard_s >= QUIET_S:
            return
        if self._tools.skews.measured(name, line.newest_us - self._tools.clock.now_us()):
            skew_us = self._tools.skews.of(name)
            log.info("skew_measured", upstream=name, seconds=round(skew_us / 1e6, 1))
            await self._note(lambda tx: coverage.note_skew(tx, name, skew_us))

    def _live(self, tx: Transaction) -> None:
        coverage.live(tx, self._door.known_row, self._tools.clock.now_us())
        tx.announce(partial(log.info, "upstream_live", upstream=self._door.name, mode=self._line.wanted.mode))

    def _sealed(self, tx: Transaction) -> None:
        """In the transaction after all that was read: the accounts of the list are covered."""
        line = self._line
        coverage.sealed(tx, self._door.known_row, self._tools.clock.now_us())
        if line.in_force and line.wanted.dids is not None and line.from_us is not None:
            number = coverage.prove(tx, line.from_us, line.wanted.dids)
            if number:
                tx.announce(partial(log.info, "coverage_proved", accounts=number, from_us=line.from_us))
        crash_points.reach("sealed-before-commit")
        tx.announce(line.proved.set)

    async def _note(self, note: Callable[[Transaction], None]) -> None:
        """Write that behind everything delivered so far, in one transaction with the end of it."""
        await self._tools.deliver(self._door, Chunk([], None, None, 0, note=note))
