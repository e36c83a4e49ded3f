"""How much each caller may ask of us: token buckets by proven account, session or address, in memory.

A token that proves nothing never chooses a bucket, or one could use up another's (AUTH RL-2).
"""

from __future__ import annotations

import ipaddress
import math
from typing import Final, Literal, NamedTuple

from cachetools import LRUCache

from appliance import telemetry
from appliance.clock import Clock
from appliance.config import Settings, parse_limit
from appliance.errors import Unavailable

EXCEEDED = telemetry.counter("limited_requests", "Requests that a limit has refused, by class.", ["kind"])

# Callers remembered; of one that was forgotten the bucket is full again.
BUCKETS_MAX = 100_000

Kind = Literal[
    "member", "search", "guest", "bad_tokens", "pages", "guest_pages", "pictures", "writes", "uploads",
    "exports", "reports", "admin",
]  # fmt: skip
_KINDS: Final[tuple[Kind, ...]] = (
    "member", "search", "guest", "bad_tokens", "pages", "guest_pages", "pictures", "writes", "uploads",
    "exports", "reports", "admin",
)  # fmt: skip


class Left(NamedTuple):
    """What is left of a bucket after a request."""

    burst: int
    remaining: int
    reset_s: int
    window_s: int

    @property
    def headers(self) -> list[tuple[str, str]]:
        """As clients of this network read it."""
        return [
            ("ratelimit-limit", str(self.burst)),
            ("ratelimit-remaining", str(self.remaining)),
            ("ratelimit-reset", str(self.reset_s)),
            ("ratelimit-policy", f"{self.burst};w={self.window_s}"),
        ]


class Exceeded(Unavailable):
    """The caller has asked too much of us: 429. A limit of somebody else's is plain Unavailable."""

    def __init__(self, left: Left, retry_after_s: float) -> None:
        super().__init__(
            "Too many requests: wait a little", name="RateLimitExceeded", retry_after_s=retry_after_s
        )
        self.left = left


class Budgets:
    """The buckets of all callers."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._limits = {kind: parse_limit(getattr(settings, f"limit_{kind}")) for kind in _KINDS}
        self._on = settings.rate_limits == "on"
        # What was left, and when.
        self._buckets: LRUCache[tuple[Kind, str], tuple[float, float]] = LRUCache(BUCKETS_MAX)

    def take(self, kind: Kind, whose: str, cost: float = 1.0) -> Left | None:
        """Let a request of this caller pass. Raises Exceeded. None where nobody counts: ``whose`` is ''."""
        if not self._on or not whose:
            return None
        limit = self._limits[kind]
        rate, burst = limit.rate, limit.burst
        now_s, key = self._clock.monotonic_s(), (kind, whose)
        tokens, at_s = self._buckets.get(key, (float(burst), now_s))
        tokens = min(float(burst), tokens + (now_s - at_s) * rate)
        enough = tokens >= cost
        if enough:
            tokens -= cost
        self._buckets[key] = (tokens, now_s)
        # The time at which there is no trace of this caller left, by the clock that clients have.
        full_s = math.ceil(self._clock.now_us() / 1_000_000 + (burst - tokens) / rate)
        left = Left(burst, int(tokens), full_s, math.ceil(burst / rate))
        if not enough:
            EXCEEDED.labels(kind).inc()
            raise Exceeded(left, (cost - tokens) / rate)
        return left

    def check(self, kind: Kind, whose: str) -> None:
        """Raises Exceeded where nothing is left, and takes nothing."""
        limit = self._limits[kind]
        tokens, at_s = self._buckets.get((kind, whose), (float(limit.burst), 0.0))
        if tokens + (self._clock.monotonic_s() - at_s) * limit.rate < 1.0:
            self.take(kind, whose)


def of_address(client: str) -> str:
    """What an address counts as: a /64 is one caller; '' for this machine, whose proxy names nobody."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)
    return str(address)
