"""Bodies, decompressed in small pieces and counted while they come."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterable

from appliance.errors import BadInput, Unavailable

PIECE = 64 * 1024
ACCEPT_ENCODING = "gzip"


async def pieces(raw: AsyncIterable[bytes], encoding: str, body_max: int) -> AsyncGenerator[bytes, None]:
    """The plain body in pieces of at most 64 KiB.

    Raises BadInput once it exceeds ``body_max`` or for an encoding that we did not ask for,
    Unavailable when a compressed body ends early.
    """
    plain = _gunzip(raw) if encoding == "gzip" else _split(raw)
    if encoding not in ("", "identity", "gzip"):
        raise BadInput("the answer is compressed in a way that was not asked for")
    total = 0
    async for piece in plain:
        total += len(piece)
        if total > body_max:
            raise BadInput("the answer is larger than allowed", name="ResponseTooLarge")
        yield piece


async def _split(raw: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    async for chunk in raw:
        for at in range(0, len(chunk), PIECE):
            yield chunk[at : at + PIECE]


async def _gunzip(raw: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    # Never more than a piece is inflated at once, so a bomb stops at the caller's count.
    inflater = zlib.decompressobj(31)
    started = False
    try:
        async for chunk in raw:
            rest = chunk
            while rest:
                if inflater.eof:
                    inflater = zlib.decompressobj(31)  # the next member of the same file
                started = True
                piece = inflater.decompress(rest, PIECE)
                rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                if piece:
                    yield piece
        # What is left inside once the input has ended is less than a window.
        while started and not inflater.eof:
            piece = inflater.decompress(b"", PIECE)
            if not piece:
                raise Unavailable("the answer ended early")
            yield piece
    except zlib.error as error:
        raise BadInput("the answer's compression is broken") from error
