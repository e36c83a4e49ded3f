"""Short connections beside the one that is read: they prove what that one alone can't show."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from appliance.clock import Clock
from appliance.errors import Unavailable
from appliance.ingest.connection import Ear, chunks
from appliance.ingest.upstream import Chunk, Gap, Start, Wire

PROBE_S = 10.0
_QUIET = "nothing more to hear"


async def look(wire: Wire, start: Start | None, clock: Clock, quiet_s: float) -> AsyncGenerator[Chunk, None]:
    """What comes after ``start``, until nothing has come for that long. Raises as ``chunks`` does.

    The first chunk is the empty one of the connection that stands.
    """
    ear = Ear()
    watch: asyncio.Task[None] | None = None
    try:
        async with contextlib.aclosing(chunks(wire, start, clock, None, ear)) as reading:
            async for chunk in reading:
                if watch is None:
                    watch = asyncio.create_task(_until_quiet(ear, clock, quiet_s))
                yield chunk
    except Unavailable:
        if ear.why != _QUIET:
            raise
    finally:
        if watch is not None:
            watch.cancel()


async def find_gap(wire: Wire, start: Start, clock: Clock) -> Gap | None:
    """The retention probe: whether a host has everything after ``start``. ``wire`` asks for everybody.

    A list can't tell "no longer kept" from "quiet"; the first event of anybody can. Raises what ``chunks``
    raises where that could not be found out.
    """
    async with contextlib.aclosing(look(wire, start, clock, PROBE_S)) as reading:
        async for chunk in reading:
            if chunk.gap is not None:
                return chunk.gap
            if chunk.seq is not None or chunk.time_us is not None:
                return None
    # Nobody has written anything since: there is nothing to miss.
    return None


async def _until_quiet(ear: Ear, clock: Clock, quiet_s: float) -> None:
    heard, since_s = ear.heard, clock.monotonic_s()
    while True:
        await clock.sleep(quiet_s / 5)
        if ear.heard != heard or not ear.open:
            heard, since_s = ear.heard, clock.monotonic_s()
        elif clock.monotonic_s() - since_s >= quiet_s:
            ear.cut(_QUIET)
            return
