"""Clocks: the system's own, and the one that stands still until it is moved."""

import asyncio
import time

import pytest

from appliance.clock import Clock, ManualClock, SystemClock


async def test_the_system_clock_is_the_machine_s() -> None:
    clock: Clock = SystemClock()
    before_us, before_s = time.time_ns() // 1000, time.monotonic()

    await clock.sleep(0.001)

    assert before_us < clock.now_us() <= time.time_ns() // 1000
    assert before_s + 0.001 <= clock.monotonic_s() <= time.monotonic()


async def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(1_000_000)

    await clock.advance(1.5)

    assert clock.now_us() == 2_500_000
    assert clock.monotonic_s() == 1.5


async def test_sleepers_wake_in_the_order_of_their_time_and_see_it() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic_s()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in [("late", 3.0), ("early", 1.0), ("also early", 1.0)]:
            group.create_task(sleep(name, seconds))
        await asyncio.sleep(0)
        await clock.advance(2.0)
        assert woken == [("early", 1.0), ("also early", 1.0)]
        await clock.advance(2.0)

    assert woken[-1] == ("late", 3.0)


async def test_whoever_sleeps_again_within_the_way_is_woken_again_on_it() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def tick() -> None:
        for _ in range(5):
            await clock.sleep(1)
            times.append(clock.monotonic_s())

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await clock.advance(10)

    assert times == [1, 2, 3, 4, 5]
    await ticking


async def test_a_sleeper_that_was_cancelled_keeps_nobody_from_waking() -> None:
    clock = ManualClock()
    first = asyncio.create_task(clock.sleep(1))
    second = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)

    first.cancel()
    await clock.advance(1)

    await second
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize("seconds", [0, -1])
async def test_sleeping_for_no_time_lets_others_run_and_returns(seconds: float) -> None:
    clock = ManualClock()
    ran: list[str] = []
    other = asyncio.create_task(_note(ran))

    await clock.sleep(seconds)

    assert ran == ["other"]
    await other


async def _note(ran: list[str]) -> None:
    ran.append("other")
