"""Lists, starter packs, feeds and labelers: who is on them, whose they are, page by page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from appliance.store import collections, graph_reads, post_reads, thing_reads
from appliance.store.graph_reads import Link
from appliance.store.timeline import NEWEST, Place
from appliance.timeline import names, things
from appliance.timeline.filling import Page, fill
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, text
from appliance.timeline.presenting import Presenter

LIST_ITEM = 6
SAMPLE_OF = 50
SAMPLE_MAX = 12
FEEDS_MAX = 3

# The wire's short names of purposes; reference lists are in no enumeration.
PURPOSES = {"modlist": things.MODERATING, "curatelist": "app.bsky.graph.defs#curatelist"}
CURATED = frozenset({"app.bsky.graph.defs#curatelist", "app.bsky.graph.defs#referencelist"})

Write = Callable[[Presenter, int], bytes | None]


def members(state: State, list_record: int, cursor: str | None, limit: int) -> Page:
    """listItemViews of a list, the latest first.

    Of lists for reading, those are left out with whom the list's owner is in a block, but for himself.
    """
    owner = state.things[list_record].actor
    apart = state.sayings[list_record].purpose in CURATED and owner != state.viewer
    presenter = Presenter(state)
    owner_did = state.actors[owner].did

    def show(links: list[Link]) -> list[bytes]:
        people = [link.subject for link in links]
        keys = {row.id: row.rkey for row in post_reads.records(state.reader, [link.id for link in links])}
        state.finish(actors=people, pairs=[(owner, each) for each in people] if apart else ())
        views = []
        for link in links:
            if apart and state.blocking_each_other(owner, link.subject):
                continue
            view = presenter.profile(link.subject)
            if view is not None:
                uri = text(f"at://{owner_did}/{names.LIST_ITEM}/{keys[link.id]}")
                views.append(b'{"uri":%b,"subject":%b}' % (uri, view))
        return views

    return fill(partial(graph_reads.links_by, state.reader, LIST_ITEM, list_record), show, cursor, limit)


def owned(
    state: State,
    actor: int,
    collection: int,
    write: Write,
    cursor: str | None,
    limit: int,
    *,
    purposes: frozenset[str] | None = None,
) -> Page:
    """An account's own lists, packs or feeds, the latest first. ``purposes`` are those of lists to show."""
    skeleton = partial(graph_reads.records_by, state.reader, actor, collection)
    return _things(state, skeleton, write, cursor, limit, purposes=purposes)


def muted(state: State, viewer: int, cursor: str | None, limit: int) -> Page:
    """listViews of the lists that the viewer mutes."""
    return _things(state, partial(graph_reads.muted_lists, state.reader, viewer), list_view, cursor, limit)


def blocked(state: State, viewer: int, cursor: str | None, limit: int) -> Page:
    """listViews of the lists that the viewer blocks."""
    return _things(state, partial(graph_reads.blocked_lists, state.reader, viewer), list_view, cursor, limit)


def with_membership(
    state: State,
    viewer: int,
    person: int,
    collection: int,
    cursor: str | None,
    limit: int,
    *,
    purposes: frozenset[str] | None = None,
) -> Page:
    """The viewer's own lists or starter packs, each with the item that puts this person on it."""
    state.finish(actors=[person])
    subject = Presenter(state).profile(person)
    packs = collection == collections.STARTER_PACK
    name = b"starterPack" if packs else b"list"

    def write(presenter: Presenter, record: int) -> bytes | None:
        view = starter_pack(state, record) if packs else list_view(presenter, record)
        if view is None:
            return None
        of = thing_reads.find(state.reader, state.sayings[record].list_uri) if packs else record
        key = None if of is None else graph_reads.item_keys(state.reader, [of], person).get(of)
        item = b""
        if key is not None and subject is not None:
            uri = text(f"at://{state.viewer_did}/{names.LIST_ITEM}/{key}")
            item = b',"listItem":{"uri":%b,"subject":%b}' % (uri, subject)
        return b'{"%b":%b%b}' % (name, view, item)

    skeleton = partial(graph_reads.records_by, state.reader, viewer, collection)
    return _things(state, skeleton, write, cursor, limit, purposes=purposes)


