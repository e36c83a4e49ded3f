"""Compression of replies, for whoever takes it and where it pays: JSON of posts shrinks to an eighth or less.

Level 1 is where it is cheapest by far: half a millisecond for a full page of a timeline, against
megabytes on the way to a PDS or a phone.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable
from typing import Final

from appliance.xrpc.replies import Header, Reply

PACKED_BYTES_MIN: Final = 1024
# Above this the work is worth a hop to a thread, so that it does not hold up others.
ASIDE_BYTES_MIN: Final = 65_536
LEVEL: Final = 1
_GZIP: Final = 31  # zlib's word for: with the header of gzip
_VARY: Final = b"authorization, atproto-accept-labelers, accept-encoding"


async def packed(reply: Reply, headers: Iterable[tuple[bytes, bytes]]) -> Reply:
    """The reply, compressed if these request headers allow it. Small ones stay as they are."""
    if len(reply.body) < PACKED_BYTES_MIN:
        return reply
    if not takes_gzip(b",".join(value for name, value in headers if name == b"accept-encoding")):
        return reply._replace(headers=_with(reply.headers, []))
    data = reply.body
    body = await asyncio.to_thread(_pack, data) if len(data) >= ASIDE_BYTES_MIN else _pack(data)
    more = [(b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(body))]
    return Reply(reply.status, _with(reply.headers, more), body)


def takes_gzip(accepted: bytes) -> bool:
    """What an Accept-Encoding header says of gzip: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3"""
    best: dict[bytes, bool] = {}
    for part in accepted.lower().split(b","):
        name, _, rest = part.partition(b";")
        weight = rest.replace(b" ", b"").removeprefix(b"q=")
        best[name.strip()] = not weight or weight.strip(b"0.") != b""
    return best.get(b"gzip", best.get(b"x-gzip", best.get(b"*", False)))


def _with(headers: list[Header], more: list[Header]) -> list[Header]:
    """``vary`` names the encoding as well; what is in ``more`` stands once."""
    new = {b"vary", *(name for name, _ in more)}
    return [*(header for header in headers if header[0] not in new), *more, (b"vary", _VARY)]


def _pack(data: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()
