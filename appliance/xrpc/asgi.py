"""XRPC over ASGI, in front of the web framework: reads are the hot path, and need nothing of it."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import orjson

from appliance.auth.budgets import Budgets, Kind, Left, of_address
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
    Reply,
    empty_reply,
    error_reply,
    json_reply,
    limit_headers,
    preflight,
    reply_to,
)

App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

PREFIX = "/xrpc/"
BODY_MAX_BYTES = 100_000
QUERY_MAX_BYTES = 64_000
PARAMETERS_MAX = 1000
# What watches over us may ask by number.
_ANY_HOST = frozenset({"/health", "/ready"})

log = logging.getLogger(__name__)


class Front:
    """Answers the methods it has; what is not XRPC, or a method of somebody else, goes on to ``rest``.

    So does a call of any name for which ``goes_elsewhere(nsid, scope)``: its headers name another service.
    Without ``rest``, or with a method that ``rest`` does not know either, the answer is 501. ``asked_for``
    hears which labelers a member's client names. ``hosts`` are our names: a call that means another is
    answered with 421. None: every name is ours.
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
        asked_for: Callable[[str, list[str]], None] = lambda _member, _labelers: None,
        budgets: Budgets | None = None,
        hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._methods = {method.nsid: method for method in methods}
        self._authenticate = authenticate
        self._labelers = default_labelers
        self._admin = admin_password.encode()
        self._rest = rest
        self._rest_has = rest_has
        self._goes_elsewhere = goes_elsewhere
        self._asked_for = asked_for
        self._budgets = budgets
        self._hosts = hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and bodies.announced(scope):
            body = bodies.Body(scope, receive, send)
            receive, send = body.receive, body.send
        path = scope.get("path", "")
        if scope["type"] == "http" and self._hosts and path not in _ANY_HOST and not self._is_ours(scope):
            message = "This server does not go by that name (APPVIEW_HOSTNAME, PUBLIC_URL)"
            await _send(error_reply(421, "MisdirectedRequest", message), send, with_body=True)
            return
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

    def _is_ours(self, scope: Message) -> bool:
        """Whether the caller meant us. A page of somebody else can make its own name lead here."""
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return False
        try:
            return (urlsplit("//" + named[0].decode("latin-1")).hostname or "") in self._hosts
        except ValueError:
            return False

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
        client = of_address((named_by_proxy(scope).get("client") or ("",))[0])
        asker, caller = await self._known(method, headers, parameters, client)
        left = self._taken(method, asker, client)
        if parameters is None:
            parameters = _parameters(method.nsid, query)
        body = await _body(method.nsid, headers, receive) if method.procedure else None
        answer = await method.run(Call(asker, parameters, body, caller, headers))
        more = limit_headers(left)
        if answer.rev is not None:
            more.append((b"atproto-repo-rev", answer.rev.encode()))
        if answer.labelers:
            more.append((b"atproto-content-labelers", answer.labelers.encode()))
        if answer.language:
            more.append((b"content-language", answer.language.encode()))
        if answer.error is not None:
            return reply_to(answer.error, *more)
        return json_reply(answer.body, *more) if answer.body else empty_reply()

    async def _known(
        self, method: Method, headers: dict[bytes, str], parameters: dict[str, Any] | None, client: str
    ) -> tuple[Asker, Caller | None]:
        """As ``_who``; what proves nothing is counted against the address that it came from."""
        if self._budgets is None or b"authorization" not in headers:
            return await self._who(method, headers, parameters)
        wrong: Kind = "admin" if headers[b"authorization"][:6].lower() == "basic " else "bad_tokens"
        self._budgets.check(wrong, client)
        try:
            return await self._who(method, headers, parameters)
        except Refused:
            self._budgets.take(wrong, client)
            raise

    def _taken(self, method: Method, asker: Asker, client: str) -> Left | None:
        if self._budgets is None or asker.operator:
            return None
        kind = method.counts or ("member" if asker.did else "guest")
        return self._budgets.take(kind, asker.did or client)

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
        if wanted and caller.member:
            self._asked_for(caller.did, [labeler.did for labeler in wanted])
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
