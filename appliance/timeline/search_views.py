"""Answers to searches. What is kept here is found, and each answer says whose that is: ``searched``."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import Final

from appliance.protocol import words
from appliance.store import search_reads
from appliance.store.search_reads import Hit, Person, Wanted
from appliance.store.timeline import NEWEST, Place
from appliance.timeline import lists, profiles, search_query
from appliance.timeline.answering import Answer, Answering, paged
from appliance.timeline.asker import Asker
from appliance.timeline.filling import Page, fill
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import joined, text
from appliance.timeline.presenting import Presenter
from appliance.timeline.search_query import Filters

# So many of the newest are ranked by what people did with them.
RANKED_MAX: Final = 1000
TYPEAHEAD_LOOKED_AT: Final = 4


class SearchViews:
    """Each method is one query. ``scope`` is what is kept here: STORE_SCOPE."""

    def __init__(self, answering: Answering, scope: str) -> None:
        self.answering = answering
        self._searched = b',"searched":' + text(scope)

    async def posts(
        self,
        asker: Asker,
        query: str,
        filters: Filters,
        *,
        top: bool,
        cursor: str | None,
        limit: int,
        detects: bool = False,
    ) -> Answer:
        """searchPosts and searchPostsV2; ``detects`` tells which scripts without blanks the query has."""

        def members(state: State) -> bytes:
            wanted = search_query.wanted(state.reader, _viewer(state), query, filters)
            total: int | None = 0
            if wanted is None:
                page = Page([], None)
            elif top:
                page = _top(state, wanted, cursor, limit)
            else:
                skeleton = partial(search_reads.page, state.reader, wanted)
                page = fill(skeleton, partial(_posts, state), cursor, limit)
            found = b'"posts":' + joined(page.views)
            if wanted is not None and not cursor:
                total = search_reads.count(state.reader, wanted)
            if total is not None and not cursor:
                found += b',"hitsTotal":%d' % total
            if detects and (scripts := words.languages(query)):
                found += b',"detectedQueryLanguages":' + text(scripts)
            return paged(found + self._searched, page.cursor)

        return await self.answering.answer(asker, members)

    async def people(self, asker: Asker, query: str, *, cursor: str | None, limit: int) -> Answer:
        """searchActors."""

        def members(state: State) -> bytes:
            match = search_query.names(query, about=True)
            if match is None:
                page = Page([], None)
            else:
                skeleton = partial(search_reads.people, state.reader, match)
                page = fill(skeleton, partial(_people, state), cursor, limit)
            return paged(b'"actors":' + joined(page.views) + self._searched, page.cursor)

        return await self.answering.answer(asker, members)

    async def typeahead(self, asker: Asker, query: str, *, limit: int) -> Answer:
        """searchActorsTypeahead: whose handle it is, those whom the viewer follows, others by followers."""

        def members(state: State) -> bytes:
            match = search_query.names(query, about=False)
            if match is None:
                return b'"actors":[]' + self._searched
            named = profiles.find(state, query.strip().removeprefix("@"))
            viewer = _viewer(state)
            found = [] if named is None else [named]
            if viewer is not None:
                found += search_reads.followed_people(state.reader, viewer, match, limit)
            known = len(found)
            if known < limit:
                rows = search_reads.people(state.reader, match, NEWEST, TYPEAHEAD_LOOKED_AT * limit)
                found += [row.id for row in rows]
            found = list(dict.fromkeys(found))
            state.finish(actors=found)
            presenter = Presenter(state)
            views: list[bytes] = []
            for actor in found:
                if len(views) < limit and (actor in (named, viewer) or not state.blocked(actor)):
                    view = presenter.profile_basic(actor)
                    if view is not None:
                        views.append(view)
            return b'"actors":' + joined(views) + self._searched

        return await self.answering.answer(asker, members)

    async def packs(
        self, asker: Asker, query: str, *, cursor: str | None, limit: int, whole: bool = False
    ) -> Answer:
        """searchStarterPacks; with ``whole`` searchStarterPacksV2."""

        def members(state: State) -> bytes:
            match = search_query.packs(query)
            page = Page([], None)
            if match is not None:
                wanted = Wanted(match)
                skeleton = partial(search_reads.page, state.reader, wanted)
                page = fill(skeleton, partial(_packs, state, whole=whole), cursor, limit)
            found = b'"starterPacks":' + joined(page.views)
            if whole and not cursor:
                total = 0 if match is None else search_reads.count(state.reader, Wanted(match))
                found += b',"hitsTotal":' + text(total)
            return paged(found + self._searched, page.cursor)

        return await self.answering.answer(asker, members)


def _viewer(state: State) -> int | None:
    return None if state.viewer == STRANGER else state.viewer


def _posts(state: State, rows: list[Hit]) -> list[bytes]:
    """postViews, without authors with whom the viewer is in a block."""
    ids = [row.id for row in rows]
    state.load_posts(ids, with_context=False)
    state.finish()
    presenter = Presenter(state)
    views = []
    for each in ids:
        author = state.actor_of(each)
        if author is None or (author != state.viewer and (state.blocked(author) or state.needs_review(each))):
            continue
        view = presenter.post(each)
        if view is not None:
            views.append(b"{" + view + b"}")
    return views


def _top(state: State, wanted: Wanted, cursor: str | None, limit: int) -> Page:
    """The newest, ranked anew at each look: the cursor names rank and time of the last that was seen."""
    ranked = []
    for row in search_reads.newest_with_counts(state.reader, wanted, RANKED_MAX):
        rank = row.likes + 2 * row.reposts + 3 * row.quotes + row.replies
        ranked.append((Place(rank, row.made_ms, row.id), Hit(row.id, rank, row.made_ms)))
    ranked.sort(reverse=True)

    def skeleton(before: Place, most: int) -> list[Hit]:
        below = bisect_right(ranked, tuple(-part for part in before), key=_downward)
        return [hit for _, hit in ranked[below : below + most]]

    return fill(skeleton, partial(_posts, state), cursor, limit)


def _downward(ranked: tuple[Place, Hit]) -> tuple[int, ...]:
    return tuple(-part for part in ranked[0])


def _people(state: State, rows: list[Person]) -> list[bytes]:
    state.finish(actors=[row.id for row in rows])
    presenter = Presenter(state)
    shown = [row.id for row in rows if row.id == state.viewer or not state.blocked(row.id)]
    return [view for each in shown if (view := presenter.profile(each)) is not None]


def _packs(state: State, rows: list[Hit], *, whole: bool) -> list[bytes]:
    state.load_things([row.id for row in rows])
    state.finish()
    presenter = Presenter(state)
    views = []
    for row in rows:
        owner = state.actor_of(row.id)
        if owner is None or (owner != state.viewer and state.blocked(owner)):
            continue
        view = lists.starter_pack(state, row.id) if whole else lists.starter_pack_basic(presenter, row.id)
        if view is not None:
            views.append(view)
    return views
