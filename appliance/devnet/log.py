"""The one log that drives every stream: who wrote what in which order.

Each reader keeps its own place and reads on from there, so nothing is queued for anybody and a
slow reader costs nobody anything. Recent events stay in memory, older ones are read from the journal.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from appliance.devnet.entries import Body, CommitBody, Event, SyncBody
from appliance.devnet.journal import Journal, Proofs

RECENT_MAX = 4096
# The relay's numbers are unlike the others', so that a mix-up shows.
RELAY_SEQ_BASE = 7_000_000


class Told:
    """An event with what the streams made of it, kept so that it is made once for all readers."""

    __slots__ = ("_nodes", "_proofs", "event", "forms")

    def __init__(self, event: Event, proofs: Proofs, nodes: list[bytes] | None = None) -> None:
        self.event = event
        self.forms: dict[Any, Any] = {}
        self._proofs = proofs
        self._nodes = nodes

    @property
    def nodes(self) -> list[bytes]:
        """The tree nodes that prove a commit's operations."""
        if self._nodes is None:
            self._nodes = self._proofs.get(self.event.n)
        return self._nodes

    @property
    def relay_seq(self) -> int:
        return RELAY_SEQ_BASE + self.event.n


class EventLog:
    """Every event since the network began; how far back a stream may go is the stream's affair."""

    def __init__(self, journal: Journal, proofs: Proofs, now_us: Callable[[], int]) -> None:
        self._journal = journal
        self._proofs = proofs
        self._now_us = now_us
        self._offsets = array("Q")
        self._times = array("q")
        self._rows = array("Q")
        self._of_pds: dict[int, array[int]] = {}
        self._recent: deque[Told] = deque(maxlen=RECENT_MAX)
        self._next_row = 1
        self._next_time_us = 0
        self._grown = asyncio.Event()

    @property
    def end(self) -> int:
        """The number that the next event will have."""
        return len(self._offsets) + 1

    @property
    def next_row(self) -> int:
        """The Jetstream v2 seq that the next row will have."""
        return self._next_row

    def pds_end(self, pds: int) -> int:
        """The seq that the next event of this PDS will have there."""
        return len(self._of_pds.get(pds, ())) + 1

    def append(self, pds: int, did: str, body: Body, nodes: list[bytes]) -> Event:
        """Write it down, then wake the readers."""
        rows = 1
        if isinstance(body, CommitBody):
            rows = len(body.writes)
        elif isinstance(body, SyncBody):
            rows = 1 + len(body.resync)
        event = Event(
            n=self.end,
            time_us=max(self._now_us(), self._next_time_us),
            pds=pds,
            pds_seq=self.pds_end(pds),
            row=self._next_row,
            rows=rows,
            did=did,
            body=body,
        )
        # Proof first: a killed process may leave a proof nobody asks for, never an event without one.
        if isinstance(body, CommitBody | SyncBody):
            self._proofs.put(event.n, nodes)
        self._index(event, self._journal.append(event))
        self._recent.append(Told(event, self._proofs, nodes))
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return event

    def replayed(self, at: int, event: Event) -> None:
        """Take up an event found in the journal."""
        self._index(event, at)

    def read(self, start: int, limit: int) -> list[Told]:
        """Events from number ``start`` on; empty at the end."""
        if start >= self.end:
            return []
        first_recent = self._recent[0].event.n if self._recent else self.end
        if start >= first_recent:
            skip = start - first_recent
            return [self._recent[i] for i in range(skip, min(len(self._recent), skip + limit))]
        return [self.get(n) for n in range(start, min(start + limit, first_recent))]

    def get(self, n: int) -> Told:
        """One event by its number."""
        first_recent = self._recent[0].event.n if self._recent else self.end
        if n >= first_recent:
            return self._recent[n - first_recent]
        event = self._journal.read(self._offsets[n - 1])
        assert isinstance(event, Event), "the index points at an event"
        return Told(event, self._proofs)

    async def beyond(self, n: int) -> None:
        """Return once there is an event with number ``n``."""
        while n >= self.end:
            await self._grown.wait()

    def at_time(self, us: int) -> int:
        """Number of the first event with a row at or after that time."""
        n = bisect_left(self._times, us) + 1
        if n > 1 and (before := self.get(n - 1).event).time_us + before.rows > us:
            return n - 1
        return n

    def at_row(self, row: int) -> int:
        """Number of the event that has this Jetstream v2 seq, or of the next one with rows."""
        n = bisect_right(self._rows, row)
        return max(n, 1)

    def of_pds(self, pds: int) -> array[int]:
        """Numbers of this PDS's events; place i has seq i + 1."""
        return self._of_pds.setdefault(pds, array("Q"))

    def time_of(self, n: int) -> int:
        return self._times[n - 1]

    def row_of(self, n: int) -> int:
        """Jetstream v2 seq of the first row at or after event ``n``."""
        return self._rows[n - 1] if n < self.end else self._next_row

    def forget_proofs_below(self, n: int) -> None:
        self._proofs.drop_below(n)

    def _index(self, event: Event, at: int) -> None:
        self._offsets.append(at)
        self._times.append(event.time_us)
        self._rows.append(event.row)
        self.of_pds(event.pds).append(event.n)
        self._next_row = event.row + event.rows
        self._next_time_us = event.time_us + max(event.rows, 1)
