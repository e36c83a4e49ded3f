"""The style sheet: colours that can be read in both themes (WCAG 2.2, 1.4.3), a class for each shape."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from appliance.web import present

STYLE = files("appliance.web").joinpath("static/style.css").read_text("utf-8")
RATIO_MIN = 4.5
# Words, what stands behind them. A tint is the accent laid over the sheet.
PAIRS = [
    *(
        (words, ground)
        for words in ("ink", "soft", "accent")
        for ground in ("sheet", "paper", "wash", "tint")
    ),
    *((words, ground) for words in ("like", "repost", "warn") for ground in ("sheet", "wash", "tint")),
    ("on-accent", "accent"),
]


def themes() -> dict[str, dict[str, str]]:
    light, dark, *_ = re.findall(r":root \{([^}]*)\}", STYLE)
    return {
        name: dict(re.findall(r"--([a-z-]+): *(#[0-9a-f]{3,6}|[0-9]+%)", block))
        for name, block in (("light", light), ("dark", dark))
    }


def rgb(colours: dict[str, str], name: str) -> tuple[float, float, float]:
    if name == "tint":
        part = int(colours["tint"].rstrip("%")) / 100
        over, under = rgb(colours, "accent"), rgb(colours, "sheet")
        red, green, blue = (part * a + (1 - part) * b for a, b in zip(over, under, strict=True))
        return red, green, blue
    text = colours[name].lstrip("#")
    text = "".join(c * 2 for c in text) if len(text) == 3 else text
    return int(text[:2], 16) / 255, int(text[2:4], 16) / 255, int(text[4:], 16) / 255


def luminance(colour: tuple[float, float, float]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(colours: dict[str, str], words: str, ground: str) -> float:
    dark, light = sorted((luminance(rgb(colours, words)), luminance(rgb(colours, ground))))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("words", "ground"), PAIRS)
def test_words_stand_out_from_their_ground(theme: str, words: str, ground: str) -> None:
    assert ratio(themes()[theme], words, ground) >= RATIO_MIN


def test_both_themes_define_the_same_colours() -> None:
    light, dark = themes().values()

    assert set(light) - {"tint"} == set(dark) - {"tint"}
    assert len(light) >= 11


def test_every_shape_of_a_picture_has_its_class() -> None:
    classes = re.findall(r"\.r([0-9]+) \{ --r: ([0-9.]+); \}", STYLE)

    assert tuple(float(shape) for _, shape in classes) == present.SHAPES
    assert [int(number) for number, _ in classes] == list(range(len(present.SHAPES)))


def test_colours_are_named_once_and_used_by_name() -> None:
    body = STYLE[STYLE.index("*, ::before") :]

    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", body)) <= {"#0003"}
