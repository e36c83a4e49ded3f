"""XRPC over ASGI, in front of the web framework: reads are the hot path, and need nothing of it."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import orjson

from appliance.errors import ApplianceError, BadInput, Refused
from appliance.protocol import lexicons
from appliance.timeline import labelers
from appliance.timeline.asker import Asker
from appliance.timeline.labelers import Labeler
from appliance.xrpc import bodies
from appliance.xrpc.bodies import Message, Receive, Send
from appliance.xrpc.methods import Access, Authenticate, Call, Caller, Method
from appliance.xrpc.packing import packed
from appliance.xrpc.peer import named_by_proxy
from appliance.xrpc.replies import (
    CORS,
    Header,
    Reply,
    empty_reply,
    error_reply,
    json_reply,
    preflight,
    reply_to,
)

App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

PREFIX = "/xrpc/"
BODY_MAX_BYTES = 100_000
QUERY_MAX_BYTES = 64_000
PARAMETERS_MAX = 1000

log = logging.getLogger(__name__)


class Front:
    """Answers the methods it has; what is not XRPC, or a method of somebody else, goes on to ``rest``.

    So does a call of any name for which ``goes_elsewhere(nsid, scope)``: its headers name another service.
    Without ``rest``, or with a method that ``rest`` does not know either, the answer is 501.
    """

    def __init__(
        self,
        methods: Iterable[Method],
        authenticate: Authenticate,
        *,
        default_labelers: tuple[Labeler, ...],
        admin_password: str = "",
        rest: App | None = None,
        rest_has: Callable[[str], bool] | None = None,
        goes_elsewhere: Callable[[str, Message], bool] | None = None,
    ) -> None:
        self._methods = {method.nsid: method for method in methods}
        self._authenticate = authenticate
        self._labelers = default_labelers
        self._admin = admin_password.encode()
        self._rest = rest
        self._rest_has = rest_has
        self._goes_elsewhere = goes_elsewhere

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and bodies.announced(scope):
            body = bodies.Body(scope, receive, send)
            receive, send = body.receive, body.send
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(PREFIX):
            if self._rest is None:
                raise RuntimeError("nobody is here for what is not XRPC")
            await self._rest(scope if scope["type"] != "http" else named_by_proxy(scope), receive, send)
            return
        nsid = path[len(PREFIX) :]
        verb = scope["method"]
        if verb == "OPTIONS":
            reply = preflight()
        elif (
            self._rest is not None and self._goes_elsewhere is not None and self._goes_elsewhere(nsid, scope)
        ):
            await self._rest(named_by_proxy(scope), receive, _with_cors(send))
            return
        elif (method := self._methods.get(nsid)) is not None:
            reply = await self._reply(method, scope, receive)
        elif self._rest is not None and self._rest_has is not None and self._rest_has(nsid):
            await self._rest(named_by_proxy(scope), receive, _with_cors(send))
            return
        else:
            reply = error_reply(501, "MethodNotImplemented", "Method Not Implemented")
        if verb == "HEAD":
            await _send(reply, send, with_body=False)
        else:
            await _send(await packed(reply, scope["headers"]), send, with_body=True)

    async def _reply(self, method: Method, scope: Message, receive: Receive) -> Reply:
        try:
            return await self._answer(method, scope, receive)
        except ApplianceError as error:
            reply = reply_to(error)
            if reply.status == 500:
                log.exception("xrpc_failed", extra={"nsid": method.nsid})
            return reply
        except Exception:  # the edge of one request: it fails alone, and is logged
            log.exception("xrpc_failed", extra={"nsid": method.nsid})
            return error_reply(500, "InternalServerError", "Internal Server Error")

    async def _answer(self, method: Method, scope: Message, receive: Receive) -> Reply:
        verb = scope["method"]
        if verb != "POST" if method.procedure else verb not in ("GET", "HEAD"):
            expected = "POST" if method.procedure else "GET"
            raise BadInput(f"Incorrect HTTP method ({verb}) expected {expected}")
        headers = _single(scope["headers"])
        query = scope.get("query_string", b"")
        parameters = _parameters(method.nsid, query) if method.authenticate is not None else None
        asker, caller = await self._who(method, headers, parameters)
        if parameters is None:
            parameters = _parameters(method.nsid, query)
        body = await _body(method.nsid, headers, receive) if method.procedure else None
        answer = await method.run(Call(asker, parameters, body, caller, headers))
        more: list[Header] = []
        if answer.rev is not None:
            more.append((b"atproto-repo-rev", answer.rev.encode()))
        if answer.labelers:
            more.append((b"atproto-content-labelers", answer.labelers.encode()))
        if answer.language:
            more.append((b"content-language", answer.language.encode()))
        if answer.error is not None:
            return reply_to(answer.error, *more)
        return json_reply(answer.body, *more) if answer.body else empty_reply()

    async def _who(
        self, method: Method, headers: dict[bytes, str], parameters: dict[str, Any] | None
    ) -> tuple[Asker, Caller | None]:
        authorization = headers.get(b"authorization")
        named = headers.get(b"atproto-accept-labelers")
        wanted = None if named is None else labelers.parse(named, self._labelers)
        is_operator = authorization is not None and authorization[:6].lower() == "basic "
        if method.access is Access.OPERATOR and not is_operator:
            raise Refused("This needs the operator's password", name="AuthenticationRequired")
        if is_operator:
            assert authorization is not None
            taken = method.operator_reads or method.access is Access.OPERATOR
            if not taken or not self._is_operator(authorization):
                raise Refused("Not authorized", name="AuthenticationRequired")
            return Asker(operator=True, labelers=wanted), None
        if method.access is Access.PUBLIC or (authorization is None and method.access is not Access.REQUIRED):
            return Asker(labelers=wanted), None
        if method.authenticate is not None:
            caller = await method.authenticate(authorization, parameters or {})
        else:
            caller = await self._authenticate(authorization, method.nsid, procedure=method.procedure)
        if caller is None:
            raise Refused("Authentication Required", name="AuthMissing")
        return Asker(did=caller.did, member=caller.member, labelers=wanted), caller

    def _is_operator(self, authorization: str) -> bool:
        try:
            given = base64.b64decode(authorization[6:].strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return bool(self._admin) and hmac.compare_digest(given, b"admin:" + self._admin)


def _single(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """Headers by name. Raises Refused for two Authorization headers: which of them would count?"""
    found: dict[bytes, str] = {}
    for name, value in pairs:
        if name == b"authorization" and name in found:
            raise Refused("More than one Authorization header", name="AuthenticationRequired")
        text = value.decode("latin-1")
        if name in found:
            text = f"{found[name]},{text}"
        found[name] = text
    return found


def _parameters(nsid: str, query: bytes) -> dict[str, Any]:
    if len(query) > QUERY_MAX_BYTES:
        raise BadInput("The query string is too long")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), errors="strict", max_num_fields=PARAMETERS_MAX, keep_blank_values=True
        )
    except (UnicodeDecodeError, ValueError):
        raise BadInput("The query string can't be read") from None
    return lexicons.parse_parameters(nsid, pairs) if nsid != "_health" else {}


async def _body(nsid: str, headers: dict[bytes, str], receive: Receive) -> Any:
    data = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise BadInput("The request ended early")
        data += message.get("body", b"")
        if len(data) > BODY_MAX_BYTES:
            raise BadInput("Request entity too large", name="PayloadTooLarge")
        more = message.get("more_body", False)
    kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadInput("Wrong request encoding: application/json is needed")
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadInput("The body is not JSON") from None
    failure = lexicons.validate_input(nsid, body)
    if failure is not None:
        raise BadInput(f"Invalid {nsid} body: {failure}")
    return body


async def _send(reply: Reply, send: Send, *, with_body: bool) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})


def _with_cors(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message.get("headers", [])}
            message["headers"] = [
                *message.get("headers", []),
                *(header for header in CORS if header[0] not in there),
            ]
        await send(message)

    return sending
