"""The XRPC side on a real port, with time that a test can move."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config

from appliance.clock import ManualClock
from tests.auth.house import BOB
from tests.xrpc.counter import APP_PASSWORD, Counter

__all__ = ["APP_PASSWORD", "CAROL", "Counter", "open_counter"]
CAROL = "did:plc:cccccccccccccccccccccccc"


@asynccontextmanager
async def open_counter(path: Path) -> AsyncIterator[tuple[Counter, str]]:
    """A desk with its XRPC side served; Bob and Carol are known. Gives also the origin."""
    async with AsyncExitStack() as stack:
        # The clients compare our tokens with their own clock.
        counter = Counter(path, ManualClock(time.time_ns() // 1000))
        await counter.open(stack)
        await counter.known(CAROL, "carol.test")
        await counter.known(BOB, "bob.test")
        listener = socket.create_server(("127.0.0.1", 0))
        origin = f"http://localhost:{listener.getsockname()[1]}"
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.errorlog = None
        stop = asyncio.Event()
        server = asyncio.create_task(serve(counter.app, config, shutdown_trigger=stop.wait, mode="asgi"))  # type: ignore[arg-type]
        try:
            yield counter, origin
        finally:
            stop.set()
            await server
            await counter.auth.close()
