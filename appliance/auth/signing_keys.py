"""The signing keys of those who send us service tokens, cached so that junk costs no look-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from cachetools import LRUCache
from msgspec import Struct

from appliance.clock import Clock
from appliance.errors import Unavailable

FRESH_S = 3600.0
STALE_S = 24 * 3600.0
NOBODY_S = 30.0
FORCED_EVERY_S = 60.0
FORCED_PER_SECOND = 10
KEYS_MAX = 20_000


class Keys(Protocol):
    """Where keys come from; ``identity.Identities`` is one."""

    async def key_of(self, did: str, key_id: str, fresh: bool) -> str | None:
        """The did:key of ``#atproto`` or another id in the DID document, None when there is none.

        ``fresh`` asks for the document anew. Raises Unavailable when it couldn't be had.
        """
        ...


class _Known(Struct):
    key: str | None
    at_s: float


class _Forced(Struct):
    at_s: float
    failed: Unavailable | None


class SigningKeys:
    """A cache before ``Keys``: fresh for an hour, stale for a day, at most one forced look-up a minute."""

    def __init__(self, source: Keys, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._known: LRUCache[tuple[str, str], _Known] = LRUCache(KEYS_MAX)
        self._forced: LRUCache[tuple[str, str], _Forced] = LRUCache(KEYS_MAX)
        self._running: dict[tuple[str, str], asyncio.Task[str | None]] = {}
        self._window_s = 0.0
        self._in_window = 0

    async def get(self, did: str, key_id: str) -> str | None:
        """The key to try first. Raises Unavailable when nothing is known and nobody answers."""
        name = (did, key_id)
        known = self._known.get(name)
        if known is None:
            return await self._look_up(name, fresh=False)
        age_s = self._clock.monotonic_s() - known.at_s
        if known.key is None:
            return None if age_s < NOBODY_S else await self._look_up(name, fresh=True)
        if age_s < FRESH_S:
            return known.key
        if age_s < STALE_S:
            # A stale key still proves a signature made with it; the next caller gets the new one.
            self._start(name, fresh=True).add_done_callback(_read_outcome)
            return known.key
        return await self._look_up(name, fresh=True)

    async def get_again(self, did: str, key_id: str, tried: str) -> str | None:
        """The key after a signature did not fit ``tried``: another one, or None when it is unchanged.

        Looks up at most once a minute for each key and ten times a second in all, whatever is sent.
        Raises Unavailable when the look-up failed, until the next one may be made.
        """
        name = (did, key_id)
        if name in self._running:
            key = await asyncio.shield(self._running[name])
            return key if key != tried else None
        known = self._known.get(name)
        if known is not None and known.key not in (None, tried):
            return known.key
        now_s = self._clock.monotonic_s()
        forced = self._forced.get(name)
        if forced is not None and now_s - forced.at_s < FORCED_EVERY_S:
            if forced.failed is not None:
                raise Unavailable(forced.failed.message, retry_after_s=FORCED_EVERY_S)
            return None
        if not self._take_forced(now_s):
            raise Unavailable("too many keys are being looked up", retry_after_s=1.0)
        mark = self._forced[name] = _Forced(now_s, None)
        try:
            key = await self._look_up(name, fresh=True)
        except Unavailable as error:
            mark.failed = error
            raise
        return key if key != tried else None

    def forget(self, did: str) -> None:
        """The DID document changed: look it up before the next use."""
        for name in [name for name in self._known if name[0] == did]:
            del self._known[name]

    def _take_forced(self, now_s: float) -> bool:
        if now_s - self._window_s >= 1:
            self._window_s = now_s
            self._in_window = 0
        self._in_window += 1
        return self._in_window <= FORCED_PER_SECOND

    async def _look_up(self, name: tuple[str, str], *, fresh: bool) -> str | None:
        # Shielded, so that one caller who leaves does not take the answer from the others.
        return await asyncio.shield(self._start(name, fresh=fresh))

    def _start(self, name: tuple[str, str], *, fresh: bool) -> asyncio.Task[str | None]:
        task = self._running.get(name)
        if task is None:
            work: Coroutine[Any, Any, str | None] = self._fetch(name, fresh)
            task = self._running[name] = asyncio.create_task(work, name=f"key of {name[0]}")
            task.add_done_callback(lambda _: self._running.pop(name))
        return task

    async def _fetch(self, name: tuple[str, str], fresh: bool) -> str | None:
        did, key_id = name
        key = await self._source.key_of(did, key_id, fresh)
        self._known[name] = _Known(key, self._clock.monotonic_s())
        return key


def _read_outcome(task: asyncio.Task[str | None]) -> None:
    # Nobody waits for a refresh behind; its failure shows when the stale time is over.
    if not task.cancelled():
        task.exception()
