"""How far our clock is from those of the hosts that we read.

Told twice: by the ``Date`` with which a host answers as a stream is opened, so that a wrong clock shows
at the start, and by the events of a busy stream at its tip. It changes only what an operator is told.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from appliance import telemetry
from appliance.clock import Clock

log = telemetry.Log("ingest")
SKEW = telemetry.gauge(
    "clock_skew_seconds", "Our clock minus the upstream's; positive where ours is ahead. NaN while unknown."
)

WARN_S = 30.0
WARN_EVERY_S = 3600.0
WINDOW_S = 10.0
# A window tells something if the stream was as fast as time itself: then it is no replay, and no trickle.
EVENTS_MIN = 50
PACE = (0.5, 1.5)


class Skew:
    """The latest measurement. One for the life of the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds: float | None = None
        self._warned_s = float("-inf")
        self._begun_s = 0.0
        self._first_us = 0
        self._least_us = 0
        self._events = 0
        SKEW.set(float("nan"))

    @property
    def seconds(self) -> float | None:
        """Positive where our clock is ahead; None while nothing told."""
        return self._seconds

    def opened(self, date: str | None) -> None:
        """A stream was opened by an answer with that ``Date``. Windows of the one before it say nothing."""
        self._events = 0
        if date is None:
            return
        try:
            moment = parsedate_to_datetime(date)
        except ValueError:
            return
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        # Whole seconds, cut: half a second more is nearer to the truth.
        self._found(self._clock.now_us() / 1e6 - moment.timestamp() - 0.5)

    def heard(self, time_us: int) -> None:
        """An event with that time on the upstream's clock has just come."""
        now_s = self._clock.monotonic_s()
        late_us = self._clock.now_us() - time_us
        if self._events == 0:
            self._begun_s, self._first_us, self._least_us = now_s, time_us, late_us
        self._events += 1
        self._least_us = min(self._least_us, late_us)
        passed_s = now_s - self._begun_s
        if passed_s < WINDOW_S:
            return
        pace = (time_us - self._first_us) / 1e6 / passed_s
        if self._events >= EVENTS_MIN and PACE[0] <= pace <= PACE[1]:
            # The quickest of them was hardly on its way at all.
            self._found(self._least_us / 1e6)
        self._events = 0

    def _found(self, seconds: float) -> None:
        self._seconds = round(seconds, 1)
        SKEW.set(self._seconds)
        now_s = self._clock.monotonic_s()
        if abs(seconds) > WARN_S and now_s - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now_s
            log.warning("clock_differs", ours_ahead_s=self._seconds)
