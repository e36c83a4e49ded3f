"""Threads as one flat list: what the post answers, the post, and what answers it, the weightiest first.

What the author of the thread hid, what muted people say and mere pins stand apart, as other replies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.store import post_reads, thread_reads
from appliance.store.post_reads import RecordRow
from appliance.store.timeline import BREAKS_THREAD_GATE
from appliance.timeline.cards import parsed
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, text
from appliance.timeline.presenting import Presenter
from appliance.timeline.threads import without_circle

ABOVE_MAX: Final = 50
REPLIES_MAX: Final = 5000
_PIN: Final = "📌"
_SPACE: Final = b"app.bsky.unspecced.defs#"


class Options(NamedTuple):
    """What the caller chose."""

    above: bool
    below: int
    branching: int
    sort: str


class Found(NamedTuple):
    """The list, whether replies stand apart, and the thread's gate."""

    items: list[bytes]
    has_others: bool
    gate: bytes | None


def not_found(uri: str) -> Found:
    """The list about a post that isn't here."""
    return Found([_item(uri, 0, _of(b"threadItemNotFound"))], has_others=False, gate=None)


def thread(state: State, anchor: int, uri: str, options: Options) -> Found:
    """getPostThreadV2."""
    tree = _Tree(state, anchor, ABOVE_MAX if options.above else 0, options.below)
    if not state.sees_post(anchor):
        return not_found(uri)
    row = state.records[anchor]
    state.load_known_likers(anchor)
    presenter = Presenter(state)
    if state.blocked(row.actor):
        return Found([_item(uri, 0, _blocked(presenter, row.actor))], has_others=False, gate=None)
    if tree.is_closed_to_guests(row.actor):
        return Found([_item(uri, 0, _of(b"threadItemNoUnauthenticated"))], has_others=False, gate=None)
    items = _parents(tree, presenter, row)
    items.append(_post(tree, presenter, row, 0, more_replies=0, more_parents=False))
    has_others = False
    if not (row.flags or 0) & BREAKS_THREAD_GATE:
        replies = tree.replies_to(anchor)
        has_others = any(tree.stands_apart(reply) for reply in replies)
        _replies(tree, presenter, [r for r in replies if not tree.stands_apart(r)], options, items)
    return Found(items, has_others, presenter.things.thread_gate(tree.root))


def other_replies(state: State, anchor: int) -> list[bytes]:
    """getPostThreadOtherV2: the direct replies that stand apart: of the muted, pins, hidden by the author."""
    tree = _Tree(state, anchor, 0, 1)
    if not state.sees_post(anchor):
        return []
    row = state.records[anchor]
    if (
        state.blocked(row.actor)
        or (row.flags or 0) & BREAKS_THREAD_GATE
        or tree.is_closed_to_guests(row.actor)
    ):
        return []
    replies = [reply for reply in tree.replies_to(anchor) if tree.stands_apart(reply)]
    replies.sort(key=lambda r: (tree.is_hidden(r), tree.is_pin(r), -tree.time_of(r)))
    presenter = Presenter(state)
    return [_post(tree, presenter, reply, 1, more_replies=0, more_parents=False) for reply in replies]


class _Tree:
    """The posts around an anchor, loaded, and what the rules say of them."""

    def __init__(self, state: State, anchor: int, height: int, depth: int) -> None:
        self.state = state
        self.above = without_circle(anchor, post_reads.above(state.reader, anchor, height))
        self._children: dict[int, list[int]] = {}
        seen = {anchor}
        for reply, parent in post_reads.below(state.reader, anchor, depth, REPLIES_MAX):
            if reply not in seen:
                seen.add(reply)
                self._children.setdefault(parent, []).append(reply)
        state.load_records([anchor])
        row = state.records.get(anchor)
        self.root = anchor if row is None or row.root is None else row.root
        self.chain = thread_reads.own_chain(state.reader, self.root)
        ids = [anchor, *self.above, *seen]
        state.load_posts(ids, with_context=False)
        rows = [state.records[i] for i in ids if i in state.records]
        state.load_records(i for each in rows for i in (each.parent, each.root))
        parents = [(each.actor, state.actor_of(each.parent)) for each in rows]
        state.finish(pairs=[(one, other) for one, other in parents if other is not None])
        gate = state.thread_gate(self.root)
        self._hidden = frozenset() if gate is None else gate.hidden
        self._likes = _likes_by(state, self.root, [i for i in seen if i in state.records])

    def replies_to(self, post: int) -> list[RecordRow]:
        """Those that may be shown at all."""
        state = self.state
        rows = [state.records[i] for i in self._children.get(post, ())]
        return [row for row in rows if self._may_be_shown(row)]

    def _may_be_shown(self, row: RecordRow) -> bool:
        state = self.state
        if (row.flags or 0) & BREAKS_THREAD_GATE or row.root != self.root or not state.sees_post(row.id):
            return False
        parent = state.actor_of(row.parent)
        if state.blocked(row.actor) or state.needs_review(row.id) or self.is_closed_to_guests(row.actor):
            return False
        return state.operator or parent is None or not state.blocking_each_other(row.actor, parent)

    def stands_apart(self, row: RecordRow) -> bool:
        """Whether it is shown among the other replies only."""
        return self.is_hidden(row) or self.is_muted(row) or self.is_pin(row)

    def is_hidden(self, row: RecordRow) -> bool:
        """Whether the thread's author hid it; whoever wrote it goes on seeing it."""
        return row.actor != self.state.viewer and self.state.texts[row.id].uri in self._hidden

    def is_muted(self, row: RecordRow) -> bool:
        """Whether the viewer mutes who wrote it."""
        return self.state.is_muted(row.actor)

    def is_pin(self, row: RecordRow) -> bool:
        """Whether it says nothing but that somebody keeps the post in mind."""
        said = self.state.texts[row.id].record
        return _PIN.encode() in said and str(parsed(said).get("text", "")).strip() == _PIN

    def is_closed_to_guests(self, actor: int) -> bool:
        """Whether somebody asks not to be shown to people who aren't signed in."""
        return self.state.viewer is None and b'"!no-unauthenticated"' in self.state.cards[actor].labels_json

    def time_of(self, row: RecordRow) -> int:
        """When it came, for sorting."""
        return self.state.texts[row.id].sort_ms

    def is_liked_by_author(self, row: RecordRow) -> bool:
        """Whether the thread's author liked it."""
        return row.id in self._likes


