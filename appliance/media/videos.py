"""Videos by owner and CID: fetched whole from the owner's PDS, checked against the CID, kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
from cachetools import LRUCache, TTLCache

from appliance.clock import Clock, SystemClock
from appliance.errors import BadInput, NotFound
from appliance.media import mp4, streaming
from appliance.media.images import ABSENT_MAX, ABSENT_S, OWNER, IsShown, blob_of, once, shrink
from appliance.media.mp4 import Movie
from appliance.media.streaming import Segment

VIDEO_BYTES_MAX = 110_000_000
FETCHES_MAX = 4
INDEXES_MAX = 64

Open = Callable[[str, str], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class Index(msgspec.Struct, frozen=True):
    """A video cut into segments."""

    movie: Movie
    segments: list[Segment]


class File(NamedTuple):
    """A whole video on disk, its bytes proven to be those of its name."""

    path: Path
    size: int


class Videos:
    """Gives videos. ``open_blob(did, cid)`` streams the blob from the owner's PDS.

    Only what ``is_shown(did, cid)``. Everything raises NotFound for what isn't a video or isn't there,
    Unavailable when the owner is silent.
    """

    def __init__(
        self,
        folder: Path,
        open_blob: Open,
        is_shown: IsShown,
        *,
        cache_bytes: int,
        clock: Clock | None = None,
    ) -> None:
        self._folder = folder
        self._open = open_blob
        self._is_shown = is_shown
        self._cache_bytes = cache_bytes
        self._running: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(FETCHES_MAX)
        self._absent: TTLCache[str, str] = TTLCache(
            ABSENT_MAX, ABSENT_S, timer=(clock or SystemClock()).monotonic_s
        )
        self._indexes: LRUCache[str, Index] = LRUCache(INDEXES_MAX)

    async def file(self, did: str, cid_text: str) -> File:
        """The video as its owner uploaded it."""
        cid = blob_of(cid_text)
        if not OWNER.fullmatch(did) or cid is None or not await self._is_shown(did, cid_text):
            raise NotFound("no such video", name="BlobNotFound")
        path = self._folder / cid_text[-2:] / cid_text
        found = await asyncio.to_thread(_used, path)
        if found is None:
            key = f"{did} {cid_text}"
            if key in self._absent:
                raise NotFound(self._absent[key], name="BlobNotFound")
            await once(self._running, key, partial(self._fetch, key, did, cid_text, cid, path))
            found = await asyncio.to_thread(_used, path)
        if found is None:
            raise NotFound("the cache is too small for this video", name="BlobNotFound")
        return File(path, found)

    async def playlist(self, did: str, cid_text: str) -> bytes:
        """The HLS playlist."""
        _, index = await self._index(did, cid_text)
        return streaming.playlist(index.segments).encode()

    async def initialisation(self, did: str, cid_text: str) -> bytes:
        """Its initialisation segment."""
        _, index = await self._index(did, cid_text)
        return streaming.initialisation(index.movie)

    async def segment(self, did: str, cid_text: str, number: int) -> bytes:
        """One of its segments."""
        file, index = await self._index(did, cid_text)
        if not 0 <= number < len(index.segments):
            raise NotFound("no such segment", name="BlobNotFound")
        return await asyncio.to_thread(_cut, file.path, index, number)

    async def _index(self, did: str, cid_text: str) -> tuple[File, Index]:
        file = await self.file(did, cid_text)
        index = self._indexes.get(cid_text)
        if index is None:
            try:
                index = await asyncio.to_thread(_read, file)
            except BadInput as error:
                raise NotFound(error.message, name="BlobNotFound") from error
            self._indexes[cid_text] = index
        return file, index

    async def _fetch(self, key: str, did: str, cid_text: str, cid: bytes, path: Path) -> None:
        file = await asyncio.to_thread(_new_file, path)
        whole = False
        try:
            async with self._turns:
                digest = await self._copy(did, cid_text, file.write)
            whole = digest == cid[-32:]
            if not whole:
                raise NotFound("the owner's server sent other bytes than its CID names", name="BlobNotFound")
        except (NotFound, BadInput) as error:
            self._absent[key] = error.message
            raise NotFound(error.message, name="BlobNotFound") from error
        finally:
            # In this thread: a task that is being cancelled waits for nothing more.
            _settle(file, path if whole else None)
        await asyncio.to_thread(shrink, self._folder, self._cache_bytes)

    async def _copy(self, did: str, cid_text: str, write: Callable[[bytes], object]) -> bytes:
        digest, size = hashlib.sha256(), 0
        start = b""
        async with self._open(did, cid_text) as pieces:
            async for piece in pieces:
                if len(start) < 12:
                    start += piece[:12]
                    if len(start) >= 12 and not mp4.is_mp4(start):
                        raise NotFound("that blob is not a video that we show", name="BlobNotFound")
                size += len(piece)
                if size > VIDEO_BYTES_MAX:
                    raise NotFound("that video is too large", name="BlobNotFound")
                digest.update(piece)
                await asyncio.to_thread(write, piece)
        if not mp4.is_mp4(start):
            raise NotFound("that blob is not a video that we show", name="BlobNotFound")
        return digest.digest()


def _new_file(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.NamedTemporaryFile(dir=path.parent, delete=False)


def _settle(file: IO[bytes], path: Path | None) -> None:
    """Give it its place, or drop it."""
    file.close()
    if path is None:
        Path(file.name).unlink(missing_ok=True)
    else:
        Path(file.name).replace(path)


def _used(path: Path) -> int | None:
    """The size of a file that is there; marks it as used now."""
    try:
        os.utime(path)
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _read(file: File) -> Index:
    with file.path.open("rb") as opened:
        movie = mp4.read(opened, file.size)
    return Index(movie, streaming.segments(movie))


def _cut(path: Path, index: Index, number: int) -> bytes:
    try:
        with path.open("rb") as file:
            return streaming.fragment(file, index.movie, number, index.segments[number])
    except (FileNotFoundError, BadInput) as error:
        raise NotFound("that video is not here any more", name="BlobNotFound") from error
