"""Jetstream v1: /subscribe, with its silent clamps and without any mark of what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from appliance.devnet import wire
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid
from appliance.devnet.log import Told
from appliance.devnet.stream_server import StreamServer
from appliance.devnet.streams import Socket, Stream
from appliance.devnet.wire import Compressor, Row
from appliance.protocol import dictionaries, syntax

PATH = "/subscribe"
COLLECTIONS_MAX = 100
DIDS_MAX = 10_000
UPDATE_MAX = 10_000_000


class Filter:
    """What a reader wants; ``set`` replaces all of it."""

    def __init__(self) -> None:
        self.dids: frozenset[str] = frozenset()
        self.collections: frozenset[str] = frozenset()
        self.prefixes: tuple[str, ...] = ()
        self.size_max = 0

    def set(self, dids: list[str], collections: list[str], size_max: int) -> None:
        """Empty lists match everything. Raises XrpcError for what is malformed or too much."""
        wanted, wanted_dids = set(collections), frozenset(dids)
        if len(wanted) > COLLECTIONS_MAX:
            raise invalid(f"too many wanted collections: {len(wanted)} > {COLLECTIONS_MAX}")
        if len(wanted_dids) > DIDS_MAX:
            raise invalid(f"too many wanted DIDs: {len(wanted_dids)} > {DIDS_MAX}")
        for did in wanted_dids:
            if not syntax.is_did(did):
                raise invalid(f"invalid DID: {did[:100]}")
        prefixes = [name[:-1] for name in wanted if name.endswith(".*")]
        exact = [name for name in wanted if not name.endswith(".*")]
        for name in exact:
            if not syntax.is_nsid(name):
                raise invalid(f"invalid collection: {name[:100]}")
        self.dids, self.collections = wanted_dids, frozenset(exact)
        self.prefixes, self.size_max = tuple(prefixes), max(size_max, 0)

    def wants(self, row: Row) -> bool:
        if self.dids and row.did not in self.dids:
            return False
        if self.size_max and len(row.data) > self.size_max:
            return False
        if row.kind != "commit" or not (self.collections or self.prefixes):
            return True
        return row.collection in self.collections or row.collection.startswith(self.prefixes or "\0")


def server(stream: Stream) -> StreamServer:
    """The origin of Jetstream v1."""
    compressor = Compressor(dictionaries.legacy())

    def open_stream(request: Request) -> Callable[[Socket], Awaitable[None]]:
        wanted = Filter()
        wanted.set(
            request.all("wantedDids"),
            request.all("wantedCollections"),
            _number(request.find("maxMessageSizeBytes")),
        )
        cursor = _cursor(request)
        packed = request.find("compress") == "true" or request.headers.get("socket-encoding") == "zstd"
        hello = asyncio.Event()
        if request.find("requireHello") != "true":
            hello.set()

        def rows(told: Told) -> list[Row]:
            return [row for row in wire.v1_rows(told) if row.position >= first_us and wanted.wants(row)]

        first_us = 0

        async def run(socket: Socket) -> None:
            nonlocal first_us

            async def send(told: Told, row: Row) -> None:
                if packed:
                    await socket.send_bytes(compressor.compress(told, row, row.data))
                else:
                    await socket.send_text(row.data)

            async def received(message: bytes | str) -> None:
                if isinstance(message, bytes) or len(message) > UPDATE_MAX:
                    return
                faults = stream.faults
                if hello.is_set() and faults.ignore_updates:
                    faults.note("update", detail="ignored")
                    return
                try:
                    if _update(wanted, message):
                        if hello.is_set() and faults.half_updates:
                            faults.note("update", detail="half")
                            wanted.dids = frozenset(sorted(wanted.dids)[::2])
                        hello.set()
                except XrpcError as error:
                    await socket.close(1000, error.message[:120])

            start, first_us = _start(stream, cursor)
            await stream.serve(socket, start, rows, send, received=received, gate=hello)

        return run

    site = Site()
    site.get("/", _hello)
    return StreamServer(site, {PATH: open_stream}, too_long=stream.too_long)


def _start(stream: Stream, cursor: int | None) -> tuple[int, int]:
    """Number of the first event and time of the first row."""
    log, floor = stream.log, stream.floor()
    if cursor is None or log.end == 1 or cursor > log.time_of(log.end - 1) + 1_000_000:
        return log.end, 0
    start = log.at_time(cursor)
    if start < floor:
        stream.faults.note("clamp", cursor)
        return floor, 0
    return start, cursor


def _cursor(request: Request) -> int | None:
    text = request.find("cursor")
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise invalid("invalid cursor: not an integer") from None


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


def _update(wanted: Filter, message: str) -> bool:
    """Whether it was an options_update; raises XrpcError for a bad one."""
    try:
        parsed: Any = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise invalid("failed to unmarshal message") from None
    if not isinstance(parsed, dict) or parsed.get("type") != "options_update":
        return False
    payload = parsed.get("payload")
    if not isinstance(payload, dict):
        raise invalid("failed to unmarshal payload")
    dids, collections = payload.get("wantedDids") or [], payload.get("wantedCollections") or []
    size = payload.get("maxMessageSizeBytes") or 0
    if (
        not isinstance(size, int)
        or not isinstance(dids, list)
        or not isinstance(collections, list)
        or not all(isinstance(name, str) for name in dids + collections)
    ):
        raise invalid("failed to unmarshal payload")
    wanted.set(dids, collections, size)
    return True


async def _hello(_: Request) -> Answer:
    return Answer(b"Welcome to Jetstream\n", content_type="text/plain")
