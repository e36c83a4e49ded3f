"""A PDS's calls for others: ``atproto-proxy``, and app.bsky for the AppView that it is set to.

The PDS signs a service token with the account's key and passes the call on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from appliance.devnet.http import Answer, Handler, Request, XrpcError, invalid
from appliance.devnet.state import State
from appliance.devnet.tokens import service_token
from appliance.protocol import syntax

if TYPE_CHECKING:
    from appliance.devnet.pds import Pds

_UP = ("accept-encoding", "accept-language", "atproto-accept-labelers", "x-bsky-topics", "content-type")
_DOWN = ("atproto-repo-rev", "atproto-content-labelers", "retry-after", "content-language")
_LOCAL_WEB = re.compile(r"did:web:localhost%3A([0-9]{1,5})")
ANSWER_MAX = 10 << 20


class Proxy:
    """The way out of all PDSs. ``appview`` and ``appview_did`` may be set while it runs."""

    def __init__(self, state: State, appview: str, appview_did: str) -> None:
        self.appview = appview
        self.appview_did = appview_did
        self._state = state
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def service(self, did: str, fragment: str) -> str:
        """Origin of a service; raises XrpcError."""
        document = self._state.directory.document(did)
        local = _LOCAL_WEB.fullmatch(did)
        if local is not None:
            answer = await self.send("GET", f"http://localhost:{local[1]}/.well-known/did.json", {}, b"")
            try:
                parsed: Any = orjson.loads(answer.content) if answer.status_code == 200 else None
            except orjson.JSONDecodeError:
                parsed = None
            document = parsed if isinstance(parsed, dict) and parsed.get("id") == did else None
        if document is None:
            raise invalid("could not resolve proxy did")
        for entry in document.get("service") or ():
            if isinstance(entry, dict) and entry.get("id") in (f"#{fragment}", f"{did}#{fragment}"):
                endpoint = entry.get("serviceEndpoint")
                if isinstance(endpoint, str) and endpoint.startswith("http://localhost:"):
                    return endpoint.rstrip("/")
        raise invalid("could not resolve proxy did service url")

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Raises XrpcError where there is no answer."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=30, trust_env=False)
        try:
            return await self._client.request(method, url, headers=headers, content=body or None)
        except httpx.HTTPError as error:
            message = f"{type(error).__name__}: the service did not answer"
            raise XrpcError(502, "UpstreamFailure", message) from None


def unless_named(pds: Pds, handler: Handler) -> Handler:
    """The handler, but a call with ``atproto-proxy`` goes where that says."""

    async def handle(request: Request) -> Answer:
        if "atproto-proxy" in request.headers and request.path.startswith("/xrpc/"):
            return await _forward(pds, request)
        return await handler(request)

    return handle


def fallback(pds: Pds) -> Handler:
    """For calls that this server doesn't answer itself."""

    async def handle(request: Request) -> Answer:
        if not request.path.startswith("/xrpc/"):
            raise XrpcError(404, "NotFound", f"there is nothing at {request.path}")
        return await _forward(pds, request)

    return handle


async def _forward(pds: Pds, request: Request) -> Answer:
    nsid = request.path.removeprefix("/xrpc/")
    if not syntax.is_nsid(nsid):
        raise invalid("Invalid NSID")
    named = request.headers.get("atproto-proxy")
    if named is not None:
        did, mark, fragment = named.partition("#")
        if not mark or not fragment or "#" in fragment or " " in named or not syntax.is_did(did):
            raise invalid("invalid proxy header: a DID and a service id are wanted")
        origin = await pds.proxy.service(did, fragment)
    elif nsid.startswith("app.bsky.") and pds.proxy.appview:
        did, origin = pds.proxy.appview_did, pds.proxy.appview
    else:
        raise XrpcError(501, "MethodNotImplemented", f"No service configured for {nsid}")
    headers = {name: request.headers[name] for name in _UP if name in request.headers}
    if "authorization" in request.headers:
        account = pds.sessions.caller(request)
        now_s = pds.state.clock.now_us() // 1_000_000
        token = service_token(account.key, iss=account.did, aud=did, lxm=nsid, now_s=now_s)
        headers["authorization"] = f"Bearer {token}"
    query = f"?{request.query_text}" if request.query_text else ""
    answer = await pds.proxy.send(request.method, f"{origin}{request.path}{query}", headers, request.body)
    if answer.status_code == 500 or len(answer.content) > ANSWER_MAX:
        raise XrpcError(502, "UpstreamFailure", "the service failed")
    return Answer(
        answer.content,
        status=answer.status_code,
        content_type=answer.headers.get("content-type", ""),
        headers={name: answer.headers[name] for name in _DOWN if name in answer.headers},
    )
