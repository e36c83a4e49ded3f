"""The network side of the HTTP pool: it connects to judged addresses only."""

from __future__ import annotations

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
        # httpx offers no way to hand in the network side of its pool; the version is pinned.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=connections_max,
            max_keepalive_connections=connections_max,
            keepalive_expiry=30,
            network_backend=_JudgedNetwork(open_address),
        )


class _JudgedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to judged addresses only."""

    def __init__(self, open_address: OpenAddress) -> None:
        self._open_address = open_address
        self._network = httpcore.AnyIOBackend()

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
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError("no address answered") from failure

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
