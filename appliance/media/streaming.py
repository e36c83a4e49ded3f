"""HLS out of an MP4: the same samples in fragments, as players of streams take them, nothing encoded anew.

RFC 8216. A fragment begins at a picture that needs no other.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from math import ceil
from typing import BinaryIO

import msgspec

from appliance.errors import BadInput
from appliance.media.mp4 import Movie, Sample, Track

SEGMENT_S = 4.0
_KEY, _NOT_KEY = 0x02000000, 0x01010000


class Segment(msgspec.Struct, frozen=True):
    """From when to when, in seconds, and for each track which of its samples."""

    start_s: float
    end_s: float
    parts: list[range]

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def segments(movie: Movie) -> list[Segment]:
    """The video cut at pictures that need no other, each piece some seconds long. Raises BadInput."""
    video = movie.video
    if not video.samples or not video.samples[0].sync:
        raise BadInput("this video does not begin with a whole picture")
    cuts = [0]
    for n, sample in enumerate(video.samples):
        if sample.sync and sample.decode - video.samples[cuts[-1]].decode >= SEGMENT_S * video.timescale:
            cuts.append(n)
    last = video.samples[-1]
    times = [video.samples[n].decode / video.timescale for n in cuts]
    times.append((last.decode + last.duration) / video.timescale)
    bounds = [_bounds(track, cuts, times, track is video) for track in movie.tracks]
    return [
        Segment(times[n], times[n + 1], [range(each[n], each[n + 1]) for each in bounds])
        for n in range(len(cuts))
    ]


def playlist(parts: list[Segment]) -> str:
    """The media playlist; addresses are relative to its own."""
    longest = max(ceil(part.duration_s) for part in parts)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(1, longest)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        '#EXT-X-MAP:URI="init.mp4"',
    ]
    for n, part in enumerate(parts):
        lines += [f"#EXTINF:{part.duration_s:.5f},", f"{n}.m4s"]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def initialisation(movie: Movie) -> bytes:
    """What a player needs before any fragment."""
    tracks = b"".join(_trak(track) for track in movie.tracks)
    extends = b"".join(
        _box(b"trex", struct.pack(">IIIIII", 0, track.number, 1, 0, 0, 0)) for track in movie.tracks
    )
    brands = _box(b"ftyp", b"iso5" + struct.pack(">I", 512) + b"iso5iso6mp41")
    return brands + _box(b"moov", _box(b"mvhd", movie.mvhd) + tracks + _box(b"mvex", extends))


def fragment(file: BinaryIO, movie: Movie, number: int, segment: Segment) -> bytes:
    """One segment: where its samples are, and they themselves. Raises BadInput."""
    try:
        return _fragment(file, movie, number, segment)
    except struct.error as error:
        raise BadInput("this video's times can't be") from error


def _fragment(file: BinaryIO, movie: Movie, number: int, segment: Segment) -> bytes:
    chosen = [
        (track, track.samples[part.start : part.stop])
        for track, part in zip(movie.tracks, segment.parts, strict=True)
    ]
    chosen = [(track, samples) for track, samples in chosen if samples]
    # The offsets are counted from the beginning of the moof, so its length must be known: it does not
    # depend on them.
    length = len(_moof(number, chosen, [0] * len(chosen)))
    offsets, at = [], length + 8
    for _, samples in chosen:
        offsets.append(at)
        at += sum(sample.size for sample in samples)
    data = bytearray()
    for _, samples in chosen:
        for sample in samples:
            file.seek(sample.offset)
            data += file.read(sample.size)
    if len(data) != at - length - 8:
        raise BadInput("the video ends early")
    return _moof(number, chosen, offsets) + _box(b"mdat", bytes(data))


def _bounds(track: Track, cuts: list[int], times: list[float], is_video: bool) -> list[int]:
    if is_video:
        return [*cuts, len(track.samples)]
    decodes = [sample.decode + track.delay for sample in track.samples]
    inner = [bisect_left(decodes, time * track.timescale) for time in times[1:-1]]
    return [0, *inner, len(track.samples)]


def _moof(number: int, chosen: list[tuple[Track, list[Sample]]], offsets: list[int]) -> bytes:
    trafs = b"".join(_traf(track, samples, at) for (track, samples), at in zip(chosen, offsets, strict=True))
    return _box(b"moof", _box(b"mfhd", struct.pack(">II", 0, number + 1)) + trafs)


def _traf(track: Track, samples: list[Sample], offset: int) -> bytes:
    head = _box(b"tfhd", struct.pack(">II", 0x020000, track.number))
    begin = _box(b"tfdt", struct.pack(">IQ", 0x01000000, samples[0].decode + track.delay))
    # What an edit list leaves out of the beginning of pictures is taken from the times of showing. Sound
    # is not shifted: its few milliseconds of lead-in are heard.
    shift = track.shift if track.kind == "vide" else 0
    rows = b"".join(
        struct.pack(
            ">IIIi", each.duration, each.size, _KEY if each.sync else _NOT_KEY, each.composition - shift
        )
        for each in samples
    )
    run = _box(b"trun", struct.pack(">IIi", 0x01000F01, len(samples), offset) + rows)
    return _box(b"traf", head + begin + run)


def _trak(track: Track) -> bytes:
    empty = struct.pack(">II", 0, 0)
    tables = (
        _box(b"stsd", track.stsd)
        + _box(b"stts", empty)
        + _box(b"stsc", empty)
        + _box(b"stsz", struct.pack(">III", 0, 0, 0))
        + _box(b"stco", empty)
    )
    info = _box(b"minf", track.head + track.dinf + _box(b"stbl", tables))
    media = _box(b"mdia", _box(b"mdhd", track.mdhd) + _box(b"hdlr", track.hdlr) + info)
    return _box(b"trak", _box(b"tkhd", track.tkhd) + media)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content
