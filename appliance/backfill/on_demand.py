"""Views that ask the network for what a member looks at and nobody here follows.

An answer never waits long: what does not arrive in time is there at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cachetools import TTLCache

from appliance import telemetry
from appliance.backfill.fetcher import Fetcher
from appliance.backfill.newest import Newest
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput
from appliance.identity.identities import Identities
from appliance.protocol.syntax import is_did, parse_at_uri
from appliance.store import actor_reads, actors, post_reads, records
from appliance.store.collections import NUMBERS, POST
from appliance.store.database import Database, Reader, Transaction
from appliance.timeline.answering import Answer
from appliance.timeline.asker import Asker
from appliance.timeline.feeds import FeedPage
from appliance.timeline.hydration import State
from appliance.timeline.views import THREAD_DEPTH_DEFAULT, THREAD_HEIGHT_DEFAULT, Views

log = telemetry.Log("on_demand")

HANDLE_WITHIN_S: Final = 3.0
THREAD_WITHIN_S: Final = 1.5
PERSON_WITHIN_S: Final = 1.2
POSTS_WITHIN_S: Final = 0.8
# So many look-ups run at a time; beyond that the answer is what is here.
AT_ONCE_MAX: Final = 32
# What nobody waits for any longer still arrives, for the next look.
WORK_MAX_S: Final = 15.0
PAGE_GOOD_FOR_S: Final = 300.0
PAGES_MAX: Final = 10_000


class OnDemand(Views):
    """The same answers, for members with what could be fetched meanwhile. Only members make us ask."""

    def __init__(
        self,
        database: Database,
        identities: Identities,
        fetcher: Fetcher,
        newest: Newest,
        settings: Settings,
        clock: Clock,
        *,
        opened: Callable[[str], None] | None = None,
    ) -> None:
        """``opened`` hears of each member who looks at their timeline."""
        super().__init__(database, settings, clock)
        self.answering.wanted = fetcher.want
        self._opened = opened
        self._identities = identities
        self._fetcher = fetcher
        self._newest = newest
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._read_lately: TTLCache[str, None] = TTLCache(PAGES_MAX, PAGE_GOOD_FOR_S, timer=clock.monotonic_s)

    async def close(self) -> None:
        """End what still runs for nobody."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def did_of(self, handle: str) -> str | None:
        """resolveHandle: from what is known here, else asked, for anybody."""
        known = await super().did_of(handle)
        if known is not None:
            return known
        return await self._identities.find_handle(handle, within_s=HANDLE_WITHIN_S)

    async def thread(
        self,
        asker: Asker,
        uri: str,
        *,
        depth: int = THREAD_DEPTH_DEFAULT,
        height: int = THREAD_HEIGHT_DEFAULT,
    ) -> Answer:
        """getPostThread, with the post itself and what it answers fetched where they are missing."""
        answer = await super().thread(asker, uri, depth=depth, height=height)
        if not asker.member or (answer.error is None and not answer.records):
            return answer
        end_s = asyncio.get_running_loop().time() + THREAD_WITHIN_S
        if answer.error is not None:
            if not await self._in_time(f"post {uri}", lambda: self._bring_post(uri), THREAD_WITHIN_S):
                return answer
            answer = await super().thread(asker, uri, depth=depth, height=height)
        while answer.records:
            left_s = end_s - asyncio.get_running_loop().time()
            missing = await self._database.read(lambda r: _missing_above(r, uri, height))
            if missing is None or not await self._fetcher.fetched([missing], within_s=left_s):
                break
            answer = await super().thread(asker, uri, depth=depth, height=height)
        return answer

    async def profile(self, asker: Asker, actor: str) -> Answer:
        """getProfile, also of somebody who was never heard of."""
        try:
            return await super().profile(asker, actor)
        except BadInput as error:
            if not await self._is_brought(asker, actor, error):
                raise
        return await super().profile(asker, actor)

    async def author_feed(
        self,
        asker: Asker,
        actor: str,
        *,
        only: str = "posts_with_replies",
        cursor: str | None = None,
        limit: int = 50,
        pins: bool = False,
    ) -> Answer:
        """getAuthorFeed; the newest posts of somebody whom nobody follows are fetched for it."""
        if asker.member and cursor is None and actor not in self._read_lately:
            await self._in_time(f"posts {actor}", lambda: self._bring_posts(actor), POSTS_WITHIN_S)
        try:
            return await super().author_feed(asker, actor, only=only, cursor=cursor, limit=limit, pins=pins)
        except BadInput as error:
            if not await self._is_brought(asker, actor, error):
                raise
        return await super().author_feed(asker, actor, only=only, cursor=cursor, limit=limit, pins=pins)

    async def bring_posts(self, uris: list[str], within_s: float) -> None:
        """Fetch these posts for a member who looks at a feed; what takes longer comes for the next look."""
        await self._in_time(f"posts {hash(tuple(uris))}", lambda: self._bring_each(uris), within_s)

    async def _bring_each(self, uris: list[str]) -> bool:
        owners = {parse_at_uri(uri).authority for uri in uris}
        there = set()

        async def look(did: str) -> None:
            # Who does not exist gets no row.
            with contextlib.suppress(ApplianceError):
                await self._identities.get(did)
                there.add(did)

        await asyncio.gather(*(look(did) for did in owners if is_did(did)))

        def mention(tx: Transaction) -> list[int]:
            found = [records.mention(tx, uri) for uri in uris if parse_at_uri(uri).authority in there]
            return [
                one for one in found if one is not None and records.state_of(tx, one) == records.MENTIONED
            ]

        wanted = await self._database.write(mention)
        return await self._fetcher.fetched(wanted, within_s=WORK_MAX_S)

    async def _home(self, asker: Asker, read: Callable[[State], FeedPage]) -> Answer:
        if self._opened is not None and asker.member and asker.did:
            self._opened(asker.did)
        return await super()._home(asker, read)

    async def _is_brought(self, asker: Asker, actor: str, error: BadInput) -> bool:
        """Whether somebody who was not known has become known in time."""
        if not asker.member or error.name != BadInput.name:
            return False
        return await self._in_time(f"person {actor}", lambda: self._bring_person(actor), PERSON_WITHIN_S)

    async def _in_time(
        self, what: str, work: Callable[[], Coroutine[Any, Any, bool]], within_s: float
    ) -> bool:
        """Do it, or join who does it already; whether it brought something in time. It goes on after that."""
        task = self._running.get(what)
        if task is None:
            if len(self._running) >= AT_ONCE_MAX:
                return False
            task = self._running[what] = asyncio.create_task(self._do(what, work))
        done, _ = await asyncio.wait([task], timeout=within_s)
        return bool(done) and not task.cancelled() and task.result()

    async def _do(self, what: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        try:
            async with asyncio.timeout(WORK_MAX_S):
                return await work()
        except (ApplianceError, TimeoutError) as error:
            log.info("not_brought", what=what, error=error)
            return False
        finally:
            del self._running[what]

    async def _did(self, did_or_handle: str) -> str | None:
        return did_or_handle if is_did(did_or_handle) else await self.did_of(did_or_handle)

    async def _bring_person(self, actor: str) -> bool:
        did = await self._did(actor)
        if did is None:
            return False
        await self._identities.get(did)  # who does not exist gets no row
        number = await self._database.write(lambda tx: actors.ensure(tx, did))
        return await self._fetcher.fetched(people=[number], within_s=WORK_MAX_S)

    async def _bring_posts(self, actor: str) -> bool:
        did = await self._did(actor)
        if did is None:
            return False
        brought = await self._newest.read(did)
        self._read_lately[actor] = None
        return brought

    async def _bring_post(self, uri: str) -> bool:
        at = parse_at_uri(uri)
        if NUMBERS.get(at.collection) != POST or not at.rkey:
            return False
        did = await self._did(at.authority)
        if did is None:
            return False
        await self._identities.get(did)

        def mention(tx: Transaction) -> int | None:
            record = records.mention(tx, f"at://{did}/{at.collection}/{at.rkey}")
            if record is None or records.state_of(tx, record) != records.MENTIONED:
                return None
            return record

        record = await self._database.write(mention)
        return record is not None and await self._fetcher.fetched([record], within_s=WORK_MAX_S)


def _missing_above(reader: Reader, uri: str, height: int) -> int | None:
    """The post at which the way up from this one ends because it is not here."""
    at = parse_at_uri(uri)
    actor = actor_reads.find_actor(reader, at.authority)
    anchor = None if actor is None else post_reads.find_record(reader, actor, POST, at.rkey)
    return None if anchor is None else post_reads.missing_above(reader, anchor, height)
