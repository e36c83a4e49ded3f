"""Pictures by owner and CID: fetched once from the owner's PDS, checked against the CID, kept on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from appliance.errors import BadInput, NotFound
from appliance.protocol import cid as cids
from appliance.protocol.syntax import is_did

PRESETS = frozenset({"avatar", "avatar_thumbnail", "banner", "feed_thumbnail", "feed_fullsize"})
SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)

FetchBlob = Callable[[str, str], Awaitable[bytes]]


class Picture(NamedTuple):
    """The bytes as the owner uploaded them, and what they are."""

    data: bytes
    mime: str


class Images:
    """Gives pictures. ``fetch(did, cid)`` reads the blob from the owner's PDS.

    Files lie under ``folder`` by CID; when they exceed ``cache_bytes`` those used longest ago go.
    """

    def __init__(self, folder: Path, fetch: FetchBlob, *, cache_bytes: int) -> None:
        self._folder = folder
        self._fetch = fetch
        self._cache_bytes = cache_bytes
        self._running: dict[str, asyncio.Task[bytes]] = {}
        self._written = 0

    async def get(self, preset: str, did: str, cid_text: str) -> Picture:
        """Raises BadInput for what can't be a picture, NotFound or Unavailable from the owner."""
        if preset not in PRESETS or not is_did(did):
            raise BadInput("no such picture")
        cid = cids.from_text(cid_text)
        if cid[1] != 0x55:
            raise BadInput("no such picture")
        path = self._folder / cid_text[-2:] / cid_text
        data = await asyncio.to_thread(_read, path)
        if data is None:
            data = await self._fetch_once(did, cid_text, cid, path)
        mime = sniff(data)
        if mime is None:
            raise NotFound("that blob is not a picture", name="BlobNotFound")
        return Picture(data, mime)

    async def _fetch_once(self, did: str, cid_text: str, cid: bytes, path: Path) -> bytes:
        task = self._running.get(cid_text)
        if task is None:
            task = asyncio.create_task(self._fetch_and_keep(did, cid_text, cid, path))
            self._running[cid_text] = task
            task.add_done_callback(lambda _: self._running.pop(cid_text, None))
        # One reader who goes away must not take the picture from the others.
        return await asyncio.shield(task)

    async def _fetch_and_keep(self, did: str, cid_text: str, cid: bytes, path: Path) -> bytes:
        data = await self._fetch(did, cid_text)
        if cids.blob_cid_of(data) != cid:
            raise BadInput("the owner's server sent other bytes than its CID names")
        await asyncio.to_thread(_write, path, data)
        self._written += len(data)
        if self._written > self._cache_bytes // 20:
            self._written = 0
            await asyncio.to_thread(_shrink, self._folder, self._cache_bytes)
        return data


def sniff(data: bytes) -> str | None:
    """The MIME type that the first bytes tell, for the kinds that we serve."""
    for signature, mime in SIGNATURES:
        if data.startswith(signature):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(name).replace(path)


def _shrink(folder: Path, limit: int) -> None:
    files = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in folder.glob("*/*")]
    total = sum(size for _, size, _ in files)
    for _, size, entry in sorted(files):
        if total <= limit:
            break
        entry.unlink(missing_ok=True)
        total -= size
