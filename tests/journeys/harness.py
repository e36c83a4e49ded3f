"""A whole appliance as its own process, and a client that knows only its public address."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PAGE = 100
PAGES_MAX = 5000


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """An ``appliance serve`` that can be killed and started again on the same data."""

    def __init__(self, data: Path, settings: Mapping[str, str], command: list[str] | None = None) -> None:
        self.port = free_port()
        self.origin = f"http://localhost:{self.port}"
        self.data = data
        self.starts_s: list[float] = []
        self._command = command or [sys.executable, "-m", "appliance.cli", "serve"]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(data),
            "PYTHONPATH": str(ROOT),
            "DATA_DIR": str(data),
            "PORT": str(self.port),
            "LOG_FORMAT": "text",
            "ALLOW_LOOPBACK": "true",
            "RATE_LIMITS": "off",
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None
        self.log = data.parent / f"{data.name}.log"

    async def start(self, *, within_s: float = 30) -> None:
        """Start and wait until it says that it is ready."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, cwd=self.data.parent, stdout=log, stderr=log
            )
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() - began < within_s:
                if self._process.returncode is not None:
                    raise AssertionError(f"ended with {self._process.returncode}: {self.tail()}")
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{self.origin}/ready")).status_code == 200:
                        self.starts_s.append(time.monotonic() - began)
                        return
                await asyncio.sleep(0.02)
        raise AssertionError(f"not ready after {within_s} s: {self.tail()}")

    async def kill(self) -> None:
        """SIGKILL: nothing of it gets to say goodbye."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"did not end on SIGTERM: {self.tail()}") from None

    async def command(self, *words: str) -> tuple[int, str, str]:
        """Another process runs this command on the same data; its exit code and what it printed."""
        program = [*self._command[:-1], *words]
        other = await asyncio.create_subprocess_exec(
            *program,
            env=self._environment,
            cwd=self.data.parent,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await other.communicate()
        assert other.returncode is not None
        return other.returncode, out.decode(), err.decode()

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-characters:] if self.log.exists() else ""


@contextlib.asynccontextmanager
async def running(data: Path, settings: Mapping[str, str]) -> AsyncIterator[Process]:
    """A started process; ended at the end, whatever happened."""
    process = Process(data, settings)
    await process.start()
    try:
        yield process
    finally:
        if process.alive:
            await process.stop()


@dataclass(frozen=True)
class Row:
    """A row as a client sees it: what it is, and where it stands."""

    uri: str
    subject: str
    sort_at: str
    cid: str


class Client:
    """An XRPC client signed in at the appliance's own origin."""

    def __init__(self, origin: str, http: httpx.AsyncClient) -> None:
        self.origin = origin
        self.did = ""
        self._http = http
        self._token = ""

    async def sign_in(self, handle: str, password: str) -> None:
        answer = await self.call(
            "com.atproto.server.createSession", {"identifier": handle, "password": password}
        )
        self.take(answer)

    def take(self, answer: dict[str, Any]) -> None:
        """Go on as whom createSession answered for."""
        self._token, self.did = answer["accessJwt"], answer["did"]

    async def call(self, nsid: str, body: Any = None, **params: Any) -> Any:
        """A query, or a procedure when there is a body. Raises on any status but 200."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        url = f"{self.origin}/xrpc/{nsid}"
        if body is None:
            answer = await self._http.get(url, params=params, headers=headers)
        else:
            answer = await self._http.post(url, json=body, params=params, headers=headers)
        assert answer.status_code == 200, f"{nsid}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    async def timeline(self, *, limit: int = PAGE, pages_max: int = PAGES_MAX) -> list[Row]:
        """Every page to the end."""
        rows: list[Row] = []
        cursor = None
        for _ in range(pages_max):
            params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = await self.call("app.bsky.feed.getTimeline", **params)
            rows += [row(item) for item in page["feed"]]
            following = page.get("cursor")
            if following is None:
                return rows
            assert following != cursor, "the cursor does not move"
            cursor = following
        raise AssertionError("the timeline has no end")


def row(item: dict[str, Any]) -> Row:
    """A feedViewPost as a row."""
    post = item["post"]
    reason = item.get("reason")
    if reason is not None:
        return Row(reason["uri"], post["uri"], reason["indexedAt"], reason["cid"])
    return Row(post["uri"], post["uri"], post["indexedAt"], post["cid"])


def check_order(rows: list[Row]) -> None:
    """Newest first by (time, cid), each row once.

    Two people who repost one post in one millisecond write the same bytes, so both may be equal: then
    the order is ours to choose (docs/decisions/0001-one-record-table.md).
    """
    uris = [r.uri for r in rows]
    twice = {uri for uri in uris if uris.count(uri) > 1} if len(set(uris)) != len(uris) else set()
    assert not twice, f"shown twice: {sorted(twice)[:5]}"
    for above, below in itertools.pairwise(rows):
        assert (above.sort_at, above.cid) >= (below.sort_at, below.cid), f"out of order: {above} {below}"


class World:
    """An ``appliance devnet`` as its own process: the network outside, kept between runs."""

    def __init__(self, folder: Path, *, accounts: int, seed: int = 1) -> None:
        self.folder = folder
        self.info: dict[str, Any] = {}
        self._base = [
            *(sys.executable, "-m", "appliance.cli", "devnet", "--data", str(folder / "network")),
            *("--accounts", str(accounts), "--seed", str(seed), "--info", str(folder / "info.json")),
        ]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *, rate: float, within_s: float = 120) -> None:
        """Start, living at this rate, and wait until it is ready."""
        told = self.folder / "info.json"
        told.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(ROOT)}
        with (self.folder / "network.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._base, "--rate", str(rate), env=environment, stdout=log, stderr=log
            )
        self.info = await told_in(told, self._process, within_s)

    async def stop(self) -> None:
        """SIGTERM, and wait."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self._process.wait(), 60)

    def settings(self, wire: str = "jetstream-v2") -> dict[str, str]:
        """The settings of an appliance that reads this network by that wire; its members are admitted."""
        stream = {
            "jetstream-v2": {"JETSTREAM_URLS": self.info["jetstream_v2"]},
            "jetstream-v1": {"JETSTREAM_URLS": self.info["jetstream_v1"]},
            "relay": {"RELAY_URL": self.info["relay"]},
        }[wire]
        return {
            **stream,
            "PLC_URL": self.info["plc"],
            "HANDLE_RESOLVERS": ",".join(self.info["pds"]),
            "MEMBERS": ",".join(member["did"] for member in self.info["members"]),
            "OUTBOUND_RATE_PER_HOST": "500",
            "OUTBOUND_PER_HOST": "8",
        }


async def told_in(path: Path, process: asyncio.subprocess.Process, within_s: float) -> dict[str, Any]:
    """What a program writes into its --info file once it is ready."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        assert process.returncode is None, f"ended with {process.returncode} before it was ready"
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path.name} was not written within {within_s} s")


async def comes_true(check: Callable[[], Awaitable[str]], *, within_s: float) -> float:
    """Wait until ``check`` finds nothing wrong; the seconds it took. Fails with what it last said."""
    began = time.monotonic()
    wrong = "never checked"
    while time.monotonic() - began < within_s:
        wrong = await check()
        if not wrong:
            return time.monotonic() - began
        await asyncio.sleep(0.25)
    raise AssertionError(f"still wrong after {within_s} s: {wrong}")
