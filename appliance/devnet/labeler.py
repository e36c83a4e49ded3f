"""A labeler: signs labels, tells them by subscribeLabels and queryLabels, and lies when asked to.

https://atproto.com/specs/label
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from appliance.devnet.faults import Faults
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.state import State
from appliance.devnet.stream_server import StreamServer
from appliance.devnet.streams import Socket
from appliance.devnet.times import iso_ms
from appliance.protocol import cbor, firehose, keys, labels

SUBSCRIBE = "/xrpc/com.atproto.label.subscribeLabels"
QUERY = "/xrpc/com.atproto.label.queryLabels"
_POLL_S = 0.02


@dataclass(slots=True, kw_only=True)
class LabelerFaults(Faults):
    """What a labeler does wrong from now on.

    ``bad_signatures`` signs so many labels with another key; ``wrong_src`` speaks in the name of that DID;
    ``replay`` tells its whole past again, with new numbers, to whoever connects; ``nonsense`` sends so many
    messages that are no frames; ``cut_every`` ends a connection after so many messages; ``forget_before``
    keeps nothing up to that number; ``no_patterns`` refuses questions with a star; ``down`` answers nothing.
    """

    bad_signatures: int = 0
    wrong_src: str = ""
    replay: bool = False
    nonsense: int = 0
    cut_every: int = 0
    forget_before: int = 0
    no_patterns: bool = False
    down: bool = False


class Labeler:
    """The labeler that an account runs: its key, its past, and whoever asked it."""

    def __init__(self, state: State, did: str, origin: str) -> None:
        self.did = did
        self.origin = origin
        self.key = keys.PrivateKey.generate()
        self.faults = LabelerFaults()
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[list[str]] = []
        self.connections: list[int | None] = []
        self._state = state
        self._stranger = keys.PrivateKey.generate()
        self._seq = 0
        self.publish()

    def say(
        self,
        uri: str,
        val: str,
        *,
        neg: bool = False,
        cid: str = "",
        exp: str = "",
        cts_us: int | None = None,
        tell: bool = True,
    ) -> dict[str, Any]:
        """A new statement, now unless told otherwise. With ``tell`` off it is found by questions only."""
        now_us = self._state.clock.now_us() if cts_us is None else cts_us
        value: dict[str, Any] = {"src": self.did, "uri": uri, "val": val, "cts": iso_ms(now_us)}
        value |= {"cid": cid} if cid else {}
        value |= {"neg": True} if neg else {}
        value |= {"exp": exp} if exp else {}
        faults, key = self.faults, self.key
        if faults.wrong_src:
            value["src"] = faults.wrong_src
            faults.note("wrong_src", did=faults.wrong_src, detail=val)
        if faults.bad_signatures > 0:
            faults.bad_signatures -= 1
            key = self._stranger
            faults.note("bad_signatures", detail=val)
        signed = labels.sign(value, key)
        self._seq += tell
        self.told.append((self._seq if tell else 0, signed))
        return signed

    def new_key(self, *, tell: bool = True) -> None:
        """Sign with another key from now on; with ``tell`` the document says so."""
        self.key = keys.PrivateKey.generate()
        if tell:
            self.publish()

    def publish(self) -> None:
        """The document says where it is, and with which key it signs now."""
        service = {labels.SERVICE_ID: (labels.SERVICE_TYPE, self.origin)}
        self._state.tell_directory(self.did, {labels.KEY_ID: self.key.did_key}, service)

    def begin_anew(self) -> None:
        """Its numbers begin at 1 again, as after a restore into an empty database."""
        self._seq = 0
        self.told = [(0, value) for _, value in self.told]

    def server(self) -> StreamServer:
        site = Site()
        site.get(QUERY, self._query)
        return StreamServer(site, {SUBSCRIBE: self._open})

    async def _query(self, request: Request) -> Answer:
        if self.faults.down:
            self.faults.note("down", detail="query")
            raise XrpcError(503, "UpstreamFailure")
        patterns = request.all("uriPatterns")
        self.asked.append(patterns)
        if self.faults.no_patterns and any(pattern.endswith("*") for pattern in patterns):
            self.faults.note("no_patterns")
            raise invalid("wildcards are not supported")
        limit = request.limit(50, 250)
        after = int(request.find("cursor") or 0)
        found = [
            (place, value)
            for place, (_, value) in enumerate(self.told, 1)
            if place > after and any(_fits(value["uri"], pattern) for pattern in patterns)
        ]
        body: dict[str, Any] = {"labels": [_json(value) for _, value in found[:limit]]}
        if len(found) > limit:
            body["cursor"] = str(found[limit - 1][0])
        return json_answer(body)

    def _open(self, request: Request) -> Callable[[Socket], Awaitable[None]]:
        if self.faults.down:
            self.faults.note("down", detail="stream")
            raise XrpcError(503, "UpstreamFailure")
        text = request.find("cursor")
        cursor = int(text) if text is not None else None
        self.connections.append(cursor)

        async def serve(socket: Socket) -> None:
            telling = asyncio.create_task(self._tell(socket, cursor))
            try:
                # A reader says nothing: what comes is the end of the connection.
                while True:
                    await socket.receive()
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

        return serve

    async def _tell(self, socket: Socket, cursor: int | None) -> None:
        if cursor is not None and cursor > self._seq:
            await socket.send_bytes(firehose.encode_frame("error", {"error": "FutureCursor"}))
            await socket.close(1008)
            return
        position = self._seq if cursor is None else cursor
        if position < self.faults.forget_before:
            self.faults.note("forget_before", position)
            position = self.faults.forget_before
            await socket.send_bytes(firehose.encode_frame("#info", {"name": "OutdatedCursor"}))
        if self.faults.replay:
            self.faults.note("replay", position)
            for _, value in list(self.told):
                self._seq += 1
                await self._send(socket, self._seq, value)
        sent = 0
        while True:
            for seq, value in [each for each in self.told if each[0] > position]:
                if self.faults.nonsense > 0:
                    self.faults.nonsense -= 1
                    self.faults.note("nonsense", seq)
                    await socket.send_bytes(b"\xff\x00")
                await self._send(socket, seq, value)
                position = seq
                sent += 1
                if self.faults.cut_every and sent >= self.faults.cut_every:
                    self.faults.note("cut_every", seq)
                    await socket.close(1011)
                    return
            # Real time: sockets live in it whatever the network's clock does.
            await asyncio.sleep(_POLL_S)

    async def _send(self, socket: Socket, seq: int, value: dict[str, Any]) -> None:
        await socket.send_bytes(firehose.encode_frame("#labels", {"seq": seq, "labels": [value]}))


def _fits(uri: str, pattern: str) -> bool:
    return uri.startswith(pattern[:-1]) if pattern.endswith("*") else uri == pattern


def _json(value: dict[str, Any]) -> dict[str, Any]:
    assert cbor.encode(value)
    return value | {"sig": {"$bytes": base64.b64encode(value["sig"]).decode().rstrip("=")}}
