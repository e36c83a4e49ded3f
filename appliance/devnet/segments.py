"""Writes sealed segment files of a Jetstream v2 archive, as ``protocol/segments.py`` reads them.

The Bloom filters of the footer stay empty: whoever reads is told by the plan which blocks to take.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import xxhash
import zstandard

KINDS = {"create": 1, "update": 2, "delete": 3, "identity": 4, "account": 5, "sync": 6, "resync": 7}
_MARKERS = {4: "$identity", 5: "$account", 6: "$sync"}
_WITH_CHECKSUM = zstandard.ZstdCompressor(level=3, write_checksum=True)


class Line(NamedTuple):
    """One event as the archive keeps it; ``indexed_us`` 0 says the same as ``witnessed_us``."""

    seq: int
    witnessed_us: int
    kind: int
    did: str
    collection: str = ""
    rkey: str = ""
    rev: str = ""
    payload: bytes = b""
    indexed_us: int = 0


class Sealed(NamedTuple):
    """A file with what its plan needs to know of it."""

    data: bytes
    checksum: str
    frames: list[bytes]
    blocks: list[list[Line]]


def body(lines: Sequence[Line]) -> bytes:
    """A block before compression."""
    texts = [
        (line.collection.encode(), line.did.encode(), line.rkey.encode(), line.rev.encode(), line.payload)
        for line in lines
    ]
    parts = [struct.pack("<I", len(lines))]
    parts += [struct.pack("<Q", line.seq) for line in lines]
    parts += [struct.pack("<q", line.witnessed_us) for line in lines]
    parts += [struct.pack("<q", line.indexed_us) for line in lines]
    parts += [struct.pack("<B", line.kind) for line in lines]
    for column, code in enumerate("BHBBI"):
        parts += [struct.pack(f"<{code}", len(row[column])) for row in texts]
    for column in range(5):
        parts += [row[column] for row in texts]
    return b"".join(parts)


def frame(lines: Sequence[Line]) -> bytes:
    """A block as getBlock gives it."""
    return _WITH_CHECKSUM.compress(body(lines))


def seal(blocks: Sequence[Sequence[Line]], bounds: tuple[int, int] | None = None) -> Sealed:
    """A file of these blocks. ``bounds`` are its first and last seq where the rows of these were removed."""
    frames = [frame(lines) for lines in blocks]
    parts: list[bytes] = []
    index: list[bytes] = []
    at = 256
    for lines, packed in zip(blocks, frames, strict=True):
        seqs = [line.seq for line in lines] or [0]
        times = [line.witnessed_us for line in lines] or [0]
        parts.append(struct.pack("<Q", len(packed)) + packed)
        index.append(
            struct.pack(
                "<QIIIQQqq",
                at,
                len(packed),
                len(body(lines)),
                len(lines),
                min(seqs),
                max(seqs),
                min(times),
                max(times),
            )
        )
        at += len(parts[-1])
    lines = [line for block in blocks for line in block]
    first, last = bounds or (lines[0].seq, lines[-1].seq)
    times = [line.witnessed_us for line in lines] or [0]
    blooms_at = at + sum(map(len, index))
    footer = b"".join(index) + struct.pack("<II", 0, 0)
    collections_at = at + len(footer)
    footer += _collection_index(blocks)
    tail = struct.pack(
        "<HIIIQQqqQQQQQ",
        1,
        len(blocks),
        len(lines),
        len({line.did for line in lines}),
        first,
        last,
        min(times),
        max(times),
        at,
        blooms_at,
        blooms_at,
        collections_at,
        at,
    ).ljust(244, b"\0")
    checksum = xxhash.xxh3_64_intdigest(tail + footer)
    data = b"jss0" + struct.pack("<Q", checksum) + tail + b"".join(parts) + footer
    return Sealed(data, f"{checksum:016x}", frames, [list(block) for block in blocks])


def _collection_index(blocks: Sequence[Sequence[Line]]) -> bytes:
    held = [Counter(_MARKERS.get(line.kind, line.collection) for line in block) for block in blocks]
    total: Counter[str] = sum(held, Counter())
    names = sorted(total)
    mask_size = (len(names) + 7) // 8
    text = b"".join(struct.pack("<BI", len(name.encode()), total[name]) + name.encode() for name in names)
    for block in held:
        mask = sum(1 << place for place, name in enumerate(names) if name in block)
        text += mask.to_bytes(mask_size, "little")
    head = struct.pack("<IIII", len(names), len(blocks), mask_size, len(text))
    return head + _WITH_CHECKSUM.compress(text)
