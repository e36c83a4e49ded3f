"""Pictures that please: soft landscapes for posts and banners, initials on gradients for avatars."""

from __future__ import annotations

import colorsys
import io
import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG with its size in pixels and words for who can't see it."""

    data: bytes
    width: int
    height: int
    alt: str


# Sky above, sky below, far hill, near hill, and how one would say it.
_MOODS = (
    ((0.58, 0.35, 0.95), (0.08, 0.35, 1.0), (0.62, 0.30, 0.62), (0.60, 0.45, 0.28), "at dawn"),
    ((0.56, 0.55, 0.92), (0.53, 0.18, 1.0), (0.36, 0.30, 0.68), (0.33, 0.50, 0.38), "on a clear morning"),
    ((0.07, 0.45, 0.98), (0.95, 0.40, 0.90), (0.82, 0.35, 0.50), (0.74, 0.45, 0.25), "at sunset"),
    ((0.66, 0.65, 0.30), (0.78, 0.40, 0.62), (0.68, 0.45, 0.30), (0.66, 0.55, 0.16), "at nightfall"),
    ((0.55, 0.08, 0.86), (0.55, 0.05, 0.96), (0.50, 0.14, 0.66), (0.48, 0.22, 0.44), "in the fog"),
    ((0.50, 0.45, 0.88), (0.14, 0.22, 1.0), (0.45, 0.35, 0.60), (0.42, 0.50, 0.34), "after the rain"),
    ((0.10, 0.25, 1.0), (0.12, 0.45, 0.98), (0.09, 0.50, 0.75), (0.06, 0.60, 0.42), "in the evening sun"),
)
_PLACES = ("Rolling hills", "Ridges behind ridges", "Dunes", "A mountain range", "A long valley", "Moorland")


def mime_of(data: bytes) -> str | None:
    """The type of a picture by its first bytes; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _MAGIC if data.startswith(magic)), None)


def landscape(random: Random, width: int = 960, height: int = 640) -> Picture:
    """Hills under a sky; the same random numbers give the same picture."""
    above, below, far, near, when = random.choice(_MOODS)
    picture = _gradient(width, height, _rgb(above), _rgb(below))
    draw = ImageDraw.Draw(picture)
    light = random.random() < 0.7
    if light:
        radius = random.randint(height // 18, height // 9)
        x, y = random.randint(width // 6, width * 5 // 6), random.randint(height // 6, height // 2)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_rgb((below[0], 0.12, 1.0)))
        around = (x - radius - 8, y - radius - 8, x + radius + 8, y + radius + 8)
        picture.paste(picture.crop(around).filter(ImageFilter.GaussianBlur(2)), around[:2])
    layers = random.randint(3, 5)
    for layer in range(layers):
        share = layer / (layers - 1)
        tint = tuple(a + (b - a) * share for a, b in zip(far, near, strict=True))
        base = height * (0.50 + 0.38 * share)
        draw.polygon(_ridge(random, width, height, base, height * 0.09), fill=_rgb(tint))
    place = random.choice(_PLACES)
    alt = f"{place} {when}, " + ("a low sun above them" if light else "no sun to be seen")
    return Picture(_jpeg(picture, 80), width, height, alt)


def avatar(random: Random, name: str) -> Picture:
    """A letter or two on a soft gradient."""
    size = 256
    hue = random.random()
    first, second = _rgb((hue, 0.55, 0.86)), _rgb(((hue + random.uniform(0.08, 0.2)) % 1, 0.65, 0.62))
    # What is to be soft is drawn small.
    soft = size // 4
    picture = _gradient(soft, soft, first, second).rotate(random.choice((0, 90, 180, 270)))
    draw = ImageDraw.Draw(picture)
    x, y = random.randint(0, soft), random.randint(0, soft)
    draw.ellipse((x - 22, y - 22, x + 22, y + 22), fill=_rgb((hue, 0.45, 0.93)))
    picture = picture.filter(ImageFilter.GaussianBlur(7)).resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    letters = "".join(part[0] for part in name.split()[:2]).upper()
    font = ImageFont.load_default(size=118 if len(letters) == 1 else 96)
    draw.text((size / 2, size / 2), letters, font=font, fill=(255, 255, 255), anchor="mm")
    return Picture(_jpeg(picture, 85), size, size, name)


def _ridge(random: Random, width: int, height: int, base: float, swing: float) -> list[tuple[float, float]]:
    waves = [(random.uniform(0.6, 1.6) * 2**i, random.uniform(0, math.tau), 0.6**i) for i in range(5)]
    points: list[tuple[float, float]] = []
    for step in range(0, width + 8, 8):
        at = step / width * math.tau
        lift = sum(size * math.sin(pace * at + phase) for pace, phase, size in waves)
        points.append((step, base + swing * lift * 0.6))
    return [(0, height), *points, (width, height)]


def _gradient(
    width: int, height: int, above: tuple[int, int, int], below: tuple[int, int, int]
) -> Image.Image:
    return ImageOps.colorize(Image.linear_gradient("L").resize((width, height)), above, below)


def _rgb(hsv: tuple[float, ...]) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hsv[0], hsv[1], hsv[2])
    return round(red * 255), round(green * 255), round(blue * 255)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
