"""Timelines as somebody reads them: from the marker on, filtered, counted, with what came late.

One look is one snapshot: rows, marker, counts and what arrived meanwhile agree with each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from appliance.errors import BadInput, NotFound
from appliance.store import completeness, reading
from appliance.store import timeline as skeletons
from appliance.store.reading import Marker
from appliance.store.timeline import Item, Place
from appliance.timeline import cursors
from appliance.timeline.answering import Answering, record_of
from appliance.timeline.asker import Asker
from appliance.timeline.feeds import in_timeline, load
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.presenting import Presenter

T = TypeVar("T")

COUNTED_MAX: Final = 1000
CONTEXT_ROWS: Final = 10
_BATCH: Final = 250
# Rows that one look goes through at most, where filters leave almost nothing.
_LOOKED_AT_MAX: Final = 20_000
_OLDEST: Final = Place(-(2**62), 0, 0)

Page = Callable[[Place, int], list[Item]]


class Wanted(NamedTuple):
    """Which part: newest first the rows ``before`` a cursor, ``after`` one, or from a moment (``at_ms``) on.

    None of them: around the marker. ``whole`` leaves the filters aside; ``seen`` is the arrival number of
    the page from which the reader comes by ``after``.
    """

    before: str = ""
    after: str = ""
    at_ms: int | None = None
    whole: bool = False
    seen: int | None = None
    newest: bool = False


class Part(NamedTuple):
    """Rows, newest first, each with its cursor; what is said around them."""

    feed: list[dict[str, Any]]
    places: list[str]
    late: frozenset[int]
    between: list[dict[str, Any]]
    between_places: list[str]
    read_from: int
    older: str
    newer: str
    above: int
    marker: Marker
    marked: str
    unread: int
    hidden: int
    late_below: int
    arrival: int
    oldest: int | None
    here: str
    title: str = ""


class Counts(NamedTuple):
    """What a page that is open wants to hear now and then."""

    unread: int
    hidden: int
    above: int
    version: int
    marked: str


class _Source(NamedTuple):
    down: Page
    up: Page
    rule: Callable[[State, Item], bool]
    title: str = ""


class ReadingViews:
    """Each method is one snapshot. ``timeline`` is '' for home, else the address of a list."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def part(self, viewer: str, timeline: str, wanted: Wanted, limit: int) -> Part:
        """A page of a timeline. Raises NotFound for a list that is not here, BadInput for no cursor."""
        return await self._look(viewer, lambda state: _part(state, timeline, wanted, limit))

    async def counts(self, viewer: str, timeline: str, top: str) -> Counts:
        """Unread rows, those that filters hide, and rows above a cursor."""

        def work(state: State) -> Counts:
            source, reader = _source(state, timeline), _Sieve(state, timeline)
            unread, hidden = reader.unread(source)
            above = reader.count(source, cursors.parse(top)) if top else 0
            return Counts(unread, hidden, above, reader.marker.version, _text(reader.marker.place))

        return await self._look(viewer, work)

    async def late(self, viewer: str) -> tuple[list[dict[str, Any]], int]:
        """What came late below the marker of home, newest first, and the arrival number of this look."""

        def work(state: State) -> tuple[list[dict[str, Any]], int]:
            reader = _Sieve(state, reading.HOME)
            return [orjson.loads(view) for _, view in reader.views(reader.late())], reader.arrival

        return await self._look(viewer, work)

    async def filters_of(self, viewer: str, timeline: str) -> Marker:
        """The options of a timeline."""
        return await self._look(viewer, lambda state: _Sieve(state, timeline).marker)

    async def account_filter(self, viewer: str, did: str) -> int:
        """What is left out of one account."""

        def work(state: State) -> int:
            found = reading.account_filters(state.reader, _viewer(state))
            if not found:
                return 0
            state.load_actors(list(found))
            return next((bits for actor, bits in found.items() if state.actors[actor].did == did), 0)

        return await self._look(viewer, work)

    async def _look(self, viewer: str, work: Callable[[State], T]) -> T:
        asker = Asker(did=viewer, member=True)
        found: T | None = None

        def members(state: State) -> bytes:
            nonlocal found
            if state.viewer is None or state.viewer == STRANGER:
                raise NotFound("nothing is known of this account")
            found = work(state)
            return b""

        await self._answering.answer(asker, members)
        assert found is not None
        return found


