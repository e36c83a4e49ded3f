"""Where chunks come from, and what whoever reads them needs."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from appliance.clock import Clock
from appliance.ingest.lists import Wanted
from appliance.ingest.skew import Skew
from appliance.ingest.skews import Skews
from appliance.ingest.upstream import Chunk, Wire, WireName
from appliance.store.database import Database, Transaction

if TYPE_CHECKING:
    from appliance.ingest.line import Line

T = TypeVar("T")


class Host(NamedTuple):
    """An upstream, and how to speak to it."""

    name: str
    wire: WireName
    make: Callable[[Wanted], Wire]


class Door:
    """Where chunks come from: a connection of a line, or a short one that seals the seam of that.

    ``row`` is the connection's in table coverage, once the writer has made it.
    """

    __slots__ = ("line", "name", "row", "seals", "wire")

    def __init__(self, line: Line, name: str, wire: WireName, *, seals: bool = False) -> None:
        self.line = line
        self.name = name
        self.wire = wire
        self.seals = seals
        self.row: int | None = None

    @property
    def known_row(self) -> int:
        """The row, for what the writer does after it was made."""
        assert self.row is not None
        return self.row


class Write(Protocol):
    """Commits, however long the disk refuses."""

    async def __call__(self, work: Callable[[Transaction], T], /) -> T: ...


class CatchUp(Protocol):
    """Brings an upstream that has forgotten our position up to one that it knows, out of its archive."""

    async def __call__(self, upstream: str, from_seq: int, /) -> int | None:
        """The number reached, stored with its rows; None where it can't be done."""
        ...


class Tools(NamedTuple):
    """What every line needs. ``deliver`` returns when the chunk is queued, ``settled`` when all that was
    queued is committed; ``catch_up`` is None where there is no archive."""

    database: Database
    clock: Clock
    deliver: Callable[[Door, Chunk], Awaitable[None]]
    settled: Callable[[], Awaitable[None]]
    write: Write
    catch_up: CatchUp | None
    skews: Skews
    skew: Skew  # our own clock beside those of the hosts
    random: random.Random
