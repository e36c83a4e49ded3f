"""TIDs: the protocol's clock-made identifiers, used as rev and as record key."""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import BadInput
from appliance.protocol.syntax import is_tid

# https://atproto.com/specs/tid
_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
_FROM_BASE32 = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_TIME_END = 1 << 53
_CLOCKS = 1 << 10


def tid_of(us: int, clock_id: int = 0) -> str:
    """The TID of that microsecond since 1970 and clock (0 to 1023)."""
    if not (0 <= us < _TIME_END and 0 <= clock_id < _CLOCKS):
        raise BadInput("outside the range of a TID")
    return _to_text(us << 10 | clock_id)


def tid_us(tid: str) -> int:
    """The microsecond since 1970 that it names; raises BadInput."""
    return _to_number(tid) >> 10


def tid_clock(tid: str) -> int:
    """The clock id, 0 to 1023; raises BadInput."""
    return _to_number(tid) & (_CLOCKS - 1)


class TidGenerator:
    """Strictly rising TIDs, also when the clock steps back or stands still."""

    def __init__(self, now_us: Callable[[], int], clock_id: int, *, after: str | None = None) -> None:
        if not 0 <= clock_id < _CLOCKS:
            raise BadInput("outside the range of a TID")
        self._now_us = now_us
        self._clock_id = clock_id
        self._last_us = -1 if after is None else tid_us(after)

    def next(self, *, after: str | None = None) -> str:
        """The next one; later than ``after`` too, where another clock made that."""
        if after is not None:
            self._last_us = max(self._last_us, tid_us(after))
        self._last_us = max(self._now_us(), self._last_us + 1)
        return tid_of(self._last_us, self._clock_id)


def _to_text(number: int) -> str:
    return (
        _ALPHABET[number >> 60]
        + _PAIRS[number >> 50 & 1023]
        + _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def _to_number(tid: str) -> int:
    if not is_tid(tid):
        raise BadInput("not a TID")
    return int(tid.translate(_FROM_BASE32), 32)
