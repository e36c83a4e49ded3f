"""Wrong tries at signing in: how many, by whom, and what they cost."""

from __future__ import annotations

from collections import deque

from cachetools import LRUCache

from appliance.clock import Clock
from appliance.errors import Unavailable

WINDOW_S = 15 * 60.0
# One account tried from many addresses is slowed down and never locked: its owner gets in.
SLOW_AFTER = 20
SLOW_S = 3.0
NAMES_MAX = 50_000


class Attempts:
    """Counts failures in a sliding quarter of an hour; lost on restart, bounded in memory."""

    def __init__(self, clock: Clock, *, on: bool, per_pair: int = 5, per_client: int = 20) -> None:
        self._clock = clock
        self._per_pair = per_pair
        self._per_client = per_client
        self._on = on
        self._failures: LRUCache[tuple[str, str], deque[float]] = LRUCache(NAMES_MAX)

    async def admit(self, identifier: str, client: str) -> None:
        """Let one try pass, later when the account is under attack. Raises Unavailable, RateLimitExceeded."""
        if not self._on:
            return
        for name, most in (((identifier, client), self._per_pair), (("", client), self._per_client)):
            wait_s = self._wait_s(name, most)
            if client and wait_s > 0:
                raise Unavailable(
                    "Too many wrong tries: wait some minutes", name="RateLimitExceeded", retry_after_s=wait_s
                )
        if self._wait_s((identifier, ""), SLOW_AFTER) > 0:
            await self._clock.sleep(SLOW_S)

    def failed(self, identifier: str, client: str) -> None:
        """The try was a wrong one."""
        now_s = self._clock.monotonic_s()
        for name in {(identifier, client), ("", client), (identifier, "")}:
            times = self._failures.setdefault(
                name, deque(maxlen=max(self._per_pair, self._per_client, SLOW_AFTER))
            )
            times.append(now_s)

    def _wait_s(self, name: tuple[str, str], most: int) -> float:
        """Seconds until one more try is due."""
        times = self._failures.get(name)
        if times is None:
            return 0.0
        end_s = self._clock.monotonic_s() - WINDOW_S
        while times and times[0] <= end_s:
            times.popleft()
        return times[-most] - end_s if len(times) >= most else 0.0
