"""Videos come from their owners whole and proven, and play as streams with nothing encoded anew."""

import asyncio
import contextlib
import io
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from appliance.clock import ManualClock
from appliance.errors import BadInput, NotFound, Unavailable
from appliance.media import mp4, streaming
from appliance.media import videos as module
from appliance.media.videos import Videos
from appliance.protocol import cid
from appliance.web.videos import videos as routes

# Six seconds at 24 pictures a second, H.264 with pictures that need later ones, and sound.
CLIP = Path(__file__).with_name("clip.mp4").read_bytes()
NAME = cid.to_text(cid.blob_cid_of(CLIP))
# By track: decoded when, shown how much later, how long, which bytes.
Samples = dict[int, list[tuple[int, int, int, bytes]]]
DID = "did:plc:44ybard66vv44zksje25o7dz"


def movie(data: bytes = CLIP) -> mp4.Movie:
    return mp4.read(io.BytesIO(data), len(data))


class Owner:
    """The owner's server."""

    def __init__(self, data: bytes = CLIP) -> None:
        self.data = data
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.shown = True
        self.fails: Exception | None = None

    @contextlib.asynccontextmanager
    async def open(self, did: str, cid_text: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked += 1
        await self.gate.wait()
        yield self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), 7000):
            yield self.data[at : at + 7000]
        if self.fails is not None:
            raise self.fails

    async def is_shown(self, did: str, cid_text: str) -> bool:
        return self.shown

    def videos(self, folder: Path, **more: Any) -> Videos:
        return Videos(folder, self.open, self.is_shown, **{"cache_bytes": 10_000_000} | more)


def test_the_tables_of_a_real_file_are_read() -> None:
    found = movie()
    video, sound = found.tracks
    assert (video.kind, sound.kind) == ("vide", "soun")
    assert len(video.samples) == 6 * 24
    assert [n for n, sample in enumerate(video.samples) if sample.sync] == [0, 48, 96]
    assert sum(sample.duration for sample in video.samples) == 6 * video.timescale
    assert sum(sample.duration for sample in sound.samples) >= 6 * sound.timescale


def test_the_fragments_hold_every_sample_once_with_its_time() -> None:
    found = movie()
    parts = streaming.segments(found)
    assert [round(part.duration_s, 3) for part in parts] == [4.0, 2.0]
    got: Samples = {1: [], 2: []}
    for n, part in enumerate(parts):
        data = streaming.fragment(io.BytesIO(CLIP), found, n, part)
        names = [name for name, _ in mp4.boxes(data)]
        assert names == [b"moof", b"mdat"]
        for name, traf in mp4.boxes(dict(mp4.boxes(data))[b"moof"]):
            if name == b"traf":
                read_traf(data, dict(mp4.boxes(traf)), got)
    for track in found.tracks:
        shift = track.shift if track.kind == "vide" else 0
        assert got[track.number] == [
            (s.decode, s.composition - shift, s.duration, CLIP[s.offset : s.offset + s.size])
            for s in track.samples
        ]
    # The first picture is shown at once, and none before it.
    assert min(decode + composition for decode, composition, _, _ in got[found.video.number]) == 0


def read_traf(
    data: bytes, traf: dict[bytes, bytes], got: dict[int, list[tuple[int, int, int, bytes]]]
) -> None:
    (number,) = struct.unpack_from(">I", traf[b"tfhd"], 4)
    (time,) = struct.unpack_from(">Q", traf[b"tfdt"], 4)
    _, count, at = struct.unpack_from(">IIi", traf[b"trun"], 0)
    for n in range(count):
        duration, size, _, composition = struct.unpack_from(">IIIi", traf[b"trun"], 12 + 16 * n)
        got[number].append((time, composition, duration, data[at : at + size]))
        time, at = time + duration, at + size


def test_a_playlist_names_what_there_is() -> None:
    text = streaming.playlist(streaming.segments(movie()))
    assert text.startswith("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n")
    assert text.endswith("#EXTINF:4.00000,\n0.m4s\n#EXTINF:2.00000,\n1.m4s\n#EXT-X-ENDLIST\n")
    head = dict(mp4.boxes(streaming.initialisation(movie())))
    assert set(head) == {b"ftyp", b"moov"}
    assert {b"mvhd", b"trak", b"mvex"} == {name for name, _ in mp4.boxes(head[b"moov"])}


