"""CAR files: blocks in a row, each hashed before anyone sees it.

Format: https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from appliance.errors import BadInput
from appliance.protocol import cbor, cid
from appliance.protocol.datamodel import Link

HEADER_MAX: Final = 4096
# A record is at most 1 MB in a commit; trees' nodes stay far below.
BLOCK_MAX: Final = 2_000_000


class Car(msgspec.Struct, frozen=True):
    """``blocks`` by CID; ``roots`` as the header names them, present or not."""

    roots: tuple[bytes, ...]
    blocks: dict[bytes, bytes]

    @property
    def root(self) -> bytes:
        """The first root; raises BadInput where the header names none."""
        if not self.roots:
            raise BadInput("a CAR without a root")
        return self.roots[0]


def read(data: bytes) -> Car:
    """All of a CAR; raises BadInput if anything in it is cut, unknown or doesn't match its CID."""
    length, start = _varint(data, 0)
    if not 0 < length <= HEADER_MAX:
        raise BadInput("CAR header of a wrong size")
    at = start + length
    roots = _roots(data[start:at])
    blocks: dict[bytes, bytes] = {}
    end = len(data)
    while at < end:
        # Nearly every length takes two bytes.
        if at + 1 < end and (high := data[at + 1]) < 0x80 <= data[at]:
            length, at = (data[at] & 0x7F) | high << 7, at + 2
        else:
            length, at = _varint(data, at)
        body = at + 36
        at += length
        if at > end:
            raise BadInput("CAR is cut short")
        name = data[body - 36 : body]
        _check_prefix(name, length)
        block = data[body:at]
        if sha256(block).digest() != name[4:]:
            raise BadInput("a CAR block doesn't match its CID")
        blocks[name] = block
    return Car(roots, blocks)


def write(root: bytes, blocks: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR with one root; the root's block comes first where it is there, the rest as given."""
    pairs = blocks.items() if isinstance(blocks, Mapping) else blocks
    rest = []
    first = b""
    for name, block in pairs:
        if name == root:
            first = frame(name, block)
        else:
            rest.append(frame(name, block))
    return b"".join((header([root]), first, *rest))


def header(roots: Iterable[bytes]) -> bytes:
    """The beginning of a CAR, for writing one in pieces."""
    block = cbor.encode({"roots": [Link(root) for root in roots], "version": 1})
    return _to_varint(len(block)) + block


def frame(name: bytes, block: bytes) -> bytes:
    """One block of a CAR, for writing one in pieces."""
    return _to_varint(len(name) + len(block)) + name + block


class Reader:
    """A CAR that arrives in chunks. Holds at most one block and one chunk."""

    def __init__(self, *, block_max: int = BLOCK_MAX) -> None:
        self._block_max = block_max
        self._rest = bytearray()
        self._needed = 0  # no item is complete before this many bytes are here
        self._roots: tuple[bytes, ...] | None = None

    @property
    def roots(self) -> tuple[bytes, ...]:
        """As the header names them; raises BadInput until it has arrived."""
        if self._roots is None:
            raise BadInput("CAR is cut short")
        return self._roots

    @property
    def root(self) -> bytes:
        """The first root; raises BadInput where there is none, or none yet."""
        if not self.roots:
            raise BadInput("a CAR without a root")
        return self.roots[0]

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """The blocks that are complete with this chunk; raises BadInput as ``read`` does."""
        self._rest += chunk
        if len(self._rest) < self._needed:
            return []
        data = bytes(self._rest)
        found: list[tuple[bytes, bytes]] = []
        used = 0
        for start, end in self._items(data):
            if self._roots is None:
                self._roots = _roots(data[start:end])
            else:
                name = data[start : start + 36]
                _check_prefix(name, end - start)
                block = data[start + 36 : end]
                if sha256(block).digest() != name[4:]:
                    raise BadInput("a CAR block doesn't match its CID")
                found.append((name, block))
            used = end
        del self._rest[:used]
        self._needed -= used
        return found

    def close(self) -> None:
        """Nothing more comes; raises BadInput if a block was cut, or there was no header.

        A cut between two blocks can't be seen here: walk the tree.
        """
        if self._rest or self._roots is None:
            raise BadInput("CAR is cut short")

    def _items(self, data: bytes) -> Iterator[tuple[int, int]]:
        at = 0
        while at < len(data):
            try:
                length, start = _varint(data, at)
            except _Cut:
                return
            limit = self._block_max + 36 if self._roots is not None else HEADER_MAX
            if not 0 < length <= limit:
                raise BadInput("CAR block of a wrong size")
            at = self._needed = start + length
            if at > len(data):
                return
            yield start, at


class _Cut(BadInput):
    """The data ends inside a number."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(5):
        if at + place >= len(data):
            raise _Cut("CAR is cut short")
        byte = data[at + place]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if byte == 0 and place:
                raise BadInput("CAR number longer than needed")
            return number, at + place + 1
    raise BadInput("CAR number out of range")


def _to_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _check_prefix(name: bytes, length: int) -> None:
    if length < 36 or name[:4] not in (cid.DATA_PREFIX, cid.BLOB_PREFIX):
        raise BadInput("a CAR block with a CID of an unknown kind")


def _roots(block: bytes) -> tuple[bytes, ...]:
    head = cbor.decode(block)
    if not isinstance(head, dict) or head.get("version") != 1 or not isinstance(head.get("roots"), list):
        raise BadInput("not a CAR of version 1")
    roots = head["roots"]
    if not all(isinstance(root, Link) for root in roots):
        raise BadInput("CAR root that is no CID")
    return tuple(bytes(root) for root in roots)
