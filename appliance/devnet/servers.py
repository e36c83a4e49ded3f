"""Sockets and servers: every service on its own port of localhost, all in this event loop."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import Mapping
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from websockets.asyncio.server import Server

from appliance.devnet.http import Receive, Send, Site
from appliance.devnet.stream_server import StreamServer

BACKLOG = 256


def listen(port: int) -> sockets.socket:
    """A listening socket on loopback; raises OSError where the port is taken."""
    listening = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
    listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def listen_for(names: list[str], first: int, before: Mapping[str, int]) -> dict[str, sockets.socket]:
    """A socket for each name: from ``first`` upwards, or, with 0, where it was before or anywhere free."""
    found: dict[str, sockets.socket] = {}
    try:
        for index, name in enumerate(names):
            if first:
                found[name] = listen(first + index)
                continue
            try:
                found[name] = listen(before.get(name, 0))
            except OSError:
                found[name] = listen(0)
    except OSError:
        for listening in found.values():
            listening.close()
        raise
    return found


class Servers:
    """Runs sites and stream servers until it is closed."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._sites: dict[int, Site] = {}
        self._bound: list[sockets.socket] = []
        self._streams: list[Server] = []
        self._task: asyncio.Task[None] | None = None

    def add_site(self, site: Site, listening: sockets.socket) -> None:
        """Takes the socket over."""
        self._sites[listening.getsockname()[1]] = site
        self._bound.append(listening)

    async def add_stream(self, server: StreamServer, listening: sockets.socket) -> None:
        """Takes the socket over, and serves at once."""
        self._streams.append(await server.start(listening))

    async def start(self) -> None:
        """Serve the sites."""
        config = Config()
        config.bind = [f"fd://{listening.detach()}" for listening in self._bound]
        config.accesslog = config.errorlog = None
        config.graceful_timeout = 1
        config.include_server_header = False
        started = asyncio.Event()

        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await _lifespan(receive, send, started)
                return
            await self._sites[scope["server"][1]](scope, receive, send)

        self._task = asyncio.create_task(
            serve(app, config, shutdown_trigger=self._stop.wait)  # type: ignore[arg-type] # plain dicts for scopes
        )
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            await self._task

    async def close(self) -> None:
        """End everything; connections that linger are cut."""
        self._stop.set()
        for server in self._streams:
            server.close()
        for server in self._streams:
            await server.wait_closed()
        if self._task is not None:
            # A client that doesn't read keeps the server from ending, or makes it end in an error of its own.
            await asyncio.wait((self._task,), timeout=3)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _lifespan(receive: Receive, send: Send, started: asyncio.Event) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
        started.set()
