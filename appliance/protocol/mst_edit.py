"""Changing a Merkle search tree: puts and removals on nodes that have no block yet."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TypeAlias

from appliance.protocol import cid
from appliance.protocol.mst_node import Node, encode_node, height_of


class Draft:
    """A node being made. Its kids are CIDs, other drafts, or nothing."""

    __slots__ = ("cids", "keys", "kids")

    def __init__(self, keys: list[bytes], cids: list[bytes], kids: list[Ref]) -> None:
        self.keys = keys
        self.cids = cids
        self.kids = kids


Ref: TypeAlias = bytes | Draft | None


class Edit:
    """One set of changes to one tree. ``visited`` are the tree's nodes that they touched: only
    these can come out of the changes as they were.

    A node that ``absent`` knows to be out of reach is taken for a good top of the tree. Only for roots
    that will be compared with a known one: a wrong guess shows there.
    """

    def __init__(
        self,
        load: Callable[[bytes, int], Node],
        root: bytes,
        height: int,
        *,
        absent: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._absent = absent
        self._load = load
        self._top: Ref = root
        self._height = height
        self.visited: set[bytes] = set()

    def change(self, key: bytes, value: bytes | None) -> None:
        """Set the key, or remove it with None; removing what isn't there does nothing."""
        if value is None:
            self._top = self._remove(self._top, self._height, key, height_of(key))
            self._trim()
        else:
            self._set(key, value)

    def finish(self) -> tuple[bytes, dict[bytes, bytes]]:
        """The new root, and every node that was made anew."""
        made: dict[bytes, bytes] = {}
        root = _finish(self._top, made)
        if root is None:
            root = _finish_one(Draft([], [], [None]), made)
        return root, made

    def _set(self, key: bytes, value: bytes) -> None:
        wanted = height_of(key)
        if wanted > self._height:
            left, right = self._split(self._top, self._height, key)
            for _ in range(wanted - self._height - 1):
                left, right = _wrap(left), _wrap(right)
            self._top, self._height = Draft([key], [value], [left, right]), wanted
        else:
            self._top = self._put(self._top, self._height, key, wanted, value)

    def _draft(self, ref: Ref, height: int) -> Draft:
        if isinstance(ref, Draft):
            return ref
        if ref is None:
            return Draft([], [], [None])
        self.visited.add(ref)
        node = self._load(ref, height)
        return Draft(list(node.keys), list(node.cids), list(node.kids))

    def _put(self, ref: Ref, height: int, key: bytes, wanted: int, value: bytes) -> Ref:
        node = self._draft(ref, height)
        at = bisect_left(node.keys, key)
        if wanted < height:
            node.kids[at] = self._put(node.kids[at], height - 1, key, wanted, value)
        elif at < len(node.keys) and node.keys[at] == key:
            node.cids[at] = value
        else:
            left, right = self._split(node.kids[at], height - 1, key)
            node.keys.insert(at, key)
            node.cids.insert(at, value)
            node.kids[at : at + 1] = [left, right]
        return node

    def _remove(self, ref: Ref, height: int, key: bytes, wanted: int) -> Ref:
        if ref is None or wanted > height:
            return ref
        node = self._draft(ref, height)
        at = bisect_left(node.keys, key)
        if wanted < height:
            node.kids[at] = self._remove(node.kids[at], height - 1, key, wanted)
        elif at < len(node.keys) and node.keys[at] == key:
            merged = self._merge(node.kids[at], node.kids[at + 1], height - 1)
            del node.keys[at], node.cids[at]
            node.kids[at : at + 2] = [merged]
        return _or_none(node)

    def _split(self, ref: Ref, height: int, key: bytes) -> tuple[Ref, Ref]:
        if ref is None:
            return None, None
        node = self._draft(ref, height)
        at = bisect_left(node.keys, key)
        left, right = self._split(node.kids[at], height - 1, key)
        return (
            _or_none(Draft(node.keys[:at], node.cids[:at], [*node.kids[:at], left])),
            _or_none(Draft(node.keys[at:], node.cids[at:], [right, *node.kids[at + 1 :]])),
        )

    def _merge(self, left: Ref, right: Ref, height: int) -> Ref:
        if left is None or right is None:
            return right if left is None else left
        a, b = self._draft(left, height), self._draft(right, height)
        middle = self._merge(a.kids[-1], b.kids[0], height - 1)
        return Draft(a.keys + b.keys, a.cids + b.cids, [*a.kids[:-1], middle, *b.kids[1:]])

    def _trim(self) -> None:
        # A top without keys isn't written, down to the first node that has some.
        while self._top is not None and self._height > 0:
            if self._absent is not None and isinstance(self._top, bytes) and self._absent(self._top):
                return
            top = self._draft(self._top, self._height)
            if top.keys:
                return
            self._top, self._height = top.kids[0], self._height - 1
        if self._top is None:
            self._height = 0


def _or_none(node: Draft) -> Ref:
    return node if node.keys or node.kids[0] is not None else None


def _wrap(ref: Ref) -> Ref:
    return None if ref is None else Draft([], [], [ref])


def _finish(ref: Ref, made: dict[bytes, bytes]) -> bytes | None:
    return _finish_one(ref, made) if isinstance(ref, Draft) else ref


def _finish_one(draft: Draft, made: dict[bytes, bytes]) -> bytes:
    block = encode_node(draft.keys, draft.cids, [_finish(kid, made) for kid in draft.kids])
    name = cid.cid_of(block)
    made[name] = block
    return name
