"""Text as words that a search can compare: without case, accents and punctuation, in ASCII blanks.

What comes out holds only letters, digits and blanks, so that any tokeniser cuts it at the blanks. Scripts
that are written without blanks become one word a character: a search for several is one for a phrase. A
symbol, an emoji among them, becomes a word of its own that names its code point.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_TABLE_MAX: Final = 20_000
_ACCENTS = re.compile("[\u0300-\u036f]")
_OTHER_ASCII = re.compile(r"[^a-z0-9]+")
# Kana, ideographs, Hangul; Thai, Lao, Tibetan, Burmese, Khmer.
_ALONE: Final = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x9FFF),
    (0xA000, 0xA4CF),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
)


class _Table(dict[int, str]):
    """What becomes of each character; filled as characters come."""

    def __missing__(self, point: int) -> str:
        made = _word(point)
        if len(self) < _TABLE_MAX:
            self[point] = made
        return made


def _word(point: int) -> str:
    letter = chr(point)
    kind = unicodedata.category(letter)
    if point < 128:
        return letter if kind[0] in "LN" else " "
    if kind[0] in "LNM" and kind != "Me" and not 0xFE00 <= point <= 0xFE0F:
        if point > 0xFFFF or any(first <= point <= last for first, last in _ALONE):
            return f" {letter} "
        return letter
    return f" x{point:x} " if kind in ("So", "Sk") else " "


_table: Final = _Table()


def fold(text: str) -> str:
    """The words of a text, with one blank between them."""
    if text.isascii():
        return _OTHER_ASCII.sub(" ", text.lower()).strip()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return " ".join(unicodedata.normalize("NFC", bare).casefold().translate(_table).split())


def languages(text: str) -> list[str]:
    """Which of the scripts it has that are searched by characters, and Arabic: as the wire names them."""
    found = []
    for name, ranges in _SCRIPTS:
        if any(first <= ord(letter) <= last for letter in text for first, last in ranges):
            found.append(name)
    return ["ja"] if "ja" in found else found


_SCRIPTS: Final = (
    ("ja", ((0x3040, 0x30FF),)),
    ("zh", ((0x3400, 0x9FFF),)),
    ("ko", ((0xAC00, 0xD7A3), (0x1100, 0x11FF))),
    ("th", ((0x0E00, 0x0E7F),)),
    ("ar", ((0x0600, 0x06FF),)),
)
