"""How complete a viewer's timeline is: one judgement for API, pages and probes.

It says less rather than more: a state counts only while the stream delivers, and a time up to which
nothing is missing is the earliest of all that bound it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

from appliance.errors import BadInput, NotFound
from appliance.protocol.syntax import is_at_identifier
from appliance.store import actor_reads, actors, completeness, upstreams
from appliance.store.completeness import Account, Doubt, Late, Share
from appliance.store.database import Database, Reader

# A stream that is further behind than this is not live any more (GAPFREE §6.8, 99).
LAG_MAX_S: Final = 60.0

ViewState: TypeAlias = Literal["complete", "complete-until", "catching-up", "waiting", "not-live"]


class Stream(NamedTuple):
    """The live stream as it stands. ``down_since_us`` is None while it delivers; ``lag_s`` is how far the
    rows are behind, None while nobody knows."""

    down_since_us: int | None
    lag_s: float | None


class Wait(NamedTuple):
    """Accounts that can't be read just now, by the class of what is in the way."""

    reason: str
    accounts: int
    next_at_us: int | None


class Report(NamedTuple):
    """What can be said of a timeline. ``until_us`` is None where no time can be named, or none is needed.

    ``history_since`` is the date to which histories go back where the operator keeps no older ones, else ''.
    """

    state: ViewState
    until_us: int | None = None
    down_since_us: int | None = None
    lag_s: float | None = None
    total: int = 0
    complete: int = 0
    doubtful: int = 0
    catching_up: int = 0
    waiting: int = 0
    inactive: int = 0
    records: int = 0
    oldest_check_us: int | None = None
    history_since: str = ""
    waits: tuple[Wait, ...] = ()
    position_us: int | None = None
    arrival: int = 0


class Certificate(NamedTuple):
    """An account's standing here, and of which collections its digest speaks."""

    account: Account
    collections: list[str]


class Completeness:
    """Asks the rows. ``stream`` tells of the live stream without waiting."""

    def __init__(self, database: Database, stream: Callable[[], Stream]) -> None:
        self._database = database
        self._stream = stream

    async def of(self, viewer: str) -> Report:
        """About everybody whom this DID follows. Raises NotFound where nobody here has it."""
        stream = self._stream()

        def look(reader: Reader) -> Report:
            actor = _viewer(reader, viewer)
            shares = completeness.of_viewer(reader, actor)
            return judge(shares, stream, upstreams.newest_time_us(reader), completeness.last_arrival(reader))

        return await self._database.read(look)

    async def doubts(self, viewer: str) -> list[Doubt]:
        """Intervals of which something may be missing, earliest first."""
        stream = self._stream()

        def look(reader: Reader) -> list[Doubt]:
            found = completeness.doubts_of_viewer(reader, _viewer(reader, viewer))
            if _is_late(stream):
                since_us = stream.down_since_us or 0
                position_us = upstreams.newest_time_us(reader)
                found.append(Doubt("the live stream is behind", position_us, None, 0, since_us, []))
            return found

        return await self._database.read(look)

    async def accounts(
        self, viewer: str, *, cursor: str = "", limit: int = 50, incomplete: bool = False
    ) -> tuple[list[Account], str]:
        """Account by account, and the cursor of what follows; '' at the end."""
        after = _number(cursor)

        def look(reader: Reader) -> list[Account]:
            return completeness.accounts_of_viewer(
                reader, _viewer(reader, viewer), after=after, limit=limit + 1, incomplete=incomplete
            )

        found = await self._database.read(look)
        return found[:limit], str(found[limit - 1].actor) if len(found) > limit else ""

    async def late(self, viewer: str, since: int, limit: int) -> tuple[list[Late], int, bool]:
        """What arrived after the marker below the top of then, the next marker, and whether to go on."""
        return await self._database.read(
            lambda reader: completeness.late(reader, _viewer(reader, viewer), since, limit)
        )

    async def of_account(self, did: str) -> Account | None:
        """One account; None when nobody here follows it."""

        def look(reader: Reader) -> Account | None:
            actor = actors.find_id(reader, did)
            return None if actor is None else completeness.of_actor(reader, actor)

        return await self._database.read(look)

    async def certificate(self, did_or_handle: str) -> Certificate:
        """For whoever asks. Raises BadInput (``AccountNotTracked``) where nobody here follows the account."""
        if not is_at_identifier(did_or_handle):
            raise BadInput("actor is a DID or a handle")

        def look(reader: Reader) -> Certificate:
            actor = actor_reads.find_actor(reader, did_or_handle)
            found = None if actor is None else completeness.shown_to_anybody(reader, actor)
            if found is None:
                raise BadInput("Nobody here follows this account", name="AccountNotTracked")
            return Certificate(found, completeness.SHOWN_COLLECTIONS)

        return await self._database.read(look)


def judge(shares: Iterable[Share], stream: Stream, position_us: int | None, arrival: int) -> Report:
    """One state for all of it: the first that holds of not-live, catching-up, waiting, complete-until."""
    shares = list(shares)
    numbers: dict[str, int] = {}
    for share in shares:
        numbers[share.shown] = numbers.get(share.shown, 0) + share.accounts
    doubtful = numbers.get(completeness.UNTIL, 0)
    catching_up = numbers.get(completeness.CATCHING_UP, 0)
    waiting = numbers.get(completeness.WAITING, 0)
    state: ViewState = "complete"
    if stream.down_since_us is not None:
        state = "not-live"
    elif catching_up:
        state = "catching-up"
    elif waiting:
        state = "waiting"
    elif doubtful or _is_late(stream):
        state = "complete-until"
    until_us = None
    if state != "complete" and not any(share.unproved for share in shares if share.shown != "inactive"):
        bounds = [share.proved_us for share in shares if share.proved_us is not None]
        if _is_late(stream):
            # Nothing is known of what lies behind the position, nor anything where there is none.
            bounds.append(position_us or 0)
        until_us = min(bounds, default=0) or None
    waits: dict[str, Wait] = {}
    for share in shares:
        if share.shown == completeness.WAITING:
            before = waits.get(share.reason_class, Wait(share.reason_class, 0, None))
            next_at_us = _earliest(before.next_at_us, share.next_at_us)
            waits[share.reason_class] = Wait(share.reason_class, before.accounts + share.accounts, next_at_us)
    return Report(
        state=state,
        until_us=until_us,
        down_since_us=stream.down_since_us,
        lag_s=stream.lag_s,
        total=sum(numbers.values()),
        complete=numbers.get(completeness.COMPLETE, 0),
        doubtful=doubtful,
        catching_up=catching_up,
        waiting=waiting,
        inactive=numbers.get(completeness.INACTIVE, 0),
        records=sum(share.records for share in shares),
        oldest_check_us=_earliest(*(share.oldest_check_us for share in shares if share.shown != "inactive")),
        history_since=max((share.since for share in shares), default=""),
        waits=tuple(sorted(waits.values(), key=lambda wait: (-wait.accounts, wait.reason))),
        position_us=position_us,
        arrival=arrival,
    )


def _is_late(stream: Stream) -> bool:
    return stream.down_since_us is not None or stream.lag_s is None or stream.lag_s > LAG_MAX_S


def _earliest(*moments: int | None) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _viewer(reader: Reader, did: str) -> int:
    found = actors.find_id(reader, did)
    if found is None:
        raise NotFound("nothing is known of this account")
    return found


def _number(cursor: str) -> int:
    if not cursor:
        return 0
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise BadInput("Malformed cursor", name="BadCursor")
    return int(cursor)
