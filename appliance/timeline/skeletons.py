"""Skeletons of feeds: lists of addresses, shown by our rules, or made by them for others to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from appliance.protocol.syntax import is_did
from appliance.store import post_reads, thing_reads
from appliance.store import timeline as rows
from appliance.store.database import Reader
from appliance.store.timeline import REPOST, Item, Place, TimelineFilter
from appliance.timeline import feeds, names
from appliance.timeline.cards import parsed
from appliance.timeline.filling import Page, fill
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import text
from appliance.timeline.presenting import Presenter

_PIN = "app.bsky.feed.defs#skeletonReasonPin"
_REPOST = "app.bsky.feed.defs#skeletonReasonRepost"


class Entry(msgspec.Struct, frozen=True):
    """A skeletonFeedPost: the address of a post; of the repost that brought it, or whether it is pinned."""

    post: str
    repost: str = ""
    pinned: bool = False
    context: str = ""

    @classmethod
    def of(cls, json: dict[str, Any]) -> Entry:
        """From an entry that is valid by its schema. A reason of an unknown kind is none."""
        reason = json.get("reason") or {}
        kind = reason.get("$type")
        return cls(
            json["post"],
            reason["repost"] if kind == _REPOST else "",
            kind == _PIN,
            json.get("feedContext") or "",
        )


def show(state: State, entries: Iterable[Entry], req_id: str) -> list[bytes]:
    """feedViewPosts by the rules of the timeline, in the order given, doubles kept."""
    found: list[tuple[Entry, Item]] = []
    for entry in entries:
        item = _item(state, entry)
        if item is not None:
            found.append((entry, item))
    feeds.load(state, [item for _, item in found])
    presenter = Presenter(state)
    views = []
    for entry, item in found:
        if not feeds.in_timeline(state, item):
            continue
        view = presenter.feed_item(item, pinned=entry.pinned)
        if view is None:
            continue
        more = b',"feedContext":' + text(entry.context) if entry.context else b""
        more += b',"reqId":' + text(req_id) if req_id else b""
        views.append(view[:-1] + more + b"}")
    return views


def missing(reader: Reader, entries: Iterable[Entry]) -> list[str]:
    """Addresses of the posts that were never here, each once."""
    ids = {entry.post: thing_reads.find(reader, entry.post) for entry in entries}
    rows_here = post_reads.records(reader, [found for found in ids.values() if found is not None])
    seen = {row.id for row in rows_here if row.state != post_reads.MENTIONED}
    return [uri for uri, found in ids.items() if found not in seen]


def service_of(reader: Reader, uri: str) -> str:
    """The DID of the generator that a living feed record names; '' where there is none."""
    found = thing_reads.find_feed(reader, uri)
    if found is None:
        return ""
    body = post_reads.bodies(reader, [found]).get(found)
    service = parsed(body.json).get("did") if body is not None else None
    return service if isinstance(service, str) and is_did(service) else ""


def _item(state: State, entry: Entry) -> Item | None:
    post = thing_reads.find(state.reader, entry.post)
    if post is None or f"/{names.POST}/" not in entry.post:
        return None
    if entry.repost:
        repost = thing_reads.find(state.reader, entry.repost)
        return None if repost is None else rows.repost_of(state.reader, repost, post)
    state.load_records([post])
    row = state.records.get(post)
    return None if row is None else Item(post, row.actor, post, 0, 0, 0)


def timeline(state: State, only: TimelineFilter, cursor: str | None, limit: int) -> Page:
    """Skeleton entries of the viewer's home timeline, or of one kind of its rows."""
    if state.viewer is None or state.viewer == STRANGER:
        return Page([], None)

    def page(place: Place, most: int) -> list[Item]:
        assert state.viewer is not None
        return rows.timeline_page(state.reader, state.viewer, place, most, only)

    return _fill(state, page, lambda item: feeds.in_timeline(state, item), cursor, limit)


def of_list(state: State, uri: str, cursor: str | None, limit: int) -> Page:
    """Skeleton entries of the posts of those on a list; none for a list that is not here."""
    found = thing_reads.find(state.reader, uri)
    if found is None:
        return Page([], None)
    state.load_things([found])
    state.finish()
    if not state.sees_thing(found):
        return Page([], None)
    owner = state.things[found].actor

    def rule(item: Item) -> bool:
        return feeds.in_timeline(state, item) and not state.blocking_each_other(owner, item.actor)

    return _fill(state, partial(rows.list_page, state.reader, found), rule, cursor, limit, owner=owner)


def _fill(
    state: State,
    page: Callable[[Place, int], list[Item]],
    rule: Callable[[Item], bool],
    cursor: str | None,
    limit: int,
    *,
    owner: int | None = None,
) -> Page:
    def entries(items: list[Item]) -> list[bytes]:
        if owner is not None:
            state.load_pairs([(owner, item.actor) for item in items])
        feeds.load(state, items)
        return [
            _entry(state, item)
            for item in items
            if rule(item) and state.sees_post(item.subject) and state.sees_record(item.id)
        ]

    return fill(page, entries, cursor, limit)


def _entry(state: State, item: Item) -> bytes:
    post = state.texts[item.subject].uri
    if not item.flags & REPOST:
        return text({"post": post})
    did, rkey = state.actors[item.actor].did, state.records[item.id].rkey
    repost = f"at://{did}/{names.REPOST}/{rkey}"
    return text({"post": post, "reason": {"$type": _REPOST, "repost": repost}})
