"""How often one host is asked: our own pace, bent by what the host says of its limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from appliance.clock import Clock
from appliance.errors import Unavailable
from appliance.outbound.limits import Limits

HOSTS_MAX = 4096
BURST_S = 1.0  # so many seconds' worth of requests may go at once after a pause
BLOCK_DEFAULT_S = 30.0
BLOCK_MAX_S = 3600.0
SPREAD_BELOW = 0.25  # of the host's limit: what is left is spread over the time to its reset


class _Host:
    """What we know of one host's patience."""

    __slots__ = ("background", "blocked_until_s", "due_s", "interactive", "pause_s", "pause_until_s", "users")

    def __init__(self, in_flight: int) -> None:
        self.background = asyncio.Semaphore(in_flight)
        self.interactive = asyncio.Semaphore(in_flight)
        self.due_s = float("-inf")  # when the last granted request would be due at an even pace
        self.blocked_until_s = 0.0
        self.pause_s = 0.0
        self.pause_until_s = 0.0
        self.users = 0


class Pacing:
    """Grants turns. All times are of the clock's monotonic side, except what hosts say."""

    def __init__(self, clock: Clock, *, per_host: int, total: int, rate: float) -> None:
        self._clock = clock
        self._per_host = per_host
        self._rate = rate
        self._hosts: dict[str, _Host] = {}
        self._background = asyncio.Semaphore(total)
        self._interactive = asyncio.Semaphore(total)

    @contextlib.asynccontextmanager
    async def turn(self, name: str, limits: Limits) -> AsyncIterator[None]:
        """Hold one of the host's places. Raises Unavailable when it would take too long to get one."""
        host = self._host(name, limits)
        host.users += 1
        try:
            place, all_places = host.background, self._background
            if limits.interactive:
                place, all_places = host.interactive, self._interactive
            async with _within(place, limits.patience_s):
                await self._wait(host, limits)
                async with _within(all_places, limits.patience_s):
                    yield
        finally:
            host.users -= 1

    def heard(self, name: str, status: int, headers: Mapping[str, str]) -> float | None:
        """Learn from an answer; for a 429 the seconds until the host wants to be asked again."""
        host = self._hosts.get(name)
        if host is None:
            return None
        now_s = self._clock.monotonic_s()
        limit = _number(headers.get("ratelimit-limit"))
        remaining = _number(headers.get("ratelimit-remaining"))
        reset_s = self._until(_number(headers.get("ratelimit-reset")))
        if status == 429:
            wait_s = _number(headers.get("retry-after"))
            if wait_s is None:
                wait_s = reset_s if reset_s is not None else BLOCK_DEFAULT_S
            wait_s = min(max(wait_s, 0.1), BLOCK_MAX_S)
            host.blocked_until_s = max(host.blocked_until_s, now_s + wait_s)
            return wait_s
        if remaining is not None and reset_s is not None:
            if remaining <= 0:
                host.blocked_until_s = max(host.blocked_until_s, now_s + min(reset_s, BLOCK_MAX_S))
            elif limit and remaining < limit * SPREAD_BELOW:
                host.pause_s = min(reset_s / remaining, 60.0)
                host.pause_until_s = now_s + reset_s
            else:
                host.pause_s = 0.0
        return None

    async def _wait(self, host: _Host, limits: Limits) -> None:
        give_up_s = self._clock.monotonic_s() + limits.patience_s
        now_s = self._clock.monotonic_s()
        rate = limits.rate or self._rate
        gap_s = 1 / rate
        if now_s < host.pause_until_s:
            gap_s = max(gap_s, host.pause_s)
        due_s = max(host.due_s, now_s - max(BURST_S, gap_s)) + gap_s
        if limits.interactive:
            # Counted, so that the background waits for it, but not kept waiting itself.
            host.due_s = max(host.due_s, min(due_s, now_s + 10 * gap_s))
            due_s = now_s
        elif due_s > give_up_s:
            raise _busy(due_s - now_s)
        else:
            host.due_s = due_s
        while (wait_s := max(due_s, host.blocked_until_s) - self._clock.monotonic_s()) > 0:
            if max(due_s, host.blocked_until_s) > give_up_s:
                raise _busy(wait_s)
            await self._clock.sleep(wait_s)

    def _host(self, name: str, limits: Limits) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= HOSTS_MAX:
                now_s = self._clock.monotonic_s()
                idle = [n for n, h in self._hosts.items() if not h.users and h.blocked_until_s <= now_s]
                for old in idle[: HOSTS_MAX // 4]:
                    del self._hosts[old]
                if len(self._hosts) >= 2 * HOSTS_MAX:
                    raise Unavailable("too many hosts are being asked at once")
            host = self._hosts[name] = _Host(limits.in_flight or self._per_host)
        return host

    def _until(self, unix_s: float | None) -> float | None:
        """Seconds until a moment named in unix seconds; small numbers are seconds already."""
        if unix_s is None:
            return None
        if unix_s < 10_000_000:
            return unix_s
        return max(unix_s - self._clock.now_us() / 1_000_000, 0.0)


@contextlib.asynccontextmanager
async def _within(places: asyncio.Semaphore, patience_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(patience_s):
            await places.acquire()
    except TimeoutError:
        raise _busy(patience_s) from None
    try:
        yield
    finally:
        places.release()


def _busy(wait_s: float) -> Unavailable:
    return Unavailable("that host has to be asked more slowly", retry_after_s=round(wait_s, 3))


def _number(text: str | None) -> float | None:
    """A header's number; None for anything else, dates and infinities included."""
    if text is None or len(text) > 20 or not text.strip().replace(".", "", 1).isdecimal():
        return None
    return float(text)
