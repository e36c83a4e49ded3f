"""XRPC for members who signed in at our origin: their sessions, and what goes on to their PDSs.

An ASGI application behind the front. A handler takes one request and gives one reply; ``rest`` gets
what is not in the table. No token that a client sent is ever passed on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import orjson

from appliance.auth.budgets import Budgets, Exceeded, Kind, of_address
from appliance.auth.parts import Auth
from appliance.auth.sign_in import Credentials, has_app_password_shape
from appliance.auth.xrpc_sessions import Begun
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Refused, Unavailable
from appliance.outbound.client import Answer
from appliance.outbound.limits import PDS_JSON, PDS_UPLOAD
from appliance.protocol import lexicons
from appliance.store import reports
from appliance.store.sessions import Session
from appliance.writes import compose, operations
from appliance.writes.repos import BODY_MAX_BYTES, Repos
from appliance.xrpc.asgi import PREFIX, App
from appliance.xrpc.bodies import Message, Receive, Send
from appliance.xrpc.replies import Header, Reply, empty_reply, error_reply, json_reply, reply_to

log = logging.getLogger(__name__)

CREATE_SESSION = "com.atproto.server.createSession"
GET_SESSION = "com.atproto.server.getSession"
REFRESH_SESSION = "com.atproto.server.refreshSession"
DELETE_SESSION = "com.atproto.server.deleteSession"
UPLOAD_BLOB = "com.atproto.repo.uploadBlob"
CREATE_REPORT = "com.atproto.moderation.createReport"

SESSION_BODY_MAX = 10_000
QUERY_MAX_BYTES = 64_000
REASON_CHARS_MAX = 20_000
BLOB_MAX_BYTES = 50 * 1024 * 1024

# What a PDS does for its own accounts; everything else is answered here or not at all.
_TO_PDS = frozenset(
    {
        "com.atproto.repo.getRecord",
        "com.atproto.repo.listRecords",
        "com.atproto.repo.describeRepo",
        "com.atproto.repo.listMissingBlobs",
        "com.atproto.server.getServiceAuth",
        "app.bsky.actor.getPreferences",
        "app.bsky.actor.putPreferences",
    }
)
_PREFERENCES = ("app.bsky.actor.getPreferences", "app.bsky.actor.putPreferences")
_TO_PDS_PREFIX = "chat.bsky."
_OF_A_PDS = (
    "com.atproto.admin.",
    "com.atproto.identity.",
    "com.atproto.repo.",
    "com.atproto.server.",
    "com.atproto.sync.",
    "com.atproto.temp.",
)
_REQUEST_HEADERS = ("atproto-proxy", "atproto-accept-labelers", "accept-language", "x-bsky-topics")
_REPLY_HEADERS = (
    "atproto-repo-rev",
    "atproto-content-labelers",
    "retry-after",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "ratelimit-policy",
)
_FROM_PDS = PDS_JSON.for_person()


class Request(msgspec.Struct, frozen=True):
    """One call. Header names are lower case; ``client`` is the caller's address."""

    nsid: str
    verb: str
    headers: Mapping[str, str]
    query: str
    body: AsyncIterator[bytes]
    client: str = ""

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    async def read(self, most: int) -> bytes:
        """The whole body. Raises BadInput beyond so many bytes."""
        return b"".join([piece async for piece in limited(self.body, most)])


Handler = Callable[[Request], Awaitable[Reply]]


