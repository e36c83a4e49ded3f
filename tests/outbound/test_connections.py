"""Connections end, whatever happens to whoever was to end them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.outbound.client import Outbound
from appliance.outbound.limits import PDS_JSON
from tests.scripted import Names, reply

KEPT = 4
CLOSE_WAIT = "08"
STEPS_MAX = 500


class Forgetful:
    """Answers once all have asked, and at a word closes the connections that it was to keep."""

    def __init__(self) -> None:
        self.all_asked = asyncio.Barrier(KEPT)
        self.closes = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if not self.closes.is_set():
                await self.all_asked.wait()
            writer.write(reply(200, b"{}"))
            await writer.drain()
            await self.closes.wait()
        writer.close()

    def seen_by_the_client(self) -> list[str]:
        """The states of the client's connections, as the kernel names them."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return [each[3] for each in lines if each[2].endswith(f":{self.port:04X}") and each[9] != "0"]


async def test_whoever_is_cancelled_at_any_step_leaves_no_connection_open(clock: ManualClock) -> None:
    """Kept connections have died; who asks next has to close them all, and may be cancelled meanwhile."""
    for steps in range(STEPS_MAX):
        server = Forgetful()
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        url = f"http://localhost:{server.port}"
        settings = Settings(allow_loopback=True, outbound_rate_per_host=1000.0, outbound_per_host=KEPT + 1)
        outbound = Outbound(settings, clock, names=Names())
        await asyncio.gather(*(outbound.get(url, limits=PDS_JSON) for _ in range(KEPT)))
        server.closes.set()
        async with asyncio.timeout(60):
            while server.seen_by_the_client() != [CLOSE_WAIT] * KEPT:
                await asyncio.sleep(0.001)

        task = asyncio.create_task(outbound.get(url, limits=PDS_JSON))
        for _ in range(steps):
            await asyncio.sleep(0)
        done = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await outbound.close()

        assert not server.seen_by_the_client(), f"cancelled after {steps} steps"
        listening.close()
        await listening.wait_closed()
        if done:
            assert steps > KEPT
            return
    raise AssertionError("the request never ended")


async def test_who_goes_on_after_the_client_was_closed_leaves_no_connection_open(clock: ManualClock) -> None:
    for steps in range(40):
        server = Forgetful()
        server.closes.set()
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        outbound = Outbound(Settings(allow_loopback=True), clock, names=Names())
        url = f"http://localhost:{server.port}"
        task = asyncio.create_task(outbound.get(url, limits=PDS_JSON))
        for _ in range(steps):
            await asyncio.sleep(0)
        await outbound.close()
        await asyncio.gather(task, return_exceptions=True)
        await outbound.close()
        assert not server.seen_by_the_client(), f"closed after {steps} steps"
        listening.close()
        await listening.wait_closed()
