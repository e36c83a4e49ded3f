"""What a reader can leave out of timelines: names of form fields, bits, words."""

from __future__ import annotations

from typing import Final

from appliance.store import reading as markers

SWITCHES: Final = (
    ("reposts", markers.REPOSTS, "Reposts"),
    ("own_reposts", markers.OWN_REPOSTS, "Reposts of their own posts"),
    ("replies", markers.REPLIES, "All replies"),
    ("strangers", markers.REPLIES_TO_STRANGERS, "Replies to people whom you don’t follow"),
    ("quotes", markers.QUOTES, "Quotes"),
    ("no_media", markers.ALL_BUT_MEDIA, "Everything without pictures or video"),
)
