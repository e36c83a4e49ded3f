"""Chunks between the socket and the writer. When it is full the socket is not read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from appliance.ingest.upstream import Chunk

Source = TypeVar("Source", bound=Hashable)


class Waiting(Generic[Source]):
    """A queue bounded by bytes and by events; nothing in it is ever dropped. Many readers, one writer."""

    def __init__(self, bytes_max: int, events_max: int) -> None:
        self._bytes_max = bytes_max
        self._events_max = events_max
        self._chunks: deque[tuple[Source, Chunk]] = deque()
        self._filled = asyncio.Event()
        self._enough = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._wanted = 1
        self.events = 0
        self.bytes = 0

    async def put(self, source: Source, chunk: Chunk) -> None:
        """Append, after waiting for room."""
        while not self._room.is_set():
            await self._room.wait()
        self._chunks.append((source, chunk))
        # An empty chunk moves the position: it takes a place too.
        self.events += len(chunk.events) or 1
        self.bytes += chunk.size
        self._filled.set()
        if self.events >= self._wanted:
            self._enough.set()
        if self.events >= self._events_max or self.bytes >= self._bytes_max:
            self._room.clear()

    async def some(self) -> None:
        """Return when there is anything."""
        await self._filled.wait()

    async def enough(self, events: int) -> None:
        """Return when there are that many."""
        self._wanted = events
        if self.events < events:
            self._enough.clear()
            await self._enough.wait()

    def take(self, events_max: int) -> dict[Source, list[Chunk]]:
        """About so many events, in order for each source; there must be some.

        Between sources the order is lost, which the merge rule allows.
        """
        taken: dict[Source, list[Chunk]] = {}
        count = 0
        while self._chunks and count < events_max:
            source, chunk = self._chunks[0]
            # A gap comes before what follows it, in a commit of its own beginning.
            if taken and chunk.gap is not None:
                break
            self._chunks.popleft()
            taken.setdefault(source, []).append(chunk)
            count += len(chunk.events) or 1
            self.bytes -= chunk.size
        self.events -= count
        if not self._chunks:
            self._filled.clear()
        if self.events < self._events_max and self.bytes < self._bytes_max:
            self._room.set()
        return taken

    def __len__(self) -> int:
        return len(self._chunks)
