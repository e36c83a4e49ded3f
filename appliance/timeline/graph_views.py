"""Answers about how accounts stand to each other, and about lists, starter packs, feeds and labelers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.errors import BadInput
from appliance.store import collections, graph_reads, thing_reads
from appliance.timeline import feeds, graph, lists, profiles, threads_v2
from appliance.timeline.answering import Answer, Answering, paged, record_of, visible
from appliance.timeline.asker import Asker
from appliance.timeline.filling import Page
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import joined, text
from appliance.timeline.presenting import Presenter

Pages = Callable[[State, int], Page]


class GraphViews:
    """Each method is one query of the network. Everything raises BadInput for what can't be answered."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering

    # ------------------------------------------------------------ people

    async def known_followers(self, asker: Asker, actor: str) -> Answer:
        """getKnownFollowers: all on one page."""

        def members(state: State) -> bytes:
            found = _existing(state, actor)
            viewer = state.viewer
            known = (
                [] if viewer is None or viewer == STRANGER else graph.known_followers(state, viewer, found)
            )
            state.finish(actors=[found])
            subject = Presenter(state).profile(found)
            assert subject is not None
            return b'"subject":%b,"followers":%b' % (subject, joined(known))

        return await self.answering.answer(asker, members)

    async def relationships(self, asker: Asker, actor: str, others: Sequence[str]) -> Answer:
        """getRelationships."""

        def members(state: State) -> bytes:
            found = profiles.find(state, actor)
            if found is None and _unheard_of(state, actor):
                strangers = [
                    text({"$type": "app.bsky.graph.defs#relationship", "did": each}) for each in others
                ]
                return b'"actor":%b,"relationships":%b' % (text(actor), joined(strangers))
            if found is None:
                unknown = [
                    text({"$type": "app.bsky.graph.defs#notFoundActor", "actor": each, "notFound": True})
                    for each in others
                ]
                return b'"relationships":' + joined(unknown)
            views = graph.relationships(state, found, list(others))
            return b'"actor":%b,"relationships":%b' % (text(state.actors[found].did), joined(views))

        return await self.answering.answer(asker, members, labelled=False)

    async def mutes(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """getMutes."""
        return await self._own(asker, b"mutes", lambda s, viewer: graph.mutes(s, viewer, cursor, limit))

    async def blocks(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """getBlocks."""
        return await self._own(asker, b"blocks", lambda s, viewer: graph.blocks(s, viewer, cursor, limit))

    # ------------------------------------------------------------ lists

    async def list_mutes(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """getListMutes."""
        return await self._own(asker, b"lists", lambda s, viewer: lists.muted(s, viewer, cursor, limit))

    async def list_blocks(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """getListBlocks."""
        return await self._own(asker, b"lists", lambda s, viewer: lists.blocked(s, viewer, cursor, limit))

    async def list_members(self, asker: Asker, uri: str, *, cursor: str | None, limit: int) -> Answer:
        """getList."""

        def members(state: State) -> bytes:
            found = _thing(state, uri, "List not found")
            page = lists.members(state, found, cursor, limit)
            view = Presenter(state).things.list_view(found)
            if view is None:
                raise BadInput("List not found")
            return paged(b'"list":%b,"items":%b' % (view, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def actors_lists(
        self, asker: Asker, actor: str, *, purposes: Sequence[str], cursor: str | None, limit: int
    ) -> Answer:
        """getLists."""
        wanted = _purposes(purposes)

        def pages(state: State, found: int) -> Page:
            kind, write = collections.LIST, lists.list_view
            return lists.owned(state, found, kind, write, cursor, limit, purposes=wanted)

        return await self._of_actor(asker, actor, b"lists", pages)

    async def lists_with_membership(
        self, asker: Asker, actor: str, *, purposes: Sequence[str], cursor: str | None, limit: int
    ) -> Answer:
        """getListsWithMembership."""
        wanted = _purposes(purposes)
        return await self._with_membership(
            asker, actor, b"listsWithMembership", collections.LIST, cursor, limit, wanted
        )

    async def list_feed(self, asker: Asker, uri: str, *, cursor: str | None, limit: int) -> Answer:
        """getListFeed: empty for a list that isn't here."""

        def members(state: State) -> bytes:
            found = record_of(state, uri)
            page = Page([], None) if found is None else feeds.list_feed(state, found, cursor, limit)
            return paged(b'"feed":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members, with_rev=True)

    # ------------------------------------------------------------ starter packs

    async def starter_pack(self, asker: Asker, uri: str) -> Answer:
        """getStarterPack."""

        def members(state: State) -> bytes:
            found = record_of(state, uri)
            view = None if found is None else lists.starter_pack(state, found)
            if view is None:
                raise BadInput("Starter pack not found")
            return b'"starterPack":' + view

        return await self.answering.answer(asker, members)

    async def starter_packs(self, asker: Asker, uris: Sequence[str]) -> Answer:
        """getStarterPacks: those that are here."""
        return await self._each(asker, uris, b"starterPacks", lists.starter_pack_basic)

    async def actors_starter_packs(
        self, asker: Asker, actor: str, *, cursor: str | None, limit: int
    ) -> Answer:
        """getActorStarterPacks."""

        def pages(state: State, found: int) -> Page:
            kind, write = collections.STARTER_PACK, lists.starter_pack_basic
            return lists.owned(state, found, kind, write, cursor, limit)

        return await self._of_actor(asker, actor, b"starterPacks", pages)

    async def starter_packs_with_membership(
        self, asker: Asker, actor: str, *, cursor: str | None, limit: int
    ) -> Answer:
        """getStarterPacksWithMembership."""
        kind = collections.STARTER_PACK
        return await self._with_membership(asker, actor, b"starterPacksWithMembership", kind, cursor, limit)

    # ------------------------------------------------------------ feeds, labelers

    async def actors_feeds(self, asker: Asker, actor: str, *, cursor: str | None, limit: int) -> Answer:
        """getActorFeeds."""

        def pages(state: State, found: int) -> Page:
            return lists.owned(state, found, collections.GENERATOR, lists.generator, cursor, limit)

        return await self._of_actor(asker, actor, b"feeds", pages)

    async def generators(self, asker: Asker, uris: Sequence[str]) -> Answer:
        """getFeedGenerators: those that are here."""
        return await self._each(asker, uris, b"feeds", lists.generator)

    async def labelers(self, asker: Asker, dids: Sequence[str], *, detailed: bool) -> Answer:
        """getServices of labelers: those that are here."""
        kind = b"labelerViewDetailed" if detailed else b"labelerView"

        def write(presenter: Presenter, record: int) -> bytes | None:
            things = presenter.things
            view = things.labeler_detailed(record) if detailed else things.labeler(record)
            return None if view is None else b'{"$type":"app.bsky.labeler.defs#%b",%b' % (kind, view[1:])

        def members(state: State) -> bytes:
            found = graph_reads.labelers(state.reader, dids)
            records = [found[did] for did in dict.fromkeys(dids) if did in found]
            return b'"views":' + joined(lists.each(state, records, write))

        return await self.answering.answer(asker, members)

    # ------------------------------------------------------------ posts

    async def thread_v2(self, asker: Asker, uri: str, options: threads_v2.Options) -> Answer:
        """getPostThreadV2."""

        def members(state: State) -> bytes:
            found = record_of(state, uri)
            if found is None:
                return threads_v2.members(threads_v2.not_found(uri))
            return threads_v2.members(threads_v2.thread(state, found, uri, options))

        return await self.answering.answer(asker, members)

    async def other_replies(self, asker: Asker, uri: str) -> Answer:
        """getPostThreadOtherV2."""

        def members(state: State) -> bytes:
            found = record_of(state, uri)
            return b'"thread":' + joined([] if found is None else threads_v2.other_replies(state, found))

        return await self.answering.answer(asker, members)

    async def quotes(
        self, asker: Asker, uri: str, *, cid: str | None, cursor: str | None, limit: int
    ) -> Answer:
        """getQuotes."""

        def members(state: State) -> bytes:
            found = record_of(state, uri, by_handle=False)
            page = Page([], None) if found is None else feeds.quotes(state, found, cursor, limit)
            echo = b'"uri":' + text(uri) + (b',"cid":' + text(cid) if cid else b"")
            return paged(b'%b,"posts":%b' % (echo, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def likes_of(self, asker: Asker, actor: str, *, cursor: str | None, limit: int) -> Answer:
        """getActorLikes: one's own and nobody else's."""

        def members(state: State) -> bytes:
            found = visible(state, actor)
            if found is None or found != state.viewer:
                raise BadInput("Profile not found")
            page = feeds.likes(state, found, cursor, limit)
            return paged(b'"feed":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members, with_rev=True)

    # ------------------------------------------------------------ shapes

    async def _own(self, asker: Asker, name: bytes, pages: Pages) -> Answer:
        """A list of the viewer's own."""

        def members(state: State) -> bytes:
            mine = state.viewer is not None and state.viewer != STRANGER
            page = pages(state, state.viewer) if mine else Page([], None)  # type: ignore[arg-type]
            return paged(b'"%b":%b' % (name, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def _of_actor(self, asker: Asker, actor: str, name: bytes, pages: Pages) -> Answer:
        """A list of what an account owns."""

        def members(state: State) -> bytes:
            found = visible(state, actor)
            if found is None and not _unheard_of(state, actor):
                raise BadInput("Profile not found")
            page = Page([], None) if found is None else pages(state, found)
            return paged(b'"%b":%b' % (name, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def _with_membership(
        self,
        asker: Asker,
        actor: str,
        name: bytes,
        collection: int,
        cursor: str | None,
        limit: int,
        purposes: frozenset[str] | None = None,
    ) -> Answer:
        def members(state: State) -> bytes:
            found = visible(state, actor)
            if found is None:
                raise BadInput("Profile not found")
            page = Page([], None)
            if state.viewer is not None and state.viewer != STRANGER:
                page = lists.with_membership(
                    state, state.viewer, found, collection, cursor, limit, purposes=purposes
                )
            return paged(b'"%b":%b' % (name, joined(page.views)), page.cursor)

        return await self.answering.answer(asker, members)

    async def _each(self, asker: Asker, uris: Sequence[str], name: bytes, write: lists.Write) -> Answer:
        def members(state: State) -> bytes:
            found = [thing_reads.find(state.reader, uri) for uri in dict.fromkeys(uris)]
            views = lists.each(state, [i for i in found if i is not None], write)
            return b'"%b":%b' % (name, joined(views))

        return await self.answering.answer(asker, members)


def _purposes(named: Sequence[str]) -> frozenset[str]:
    """The purposes that these short names mean; unknown ones mean nothing, none means all."""
    short = [each.rpartition("#")[2] for each in named or lists.PURPOSES]
    return frozenset(lists.PURPOSES[each] for each in short if each in lists.PURPOSES)


def _unheard_of(state: State, actor: str) -> bool:
    """Whether that is a DID that nobody here ever named: it may well exist, and have nothing."""
    return actor.startswith("did:") and profiles.find(state, actor) is None


def _existing(state: State, actor: str) -> int:
    found = visible(state, actor)
    if found is None:
        raise BadInput(f"Actor not found: {actor}")
    return found


def _thing(state: State, uri: str, missing: str) -> int:
    """A list, pack, feed or labeler that exists for the caller, loaded. Raises BadInput."""
    found = record_of(state, uri)
    if found is not None:
        state.load_things([found])
        state.finish()
    if found is None or not state.sees_thing(found):
        raise BadInput(missing)
    return found