class MemberCalls:
    """Dispatches to the handlers; ``has`` says for which methods."""

    def __init__(
        self, handlers: Mapping[str, Handler], to_pds: Handler, rest: App | None = None, *, own_did: str = ""
    ) -> None:
        self._handlers = dict(handlers)
        self._to_pds = to_pds
        self._rest = rest
        self._own_did = own_did

    def goes_elsewhere(self, nsid: str, scope: Message) -> bool:
        """Does a header name a service that is no AppView, nor ourselves? Then the member's PDS calls it.

        A client that signed in here names its usual AppView with every call; we are that. What a PDS does
        by itself it would do whatever the header says: those calls have to be in the table.
        """
        named = [value for name, value in scope["headers"] if name.lower() == b"atproto-proxy"]
        if len(named) != 1 or nsid.startswith(_OF_A_PDS):
            return False
        did, _, service = named[0].decode("latin-1").partition("#")
        return bool(service) and service != "bsky_appview" and did != self._own_did

    def has(self, nsid: str) -> bool:
        """Is this method ours to answer?"""
        return nsid in self._handlers or nsid in _TO_PDS or nsid.startswith(_TO_PDS_PREFIX)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        nsid = scope.get("path", "").removeprefix(PREFIX)
        ours = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        if not ours or not (self.has(nsid) or self.goes_elsewhere(nsid, scope)):
            if self._rest is None:
                raise RuntimeError("nobody is here for what is not a member's call")
            await self._rest(scope, receive, send)
            return
        reply = await self._reply(nsid, scope, receive)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})

    async def _reply(self, nsid: str, scope: Message, receive: Receive) -> Reply:
        try:
            request = Request(
                nsid,
                scope["method"],
                _headers(scope["headers"]),
                _query(scope.get("query_string", b"")),
                _body(receive),
                (scope.get("client") or ("",))[0],
            )
            _check_verb(request)
            return await self._handlers.get(nsid, self._to_pds)(request)
        except Exceeded as error:
            return reply_to(error)
        except Unavailable as error:
            if error.name == "RateLimitExceeded":
                wait = b"%d" % max(1, round(error.retry_after_s or 60))
                return error_reply(429, error.name, error.message, (b"retry-after", wait))
            return reply_to(error)
        except ApplianceError as error:
            if error.name == "PayloadTooLarge":
                return error_reply(413, error.name, error.message)
            reply = reply_to(error)
            if reply.status == 500:
                log.exception("xrpc_failed", extra={"nsid": nsid})
            return reply
        except Exception:  # the edge of one request: it fails alone, and is logged
            log.exception("xrpc_failed", extra={"nsid": nsid})
            return error_reply(500, "InternalServerError", "Internal Server Error")


def member_calls(
    auth: Auth,
    repos: Repos,
    settings: Settings,
    rest: App | None = None,
    *,
    passing: Callable[[str, Any], None] = lambda _member, _preferences: None,
    budgets: Budgets | None = None,
) -> MemberCalls:
    """The session methods, the repository procedures, and what else a member's PDS answers.

    ``passing`` hears the preferences that a member's client reads or writes.
    """
    budgets = budgets or Budgets(settings, auth.clock)
    sessions = _Sessions(auth, settings, budgets)
    forwarding = _Forwarding(auth, repos, passing, budgets)
    handlers: dict[str, Handler] = {
        CREATE_SESSION: sessions.create,
        GET_SESSION: sessions.get,
        REFRESH_SESSION: sessions.refresh,
        DELETE_SESSION: sessions.delete,
        UPLOAD_BLOB: forwarding.upload,
        CREATE_REPORT: forwarding.report,
    }
    handlers |= dict.fromkeys(operations.PROCEDURES, forwarding.write)
    return MemberCalls(handlers, forwarding.call, rest, own_did=settings.service_did)


class _Sessions:
    def __init__(self, auth: Auth, settings: Settings, budgets: Budgets) -> None:
        self._auth = auth
        self._settings = settings
        self._budgets = budgets

    async def create(self, request: Request) -> Reply:
        self._check_on()
        self._budgets.take("guest", of_address(request.client))
        body = _json(request.nsid, await request.read(SESSION_BODY_MAX))
        if not self._settings.main_passwords and not has_app_password_shape(body["password"]):
            raise Refused("Sign in with an app password: make one in the settings of your account")
        credentials = Credentials(
            body["identifier"], body["password"], body.get("authFactorToken", ""), client=request.client
        )
        about = request.headers.get("user-agent", "")
        return _session_reply(await self._auth.xrpc_sessions.create(credentials, about))

    async def refresh(self, request: Request) -> Reply:
        self._check_on()
        self._budgets.take("guest", of_address(request.client))
        return _session_reply(await self._auth.xrpc_sessions.refresh(request.authorization))

    async def get(self, request: Request) -> Reply:
        session = await _session(self._auth, request, self._budgets, "member")
        answer: dict[str, Any] = {
            "did": session.did,
            "handle": session.handle or "handle.invalid",
            "active": session.status is None,
        }
        if session.status is not None:
            answer["status"] = session.status
        return json_reply(orjson.dumps(answer))

    async def delete(self, request: Request) -> Reply:
        await self._auth.xrpc_sessions.delete(request.authorization)
        return empty_reply()

    def _check_on(self) -> None:
        if not self._settings.xrpc_sessions:
            raise BadInput(
                "Signing in here is switched off (XRPC_SESSIONS): sign in at your own server",
                name="MethodNotImplemented",
            )