def test_a_spoiled_file_is_refused_or_read_but_never_more_than_that() -> None:
    # The tables stand at the end of this file: that is where to spoil it.
    tables = CLIP.index(b"moov")
    chance = random.Random(5)
    refused = 0
    for _ in range(400):
        spoiled = bytearray(CLIP)
        for _ in range(chance.choice((1, 1, 4))):
            at = chance.randrange(tables, len(spoiled))
            spoiled[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", chance.randbytes(4)))
        data = bytes(spoiled[: len(CLIP)])
        try:
            found = movie(data)
            parts = streaming.segments(found)
            streaming.playlist(parts)
            streaming.initialisation(found)
            for n, part in enumerate(parts):
                streaming.fragment(io.BytesIO(data), found, n, part)
        except BadInput:
            refused += 1
    assert 50 < refused < 400


def test_tables_that_would_grow_beyond_the_file_are_refused() -> None:
    at = CLIP.index(b"stsc") + 12
    for first in (1, 0, 2, 0xFFFFFFFF):
        many = bytearray(CLIP)
        struct.pack_into(">III", many, at, first, 0xFFFFFFFF, 1)
        struct.pack_into(">I", many, at + 12, 0xFFFFFFF0)
        with pytest.raises(BadInput):
            movie(bytes(many))
    # Every piece within the file, all in one place, and more than the file together.
    shared = bytearray(CLIP)
    struct.pack_into(">II", shared, CLIP.index(b"stsz") + 8, 1000, 144)
    chunks = CLIP.index(b"stco") + 8
    for n in range(struct.unpack_from(">I", CLIP, chunks)[0]):
        struct.pack_into(">I", shared, chunks + 4 + 4 * n, 48)
    with pytest.raises(BadInput):
        movie(bytes(shared))


@pytest.mark.parametrize("keep", [0, 7, 12, 40, 1000, len(CLIP) - 1])
def test_a_truncated_file_is_refused(keep: int) -> None:
    with pytest.raises(BadInput):
        movie(CLIP[:keep])


async def test_a_video_is_fetched_once_and_kept_over_a_restart(tmp_path: Path) -> None:
    owner = Owner()
    owner.gate.clear()
    videos = owner.videos(tmp_path)
    waiting = [asyncio.create_task(videos.playlist(DID, NAME)) for _ in range(5)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    owner.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [streaming.playlist(streaming.segments(movie())).encode()] * 4

    again = owner.videos(tmp_path)
    assert (await again.file(DID, NAME)).path.read_bytes() == CLIP
    assert await again.segment(DID, NAME, 1) == streaming.fragment(
        io.BytesIO(CLIP), movie(), 1, streaming.segments(movie())[1]
    )
    assert owner.asked == 1
    for number in (-1, 2, 10**9):
        with pytest.raises(NotFound):
            await again.segment(DID, NAME, number)


@pytest.mark.parametrize(
    "data",
    [CLIP + b"x", b"<script>alert(1)</script>", b"", b"\0\0\0\x18ftyp", b"\x89PNG\r\n\x1a\n" + bytes(50)],
)
async def test_other_bytes_than_the_cid_names_and_other_files_are_not_kept(
    tmp_path: Path, data: bytes
) -> None:
    owner = Owner(data)
    name = NAME if data[:-1] == CLIP else cid.to_text(cid.blob_cid_of(data))
    clock = ManualClock()
    videos = owner.videos(tmp_path, clock=clock)
    for _ in range(2):
        with pytest.raises(NotFound):
            await videos.file(DID, name)
    assert owner.asked == 1
    assert list(tmp_path.glob("*/*")) == []
    await clock.advance(301)
    with pytest.raises(NotFound):
        await videos.file(DID, name)
    assert owner.asked == 2


async def test_a_transfer_that_breaks_off_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    owner = Owner()
    owner.fails = Unavailable("cut off")
    videos = owner.videos(tmp_path)
    with pytest.raises(Unavailable):
        await videos.file(DID, NAME)
    assert list(tmp_path.glob("*/*")) == []
    owner.fails = None
    assert (await videos.file(DID, NAME)).size == len(CLIP)


async def test_too_large_or_shown_nowhere_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner()
    owner.shown = False
    with pytest.raises(NotFound):
        await owner.videos(tmp_path).file(DID, NAME)
    assert owner.asked == 0
    owner.shown = True
    monkeypatch.setattr(module, "VIDEO_BYTES_MAX", len(CLIP) - 1)
    with pytest.raises(NotFound):
        await owner.videos(tmp_path).file(DID, NAME)


async def test_the_routes_give_streams_whole_files_and_parts_of_them(tmp_path: Path) -> None:
    app = Quart("test")
    app.register_blueprint(routes(Owner().videos(tmp_path)))
    client = app.test_client()
    base = f"/vid/{DID.replace(':', '%3A')}/{NAME}"

    answer = await client.get(f"{base}/playlist.m3u8")
    assert answer.status_code == 200
    assert answer.content_type == "application/vnd.apple.mpegurl"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    kinds = {"init.mp4": "video/mp4", "0.m4s": "video/iso.segment", "1.m4s": "video/iso.segment"}
    for name, kind in kinds.items():
        answer = await client.get(f"{base}/{name}")
        assert (answer.status_code, answer.content_type) == (200, kind)
    whole = await client.get(f"{base}/video.mp4")
    assert await whole.get_data() == CLIP
    part = await client.get(f"{base}/video.mp4", headers={"Range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(CLIP)}"
    assert await part.get_data() == CLIP[100:200]
    beyond = await client.get(f"{base}/video.mp4", headers={"Range": f"bytes={len(CLIP)}-"})
    assert beyond.status_code == 416
    for name in ("9.m4s", "other.mp4", "thumbnail.jpg", "-1.m4s"):
        assert (await client.get(f"{base}/{name}")).status_code == 404
