"""A server for streams: WebSockets whose parameters are judged before the upgrade, and plain GETs."""

from __future__ import annotations

import socket as sockets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.http11 import Response
from websockets.typing import Subprotocol

from appliance.devnet.http import CORS, Answer, Disconnected, Request, Site, XrpcError, request_of
from appliance.devnet.streams import Socket, StreamSocket

# Judges a request before the upgrade (raises XrpcError), and returns what then serves the socket.
Opener: TypeAlias = Callable[[Request], Callable[[Socket], Awaitable[None]]]


class StreamServer:
    """One origin that serves streams."""

    def __init__(
        self,
        site: Site,
        openers: dict[str, Opener],
        subprotocol: str = "",
        too_long: Callable[[str], bool] | None = None,
    ) -> None:
        """``too_long`` tells which addresses are refused with 414."""
        self._too_long = too_long
        self.site = site
        self._openers = openers
        self._subprotocol = subprotocol
        self._opened: WeakKeyDictionary[ServerConnection, Callable[[Socket], Awaitable[None]]] = (
            WeakKeyDictionary()
        )

    async def start(self, listening: sockets.socket) -> Server:
        """Serve on a socket that listens already."""
        return await serve(
            self._handle,
            sock=listening,
            process_request=self._judge,
            select_subprotocol=self._choose,
            compression=None,
            max_size=11_000_000,
            ping_interval=30,
            close_timeout=1,
            server_header=None,
        )

    async def _judge(self, connection: ServerConnection, handshake: Handshake) -> Response | None:
        headers = {name.lower(): value for name, value in handshake.headers.raw_items()}
        request = request_of("GET", handshake.path, headers)
        opener = self._openers.get(request.path)
        if self._too_long is not None and self._too_long(handshake.path):
            return _response(Answer(b"", status=414, content_type="text/plain"))
        if opener is None:
            return _response(await self.site.answer(request))
        if headers.get("upgrade", "").lower() != "websocket":
            return _response(XrpcError(426, "UpgradeRequired", "this is a WebSocket endpoint").answer())
        try:
            self._opened[connection] = opener(request)
        except XrpcError as error:
            return _response(error.answer())
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        try:
            await self._opened.pop(connection)(StreamSocket(connection))
        except Disconnected:
            return

    def _choose(self, _: ServerConnection, offered: object) -> Subprotocol | None:
        if self._subprotocol and isinstance(offered, list | tuple) and self._subprotocol in offered:
            return Subprotocol(self._subprotocol)
        return None


def _response(answer: Answer) -> Response:
    headers = Headers(CORS | {"content-type": answer.content_type} | answer.headers)
    headers["content-length"] = str(len(answer.body))
    headers["connection"] = "close"
    return Response(answer.status, HTTPStatus(answer.status).phrase, headers, answer.body)
