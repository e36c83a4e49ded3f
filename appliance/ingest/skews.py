"""How far the clocks of hosts are from ours, and what margin a time of one needs at another."""

from __future__ import annotations

from typing import Final

from appliance import telemetry
from appliance.ingest.upstream import OTHER_HOST_MARGIN_US

SKEW = telemetry.gauge("ingest_skew_seconds", "How far an upstream's clock is ahead of ours.", ["upstream"])
# Less than that is the time that events take to get here.
NOTICED_US: Final = 10_000_000


class Skews:
    """What was measured last of each host, in microseconds ahead of our clock."""

    def __init__(self) -> None:
        self._ahead_us: dict[str, int] = {}

    def load(self, known: dict[str, int]) -> None:
        """Begin with what an earlier process measured."""
        self._ahead_us = dict(known)

    def measured(self, host: str, ahead_us: int) -> bool:
        """The tip of the host's stream was that far ahead; True where that is news."""
        ahead_us = 0 if abs(ahead_us) < NOTICED_US else ahead_us
        SKEW.labels(host).set(ahead_us / 1e6)
        before_us = self._ahead_us.get(host)
        self._ahead_us[host] = ahead_us
        return abs(ahead_us - (before_us or 0)) >= NOTICED_US

    def of(self, host: str) -> int:
        """The last measure; 0 while there is none."""
        return self._ahead_us.get(host, 0)

    def margin_us(self, known: str, other: str) -> int:
        """How much earlier a time of ``known`` is asked for at ``other``.

        One that was never read may be wrong as far in the other direction.
        """
        apart_us = abs(self.of(known) - self._ahead_us.get(other, -self.of(known)))
        return max(OTHER_HOST_MARGIN_US, 2 * apart_us)
