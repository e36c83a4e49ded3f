"""The server of the timeline benchmark, in a process of its own: ``python -m bench.timeline_server DB``."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import msgspec
import uvloop

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.store.database import Database
from appliance.timeline.answering import Answer
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views
from appliance.xrpc import reads
from appliance.xrpc.asgi import Front
from appliance.xrpc.methods import Access, Call, Method
from bench.timeline_world import did
from tests.serving import serving


class _Proven(msgspec.Struct, frozen=True):
    did: str
    member: bool = True


async def _everybody_is_the_viewer(
    authorization: str | None, nsid: str, *, procedure: bool = False
) -> _Proven:
    return _Proven(did(0))


async def main(path: Path) -> None:
    """Serve until standard input closes; prints the origin first.

    ``_health`` answers the bytes of the viewer's first page from memory.
    """
    settings = Settings(labelers=())
    database = await Database.open(path)
    views = Views(database, settings, SystemClock())
    page = await views.timeline(Asker(did=did(0)))

    async def from_memory(_: Call) -> Answer:
        return Answer(page.body)

    methods = [m for m in reads.methods(views, settings, "bench") if m.nsid != "_health"]
    methods.append(Method("_health", Access.PUBLIC, from_memory))
    front = Front(methods, _everybody_is_the_viewer, default_labelers=())
    async with serving(front) as origin:
        gc.collect()
        gc.freeze()
        print(origin, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await database.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
