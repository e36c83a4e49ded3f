"""Follows and followers, likes and reposts, mutes and blocks: people page by page, and how they stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from appliance.store import actor_reads, graph_reads, post_reads
from appliance.store.graph_reads import Link
from appliance.store.timeline import Place
from appliance.timeline import names, relations
from appliance.timeline.cards import parsed
from appliance.timeline.filling import Page, fill
from appliance.timeline.hydration import State
from appliance.timeline.json_text import instant, normal_instant, text
from appliance.timeline.presenting import Presenter
from appliance.timeline.shared import Relations

LIKE_LINK = 1
REPOST_LINK = 2
FOLLOW_LINK = 3
BLOCK_LINK = 4


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
    presenter = Presenter(state)

    def show(links: list[Link]) -> list[bytes]:
        people = [person(link) for link in links]
        pairs = [] if apart_from is None else [(apart_from, each) for each in people]
        bodies = post_reads.bodies(state.reader, [link.id for link in links]) if with_times else {}
        state.finish(actors=people, pairs=pairs)
        views = []
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
        return views

    return fill(skeleton, show, cursor, limit)


def known_followers(state: State, viewer: int, actor: int) -> list[bytes]:
    """profileViews of those whom the viewer follows and who follow the account: all of them."""
    found = graph_reads.known_followers(state.reader, viewer, [actor])
    people = list(dict.fromkeys(follower for _, follower in found))
    state.finish(actors=people)
    presenter = Presenter(state)
    shown = [i for i in people if not state.blocked(i)]
    return [view for each in shown if (view := presenter.profile(each)) is not None]


def mutes(state: State, viewer: int, cursor: str | None, limit: int) -> Page:
    """profileViews of those whom the viewer mutes altogether, the latest first."""
    return _people(state, partial(graph_reads.mutes, state.reader, viewer), cursor, limit)


def blocks(state: State, viewer: int, cursor: str | None, limit: int) -> Page:
    """profileViews of those whom the viewer blocks by records of his own, the latest first."""
    skeleton = partial(graph_reads.links_by, state.reader, BLOCK_LINK, viewer)
    return _people(state, skeleton, cursor, limit)


def _people(
    state: State, skeleton: Callable[[Place, int], list[Link]], cursor: str | None, limit: int
) -> Page:
    """Of these nobody is left out but who does not exist for the viewer."""
    presenter = Presenter(state)

    def show(links: list[Link]) -> list[bytes]:
        people = [link.subject for link in links]
        state.finish(actors=people)
        return [view for each in people if (view := presenter.profile(each)) is not None]

    return fill(skeleton, show, cursor, limit)


def relationships(state: State, actor: int, others: list[str]) -> list[bytes]:
    """How the account stands to each of these: a relationship, or that nobody here is called so.

    Unlike views, this is a matter of the two accounts alone: whoever asks gets the same.
    """
    found = {each: actor_reads.find_actor(state.reader, each) for each in others if each.startswith("did:")}
    known = Relations()
    people = [i for i in found.values() if i is not None]
    relations.load_people(state.reader, known, actor, people)
    lists = {i for by in (known.on_lists, known.blocking_lists) for ids in by.values() for i in ids}
    state.load_lists(lists)
    state.load_actors([actor, *people])
    views = []
    for each in others:
        if not each.startswith("did:"):
            members: dict[str, object] = {"actor": each, "notFound": True}
            views.append(text({"$type": "app.bsky.graph.defs#notFoundActor"} | members))
            continue
        members = {"did": each}
        other = found[each]
        if other is not None and other != actor and state.actors[other].status != "deleted":
            members |= _relationship(state, known, actor, other)
        views.append(text({"$type": "app.bsky.graph.defs#relationship"} | members))
    return views


def _relationship(state: State, known: Relations, actor: int, other: int) -> dict[str, str]:
    mine, theirs = state.actors[actor].did, state.actors[other].did
    found: dict[str, str] = {}
    for name, did, collection, by in (
        ("following", mine, names.FOLLOW, known.following),
        ("followedBy", theirs, names.FOLLOW, known.followed_by),
        ("blocking", mine, names.BLOCK, known.blocking),
        ("blockedBy", theirs, names.BLOCK, known.blocked_by),
    ):
        rkey = by.get(other)
        if rkey is not None:
            found[name] = f"at://{did}/{collection}/{rkey}"
    for name, lists in (
        ("blockingByList", [i for i in known.on_lists.get(other, ()) if i in known.blocked_lists]),
        ("blockedByList", known.blocking_lists.get(other, [])),
    ):
        by_list = next((i for i in lists if state.list_counts(i)), None)
        if by_list is not None:
            found[name] = state.sayings[by_list].uri
    return found