class _Forwarding:
    def __init__(
        self, auth: Auth, repos: Repos, passing: Callable[[str, Any], None], budgets: Budgets
    ) -> None:
        self._auth = auth
        self._repos = repos
        self._passing = passing
        self._budgets = budgets

    async def write(self, request: Request) -> Reply:
        session = await _session(self._auth, request, self._budgets, "writes")
        body = _json(request.nsid, await request.read(BODY_MAX_BYTES))
        return _passed_on(await self._repos.forward(session, request.nsid, body))

    async def upload(self, request: Request) -> Reply:
        session = await _session(self._auth, request, self._budgets, "uploads")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > BLOB_MAX_BYTES:
            raise BadInput("That is too large", name="PayloadTooLarge")
        headers = {"content-type": request.headers.get("content-type", "application/octet-stream")}
        if length.isdecimal():
            headers["content-length"] = length
        answer = await self._auth.pds_sessions.call(
            session.pds_session,
            "POST",
            request.nsid,
            limits=PDS_UPLOAD,
            content=limited(request.body, BLOB_MAX_BYTES),
            headers=headers,
        )
        return _passed_on(answer)

    async def report(self, request: Request) -> Reply:
        """Kept for our own operator, and passed on to the member's server, which knows the labelers."""
        session = await _session(self._auth, request, self._budgets, "reports")
        content = await request.read(BODY_MAX_BYTES)
        body = _json(request.nsid, content)
        if (failure := lexicons.validate_input(request.nsid, body)) is not None:
            raise BadInput(f"Invalid {request.nsid} body: {failure}")
        about, now_us = body["subject"], self._auth.clock.now_us()
        subject = about.get("did") or about.get("uri")
        if not isinstance(subject, str):
            raise BadInput("A report is about an account or a record")
        reason, cid = str(body.get("reason", ""))[:REASON_CHARS_MAX], str(about.get("cid", ""))[:200]
        number = await self._auth.database.write(
            lambda tx: reports.add(
                tx, session.actor, body["reasonType"], reason, subject[:8192], cid, now_us
            ),
            durable=True,
        )
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        try:
            answer = await self._auth.pds_sessions.call(
                session.pds_session,
                "POST",
                request.nsid,
                limits=_FROM_PDS,
                content=content,
                headers={**headers, "content-type": "application/json"},
            )
        except (Unavailable, Refused):
            answer = Answer(503, {}, b"")
        if answer.ok:
            await self._auth.database.write(partial(reports.mark_forwarded, report=number), durable=True)
            return _passed_on(answer)
        told = {
            "id": number,
            "reasonType": body["reasonType"],
            "subject": about,
            "reportedBy": session.did,
            "createdAt": compose.timestamp(now_us),
        }
        if reason:
            told["reason"] = reason
        return json_reply(orjson.dumps(told))

    async def call(self, request: Request) -> Reply:
        session = await _session(self._auth, request, self._budgets, "member")
        if request.nsid.startswith(_TO_PDS_PREFIX) and "atproto-proxy" not in request.headers:
            raise BadInput("Method Not Implemented", name="MethodNotImplemented")
        headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
        content = None
        verb = "GET" if request.verb == "HEAD" else request.verb
        if verb == "POST":
            content = await request.read(BODY_MAX_BYTES)
            if "content-type" in request.headers:
                headers["content-type"] = request.headers["content-type"]
        answer = await self._auth.pds_sessions.call(
            session.pds_session,
            verb,
            f"{request.nsid}?{request.query}" if request.query else request.nsid,
            limits=_FROM_PDS,
            content=content,
            headers=headers,
        )
        if answer.ok and request.nsid in _PREFERENCES:
            self._passing(session.did, _preferences(answer.body if content is None else content))
        return _passed_on(answer)


