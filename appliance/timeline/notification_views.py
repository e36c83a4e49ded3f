"""Answers about what members are told of. Whoever is no member is told nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import orjson

from appliance.errors import BadInput
from appliance.protocol import cbor
from appliance.protocol.cid import cid_of, to_text
from appliance.store import notification_reads, notifications, thing_reads
from appliance.store.collections import FOLLOW, NSIDS
from appliance.store.database import Reader
from appliance.store.notification_reads import Kept, Told
from appliance.store.timeline import Place
from appliance.timeline import notification_preferences as preferences
from appliance.timeline.answering import Answer, Answering, paged
from appliance.timeline.asker import Asker
from appliance.timeline.filling import Page, fill
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import instant, joined, text
from appliance.timeline.notification_cursors import BY_TIME
from appliance.timeline.presenting import Presenter

POSTS: Final = frozenset(
    {notifications.MENTION, notifications.QUOTE, notifications.REPLY, notifications.SUBSCRIBED}
)
# Of these a labeler that may hide things can ask for a look first.
_REVIEWED: Final = POSTS | {notifications.LIKE, notifications.FOLLOW}
_DELETED: Final = {"$type": "app.bsky.notification.defs#recordDeleted"}
_DELETED_JSON: Final = orjson.dumps(_DELETED)
_DELETED_CID: Final = to_text(cid_of(cbor.encode(_DELETED)))


class _Via(msgspec.Struct, gc=False):
    uri: str


class _Follow(msgspec.Struct, gc=False):
    via: _Via | None = None


_follow = msgspec.json.Decoder(_Follow).decode


class News(msgspec.Struct, frozen=True):
    """The newest of what a member is told, in short; ``more``: how many others came with it."""

    reason: str
    uri: str
    subject: str
    did: str
    handle: str
    display_name: str
    text: str
    more: int
    unread: int


class NotificationViews:
    """Each method is one query."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering

    async def listing(
        self,
        asker: Asker,
        *,
        reasons: Sequence[str] | None,
        priority: bool | None,
        cursor: str | None,
        limit: int,
    ) -> Answer:
        """listNotifications."""

        def members(state: State) -> bytes:
            if state.viewer is None or state.viewer == STRANGER:
                return b'"notifications":[],"priority":%b' % _bool(bool(priority))
            kept = notification_reads.state(state.reader, state.viewer)
            first = kept.priority if priority is None else priority
            page, seen_ms = _page(state, state.viewer, kept, reasons, cursor, limit, priority=first)
            seen = b"" if seen_ms is None else b',"seenAt":' + text(instant(seen_ms))
            told = b'"notifications":%b,"priority":%b%b' % (joined(page.views), _bool(first), seen)
            return paged(told, page.cursor)

        return await self.answering.answer(asker, members)

    async def unread(self, asker: Asker) -> Answer:
        """getUnreadCount: whatever its priority."""

        def members(state: State) -> bytes:
            if state.viewer is None or state.viewer == STRANGER:
                return b'"count":0'
            kept = notification_reads.state(state.reader, state.viewer)
            number = notification_reads.unread(
                state.reader,
                state.viewer,
                preferences.listed(kept.preferences),
                kept.seen_ms,
            )
            return b'"count":%d' % number

        return await self.answering.answer(asker, members, labelled=False)

    async def news(self, did: str, causes: Sequence[tuple[int, int]], since_ms: int) -> News | None:
        """What to tell a member at once of these (record, reason); None where nothing is to be told.

        The rules of the list hold, and the member's wishes for pushes; what he has seen or what is older
        than ``since_ms`` is no news.
        """

        def work(reader: Reader) -> News | None:
            state = State(reader, self.answering.shared, Asker(did=did, member=True))
            if state.viewer is None or state.viewer == STRANGER:
                return None
            kept = notification_reads.state(reader, state.viewer)
            after_ms = max(since_ms, kept.seen_ms or 0)
            rows = notification_reads.still_told(
                reader, state.viewer, preferences.pushed(kept.preferences), causes
            )
            shown = _views(state, lambda: kept.seen_ms, [row for row in rows if row.sort_ms > after_ms])
            if not shown:
                return None
            listed = preferences.listed(kept.preferences)
            unread = notification_reads.unread(reader, state.viewer, listed, kept.seen_ms)
            return _news(orjson.loads(shown[0]), len(shown) - 1, unread)

        return await self.answering.database.read(work)

    async def preferences(self, asker: Asker) -> Answer:
        """getPreferences."""

        def members(state: State) -> bytes:
            viewer = STRANGER if state.viewer is None else state.viewer
            kept = notification_reads.state(state.reader, viewer)
            return b'"preferences":' + text(preferences.all_of(kept.preferences))

        return await self.answering.answer(asker, members, labelled=False)


