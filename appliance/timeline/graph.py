"""Follows and followers, likes and reposts, page by page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from appliance.store import graph_reads, post_reads
from appliance.store.graph_reads import Link
from appliance.store.timeline import Place
from appliance.timeline import cursors
from appliance.timeline.cards import parsed
from appliance.timeline.feeds import FETCHES_MAX
from appliance.timeline.hydration import State
from appliance.timeline.json_text import instant, normal_instant
from appliance.timeline.presenting import Presenter

LIKE_LINK = 1
REPOST_LINK = 2
FOLLOW_LINK = 3


class Page(NamedTuple):
    """Finished entries, and the cursor of what follows."""

    views: list[bytes]
    cursor: str | None


def follows(state: State, actor: int, cursor: str | None, limit: int) -> Page:
    """profileViews of those whom the account follows."""
    return _fill(
        state,
        partial(graph_reads.links_by, state.reader, FOLLOW_LINK, actor),
        lambda link: link.subject,
        cursor,
        limit,
        apart_from=actor,
    )


def followers(state: State, actor: int, cursor: str | None, limit: int) -> Page:
    """profileViews of those who follow the account."""
    return _fill(
        state,
        partial(graph_reads.links_to, state.reader, FOLLOW_LINK, actor),
        lambda link: link.actor,
        cursor,
        limit,
        apart_from=actor,
    )


def likes(state: State, subject: int, cursor: str | None, limit: int) -> Page:
    """Likes of a record: who, and when."""
    author = _author(state, subject)
    return _fill(
        state,
        partial(graph_reads.links_to, state.reader, LIKE_LINK, subject),
        lambda link: link.actor,
        cursor,
        limit,
        apart_from=author,
        with_times=True,
    )


def reposters(state: State, subject: int, cursor: str | None, limit: int) -> Page:
    """profileViews of those who reposted a record."""
    return _fill(
        state,
        partial(graph_reads.links_to, state.reader, REPOST_LINK, subject),
        lambda link: link.actor,
        cursor,
        limit,
    )


def _author(state: State, record: int) -> int | None:
    state.load_records([record])
    return state.actor_of(record)


def _fill(
    state: State,
    skeleton: Callable[[Place, int], list[Link]],
    person: Callable[[Link], int],
    cursor: str | None,
    limit: int,
    *,
    apart_from: int | None = None,
    with_times: bool = False,
) -> Page:
    """Fetch as feeds do. Left out: whom the viewer can't see, blocks with him and with ``apart_from``."""
    if cursors.is_obsolete(cursor):
        return Page([], None)
    place = cursors.parse(cursor)
    presenter = Presenter(state)
    views: list[bytes] = []
    for _ in range(FETCHES_MAX):
        wanted = limit - len(views)
        links = skeleton(place, wanted + 1)
        following = links[wanted] if len(links) > wanted else None
        links = links[:wanted]
        if links:
            place = Place(links[-1].sort_ms, links[-1].tie, links[-1].id)
        people = [person(link) for link in links]
        pairs = [] if apart_from is None else [(apart_from, each) for each in people]
        if with_times:
            bodies = post_reads.bodies(state.reader, [link.id for link in links])
        state.finish(actors=people, pairs=pairs)
        for link, each in zip(links, people, strict=True):
            if state.blocked(each) or (
                apart_from is not None and state.blocking_each_other(apart_from, each)
            ):
                continue
            view = presenter.profile(each)
            if view is None:
                continue
            if with_times:
                created = normal_instant(parsed(bodies[link.id].json).get("createdAt"))
                view = b'{"actor":%b,"createdAt":"%b","indexedAt":"%b"}' % (
                    view,
                    created.encode(),
                    instant(link.sort_ms).encode(),
                )
            views.append(view)
        if following is None:
            return Page(views, None)
        if len(views) >= (limit + 1) // 2:
            break
    assert following is not None
    ambiguous = (following.sort_ms, following.tie) == (place.sort_ms, place.tie)
    return Page(views, cursors.text_of(place, ambiguous=ambiguous))
