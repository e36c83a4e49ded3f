"""Which notifications a member wants in lists and as pushes: version 2 of the preferences."""

from __future__ import annotations

from typing import Any, Final

import orjson

from appliance.store import notifications
from appliance.store.notification_reads import Wanted

# By the lexicon's names. Contacts and chats are told of elsewhere.
_FILTERABLE: Final = {
    "follow": notifications.FOLLOW,
    "like": notifications.LIKE,
    "likeViaRepost": notifications.LIKE_VIA_REPOST,
    "mention": notifications.MENTION,
    "quote": notifications.QUOTE,
    "reply": notifications.REPLY,
    "repost": notifications.REPOST,
    "repostViaRepost": notifications.REPOST_VIA_REPOST,
}
_PLAIN: Final = {
    "starterpackJoined": notifications.JOINED,
    "subscribedPost": notifications.SUBSCRIBED,
    "unverified": notifications.UNVERIFIED,
    "verified": notifications.VERIFIED,
}
REASONS: Final = _FILTERABLE | _PLAIN
FOLLOWS: Final = "follows"


def all_of(stored: str) -> dict[str, Any]:
    """Every preference: what is stored, else the default."""
    own: dict[str, Any] = orjson.loads(stored)
    chat = {"chat": {"include": "all", "push": True}}
    filterable = {name: {"include": "all", "list": True, "push": True} for name in _FILTERABLE}
    return chat | filterable | {name: {"list": True, "push": True} for name in _PLAIN} | own


def changed(stored: str, wanted: dict[str, Any]) -> str:
    """With the named ones replaced, to be stored. That of chats is fixed."""
    own = orjson.loads(stored)
    for name in REASONS:
        if name in wanted:
            members = ("include", "list", "push") if name in _FILTERABLE else ("list", "push")
            own[name] = {member: wanted[name][member] for member in members}
    return orjson.dumps(own).decode()


def listed(stored: str) -> Wanted:
    """The reasons that belong into lists and counts."""
    return _with(stored, "list")


def pushed(stored: str) -> Wanted:
    """The reasons of which to be told at once."""
    return _with(stored, "push")


def among(wanted: Wanted, reasons: list[str] | None) -> Wanted:
    """Only those that a caller names, in the lexicon's words; all where he names none."""
    if not reasons:
        return wanted
    numbers = {number for number, name in notifications.NAMES.items() if name in reasons}
    return Wanted([n for n in wanted.of_all if n in numbers], [n for n in wanted.of_followed if n in numbers])


def _with(stored: str, where: str) -> Wanted:
    of_all: list[int] = []
    of_followed: list[int] = []
    for name, preference in all_of(stored).items():
        if name in REASONS and preference[where]:
            part = of_followed if preference.get("include") == FOLLOWS else of_all
            part.append(REASONS[name])
    return Wanted(of_all, of_followed)
