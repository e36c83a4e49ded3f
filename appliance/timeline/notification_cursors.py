"""Where a page of notifications ends: the time itself, as clients know it.

Rows of the same time are told apart by their numbers, after two underscores.
"""

from __future__ import annotations

import re

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_datetime_us
from appliance.store.timeline import NEWEST, Place
from appliance.timeline.json_text import instant

_CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)(?:__(\d{1,18})\.(\d{1,2}))?", re.ASCII)


class ByTime:
    """The spelling for lists of notifications."""

    def is_obsolete(self, _: str | None, /) -> bool:
        """There never was another spelling."""
        return False

    def parse(self, text: str | None, /) -> Place:
        """Where to go on; no text is the beginning. Raises BadInput."""
        if not text:
            return NEWEST
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise BadInput("Malformed cursor")
        ms = parse_datetime_us(match[1]) // 1000
        return Place(ms, int(match[2]), int(match[3])) if match[2] else Place(ms, 0, 0)

    def text_of(self, place: Place, following: Place, /) -> str:
        """The cursor after this row, before the other."""
        time = instant(place.sort_ms)
        return f"{time}__{place.tie}.{place.id}" if place.sort_ms == following.sort_ms else time


BY_TIME = ByTime()
