"""What a record says about its time, read leniently: a strange date must not cost a record."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from appliance.errors import BadInput
from appliance.protocol.tid import tid_us

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LENIENT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?\s*([Zz]|[+-]\d{2}:?\d{2})?"
)


def created_ms(text: str | None) -> int | None:
    """Milliseconds since 1970, finer digits cut, negative before 1970; None for no date.

    Without a zone it is UTC; a leap second is the second after.
    """
    if not text or len(text) > 64:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _lenient_ms(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    # Subtracting needs no year outside Python's calendar; converting to UTC would.
    return (moment - _EPOCH) // _MS


def first_sort_ms(created: int | None, seen_us: int) -> int:
    """Where a record stands that the network showed us at ``seen_us``, live."""
    seen_ms = seen_us // 1000
    return seen_ms if created is None else min(created, seen_ms)


def snapshot_sort_ms(created: int | None, rkey: str, now_us: int) -> int:
    """Where a record stands that was found in a repository at ``now_us``: nobody knows when it came there."""
    now_ms = now_us // 1000
    if created is not None and created <= now_ms:
        return created
    try:
        named_us = tid_us(rkey)
    except BadInput:
        return now_ms
    return named_us // 1000 if named_us <= now_us else now_ms


def _lenient_ms(text: str) -> int | None:
    match = _LENIENT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        base = datetime(max(int(year), 1), int(month), int(day), int(hour or 0), int(minute or 0), tzinfo=UTC)
    except ValueError:
        return None
    if int(second or 0) > 60:
        return None
    since = (
        base
        - _EPOCH
        + timedelta(seconds=int(second or 0), milliseconds=int((fraction or "0")[:3].ljust(3, "0")))
    )
    if zone and zone not in "Zz":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        since -= -offset if zone[0] == "-" else offset
    return since // _MS