def starter_pack(state: State, pack: int) -> bytes | None:
    """starterPackView: with its list, a sample of who is on it, and its feeds. None where it isn't here."""
    state.load_things([pack])
    state.finish()
    if not state.sees_thing(pack):
        return None
    said, creator = state.sayings[pack], state.things[pack].actor
    list_record = thing_reads.find(state.reader, said.list_uri)
    feeds = [found for uri in said.feed_uris if (found := thing_reads.find(state.reader, uri)) is not None]
    state.load_things([*feeds, *([] if list_record is None else [list_record])])
    people: list[Link] = []
    if list_record is not None:
        people = graph_reads.links_by(state.reader, LIST_ITEM, list_record, NEWEST, SAMPLE_OF)
    state.finish(actors=[link.subject for link in people], pairs=[(creator, link.subject) for link in people])
    presenter = Presenter(state)
    inner = presenter.things.starter_pack_members(pack)
    if inner is None:
        return None
    parts = [inner]
    if list_record is not None and (view := presenter.things.list_basic(list_record)) is not None:
        parts.append(b'"list":' + view)
        parts.append(b'"listItemsSample":' + joined(_sample(state, presenter, list_record, creator, people)))
    shown = [view for feed in feeds if (view := presenter.things.generator(feed)) is not None]
    parts.append(b'"feeds":' + joined(shown[:FEEDS_MAX]))
    return b"{" + b",".join(parts) + b"}"


def _sample(
    state: State, presenter: Presenter, list_record: int, creator: int, people: list[Link]
) -> list[bytes]:
    """Those with the most followers, but nobody with whom the creator is in a block, for others than him."""
    kept = [
        link
        for link in people
        if creator == state.viewer or not state.blocking_each_other(creator, link.subject)
    ]
    followers = graph_reads.follower_counts(state.reader, [link.subject for link in kept])
    kept.sort(key=lambda link: -followers.get(link.subject, 0))
    keys = {row.id: row.rkey for row in post_reads.records(state.reader, [link.id for link in kept])}
    owner = state.actors[state.things[list_record].actor].did
    views = []
    for link in kept:
        view = presenter.profile(link.subject)
        if view is not None:
            uri = text(f"at://{owner}/{names.LIST_ITEM}/{keys[link.id]}")
            views.append(b'{"uri":%b,"subject":%b}' % (uri, view))
    return views[:SAMPLE_MAX]


def each(state: State, records: list[int], write: Write) -> list[bytes]:
    """Views of these, in this order; those that don't exist for the caller are left out."""
    state.load_things(records)
    state.finish()
    presenter = Presenter(state)
    return [view for record in records if (view := write(presenter, record)) is not None]


def list_view(presenter: Presenter, record: int) -> bytes | None:
    """listView."""
    return presenter.things.list_view(record)


def starter_pack_basic(presenter: Presenter, record: int) -> bytes | None:
    """starterPackViewBasic."""
    return presenter.things.starter_pack_basic(record)


def generator(presenter: Presenter, record: int) -> bytes | None:
    """generatorView."""
    return presenter.things.generator(record)


def _things(
    state: State,
    skeleton: Callable[[Place, int], list[Link]],
    write: Write,
    cursor: str | None,
    limit: int,
    *,
    purposes: frozenset[str] | None = None,
) -> Page:
    presenter = Presenter(state)

    def show(links: list[Link]) -> list[bytes]:
        records = [link.subject for link in links]
        state.load_things(records)
        state.finish()
        views = []
        for record in records:
            said = state.sayings.get(record)
            if said is None or (purposes is not None and said.purpose not in purposes):
                continue
            view = write(presenter, record)
            if view is not None:
                views.append(view)
        return views

    return fill(skeleton, show, cursor, limit)
