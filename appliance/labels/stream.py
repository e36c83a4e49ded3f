"""One labeler's stream of labels, from its position on, for as long as the labeler is wanted.

https://docs.bsky.app/docs/api/com-atproto-label-subscribe-labels
"""

from __future__ import annotations

import asyncio
from typing import Any

import websockets.exceptions
from websockets.asyncio.client import ClientConnection

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput, NotFound, Unavailable
from appliance.labels import checking
from appliance.labels.asking import Asking
from appliance.labels.checking import Checker, Documents
from appliance.outbound.client import Outbound
from appliance.protocol import firehose
from appliance.store import labels
from appliance.store.database import OWN_FAULTS, Database, Transaction

log = telemetry.Log("labels")
LABELS = telemetry.counter("labels_taken", "Labels that came by streams and changed something.")

SUBSCRIBE = "com.atproto.label.subscribeLabels"
MESSAGE_MAX = 1_000_000
MESSAGES_WAITING_MAX = 256
MESSAGES_AT_ONCE = 64
BROKEN_MAX = 100  # messages of a connection that are no frames
LABELS_MAX = 5_000_000  # of one labeler; beyond that no more are taken
AGAIN_MIN_S = 1.0
AGAIN_MAX_S = 600.0
# A document that names no labeler, or nobody: that seldom changes.
NO_LABELER_S = 3600.0
HEALTHY_S = 120.0
# So often the document is read again: a labeler may have moved while its old server still answers.
LOOK_AGAIN_S = 6 * 3600.0


