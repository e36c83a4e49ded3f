"""What a client still sends after its answer is decided: read to its end where that is little.

HTTP/1.1 has no way to skip a body. If the answer leaves before all of it was read, the server closes the
connection, and the next call on it fails for no reason that its sender can see. Little is therefore read
and dropped; where it is much, or slow, the answer says that the connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

DROPPED_MAX_BYTES: Final = 256 * 1024
DROPPED_MAX_S: Final = 2.0
CLOSE: Final = (b"connection", b"close")


def announced(scope: Message) -> bool:
    """Whether the head of the request says that a body follows."""
    return any(
        (name == b"content-length" and value.strip() != b"0") or name == b"transfer-encoding"
        for name, value in scope.get("headers", ())
    )


class Body:
    """The body of one request: how much of it has come, and whether that is all.

    Hand ``receive`` and ``send`` on in place of the server's. Whoever answers may be reading at the same
    time, as the web framework does.
    """

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.over = False
        self._bytes = 0
        self._plain = scope.get("http_version", "1.1").startswith("1")
        self._receive = receive
        self._send = send
        self._readers = 0
        self._came = asyncio.Event()

    async def receive(self) -> Message:
        """The server's next message, noted."""
        self._readers += 1
        try:
            message = await self._receive()
        finally:
            self._readers -= 1
            self._came.set()
        self._note(message)
        return message

    async def send(self, message: Message) -> None:
        """Send it; before the head of an answer goes out, see to the rest of the body."""
        if message["type"] == "http.response.start" and not self.over and not await self._drop():
            message = {**message, "headers": [*_without_connection(message), CLOSE]}
        await self._send(message)

    async def _drop(self) -> bool:
        """Whether the connection can go on: the body has come to its end, or HTTP/2 does not need that."""
        if not self._plain:
            return True
        at_most = self._bytes + DROPPED_MAX_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DROPPED_MAX_S):
                while not self.over and self._bytes <= at_most:
                    if self._readers:
                        # Somebody waits for the next piece already, and would lack it if it went to us.
                        self._came.clear()
                        await self._came.wait()
                        await asyncio.sleep(0)
                    else:
                        await self.receive()
        return self.over

    def _note(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.over = True


def _without_connection(message: Message) -> list[tuple[bytes, bytes]]:
    return [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
