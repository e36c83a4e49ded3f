"""What the pages need from the rest, as narrow interfaces. app.py hands over the real things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from appliance.auth.web_sessions import Member
from appliance.store.completeness import Account, Doubt, Late
from appliance.store.reading import Marker
from appliance.timeline.completeness import Report
from appliance.timeline.reading_views import Counts, Part, Wanted

Json = dict[str, Any]

# How many levels of answers ``Reading.thread`` gives.
THREAD_DEPTH = 10


class Page(NamedTuple):
    """Rows of a timeline, newest first. A cursor is '' where there is nothing on that side.

    ``here`` is the ``before`` that shows these same rows again, later; '' where nobody knows.
    """

    feed: list[Json]
    older: str
    newer: str
    here: str = ""


class Reading(Protocol):
    """The timeline's side. ``viewer`` is a DID or None for a guest.

    Each raises an ApplianceError whose name is the protocol's: NotFound, AccountTakedown,
    AccountDeactivated among them.
    """

    async def timeline(self, viewer: str, *, limit: int, before: str, after: str) -> Page: ...
    async def part(self, viewer: str, timeline: str, wanted: Wanted, limit: int) -> Part: ...
    async def counts(self, viewer: str, timeline: str, top: str) -> Counts: ...
    async def late_rows(self, viewer: str) -> tuple[list[Json], int]: ...
    async def options(self, viewer: str, timeline: str) -> Marker: ...
    async def account_filter(self, viewer: str, did: str) -> int: ...
    async def author_feed(
        self, viewer: str | None, actor: str, *, limit: int, before: str, kinds: str
    ) -> Page: ...
    async def profile(self, viewer: str | None, actor: str) -> Json: ...
    async def thread(self, viewer: str | None, uri: str) -> Json: ...


class Proving(Protocol):
    """How complete what is shown is: ``timeline.completeness``. ``viewer`` is the DID of a member."""

    async def of(self, viewer: str) -> Report: ...
    async def of_account(self, did: str) -> Account | None: ...
    async def doubts(self, viewer: str) -> list[Doubt]: ...
    async def accounts(
        self, viewer: str, *, cursor: str = "", limit: int = 50, incomplete: bool = False
    ) -> tuple[list[Account], str]: ...
    async def late(self, viewer: str, since: int, limit: int) -> tuple[list[Late], int, bool]: ...


class Asking(Protocol):
    """The methods that clients call, by name; ``viewer`` is a member's DID or None for a guest."""

    async def __call__(
        self,
        viewer: str | None,
        nsid: str,
        parameters: Mapping[str, str | list[str]] | None = None,
        body: Any = None,
    ) -> Any: ...


class Marking(Protocol):
    """What readers change about their own reading. ``timeline`` is '' for home or a list's address."""

    async def mark(
        self,
        viewer: str,
        timeline: str,
        cursor: str,
        *,
        version: int,
        arrival: int,
        exactly: bool,
        device: str,
    ) -> bool: ...
    async def mark_time(
        self, viewer: str, timeline: str, at_ms: int, *, version: int, arrival: int, device: str
    ) -> bool: ...
    async def undo(self, viewer: str, timeline: str, *, device: str) -> bool: ...
    async def choose(self, viewer: str, timeline: str, *, hide: int, oldest_first: bool) -> None: ...
    async def filter_account(self, viewer: str, did: str, hide: int) -> None: ...
    async def late_seen(self, viewer: str, arrival: int) -> None: ...


class FeedKeys(Protocol):
    """Private addresses of feeds. ``find`` gives whose timeline one leads to, and which."""

    async def find(self, key: str) -> tuple[str, str] | None: ...
    async def add(self, viewer: str, key: str) -> None: ...
    async def listing(self, viewer: str) -> list[tuple[int, int]]: ...
    async def revoke(self, viewer: str, number: int) -> None: ...


class SigningIn(Protocol):
    """The sessions' side. Each raises an ApplianceError whose message is for the person."""

    async def sign_in(
        self, identifier: str, password: str, *, factor: str, invite: str, client: str, about: str
    ) -> tuple[str, Member]: ...
    async def who(self, cookie: str) -> Member | None: ...
    async def renew(self, cookie: str) -> str | None: ...
    async def sign_out(self, cookie: str) -> None: ...


class Outcome(NamedTuple):
    """What became of a write. Not ``confirmed``: the member's server did not say whether it was done."""

    uri: str = ""
    confirmed: bool = True


class Writing(Protocol):
    """The writers' side, for a signed-in cookie. ``once`` makes a repeated form harmless.

    ``wanted`` False takes back. Each raises an ApplianceError for what was surely not done.
    """

    async def post(self, cookie: str, text: str, *, reply: str, langs: list[str], once: str) -> Outcome: ...
    async def like(self, cookie: str, uri: str, cid: str, *, wanted: bool) -> Outcome: ...
    async def repost(self, cookie: str, uri: str, cid: str, *, wanted: bool) -> Outcome: ...
    async def follow(self, cookie: str, did: str, *, wanted: bool) -> Outcome: ...
    async def delete(self, cookie: str, uri: str) -> Outcome: ...
