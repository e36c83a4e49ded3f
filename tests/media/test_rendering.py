"""Pictures of strangers are made anew in a child process, or refused; nothing that they do reaches us."""

import asyncio
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from appliance.errors import NotFound, Unavailable
from appliance.media import renderer, rendering
from appliance.media.images import FORMATS, PRESETS, sniff
from appliance.media.renderer import Renderer


def picture(width: int, height: int, form: str = "PNG", mode: str = "RGB", **more: Any) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(out, form, **more)
    return out.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as found:
        return found.size


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("preset", "given", "made"),
    [
        ("avatar", (2400, 1200), (1000, 1000)),
        ("avatar", (300, 200), (200, 200)),
        ("avatar_thumbnail", (600, 600), (128, 128)),
        ("banner", (1500, 1500), (1500, 500)),
        ("feed_thumbnail", (3000, 1500), (1000, 500)),
        ("feed_thumbnail", (40, 30), (40, 30)),
        ("feed_fullsize", (1000, 4000), (500, 2000)),
        ("feed_fullsize", (1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_each_preset_has_its_size_and_nothing_grows(
    preset: str, given: tuple[int, int], made: tuple[int, int], form: str
) -> None:
    for source in ("PNG", "JPEG", "WEBP", "GIF"):
        data = rendering.render(picture(*given, form=source), preset, form)
        assert sniff(data) == f"image/{form}"
        assert size_of(data) == made


def test_the_presets_are_those_that_addresses_name() -> None:
    assert set(rendering.PRESETS) == PRESETS
    assert set(rendering.FORMATS) == FORMATS


def test_what_is_transparent_stays_so_or_gets_a_white_ground() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(out, "PNG")
    for form, pixel in (("webp", 0), ("png", 0), ("jpeg", 255)):
        with Image.open(io.BytesIO(rendering.render(out.getvalue(), "avatar", form))) as made:
            corner = made.convert("RGBA").getpixel((0, 0))
        assert isinstance(corner, tuple)
        assert corner[3 if form != "jpeg" else 1] == pixel


def test_what_the_camera_wrote_beside_the_picture_is_turned_into_it_and_left_out() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "taken at home"
    data = picture(40, 20, "JPEG", exif=exif, comment=b"taken at home")
    assert b"taken at home" in data

    for form in FORMATS:
        made = rendering.render(data, "feed_fullsize", form)
        assert size_of(made) == (20, 40)
        assert b"taken at home" not in made


async def test_a_child_makes_the_picture_and_no_trace_of_the_owners_bytes_goes_out() -> None:
    polyglot = picture(50, 50) + b"<script>alert(1)</script>"

    made = await Renderer().render(polyglot, "avatar", "webp")

    assert sniff(made) == "image/webp"
    assert b"script" not in made


HOSTILE = {
    "a bomb that says its size": png_claiming(60_000, 60_000, bytes(1000)),
    "a bomb of many pixels": png_claiming(7_000, 7_000, bytes(150_000_000)),
    "a long thin one": png_claiming(1_000_000, 1, bytes(1000)),
    "a truncated one": picture(500, 500)[:-400],
    "a truncated JPEG": picture(500, 500, "JPEG")[:-700],
    "a head alone": b"\x89PNG\r\n\x1a\n",
    "a GIF without frames": b"GIF89a" + bytes(20),
    "a WebP of zeros": b"RIFF\xff\xff\xff\x7fWEBPVP8 " + bytes(100),
    "a TIFF in disguise": b"\xff\xd8\xffII*\x00" + bytes(100),
    "a PNG that is an SVG": b"\x89PNG\r\n\x1a\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_picture_is_refused(name: str) -> None:
    with pytest.raises(NotFound):
        await Renderer().render(HOSTILE[name], "feed_fullsize", "jpeg")


async def child(code: str, within_s: float, monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    """A decoder that was taken over runs this instead."""
    start = "import json, sys; sys.path[:0] = json.loads(sys.argv.pop(1));"
    start += " from appliance.media import rendering; rendering.limit();"
    # What would count as a picture.
    start += " show = lambda: sys.stdout.buffer.write(bytes([255, 216, 255])); "
    monkeypatch.setattr(renderer, "_CHILD", start + code)
    with pytest.raises(NotFound):
        await Renderer(within_s=within_s).render(picture(5, 5), "avatar", "jpeg")


async def test_a_decoder_that_was_taken_over_gets_no_memory_no_file_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SESSION_SECRET", "hush")
    target = tmp_path / "written"
    for code in (
        "bytearray(2 << 30); show()",
        f"f = open({str(target)!r}, 'w'); f.write('x'); f.flush(); show()",
        "import os; 'SESSION_SECRET' in os.environ and show()",
        "[open('/dev/null') for _ in range(64)]; show()",
    ):
        await child(code, 20, monkeypatch)
    with pytest.raises(pytest.fail.Exception):
        await child("show()", 20, monkeypatch)
    assert not target.exists() or target.stat().st_size == 0


async def test_what_is_no_picture_of_the_kind_asked_for_does_not_come_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for said in ("<script>", "GIF89a", ""):
        await child(f"sys.stdout.write({said!r})", 20, monkeypatch)


async def test_one_that_never_ends_or_never_stops_writing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    await child("import time; time.sleep(600)", 1.0, monkeypatch)
    monkeypatch.setattr(renderer, "OUTPUT_BYTES_MAX", 100_000)
    await child("[sys.stdout.write('x' * 65536) for _ in iter(int, 1)]", 30, monkeypatch)


async def test_only_a_few_children_run_at_a_time_and_too_many_who_wait_are_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Renderer(at_a_time=2)
    running = most = 0
    gate = asyncio.Event()

    async def slowly(*_: object) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return b"\xff\xd8\xff"

    monkeypatch.setattr(made, "_child", slowly)
    monkeypatch.setattr(renderer, "WAITING_MAX", 10)
    waiting = [asyncio.create_task(made.render(b"", "avatar", "jpeg")) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await made.render(b"", "avatar", "jpeg")
    gate.set()
    assert await asyncio.gather(*waiting) == [b"\xff\xd8\xff"] * 10
    assert most == 2


async def test_a_reader_who_leaves_takes_the_child_with_him(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "_CHILD", "import time; time.sleep(600)")
    started: list[int] = []
    real = asyncio.create_subprocess_exec

    async def noting(*command: Any, **more: Any) -> Any:
        process = await real(*command, **more)
        started.append(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
    task = asyncio.create_task(Renderer().render(b"x", "avatar", "jpeg"))
    while not started:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
