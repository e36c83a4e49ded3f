"""MP4 files as cameras and encoders write them: which samples each track has, where, and when.

ISO/IEC 14496-12. Everything in the file is somebody's claim: what doesn't fit together is BadInput.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat
from typing import BinaryIO, NamedTuple

import msgspec

from appliance.errors import BadInput

MOOV_BYTES_MAX = 16_000_000
SAMPLES_MAX = 1_000_000
TRACKS_MAX = 4
BOXES_MAX = 10_000
_KINDS = {b"vide", b"soun"}


class Sample(NamedTuple):
    """One picture or bit of sound: its bytes in the file, and its time in the track's own units."""

    offset: int
    size: int
    decode: int
    duration: int
    composition: int
    sync: bool


class Track(msgspec.Struct, frozen=True):
    """``stsd``, ``tkhd``, ``mdhd``, ``hdlr`` and ``head`` (vmhd or smhd) are boxes as they stand there."""

    number: int
    kind: str
    timescale: int
    delay: int
    shift: int
    tkhd: bytes
    mdhd: bytes
    hdlr: bytes
    head: bytes
    dinf: bytes
    stsd: bytes
    samples: list[Sample]


class Movie(msgspec.Struct, frozen=True):
    """Video and sound of a file."""

    mvhd: bytes
    tracks: list[Track]

    @property
    def video(self) -> Track:
        return next(track for track in self.tracks if track.kind == "vide")


def read(file: BinaryIO, size: int) -> Movie:
    """Raises BadInput for what is no MP4, has no pictures, or is in fragments already."""
    try:
        return _movie(_moov(file, size), size)
    except (struct.error, LookupError, OverflowError, ValueError) as error:
        raise BadInput("this video's tables can't be read") from error


def is_mp4(start: bytes) -> bool:
    """Whether a file that begins so says that it is one."""
    return len(start) >= 12 and start[4:8] == b"ftyp"


