"""The guarded client: requests, streamed bodies and websockets to anywhere outside.

A name is looked up once, every answer is judged, and the connection goes to one of the judged
addresses; the certificate is checked against the name. Redirects are followed here, hop by hop, and
only for classes that allow them. Proxies and cookies don't exist for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import orjson
import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from appliance import telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.outbound import decoding
from appliance.outbound.addresses import Params, Policy, Ports, Target
from appliance.outbound.limits import Limits
from appliance.outbound.names import Names, SystemNames
from appliance.outbound.network import JudgedTransport
from appliance.outbound.pacing import Pacing

REQUESTS = telemetry.counter(
    "outbound_requests", "Requests sent, by class and outcome.", ["limits", "outcome"]
)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CREDENTIALS = frozenset({"authorization", "dpop", "cookie", "proxy-authorization"})
_PROGRESS_EVERY_S = 10.0


class NotSent(Unavailable):
    """No connection came about, so not a byte of the request has left: asking again is safe."""


class Declined(Unavailable):
    """A websocket's handshake was answered by an ordinary HTTP answer."""

    def __init__(self, status: int, body: bytes, retry_after_s: float | None = None) -> None:
        super().__init__(f"the stream was refused with status {status}", retry_after_s=retry_after_s)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. Raises BadInput when it isn't."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise BadInput("the answer is not JSON") from error

    def error_name(self) -> str:
        """The XRPC error name in the body; empty when there is none."""
        with contextlib.suppress(BadInput):
            body = self.json()
            if isinstance(body, dict) and isinstance(body.get("error"), str):
                return str(body["error"])[:100]
        return ""