def _preferences(body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value.get("preferences") if isinstance(value, dict) else None


async def _session(auth: Auth, request: Request, budgets: Budgets, kind: Kind) -> Session:
    """The session of a token of ours. A service token does not do: its sender has a PDS to ask."""
    client = of_address(request.client)
    budgets.check("bad_tokens", client)
    try:
        viewer = await auth.viewers.authenticate(
            request.authorization, request.nsid, procedure=request.verb == "POST"
        )
    except Refused:
        budgets.take("bad_tokens", client)
        raise
    if viewer is None:
        raise Refused("Authentication Required", name="AuthMissing")
    if viewer.session is None:
        raise BadInput("Ask your own server: this needs a session of this one", name="MethodNotImplemented")
    budgets.take(kind, viewer.did)
    return viewer.session


def _session_reply(begun: Begun) -> Reply:
    # Without didDoc: a client that saw it would go on at the PDS instead of here.
    answer = {
        "did": begun.did,
        "handle": begun.handle or "handle.invalid",
        "accessJwt": begun.pair.access,
        "refreshJwt": begun.pair.refresh,
        "active": True,
    }
    return json_reply(orjson.dumps(answer), (b"cache-control", b"no-store"))


def _passed_on(answer: Answer) -> Reply:
    """The reply of a PDS with those of its headers that mean something here."""
    more: list[Header] = [
        (name.encode(), answer.headers[name].encode("latin-1", "replace"))
        for name in _REPLY_HEADERS
        if name in answer.headers
    ]
    if answer.status == 401:
        # Our token was good. What the PDS refuses is between it and us, and no reason to log out.
        return error_reply(502, "UpstreamFailure", "Your server refused this call", *more)
    if answer.status >= 500 or answer.status < 200 or 300 <= answer.status < 400:
        return error_reply(502, "UpstreamFailure", "Your server can't answer this at the moment", *more)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return json_reply(answer.body, *more, status=answer.status)
    if not answer.body:
        return empty_reply(answer.status)
    return error_reply(502, "UpstreamFailure", "Your server gave an answer that is not understood", *more)


def _json(nsid: str, data: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadInput("The body is not JSON") from None
    if not isinstance(body, dict):
        raise BadInput("The body is not a JSON object")
    # What is inside the records is for the PDS to judge: it may know more types than we do.
    if nsid == CREATE_SESSION and (failure := lexicons.validate_input(nsid, body)) is not None:
        raise BadInput(f"Invalid {nsid} body: {failure}")
    return body


async def limited(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The pieces as they come. Raises BadInput, PayloadTooLarge, beyond so many bytes."""
    total = 0
    async for piece in pieces:
        total += len(piece)
        if total > most:
            raise BadInput("That is too large", name="PayloadTooLarge")
        yield piece


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise BadInput("The request ended early")
        if message.get("body"):
            yield message["body"]
        more = message.get("more_body", False)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in pairs:
        name = raw.decode("latin-1").lower()
        if name in found and name in ("authorization", "content-length", "atproto-proxy"):
            raise Refused(f"More than one {name} header", name="AuthMissing")
        text = value.decode("latin-1")
        found[name] = f"{found[name]},{text}" if name in found else text
    return found


def _query(raw: bytes) -> str:
    if len(raw) > QUERY_MAX_BYTES:
        raise BadInput("The query string is too long")
    try:
        text = raw.decode("ascii")
        parse_qsl(text, errors="strict", max_num_fields=1000, keep_blank_values=True)
    except (UnicodeDecodeError, ValueError):
        raise BadInput("The query string can't be read") from None
    return text


def _check_verb(request: Request) -> None:
    if request.nsid.startswith(_TO_PDS_PREFIX):
        return  # the service behind the PDS knows
    kind = (lexicons.document(request.nsid) or {}).get("defs", {}).get("main", {}).get("type")
    right = (
        ("GET", "HEAD") if kind == "query" else ("POST",) if kind == "procedure" else ("GET", "HEAD", "POST")
    )
    if request.verb not in right:
        raise BadInput(f"Incorrect HTTP method ({request.verb}) expected {right[0]}")
