"""What the pages need from the rest, as narrow interfaces. app.py hands over the real things."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

Json = dict[str, Any]


class Member(NamedTuple):
    """Who is signed in on this browser."""

    did: str
    handle: str


class Page(NamedTuple):
    """Rows of a timeline, newest first. A cursor is '' where there is nothing on that side."""

    feed: list[Json]
    older: str
    newer: str


class Progress(NamedTuple):
    """How complete the repositories are that somebody reads: how many in each state."""

    total: int
    live: int
    loading: int
    waiting: int
    doubtful: int
    inactive: int
    stream_lag_s: float | None


class Reading(Protocol):
    """The timeline's side. ``viewer`` is a DID or None for a guest."""

    async def timeline(self, viewer: str, *, limit: int, before: str, after: str) -> Page: ...
    async def author_feed(
        self, viewer: str | None, actor: str, *, limit: int, before: str, kinds: str
    ) -> Page: ...
    async def profile(self, viewer: str | None, actor: str) -> Json: ...
    async def thread(self, viewer: str | None, uri: str) -> Json: ...
    async def progress(self, viewer: str) -> Progress: ...
    async def progress_of(self, did: str) -> Progress | None: ...


class SigningIn(Protocol):
    """The sessions' side. Each raises an ApplianceError whose message is for the person."""

    async def sign_in(
        self, identifier: str, password: str, *, factor: str, invite: str
    ) -> tuple[str, Member]: ...
    async def who(self, cookie: str) -> Member | None: ...
    async def sign_out(self, cookie: str) -> None: ...


class Writing(Protocol):
    """The writers' side, for a signed-in cookie. ``once`` makes a repeated form harmless."""

    async def post(self, cookie: str, text: str, *, reply: str, langs: list[str], once: str) -> str: ...
    async def toggle_like(self, cookie: str, uri: str, cid: str) -> None: ...
    async def toggle_repost(self, cookie: str, uri: str, cid: str) -> None: ...
    async def toggle_follow(self, cookie: str, did: str) -> None: ...
    async def delete(self, cookie: str, uri: str) -> None: ...
