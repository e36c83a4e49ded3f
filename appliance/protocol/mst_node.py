"""One node of a Merkle search tree as a block, and the rules that hold inside it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from appliance.errors import BadInput
from appliance.protocol import cbor
from appliance.protocol.cbor_exact import head

# https://atproto.com/specs/repository
KEY_MAX: Final = 1024
# A node of n entries by chance has odds of 0.75 ** n: more than this was mined to hurt.
ENTRIES_MAX: Final = 1024

_KEY = re.compile(rb"[A-Za-z0-9_~.:-]+/[A-Za-z0-9_~.:-]+")
_LINK = b"\xd8\x2a\x58\x25\x00"
_NULL = b"\xf6"
# An entry's fields are named k, p, t and v: what stands between their contents, by length or number.
_SUFFIX = [b"\xa4\x61k" + head(2, length) for length in range(2 * KEY_MAX)]
_SHARED = [b"\x61p" + head(0, number) + b"\x61t" for number in range(2 * KEY_MAX)]
_VALUE = b"\x61v" + _LINK


class Node:
    """``kids[i]`` stands before ``keys[i]``, the last one after all. ``height`` is None without keys."""

    __slots__ = ("cids", "height", "keys", "kids")

    def __init__(
        self, keys: list[bytes], cids: list[bytes], kids: list[bytes | None], height: int | None
    ) -> None:
        self.keys = keys
        self.cids = cids
        self.kids = kids
        self.height = height

    def place(self, key: bytes) -> int:
        """Of the first key that isn't less."""
        return bisect_left(self.keys, key)


def height_of(key: bytes) -> int:
    """The level that a key belongs to: pairs of zero bits that its SHA-256 begins with."""
    digest = sha256(key).digest()
    # Three of four keys are on level 0, seen from the first byte alone.
    if digest[0] >= 64:
        return 0
    return (256 - int.from_bytes(digest, "big").bit_length()) // 2


def check_key(key: str) -> bytes:
    """The key as bytes; raises BadInput unless it is ``collection/rkey`` of allowed characters."""
    try:
        name = key.encode("ascii")
    except UnicodeEncodeError:
        raise BadInput("not a repository path") from None
    if len(name) > KEY_MAX or _KEY.fullmatch(name) is None:
        raise BadInput("not a repository path")
    return name


def common_prefix(left: bytes, right: bytes) -> int:
    """How many bytes both begin with."""
    shorter = min(len(left), len(right))
    # Equal bytes at the start become zeros at the top of the number.
    number = int.from_bytes(left[:shorter], "big") ^ int.from_bytes(right[:shorter], "big")
    return shorter - (number.bit_length() + 7) // 8


def encode_node(keys: Sequence[bytes], cids: Sequence[bytes], kids: Sequence[bytes | None]) -> bytes:
    """The canonical block; ``kids`` is one longer than ``keys``."""
    parts = [b"\xa2\x61e", head(4, len(keys))]
    last = b""
    for key, value, kid in zip(keys, cids, kids[1:], strict=True):
        shared = common_prefix(last, key) if last else 0
        suffix = key[shared:]
        parts += (
            _SUFFIX[len(suffix)],
            suffix,
            _SHARED[shared],
            _NULL if kid is None else _LINK + kid,
            _VALUE,
            value,
        )
        last = key
    kid = kids[0]
    parts += (b"\x61l", _NULL if kid is None else _LINK + kid)
    return b"".join(parts)


def decode_node(block: bytes) -> Node:
    """Raises BadInput unless the block is canonical, its keys rise, are allowed, and share a height."""
    try:
        fields = cbor.decode_loosely(block)
        keys: list[bytes] = []
        cids: list[bytes] = []
        kids: list[bytes | None] = [fields["l"]]
        last = b""
        for entry in fields["e"]:
            last = last[: entry["p"]] + entry["k"]
            keys.append(last)
            cids.append(entry["v"])
            kids.append(entry["t"])
        # Whatever else the block may have been, this is the one right way to write these entries.
        if encode_node(keys, cids, kids) != block:
            raise BadInput("tree node is not in its canonical form")
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadInput("not a tree node") from None
    return Node(keys, cids, kids, _check_keys(keys))


def _check_keys(keys: list[bytes]) -> int | None:
    if len(keys) > ENTRIES_MAX:
        raise BadInput("tree node with too many entries")
    last = b""
    height: int | None = None
    for key in keys:
        if key <= last:
            raise BadInput("tree keys are repeated or out of order")
        if len(key) > KEY_MAX or _KEY.fullmatch(key) is None:
            raise BadInput("tree key that is no repository path")
        found = height_of(key)
        if height is not None and found != height:
            raise BadInput("tree key at the wrong depth")
        last, height = key, found
    return height
