"""Where a page ends: ``<ms>__<cid>``, as clients know it.

The place of a row never changes, but its cid does when the record is edited; so the text carries the
characters of the first cid that decide the order, and no more. Rows that agree in both are told
apart by the row's number, after a full stop.
"""

from __future__ import annotations

import re

from appliance.errors import BadInput
from appliance.protocol.cid import order_key
from appliance.store.timeline import NEWEST, Place

_CURSOR = re.compile(r"(-?[0-9]{1,16})__((?:(?!__)[^.]){1,256})(?:\.([0-9]{1,18}))?")
_PREFIX = "bafyrei"
_TEXT = "234567abcdefghijklmnopqrstuvwxyz"
_TIE_CHARACTERS = 12
_TIE_END = 1 << 60


def parse(text: str | None) -> Place:
    """Where to go on; no text is the beginning. Raises BadInput."""
    if not text:
        return NEWEST
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadInput("Malformed cursor")
    return Place(int(match[1]), _tie(match[2]), int(match[3]) if match[3] else 0)


def _tie(cid: str) -> int:
    """What sorts before this text; any text will do, as all our cids begin alike."""
    if cid.startswith(_PREFIX):
        try:
            return order_key(cid)
        except BadInput:
            raise BadInput("Malformed cursor") from None
    return _TIE_END if cid > _PREFIX else 0


def is_obsolete(text: str | None) -> bool:
    """Whether it is of the kind that old clients still hold: it means the end."""
    return bool(text) and "::" in text  # type: ignore[operator]


def text_of(place: Place, *, ambiguous: bool) -> str:
    """The cursor after this row. ``ambiguous``: the next row has the same time and tie."""
    tie, letters = place.tie, []
    for _ in range(_TIE_CHARACTERS):
        letters.append(_TEXT[tie & 31])
        tie >>= 5
    text = f"{place.sort_ms}__{_PREFIX}{''.join(reversed(letters))}"
    return f"{text}.{place.id}" if ambiguous else text
