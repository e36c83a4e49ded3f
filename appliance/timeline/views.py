"""Views: every answer about the network, for API clients and pages alike.

Each method is one hop into one snapshot: it finds the rows, applies the rules for whoever asks and
returns finished JSON. Pages take ``answer.parsed()``, so a page and an API answer can't disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput
from appliance.store import actor_reads
from appliance.store.database import Database, Reader
from appliance.timeline import feeds, graph, profiles, threads
from appliance.timeline.answering import Answer, Answering, paged, record_of, visible, with_did
from appliance.timeline.asker import Asker
from appliance.timeline.filling import Page
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, text
from appliance.timeline.presenting import Presenter

T = TypeVar("T")

THREAD_DEPTH_DEFAULT = 6
THREAD_HEIGHT_DEFAULT = 80


class Views:
    """The feeds, posts and people. Everything raises BadInput for what can't be answered."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self.answering = Answering(database, settings, clock)

    async def timeline(self, asker: Asker, *, cursor: str | None = None, limit: int = 50) -> Answer:
        """getTimeline."""
        return await self._home(asker, lambda state: feeds.timeline(state, cursor, limit))

    async def newer_timeline(self, asker: Asker, *, after: str, limit: int = 50) -> Answer:
        """The page of the home timeline just above a cursor; its own ``cursor`` leads down again."""
        return await self._home(asker, lambda state: feeds.newer_timeline(state, after, limit))

    async def _home(self, asker: Asker, read: Callable[[State], feeds.FeedPage]) -> Answer:
        newer = ""

        def members(state: State) -> bytes:
            nonlocal newer
            page = read(state)
            newer = page.newer
            return paged(b'"feed":' + joined(page.views), page.cursor)

        answer = await self.answering.answer(asker, members, with_rev=True)
        return msgspec.structs.replace(answer, newer=newer)

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
        """getAuthorFeed; an unknown filter is the default one."""

        def members(state: State) -> bytes:
            found = visible(state, actor)
            if found is None:
                raise BadInput("Profile not found")
            feeds.refuse_blocked(state, found)
            shown = feeds.FILTERS.get(only, "all")
            page = feeds.author_feed(state, found, shown, cursor, limit, pins=pins)
            return paged(b'"feed":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members, with_rev=True)

    async def posts(self, asker: Asker, uris: Sequence[str]) -> Answer:
        """getPosts: those that are here, each once, in the order asked for."""

        def members(state: State) -> bytes:
            found = [record_of(state, with_did(uri)) for uri in dict.fromkeys(uris)]
            ids = [i for i in found if i is not None]
            state.load_posts(ids, with_context=False)
            state.finish()
            presenter = Presenter(state)
            shown = [i for i in ids if i in state.records and not state.blocked(state.records[i].actor)]
            views = [view for i in shown if (view := presenter.post(i)) is not None]
            return b'"posts":' + joined([b"{" + view + b"}" for view in views])

        return await self.answering.answer(asker, members)

    async def thread(
        self,
        asker: Asker,
        uri: str,
        *,
        depth: int = THREAD_DEPTH_DEFAULT,
        height: int = THREAD_HEIGHT_DEFAULT,
    ) -> Answer:
        """getPostThread. Nested as deep as the thread: ``parsed`` is for depths up to a few hundred."""

        def members(state: State) -> bytes:
            found = record_of(state, uri)
            view = None if found is None else threads.thread(state, found, uri, depth, height)
            if found is None or view is None:
                raise BadInput(f"Post not found: {uri}", name="NotFound")
            return b'"thread":' + view + threads.gate(state, found)

        return await self.answering.answer(asker, members, with_rev=True, rev_on_errors=True)

    async def profile(self, asker: Asker, actor: str) -> Answer:
        """getProfile."""

        def members(state: State) -> bytes:
            (view,) = profiles.detailed(state, [profiles.get(state, actor)])
            return view[1:-1]

        return await self.answering.answer(asker, members, with_rev=True)

    async def profiles(self, asker: Asker, actors: Sequence[str]) -> Answer:
        """getProfiles: those that can be shown, in the order asked for."""

        def members(state: State) -> bytes:
            found = [profiles.find(state, actor) for actor in actors]
            ids = [i for i in found if i is not None]
            return b'"profiles":' + joined(profiles.detailed(state, ids))

        return await self.answering.answer(asker, members, with_rev=True)

    async def follows(
        self, asker: Asker, actor: str, *, cursor: str | None = None, limit: int = 50
    ) -> Answer:
        """getFollows."""
        return await self._people(asker, actor, b"follows", graph.follows, cursor, limit)

    async def followers(
        self, asker: Asker, actor: str, *, cursor: str | None = None, limit: int = 50
    ) -> Answer:
        """getFollowers."""
        return await self._people(asker, actor, b"followers", graph.followers, cursor, limit)

    async def _people(
        self,
        asker: Asker,
        actor: str,
        name: bytes,
        pages: Callable[[State, int, str | None, int], Page],
        cursor: str | None,
        limit: int,
    ) -> Answer:
        def members(state: State) -> bytes:
            found = visible(state, actor)
            if found is None:
                raise BadInput(f"Actor not found: {actor}")
            page = pages(state, found, cursor, limit)
            state.finish(actors=[found])
            subject = Presenter(state).profile(found)
            assert subject is not None
            return paged(b'"subject":%b,"%b":%b' % (subject, name, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def likes(
        self, asker: Asker, uri: str, *, cid: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Answer:
        """getLikes."""
        with_did(uri)
        return await self._marks(asker, uri, cid, b"likes", graph.likes, cursor, limit)

    async def reposters(
        self, asker: Asker, uri: str, *, cid: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Answer:
        """getRepostedBy."""
        return await self._marks(asker, uri, cid, b"repostedBy", graph.reposters, cursor, limit)

    async def _marks(
        self,
        asker: Asker,
        uri: str,
        cid: str | None,
        name: bytes,
        pages: Callable[[State, int, str | None, int], Page],
        cursor: str | None,
        limit: int,
    ) -> Answer:
        def members(state: State) -> bytes:
            found = record_of(state, uri, by_handle=False)
            page = Page([], None) if found is None else pages(state, found, cursor, limit)
            echo = b'"uri":' + text(uri) + (b',"cid":' + text(cid) if cid else b"")
            return paged(b'%b,"%b":%b' % (echo, name, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def did_of(self, handle: str) -> str | None:
        """resolveHandle, from what is known here."""

        def look(reader: Reader) -> str | None:
            found = actor_reads.find_actor(reader, handle)
            if found is None:
                return None
            (row,) = actor_reads.actors(reader, [found])
            return row.did if row.known else None

        return await self._database.read(look)
