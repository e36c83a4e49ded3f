"""Feeds: the home timeline and an author's own posts, page by page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_at_uri
from appliance.store import collections, graph_reads, post_reads
from appliance.store import timeline as skeletons
from appliance.store.timeline import AuthorFilter, Item, Place
from appliance.timeline import cursors
from appliance.timeline.filling import FETCHES_MAX, Page, fill
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.names import POST
from appliance.timeline.presenting import Presenter

LIKE_LINK = 1
# What a mute may be limited to: bits of mute.only.
ONLY_REPOSTS = 1
ONLY_QUOTES = 2

Skeleton = Callable[[Place, int], list[Item]]

# The wire's names of filters; an unknown one acts like the default.
FILTERS: dict[str, AuthorFilter] = {
    "posts_with_replies": "all",
    "posts_no_replies": "no_replies",
    "posts_with_media": "media",
    "posts_with_video": "video",
    "posts_and_author_threads": "author_threads",
}


class FeedPage(NamedTuple):
    """Finished feedViewPosts, and the cursor of what follows."""

    views: list[bytes]
    cursor: str | None
    newer: str = ""  # the cursor above the first row that was looked at


def timeline(state: State, cursor: str | None, limit: int) -> FeedPage:
    """Posts and reposts of the viewer and of everybody he follows, newest first."""
    if state.viewer is None or state.viewer == STRANGER or cursors.is_obsolete(cursor):
        return FeedPage([], None)
    skeleton = partial(skeletons.timeline_page, state.reader, state.viewer)
    return _fill(state, Presenter(state), skeleton, cursors.parse(cursor), limit, in_timeline)


def newer_timeline(state: State, after: str, limit: int) -> FeedPage:
    """The page just above a place. Its ``newer`` is '' where the timeline ends."""
    if state.viewer is None or state.viewer == STRANGER:
        return FeedPage([], None)
    place, presenter = cursors.parse(after), Presenter(state)
    views: list[bytes] = []
    lowest = None
    for _ in range(FETCHES_MAX):
        items = skeletons.newer_timeline_page(state.reader, state.viewer, place, limit + 1)
        more = len(items) > limit
        items = items[-limit:]
        load(state, items)
        shown = [presenter.feed_item(item, pinned=False) for item in items if in_timeline(state, item)]
        views = [view for view in shown if view is not None] + views
        if items:
            place = Place(items[0].sort_ms, items[0].tie, items[0].id)
            lowest = lowest or items[-1]
        if views or not more:
            break
    newer = cursors.text_of(place, ambiguous=True) if more else ""
    if lowest is None:
        return FeedPage([], after, newer)
    below = Place(lowest.sort_ms, lowest.tie, lowest.id)
    return FeedPage(views, cursors.text_of(below, ambiguous=True), newer)


def author_feed(
    state: State, actor: int, only: AuthorFilter, cursor: str | None, limit: int, *, pins: bool
) -> FeedPage:
    """One account's posts and reposts; with ``pins`` its pinned post first on the first page."""
    if cursors.is_obsolete(cursor):
        return FeedPage([], None)
    skeleton = partial(skeletons.author_page, state.reader, actor, only)
    pinned = _pinned_item(state, actor) if pins and not cursor else None
    return _fill(
        state,
        Presenter(state),
        skeleton,
        cursors.parse(cursor),
        limit,
        _in_author_feed,
        pinned=pinned,
        whole_threads=only == "author_threads",
    )


def list_feed(state: State, list_record: int, cursor: str | None, limit: int) -> Page:
    """Posts of those on a list, by the rules of the timeline; nobody with whom its owner is in a block."""
    state.load_things([list_record])
    state.finish()
    if not state.sees_thing(list_record):
        return Page([], None)
    owner = state.things[list_record].actor
    presenter = Presenter(state)

    def show(items: list[Item]) -> list[bytes]:
        state.load_pairs([(owner, item.actor) for item in items])
        load(state, items)
        kept = [
            item
            for item in items
            if in_timeline(state, item) and not state.blocking_each_other(owner, item.actor)
        ]
        return [view for item in kept if (view := presenter.feed_item(item)) is not None]

    return fill(partial(skeletons.list_page, state.reader, list_record), show, cursor, limit)


def likes(state: State, viewer: int, cursor: str | None, limit: int) -> Page:
    """What the viewer likes, by the time of the likes."""
    presenter = Presenter(state)

    def show(links: list[graph_reads.Link]) -> list[bytes]:
        items = [Item(link.subject, 0, link.subject, 0, link.sort_ms, link.tie) for link in links]
        load(state, items)
        rows = [(item, state.records.get(item.subject)) for item in items]
        kept = [item for item, row in rows if row is not None and not state.blocked(row.actor)]
        return [view for item in kept if (view := presenter.feed_item(item)) is not None]

    return fill(partial(graph_reads.links_by, state.reader, LIKE_LINK, viewer), show, cursor, limit)


def quotes(state: State, post: int, cursor: str | None, limit: int) -> Page:
    """postViews of the posts that quote this one."""
    presenter = Presenter(state)
    state.load_records([post])
    author = state.actor_of(post)

    def show(links: list[graph_reads.Link]) -> list[bytes]:
        ids = [link.id for link in links]
        state.load_posts(ids, with_context=False)
        state.finish(pairs=[] if author is None else [(author, link.actor) for link in links])
        views = []
        for link in links:
            third = author is not None and state.blocking_each_other(author, link.actor)
            if state.blocked(link.actor) or third or state.needs_review(link.id):
                continue
            view = presenter.post(link.id)
            if view is not None:
                views.append(b"{" + view + b"}")
        return views

    return fill(partial(graph_reads.quotes_of, state.reader, post), show, cursor, limit)


