"""What all streams have in common: where a reader begins, how it is served, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from appliance.clock import Clock
from appliance.devnet.faults import StreamFaults
from appliance.devnet.http import Disconnected
from appliance.devnet.log import EventLog, Told
from appliance.devnet.losses import Losses
from appliance.devnet.wire import Row

_BATCH = 128


class Socket(Protocol):
    """The server's end of a WebSocket. All of it raises Disconnected when the other end is gone."""

    async def send_text(self, data: bytes) -> None: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def receive(self) -> bytes | str: ...

    async def close(self, code: int, reason: str = "") -> None: ...

    async def abort(self) -> None:
        """End it as a cut line does."""
        ...


class StreamSocket:
    """A Socket on a connection of the websockets library."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def send_text(self, data: bytes) -> None:
        try:
            await self._connection.send(data, text=True)
        except ConnectionClosed:
            raise Disconnected from None

    async def send_bytes(self, data: bytes) -> None:
        try:
            await self._connection.send(data)
        except ConnectionClosed:
            raise Disconnected from None

    async def receive(self) -> bytes | str:
        try:
            return await self._connection.recv()
        except ConnectionClosed:
            raise Disconnected from None

    async def close(self, code: int, reason: str = "") -> None:
        await self._connection.close(code, reason)

    async def abort(self) -> None:
        self._connection.transport.abort()
        await self._connection.wait_closed()


class Stream:
    """One stream over the log: its window, its faults, its delivery."""

    def __init__(
        self,
        name: str,
        log: EventLog,
        clock: Clock,
        stop: asyncio.Event,
        *,
        retention_s: float,
        retention_events: int,
    ) -> None:
        self.name = name
        self.log = log
        self.faults = StreamFaults()
        self.losses = Losses()
        self.connections = 0
        self._clock = clock
        self._stop = stop
        self._retention_us = int(retention_s * 1_000_000)
        self._retention_events = retention_events

    def floor(self) -> int:
        """Number of the oldest event that this stream still tells."""
        if self.faults.keep_events is not None:
            return max(1, self.log.end - self.faults.keep_events)
        by_count = max(1, self.log.end - self._retention_events)
        if by_count == 1:
            return 1
        return min(by_count, self.log.at_time(self._clock.now_us() - self._retention_us))

    def too_long(self, address: str) -> bool:
        """Whether a proxy before this host refuses that address."""
        most = self.faults.url_max
        if not most or len(address) <= most:
            return False
        self.faults.note("url", len(address))
        return True

    async def serve(
        self,
        socket: Socket,
        start: int,
        rows: Callable[[Told], list[Row]],
        send: Callable[[Told, Row], Awaitable[None]],
        *,
        received: Callable[[bytes | str], Awaitable[None]] | None = None,
        gate: asyncio.Event | None = None,
    ) -> None:
        """Tell everything from event ``start`` on that ``rows`` lets through, until one side ends it.

        Nothing is even looked at before ``gate`` opens.
        """
        self.connections += 1
        try:
            await first_of(
                self._deliver(socket, start, rows, send, gate),
                self._listen(socket, received),
                self._end(socket),
            )
        finally:
            self.connections -= 1

    async def _deliver(
        self,
        socket: Socket,
        n: int,
        rows: Callable[[Told], list[Row]],
        send: Callable[[Told, Row], Awaitable[None]],
        gate: asyncio.Event | None,
    ) -> None:
        faults = self.faults
        sent = replayed = 0
        if gate is not None:
            await gate.wait()
        # What is there already is replayed; what comes later is live.
        live_from = self.log.end
        while True:
            batch = self.log.read(n, _BATCH)
            if not batch:
                await self.log.beyond(n)
                continue
            for told in batch:
                for row in rows(told):
                    while faults.mute:
                        faults.note("mute", row.position)
                        await self._clock.sleep(0.05)
                    if faults.swallows(row) or faults.hides(row) or self.losses.swallow(told.event):
                        continue
                    if told.event.n < live_from:
                        if faults.race_events and told.event.n >= live_from - faults.race_events:
                            faults.note("race", row.position, row.did, row.collection)
                            continue
                        replayed += 1
                    elif faults.outbox_events and replayed >= faults.outbox_events:
                        faults.note("outbox", row.position)
                        await socket.abort()
                        return
                    if faults.delay_s:
                        faults.note("delay", row.position)
                        await self._clock.sleep(faults.delay_s)
                    await send(told, row)
                    sent += 1
                    if faults.duplicate_every and sent % faults.duplicate_every == 0:
                        faults.note("duplicate", row.position, row.did)
                        await send(told, row)
                    if faults.cut_every and sent >= faults.cut_every:
                        faults.note("cut", row.position)
                        await socket.abort()
                        return
            n = batch[-1].event.n + 1
            # The library's send returns at once while the buffer has room.
            await asyncio.sleep(0)

    async def _listen(
        self, socket: Socket, received: Callable[[bytes | str], Awaitable[None]] | None
    ) -> None:
        while True:
            message = await socket.receive()
            if received is not None:
                await received(message)

    async def _end(self, socket: Socket) -> None:
        await self._stop.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(socket.close(1001, "going away"), 0.5)


async def first_of(*parts: Awaitable[Any]) -> None:
    """Run all until the first one ends, then end the others. A lost connection is an end like any."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            with contextlib.suppress(Disconnected):
                task.result()