class _Sieve:
    """What of a timeline this reader is shown, in one snapshot."""

    def __init__(self, state: State, timeline: str, *, whole: bool = False) -> None:
        self._state = state
        self._presenter = Presenter(state)
        viewer = _viewer(state)
        self._viewer = viewer
        self.marker = reading.find(state.reader, viewer, timeline)
        self.whole = whole
        self._hide = self.marker.hide
        self._of_account = reading.account_filters(state.reader, viewer)
        self.arrival = completeness.last_arrival(state.reader)

    def hidden_by_flags(self, item: Item) -> bool:
        """Whether filters leave the row out; what its flags alone tell."""
        bits = self._hide | self._of_account.get(item.actor, 0)
        if not bits:
            return False
        if item.flags & skeletons.REPOST:
            return bool(bits & (reading.REPOSTS | reading.ALL_BUT_MEDIA))
        return bool(
            (bits & reading.REPLIES and item.flags & skeletons.REPLY)
            or (bits & reading.QUOTES and item.flags & skeletons.QUOTE)
            or (bits & reading.ALL_BUT_MEDIA and not item.flags & (skeletons.IMAGES | skeletons.VIDEO))
        )

    def hidden(self, item: Item) -> bool:
        """The same of a row whose records are loaded."""
        if self.hidden_by_flags(item):
            return True
        bits = self._hide | self._of_account.get(item.actor, 0)
        row = self._state.records.get(item.subject)
        if row is None:
            return False
        if bits & reading.OWN_REPOSTS and item.flags & skeletons.REPOST and row.actor == item.actor:
            return True
        if bits & reading.REPLIES_TO_STRANGERS and item.flags & skeletons.REPLY and row.parent is not None:
            other = self._state.actor_of(row.parent)
            return other not in (self._viewer, item.actor) and other not in self._state.following
        return False

    def views(
        self, items: list[Item], rule: Callable[[State, Item], bool] = in_timeline
    ) -> list[tuple[Item, bytes]]:
        """Those rows that may be shown, finished."""
        if not self.whole:
            items = [item for item in items if not self.hidden_by_flags(item)]
        load(self._state, items)
        found = []
        for item in items:
            if not rule(self._state, item) or (not self.whole and self.hidden(item)):
                continue
            view = self._presenter.feed_item(item)
            if view is not None:
                found.append((item, view))
        return found

    def upwards(self, source: _Source, place: Place, limit: int) -> tuple[list[tuple[Item, bytes]], bool]:
        """The nearest rows above a place, newest first, and whether there is more above them."""
        found: list[tuple[Item, bytes]] = []
        for _ in range(_LOOKED_AT_MAX // _BATCH):
            items = source.up(place, _BATCH if self._sifts else limit - len(found) + 1)
            if not items:
                return found, False
            place = _place(items[0])
            found = self.views(items, source.rule) + found
            if len(found) > limit:
                return found[-limit:], True
        return found, True

    def downwards(self, source: _Source, place: Place, limit: int) -> tuple[list[tuple[Item, bytes]], bool]:
        """The nearest rows below a place, and whether there is more."""
        found: list[tuple[Item, bytes]] = []
        for _ in range(_LOOKED_AT_MAX // _BATCH):
            items = source.down(place, _BATCH if self._sifts else limit - len(found) + 1)
            if not items:
                return found, False
            place = _place(items[-1])
            found += self.views(items, source.rule)
            if len(found) > limit:
                return found[:limit], True
        return found, True

    def count(self, source: _Source, above: Place) -> int:
        """Rows that are shown above a place; one more than COUNTED_MAX where there are more."""
        return self._tally(source, above)[0]

    def unread(self, source: _Source) -> tuple[int, int]:
        """Rows above the marker that are shown, and those that filters hide. 0 before the first mark."""
        if self.marker.place is None:
            return 0, 0
        return self._tally(source, self.marker.place)

    def _tally(self, source: _Source, place: Place) -> tuple[int, int]:
        whole, self.whole = self.whole, True
        shown = hidden = 0
        try:
            for _ in range(_LOOKED_AT_MAX // _BATCH):
                items = source.up(place, _BATCH)
                if not items:
                    break
                place = _place(items[0])
                for item, _ in self.views(items, source.rule):
                    if self.hidden(item):
                        hidden += 1
                    else:
                        shown += 1
                if shown > COUNTED_MAX:
                    return COUNTED_MAX + 1, hidden
        finally:
            self.whole = whole
        return shown, hidden

    def late(self) -> list[Item]:
        """Rows of home that came in below the marker, as far as they are shown."""
        items = reading.late(self._state.reader, self._viewer, self.marker, self.arrival)
        return [item for item, _ in self.views(items)]

    def between(self, seen: int, upto: Place) -> list[Item]:
        """Rows of home above the marker and not above a place, that came in since the reader passed there."""
        above = self.marker.place or _OLDEST
        return reading.arrived(self._state.reader, self._viewer, (seen, self.arrival), above, upto)

    @property
    def _sifts(self) -> bool:
        return not self.whole and bool(self._hide or self._of_account)


def _part(state: State, timeline: str, wanted: Wanted, limit: int) -> Part:
    source, sieve = _source(state, timeline), _Sieve(state, timeline, whole=wanted.whole)
    marker = sieve.marker
    rows: list[tuple[Item, bytes]]
    between: list[tuple[Item, bytes]] = []
    more_above = below = False
    if wanted.after:
        start = cursors.parse(wanted.after)
        rows, more_above = sieve.upwards(source, start, limit)
        below = True
        if wanted.seen is not None and timeline == reading.HOME:
            between = sieve.views(sieve.between(wanted.seen, start))
    elif wanted.before:
        rows, below = sieve.downwards(source, cursors.parse(wanted.before), limit)
        more_above = True
    elif wanted.at_ms is not None or (marker.place is not None and not wanted.newest):
        start = Place(wanted.at_ms, 0, 0) if wanted.at_ms is not None else marker.place  # type: ignore[assignment]
        above, more_above = sieve.upwards(source, start, limit - CONTEXT_ROWS)
        # The row at the place itself stands below it.
        context, below = sieve.downwards(source, _just_above(start), limit - len(above))
        rows = above + context
    else:
        rows, below = sieve.downwards(source, skeletons.NEWEST, limit)
    items = [item for item, _ in rows]
    top = _text(_place(items[0])) if items else wanted.after
    unread, hidden = sieve.unread(source)
    counted = 0
    if items and more_above:
        shown = sum(marker.place is not None and _place(i) > marker.place for i in items)
        # Between the marker and the top of a page that holds it stands nothing else.
        whole = wanted == Wanted() and unread <= COUNTED_MAX
        counted = unread - shown if whole else sieve.count(source, _place(items[0]))
    read = [i for i in items if marker.place is not None and _place(i) <= marker.place]
    late = frozenset[int]()
    late_below = 0
    if timeline == reading.HOME and marker.place is not None:
        kept = {item.id for item in sieve.late()}
        late_below = len(kept)
        late = frozenset(n for n, item in enumerate(items) if item.id in kept)
    return Part(
        feed=[orjson.loads(view) for _, view in rows],
        places=[_text(_place(item)) for item in items],
        late=late,
        between=[orjson.loads(view) for _, view in between],
        between_places=[_text(_place(item)) for item, _ in between],
        read_from=len(items) - len(read),
        older=_text(_place(items[-1])) if items and below else "",
        newer=top if counted or (wanted.before and not items) else "",
        above=counted,
        marker=marker,
        marked=_text(marker.place),
        unread=unread,
        hidden=hidden,
        late_below=late_below,
        arrival=sieve.arrival,
        oldest=items[-1].sort_ms if items and not below else None,
        here=_text(_just_above(_place(items[0]))) if items else "",
        title=source.title,
    )


def _source(state: State, timeline: str) -> _Source:
    viewer = _viewer(state)
    if timeline == reading.HOME:
        return _Source(
            partial(skeletons.timeline_page, state.reader, viewer),
            partial(skeletons.newer_timeline_page, state.reader, viewer),
            in_timeline,
        )
    found = record_of(state, timeline)
    if found is not None:
        state.load_things([found])
        state.finish()
    if found is None or not state.sees_thing(found):
        raise NotFound("This list does not exist, or it is not known here.")
    owner = state.things[found].actor

    def rule(state: State, item: Item) -> bool:
        state.load_pairs([(owner, item.actor)])
        return in_timeline(state, item) and not state.blocking_each_other(owner, item.actor)

    return _Source(
        partial(skeletons.list_page, state.reader, found),
        partial(skeletons.newer_list_page, state.reader, found),
        rule,
        orjson.loads(b"{" + state.sayings[found].basic + b"}").get("name", ""),
    )


def _viewer(state: State) -> int:
    if state.viewer is None or state.viewer == STRANGER:
        raise BadInput("nobody is asking")
    return state.viewer


def _place(item: Item) -> Place:
    return Place(item.sort_ms, item.tie, item.id)


def _just_above(place: Place) -> Place:
    return place._replace(id=place.id + 1)


def _text(place: Place | None) -> str:
    return "" if place is None else cursors.text_of(place, ambiguous=True)
