"""Sealed segment files of a Jetstream v2 archive, and their blocks alone. All numbers are little-endian.

A file is a header, blocks (a length, then one zstd frame) and a footer. Header and footer are covered by one
XXH3 checksum, each block by that of its own frame. Bad bytes raise BadInput, whatever is wrong with them.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, TypeAlias

import xxhash
import zstandard

from appliance.errors import BadInput

MAGIC: Final = b"jss0"
VERSION: Final = 1
HEADER_SIZE: Final = 256
ROWS_MAX: Final = 262_144
BODY_MAX: Final = 1 << 30
INDEX_MAX: Final = 64 << 20

CREATE: Final = 1
UPDATE: Final = 2
DELETE: Final = 3
IDENTITY: Final = 4
ACCOUNT: Final = 5
SYNC: Final = 6
# A record that was found when its whole repository was read anew: a create of unknown time.
RESYNC: Final = 7

# Magic, checksum, version, blocks, events, DIDs, seqs, times, offsets of the footer and its four parts.
_HEADER: Final = struct.Struct("<4sQHIIIQQqqQQQQQ")
_HASHED_FROM: Final = 12
_BLOCK: Final = struct.Struct("<QIIIQQqq")
_COLLECTIONS: Final = struct.Struct("<IIII")
_LENGTH: Final = struct.Struct("<Q")
_COUNT: Final = struct.Struct("<I")
_COLUMNS: Final = (("Q", 8), ("q", 8), ("q", 8), ("B", 1), ("B", 1), ("H", 2), ("B", 1), ("B", 1), ("I", 4))
_ROW_SIZE: Final = sum(size for _, size in _COLUMNS)
# https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.2
_ZSTD_BLOCK_MAX: Final = 128 << 10
_ZSTD_RLE: Final = 1
_ZSTD_CHECKSUM: Final = 4

Buffer: TypeAlias = bytes | memoryview


class Row(NamedTuple):
    """One event. ``rkey``, ``rev`` and ``collection`` are empty for what is about an account as a whole.

    ``time_us`` is when the archive's writer had it. ``payload`` is the record's DAG-CBOR, empty for a
    delete; for identity, account and sync the CBOR of the relay's event. Kinds that are not known yet come
    as they are.
    """

    seq: int
    time_us: int
    kind: int
    collection: str
    did: str
    rkey: str
    rev: str
    payload: bytes


class Block:
    """The rows of one block, still in columns: most are never looked at."""

    def __init__(self, body: bytes) -> None:
        """Raises BadInput unless the body is exactly that many rows."""
        if len(body) < _COUNT.size:
            raise BadInput("a block that is cut")
        self.rows: int = _COUNT.unpack_from(body)[0]
        at = _COUNT.size
        if self.rows > ROWS_MAX or len(body) < at + self.rows * _ROW_SIZE:
            raise BadInput("a block whose number of rows can't be")
        columns: list[Sequence[int]] = []
        for code, size in _COLUMNS:
            columns.append(struct.unpack_from(f"<{self.rows}{code}", body, at))
            at += size * self.rows
        self.seqs, self._witnessed, self._indexed, self._kinds, *lengths = columns
        # Collections, DIDs, rkeys, revs and payloads stand one column after another.
        self._ends: list[list[int]] = []
        for column in lengths:
            ends = list(accumulate(column, initial=at))
            at = ends[-1]
            self._ends.append(ends)
        if at != len(body):
            raise BadInput("a block that does not end with its last row")
        if any(before >= after for before, after in pairwise(self.seqs)):
            raise BadInput("a block whose numbers don't rise")
        if 0 in self._kinds:
            raise BadInput("a row without a kind")
        self._body = body

    def __len__(self) -> int:
        return self.rows

    @property
    def times_us(self) -> Sequence[int]:
        """When the archive's writer had each row, as the block index counts it."""
        return self._witnessed

    def chosen(
        self, dids: Collection[bytes] | None = None, collections: Collection[bytes] | None = None
    ) -> Iterator[Row]:
        """The rows of these DIDs and collections, in their order; None stands for all.

        What is about an account as a whole has the collection ``b""``. Raises BadInput for broken text.
        """
        body, seqs, ends = self._body, self.seqs, self._ends
        of_collection, of_did, of_rkey, of_rev, of_payload = ends
        for at in range(self.rows):
            did = body[of_did[at] : of_did[at + 1]]
            if dids is not None and did not in dids:
                continue
            collection = body[of_collection[at] : of_collection[at + 1]]
            if collections is not None and collection not in collections:
                continue
            try:
                yield Row(
                    seqs[at],
                    self._indexed[at] or self._witnessed[at],
                    self._kinds[at],
                    collection.decode(),
                    did.decode(),
                    body[of_rkey[at] : of_rkey[at + 1]].decode(),
                    body[of_rev[at] : of_rev[at + 1]].decode(),
                    body[of_payload[at] : of_payload[at + 1]],
                )
            except UnicodeDecodeError:
                raise BadInput("a row whose text is not UTF-8") from None


