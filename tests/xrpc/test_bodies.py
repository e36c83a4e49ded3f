"""What a client still sends when its call is refused, on connections that are kept."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import h11
import pytest
from quart import Quart, request

from appliance.xrpc import bodies
from appliance.xrpc.asgi import BODY_MAX_BYTES, App, Front
from tests.serving import serving

NAMED = "com.atproto.server.createSession"


class Kept:
    """One connection of HTTP/1.1, used for as long as the server lets it be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    def send(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

    def begin(self, nsid: str, length: int, verb: str = "POST", *more: tuple[str, str]) -> None:
        kind = ("content-type", "application/json")
        headers = [("host", "us.test"), kind, ("content-length", str(length)), *more]
        self.send(h11.Request(method=verb, target=f"/xrpc/{nsid}", headers=headers))

    async def answer(self) -> tuple[int, bool]:
        """Its status, and whether the server says that the connection ends."""
        head: h11.Response | None = None
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await asyncio.wait_for(self._reader.read(65536), 60))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return head.status_code, (b"connection", b"close") in list(head.headers)
            else:
                assert not isinstance(event, h11.ConnectionClosed), "closed without an answer"

    async def head_arrived(self) -> None:
        """Wait until the server asks for the body."""
        while not isinstance(self._http.next_event(), h11.InformationalResponse):
            self._http.receive_data(await asyncio.wait_for(self._reader.read(65536), 60))

    async def call(self, nsid: str, body: bytes, pieces: int = 1) -> tuple[int, bool]:
        self.begin(nsid, len(body))
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            self.send(h11.Data(data=body[start : start + size]))
            await self._writer.drain()
            await asyncio.sleep(0)
        self.send(h11.EndOfMessage())
        return await self.answer()

    def next(self) -> None:
        """The same connection once more; h11 raises where the server has said that it ends."""
        self._http.start_next_cycle()

    async def ended(self) -> bool:
        """Whether the server has closed it."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self._reader.read(), 60) == b""
        return True


async def _nobody(*_: Any, **__: Any) -> None:
    return None


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    web = Quart(__name__)
    web.config["MAX_CONTENT_LENGTH"] = 1000

    @web.post(f"/xrpc/{NAMED}")
    async def refuses() -> tuple[str, int]:
        return "who are you", 401

    @web.post("/xrpc/form")
    async def reads() -> str:
        return str(len(await request.get_data()))

    front = Front(
        [], _nobody, default_labelers=(), rest=cast(App, web), rest_has=lambda nsid: nsid in (NAMED, "form")
    )
    async with serving(front) as found:
        yield found


@contextlib.asynccontextmanager
async def kept(origin: str) -> AsyncIterator[Kept]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(origin.rpartition(":")[2]))
    try:
        yield Kept(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("nsid", "size", "status"),
    [
        ("app.bsky.nope.doNothing", 20_000, 501),
        (NAMED, 20_000, 401),
        ("form", 20_000, 413),
        ("form", 900, 200),
    ],
)
async def test_a_refused_call_leaves_its_connection_fit_for_the_next(
    origin: str, nsid: str, size: int, status: int
) -> None:
    async with kept(origin) as connection:
        for _ in range(3):
            assert await connection.call(nsid, b"x" * size, pieces=5) == (status, False)
            connection.next()


async def test_a_refusal_that_was_decided_before_the_body_came_waits_for_it(origin: str) -> None:
    async with kept(origin) as connection:
        for nsid, status in (("app.bsky.nope.doNothing", 501), (NAMED, 401)):
            connection.begin(nsid, 3, "POST", ("expect", "100-continue"))
            await connection.head_arrived()
            connection.send(h11.Data(data=b"{}\n"))
            connection.send(h11.EndOfMessage())
            assert await connection.answer() == (status, False)
            connection.next()


@pytest.mark.parametrize("nsid", ["app.bsky.nope.doNothing", NAMED])
async def test_a_body_that_does_not_come_ends_the_connection_and_the_answer_says_so(
    origin: str, nsid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "DROPPED_MAX_S", 0.2)
    async with kept(origin) as connection:
        connection.begin(nsid, BODY_MAX_BYTES)
        connection.send(h11.Data(data=b"a beginning"))
        status, closes = await connection.answer()
        assert (status in (501, 401), closes) == (True, True)
        assert await connection.ended()


async def test_a_large_body_is_not_read_to_its_end_and_the_answer_says_so(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "DROPPED_MAX_S", 60.0)
    async with kept(origin) as connection:
        connection.begin("app.bsky.nope.doNothing", 10 * bodies.DROPPED_MAX_BYTES)
        connection.send(h11.Data(data=b"x" * (bodies.DROPPED_MAX_BYTES + 70_000)))
        assert await connection.answer() == (501, True)
        assert await connection.ended()


async def test_a_get_that_brings_a_body_is_no_different(origin: str) -> None:
    async with kept(origin) as connection:
        for _ in range(2):
            connection.begin("app.bsky.nope.getNothing", 2, verb="GET")
            connection.send(h11.Data(data=b"{}"))
            connection.send(h11.EndOfMessage())
            assert await connection.answer() == (501, False)
            connection.next()
