"""One picture, decoded and scaled: the whole of a short-lived child process.

A hostile picture can make this process fail, and nothing else: it has no secrets, few open files, a
limit on memory, on processor time and on what it may write. Only the bytes of the new picture come out.
It imports nothing of the rest; ``renderer.py`` starts it.
"""

from __future__ import annotations

import io
import resource
import sys

from PIL import Image, ImageCms, ImageOps

# (width, height, whether the picture fills that frame); nothing is ever made larger than it is.
PRESETS: dict[str, tuple[int, int, bool]] = {
    "avatar": (1000, 1000, True),
    "avatar_thumbnail": (128, 128, True),
    "banner": (3000, 1000, True),
    "banner_thumbnail": (1000, 333, True),
    "feed_thumbnail": (1000, 1000, False),
    "feed_fullsize": (2000, 2000, False),
}
FORMATS = ("jpeg", "png", "webp")

PIXELS_MAX = 40_000_000
SIDE_MAX = 20_000
MEMORY_BYTES = 1 << 30
CPU_S = 10
OPEN_FILES = 16
JPEG_QUALITY = 85
WEBP_QUALITY = 80
REFUSED = 3


class NoPicture(Exception):
    """These bytes are not a picture that we show."""


def main() -> None:
    """The child: preset and format in the arguments, a picture on standard input, another on output."""
    limit()
    preset, form = sys.argv[1:3]
    try:
        made = render(sys.stdin.buffer.read(), preset, form)
    # Whatever a decoder stumbles over is the picture's fault; what it was is of no use to anybody.
    except Exception:  # noqa: BLE001
        sys.exit(REFUSED)
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()


def limit() -> None:
    """From now on this process has little of anything."""
    Image.preinit()
    Image.init()
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(what)
        chosen = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (chosen, chosen))


def render(data: bytes, preset: str, form: str) -> bytes:
    """The picture in the size of the preset. Raises NoPicture, or what the decoder raises."""
    width, height, fills = PRESETS[preset]
    # Our own limits come first, and are not merely warnings.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "GIF"]) as found:
        if found.width * found.height > PIXELS_MAX or max(found.size) > SIDE_MAX:
            raise NoPicture
        if found.format == "JPEG":
            # Decoded smaller at once, but not below what is wanted, whichever way up it is.
            found.draft("RGB", (max(width, height), max(width, height)))
        found.load()
        profile = found.info.get("icc_profile")
        picture: Image.Image = ImageOps.exif_transpose(found)
    picture = _plain(picture, profile)
    picture = _scaled(picture, width, height, fills=fills)
    return _encoded(picture, form)


def _plain(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or RGBA, in the colours that screens take pictures without a profile to be in."""
    transparent = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    mode = "RGBA" if transparent else "RGB"
    if profile and picture.mode in ("RGB", "RGBA", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            out = picture.mode if picture.mode in ("RGB", "RGBA") else "RGB"
            turned = ImageCms.profileToProfile(picture, source, target, outputMode=out)
            if turned is not None:
                picture = turned
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # an unusable profile is none
    return picture if picture.mode == mode else picture.convert(mode)


def _scaled(picture: Image.Image, width: int, height: int, *, fills: bool) -> Image.Image:
    if not fills:
        picture.thumbnail((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return picture
    part = min(1.0, picture.width / width, picture.height / height)
    frame = (max(1, round(width * part)), max(1, round(height * part)))
    return ImageOps.fit(picture, frame, Image.Resampling.LANCZOS)


def _encoded(picture: Image.Image, form: str) -> bytes:
    clean = Image.new(picture.mode, picture.size)
    clean.paste(picture)
    out = io.BytesIO()
    if form == "webp":
        clean.save(out, "WEBP", quality=WEBP_QUALITY, method=4)
    elif form == "png":
        clean.save(out, "PNG", compress_level=6)
    else:
        if clean.mode == "RGBA":
            ground = Image.new("RGB", clean.size, "white")
            ground.paste(clean, mask=clean.getchannel("A"))
            clean = ground
        clean.save(out, "JPEG", quality=JPEG_QUALITY, progressive=True, optimize=True)
    return out.getvalue()
