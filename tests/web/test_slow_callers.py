"""Callers who send slowly, or nothing, or claim too much (AUTH T104, T105)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from tests.web.samples import ME
from tests.web.site_rig import running

IDLE = 200
SLOW = 20


async def test_t104_who_sends_slowly_or_nothing_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with running(ME, tmp_path) as site, AsyncExitStack() as stack, site.client() as browser:
        port = urlsplit(site.origin).port

        async def caller(begin: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(begin)
            await writer.drain()
            return reader, writer

        form = b"Content-Type: application/x-www-form-urlencoded\r\nOrigin: " + site.origin.encode()
        head = b"POST /api/actions/post HTTP/1.1\r\nHost: localhost\r\n" + form
        for _ in range(IDLE):
            await caller(b"")
        for _ in range(SLOW):
            await caller(b"GET / HTTP/1.1\r\nHost: loc")
            await caller(head + b"\r\nContent-Length: 500\r\n\r\ntext=")
        assert (await browser.get("/login", timeout=60)).status_code == 200

        # Who claims more than a form may hold is told before he sends it.
        reader, _ = await caller(head + b"\r\nContent-Length: 2000000000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 60)).split()[1] in (b"403", b"413")
        reader, _ = await caller(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
        assert (await asyncio.wait_for(reader.readline(), 60)).split()[1] in (b"400", b"431")
        assert (await browser.get("/login", timeout=60)).status_code == 200
