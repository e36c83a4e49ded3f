"""When to ask again: a repository by its own failures, a host by those of all its repositories."""

from __future__ import annotations

import random

from appliance.errors import ApplianceError, BadInput, NotFound, Unavailable

PAUSE_MIN_S = 60.0
PAUSE_MAX_S = 3600.0
HOST_PAUSE_MIN_S = 5.0
HOST_PAUSE_MAX_S = 600.0
SPREAD = 0.2
# An inactive account is looked at after 6 hours, then ever more rarely, down to once a week.
INACTIVE_MIN_S = 6 * 3600.0
INACTIVE_MAX_S = 7 * 86_400.0
_DOUBLINGS_MAX = 20


def spread(seconds: float, rng: random.Random) -> float:
    """The pause, a fifth shorter to a fifth longer, so that a crowd doesn't come back at once."""
    return seconds * rng.uniform(1 - SPREAD, 1 + SPREAD)


def pause_s(attempts: int, rng: random.Random) -> float:
    """After so many failures in a row: 1 minute, doubling up to 1 hour."""
    return spread(min(PAUSE_MIN_S * 2.0 ** min(max(attempts - 1, 0), _DOUBLINGS_MAX), PAUSE_MAX_S), rng)


def inactive_pause_s(attempts: int, rng: random.Random) -> float:
    """Until an inactive account is looked at again; ``attempts``: looks before the one just had."""
    return spread(min(INACTIVE_MIN_S * 2.0 ** min(attempts, _DOUBLINGS_MAX), INACTIVE_MAX_S), rng)


def next_us(now_us: int, error: ApplianceError, attempts: int, rng: random.Random) -> int:
    """The moment of the next attempt. A wait that the host named is kept, and never cut short."""
    named_s = error.retry_after_s if isinstance(error, Unavailable) else None
    # Named waits are spread upwards only.
    seconds = pause_s(attempts, rng) if named_s is None else named_s * rng.uniform(1, 1 + SPREAD) + 0.1
    return now_us + round(seconds * 1_000_000)


def reason_of(error: ApplianceError) -> str:
    """The class of the failure, for the operator: what kind of thing is in the way."""
    if isinstance(error, Unavailable):
        kind = "rate" if error.name == "RateLimitExceeded" else "host"
    elif isinstance(error, NotFound):
        kind = "identity"
    elif isinstance(error, BadInput):
        kind = "data"
    else:
        kind = "refused"
    return f"{kind}: {error.message}"[:200]


class Hosts:
    """Hosts that failed lately. They rest as a whole, so that each of their thousand repositories
    needn't find out alone."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._failures: dict[str, int] = {}
        self._until_s: dict[str, float] = {}

    def resting(self, now_s: float) -> list[str]:
        """The origins that are not to be asked now."""
        for origin in [origin for origin, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[origin]
        return list(self._until_s)

    def next_s(self) -> float | None:
        """When the first of them may be asked again."""
        return min(self._until_s.values(), default=None)

    def failed(self, origin: str, now_s: float, named_s: float | None) -> None:
        """No answer came from it, or one that asked for a pause."""
        failures = self._failures[origin] = self._failures.get(origin, 0) + 1
        pause = min(HOST_PAUSE_MIN_S * 2.0 ** min(failures - 1, _DOUBLINGS_MAX), HOST_PAUSE_MAX_S)
        if named_s is not None:
            pause = named_s
        self._until_s[origin] = max(self._until_s.get(origin, 0.0), now_s + spread(pause, self._random))

    def answered(self, origin: str) -> None:
        """It is well."""
        self._failures.pop(origin, None)