class BlockPlace(NamedTuple):
    """A block as the footer tells it; ``at`` is where its length stands. An emptied block has no events."""

    at: int
    compressed: int
    uncompressed: int
    events: int
    min_seq: int
    max_seq: int
    min_us: int
    max_us: int


class Indexed(NamedTuple):
    """How many rows a collection has in the file, and in which blocks. ``$account`` and so on are markers."""

    name: str
    events: int
    blocks: tuple[int, ...]


class Segment:
    """A whole sealed file: header and footer are checked when it is opened, each block when it is read."""

    def __init__(self, data: Buffer) -> None:
        """Raises BadInput."""
        view = memoryview(data)
        if len(view) < HEADER_SIZE:
            raise BadInput("a segment that is cut")
        (
            magic,
            checksum,
            version,
            blocks,
            self.events,
            self.dids,
            self.min_seq,
            self.max_seq,
            self.min_us,
            self.max_us,
            footer,
            did_bloom,
            block_blooms,
            collections,
            block_index,
        ) = _HEADER.unpack_from(view)
        if magic != MAGIC or version != VERSION:
            raise BadInput("not a segment file of version 1")
        if checksum == 0:
            raise BadInput("a segment that is still being written")
        if footer != block_index or not (
            HEADER_SIZE <= footer <= did_bloom <= block_blooms <= collections <= len(view)
        ):
            raise BadInput("a segment that is cut, or whose parts overlap")
        if checksum != _checksum(view, footer):
            raise BadInput("a segment whose checksum is wrong")
        if any(view[_HEADER.size : HEADER_SIZE]):
            raise BadInput("a segment whose header has an unknown part")
        if did_bloom - footer != blocks * _BLOCK.size:
            raise BadInput("a segment whose block index has another length")
        self.checksum = f"{checksum:016x}"
        self._view = view
        self.blocks = [
            BlockPlace(*_BLOCK.unpack_from(view, footer + number * _BLOCK.size)) for number in range(blocks)
        ]
        self._check_places(footer)
        self.collections = _collection_index(bytes(view[collections:]), blocks)

    def block(self, number: int, *, body_max: int = BODY_MAX) -> Block:
        """Its rows, compared with what the footer says of them. Raises BadInput."""
        place = self.blocks[number]
        at = place.at + _LENGTH.size
        body = inflate(bytes(self._view[at : at + place.compressed]), body_max)
        if len(body) != place.uncompressed:
            raise BadInput("a block of another length than the index says")
        block = Block(body)
        if len(block) != place.events:
            raise BadInput("a block with another number of rows than the index says")
        if block.rows:
            times = block.times_us
            # What was removed from a block may leave its bounds wider than its rows.
            if not (
                max(place.min_seq, self.min_seq) <= block.seqs[0]
                and block.seqs[-1] <= min(place.max_seq, self.max_seq)
                and max(place.min_us, self.min_us) <= min(times)
                and max(times) <= min(place.max_us, self.max_us)
            ):
                raise BadInput("a block of other rows than the index says")
        return block

    def _check_places(self, footer: int) -> None:
        """Blocks stand one after the other from the header to the footer."""
        at = HEADER_SIZE
        for place in self.blocks:
            if place.at != at or at + _LENGTH.size > footer:
                raise BadInput("a segment whose blocks don't follow each other")
            if _LENGTH.unpack_from(self._view, at) != (place.compressed,):
                raise BadInput("a block of another length than the index says")
            at += _LENGTH.size + place.compressed
        if at != footer:
            raise BadInput("a segment whose blocks don't reach to its footer")
        if sum(place.events for place in self.blocks) != self.events:
            raise BadInput("a segment with another number of rows than its blocks have")


