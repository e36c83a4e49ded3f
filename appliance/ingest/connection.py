"""One connection to an upstream, from its opening to its end, as a row of chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import websockets.exceptions

from appliance.clock import Clock
from appliance.errors import Unavailable
from appliance.ingest.skew import Skew
from appliance.ingest.upstream import Chunk, Gap, Poisoned, Start, Wire

SILENCE_BUSY_S = 15.0  # a stream of the whole network never pauses that long
BUSY_PER_S = 5.0
BROKEN_MAX = 1000  # of a connection, without an account: then it speaks no language of ours


class Ear:
    """What the watch over a connection knows, and how somebody else ends it.

    ``busy``: events come one after the other on this stream, or did on an earlier connection of it.
    """

    __slots__ = ("_abort", "busy", "heard", "open", "why")

    def __init__(self, *, busy: bool = False) -> None:
        self.heard = 0
        self.busy = busy
        self.open = False  # nobody listens while the queue is full: that silence is our own
        self.why = ""
        self._abort: Callable[[], None] | None = None

    def listens(self, abort: Callable[[], None]) -> None:
        """The connection stands."""
        self._abort = abort

    def cut(self, why: str) -> None:
        """End the connection, for that reason."""
        self.why = why
        if self._abort is not None:
            self._abort()


async def chunks(
    wire: Wire,
    start: Start | None,
    clock: Clock,
    owed: Gap | None = None,
    ear: Ear | None = None,
    *,
    skew: Skew | None = None,
) -> AsyncGenerator[Chunk, None]:
    """Everything that comes after ``start``, in order; events of known numbers are left out.

    The first chunk is empty: it says that the connection stands, and carries ``owed``, a gap known
    already. Where the first event shows that something is missing, the gap comes before it. ``ear`` lets
    others end it; ``skew`` hears what time it is on the host.
    Always ends by raising: Poisoned, TooOld, Unavailable or BadInput.
    """
    try:
        connection = await wire.open(start)
    except websockets.exceptions.ConnectionClosed as error:
        # Some wires speak first, and the other side may be gone by then.
        raise Unavailable("the stream was closed before it began") from error
    if skew is not None and connection.response is not None:
        skew.opened(next(iter(connection.response.headers.get_all("Date")), None))
    ear = ear or Ear()
    ear.listens(connection.transport.abort)
    watch = asyncio.create_task(_watch(clock, ear))
    try:
        if owed is not None:
            owed = owed._replace(to_us=max(owed.from_us, clock.now_us()))
        yield Chunk([], None, None, 0, owed)
        first = True
        done = start.seq if start is not None and start.same_host else None
        outdated = ""
        nonsense = 0
        while True:
            ear.open = True
            message = await connection.recv(decode=False)
            ear.open = False
            ear.heard += 1
            chunk = await wire.decode(message)
            if chunk is None:
                continue
            if chunk.outdated:
                outdated = chunk.outdated
                continue
            if chunk.seq is None and chunk.time_us is None:
                nonsense += 1
                if nonsense > BROKEN_MAX:
                    raise Unavailable("the stream makes no sense", name="WrongWire")
            elif first:
                first = False
                reason = outdated or (wire.missed(start, chunk) if start is not None else None)
                if reason is not None and start is not None:
                    reached_us = start.time_us or 0
                    begin_us = min(reached_us, chunk.time_us or reached_us)
                    # A host that is behind says nothing of when it will be where we were.
                    end_us = max(chunk.time_us or 0, reached_us)
                    if begin_us < reached_us:
                        end_us = max(end_us, clock.now_us())
                    yield Chunk([], None, None, 0, Gap(begin_us, end_us, reason))
                    if chunk.seq is not None and done is not None and chunk.seq < done:
                        done = None
            # Only what was taken before: a number that jumps must not make us deaf to the next ones.
            if done is not None and chunk.seq is not None and chunk.seq <= done:
                continue
            if skew is not None and chunk.time_us is not None:
                skew.heard(chunk.time_us)
            yield chunk
    except websockets.exceptions.ConnectionClosed as error:
        sent = error.sent
        if sent is not None and sent.code == 1009:
            raise Poisoned("a frame is too large") from error
        code = error.rcvd.code if error.rcvd is not None else 1006
        raise Unavailable(ear.why or f"the stream was closed ({code})") from error
    finally:
        watch.cancel()
        # Closing politely waits for the other side, which may be the reason why we leave.
        connection.transport.abort()


async def _watch(clock: Clock, ear: Ear) -> None:
    """Cut a connection that answers pings but has nothing to say, where events are to be expected.

    A small network may be quiet for hours: there it is enough that the other side answers pings.
    """
    began_s = last_s = clock.monotonic_s()
    heard = 0
    while True:
        await clock.sleep(SILENCE_BUSY_S / 3)
        now_s = clock.monotonic_s()
        if ear.heard != heard or not ear.open:
            heard, last_s = ear.heard, now_s
            ear.busy = heard > BUSY_PER_S * max(last_s - began_s, 1.0) or (ear.busy and not heard)
            continue
        if ear.busy and now_s - last_s >= SILENCE_BUSY_S:
            ear.cut("the stream fell silent")
            return
