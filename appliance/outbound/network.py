"""The network side of the HTTP pool: it connects to judged addresses only, and closes what it opened."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

import httpcore
import httpx

OpenAddress = Callable[[str], Awaitable[list[str]]]


class JudgedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a pool that connects where it is told."""

    def __init__(self, open_address: OpenAddress, tls: ssl.SSLContext, connections_max: int) -> None:
        super().__init__(verify=tls, trust_env=False)
        self._network = _JudgedNetwork(open_address)
        # httpx offers no way to hand in the network side of its pool; the version is pinned.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=30,
            network_backend=self._network,
        )

    async def aclose(self) -> None:
        """When it returns, every connection is closed, and none is opened any more."""
        await super().aclose()
        await self._network.shut()


class _JudgedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to judged addresses only."""

    def __init__(self, open_address: OpenAddress) -> None:
        self._open_address = open_address
        self._network = httpcore.AnyIOBackend()
        self._streams = _Streams()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception | None = None
        for address in await self._open_address(host):
            try:
                stream = await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return await self._streams.take(stream)
        raise httpcore.ConnectError("no address answered") from failure

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def shut(self) -> None:
        """Close everything, also what a task that goes on has opened unknown to the pool."""
        await self._streams.shut()


class _Streams:
    """What is open, and what is being closed."""

    def __init__(self) -> None:
        self.open: set[_Stream] = set()
        self.closing: set[asyncio.Task[None]] = set()
        self._shut = False

    async def take(self, stream: httpcore.AsyncNetworkStream) -> _Stream:
        """Look after this one. Raises ConnectError once all is shut."""
        made = _Stream(stream, self)
        self.open.add(made)
        if self._shut:
            await made.aclose()
            raise httpcore.ConnectError("closed")
        return made

    async def shut(self) -> None:
        self._shut = True
        for stream in list(self.open):
            await stream.aclose()
        await asyncio.gather(*self.closing, return_exceptions=True)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that closes even when its closer is cancelled.

    The pool drops dead connections from its list and then closes them one after the other, in the task of
    whoever asks next. Cancelled in between, it would leave the rest open, and known to nobody. A close that
    never waits can't be interrupted: what it takes is done by a task of its own.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, streams: _Streams) -> None:
        self._stream = stream
        self._streams = streams

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        self._streams.open.discard(self)
        task = asyncio.get_running_loop().create_task(self._stream.aclose())
        self._streams.closing.add(task)
        task.add_done_callback(self._has_closed)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self.aclose()
            raise
        self._streams.open.discard(self)
        return await self._streams.take(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _has_closed(self, task: asyncio.Task[None]) -> None:
        self._streams.closing.discard(task)
        if not task.cancelled():
            # How a connection ends is of no interest to anybody.
            task.exception()
