"""How often one host is asked."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest

from appliance.clock import ManualClock
from appliance.errors import Unavailable
from appliance.outbound.limits import PDS_JSON, PDS_WRITE, Limits
from appliance.outbound.pacing import Pacing


async def ask(pacing: Pacing, times: list[float], clock: ManualClock, limits: Limits = PDS_JSON) -> None:
    async with pacing.turn("a", limits):
        times.append(clock.monotonic_s())


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_requests_to_one_host_keep_its_pace() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=32, rate=5.0)
    times: list[float] = []
    tasks = [asyncio.create_task(ask(pacing, times, clock)) for _ in range(25)]
    await settle()
    assert len(times) == 5  # one second's worth at once
    for _ in range(90):
        await clock.advance(0.05)
        await settle()
    await asyncio.gather(*tasks)
    assert times[-1] == pytest.approx(4.0, abs=0.1)


async def test_one_slow_host_does_not_hold_up_another() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=1, total=1, rate=0.001)
    await ask(pacing, [], clock)
    waiting = asyncio.create_task(ask(pacing, [], clock, PDS_JSON))
    await settle()
    async with asyncio.timeout(2), pacing.turn("b", PDS_JSON):
        pass
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_person_does_not_queue_behind_the_background() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=1, total=1, rate=1.0)
    done = asyncio.Event()

    async def hold() -> None:
        async with pacing.turn("a", PDS_JSON):
            await done.wait()

    background = [asyncio.create_task(hold()) for _ in range(5)]
    await settle()
    times: list[float] = []
    await asyncio.wait_for(ask(pacing, times, clock, PDS_WRITE), 2)
    assert times == [0.0]
    for task in background:
        task.cancel()
    await asyncio.wait(background)


async def test_no_more_are_in_flight_than_allowed() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=3, rate=1000.0)
    now: dict[str, int] = {"a": 0, "b": 0}
    most = {"a": 0, "b": 0, "all": 0}

    async def one(host: str) -> None:
        async with pacing.turn(host, PDS_JSON):
            now[host] += 1
            most[host] = max(most[host], now[host])
            most["all"] = max(most["all"], sum(now.values()))
            await asyncio.sleep(0)
            now[host] -= 1

    await asyncio.gather(*(one("ab"[n % 2]) for n in range(100)))
    assert most == {"a": 2, "b": 2, "all": 3}


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"ratelimit-reset": "1767225612"}, 12.0),
        ({}, 30.0),
        ({"retry-after": "999999999"}, 3600.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "-5"}, 30.0),
    ],
)
async def test_a_host_that_says_slow_down_is_left_alone_until_then(
    headers: dict[str, str], wait_s: float
) -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=32, rate=5.0)
    await ask(pacing, [], clock)
    assert pacing.heard("a", 429, headers) == wait_s
    if wait_s > PDS_JSON.patience_s:
        with pytest.raises(Unavailable) as caught:
            await ask(pacing, [], clock)
        assert caught.value.retry_after_s == wait_s
        return
    times: list[float] = []
    task = asyncio.create_task(ask(pacing, times, clock))
    await settle()
    await clock.advance(wait_s - 0.5)
    assert not times
    await clock.advance(1)
    await task
    assert times == [wait_s]


async def test_what_is_left_of_a_budget_is_spread_until_its_reset() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=32, rate=100.0)
    await ask(pacing, [], clock)
    pacing.heard(
        "a", 200, {"ratelimit-limit": "3000", "ratelimit-remaining": "10", "ratelimit-reset": "1767225700"}
    )
    times: list[float] = []
    tasks = [asyncio.create_task(ask(pacing, times, clock)) for _ in range(8)]
    for _ in range(100):
        await settle()
        await clock.advance(1)
    await asyncio.gather(*tasks)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]  # noqa: RUF007 - reads as what it is
    assert min(gaps[1:]) == pytest.approx(10, abs=1)


async def test_what_others_use_of_a_budget_slows_us_down_101() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=32, rate=100.0)
    patient = dataclasses.replace(PDS_JSON, patience_s=1000)
    times: list[float] = []
    await ask(pacing, times, clock)
    for remaining in ("2900", "150", "30", "0"):
        # We have asked once; the rest went to others behind our address.
        reset = str(clock.now_us() // 1_000_000 + 300)
        headers = {"ratelimit-limit": "3000", "ratelimit-remaining": remaining, "ratelimit-reset": reset}
        pacing.heard("a", 200, headers)
        waiting = asyncio.create_task(ask(pacing, times, clock, patient))
        for _ in range(3100):
            await settle()
            if waiting.done():
                break
            await clock.advance(0.1)
        assert waiting.done()
    waits_s = [round(b - a) for a, b in itertools.pairwise(times)]
    # The first two seconds are less by what may be asked at once after a rest.
    assert waits_s == [0, 1, 10, 300]


async def test_an_empty_budget_waits_for_its_reset() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=32, rate=100.0)
    await ask(pacing, [], clock)
    pacing.heard(
        "a", 200, {"ratelimit-limit": "10", "ratelimit-remaining": "0", "ratelimit-reset": "1767225640"}
    )
    times: list[float] = []
    task = asyncio.create_task(ask(pacing, times, clock))
    await settle()
    await clock.advance(41)
    await task
    assert times == [40.0]


async def test_many_hosts_do_not_pile_up() -> None:
    clock = ManualClock()
    pacing = Pacing(clock, per_host=2, total=32, rate=5.0)
    for n in range(10_000):
        async with pacing.turn(f"host{n}", PDS_JSON):
            pass
    assert len(pacing._hosts) <= 4096


async def test_a_limit_shared_with_other_software_is_not_run_into() -> None:
    """Catalogue 101: somebody behind our address uses it up as well; the host counts for both."""
    clock = ManualClock()
    pacing = Pacing(clock, per_host=1, total=32, rate=5.0)
    limit, window_s = 100, 60.0
    used, window_ends_s = 0, window_s
    refused = asked = 0

    async def one() -> None:
        nonlocal used, window_ends_s, refused, asked
        async with pacing.turn("a", PDS_JSON):
            now_s = clock.monotonic_s()
            while now_s >= window_ends_s:
                window_ends_s += window_s
                used = 0
            asked += 1
            used += 3  # two of the others for each of ours
            status = 200 if used <= limit else 429
            refused += status == 429
            headers = {
                "ratelimit-limit": str(limit),
                "ratelimit-remaining": str(max(limit - used, 0)),
                "ratelimit-reset": str(window_ends_s - now_s),
            }
            pacing.heard("a", status, headers)

    async def ask_on() -> None:
        while True:
            try:
                await one()
            except Unavailable as busy:
                await clock.sleep(busy.retry_after_s or 1)

    asking = asyncio.create_task(ask_on())
    await settle()
    for _ in range(1200):
        await clock.advance(0.5)
        await settle()
    asking.cancel()
    await asyncio.wait([asking])

    assert refused <= asked // 50
    assert asked >= 200, "and what is left is used"
