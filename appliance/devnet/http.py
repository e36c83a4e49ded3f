"""Just enough of HTTP for the devnet's services: requests, answers, errors and an ASGI site."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote

import orjson

from appliance.errors import BadInput

BODY_MAX = 8 << 20
_log = logging.getLogger("appliance.devnet")

CORS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "*",
}
_PREFLIGHT = CORS | {
    "access-control-allow-methods": "GET, POST, HEAD, OPTIONS",
    "access-control-allow-headers": "*, authorization, atproto-proxy, atproto-accept-labelers, content-type",
    "access-control-max-age": "86400",
}


class XrpcError(Exception):
    """Answered as JSON {error, message}."""

    def __init__(
        self, status: int, name: str, message: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{name}: {message}")
        self.status = status
        self.name = name
        self.message = message
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        body = orjson.dumps({"error": self.name, "message": self.message or self.name})
        return Answer(body, status=self.status, headers=self.headers)


def invalid(message: str, name: str = "InvalidRequest") -> XrpcError:
    """Status 400."""
    return XrpcError(400, name, message)


@dataclass(slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = b""
    query_text: str = ""

    def find(self, name: str) -> str | None:
        """A query parameter; an empty one counts as absent."""
        return next((value for key, value in self.query if key == name and value), None)

    def get(self, name: str) -> str:
        """A query parameter that must be there."""
        value = self.find(name)
        if value is None:
            raise invalid(f"Error: Params must have the property {name!r}")
        return value

    def all(self, name: str) -> list[str]:
        """All values of a repeated parameter."""
        return [value for key, value in self.query if key == name]

    def limit(self, default: int, most: int) -> int:
        """The parameter ``limit``."""
        text = self.find("limit")
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise invalid(f"Error: limit must be from 1 to {most}")
        return int(text)

    def json(self) -> dict[str, Any]:
        """The body as an object."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise invalid("Request body is not JSON") from None
        if not isinstance(value, dict):
            raise invalid("Request body must be an object")
        return value


@dataclass(slots=True)
class Answer:
    """One answer; JSON unless told otherwise. ``cut``: the line is lost after so many bytes of the body."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


def json_answer(value: Any, status: int = 200) -> Answer:
    """The value as JSON."""
    return Answer(orjson.dumps(value), status=status)


Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]
SocketHandler: TypeAlias = Callable[["AsgiSocket", Request], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class Disconnected(Exception):
    """The other side of a WebSocket is gone."""


class AsgiSocket:
    """The server's end of a WebSocket that came through ASGI; accepted before the handler runs."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def send_text(self, data: bytes) -> None:
        await self._send({"type": "websocket.send", "text": data.decode()})

    async def send_bytes(self, data: bytes) -> None:
        await self._send({"type": "websocket.send", "bytes": data})

    async def receive(self) -> bytes | str:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Disconnected
        data: bytes | str | None = message.get("text")
        return data if data is not None else message["bytes"]

    async def close(self, code: int, reason: str = "") -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def abort(self) -> None:
        """As near to a cut line as ASGI allows."""
        await self.close(1011)


class Site:
    """The routes of one origin as an ASGI application."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Handler] = {}
        self.sockets: dict[str, SocketHandler] = {}
        self.fallback: Handler | None = None
        self.around: Callable[[Request, Handler], Awaitable[Answer]] | None = None
        self.errors = 0

    def get(self, path: str, handler: Handler) -> None:
        self.routes["GET", path] = handler

    def post(self, path: str, handler: Handler) -> None:
        self.routes["POST", path] = handler

    async def answer(self, request: Request) -> Answer:
        """The answer to a request, errors included."""
        handler = self.routes.get((request.method, request.path)) or self.fallback or _nothing
        try:
            if self.around is not None:
                return await self.around(request, handler)
            return await handler(request)
        except XrpcError as error:
            return error.answer()
        except BadInput as error:
            return XrpcError(400, error.name, error.message).answer()
        except Exception:  # noqa: BLE001 -- one request's failure is answered, logged and goes no further
            self.errors += 1
            _log.exception("devnet request failed: %s %s", request.method, request.path)
            return XrpcError(500, "InternalServerError", "Internal Server Error").answer()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = _request(scope)
        head = request.method == "HEAD"
        if request.method == "OPTIONS":
            answer = Answer(status=204, headers=dict(_PREFLIGHT))
        elif not await _read_body(request, receive):
            answer = XrpcError(413, "PayloadTooLarge", "request entity too large").answer()
        else:
            if head:
                request.method = "GET"
            answer = await self.answer(request)
        kind = {"content-type": answer.content_type} if answer.content_type and answer.body else {}
        headers = CORS | kind | answer.headers
        headers["content-length"] = str(len(answer.body))
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        if answer.cut is not None and not head:
            # The server closes a connection whose answer isn't as long as was said.
            await send({"type": "http.response.body", "body": answer.body[: answer.cut], "more_body": True})
            raise Disconnected
        await send({"type": "http.response.body", "body": b"" if head else answer.body})

    async def _websocket(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = _request(scope)
        handler = self.sockets.get(request.path)
        await receive()
        if handler is None:
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "websocket.accept"})
        await handler(AsgiSocket(receive, send), request)


def request_of(method: str, target: str, headers: Mapping[str, str]) -> Request:
    """From a request line and headers whose names are in lower case."""
    path, _, query = target.partition("?")
    return Request(
        method, unquote(path), parse_qsl(query, keep_blank_values=True), dict(headers), query_text=query
    )


def _request(scope: dict[str, Any]) -> Request:
    query = scope["query_string"].decode("latin-1")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(
        scope.get("method", "GET"),
        scope["path"],
        parse_qsl(query, keep_blank_values=True),
        headers,
        query_text=query,
    )


async def _read_body(request: Request, receive: Receive) -> bool:
    """False where it is too long."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_MAX:
            return False
        if not message.get("more_body"):
            break
    request.body = b"".join(parts)
    return True


async def _nothing(request: Request) -> Answer:
    raise XrpcError(404, "NotFound", f"there is nothing at {request.path}")
