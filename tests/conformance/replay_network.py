"""The recorded network on loopback: a relay, a PLC directory and handle resolution, as of any event."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
from websockets.asyncio.server import ServerConnection, serve

from tests.conformance.scenario import Json, Scenario


class ReplayNetwork:
    """``release`` lets the stream go on; documents and handles are as of the last frame released.

    The recorded PDSs are not there any more: this host stands in their place and says that it is busy.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._frames = [(step.seq, step.what) for step in scenario.steps() if step.kind == "event"]
        self._generators: dict[str, Json] = {
            each["did"]: each["skeletons"] for each in scenario.about.get("feedgens", [])
        }
        self._released = 0
        self._more = asyncio.Condition()
        self._stack = contextlib.AsyncExitStack()
        self.origin = ""
        self.relay = ""

    async def __aenter__(self) -> ReplayNetwork:
        http = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._stack.push_async_callback(http.wait_closed)
        self._stack.callback(http.close)
        self.origin = f"http://127.0.0.1:{http.sockets[0].getsockname()[1]}"
        stream = await self._stack.enter_async_context(serve(self._stream, "127.0.0.1", 0, compression=None))
        self.relay = f"ws://127.0.0.1:{next(iter(stream.sockets)).getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def release(self, seq: int) -> None:
        """The stream may go on up to this event."""
        async with self._more:
            self._released = seq
            self._more.notify_all()

    async def _stream(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        cursor = parse_qs(urlsplit(connection.request.path).query).get("cursor", ["0"])[0]
        for seq, raw in self._frames:
            if seq <= int(cursor):
                continue
            async with self._more:
                await self._more.wait_for(lambda seq=seq: seq <= self._released)  # type: ignore[misc]
            await connection.send(raw)
        await connection.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            target = urlsplit(head.split(b" ", 2)[1].decode())
            status, answer = self._answer(unquote(target.path), parse_qs(target.query))
            body = orjson.dumps(answer)
            writer.write(
                b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path == "/xrpc/com.atproto.identity.resolveHandle":
            handle = query.get("handle", [""])[0].lower()
            for each in self._scenario.people.values():
                if f"at://{handle}" in each.document_at(self._released).get("alsoKnownAs", []):
                    return 200, {"did": each.did}
            return 400, {"error": "InvalidRequest", "message": "Unable to resolve handle"}
        if path == "/xrpc/app.bsky.feed.getFeedSkeleton":
            return self._skeleton(query)
        if path.startswith("/xrpc/"):
            return 503, {"error": "ServiceUnavailable", "message": "the recording has no PDS"}
        if path[1:] in self._generators:
            return 200, self._generator(path[1:])
        person = self._scenario.people.get(path[1:])
        if person is None:
            return 404, {"message": f"DID not registered: {path[1:]}"}
        return 200, self._moved_here(person.document_at(self._released))

    def _generator(self, did: str) -> Json:
        service = {"id": "#bsky_fg", "type": "BskyFeedGenerator", "serviceEndpoint": self.origin}
        return {"id": did, "service": [service]}

    def _skeleton(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        """As the recorded generators did: their library answered 500 for what its schema does not allow."""
        feed = query["feed"][0]
        canned = next((each[feed] for each in self._generators.values() if feed in each), None)
        if canned is None:
            return 400, {"error": "UnknownFeed", "message": "unknown feed"}
        if "$invalidBody" in canned or "$status" in canned:
            return 500, {"error": "InternalServerError", "message": "Internal Server Error"}
        if "$paged" in canned:
            start, end = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
            posts = canned["$paged"]
            page: Json = {"feed": [{"post": post} for post in posts[start : start + end]]}
            return 200, page | ({"cursor": str(start + end)} if start + end < len(posts) else {})
        return 200, canned

    def _moved_here(self, document: Json) -> Json:
        services = [
            {**service, "serviceEndpoint": self.origin}
            if service.get("type") == "AtprotoPersonalDataServer"
            else service
            for service in document.get("service", [])
        ]
        return {**document, "service": services}
