"""What a page of 50 costs: inside the process, and through HTTP beside the same bytes from memory."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.store.database import Database
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views
from bench.test_start import rss_kb
from bench.timeline_world import did, fill

ITEMS = 120_000
TIMES = 400


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a viewer of 300 follows."""
    path = tmp_path_factory.mktemp("timeline") / "appliance.db"

    async def make() -> None:
        database, _ = await fill(path, items=ITEMS)
        await database.close()

    asyncio.run(make())
    return path


async def _times_us(work: Callable[[], Awaitable[object]], times: int = TIMES) -> tuple[float, float]:
    """p50 and p95."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - start) * 1e6)
    taken.sort()
    return taken[times // 2], taken[times * 95 // 100]


async def test_a_page_of_50_inside_the_process(filled: Path) -> None:
    database = await Database.open(filled)
    views = Views(database, Settings(labelers=()), SystemClock())
    asker = Asker(did=did(0))
    first = await views.timeline(asker)
    page = first.parsed()
    assert len(page["feed"]) == 50
    gc.collect()
    gc.freeze()

    async def after_a_commit() -> None:
        await database.write(lambda tx: tx.run("UPDATE meta SET value = value + 1 WHERE name = 'arrival'"))
        start = time.perf_counter()
        await views.timeline(asker)
        cold.append((time.perf_counter() - start) * 1e6)

    cold: list[float] = []
    hop = await _times_us(lambda: database.read(lambda r: None))
    warm = await _times_us(lambda: views.timeline(asker))
    deep = await _times_us(lambda: views.timeline(asker, cursor=page["cursor"]))
    await _times_us(after_a_commit)
    cold.sort()
    await database.close()
    print(f"\npage of 50, 300 follows, {ITEMS} items, {len(first.body)} bytes; p50 / p95 in µs")
    print(f"  hop to the reader alone          {hop[0]:7.0f} {hop[1]:7.0f}")
    print(f"  first page                       {warm[0]:7.0f} {warm[1]:7.0f}")
    print(f"  second page                      {deep[0]:7.0f} {deep[1]:7.0f}")
    print(f"  first page, just after a commit  {cold[TIMES // 2]:7.0f} {cold[TIMES * 95 // 100]:7.0f}")
    assert warm[0] < 20_000


async def test_a_page_of_50_through_http(filled: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.timeline_server", str(filled)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        text=True,
    )
    try:
        assert server.stdout is not None
        origin = server.stdout.readline().strip()
        timeline = "/xrpc/app.bsky.feed.getTimeline?limit=50"
        memory = "/xrpc/_health"
        print(f"\nRSS of the server before {rss_kb(server.pid) / 1024:.0f} MiB")
        print("through HTTP, one connection, p50 / p95 in µs; eight connections, requests/s")
        shown = {}
        for name, target in (("from memory", memory), ("getTimeline", timeline), ("from memory", memory)):
            client = await Client.open(origin)
            body = await client.get(target)
            one = await _times_us(lambda client=client, target=target: client.get(target))  # type: ignore[misc]
            rate = await _rate(origin, target)
            await client.close()
            shown[name] = one[0]
            print(f"  {name:<12} {len(body):>8} bytes {one[0]:7.0f} {one[1]:7.0f} {rate:7.0f}/s")
        print(f"  our own cost beyond the server: {shown['getTimeline'] - shown['from memory']:.0f} µs p50")
        print(f"  RSS of the server after {rss_kb(server.pid) / 1024:.0f} MiB")
        assert shown["getTimeline"] < 50_000
    finally:
        server.communicate("", timeout=20)


async def _rate(origin: str, target: str, seconds: float = 2.0) -> float:
    done = 0

    async def ask() -> None:
        nonlocal done
        client = await Client.open(origin)
        while time.perf_counter() < end:
            await client.get(target)
            done += 1
        await client.close()

    end = time.perf_counter() + seconds
    await asyncio.gather(*(ask() for _ in range(8)))
    return done / seconds


class Client:
    """As little of an HTTP client as will do, so that it does not count."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, origin: str) -> Client:
        parts = urlsplit(origin)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
        return cls(reader, writer, parts.netloc)

    async def get(self, target: str, token: str = "x") -> bytes:
        request = f"GET {target} HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {token}\r\n\r\n"
        self._writer.write(request.encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), (target, head)
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        return await self._reader.readexactly(length)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
