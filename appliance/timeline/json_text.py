"""Small pieces of JSON as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_datetime_us
from appliance.store.post_reads import LabelRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = -62_135_596_800_000  # 0001-01-01T00:00:00Z, which is how some programs say "no date"
_LAST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def text(value: Any) -> bytes:
    """Any value as JSON."""
    return orjson.dumps(value)


def instant(ms: int) -> str:
    """Milliseconds since 1970 as answers spell them."""
    moment = _EPOCH + timedelta(milliseconds=min(ms, _LAST_MS)) if ms > _FIRST_MS else _EPOCH
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def normal_instant(value: object) -> str:
    """A record's own time, in UTC and milliseconds; 1970 where it can't be read."""
    try:
        return instant(parse_datetime_us(value) // 1000) if isinstance(value, str) else instant(0)
    except BadInput:
        return instant(0)


def joined(parts: Iterable[bytes]) -> bytes:
    """An array of finished values."""
    return b"[" + b",".join(parts) + b"]"


def label(row: LabelRow) -> bytes:
    """A labeler's word as views show it."""
    view = {"src": row.src, "uri": row.uri, "val": row.val, "cts": row.cts}
    if row.cid:
        view["cid"] = row.cid
    return text(view)
