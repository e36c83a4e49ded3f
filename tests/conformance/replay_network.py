"""The recorded network's directories on loopback: a PLC directory and handle resolution, as of any event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from tests.conformance.scenario import Scenario


class ReplayNetwork:
    """Serves DID documents at ``/<did>`` and ``resolveHandle``. ``seq`` is how far the world has come."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.seq = 0
        self.requests = 0
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def __aenter__(self) -> ReplayNetwork:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            status, answer = self._answer(urlsplit(target).path, parse_qs(urlsplit(target).query))
            body = orjson.dumps(answer)
            self.requests += 1
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
            )
            await writer.drain()
        finally:
            writer.close()

    def _answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path == "/xrpc/com.atproto.identity.resolveHandle":
            handle = query.get("handle", [""])[0].lower()
            for each in self._scenario.people.values():
                if f"at://{handle}" in each.document_at(self.seq).get("alsoKnownAs", []):
                    return 200, {"did": each.did}
            return 400, {"error": "InvalidRequest", "message": "Unable to resolve handle"}
        person = self._scenario.people.get(unquote(path[1:]))
        if person is None:
            return 404, {"message": f"DID not registered: {path[1:]}"}
        return 200, person.document_at(self.seq)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
