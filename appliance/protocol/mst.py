"""Merkle search trees: a repository's map from ``collection/rkey`` to record CIDs.

Trees are values: a change makes another tree. Nodes load when they are needed, so a tree over the
few blocks of a commit works as far as those reach. Format: https://atproto.com/specs/repository
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from appliance.errors import BadInput
from appliance.protocol import cid
from appliance.protocol.mst_edit import Edit
from appliance.protocol.mst_node import Node, check_key, decode_node, encode_node, height_of

BlockGetter: TypeAlias = Callable[[bytes], bytes | None]

_NODES_MAX: Final = 4096


class Missing(BadInput):
    """A block that the walk needs isn't there: of a partial tree nothing can be said beyond it."""

    def __init__(self, missing: bytes) -> None:
        super().__init__("a block of the tree is missing")
        self.cid = missing


class Diff(msgspec.Struct, frozen=True):
    """What turns one tree's map into another's; ``updated`` holds (before, after)."""

    added: dict[str, bytes]
    updated: dict[str, tuple[bytes, bytes]]
    deleted: dict[str, bytes]


class Tree:
    """The map under a root CID.

    ``get_block`` answers None for what it doesn't have; then methods raise ``Missing``. For a node
    that breaks a rule of the format they raise BadInput.
    """

    def __init__(self, get_block: BlockGetter, root: bytes) -> None:
        self.root = root
        self._get_block = get_block
        # Content has one name: trees that come from one another share these.
        self._made: dict[bytes, bytes] = {}
        self._nodes: dict[bytes, Node] = {}

    def get(self, key: str) -> bytes | None:
        """The record's CID, or None where the tree shows that there is none."""
        name = check_key(key)
        wanted = height_of(name)
        ref: bytes | None = self.root
        height = self.height()
        while ref is not None and height >= wanted:
            node = self._load(ref, height)
            at = node.place(name)
            if height == wanted:
                return node.cids[at] if at < len(node.keys) and node.keys[at] == name else None
            ref, height = node.kids[at], height - 1
        return None

    def items(self) -> Iterator[tuple[str, bytes]]:
        """All entries in the order of their keys; every rule is checked on the way."""
        last = b""
        cursor = _Cursor(self)
        while (head := cursor.head) is not None:
            if head.key is None:
                cursor.enter()
                continue
            if head.key <= last:
                raise BadInput("tree keys are repeated or out of order")
            last = head.key
            cursor.skip()
            yield last.decode(), head.cid

    def node_cids(self) -> Iterator[bytes]:
        """Of all nodes, parents before their children, left before right."""
        cursor = _Cursor(self)
        while (head := cursor.head) is not None:
            if head.key is None:
                yield head.cid
                cursor.enter()
            else:
                cursor.skip()

    def with_changes(self, changes: Mapping[str, bytes | None]) -> tuple[Tree, dict[bytes, bytes]]:
        """The tree with these keys set, or removed where the value is None, and its nodes that this
        tree doesn't have. Removing what isn't there changes nothing.

        The new tree remembers the new nodes; over many changes store them and begin a fresh ``Tree``.
        """
        edit = Edit(self._load, self.root, self.height())
        for key, value in changes.items():
            edit.change(check_key(key), value)
        root, made = edit.finish()
        new_blocks = {name: block for name, block in made.items() if name not in edit.visited}
        tree = Tree(self._get_block, root)
        tree._made = self._made
        tree._made.update(new_blocks)
        tree._nodes = self._nodes
        return tree, new_blocks

    def root_before(self, changes: Mapping[str, bytes | None]) -> bytes:
        """The root after these changes, found with as few nodes as can be; may be wrong where the tree
        is partial, so compare it with the one that you expect."""
        edit = Edit(self._load, self.root, self.height(), absent=lambda ref: self._find(ref) is None)
        # What was there before goes back first, so that the tree doesn't shrink on the way.
        for key, value in sorted(changes.items(), key=lambda change: change[1] is None):
            edit.change(check_key(key), value)
        return edit.finish()[0]

    def proof(self, key: str) -> dict[bytes, bytes]:
        """Nodes that prove the key's presence or absence, and suffice to undo its last change: its
        path, and from there the outer paths to its neighbours on both sides."""
        name = check_key(key)
        found: dict[bytes, bytes] = {}
        ref: bytes | None = self.root
        height = self.height()
        while ref is not None:
            node = self._prove(ref, height, found)
            at = node.place(name)
            if at < len(node.keys) and node.keys[at] == name:
                self._prove_edge(node.kids[at], height - 1, -1, found)
                self._prove_edge(node.kids[at + 1], height - 1, 0, found)
                break
            ref, height = node.kids[at], height - 1
        return found

    def height(self) -> int:
        """The level of the root; 0 for an empty tree and for one whose keys are all on level 0."""
        node = self._node(self.root)
        if node.height is None and node.kids[0] is not None:
            raise BadInput("empty node at the top of the tree")
        return node.height or 0

    def _prove(self, ref: bytes, height: int, found: dict[bytes, bytes]) -> Node:
        node = self._load(ref, height)
        found[ref] = encode_node(node.keys, node.cids, node.kids)
        return node

    def _prove_edge(self, ref: bytes | None, height: int, side: int, found: dict[bytes, bytes]) -> None:
        while ref is not None:
            ref, height = self._prove(ref, height, found).kids[side], height - 1

    def _load(self, ref: bytes, height: int) -> Node:
        node = self._node(ref)
        if node.height is not None and node.height != height:
            raise BadInput("tree key at the wrong depth")
        if not node.keys and node.kids[0] is None and ref != self.root:
            raise BadInput("empty node inside the tree")
        if height == 0 and node.kids.count(None) != len(node.kids):
            raise BadInput("tree deeper than its keys")
        return node

    def _find(self, ref: bytes) -> bytes | None:
        return self._made.get(ref) or self._get_block(ref)

    def _node(self, ref: bytes) -> Node:
        node = self._nodes.get(ref)
        if node is None:
            block = self._find(ref)
            if block is None:
                raise Missing(ref)
            node = decode_node(block)
            if len(self._nodes) >= _NODES_MAX:
                self._nodes.clear()
            self._nodes[ref] = node
        return node


