"""A scripted upstream on loopback that speaks each of the three wires, and a pipeline that reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import orjson
import websockets
import zstandard
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import State

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier
from appliance.ingest.lists import PER_CONNECTION_MAX
from appliance.ingest.merge import Rules
from appliance.ingest.modes import Limits
from appliance.ingest.pipeline import Pipeline
from appliance.outbound.client import Outbound
from appliance.protocol import dictionaries, firehose, lexicons
from appliance.protocol.datamodel import Value
from appliance.protocol.syntax import parse_datetime_us
from appliance.protocol.tid import tid_of
from appliance.store import actors, repos, upstreams
from appliance.store.database import Database

PATHS = {
    "v1": "/subscribe",
    "v2": "/xrpc/network.bsky.jetstream.subscribeEvents",
    "relay": "/xrpc/com.atproto.sync.subscribeRepos",
}
SPACE = "network.bsky.jetstream.subscribeEvents#"
BEGIN_US = 1_783_200_000_000_000  # 2026-07-04, after the real frames were captured
POST = "app.bsky.feed.post"


class ClockAt(SystemClock):
    """Runs as the machine's, from a moment at which the captured data is recent."""

    def __init__(self, start_us: int = BEGIN_US) -> None:
        self._ahead_us = start_us - time.time_ns() // 1000

    def now_us(self) -> int:
        return super().now_us() + self._ahead_us


class Line(NamedTuple):
    """An event as it is sent, before compression."""

    seq: int
    time_us: int
    data: bytes


def v1_line(seq: int, event: dict[str, Any]) -> Line:
    return Line(seq, event["time_us"], orjson.dumps(event))


