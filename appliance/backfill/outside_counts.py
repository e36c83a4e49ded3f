"""Counts of strangers, from an index of backlinks outside: asked behind pages, for what members look at.

The wire is Constellation's (https://constellation.microcosm.blue). Nobody waits for it: what comes is shown
at the next look, and marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from cachetools import TTLCache

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import BadInput, Unavailable
from appliance.outbound.client import Outbound
from appliance.outbound.limits import BACKLINKS
from appliance.store import outside_counts
from appliance.store.database import Database, Transaction
from appliance.store.outside_counts import OutsideCounts

log = telemetry.Log("backfill")
ASKED = telemetry.counter("outside_counts_asked", "Questions to the index of backlinks.", ["outcome"])

WAITING_MAX: Final = 2_000
AT_ONCE: Final = 2
# What failed or was answered is not asked about again for so long, whatever is looked at.
LATELY_S: Final = 300.0
AGAIN_MIN_S: Final = 2.0
AGAIN_MAX_S: Final = 600.0
KEPT_S: Final = 7 * 86_400.0
SWEEP_EVERY_S: Final = 3600.0
SWEPT_AT_ONCE: Final = 1_000
COUNT_MAX: Final = 10**12

_PLACES: Final = {
    "likes": (("app.bsky.feed.like", ".subject.uri"),),
    "reposts": (("app.bsky.feed.repost", ".subject.uri"),),
    "replies": (("app.bsky.feed.post", ".reply.parent.uri"),),
    "quotes": (
        ("app.bsky.feed.post", ".embed.record.uri"),
        ("app.bsky.feed.post", ".embed.record.record.uri"),
    ),
    "followers": (("app.bsky.graph.follow", ".subject"),),
}
# Whoever likes twice likes once; who answers twice has answered twice.
_BY_PEOPLE: Final = frozenset({"likes", "reposts", "followers"})


class Counting:
    """Asks for one target after the other."""

    def __init__(self, database: Database, outbound: Outbound, origin: str, clock: Clock) -> None:
        self._database = database
        self._outbound = outbound
        self._url = f"{origin.rstrip('/')}/links/all"
        self._clock = clock
        self._waiting: dict[str, None] = {}
        self._lately: TTLCache[str, None] = TTLCache(20_000, LATELY_S, timer=clock.monotonic_s)
        self._wake = asyncio.Event()

    def want(self, targets: Iterable[str]) -> None:
        """A member looks at these posts (addresses) or accounts (DIDs). Returns at once; newest go first."""
        for target in targets:
            if target not in self._lately:
                self._waiting.pop(target, None)
                self._waiting[target] = None
        while len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Ask for what is wanted, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep())
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def ask(self, target: str) -> None:
        """About one of them. Raises Unavailable and BadInput."""
        answer = await self._outbound.get(
            self._url,
            limits=BACKLINKS,
            params={"target": target},
            headers={"accept": "application/json"},
        )
        if not answer.ok:
            raise Unavailable("the index of backlinks can't answer")
        counts = read(answer.json(), self._clock.now_us())
        await self._database.write(lambda tx: outside_counts.put(tx, target, counts))

    async def _work(self) -> None:
        wait_s = AGAIN_MIN_S
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            target, _ = self._waiting.popitem()
            self._lately[target] = None
            try:
                await self.ask(target)
            except (Unavailable, BadInput) as error:
                ASKED.labels("failed").inc()
                log.info("outside_count_failed", error=error)
                await self._clock.sleep(wait_s)
                wait_s = min(wait_s * 2, AGAIN_MAX_S)
            else:
                ASKED.labels("ok").inc()
                wait_s = AGAIN_MIN_S

    async def _sweep(self) -> None:
        while True:
            before_us = self._clock.now_us() - round(KEPT_S * 1e6)

            def forget(tx: Transaction) -> int:
                return outside_counts.forget(tx, before_us, SWEPT_AT_ONCE)  # noqa: B023

            while await self._database.write(forget) == SWEPT_AT_ONCE:
                pass
            await self._clock.sleep(SWEEP_EVERY_S)


def read(body: Any, now_us: int) -> OutsideCounts:
    """What an answer says. Raises BadInput for one that is none; numbers that are none count as 0."""
    links = body.get("links") if isinstance(body, dict) else None
    if not isinstance(links, dict):
        raise BadInput("the answer of the index of backlinks is none")
    numbers = {
        name: sum(
            _number(links.get(collection), path, "distinct_dids" if name in _BY_PEOPLE else "records")
            for collection, path in places
        )
        for name, places in _PLACES.items()
    }
    return OutsideCounts(**numbers, asked_us=now_us)


def _number(paths: Any, path: str, member: str) -> int:
    told = paths.get(path) if isinstance(paths, dict) else None
    number = told.get(member) if isinstance(told, dict) else None
    return number if type(number) is int and 0 <= number <= COUNT_MAX else 0