class Streamed:
    """An answer whose body is still on its way; valid inside its ``async with``."""

    def __init__(self, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body

    async def read(self) -> Answer:
        """The rest of the body at once."""
        return Answer(self.status, self.headers, b"".join([piece async for piece in self._body]))


class Outbound:
    """The process's one way out. ``close`` when done."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        names: Names | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        own = {settings.appview_hostname.lower(), (urlsplit(settings.public_url).hostname or "").lower()}
        self.policy = Policy(settings.allow_loopback, frozenset(own - {"", "localhost", "127.0.0.1"}))
        self.names: Names = names or SystemNames()
        self._pacing = Pacing(
            clock,
            per_host=settings.outbound_per_host,
            total=settings.outbound_total,
            rate=settings.outbound_rate_per_host,
        )
        about = settings.public_url or (settings.appview_hostname and f"https://{settings.appview_hostname}")
        self.user_agent = "appliance" + (f" (+{about})" if about else "")
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._transports = {
            interactive: JudgedTransport(self._open_address, self._tls, settings.outbound_total)
            for interactive in (False, True)
        }

    async def close(self) -> None:
        """Drop idle connections."""
        for transport in self._transports.values():
            await transport.aclose()

    async def get(
        self,
        url: str,
        *,
        limits: Limits,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """GET. Any status is an answer but 429, which raises Unavailable with the wait that it asks for.

        Raises BadInput when the address is not allowed or the answer breaks its limits, Unavailable
        when there was no answer (NotSent: and surely none of the request arrived).
        """
        return await self.request("GET", url, limits=limits, params=params, headers=headers)

    async def post(
        self,
        url: str,
        *,
        limits: Limits,
        json: object = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST a JSON value or bytes, never twice. Raises as ``get`` does."""
        headers = dict(headers or {})
        if json is not None:
            content = orjson.dumps(json)
            headers.setdefault("content-type", "application/json")
        return await self.request(
            "POST", url, limits=limits, params=params, headers=headers, content=content or b""
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        limits: Limits,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
    ) -> Answer:
        """Any method; the whole answer. Raises as ``get`` does."""
        async with self._exchange(method, url, limits, params, headers, content) as streamed:
            return await streamed.read()

    @contextlib.asynccontextmanager
    async def stream(
        self,
        url: str,
        *,
        limits: Limits,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Streamed]:
        """GET whose body is read piece by piece, as slowly as the reader likes to ask for it.

        Iterating raises as ``get`` does when the body is too large, too slow or cut off.
        """
        async with self._exchange("GET", url, limits, params, headers, None) as streamed:
            yield streamed

    async def websocket(
        self,
        url: str,
        *,
        max_size: int,
        ports: Ports = "any",
        subprotocols: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        open_s: float = 15.0,
        ping_s: float = 20.0,
    ) -> ClientConnection:
        """Open a websocket; the caller closes it. It is not compressed by itself and pings on its own.

        Raises Declined for an ordinary HTTP answer, BadInput for an address that isn't allowed,
        Unavailable otherwise.
        """
        target = self.policy.target(url, ports)
        try:
            async with asyncio.timeout(open_s):
                sock = await self._connected(target.host, target.port)
                return await connect(
                    target.url,
                    sock=sock,
                    ssl=self._tls if target.scheme == "wss" else None,
                    server_hostname=target.host if target.scheme == "wss" else None,
                    additional_headers=dict(headers or {}),
                    user_agent_header=self.user_agent,
                    subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                    compression=None,
                    proxy=None,
                    max_size=max_size,
                    open_timeout=None,
                    ping_interval=ping_s,
                    ping_timeout=ping_s,
                    close_timeout=2,
                )
        except websockets.exceptions.InvalidStatus as error:
            response = error.response
            retry_after = response.headers.get("Retry-After", "")
            wait_s = float(retry_after) if retry_after.isdecimal() and len(retry_after) < 8 else None
            raise Declined(response.status_code, bytes(response.body or b""), wait_s) from error
        except websockets.exceptions.NegotiationError as error:
            raise BadInput("the stream speaks another protocol") from error
        # ValueError: the library's word for a redirect, which no stream may make.
        except (
            websockets.exceptions.WebSocketException,
            OSError,
            TimeoutError,
            EOFError,
            ValueError,
        ) as error:
            raise Unavailable("the stream could not be opened") from error

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        url: str,
        limits: Limits,
        params: Params | None,
        headers: Mapping[str, str] | None,
        content: bytes | AsyncIterable[bytes] | None,
    ) -> AsyncIterator[Streamed]:
        target = self.policy.target(url, limits.ports, params)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        sent |= {"user-agent": self.user_agent, "accept-encoding": decoding.ACCEPT_ENCODING}
        outcome = "failed"
        try:
            for _ in range(limits.redirects + 1):
                async with self._hop(method, target, limits, sent, content) as streamed:
                    location = streamed.headers.get("location")
                    redirects = limits.redirects and method == "GET" and streamed.status in _REDIRECTS
                    if not redirects or not location:
                        yield streamed
                        outcome = str(streamed.status)
                        return
                target, sent = self._redirected(target, location, limits, sent)
            raise BadInput("the answer redirects too often")
        finally:
            REQUESTS.labels(limits.name, outcome).inc()

    @contextlib.asynccontextmanager
    async def _hop(
        self,
        method: str,
        target: Target,
        limits: Limits,
        sent: Mapping[str, str],
        content: bytes | AsyncIterable[bytes] | None,
    ) -> AsyncIterator[Streamed]:
        """One request to one host, within all of its limits."""
        host = f"{target.host}:{target.port}"
        async with self._pacing.turn(host, limits):
            with _translated():
                async with (
                    asyncio.timeout(limits.total_s),
                    self._response(method, target, limits, sent, content) as response,
                ):
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    wait_s = self._pacing.heard(host, response.status_code, headers)
                    if wait_s is not None:
                        raise Unavailable(
                            "that host asks us to slow down", name="RateLimitExceeded", retry_after_s=wait_s
                        )
                    _check_length(headers, limits)
                    encoding = headers.get("content-encoding", "").strip().lower()
                    body = decoding.pieces(response.aiter_raw(), encoding, limits.body_max)
                    if limits.bytes_per_s_min:
                        body = _progressing(body, limits.bytes_per_s_min)
                    async with contextlib.aclosing(body):
                        yield Streamed(response.status_code, headers, body)

    def _redirected(
        self, target: Target, location: str, limits: Limits, sent: dict[str, str]
    ) -> tuple[Target, dict[str, str]]:
        following = self.policy.target(urljoin(target.url, location), limits.ports)
        if target.scheme == "https" and following.scheme != "https":
            raise BadInput("the answer redirects away from https")
        if following.loopback and not target.loopback:
            raise BadInput("the address is not a public one")
        if following.origin != target.origin:
            sent = {name: value for name, value in sent.items() if name not in _CREDENTIALS}
        return following, sent

    @contextlib.asynccontextmanager
    async def _response(
        self,
        method: str,
        target: Target,
        limits: Limits,
        headers: Mapping[str, str],
        content: bytes | AsyncIterable[bytes] | None,
    ) -> AsyncIterator[httpx.Response]:
        transport = self._transports[limits.interactive]
        request = httpx.Request(
            method,
            target.url,
            headers=dict(headers),
            content=content,
            extensions={
                "timeout": {
                    "connect": limits.connect_s,
                    "read": limits.idle_s,
                    "write": limits.idle_s,
                    "pool": limits.patience_s,
                }
            },
        )
        try:
            response = await transport.handle_async_request(request)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            # A kept connection that the host closed meanwhile. Only a read may be asked twice.
            if method != "GET":
                raise
            response = await transport.handle_async_request(request)
        try:
            yield response
        finally:
            # Closing an unread body drops the connection: that takes no time worth waiting for.
            await response.aclose()

    async def _open_address(self, host: str) -> list[str]:
        """The judged addresses of a name. Raises BadInput, NotSent."""
        if self.policy.allow_loopback and host in ("localhost", "127.0.0.1"):
            return ["127.0.0.1"]
        self.policy.check_name(host)
        try:
            addresses = await self.names.addresses(host)
        except Unavailable as error:
            raise NotSent(error.message) from error
        if not addresses:
            raise NotSent("there is no such host", name="HostNotFound")
        return self.policy.check_addresses(addresses)

    async def _connected(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for address in await self._open_address(host):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, (address, port))
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise NotSent("the host can't be reached") from failure


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the library's failures into ours; none carries a word of the other side."""
    try:
        yield
    except ApplianceError:
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise NotSent("the host can't be reached") from error
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise BadInput("the request can't be sent") from error
    except httpx.HTTPError as error:
        raise Unavailable("the host did not answer properly") from error
    except TimeoutError as error:
        raise Unavailable("the host took too long", name="UpstreamTimeout") from error


def _check_length(headers: Mapping[str, str], limits: Limits) -> None:
    length = headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 15 or int(length) > limits.body_max):
        raise BadInput("the answer is larger than allowed", name="ResponseTooLarge")


async def _progressing(body: AsyncGenerator[bytes, None], bytes_per_s_min: int) -> AsyncGenerator[bytes]:
    """Pass the pieces on; raise Unavailable when too few came in the time spent waiting for them."""
    loop = asyncio.get_running_loop()
    waited_s = 0.0
    arrived = 0
    while True:
        began_s = loop.time()
        try:
            piece = await anext(body)
        except StopAsyncIteration:
            return
        # Only the time that the other side took counts, not ours between two pieces.
        waited_s += loop.time() - began_s
        arrived += len(piece)
        if waited_s > _PROGRESS_EVERY_S:
            if arrived < bytes_per_s_min * waited_s:
                raise Unavailable("the answer comes too slowly", name="UpstreamTimeout")
            waited_s, arrived = 0.0, 0
        yield piece