class Stream:
    """One labeler. With ``everybody`` all that it ever said is kept, else what is about accounts here."""

    def __init__(
        self,
        did: str,
        database: Database,
        outbound: Outbound,
        documents: Documents,
        clock: Clock,
        *,
        everybody: bool,
    ) -> None:
        self.did = did
        self.stands = asyncio.Event()
        self._database = database
        self._outbound = outbound
        self._documents = documents
        self._clock = clock
        self._everybody = everybody

    async def run(self) -> None:
        """Listen for ever; what fails is tried again, ever more slowly."""
        wait_s = AGAIN_MIN_S
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self.listen()
            except ApplianceError as error:
                if error.name in OWN_FAULTS:
                    raise
                self.stands.clear()
                log.info("labeler_lost", labeler=self.did, error=error)
                reason = error.message
                await self._database.write(lambda tx: labels.failed(tx, self.did, reason))  # noqa: B023
                if self._clock.monotonic_s() - began_s >= HEALTHY_S:
                    wait_s = AGAIN_MIN_S
                gone = isinstance(error, BadInput | NotFound)
                await self._clock.sleep(NO_LABELER_S if gone else wait_s)
                wait_s = min(wait_s * 2, AGAIN_MAX_S)

    async def listen(self) -> None:
        """One connection, to its end. Always ends by raising: Unavailable, BadInput, NotFound."""
        named = await checking.look_up(self._documents, self.did)
        row = await self._database.write(lambda tx: labels.opened(tx, self.did, named.endpoint, named.key))
        seq = 0 if row.seq is None and self._everybody else row.seq
        cursor = "" if seq is None else f"?cursor={seq}"
        origin = named.endpoint.replace("http", "ws", 1)
        connection = await self._outbound.websocket(
            f"{origin}/xrpc/{SUBSCRIBE}{cursor}", max_size=MESSAGE_MAX
        )
        try:
            if seq is None:
                # What was said since the last connection nobody tells us again.
                await self._database.write(lambda tx: labels.begin_anew(tx, self.did))
            self.stands.set()
            checker = Checker(self._documents, self.did, named.key, self._clock)
            asking = Asking(self.did, named.endpoint, self._database, self._outbound, checker, self._clock)
            waiting: asyncio.Queue[bytes] = asyncio.Queue(MESSAGES_WAITING_MAX)
            async with asyncio.TaskGroup() as group:
                group.create_task(_receive(connection, waiting))
                group.create_task(self._take(waiting, checker))
                group.create_task(self._grow_old())
                if not self._everybody:
                    group.create_task(asking.run())
        except ExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            connection.transport.abort()

    async def _grow_old(self) -> None:
        await self._clock.sleep(LOOK_AGAIN_S)
        raise Unavailable("time to look where the labeler is")

    async def _take(self, waiting: asyncio.Queue[bytes], checker: Checker) -> None:
        broken = 0
        while True:
            messages = [await waiting.get()]
            while len(messages) < MESSAGES_AT_ONCE and not waiting.empty():
                messages.append(waiting.get_nowait())
            seq: int | None = None
            values: list[Any] = []
            ending: Unavailable | None = None
            for message in messages:
                try:
                    frame = firehose.decode_frame(message)
                    if frame.kind == "#labels":
                        values.extend(_labels(frame))
                        seq = frame.seq if seq is None else max(seq, frame.seq or 0)
                    elif frame.kind == "#info":
                        await self._hear(frame.body)
                    elif frame.kind == "error":
                        ending = await self._is_refused(frame.body)
                except BadInput:
                    broken += 1
                    if broken > BROKEN_MAX:
                        raise Unavailable("the stream makes no sense", name="WrongWire") from None
            await self._keep(values, seq, checker)
            for _ in messages:
                waiting.task_done()
            if ending is not None:
                raise ending

    async def _keep(self, values: list[Any], seq: int | None, checker: Checker) -> None:
        """These labels, as far as they are right and about somebody here, with the position after them."""
        found, refused = checker.own(values)
        if not self._everybody and found:
            subjects = {label.subject for label in found}
            here = await self._database.read(lambda r: labels.known(r, subjects))
            found = [label for label in found if label.subject in here]
        if found:
            found, unsigned = await checker.signed(found)
            refused += unsigned

        def write(tx: Transaction) -> None:
            row = labels.find(tx, self.did)
            if row is not None and row.labels < LABELS_MAX:
                LABELS.inc(labels.put(tx, found, later=True))
            labels.advance(tx, self.did, seq, refused, self._clock.now_us())

        if seq is not None or refused:
            await self._database.write(write)

    async def _hear(self, body: dict[str, Any]) -> None:
        if body.get("name") == "OutdatedCursor":
            log.warning("labels_missed", labeler=self.did)
            await self._database.write(lambda tx: labels.begin_anew(tx, self.did, keep_position=True))

    async def _is_refused(self, body: dict[str, Any]) -> Unavailable:
        if body.get("error") == "FutureCursor":
            log.warning("labeler_began_anew", labeler=self.did)
            await self._database.write(lambda tx: labels.begin_anew(tx, self.did))
        return Unavailable("the labeler ended the stream")


def _labels(frame: firehose.Frame) -> list[Any]:
    values = frame.body.get("labels")
    if frame.seq is None or frame.seq < 0 or frame.seq >= 2**63 or not isinstance(values, list):
        raise BadInput("not a frame of labels")
    return values


async def _receive(connection: ClientConnection, waiting: asyncio.Queue[bytes]) -> None:
    try:
        while True:
            message = await connection.recv(decode=False)
            await waiting.put(message)
    except websockets.exceptions.ConnectionClosed as error:
        # What came is kept first: with a host that cuts each connection soon we would not get on.
        await waiting.join()
        raise Unavailable("the labeler closed the stream") from error


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """What is nobody's fault outside goes before all else."""
    each: list[Exception] = []
    groups: list[ExceptionGroup[Exception]] = [errors]
    while groups:
        for error in groups.pop().exceptions:
            if isinstance(error, ExceptionGroup):
                groups.append(error)
            else:
                each.append(error)
    return max(each, key=_is_ours)


def _is_ours(error: Exception) -> bool:
    return not isinstance(error, ApplianceError) or error.name in OWN_FAULTS
