"""Compression of what is sent, where the browser takes it and it pays."""

from __future__ import annotations

import asyncio
import gzip

from quart import Request, Response

PACKED_TYPES = frozenset({"text/html", "text/plain", "application/json", "application/atom+xml"})
PACKED_BYTES_MIN = 1024
# Above this the work is worth a hop to a thread, so that it does not hold up others.
ASIDE_BYTES_MIN = 32_768
LEVEL = 6


async def pack(request: Request, response: Response) -> Response:
    """Compress the body, unless it is of a kind that is small already."""
    if response.mimetype not in PACKED_TYPES or "Content-Encoding" in response.headers:
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"] or response.status_code in (204, 304):
        return response
    data = await response.get_data(as_text=False)
    if len(data) < PACKED_BYTES_MIN:
        return response
    packed = await asyncio.to_thread(_packed, data) if len(data) >= ASIDE_BYTES_MIN else _packed(data)
    response.set_data(packed)
    response.headers["Content-Encoding"] = "gzip"
    return response


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, LEVEL, mtime=0)
