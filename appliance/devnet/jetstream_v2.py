"""Jetstream v2: network.bsky.jetstream.subscribeEvents, JSON messages of xrpc.v1.json."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appliance.devnet import wire
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.log import Told
from appliance.devnet.stream_server import StreamServer
from appliance.devnet.streams import Socket, Stream
from appliance.devnet.wire import Compressor, Row
from appliance.protocol import dictionaries, syntax

PATH = "/xrpc/network.bsky.jetstream.subscribeEvents"
DICTIONARY_PATH = "/xrpc/network.bsky.jetstream.getZstdDictionary"
SUBPROTOCOL = "xrpc.v1.json"
KINDS = ("commit", "identity", "account", "sync")
# From here on a cursor is a time in microseconds.
TIME_CURSOR = 10**15
_V1_ONLY = ("wantedDids", "wantedCollections", "compress")


class Wanted:
    """Everything that a reader asked for; it can't change any more."""

    def __init__(self, request: Request) -> None:
        for name in _V1_ONLY:
            if request.find(name) is not None:
                raise invalid(f"{name} is not a parameter of this endpoint")
        self.kinds = frozenset(request.all("kinds"))
        self.dids = frozenset(request.all("dids"))
        collections = request.all("collections")
        if len(request.all("kinds")) > 4 or not self.kinds <= set(KINDS):
            raise invalid("unknown kind")
        if len(request.all("dids")) > 10_000 or not all(map(syntax.is_did, self.dids)):
            raise invalid("malformed or too many dids")
        if collections and self.kinds and "commit" not in self.kinds:
            raise invalid("collections constrains commits, which kinds leaves out")
        self.collections = frozenset(name for name in collections if not name.endswith(".*"))
        self.prefixes = tuple(name[:-1] for name in collections if name.endswith(".*"))
        if len(collections) > 100 or not all(map(syntax.is_nsid, self.collections)):
            raise invalid("malformed or too many collections")
        text = request.find("maxMessageSizeBytes") or "0"
        if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
            raise invalid("malformed maxMessageSizeBytes")
        self.size_max = int(text)

    def __call__(self, row: Row) -> bool:
        if self.kinds and row.kind not in self.kinds:
            return False
        if self.dids and row.did not in self.dids:
            return False
        if self.size_max and len(row.data) > self.size_max:
            return False
        if row.kind != "commit" or not (self.collections or self.prefixes):
            return True
        return row.collection in self.collections or row.collection.startswith(self.prefixes or "\0")


class Start:
    """Where a reader begins: number of the event, seq of the row, and whether it was clamped."""

    def __init__(self, stream: Stream, request: Request) -> None:
        log, floor = stream.log, stream.floor()
        self.clamped = False
        self.number, self.row = log.end, 0
        text = request.find("cursor")
        if text is None:
            return
        if not text.isascii() or not text.isdigit():
            raise invalid("cursor must be a non-negative integer")
        cursor = int(text)
        if cursor >= TIME_CURSOR:
            self.number = log.at_time(cursor)
            if self.number < floor:
                self.number, self.clamped = floor, True
                stream.faults.note("clamp", cursor)
        elif cursor < log.next_row:
            oldest = log.row_of(floor)
            # Nothing was ever before seq 1, so 0 is no older than it.
            if max(cursor, 1) < oldest:
                stream.faults.note("too-old", cursor)
                raise XrpcError(400, "CursorTooOld", f"cursor {cursor} is below the floor {oldest}")
            self.number, self.row = log.at_row(max(cursor, 1)), cursor


def server(stream: Stream) -> StreamServer:
    """The origin of Jetstream v2."""
    current, dictionary = dictionaries.current()
    compressor = Compressor(dictionary)

    def open_stream(request: Request) -> Callable[[Socket], Awaitable[None]]:
        wanted = Wanted(request)
        asked = request.find("zstdDictionary")
        if asked is not None and asked != str(current):
            raise XrpcError(400, "UnknownZstdDictionary", f"the current dictionary is {current}")
        start = Start(stream, request)

        def rows(told: Told) -> list[Row]:
            return [row for row in wire.v2_rows(told) if row.position >= start.row and wanted(row)]

        async def run(socket: Socket) -> None:
            async def send(told: Told | None, row: Row | None, data: bytes = b"") -> None:
                data = data if row is None else row.data
                if asked is not None:
                    await socket.send_bytes(compressor.compress(told, row, data))
                else:
                    await socket.send_text(data)

            async def received(_: bytes | str) -> None:
                await socket.close(1008, "this stream takes no messages")

            if start.clamped and not stream.faults.silent_clamp:
                message = f"cursor is older than what is kept; starting at {stream.log.row_of(start.number)}"
                await send(None, None, wire.info("OutdatedCursor", message))
            await stream.serve(socket, start.number, rows, send, received=received)

        return run

    async def get_dictionary(request: Request) -> Answer:
        asked = request.find("id")
        if asked is not None and asked != str(current):
            raise XrpcError(400, "UnknownZstdDictionary", f"the current dictionary is {current}")
        return Answer(
            dictionary,
            content_type="application/octet-stream",
            headers={
                "x-zstd-dictionary-id": str(current),
                "cache-control": "public, max-age=31536000, immutable",
            },
        )

    async def health(_: Request) -> Answer:
        return json_answer({"status": "ok"})

    site = Site()
    site.get(DICTIONARY_PATH, get_dictionary)
    site.get("/xrpc/_health", health)
    return StreamServer(site, {PATH: open_stream}, SUBPROTOCOL, too_long=stream.too_long)
