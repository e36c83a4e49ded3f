"""Small networks for tests, and readers of their streams."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import websockets
import zstandard

from appliance.devnet.network import Network
from appliance.devnet.options import Dialect, Options
from appliance.protocol import firehose

QUIET = tuple(Dialect(name, descending=name != "ascending", rate=None) for name in ("reference", "ascending"))


def small(data: Path | None = None, **fields: Any) -> Network:
    """Nobody in it but whom the test makes; nothing happens by itself."""
    chosen: dict[str, Any] = {"accounts": 0, "rate": 0, "pds": 2, "dialects": QUIET, "data": data}
    return Network(Options(**chosen | fields))


def repos_url(origin: str, cursor: int | None = None) -> str:
    """The repository stream of a relay or a PDS."""
    query = "" if cursor is None else f"?cursor={cursor}"
    return f"{origin.replace('http', 'ws', 1)}/xrpc/com.atproto.sync.subscribeRepos{query}"


async def read_raw(url: str, count: int, **options: Any) -> list[bytes | str]:
    """So many messages of a stream."""
    options = {"compression": None, "max_size": None, "close_timeout": 1} | options
    async with asyncio.timeout(10), websockets.connect(url, **options) as socket:
        return [await socket.recv() for _ in range(count)]


async def read_json(url: str, count: int, **options: Any) -> list[Any]:
    """The same, parsed."""
    return [orjson.loads(message) for message in await read_raw(url, count, **options)]


async def read_frames(url: str, count: int) -> list[firehose.Frame]:
    """The same of a repository stream."""
    return [
        firehose.decode_frame(message) for message in await read_raw(url, count) if isinstance(message, bytes)
    ]


def unpack(frame: bytes | str, dictionary: bytes) -> Any:
    """One compressed message."""
    assert isinstance(frame, bytes)
    zstd = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))
    return orjson.loads(zstd.decompress(frame))


class Caller:
    """Plain XRPC at one origin."""

    def __init__(self, http: httpx.AsyncClient, origin: str, token: str = "") -> None:
        self.http = http
        self.origin = origin
        self.token = token

    async def sign_in(self, handle: str, password: str) -> dict[str, Any]:
        session: dict[str, Any] = await self.post(
            "com.atproto.server.createSession", identifier=handle, password=password
        )
        self.token = session["accessJwt"]
        return session

    async def answer(
        self, method: str, nsid: str, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> httpx.Response:
        authorization = {"authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.origin}/xrpc/{nsid}"
        return await self.http.request(method, url, headers=authorization | (headers or {}), **kwargs)

    async def get(self, nsid: str, **params: Any) -> Any:
        answer = await self.answer("GET", nsid, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, nsid: str, **body: Any) -> Any:
        answer = await self.answer("POST", nsid, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    async def error(self, method: str, nsid: str, **kwargs: Any) -> tuple[int, str]:
        """Status and name of a refusal."""
        answer = await self.answer(method, nsid, **kwargs)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["error"]


def caller(http: httpx.AsyncClient, network: Network, pds: int = 0) -> Caller:
    return Caller(http, network.info["pds"][pds])


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False)
