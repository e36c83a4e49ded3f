"""Views: every answer about the network, for API clients and pages alike.

Each method is one hop into one snapshot: it finds the rows, applies the rules for whoever asks and
returns finished JSON. Pages take ``answer.parsed()``, so a page and an API answer can't disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import orjson

from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput
from appliance.protocol.syntax import AtUri, parse_at_uri
from appliance.store import actor_reads, post_reads
from appliance.store.collections import NUMBERS
from appliance.store.database import Database, Reader
from appliance.timeline import feeds, graph, labelers, profiles, threads
from appliance.timeline.asker import Asker
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import joined, text
from appliance.timeline.presenting import Presenter
from appliance.timeline.shared import Shared

T = TypeVar("T")

THREAD_DEPTH_DEFAULT = 6
THREAD_HEIGHT_DEFAULT = 80


class Answer(msgspec.Struct, frozen=True):
    """JSON, and what goes into headers: the viewer's revision here, the labelers that counted.

    ``error`` is set instead of a body where even a refusal carries those headers. ``newer`` is the
    cursor above the first row of a home timeline, '' where that is not known or nothing is there.
    ``records`` and ``people`` are ids of what a member's answer would show if it were here.
    """

    body: bytes
    rev: str | None = None
    labelers: str = ""
    error: BadInput | None = None
    newer: str = ""
    records: tuple[int, ...] = ()
    people: tuple[int, ...] = ()

    def parsed(self) -> Any:
        """The JSON as values, for pages. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return orjson.loads(self.body)


class Views:
    """The read side. Everything raises BadInput for what can't be answered."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._shared = Shared(settings, clock)

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
            return _paged(b'"feed":' + joined(page.views), page.cursor)

        answer = await self._answer(asker, members, with_rev=True)
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
            found = _visible(state, actor)
            if found is None:
                raise BadInput("Profile not found")
            feeds.refuse_blocked(state, found)
            shown = feeds.FILTERS.get(only, "all")
            page = feeds.author_feed(state, found, shown, cursor, limit, pins=pins)
            return _paged(b'"feed":' + joined(page.views), page.cursor)

        return await self._answer(asker, members, with_rev=True)

    async def posts(self, asker: Asker, uris: Sequence[str]) -> Answer:
        """getPosts: those that are here, each once, in the order asked for."""

        def members(state: State) -> bytes:
            found = [_record_of(state, _with_did(uri)) for uri in dict.fromkeys(uris)]
            ids = [i for i in found if i is not None]
            state.load_posts(ids, with_context=False)
            state.finish()
            presenter = Presenter(state)
            shown = [i for i in ids if i in state.records and not state.blocked(state.records[i].actor)]
            views = [view for i in shown if (view := presenter.post(i)) is not None]
            return b'"posts":' + joined([b"{" + view + b"}" for view in views])

        return await self._answer(asker, members)

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
            found = _record_of(state, uri)
            view = None if found is None else threads.thread(state, found, uri, depth, height)
            if found is None or view is None:
                raise BadInput(f"Post not found: {uri}", name="NotFound")
            return b'"thread":' + view + threads.gate(state, found)

        return await self._answer(asker, members, with_rev=True, rev_on_errors=True)

    async def profile(self, asker: Asker, actor: str) -> Answer:
        """getProfile."""

        def members(state: State) -> bytes:
            (view,) = profiles.detailed(state, [profiles.get(state, actor)])
            return view[1:-1]

        return await self._answer(asker, members, with_rev=True)

    async def profiles(self, asker: Asker, actors: Sequence[str]) -> Answer:
        """getProfiles: those that can be shown, in the order asked for."""

        def members(state: State) -> bytes:
            found = [profiles.find(state, actor) for actor in actors]
            ids = [i for i in found if i is not None]
            return b'"profiles":' + joined(profiles.detailed(state, ids))

        return await self._answer(asker, members, with_rev=True)

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
        pages: Callable[[State, int, str | None, int], graph.Page],
        cursor: str | None,
        limit: int,
    ) -> Answer:
        def members(state: State) -> bytes:
            found = _visible(state, actor)
            if found is None:
                raise BadInput(f"Actor not found: {actor}")
            page = pages(state, found, cursor, limit)
            state.finish(actors=[found])
            subject = Presenter(state).profile(found)
            assert subject is not None
            return _paged(b'"subject":%b,"%b":%b' % (subject, name, joined(page.views)), page.cursor)

        return await self._answer(asker, members)

    async def likes(
        self, asker: Asker, uri: str, *, cid: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Answer:
        """getLikes."""
        _with_did(uri)
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
        pages: Callable[[State, int, str | None, int], graph.Page],
        cursor: str | None,
        limit: int,
    ) -> Answer:
        def members(state: State) -> bytes:
            found = _record_of(state, uri, by_handle=False)
            page = graph.Page([], None) if found is None else pages(state, found, cursor, limit)
            echo = b'"uri":' + text(uri) + (b',"cid":' + text(cid) if cid else b"")
            return _paged(b'%b,"%b":%b' % (echo, name, joined(page.views)), page.cursor)

        return await self._answer(asker, members)

    async def did_of(self, handle: str) -> str | None:
        """resolveHandle, from what is known here."""

        def look(reader: Reader) -> str | None:
            found = actor_reads.find_actor(reader, handle)
            if found is None:
                return None
            (row,) = actor_reads.actors(reader, [found])
            return row.did if row.known else None

        return await self._database.read(look)

    async def _answer(
        self,
        asker: Asker,
        members: Callable[[State], bytes],
        *,
        with_rev: bool = False,
        rev_on_errors: bool = False,
    ) -> Answer:
        def work(reader: Reader) -> Answer:
            state = State(reader, self._shared, asker)
            error = None
            try:
                body = b"{" + members(state) + b"}"
            except BadInput as refused:
                if not rev_on_errors:
                    raise
                body, error = b"", refused
            rev = None
            if with_rev and state.viewer is not None and state.viewer != STRANGER:
                rev = actor_reads.rev(reader, state.viewer)
            if error is not None:
                return Answer(b"", rev, error=error)
            wanted, people = state.lacks() if asker.member else ((), ())
            named = labelers.text_of(state.labelers)
            return Answer(body, rev, named, records=wanted, people=people)

        return await self._database.read(work)


def _paged(members: bytes, cursor: str | None) -> bytes:
    return members if cursor is None else members + b',"cursor":' + text(cursor)


def _visible(state: State, did_or_handle: str) -> int | None:
    found = profiles.find(state, did_or_handle)
    if found is None:
        return None
    state.finish(actors=[found])
    return found if state.sees_actor(found) else None


def _with_did(uri: str) -> str:
    """The address, unless it names its account by handle: lists are of exact addresses."""
    if not uri.startswith("at://did:"):
        raise BadInput("The address must name its account by DID")
    return uri


def _record_of(state: State, uri: str, *, by_handle: bool = True) -> int | None:
    """The id of a record. None for what has no row, or names no record."""
    try:
        at: AtUri = parse_at_uri(uri)
    except BadInput:
        return None
    if not at.rkey or not (by_handle or at.authority.startswith("did:")):
        return None
    actor = actor_reads.find_actor(state.reader, at.authority)
    if actor is None:
        return None
    collection = NUMBERS.get(at.collection)
    if collection is None:
        return None
    return post_reads.find_record(state.reader, actor, collection, at.rkey)
