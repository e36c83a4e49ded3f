"""What a member kept at the AppView that he used before: read through his own server, and kept here.

The member's PDS vouches for him there (``atproto-proxy``). Everything can be repeated: what is here
already, and what the member has set otherwise since, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import BadInput, NotFound, Unavailable
from appliance.outbound.addresses import Params
from appliance.outbound.client import Answer
from appliance.outbound.limits import PDS_JSON, Limits
from appliance.protocol import lexicons, syntax
from appliance.protocol.syntax import parse_datetime_us
from appliance.protocol.tid import tid_of
from appliance.store import actors, imports, sessions
from appliance.store.database import OWN_FAULTS, Database, Transaction
from appliance.timeline import notification_preferences

log = telemetry.Log("members")

OFFICIAL: Final = "did:web:api.bsky.app#bsky_appview"
PAGES_MAX: Final = 1_000  # of one kind
# A page that its server can't give is asked for again in smaller pieces: all before the bad entry is had.
LIMITS: Final = (100, 10, 1)
CURSOR_CHARS_MAX: Final = 2_000
_FROM_PDS = PDS_JSON.for_person()


class PdsSessions(Protocol):
    """Calls under a member's sign-in at his PDS; ``auth.pds_sessions`` is one."""

    async def call(
        self,
        pds_session: int,
        method: str,
        nsid: str,
        *,
        limits: Limits,
        params: Params | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer: ...


class Told(msgspec.Struct):
    """How it went with one kind. ``kept``: was here already. ``skipped``: entries that make no sense."""

    kind: str
    read: int = 0
    added: int = 0
    kept: int = 0
    skipped: int = 0
    error: str = ""


class _Place(msgspec.Struct, array_like=True, frozen=True):
    """Where to go on: which kind, its page, and how much of the kind was read."""

    kind: int
    begun_us: int
    pages: int = 0
    entries: int = 0
    cursor: str = ""


class Report(msgspec.Struct):
    """``cursor`` where there is more to read."""

    kinds: list[Told]
    cursor: str | None = None


# Puts one entry; True when that changed anything. Raises BadInput where it makes no sense.
Put = Callable[[Transaction, int, Any, int], bool]


class _Kind(msgspec.Struct, frozen=True):
    name: str
    nsid: str
    member: str  # of the answer, with the entries
    put: Put


class Importing:
    """Reads page after page. ``step`` may be repeated at any time."""

    def __init__(self, database: Database, pds_sessions: PdsSessions, clock: Clock) -> None:
        self._database = database
        self._pds_sessions = pds_sessions
        self._clock = clock

    async def everything(self, did: str, service: str = OFFICIAL) -> list[Told]:
        """All of it, however long that takes. Raises as ``step``."""
        found: dict[str, Told] = {}
        cursor: str | None = ""
        while cursor is not None:
            report = await self.step(did, service, cursor, within_s=60.0)
            for told in report.kinds:
                found[told.kind] = _sum(found.get(told.kind), told)
            cursor = report.cursor
        return list(found.values())

    async def step(self, did: str, service: str, cursor: str, *, within_s: float) -> Report:
        """As much of it as can be read in about that time, from where the last step ended.

        Raises NotFound where the member has no sign-in here by which to ask, Refused where that is over,
        BadInput for a cursor or a service that is none.
        """
        name, _, fragment = service.partition("#")
        if not syntax.is_did(name) or not fragment:
            raise BadInput("A service is named by a DID, # and its id there")
        place = _place(cursor) or _Place(0, self._clock.now_us())
        signed_in = await self._database.read(lambda r: sessions.newest_of(r, did))
        if signed_in is None:
            raise NotFound("Sign in here first: your own server has to vouch for you", name="NoSession")
        end_s = self._clock.monotonic_s() + within_s
        report = Report([])
        while place.kind < len(KINDS):
            if report.kinds and self._clock.monotonic_s() >= end_s:
                report.cursor = msgspec.json.encode(place).decode()
                return report
            kind = KINDS[place.kind]
            if not report.kinds or report.kinds[-1].kind != kind.name:
                report.kinds.append(Told(kind.name))
            place = await self._page(signed_in, service, kind, place, report.kinds[-1])
        return report

    async def _page(
        self, signed_in: sessions.SignedIn, service: str, kind: _Kind, place: _Place, told: Told
    ) -> _Place:
        """Read and keep one page; where to go on."""
        following = _Place(place.kind + 1, place.begun_us)
        body: dict[str, Any] | None = None
        limits = LIMITS if kind.member != PREFERENCES else LIMITS[:1]
        limit = limits[0]
        for limit in limits:
            try:
                body = await self._ask(signed_in.pds_session, service, kind, place.cursor, limit)
            except (Unavailable, BadInput, NotFound) as error:
                if error.name in OWN_FAULTS:
                    raise
                told.error = error.message
                log.info("import_page_failed", kind=kind.name, limit=limit, error=error)
                continue
            told.error = ""
            break
        if body is None:
            return following
        entries = body.get(kind.member)
        if kind.member == PREFERENCES:
            entries = [entries]
        if not isinstance(entries, list):
            told.error = "the answer is none"
            return following

        def keep(tx: Transaction) -> tuple[int, int]:
            added = skipped = 0
            for number, entry in enumerate(entries):
                try:
                    # The first entry is the newest: each has its own moment, one before the other.
                    added += kind.put(tx, signed_in.actor, entry, place.begun_us - place.entries - number)
                except (BadInput, KeyError, TypeError, ValueError):
                    skipped += 1
            return added, skipped

        added, skipped = await self._database.write(keep, durable=True)
        told.read += len(entries)
        told.added += added
        told.skipped += skipped
        told.kept += len(entries) - added - skipped
        cursor = body.get("cursor")
        pages = place.pages + 1
        if not isinstance(cursor, str) or not cursor or cursor == place.cursor:
            return following
        if pages >= PAGES_MAX or len(cursor) > CURSOR_CHARS_MAX:
            told.error = "there is more than can be read"
            return following
        return _Place(place.kind, place.begun_us, pages, place.entries + len(entries), cursor)

    async def _ask(
        self, pds_session: int, service: str, kind: _Kind, cursor: str, limit: int
    ) -> dict[str, Any]:
        params: Params = {} if kind.member == PREFERENCES else {"limit": limit}
        if cursor:
            params["cursor"] = cursor
        answer = await self._pds_sessions.call(
            pds_session,
            "GET",
            kind.nsid,
            limits=_FROM_PDS,
            params=params,
            headers={"atproto-proxy": service},
        )
        if not answer.ok:
            raise Unavailable(f"the service answers {answer.status}")
        body = answer.json()
        if not isinstance(body, dict):
            raise BadInput("the answer is none")
        return body


def _place(cursor: str) -> _Place | None:
    if not cursor:
        return None
    try:
        place = msgspec.json.decode(cursor, type=_Place)
    except msgspec.MsgspecError as error:
        raise BadInput("Malformed cursor") from error
    if not (0 <= place.kind <= len(KINDS) and 0 <= place.begun_us < 2**53 and 0 <= place.entries < 2**31):
        raise BadInput("Malformed cursor")
    return place


def _sum(before: Told | None, told: Told) -> Told:
    if before is None:
        return told
    return Told(
        told.kind,
        before.read + told.read,
        before.added + told.added,
        before.kept + told.kept,
        before.skipped + told.skipped,
        told.error,
    )


def _mute(tx: Transaction, viewer: int, entry: Any, at_us: int) -> bool:
    return imports.mute(tx, viewer, _actor(tx, entry), at_us)


def _list_mute(tx: Transaction, viewer: int, entry: Any, at_us: int) -> bool:
    return imports.list_mute(tx, viewer, entry["uri"], at_us)


def _list_block(tx: Transaction, _viewer: int, entry: Any, _at_us: int) -> bool:
    # A record of the member's own: it is here, or comes with his repository. What it needs is the list.
    imports.know_list(tx, entry["uri"])
    return False


def _bookmark(tx: Transaction, viewer: int, entry: Any, _at_us: int) -> bool:
    subject = entry["subject"]
    if not syntax.is_cid(subject["cid"]):
        raise BadInput("this names no version of a post")
    return imports.bookmark(tx, viewer, subject["uri"], subject["cid"], parse_datetime_us(entry["createdAt"]))


def _subscription(tx: Transaction, viewer: int, entry: Any, at_us: int) -> bool:
    wanted = entry["viewer"]["activitySubscription"]
    post, reply = wanted["post"] is True, wanted["reply"] is True
    return imports.subscription(tx, viewer, _actor(tx, entry), tid_of(at_us, 0), post=post, reply=reply)


def _preferences(tx: Transaction, viewer: int, entry: Any, _at_us: int) -> bool:
    if lexicons.validate_output(_PREFERENCES_NSID, {"preferences": entry}) is not None:
        raise BadInput("these are no preferences")
    return imports.preferences(tx, viewer, notification_preferences.changed("{}", entry))


def _actor(tx: Transaction, entry: Any) -> int:
    return actors.ensure(tx, syntax.normalise_did(entry["did"]))


PREFERENCES: Final = "preferences"
_PREFERENCES_NSID: Final = "app.bsky.notification.getPreferences"
KINDS: Final = (
    _Kind("mutes", "app.bsky.graph.getMutes", "mutes", _mute),
    _Kind("listMutes", "app.bsky.graph.getListMutes", "lists", _list_mute),
    _Kind("listBlocks", "app.bsky.graph.getListBlocks", "lists", _list_block),
    _Kind("bookmarks", "app.bsky.bookmark.getBookmarks", "bookmarks", _bookmark),
    _Kind(
        "activitySubscriptions",
        "app.bsky.notification.listActivitySubscriptions",
        "subscriptions",
        _subscription,
    ),
    _Kind("notificationPreferences", _PREFERENCES_NSID, PREFERENCES, _preferences),
)
