"""Who may see the operator's pages, and who may act there: DIDs on a list, and links made on this machine."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from cachetools import TTLCache

from appliance.auth.token_pairs import hash_of
from appliance.auth.web_sessions import WebSessions
from appliance.clock import Clock
from appliance.config import Settings

LINK_S = 600.0
# How old a sign-in may be, and how long a link lasts, for acts.
FRESH_S = 900.0
LINKS_MAX = 20
PATH = "/admin/enter"


class Operator(NamedTuple):
    """Somebody to whom the pages are open: a DID or "link". Not ``fresh``: to look, not to act."""

    who: str
    fresh: bool


class AdminDoor:
    """Links and what they opened are in memory: a restart shuts the door."""

    def __init__(self, web_sessions: WebSessions, settings: Settings, clock: Clock) -> None:
        self._web_sessions = web_sessions
        self._admins = frozenset(settings.admins)
        self._origin = settings.origin
        self._clock = clock
        self._links: TTLCache[bytes, bool] = TTLCache(LINKS_MAX, LINK_S, timer=clock.monotonic_s)
        self._opened: TTLCache[bytes, bool] = TTLCache(LINKS_MAX, FRESH_S, timer=clock.monotonic_s)

    def link(self) -> str:
        """An address that opens the pages once, for whoever can run commands on this machine."""
        token = secrets.token_urlsafe(32)
        self._links[hash_of(token)] = True
        return f"{self._origin}{PATH}?token={token}"

    def enter(self, token: str) -> str | None:
        """A cookie for a link that nobody has used; None for any other."""
        if not self._links.pop(hash_of(token[:200]), False):
            return None
        cookie = secrets.token_urlsafe(32)
        self._opened[hash_of(cookie)] = True
        return cookie

    def leave(self, cookie: str) -> None:
        """Shut what that link has opened."""
        self._opened.pop(hash_of(cookie), None)

    async def who(self, session_cookie: str, admin_cookie: str) -> Operator | None:
        """The operator who holds these cookies; None for everybody else."""
        linked = bool(admin_cookie) and hash_of(admin_cookie) in self._opened
        session = await self._web_sessions.find(session_cookie) if self._admins else None
        if session is not None and session.did in self._admins:
            age_us = self._clock.now_us() - session.created_us
            return Operator(session.did, linked or age_us <= FRESH_S * 1_000_000)
        return Operator("link", True) if linked else None
