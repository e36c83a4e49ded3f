"""The long task that watches over the file, the room on its disk, and time itself.

It says what will become a failure before it is one, folds the log while nobody writes, counts the beats by
which an older copy is known (store/generation.py), and looks once after each start whether the file is sound.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from appliance import telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import Corrupt, Unavailable
from appliance.ops import pace
from appliance.store import checks, generation, upstreams
from appliance.store.checks import Check
from appliance.store.database import Database, Transaction

log = telemetry.Log("upkeep")
LOW = telemetry.gauge("storage_low", "1 while there is less room than LOW_SPACE_MB.")
CHECKED = telemetry.gauge(
    "store_checked_seconds", "When the file was last found sound, in unix seconds; 0: not yet."
)
STALLS = telemetry.counter("loop_stalls", "Times that the event loop did not turn for more than a second.")
CLOCK_GAPS = telemetry.counter(
    "clock_gaps", "Times that the wall clock leapt: the machine slept, or was set."
)
RATIO = telemetry.gauge(
    "ingest_seconds_per_second",
    "Upstream time gained in a second over the last half hour, restarts included; -1: unknown.",
)
BEHIND = telemetry.gauge("ingest_falls_behind", "1 while the stream is far behind and not being caught up.")

TICK_S: Final = 0.25
STALL_S: Final = 1.0
STALL_KEPT_S: Final = 60.0
CLOCK_GAP_S: Final = 30.0
LOOK_EVERY_S: Final = 15.0
BEAT_EVERY_S: Final = 60.0
CHECK_AFTER_S: Final = 10.0
FOLD_ABOVE_BYTES: Final = 16 * 1024 * 1024
LOG_LARGE_BYTES: Final = 256 * 1024 * 1024
MB: Final = 1024 * 1024


class Upkeep:
    """``woken`` are called with the seconds that the wall clock leapt. ``reached_us`` tells up to which
    upstream time everything is stored: the present while a quiet stream has nothing to tell; None: ask
    the database."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Clock,
        reached_us: Callable[[], int | None],
        woken: list[Callable[[float], None]] | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._reached_us = reached_us
        self._woken = woken or []
        self._stalls: list[tuple[float, float]] = []
        self._low = False
        self._log_large = False
        self._pace = pace.Pace(None, False)
        self._check: Check | None = None

    async def run(self) -> None:
        """Watch, until cancelled. Raises Corrupt when the file is damaged."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_time(), name="upkeep time")
            group.create_task(self._look_forever(), name="upkeep disk")
            group.create_task(self._beat_forever(), name="upkeep beats")
            group.create_task(self._check_soon(), name="upkeep check")

    # ---------------------------------------------------------------- how it fares

    def facts(self) -> dict[str, Any]:
        """For the status page and probes."""
        return {
            "free_bytes": self.free_bytes(),
            "low_space": self._low,
            "log_bytes": self._database.log_bytes(),
            "stall_s": round(self.stall_s(), 2),
            "checked_us": self._check.at_us if self._check is not None else None,
            "seconds_per_second": self._pace.ratio,
            "falls_behind": self._pace.behind,
        }

    def free_bytes(self) -> int:
        """Room left for the database."""
        return shutil.disk_usage(self._database.path.parent).free

    def stall_s(self) -> float:
        """The longest stall of the event loop in the last minute."""
        oldest_s = self._clock.monotonic_s() - STALL_KEPT_S
        self._stalls = [one for one in self._stalls if one[0] > oldest_s]
        return max((seconds for _, seconds in self._stalls), default=0.0)

    # ---------------------------------------------------------------- time

    async def _watch_time(self) -> None:
        while True:
            began_s, began_us = self._clock.monotonic_s(), self._clock.now_us()
            await self._clock.sleep(TICK_S)
            now_s = self._clock.monotonic_s()
            late_s = now_s - began_s - TICK_S
            if late_s > TICK_S:
                self._stalls.append((now_s, late_s))
            if late_s > STALL_S:
                STALLS.inc()
                log.warning("loop_stalled", seconds=round(late_s, 2))
            leapt_s = (self._clock.now_us() - began_us) / 1e6 - TICK_S
            # A machine that slept may have stopped both clocks or one; a clock that was set moved one.
            if abs(leapt_s) > CLOCK_GAP_S or late_s > CLOCK_GAP_S:
                CLOCK_GAPS.inc()
                log.warning("clock_gap", wall_s=round(leapt_s, 1), monotonic_s=round(late_s, 1))
                for hear in self._woken:
                    hear(leapt_s)

    # ---------------------------------------------------------------- the disk

    async def _look_forever(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """How much room there is, and how large the log has become; fold it if that costs nobody anything."""
        free, limit = self.free_bytes(), self._settings.low_space_mb * MB
        if (free < limit) != self._low:
            self._low = free < limit
            LOW.set(self._low)
            (log.error if self._low else log.info)(
                "storage_low" if self._low else "storage_enough", free_bytes=free, limit_bytes=limit
            )
        size = self._database.log_bytes()
        if size > FOLD_ABOVE_BYTES:
            try:
                folded = await self._database.fold()
            except Unavailable as error:
                log.warning("log_not_folded", error=error)
                folded = False
            if folded:
                log.info("log_folded", bytes=size)
        large = self._database.log_bytes() > LOG_LARGE_BYTES
        if large != self._log_large:
            self._log_large = large
            # Somebody holds an old snapshot: a copy being made from outside, or a shell left open.
            (log.error if large else log.info)("log_large" if large else "log_small_again", bytes=size)

    # ---------------------------------------------------------------- beats, and whether we catch up

    async def _beat_forever(self) -> None:
        while True:
            try:
                await self.beat()
            except Unavailable as error:
                log.warning("beat_not_stored", error=error)
            await self._clock.sleep(BEAT_EVERY_S)

    async def beat(self) -> None:
        """Count one more beat and note how far the stream has come."""
        now_us, reached_us = self._clock.now_us(), self._reached_us()

        def work(tx: Transaction) -> tuple[generation.Beat, list[pace.Sample]]:
            known = [pace.Sample(*one) for one in generation.samples(tx)]
            stored_us = upstreams.newest_time_us(tx) if reached_us is None else reached_us
            samples = pace.after(known, now_us, stored_us)
            generation.keep_samples(tx, samples)
            return generation.beat(tx), samples

        beat, samples = await self._database.write(work, durable=True)
        try:
            await asyncio.to_thread(generation.tell, self._database.path, beat)
        except OSError as error:
            log.warning("beat_not_told", error=error)
        found = pace.judge(samples)
        if found.behind and not self._pace.behind:
            log.error("falls_behind", seconds_per_second=found.ratio)
        self._pace = found
        RATIO.set(-1 if found.ratio is None else found.ratio)
        BEHIND.set(found.behind)

    # ---------------------------------------------------------------- is the file sound?

    async def _check_soon(self) -> None:
        await self._clock.sleep(CHECK_AFTER_S)
        await self.check()

    async def check(self) -> Check:
        """Look at every table; what was found is kept. Raises Corrupt for a damaged file."""
        began_s = self._clock.monotonic_s()
        tables, found = await _looked(self._database)
        seconds = round(self._clock.monotonic_s() - began_s, 3)
        check = Check(self._clock.now_us(), seconds, tables, found)
        try:
            await self._database.write(lambda tx: checks.remember(tx, check), durable=True)
        except (Unavailable, sqlite3.Error) as error:
            log.warning("check_not_stored", error=error)
        if not check.sound:
            log.error("store_damaged", found=found)
            raise Corrupt(f"the database is damaged: {found}. Restore a backup (appliance restore)")
        self._check = check
        CHECKED.set(check.at_us / 1e6)
        log.info("store_sound", tables=tables, seconds=seconds)
        return check


async def _looked(database: Database) -> tuple[int, str]:
    """The look, in a thread of its own; given up when we are cancelled."""
    connection = checks.connect(database.path)
    looking = asyncio.ensure_future(asyncio.to_thread(checks.look, connection))
    try:
        return await asyncio.shield(looking)
    except asyncio.CancelledError:
        while not looking.done():
            # Again and again: between two statements nobody hears it.
            connection.interrupt()
            await asyncio.wait([looking], timeout=0.02)
        looking.exception()
        raise
    finally:
        connection.close()