def _moov(file: BinaryIO, size: int) -> bytes:
    at = 0
    for _ in range(BOXES_MAX):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, name = struct.unpack(">I4s", head[:8])
        start = 8
        if length == 1:
            (length,), start = struct.unpack(">Q", head[8:16]), 16
        elif length == 0:
            length = size - at
        if length < start or at + length > size:
            break
        if name == b"moov":
            if length > MOOV_BYTES_MAX:
                raise BadInput("this video's tables are too large")
            file.seek(at + start)
            return file.read(length - start)
        at += length
    raise BadInput("this is no whole MP4")


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of the boxes in a row. Raises BadInput."""
    at = 0
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        start = 8
        if length == 1:
            (length,), start = struct.unpack_from(">Q", data, at + 8), 16
        elif length == 0:
            length = len(data) - at
        if length < start or at + length > len(data):
            raise BadInput("a box reaches beyond its end")
        yield name, data[at + start : at + length]
        at += length


def _inside(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, content in boxes(data):
        found.setdefault(name, content)
    return found


def _movie(moov: bytes, size: int) -> Movie:
    top = _inside(moov)
    if b"mvex" in top:
        raise BadInput("this video is in fragments already")
    movie_scale = _timescale(top[b"mvhd"]) if b"mvhd" in top else 0
    tracks: list[Track] = []
    for name, content in boxes(moov):
        if name == b"trak" and len(tracks) < TRACKS_MAX:
            track = _track(content, movie_scale, size)
            if track is not None:
                tracks.append(track)
    kinds = [track.kind for track in tracks]
    if movie_scale < 1 or kinds.count("vide") != 1:
        raise BadInput("this video has no pictures")
    if sum(len(track.samples) for track in tracks) > SAMPLES_MAX:
        raise BadInput("this video has too many pieces")
    return Movie(top[b"mvhd"], tracks)


def _track(content: bytes, movie_scale: int, size: int) -> Track | None:
    trak = _inside(content)
    media = _inside(trak.get(b"mdia", b""))
    hdlr = media.get(b"hdlr", b"")
    if hdlr[8:12] not in _KINDS:
        return None
    info = _inside(media.get(b"minf", b""))
    tables = _inside(info.get(b"stbl", b""))
    if not {b"stsd", b"stts", b"stsc", b"stsz"} <= set(tables) or b"mdhd" not in media or b"tkhd" not in trak:
        raise BadInput("a table is missing")
    timescale = _timescale(media[b"mdhd"])
    if timescale < 1:
        raise BadInput("a track without time")
    delay, shift = _edits(_inside(trak.get(b"edts", b"")).get(b"elst"), movie_scale, timescale)
    tkhd = trak[b"tkhd"]
    (number,) = struct.unpack_from(">I", tkhd, 20 if tkhd[0] else 12)
    return Track(
        number,
        hdlr[8:12].decode(),
        timescale,
        delay,
        shift,
        tkhd,
        media[b"mdhd"],
        hdlr,
        _box_of(info, (b"vmhd", b"smhd")),
        _box_of(info, (b"dinf",)),
        tables[b"stsd"],
        _samples(tables, size),
    )


def _box_of(found: dict[bytes, bytes], names: Sequence[bytes]) -> bytes:
    for name in names:
        if name in found:
            return struct.pack(">I4s", len(found[name]) + 8, name) + found[name]
    return b""


def _timescale(head: bytes) -> int:
    return int(struct.unpack_from(">I", head, 20 if head[0] else 12)[0])


def _edits(elst: bytes | None, movie_scale: int, timescale: int) -> tuple[int, int]:
    """How much later the track begins, and how much of its beginning is not shown."""
    if elst is None or movie_scale < 1:
        return 0, 0
    (count,) = struct.unpack_from(">I", elst, 4)
    form = ">Qqi" if elst[0] else ">Iii"
    delay = shift = 0
    for n in range(min(count, 2)):
        duration, start, _ = struct.unpack_from(form, elst, 8 + n * struct.calcsize(form))
        if start >= 0:
            shift = start
            break
        delay += duration * timescale // movie_scale
    return delay, shift


def _samples(tables: dict[bytes, bytes], size: int) -> list[Sample]:
    sizes = _sizes(tables[b"stsz"])
    count = len(sizes)
    if sum(sizes) > size:
        raise BadInput("more in pieces than in the file")
    durations = _runs(tables[b"stts"], ">II", count)
    compositions = _runs(tables[b"ctts"], ">Ii", count) if b"ctts" in tables else [0] * count
    offsets = _offsets(tables, sizes)
    if any(at + length > size for at, length in zip(offsets, sizes, strict=True)):
        raise BadInput("a piece lies beyond the end")
    if b"stss" in tables:
        named = set(_numbers(tables[b"stss"], 4, ">I"))
        sync = [n + 1 in named for n in range(count)]
    else:
        sync = [True] * count
    decode = list(accumulate(durations, initial=0))[:count]
    return list(map(Sample, offsets, sizes, decode, durations, compositions, sync))


def _sizes(stsz: bytes) -> list[int]:
    one, count = struct.unpack_from(">II", stsz, 4)
    if count > SAMPLES_MAX:
        raise BadInput("this video has too many pieces")
    return [one] * count if one else [int(n) for n in struct.unpack_from(f">{count}I", stsz, 12)]


def _runs(table: bytes, form: str, count: int) -> list[int]:
    """A value for each sample, told as runs of equal ones."""
    (entries,) = struct.unpack_from(">I", table, 4)
    values: list[int] = []
    for n in range(entries):
        length, value = struct.unpack_from(form, table, 8 + 8 * n)
        if len(values) + length > count:
            raise BadInput("more times than pieces")
        values.extend(repeat(value, length))
    if len(values) != count:
        raise BadInput("fewer times than pieces")
    return values


def _numbers(table: bytes, at: int, form: str) -> list[int]:
    (count,) = struct.unpack_from(">I", table, at)
    if count > SAMPLES_MAX:
        raise BadInput("this video has too many pieces")
    return [int(n) for n in struct.unpack_from(f">{count}{form[1]}", table, at + 4)]


def _offsets(tables: dict[bytes, bytes], sizes: list[int]) -> list[int]:
    chunks = _numbers(tables[b"co64"], 4, ">Q") if b"co64" in tables else _numbers(tables[b"stco"], 4, ">I")
    stsc = tables[b"stsc"]
    (count,) = struct.unpack_from(">I", stsc, 4)
    if count > len(chunks):
        raise BadInput("more runs of chunks than chunks")
    runs = [struct.unpack_from(">II", stsc, 8 + 12 * n) for n in range(count)]
    firsts = [first for first, _ in runs] + [len(chunks) + 1]
    if firsts[0] != 1 or any(one >= other for one, other in pairwise(firsts)):
        raise BadInput("runs of chunks out of order")
    lengths = chain.from_iterable(
        repeat(length, after - first) for (first, length), after in zip(runs, firsts[1:], strict=True)
    )
    offsets: list[int] = []
    for at, length in zip(chunks, lengths, strict=True):
        for _ in range(min(length, len(sizes) - len(offsets))):
            offsets.append(at)
            at += sizes[len(offsets) - 1]
    if len(offsets) != len(sizes):
        raise BadInput("pieces without a place")
    return offsets