def v2_line(seq: int, event: dict[str, Any]) -> Line:
    """The v2 form of a v1 event."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event["time_us"] // 1_000_000))
    payload: dict[str, Any] = {
        "$type": SPACE + event["kind"],
        "seq": seq,
        "did": event["did"],
        "time": f"{moment}.{event['time_us'] % 1_000_000:06d}Z",
    }
    part = event[event["kind"]]
    payload |= part if event["kind"] == "commit" else {event["kind"]: part}
    return Line(seq, event["time_us"], orjson.dumps({"$type": "message", "payload": payload}))


def relay_line(frame: bytes) -> Line:
    decoded = firehose.decode_frame(frame)
    assert decoded.seq is not None
    return Line(decoded.seq, parse_datetime_us(decoded.body["time"]), frame)


def post_event(who: int, number: int, time_us: int, **changes: Any) -> dict[str, Any]:
    """A v1 event of a made-up post; different numbers are different posts."""
    key = tid_of(time_us, number % 1000)
    commit = {
        "rev": key,
        "operation": "create",
        "collection": POST,
        "rkey": key,
        "record": {"$type": POST, "text": f"post {number}", "createdAt": "2026-07-01T00:00:00.000Z"},
        "cid": "bafyreiguce4jh7kcbmof3pmcvasifqtw24b6isakj5ve5ga2b4z4alpc4i",
    }
    return {"did": did(who), "time_us": time_us, "kind": "commit", "commit": commit | changes}


def did(number: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return "did:plc:" + "".join(letters[number // 32**place % 32] for place in range(24))


class Host:
    """One server. Set its attributes before or while it runs."""

    def __init__(self, wire: str, lines: Iterable[Line] = ()) -> None:
        self.wire = wire
        self.lines = sorted(lines, key=lambda line: line.time_us if wire == "v1" else line.seq)
        self.dictionary: bytes | None = {
            "v1": dictionaries.legacy(),
            "v2": dictionaries.current()[1],
            "relay": None,
        }[wire]
        self.serves_dictionary = True
        self.floor = 0  # index of the oldest line still kept
        self.cuts: Callable[[], int | None] = lambda: None  # frames until the next connection is cut
        self.raw: list[tuple[int, bytes]] = []  # frames sent as they are, before the line of that index
        self.plain = False
        self.race_us = 0  # a replay loses what is younger than that when it ends (v1)
        self.blind: set[str] = set()  # accounts of which nothing is sent
        self.outbox: int | None = None  # replayed events after which the first live one ends the connection
        self.url_max = 10**6
        self.mute = False  # keeps the line, answers pings, sends nothing
        self.messages: list[tuple[int, Any]] = []  # (number of the connection, whatever was sent to us)
        self.open: set[ServerConnection] = set()
        self.accepted: list[ServerConnection] = []
        self.begun: set[ServerConnection] = set()  # those that hear what is said from now on
        self.documents: dict[str, bytes] = {}  # DID documents of its directory
        self.directory_down = False
        self.refuses = False  # whoever asks for the stream
        self.asked: list[dict[str, list[str]]] = []
        self.hellos: list[dict[str, Any]] = []
        self.fetched: list[str] = []
        self.sent = 0
        self.sent_bytes = 0
        self.port = 0
        self._more = asyncio.Condition()
        self._ending = False
        self._server: Server

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}{PATHS[self.wire]}"

    async def add(self, *lines: Line) -> None:
        self.lines += lines
        async with self._more:
            self._more.notify_all()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Host]:
        server: Server
        protocols = [websockets.Subprotocol("xrpc.v1.json")] if self.wire == "v2" else None
        server = await serve(
            self._talk, "127.0.0.1", port, process_request=self._request, subprotocols=protocols,
            compression=None, close_timeout=0.1,
        )  # fmt: skip
        self.port = next(iter(server.sockets)).getsockname()[1]
        self._server = server
        try:
            yield self
        finally:
            self._ending = True
            async with self._more:
                self._more.notify_all()
            self.drop_connections()
            server.close()
            await server.wait_closed()

    def drop_connections(self) -> None:
        """Cut all of them."""
        for connection in self._server.connections:
            connection.transport.abort()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        query = parse_qs(parts.query)
        if parts.path == "/xrpc/network.bsky.jetstream.getZstdDictionary":
            self.fetched.append(parts.query)
            if not self.serves_dictionary or self.dictionary is None:
                return _answer(404, b'{"error":"DictionaryNotFound"}')
            return _answer(200, self.dictionary)
        if parts.path.startswith("/did:"):
            self.fetched.append(parts.path)
            if self.directory_down:
                return _answer(503, b"{}")
            document = self.documents.get(parts.path[1:])
            return _answer(404, b"{}") if document is None else _answer(200, document)
        if parts.path != PATHS[self.wire]:
            return _answer(404, b"no such stream")
        if self.refuses:
            return _answer(503, b"{}")
        self.asked.append(query)
        if len(request.path) > self.url_max:
            return _answer(414, b"")
        if self.wire == "v2":
            known = 0 if self.dictionary is None else dictionaries.id_of(self.dictionary)
            if "zstdDictionary" in query and int(query["zstdDictionary"][0]) != known:
                return _error("UnknownZstdDictionary", f"current is {known}")
            cursor = int(query["cursor"][0]) if "cursor" in query else None
            if cursor is not None and cursor < 10**15 and self.lines and cursor < self.lines[self.floor].seq:
                return _error("CursorTooOld", f"floor {self.lines[self.floor].seq}")
        self.accepted.append(connection)
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        number = len(self.asked)
        wanted = set(query.get("dids", ()))
        listening: asyncio.Task[None] | None = None
        self.open.add(connection)
        try:
            with contextlib.suppress(websockets.ConnectionClosed):
                if query.get("requireHello") == ["true"]:
                    hello = json.loads(await connection.recv())
                    assert hello["type"] == "options_update"
                    # An empty list would be the whole network.
                    assert hello["payload"].get("wantedDids") != []
                    assert len(hello["payload"].get("wantedDids", ())) <= 10_000
                    self.hellos.append(hello["payload"])
                    wanted = set(hello["payload"].get("wantedDids", ()))
                listening = asyncio.create_task(self._listen(connection, number))
                sending = asyncio.create_task(self._send_lines(connection, query, wanted))
                await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            self.open.discard(connection)
            self.begun.add(connection)
            if listening is not None:
                listening.cancel()

    async def _listen(self, connection: ServerConnection, number: int) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                self.messages.append((number, message))

    async def _send_lines(
        self, connection: ServerConnection, query: dict[str, list[str]], wanted: set[str]
    ) -> None:
        squeeze = self._squeezer(query)
        cursor = int(query["cursor"][0]) if "cursor" in query else None
        at = await self._begin(connection, cursor, squeeze)
        self.begun.add(connection)
        if at is None:
            return
        left = self.cuts()
        raw = [entry for entry in self.raw if entry[0] >= at]
        cutover = len(self.lines)
        lost_us = self.lines[-1].time_us - self.race_us if self.race_us and self.lines else None
        replayed = 0
        while True:
            while self.mute or (at >= len(self.lines) and not raw):
                if self._ending:
                    return
                async with self._more:
                    await self._more.wait()
            if raw and raw[0][0] <= at:
                frame: bytes | str = raw.pop(0)[1]
            else:
                line = self.lines[at]
                at += 1
                if (wanted or self.blind) and self.wire != "relay":
                    who = did_in(line)
                    if who in self.blind or (wanted and who not in wanted):
                        continue
                if at <= cutover and lost_us is not None and line.time_us > lost_us:
                    continue
                if at <= cutover:
                    replayed += 1
                elif self.outbox is not None and replayed >= self.outbox:
                    connection.transport.abort()
                    return
                frame = squeeze(line.data)
            if left is not None:
                if left <= 0:
                    connection.transport.abort()
                    return
                left -= 1
            await connection.send(frame)
            self.sent += 1
            self.sent_bytes += len(frame)

    async def _begin(
        self, connection: ServerConnection, cursor: int | None, squeeze: Callable[[bytes], bytes | str]
    ) -> int | None:
        """The index of the first line for that cursor."""
        if cursor is None:
            return len(self.lines)
        lines = list(enumerate(self.lines))
        if self.wire == "relay":
            if self.lines and cursor > self.lines[-1].seq:
                body: dict[str, Value] = {"error": "FutureCursor", "message": "Cursor in the future."}
                await connection.send(firehose.encode_frame("error", body))
                return None
            if self.floor and cursor < self.lines[self.floor].seq - 1:
                await connection.send(firehose.encode_frame("#info", {"name": "OutdatedCursor"}))
            return next((i for i, line in lines[self.floor :] if line.seq > cursor), len(lines))
        if self.wire == "v2" and cursor < 10**15:
            if self.lines and cursor > self.lines[-1].seq:
                return len(lines)
            return next((i for i, line in lines[self.floor :] if line.seq >= cursor), len(lines))
        if self.wire == "v2" and self.floor and cursor < self.lines[self.floor].time_us:
            info = {"$type": SPACE + "info", "name": "OutdatedCursor", "message": "clamped"}
            await connection.send(squeeze(orjson.dumps({"$type": "message", "payload": info})))
        return next((i for i, line in lines[self.floor :] if line.time_us >= cursor), len(lines))

    def _squeezer(self, query: dict[str, list[str]]) -> Callable[[bytes], bytes | str]:
        if self.wire == "relay":
            return lambda data: data
        if self.plain or not ("zstdDictionary" in query or query.get("compress") == ["true"]):
            return lambda data: data.decode()
        assert self.dictionary is not None
        return zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(self.dictionary)).compress


def squeezed(data: bytes, wire: str) -> bytes:
    """A frame as that wire sends it."""
    dictionary = dictionaries.legacy() if wire == "v1" else dictionaries.current()[1]
    return zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(dictionary)).compress(data)


def did_in(line: Line) -> str:
    """Whose event that is."""
    start = line.data.index(b'"did":"') + 7
    return line.data[start : line.data.index(b'"', start)].decode()


def _error(name: str, message: str) -> Response:
    return _answer(400, orjson.dumps({"error": name, "message": message}))


def _answer(status: int, body: bytes) -> Response:
    headers = Headers([("Content-Length", str(len(body))), ("Connection", "close")])
    return Response(status, HTTPStatus(status).phrase, headers, body)


class Reading(NamedTuple):
    """A pipeline at work."""

    pipeline: Pipeline
    database: Database
    task: asyncio.Task[None]
    identities: Identities

    async def rows(self) -> set[tuple[Any, ...]]:
        """(did, collection, rkey, cid, state, body parsed and spelt anew) of every record."""
        found = await self.database.read(
            lambda r: r.all(
                "SELECT a.did, c.nsid, k.rkey, k.cid, k.state, k.body FROM record k"
                " JOIN actor a ON a.id = k.actor JOIN collection c ON c.id = k.collection WHERE k.state > 0"
            )
        )
        return {
            (
                *row[:5],
                None if row[5] is None else orjson.dumps(orjson.loads(row[5]), option=orjson.OPT_SORT_KEYS),
            )
            for row in found
        }

    async def value(self, sql: str) -> Any:
        return await self.database.read(lambda r: r.value(sql))

    async def until(self, sql: str, value: Any) -> None:
        """Wait until that query answers so."""
        async with asyncio.timeout(60):
            while await self.value(sql) != value:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def reading(
    folder: Path,
    *hosts: Host,
    scope: str = "network",
    clock: SystemClock | None = None,
    limits: Limits | None = None,
    per_connection: int = PER_CONNECTION_MAX,
    **settings: Any,
) -> AsyncIterator[Reading]:
    """Read these hosts into a database in that folder."""
    clock = clock or ClockAt()
    first = hosts[0]
    chosen = Settings(
        data_dir=str(folder),
        allow_loopback=True,
        upstream="relay" if first.wire == "relay" else "jetstream",
        jetstream_urls=tuple(host.url for host in hosts),
        plc_url=f"http://localhost:{first.port}",
        outbound_rate_per_host=1000.0,
        **{"relay_url": f"ws://localhost:{first.port}", "commit_every_ms": 5, **settings},
    )
    database = await Database.open(folder / "test.db")
    outbound = Outbound(chosen, clock)
    identities = Identities(database, outbound, chosen, clock)
    applier = Applier(Rules(lexicons.validate_record, scope))  # type: ignore[arg-type]
    pipeline = Pipeline(
        database, outbound, identities, applier, chosen, clock, limits=limits, per_connection=per_connection
    )
    task = asyncio.create_task(pipeline.run())
    try:
        yield Reading(pipeline, database, task, identities)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await outbound.close()
        await database.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def connected(host: Host, times: int = 1) -> None:
    """Wait until the host has been asked that often, and whoever it let in hears what is said from now on."""
    async with asyncio.timeout(60):
        while len(host.asked) < times or any(
            one.state is not State.CLOSED for one in host.accepted if one not in host.begun
        ):
            await asyncio.sleep(0.005)


async def remember(folder: Path, host: Host, seq: int | None, time_us: int | None) -> None:
    """Store a position, as if the host had been read that far."""
    wire = {"v1": "jetstream-v1", "v2": "jetstream-v2", "relay": "relay"}[host.wire]
    database = await Database.open(folder / "test.db")
    await database.write(
        lambda tx: upstreams.save(tx, f"{wire} {host.url}", wire, seq, time_us, 1, BEGIN_US - 10**9)
    )
    await database.close()


async def track(folder: Path, *dids: str) -> None:
    """Make these accounts tracked and certain."""
    database = await Database.open(folder / "test.db")

    def work(tx: Any) -> None:
        for one in dids:
            repos.want(tx, actors.ensure(tx, one, BEGIN_US), BEGIN_US)
        tx.run("UPDATE repo SET state = 'LIVE', reason = ''")

    await database.write(work)
    await database.close()
