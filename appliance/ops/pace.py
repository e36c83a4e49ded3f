"""Do we catch up? Upstream time gained for each second that passes, over restarts.

A process that is killed again and again before it has caught up looks healthy each time. Samples of where
the stream stood are therefore kept in the database.
"""

from __future__ import annotations

from typing import Final, NamedTuple

WINDOW_US: Final = 30 * 60_000_000
SPAN_MIN_US: Final = 5 * 60_000_000
# Nearer than this is not behind, whatever the direction.
LAG_US: Final = 120_000_000
SAMPLES_MAX: Final = 200
APART_US: Final = 10_000_000


class Sample(NamedTuple):
    """At ``now_us`` everything of the stream up to ``reached_us`` was stored."""

    now_us: int
    reached_us: int


class Pace(NamedTuple):
    """``ratio``: upstream seconds for each second, None where too little is known."""

    ratio: float | None
    behind: bool


def after(samples: list[Sample], now_us: int, reached_us: int | None) -> list[Sample]:
    """The samples with one more; old ones go, and those of a clock that was ahead.

    What was reached stays reached: a quiet stream was read up to the moment when its connection broke.
    """
    kept = [one for one in samples if now_us - WINDOW_US <= one.now_us <= now_us]
    if reached_us is not None and (not kept or now_us - kept[-1].now_us >= APART_US):
        reached_us = max([reached_us, *(one.reached_us for one in kept[-1:])])
        kept.append(Sample(now_us, reached_us))
    return kept[-SAMPLES_MAX:]


def judge(samples: list[Sample]) -> Pace:
    """Behind is who lags and does not gain: at this pace it would never be live again."""
    if not samples or samples[-1].now_us - samples[0].now_us < SPAN_MIN_US:
        return Pace(None, behind=False)
    first, last = samples[0], samples[-1]
    ratio = round((last.reached_us - first.reached_us) / (last.now_us - first.now_us), 3)
    lags = last.now_us - last.reached_us > LAG_US
    return Pace(ratio, behind=lags and ratio <= 1.0)