def _fill(
    state: State,
    presenter: Presenter,
    skeleton: Skeleton,
    place: Place,
    limit: int,
    rule: Callable[[State, Item], bool],
    *,
    pinned: Item | None = None,
    whole_threads: bool = False,
) -> FeedPage:
    """Fetch until the page is at least half full, there is no more, or it was tried often enough."""
    views: list[bytes] = []
    newer = ""
    for _ in range(FETCHES_MAX):
        wanted = limit - len(views)
        items = skeleton(place, wanted + 1)
        if items and not newer:
            first = Place(items[0].sort_ms, items[0].tie, items[0].id)
            newer = cursors.text_of(first, ambiguous=True)
        following = items[wanted] if len(items) > wanted else None
        items = items[:wanted]
        if items:
            place = Place(items[-1].sort_ms, items[-1].tie, items[-1].id)
        if pinned is not None:
            items = [pinned, *(item for item in items if item.subject != pinned.subject)]
        load(state, items)
        whole = _whole_threads(state, items) if whole_threads else None
        for item in items:
            if not rule(state, item):
                continue
            if whole is not None and item is not pinned and not _is_whole(item, whole):
                continue
            view = presenter.feed_item(item, pinned=item is pinned)
            if view is not None:
                views.append(view)
        pinned = None
        if following is None:
            return FeedPage(views, None, newer)
        if len(views) >= (limit + 1) // 2:
            break
    assert following is not None
    ambiguous = (following.sort_ms, following.tie) == (place.sort_ms, place.tie)
    return FeedPage(views, cursors.text_of(place, ambiguous=ambiguous), newer)


def load(state: State, items: list[Item]) -> None:
    """Everything that these items show."""
    state.load_records(item.id for item in items)
    state.load_posts([item.subject for item in items], with_context=True)
    pairs: list[tuple[int, int]] = []
    for item in items:
        row = state.records.get(item.subject)
        if row is None or row.parent is None:
            continue
        parent, root = state.actor_of(row.parent), state.actor_of(row.root)
        if parent is not None:
            pairs.append((row.actor, parent))
            above = state.actor_of(state.records[row.parent].root)
            if above is not None:
                pairs.append((parent, above))
        if root is not None:
            pairs.append((row.actor, root))
    state.finish(pairs=pairs)


def in_timeline(state: State, item: Item) -> bool:
    """No author, reposter, or author of the two posts above whom the viewer blocks or mutes."""
    row = state.records.get(item.subject)
    if row is None:
        return False
    for actor in (row.actor, item.actor):
        if state.blocked(actor) or state.is_muted(actor):
            return False
    in_part = state.relations.muted_of
    if in_part and (
        (item.flags & skeletons.REPOST and in_part.get(item.actor, 0) & ONLY_REPOSTS)
        or ((row.flags or 0) & skeletons.QUOTE and in_part.get(row.actor, 0) & ONLY_QUOTES)
    ):
        return False
    parent = state.records.get(row.parent) if row.parent is not None else None
    if parent is not None:
        if state.blocked(parent.actor):
            return False
        grandparent = state.actor_of(parent.parent)
        if grandparent is not None and state.blocked(grandparent):
            return False
    return True


def _in_author_feed(state: State, item: Item) -> bool:
    """A muted account's own feed shows everything of its own; elsewhere the muted are left out."""
    row = state.records.get(item.subject)
    if row is None or state.blocked(row.actor) or state.blocked(item.actor):
        return False
    return not state.is_muted(row.actor) or state.is_muted(item.actor)


def _whole_threads(state: State, items: list[Item]) -> set[int]:
    """Posts of this page of which every post above is on it, too."""
    here = {item.subject for item in items if not item.flags & skeletons.REPOST}
    whole: set[int] = set()
    broken: set[int] = set()
    for start in here:
        path: list[int] = []
        at: int | None = start
        while at is not None and at not in whole and at not in broken and at not in path:
            path.append(at)
            row = state.records.get(at)
            if at not in here or row is None or row.flags is None:
                broken.update(path)
                break
            if row.parent is None:
                whole.update(path)
                break
            at = row.parent
        else:
            (whole if at in whole else broken).update(path)
    return whole


def _is_whole(item: Item, whole: set[int]) -> bool:
    return bool(item.flags & skeletons.REPOST) or item.subject in whole


def _pinned_item(state: State, actor: int) -> Item | None:
    """The post that the account pinned, if it is its own and here."""
    state.load_actors([actor])
    card = state.cards.get(actor)
    if card is None or card.pinned_uri is None:
        return None
    try:
        uri = parse_at_uri(card.pinned_uri)
    except BadInput:
        return None
    if uri.authority != card.did or uri.collection != POST:
        return None
    found = post_reads.find_record(state.reader, actor, collections.POST, uri.rkey)
    return None if found is None else Item(found, actor, found, 0, 0, 0)


def refuse_blocked(state: State, actor: int) -> None:
    """Raises BadInput where viewer and account block each other."""
    if state.viewer is None or state.viewer == STRANGER:
        return
    did = state.actors[actor].did
    state.finish(actors=[actor])
    if actor in state.blocking or state.blocking_list(actor) is not None:
        raise BadInput(f"Requester has blocked actor: {did}", name="BlockedActor")
    if actor in state.blocked_by or state.is_blocked_by_list(actor):
        raise BadInput(f"Requester is blocked by actor: {did}", name="BlockedByActor")
