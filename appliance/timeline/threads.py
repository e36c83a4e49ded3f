"""Threads: a post with what it answers and what answers it.

No step recurses: threads are as deep as people like.
"""

from __future__ import annotations

from appliance.store import post_reads
from appliance.store.post_reads import RecordRow
from appliance.store.timeline import BREAKS_THREAD_GATE
from appliance.timeline.hydration import State
from appliance.timeline.json_text import text
from appliance.timeline.names import LIKE
from appliance.timeline.presenting import Presenter

# Beyond that the nearest replies are shown: an answer has to arrive within seconds.
REPLIES_MAX = 5000

_HEAD = b'{"$type":"app.bsky.feed.defs#threadViewPost","post":{'


def thread(state: State, anchor: int, uri: str, depth: int, height: int) -> bytes | None:
    """The thread around a post as nested threadViewPosts; None where the post does not exist."""
    above = without_circle(anchor, post_reads.above(state.reader, anchor, height))
    below = post_reads.below(state.reader, anchor, depth, REPLIES_MAX)
    children: dict[int, list[int]] = {}
    seen = {anchor}
    for reply, parent in below:
        if reply not in seen:
            seen.add(reply)
            children.setdefault(parent, []).append(reply)
    _load(state, [anchor, *above, *(i for i in seen if i != anchor)])
    if not state.sees_post(anchor):
        return None
    row = state.records[anchor]
    presenter = Presenter(state)
    if state.blocked(row.actor):
        return presenter.blocked_post(uri, row.actor)
    return _write(state, presenter, row, above, children, depth)


def gate(state: State, anchor: int) -> bytes:
    """The member that says who may answer in the thread, where its author said so."""
    row = state.records[anchor]
    view = Presenter(state).things.thread_gate(_root_of(row))
    return b"" if view is None else b',"threadgate":' + view


def without_circle(anchor: int, above: list[int]) -> list[int]:
    """Edited posts can answer each other: the way up ends where it comes back to itself."""
    seen = {anchor}
    for place, post in enumerate(above):
        if post in seen:
            return above[:place]
        seen.add(post)
    return above


def _load(state: State, ids: list[int]) -> None:
    state.load_posts(ids, with_context=False)
    # A parent that is not shown has an author all the same, and may be blocked.
    rows = [state.records[i] for i in ids if i in state.records]
    state.load_records(i for row in rows for i in (row.parent, row.root))
    pairs = []
    for row in rows:
        parent = state.actor_of(row.parent)
        if parent is not None:
            pairs.append((row.actor, parent))
    state.finish(pairs=pairs)


def _write(
    state: State,
    presenter: Presenter,
    anchor: RecordRow,
    above: list[int],
    children: dict[int, list[int]],
    depth: int,
) -> bytes:
    root = _root_of(anchor)
    likes = _root_author_likes(state, anchor, root, [*above, *(i for c in children.values() for i in c)])
    post = presenter.post(anchor.id)
    assert post is not None
    parts = [_HEAD, post, b"}", _context(likes.get(anchor.id))]
    if not (anchor.flags or 0) & BREAKS_THREAD_GATE:
        _write_above(state, presenter, anchor, root, above, likes, parts)
        if depth > 0:
            _write_below(state, presenter, anchor.id, root, children, depth, likes, parts)
    parts.append(b"}")
    return b"".join(parts)


def _write_above(
    state: State,
    presenter: Presenter,
    anchor: RecordRow,
    root: int,
    above: list[int],
    likes: dict[int, bytes],
    parts: list[bytes],
) -> None:
    child, closing = anchor, 0
    for parent in above:
        row = state.records[parent]
        uri = state.texts[child.id].parent_uri or ""
        if not state.operator and state.blocking_each_other(child.actor, row.actor):
            parts += [b',"parent":', presenter.blocked_post(uri, row.actor)]
            break
        if not state.sees_post(parent):
            parts += [b',"parent":', presenter.not_found_post(uri)]
            break
        if _root_of(row) != root:
            break
        if state.blocked(row.actor):
            parts += [b',"parent":', presenter.blocked_post(uri, row.actor)]
            break
        post = presenter.post(parent)
        assert post is not None
        parts += [b',"parent":', _HEAD, post, b"}", _context(likes.get(parent))]
        closing += 1
        child = row
    parts.append(b"}" * closing)


def _write_below(
    state: State,
    presenter: Presenter,
    anchor: int,
    root: int,
    children: dict[int, list[int]],
    depth: int,
    likes: dict[int, bytes],
    parts: list[bytes],
) -> None:
    # One entry for each open "replies" array: what is left of it.
    open_arrays = [iter(children.get(anchor, ()))]
    firsts = [True]
    parts.append(b',"replies":[')
    while open_arrays:
        reply = next(open_arrays[-1], None)
        if reply is None:
            open_arrays.pop()
            firsts.pop()
            # Closes the array, and the post that it belongs to unless that is the anchor.
            parts.append(b"]}" if open_arrays else b"]")
            continue
        row = state.records[reply]
        parent = state.actor_of(row.parent)
        if (row.flags or 0) & BREAKS_THREAD_GATE or _root_of(row) != root or not state.sees_post(reply):
            continue
        if not state.operator and parent is not None and state.blocking_each_other(row.actor, parent):
            continue
        if not firsts[-1]:
            parts.append(b",")
        firsts[-1] = False
        if state.blocked(row.actor):
            parts.append(presenter.blocked_post(state.texts[reply].uri, row.actor))
            continue
        post = presenter.post(reply)
        assert post is not None
        parts += [_HEAD, post, b"}", _context(likes.get(reply))]
        if len(open_arrays) < depth:
            parts.append(b',"replies":[')
            open_arrays.append(iter(children.get(reply, ())))
            firsts.append(True)
        else:
            parts.append(b"}")


def _root_of(row: RecordRow) -> int:
    return row.id if row.root is None else row.root


def _root_author_likes(state: State, anchor: RecordRow, root: int, others: list[int]) -> dict[int, bytes]:
    """Post to the address of the like that the thread's author gave it."""
    author = state.actor_of(root)
    if author is None:
        return {}
    did = state.actors[author].did
    posts = [anchor.id, *others]
    found = post_reads.likes_of(state.reader, [(author, post) for post in posts])
    return {post: text(f"at://{did}/{LIKE}/{rkey}") for post, rkey in found.items()}


def _context(like: bytes | None) -> bytes:
    return b',"threadContext":{}' if like is None else b',"threadContext":{"rootAuthorLike":%b}' % like
