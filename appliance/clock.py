"""Time, as a parameter: the system's clock, and one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what we store, monotonic time for what we wait for."""

    def now_us(self) -> int:
        """Wall time, microseconds since 1970 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock."""
        ...


class SystemClock:
    """The machine's own."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """Stands still until a test moves it; sleepers wake in order of their time."""

    def __init__(self, start_us: int = 1_767_225_600_000_000) -> None:
        self._start_us = start_us
        self._elapsed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        return self._start_us + round(self._elapsed_s * 1_000_000)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Move on; whoever wakes on the way runs before the rest of the way is gone."""
        end = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, waiter = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, due)
            if not waiter.done():
                waiter.set_result(None)
            for _ in range(20):
                await asyncio.sleep(0)
        self._elapsed_s = end