def _replies(
    tree: _Tree, presenter: Presenter, first: list[RecordRow], options: Options, items: list[bytes]
) -> None:
    """Depth first, each level in order, without recursion: threads are as deep as people like."""
    order = _order(tree, options.sort)
    waiting = [(row, 1) for row in sorted(first, key=order, reverse=True)]
    while waiting:
        row, depth = waiting.pop()
        count = row.replies or 0
        deepest = depth >= options.below
        more = count if deepest else max(count - options.branching, 0)
        items.append(_post(tree, presenter, row, depth, more_replies=more, more_parents=False))
        if deepest:
            continue
        below = [reply for reply in tree.replies_to(row.id) if not tree.stands_apart(reply)]
        below = sorted(below, key=order)[: options.branching]
        waiting += [(reply, depth + 1) for reply in reversed(below)]


def _order(tree: _Tree, sort: str) -> Callable[[RecordRow], tuple[int, float, float]]:
    state = tree.state
    author = state.actor_of(tree.root)
    chain = set(tree.chain)

    def rank(row: RecordRow) -> int:
        if row.id in chain:
            return 0
        if row.actor == author:
            return 1
        if row.actor == state.viewer:
            return 2
        return 3 if row.actor in state.following else 4

    def key(row: RecordRow) -> tuple[int, float, float]:
        time = float(tree.time_of(row))
        if sort == "newest":
            return rank(row), -time, 0.0
        if sort == "top":
            score = math.log(3 + (row.likes or 0)) * (1.45 if tree.is_liked_by_author(row) else 1.0)
            return rank(row), -score, -time
        return rank(row), time, 0.0

    return key


def _parents(tree: _Tree, presenter: Presenter, anchor: RecordRow) -> list[bytes]:
    """From the oldest down to the anchor's parent."""
    state = tree.state
    if (anchor.flags or 0) & BREAKS_THREAD_GATE:
        return []
    shown: list[tuple[RecordRow, int]] = []
    end: list[bytes] = []
    child = anchor
    for height, parent in enumerate(tree.above, 1):
        row = state.records[parent]
        uri = state.texts[child.id].parent_uri or ""
        third = not state.operator and state.blocking_each_other(child.actor, row.actor)
        if third or (state.sees_post(parent) and state.blocked(row.actor)):
            end = [_item(uri, -height, _blocked(presenter, row.actor))]
            break
        if not state.sees_post(parent):
            end = [_item(uri, -height, _of(b"threadItemNotFound"))]
            break
        if (row.id if row.root is None else row.root) != tree.root:
            break
        if tree.is_closed_to_guests(row.actor):
            end = [_item(uri, -height, _of(b"threadItemNoUnauthenticated"))]
            break
        shown.append((row, height))
        child = row
    items = [
        _post(
            tree,
            presenter,
            row,
            -height,
            more_replies=0,
            more_parents=height == len(shown) and not end and row.parent is not None,
        )
        for row, height in shown
    ]
    return [*items, *end][::-1]


def _post(
    tree: _Tree, presenter: Presenter, row: RecordRow, depth: int, *, more_replies: int, more_parents: bool
) -> bytes:
    view = presenter.post(row.id)
    assert view is not None
    place = tree.chain.index(row.id) if row.id in tree.chain else None
    op = b""
    if place is not None:
        op = b',"opThreadPostIndex":%d,"opThreadPostCount":%d' % (place + 1, len(tree.chain))
    apart = depth > 0
    value = (
        b'{"$type":"%bthreadItemPost","post":{%b},"moreParents":%b,"moreReplies":%d,"opThread":%b,'
        b'"hiddenByThreadgate":%b,"mutedByViewer":%b%b}'
    ) % (
        _SPACE,
        view,
        _bool(more_parents),
        more_replies,
        _bool(place is not None or row.id == tree.root),
        _bool(apart and tree.is_hidden(row)),
        _bool(apart and tree.is_muted(row)),
        op,
    )
    return _item(tree.state.texts[row.id].uri, depth, value)


def _item(uri: str, depth: int, value: bytes) -> bytes:
    return b'{"uri":%b,"depth":%d,"value":%b}' % (text(uri), depth, value)


def _blocked(presenter: Presenter, actor: int) -> bytes:
    return b'{"$type":"%bthreadItemBlocked","author":%b}' % (_SPACE, presenter.blocked_author(actor))


def _of(kind: bytes) -> bytes:
    return b'{"$type":"%b%b"}' % (_SPACE, kind)


def _bool(value: bool) -> bytes:
    return b"true" if value else b"false"


def _likes_by(state: State, root: int, posts: list[int]) -> dict[int, str]:
    author = state.actor_of(root)
    if author is None:
        return {}
    return post_reads.likes_of(state.reader, [(author, post) for post in posts])


def members(found: Found) -> bytes:
    """The answer's members."""
    gate = b"" if found.gate is None else b',"threadgate":' + found.gate
    return b'"thread":%b,"hasOtherReplies":%b%b' % (joined(found.items), _bool(found.has_others), gate)
