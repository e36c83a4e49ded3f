"""Pictures by owner and CID: fetched once from the owner's PDS, checked against the CID, made anew, kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cachetools import TTLCache

from appliance.clock import Clock, SystemClock
from appliance.errors import BadInput, NotFound
from appliance.protocol import cid as cids

# Those that addresses in our answers name, and those that clients make of them (media/rendering.py).
PRESETS = frozenset(
    {"avatar", "avatar_thumbnail", "banner", "banner_thumbnail", "feed_thumbnail", "feed_fullsize"}
)
FORMATS = frozenset({"jpeg", "png", "webp"})
PICTURE_BYTES_MAX = 10_000_000
CID_CHARS_MAX = 100
RAW = 0x55
OWNER = re.compile(r"did:plc:[a-z2-7]{24}|did:web:[a-zA-Z0-9.-]{1,253}(?:%3A[0-9]{1,5})?")
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
Render = Callable[[bytes, str, str], Awaitable[bytes]]
IsShown = Callable[[str, str], Awaitable[bool]]
T = TypeVar("T")


class Picture(NamedTuple):
    """A picture as it goes out, and what it is."""

    data: bytes
    mime: str


class Images:
    """Gives pictures. ``fetch(did, cid)`` reads the blob from the owner's PDS, ``render(data, preset, form)``
    makes of it what goes out: never the owner's own bytes.

    Only what ``is_shown(did, cid)``: some record here mentions it. Files lie under ``folder`` by CID, as they
    came and as they went out; when they exceed ``cache_bytes`` those used longest ago go. What an owner does
    not have, or what is no picture, is asked for again after five minutes.
    """

    def __init__(
        self,
        folder: Path,
        fetch: FetchBlob,
        render: Render,
        is_shown: IsShown,
        *,
        cache_bytes: int,
        clock: Clock | None = None,
        refused: Refuses | None = None,
    ) -> None:
        self._folder = folder
        self._fetch = fetch
        self._render = render
        self._is_shown = is_shown
        self._refused = refused
        self._cache_bytes = cache_bytes
        self._fetching: dict[str, asyncio.Task[bytes]] = {}
        self._rendering: dict[str, asyncio.Task[bytes]] = {}
        self._turns = asyncio.Semaphore(FETCHES_MAX)
        self._absent: TTLCache[str, str] = TTLCache(
            ABSENT_MAX, ABSENT_S, timer=(clock or SystemClock()).monotonic_s
        )
        # What an earlier process left is counted with the first that is written.
        self._written = cache_bytes

    async def get(self, preset: str, did: str, cid_text: str, form: str = "jpeg") -> Picture:
        """Raises NotFound for what isn't a picture or isn't there, Unavailable when the owner is silent."""
        cid = blob_of(cid_text)
        if preset not in PRESETS or form not in FORMATS or not OWNER.fullmatch(did) or cid is None:
            raise NotFound("no such picture", name="BlobNotFound")
        if self._refused is not None and await self._refused(did, cid_text):
            raise NotFound("that picture was taken down", name="BlobNotFound")
        if not await self._is_shown(did, cid_text):
            raise NotFound("no record here shows that picture", name="BlobNotFound")
        path = self._folder / cid_text[-2:] / f"{cid_text}.{preset}.{form}"
        data = await asyncio.to_thread(_read, path)
        if data is None:
            work = partial(self._make, preset, did, cid_text, cid, form, path)
            data = await once(self._rendering, path.name, work)
        return Picture(data, f"image/{form}")

    async def _make(self, preset: str, did: str, cid_text: str, cid: bytes, form: str, path: Path) -> bytes:
        if cid_text in self._absent:
            raise NotFound(self._absent[cid_text], name="BlobNotFound")
        original = path.with_name(cid_text)
        data = await asyncio.to_thread(_read, original)
        if data is None:
            key = f"{did} {cid_text}"
            if key in self._absent:
                raise NotFound(self._absent[key], name="BlobNotFound")
            work = partial(self._fetch_and_keep, key, did, cid_text, cid, original)
            data = await once(self._fetching, key, work)
        try:
            made = await self._render(data, preset, form)
        except NotFound as error:
            self._absent[cid_text] = error.message
            raise
        await self._keep(path, made)
        return made

    async def _fetch_and_keep(self, key: str, did: str, cid_text: str, cid: bytes, path: Path) -> bytes:
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
            self._absent[key] = error.message
            raise NotFound(error.message, name="BlobNotFound") from error
        await self._keep(path, data)
        return data

    async def _keep(self, path: Path, data: bytes) -> None:
        await asyncio.to_thread(_write, path, data)
        self._written += len(data)
        if self._written > self._cache_bytes // 20:
            self._written = 0
            await asyncio.to_thread(shrink, self._folder, self._cache_bytes)


async def once(
    running: dict[str, asyncio.Task[T]], key: str, work: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """Do it, or wait for who does it already."""
    task = running.get(key)
    if task is None:
        task = running[key] = asyncio.create_task(work())
        task.add_done_callback(lambda done: _ended(running, key, done))
    # One reader who goes away must not take the picture from the others.
    return await asyncio.shield(task)


def _ended(running: dict[str, asyncio.Task[T]], key: str, task: asyncio.Task[T]) -> None:
    del running[key]
    # Everybody who waited may be gone: then nobody else looks at how it ended.
    if not task.cancelled():
        task.exception()


def sniff(data: bytes) -> str | None:
    """The MIME type that the first bytes tell, for the kinds that we serve."""
    for signature, mime in SIGNATURES:
        if data.startswith(signature):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def blob_of(text: str) -> bytes | None:
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


def shrink(folder: Path, limit: int) -> None:
    """Remove those files of the folder that were used longest ago until the rest fits the limit."""
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
