"""Answers about what viewers keep for themselves, and suggestions made from whom they follow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from appliance.errors import BadInput
from appliance.protocol.syntax import is_tid
from appliance.store import own_reads, post_reads
from appliance.store.own_reads import Kept, Ranked
from appliance.timeline import lists, names
from appliance.timeline.answering import Answer, Answering, paged, visible
from appliance.timeline.asker import Asker
from appliance.timeline.filling import FETCHES_MAX, Page, fill
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import instant, joined, text
from appliance.timeline.presenting import Presenter

SUGGESTED_MAX = 20


class OwnViews:
    """Each method is one query. Whoever keeps nothing here gets empty lists."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering

    async def bookmarks(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """getBookmarks."""

        def members(state: State) -> bytes:
            page = Page([], None)
            if state.viewer is not None and state.viewer != STRANGER:
                skeleton = partial(own_reads.bookmarks, state.reader, state.viewer)
                page = fill(skeleton, partial(_bookmarks, state), cursor, limit)
            return paged(b'"bookmarks":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members)

    async def subscriptions(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """listActivitySubscriptions."""

        def members(state: State) -> bytes:
            if state.viewer is None or state.viewer == STRANGER:
                return b'"subscriptions":[]'
            page = _subscribed(state, state.viewer, cursor, limit)
            return paged(b'"subscriptions":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members)

    async def suggestions(self, asker: Asker, *, cursor: str | None, limit: int) -> Answer:
        """getSuggestions: whom those follow whom the viewer follows."""

        def members(state: State) -> bytes:
            if state.viewer is None or state.viewer == STRANGER:
                return b'"actors":[]'
            skeleton = partial(own_reads.followed_by_followed, state.reader, state.viewer)
            page = fill(skeleton, partial(_suggested, state), cursor, limit)
            return paged(b'"actors":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members)

    async def suggestions_beside(self, asker: Asker, actor: str) -> Answer:
        """getSuggestedFollowsByActor: whom those follow, too, who follow the account."""

        def members(state: State) -> bytes:
            found = visible(state, actor)
            if found is None:
                raise BadInput("Actor not found")
            people = own_reads.followed_beside(state.reader, found, 5 * SUGGESTED_MAX)
            return b'"suggestions":' + joined(_worth_following(state, people)[:SUGGESTED_MAX])

        return await self.answering.answer(asker, members)

    async def popular_feeds(self, asker: Asker, *, words: str, cursor: str | None, limit: int) -> Answer:
        """getPopularFeedGenerators and getSuggestedFeeds: those known here, by their likes."""

        def members(state: State) -> bytes:
            def show(rows: list[Ranked]) -> list[bytes]:
                return lists.each(state, [row.id for row in rows], lists.generator)

            page = fill(partial(own_reads.feeds_by_likes, state.reader, words), show, cursor, limit)
            return paged(b'"feeds":' + joined(page.views), page.cursor)

        return await self.answering.answer(asker, members)


def _bookmarks(state: State, rows: list[Kept]) -> list[bytes]:
    """bookmarkViews: what can't be shown stands there as missing or blocked."""
    state.load_posts([row.id for row in rows], with_context=False)
    state.finish()
    presenter = Presenter(state)
    found = {row.id: row for row in post_reads.records(state.reader, [row.id for row in rows])}
    views = []
    for row in rows:
        record = found[row.id]
        state.load_actors([record.actor])
        uri = f"at://{state.actors[record.actor].did}/{names.POST}/{record.rkey}"
        post = presenter.post(row.id)
        if post is None:
            item = presenter.not_found_post(uri)
        elif state.blocked(record.actor):
            item = presenter.blocked_post(uri, record.actor)
        else:
            item = b'{"$type":"app.bsky.feed.defs#postView",' + post + b"}"
        subject = b'{"uri":%b,"cid":%b}' % (text(uri), text(row.cid))
        made = instant(row.created_us // 1000).encode()
        views.append(b'{"createdAt":"%b","subject":%b,"item":%b}' % (made, subject, item))
    return views


def _subscribed(state: State, viewer: int, cursor: str | None, limit: int) -> Page:
    """profileViews, whose cursor is the key of a subscription. Raises BadInput."""
    place = cursor or ""
    if place and not is_tid(place):
        raise BadInput("Malformed cursor")
    views: list[bytes] = []
    for _ in range(FETCHES_MAX):
        wanted = limit - len(views)
        found = own_reads.subscriptions(state.reader, viewer, place, wanted + 1)
        more, found = len(found) > wanted, found[:wanted]
        state.finish(actors=[each.subject for each in found])
        presenter = Presenter(state)
        shown = [each.subject for each in found if not state.blocked(each.subject)]
        views += [view for each in shown if (view := presenter.subscribed_profile(each)) is not None]
        if not more:
            return Page(views, None)
        place = found[-1].key
        if len(views) >= (limit + 1) // 2:
            break
    return Page(views, place)


def _suggested(state: State, rows: list[Ranked]) -> list[bytes]:
    return _worth_following(state, [row.id for row in rows])


def _worth_following(state: State, people: list[int]) -> list[bytes]:
    """profileViews of those whom the viewer neither follows nor avoids."""
    state.finish(actors=people)
    presenter = Presenter(state)
    write: Callable[[int], bytes | None] = presenter.profile
    kept = [
        i
        for i in people
        if i != state.viewer and i not in state.following and not state.blocked(i) and not state.is_muted(i)
    ]
    return [view for each in kept if (view := write(each)) is not None]
