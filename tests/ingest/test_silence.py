"""When silence on a connection that stands means something: only where events are to be expected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.clock import ManualClock
from appliance.ingest import connection
from appliance.ingest.connection import Ear

STEP_S = connection.SILENCE_BUSY_S / 3
HOURS = 3600.0


@asynccontextmanager
async def watched(clock: ManualClock, ear: Ear) -> AsyncIterator[list[float]]:
    """The watch over it runs; when it cut the connection is in the list."""
    cut: list[float] = []
    ear.listens(lambda: cut.append(clock.monotonic_s()))
    ear.open = True
    task = asyncio.create_task(connection._watch(clock, ear))
    await asyncio.sleep(0)
    try:
        yield cut
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def pass_s(clock: ManualClock, seconds: float, ear: Ear | None = None, per_step: int = 0) -> None:
    """Let time pass; with ``ear``, hear so many messages in each step."""
    for _ in range(int(seconds / STEP_S)):
        if ear is not None:
            ear.heard += per_step
        await clock.advance(STEP_S)


async def test_a_small_network_may_be_quiet_for_hours_and_is_not_cut() -> None:
    clock, ear = ManualClock(), Ear()
    async with watched(clock, ear) as cut:
        await pass_s(clock, 60, ear, per_step=1)
        await pass_s(clock, 6 * HOURS)

        assert (cut, ear.why) == ([], "")


async def test_a_busy_stream_that_falls_silent_is_cut_within_seconds() -> None:
    clock, ear = ManualClock(), Ear()
    async with watched(clock, ear) as cut:
        await pass_s(clock, 60, ear, per_step=100)
        silent_s = clock.monotonic_s()
        await pass_s(clock, 60)

        assert ear.why == "the stream fell silent"
        assert cut
        assert cut[0] - silent_s <= connection.SILENCE_BUSY_S + STEP_S


async def test_what_was_busy_before_a_reconnection_may_not_stay_silent_after_it() -> None:
    clock, ear = ManualClock(), Ear(busy=True)
    async with watched(clock, ear) as cut:
        await pass_s(clock, 60)

        assert len(cut) == 1


async def test_a_stream_that_became_quiet_by_and_by_is_left_in_peace() -> None:
    clock, ear = ManualClock(), Ear(busy=True)
    async with watched(clock, ear) as cut:
        await pass_s(clock, 300, ear, per_step=1)
        await pass_s(clock, HOURS)

        assert (cut, ear.busy) == ([], False)


async def test_the_silence_while_nobody_listens_is_our_own() -> None:
    clock, ear = ManualClock(), Ear(busy=True)
    async with watched(clock, ear) as cut:
        ear.open = False
        await pass_s(clock, HOURS)

        assert cut == []