def build(mapping: Mapping[str, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """Root and nodes of the tree of this map, made from the bottom up."""
    blocks: dict[bytes, bytes] = {}
    # One open node per level: keys, their CIDs, the children before each key and after the last.
    levels: list[_Level] = [([], [], [None])]
    for key in sorted(mapping):
        name = check_key(key)
        height = height_of(name)
        while len(levels) <= height:
            levels.append(([], [], [None]))
        if height:
            _close_below(levels, height, blocks)
        keys, cids, kids = levels[height]
        keys.append(name)
        cids.append(mapping[key])
        kids.append(None)
    _close_below(levels, len(levels) - 1, blocks)
    block = encode_node(*levels[-1])
    root = cid.cid_of(block)
    blocks[root] = block
    return root, blocks


def diff(old: Tree, new: Tree) -> Diff:
    """What changed; subtrees that both have are not read."""
    found = Diff({}, {}, {})
    left, right = _Cursor(old), _Cursor(new)
    while left.head is not None or right.head is not None:
        _step(left, right, found)
    return found


_Level: TypeAlias = tuple[list[bytes], list[bytes], list[bytes | None]]


def _close_below(levels: list[_Level], height: int, blocks: dict[bytes, bytes]) -> None:
    for level in range(height):
        keys, cids, kids = levels[level]
        if keys or kids[0] is not None:
            block = encode_node(keys, cids, kids)
            name = cid.cid_of(block)
            blocks[name] = block
            levels[level + 1][2][-1] = name
            levels[level] = ([], [], [None])


class _Head(NamedTuple):
    """An entry, or with ``key`` None a subtree that was not entered yet."""

    key: bytes | None
    cid: bytes
    height: int


class _Cursor:
    """A walk over a tree in the order of keys."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._stack = [_Head(None, tree.root, tree.height())]

    @property
    def head(self) -> _Head | None:
        return self._stack[-1] if self._stack else None

    def skip(self) -> None:
        self._stack.pop()

    def enter(self) -> None:
        _, ref, height = self._stack.pop()
        node = self._tree._load(ref, height)
        kid = node.kids[-1]
        if kid is not None:
            self._stack.append(_Head(None, kid, height - 1))
        for place in range(len(node.keys) - 1, -1, -1):
            self._stack.append(_Head(node.keys[place], node.cids[place], height))
            kid = node.kids[place]
            if kid is not None:
                self._stack.append(_Head(None, kid, height - 1))


def _step(left: _Cursor, right: _Cursor, found: Diff) -> None:
    a, b = left.head, right.head
    if a is not None and a.key is None and a == b:
        left.skip()
        right.skip()
    elif a is not None and a.key is None and (b is None or b.key is not None or a.height >= b.height):
        left.enter()
    elif b is not None and b.key is None:
        right.enter()
    elif b is None or (a is not None and _before(a, b)):
        assert a is not None
        assert a.key is not None
        found.deleted[a.key.decode()] = a.cid
        left.skip()
    elif a is None or _before(b, a):
        assert b.key is not None
        found.added[b.key.decode()] = b.cid
        right.skip()
    else:
        assert b.key is not None
        if a.cid != b.cid:
            found.updated[b.key.decode()] = (a.cid, b.cid)
        left.skip()
        right.skip()


def _before(a: _Head, b: _Head) -> bool:
    return a.key is not None and b.key is not None and a.key < b.key
