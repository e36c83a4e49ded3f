"""Lies on request: what a stream or a PDS does wrong, and the ledger of each time it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from appliance.devnet.wire import Row

LEDGER_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Lie:
    """One wrong that was done: by which fault, to which message (0 where there was none)."""

    fault: str
    position: int
    did: str
    detail: str


@dataclass(slots=True, kw_only=True)
class Faults:
    """Counters and ledger, and how faults are switched."""

    fired: Counter[str] = field(default_factory=Counter)
    ledger: list[Lie] = field(default_factory=list)

    def note(self, fault: str, position: int = 0, did: str = "", detail: str = "") -> None:
        """It fired."""
        self.fired[fault] += 1
        if len(self.ledger) < LEDGER_MAX:
            self.ledger.append(Lie(fault, position, did, detail))

    def switch(self, values: dict[str, Any]) -> None:
        """From plain JSON; raises ValueError for a fault that doesn't exist."""
        for name, value in values.items():
            if name not in self._switches():
                raise ValueError(f"there is no fault {name}")
            before = getattr(self, name)
            typed = isinstance(before, frozenset | tuple) and isinstance(value, list)
            setattr(self, name, type(before)(value) if typed else value)

    def off(self) -> None:
        """Nothing wrong any more; counters and ledger stay."""
        clean = type(self)()
        for name in self._switches():
            setattr(self, name, getattr(clean, name))

    def report(self) -> dict[str, Any]:
        """What fired, as plain JSON."""
        return {"fired": dict(self.fired), "ledger": [asdict(lie) for lie in self.ledger]}

    def _switches(self) -> set[str]:
        return {entry.name for entry in fields(self)} - {"fired", "ledger"}


@dataclass(slots=True, kw_only=True)
class StreamFaults(Faults):
    """What one stream does wrong from now on; everything off to begin with.

    A swallowed event stays swallowed, also for who asks again: ``swallow_every`` takes every
    n-th event, ``swallow_between`` those with these numbers (both ends included), ``swallow_dids``
    and ``swallow_collections`` all commits of these. ``cut_every`` ends a connection without a word
    after so many messages; ``duplicate_every`` sends every n-th twice; ``mute`` sends nothing
    and keeps the line; ``delay_s`` waits before each message; ``keep_events`` retains so few events;
    ``silent_clamp`` says nothing when a cursor is outside the window. ``blind_dids`` are left out for whoever
    reads, for as long as it is set: who asks again later gets them. ``race_events`` loses so many events
    where a replay ends, as v1 does; ``ignore_updates`` takes no options_update after the first one, and
    ``half_updates`` of its accounts only every second. ``outbox_events`` ends a connection at its first live
    event after a replay of as many. ``url_max`` refuses longer addresses with 414.
    """

    cut_every: int = 0
    swallow_every: int = 0
    swallow_between: tuple[int, int] = (0, 0)
    swallow_dids: frozenset[str] = frozenset()
    swallow_collections: frozenset[str] = frozenset()
    duplicate_every: int = 0
    mute: bool = False
    delay_s: float = 0.0
    keep_events: int | None = None
    silent_clamp: bool = False
    blind_dids: frozenset[str] = frozenset()
    race_events: int = 0
    ignore_updates: bool = False
    half_updates: bool = False
    outbox_events: int = 0
    url_max: int = 0

    def hides(self, row: Row) -> bool:
        """Whether this message is not told to those who read now."""
        if row.did not in self.blind_dids:
            return False
        self.note("blind", row.position, row.did, row.collection)
        return True

    def swallows(self, row: Row) -> bool:
        """Whether this message never arrives anywhere."""
        first, last = self.swallow_between
        gone = (
            (self.swallow_every > 0 and row.n % self.swallow_every == 0)
            or first <= row.n <= last
            or (row.kind == "commit" and row.did in self.swallow_dids)
            or row.collection in self.swallow_collections
        )
        if gone:
            self.note("swallow", row.position, row.did, row.collection)
        return gone


@dataclass(slots=True, kw_only=True)
class PdsFaults(Faults):
    """What one PDS does wrong.

    ``fail_every`` answers every n-th request with ``fail_status``, ``hang_every`` never answers it; ``down``
    answers nothing but 502; ``delay_s`` is added to each answer; ``limit`` allows so many requests in the
    limit's window; ``storm`` answers that many requests with 429 and asks for ``storm_wait_s``, told by
    ``storm_header`` (``retry-after``, ``ratelimit-reset``, or none); ``missing_calls`` are not implemented.

    Listings: ``hide_records`` leaves these URIs out; ``busy_lists`` writes to the account before
    each of that many pages (one post more, one less, one changed); ``leave_at_page`` moves the account to
    ``leave_to`` before its n-th.

    Exports: ``cut_exports`` ends getRepo early on a block's end, after ``cut_after`` blocks or halfway;
    ``cut_each`` the n-th after n blocks, beginning again when one would be whole;
    ``torn_exports`` lacks the nodes that a write meanwhile replaced; ``swap_exports`` is whose repository is
    given in place of the one asked for; ``old_exports`` gives the first state that is known.

    ``lag_s`` reads everything as it was then, ``lag_lists_s`` all but the newest rev: replicas.
    ``echo_status`` says so of every account in it, whatever is true: ``{did: status}``.
    """

    fail_every: int = 0
    fail_status: int = 503
    hang_every: int = 0
    down: bool = False
    delay_s: float = 0.0
    limit: int = 0
    storm: int = 0
    storm_wait_s: float = 30.0
    storm_header: str = "retry-after"
    missing_calls: frozenset[str] = frozenset()
    hide_records: frozenset[str] = frozenset()
    busy_lists: int = 0
    leave_at_page: int = 0
    leave_to: int = 0
    cut_exports: bool = False
    cut_after: int = -1
    cut_each: bool = False
    torn_exports: bool = False
    swap_exports: str = ""
    old_exports: bool = False
    lag_s: float = 0.0
    lag_lists_s: float = 0.0
    echo_status: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class PlcFaults(Faults):
    """What the directory does wrong: ``down`` answers 503, ``hang`` nothing, ``stale_us`` as of that time."""

    down: bool = False
    hang: bool = False
    stale_us: int = 0