def decode_block(frame: bytes, *, body_max: int = BODY_MAX) -> Block:
    """A block alone, as getBlock gives it: the frame without the length before it. Raises BadInput."""
    return Block(inflate(frame, body_max))


def inflate(frame: bytes, size_max: int) -> bytes:
    """What exactly one zstd frame holds that carries a checksum of its content. Raises BadInput.

    No more is allocated than the frame can really hold, whatever it says of itself.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        at = zstandard.frame_header_size(frame)
        told = zstandard.frame_content_size(frame)
    except zstandard.ZstdError:
        raise BadInput("not a zstd frame") from None
    if not parameters.has_checksum:
        raise BadInput("a frame without a checksum")
    size = min(_size_bound(frame, at), size_max)
    if told > size:
        raise BadInput("a frame that is larger than allowed")
    try:
        return zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=max(size, 1), allow_extra_data=False
        )
    except zstandard.ZstdError:
        raise BadInput("a frame that does not decompress") from None


def _size_bound(frame: bytes, at: int) -> int:
    """The most that the frame can hold, by its number of blocks. Raises BadInput for one that is cut."""
    size = 0
    last = False
    while not last:
        if at + 3 > len(frame):
            raise BadInput("a frame that is cut")
        head = int.from_bytes(frame[at : at + 3], "little")
        last = bool(head & 1)
        at += 3 + (1 if head >> 1 & 3 == _ZSTD_RLE else head >> 3)
        size += _ZSTD_BLOCK_MAX
    if at + _ZSTD_CHECKSUM != len(frame):
        raise BadInput("a frame that is cut, or something after a frame")
    return size


def _checksum(view: memoryview, footer: int) -> int:
    """XXH3, 64 bits, of the header behind the checksum's place and of the footer."""
    hashed = xxhash.xxh3_64(view[_HASHED_FROM:HEADER_SIZE])
    hashed.update(view[footer:])
    return hashed.intdigest()


def _collection_index(data: bytes, blocks: int) -> list[Indexed]:
    """Names with their number of rows, then for each block a mask of the collections that it has rows of."""
    if len(data) < _COLLECTIONS.size:
        raise BadInput("a collection index that is cut")
    number, masks, mask_size, size = _COLLECTIONS.unpack_from(data)
    if masks != blocks or size > INDEX_MAX or mask_size != (number + 7) // 8:
        raise BadInput("a collection index of other sizes than its segment has")
    text = inflate(data[_COLLECTIONS.size :], size)
    if len(text) != size:
        raise BadInput("a collection index of another length than it says")
    named: list[tuple[str, int]] = []
    at = 0
    try:
        for _ in range(number):
            length = text[at]
            (events,) = _COUNT.unpack_from(text, at + 1)
            at += 1 + _COUNT.size
            if at + length > size:
                raise BadInput("a collection index that is cut")
            named.append((text[at : at + length].decode(), events))
            at += length
    except (IndexError, struct.error, UnicodeDecodeError):
        raise BadInput("a collection index that makes no sense") from None
    if at + blocks * mask_size != size:
        raise BadInput("a collection index that does not end with its last mask")
    bits = [
        int.from_bytes(text[at + block * mask_size : at + (block + 1) * mask_size], "little")
        for block in range(blocks)
    ]
    return [
        Indexed(name, events, tuple(block for block in range(blocks) if bits[block] >> place & 1))
        for place, (name, events) in enumerate(named)
    ]
