"""Times as the wires spell them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_ms(us: int) -> str:
    """RFC 3339 UTC with three decimals, as clients and servers of the network write it."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{us // 1000 % 1000:03}Z"


def iso_us(us: int) -> str:
    """RFC 3339 UTC with six decimals."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{us % 1_000_000:06}Z"


def parse_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time; raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)