def _page(
    state: State,
    viewer: int,
    kept: Kept,
    reasons: Sequence[str] | None,
    cursor: str | None,
    limit: int,
    *,
    priority: bool,
) -> tuple[Page, int | None]:
    """A page, and up to when the member has seen: who never looked has seen all but the newest."""
    wanted = preferences.among(preferences.listed(kept.preferences), list(reasons) if reasons else None)
    newest: list[int] = []

    def skeleton(before: Place, number: int) -> list[Told]:
        rows = notification_reads.told(state.reader, viewer, wanted, before, number, priority=priority)
        newest.extend(row.sort_ms for row in rows[:1])
        return rows

    def seen_ms() -> int | None:
        if kept.seen_ms is not None or cursor:
            return kept.seen_ms
        return newest[0] if newest else None

    page = fill(skeleton, partial(_views, state, seen_ms), cursor, limit, BY_TIME)
    return page, seen_ms()


def _views(state: State, seen_ms: Callable[[], int | None], rows: list[Told]) -> list[bytes]:
    state.load_posts([row.tie for row in rows if row.id in POSTS], with_context=False)
    addresses = [f"at://{row.author_did}/{NSIDS[row.collection]}/{row.rkey}" for row in rows]
    packs = [_pack(state, row) for row in rows]
    state.load_things([pack for pack in packs if pack is not None])
    state.finish(actors=[row.author for row in rows], named=addresses)
    presenter, seen = Presenter(state), seen_ms()
    views = []
    for row, uri, pack in zip(rows, addresses, packs, strict=True):
        author = presenter.profile(row.author)
        if author is None or not _is_shown(state, row, uri):
            continue
        gone = row.cid is None or row.body is None
        parts = [
            b'{"uri":%b,"cid":%b,"author":%b' % (text(uri), text(_DELETED_CID if gone else row.cid), author),
            b',"reason":' + text(notifications.NAMES[row.id]),
            _subject(row),
            b',"record":' + (row.body if row.body is not None else _DELETED_JSON),
        ]
        view = None if pack is None else presenter.things.starter_pack_basic(pack)
        if view is not None:
            parts.append(b',"starterPack":' + view)
        parts.append(
            b',"isRead":%b,"indexedAt":%b,"labels":%b}'
            % (
                _bool(seen is None or seen > row.sort_ms),
                text(instant(row.sort_ms)),
                presenter.labels_of(row.tie, uri),
            )
        )
        views.append(b"".join(parts))
    return views


def _is_shown(state: State, row: Told, uri: str) -> bool:
    """Whether nothing lies between the viewer and the cause of this."""
    if state.blocked(row.author) or state.is_muted(row.author):
        return False
    if row.takedown is not None or uri in state.hidden:
        return False
    if row.id in POSTS and not state.sees_post(row.tie):
        return False
    if row.cid is None and row.id != notifications.UNVERIFIED:
        return False
    if row.id == notifications.REPLY:
        root = state.records[row.tie].root
        gate = None if root is None else state.thread_gate(root)
        if gate is not None and state.actor_of(root) == state.viewer and uri in gate.hidden:
            return False
    doubted = not state.doubted.isdisjoint((uri, row.author_did))
    return not (doubted and row.id in _REVIEWED and row.author not in state.following)


def _news(newest: dict[str, Any], more: int, unread: int) -> News:
    author, record = newest["author"], newest["record"]
    text_of = record.get("text")
    return News(
        newest["reason"],
        newest["uri"],
        newest.get("reasonSubject", ""),
        author["did"],
        author["handle"],
        author.get("displayName", ""),
        text_of if isinstance(text_of, str) else "",
        more,
        unread,
    )


def _subject(row: Told) -> bytes:
    if row.subject_collection is None:
        return b""
    uri = f"at://{row.subject_did}/{NSIDS[row.subject_collection]}/{row.subject_rkey}"
    return b',"reasonSubject":' + text(uri)


def _pack(state: State, row: Told) -> int | None:
    """The starter pack from which somebody followed."""
    if row.collection != FOLLOW or row.body is None or b'"via"' not in row.body:
        return None
    try:
        via = _follow(row.body).via
        return None if via is None else thing_reads.find(state.reader, via.uri)
    except (msgspec.MsgspecError, BadInput):
        return None


def _bool(value: bool) -> bytes:
    return b"true" if value else b"false"
