"""Pictures by owner and CID: fetched once from the owner's PDS, checked against the CID, kept on disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from cachetools import TTLCache

from appliance.clock import Clock, SystemClock
from appliance.errors import BadInput, NotFound
from appliance.protocol import cid as cids

# Those that addresses in our answers name, and those that clients make of them.
PRESETS = frozenset(
    {"avatar", "avatar_thumbnail", "banner", "banner_thumbnail", "feed_thumbnail", "feed_fullsize"}
)
PICTURE_BYTES_MAX = 10_000_000
CID_CHARS_MAX = 100
RAW = 0x55
_OWNER = re.compile(r"did:plc:[a-z2-7]{24}|did:web:[a-zA-Z0-9.-]{1,253}(?:%3A[0-9]{1,5})?")
FETCHES_MAX = 16
ABSENT_S = 300.0
ABSENT_MAX = 10_000
SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)

FetchBlob = Callable[[str, str], Awaitable[bytes]]
# Whether the operator took that owner's blob down.
Refuses = Callable[[str, str], Awaitable[bool]]


class Picture(NamedTuple):
    """The bytes as the owner uploaded them, and what they are."""

    data: bytes
    mime: str


class Images:
    """Gives pictures. ``fetch(did, cid)`` reads the blob from the owner's PDS.

    Files lie under ``folder`` by CID; when they exceed ``cache_bytes`` those used longest ago go. What an
    owner does not have is asked for again after five minutes.
    """

    def __init__(
        self,
        folder: Path,
        fetch: FetchBlob,
        *,
        cache_bytes: int,
        clock: Clock | None = None,
        refused: Refuses | None = None,
    ) -> None:
        self._folder = folder
        self._fetch = fetch
        self._refused = refused
        self._cache_bytes = cache_bytes
        self._running: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        self._turns = asyncio.Semaphore(FETCHES_MAX)
        self._absent: TTLCache[tuple[str, str], str] = TTLCache(
            ABSENT_MAX, ABSENT_S, timer=(clock or SystemClock()).monotonic_s
        )
        self._written = 0

    async def get(self, preset: str, did: str, cid_text: str) -> Picture:
        """Raises NotFound for what isn't a picture or isn't there, Unavailable when the owner is silent."""
        cid = _blob_of(cid_text)
        if preset not in PRESETS or not _OWNER.fullmatch(did) or cid is None:
            raise NotFound("no such picture", name="BlobNotFound")
        if self._refused is not None and await self._refused(did, cid_text):
            raise NotFound("that picture was taken down", name="BlobNotFound")
        path = self._folder / cid_text[-2:] / cid_text
        data = await asyncio.to_thread(_read, path)
        if data is None:
            data = await self._fetch_once(did, cid_text, cid, path)
        mime = sniff(data)
        if mime is None:
            raise NotFound("that blob is not a picture", name="BlobNotFound")
        return Picture(data, mime)

    async def _fetch_once(self, did: str, cid_text: str, cid: bytes, path: Path) -> bytes:
        key = (did, cid_text)
        if key in self._absent:
            raise NotFound(self._absent[key], name="BlobNotFound")
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch_and_keep(did, cid_text, cid, path))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # One reader who goes away must not take the picture from the others.
        return await asyncio.shield(task)

    async def _fetch_and_keep(self, did: str, cid_text: str, cid: bytes, path: Path) -> bytes:
        try:
            async with self._turns:
                data = await self._fetch(did, cid_text)
            if len(data) > PICTURE_BYTES_MAX:
                raise NotFound("that picture is too large", name="BlobNotFound")
            if await asyncio.to_thread(cids.blob_cid_of, data) != cid:
                raise NotFound("the owner's server sent other bytes than its CID names", name="BlobNotFound")
            if sniff(data) is None:
                raise NotFound("that blob is not a picture", name="BlobNotFound")
        except (NotFound, BadInput) as error:
            self._absent[did, cid_text] = error.message
            raise NotFound(error.message, name="BlobNotFound") from error
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


def _blob_of(text: str) -> bytes | None:
    """The CID of a blob in its one canonical spelling; None for anything else."""
    if len(text) > CID_CHARS_MAX:
        return None
    try:
        cid = cids.from_text(text)
    except BadInput:
        return None
    return cid if cid[1] == RAW and cids.to_text(cid) == text else None


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
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _shrink(folder: Path, limit: int) -> None:
    files = []
    for entry in folder.glob("*/*"):
        # Others write at the same time: what is gone when we look needs no place.
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat()
            files.append((found.st_mtime, found.st_size, entry))
    total = sum(size for _, size, _ in files)
    for _, size, entry in sorted(files):
        if total <= limit:
            break
        entry.unlink(missing_ok=True)
        total -= size
