"""What every piece of backfill work needs, and the words they share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from appliance import telemetry
from appliance.backfill.pds import Dialects
from appliance.backfill.retries import Hosts
from appliance.clock import Clock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.losses import LAG_US
from appliance.ingest.merge import Rules
from appliance.outbound.client import Outbound
from appliance.store import collections, repos, upstreams
from appliance.store.backlog import Due
from appliance.store.database import Database, Transaction

log = telemetry.Log("backfill")

# What is shown of anybody, newest things first; and what only a member's own reading and writing needs.
FOLLOWEE: Final = tuple(collections.NSIDS[number] for number in collections.OF_EVERYBODY)
FOLLOWS: Final = "app.bsky.graph.follow"
WINDOWED: Final = frozenset({"app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.feed.like"})

MB: Final = 1024 * 1024
DAY_US: Final = 86_400_000_000

# A rev may be this far ahead of our clock: https://atproto.com/specs/sync
FUTURE_US: Final = 5 * 60_000_000

Outcome = Literal["more", "done", "waits", "aside", "again", "overtaken"]


class Overtaken(Exception):
    """The repository has moved on by other hands: this work is void."""


@dataclass
class Tools:
    """The parts that a job works with. One for the life of the process."""

    database: Database
    outbound: Outbound
    identities: Identities
    settings: Settings
    clock: Clock
    rules: Rules
    dialects: Dialects
    hosts: Hosts
    rng: random.Random
    folder: Path
    exports: ExportFailures = field(default_factory=lambda: ExportFailures())
    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    # How far the stream is behind; None where this process reads none.
    lag_s: Callable[[], float | None] | None = None
    # What a record may take from its server to us.
    margin_us: int = LAG_US

    async def told_until_us(self) -> int:
        """The time before which everything that was written has been told by the stream, as far as it tells
        anything. A stream that is read and has nothing to say keeps up with the clock."""
        lag_s = None if self.lag_s is None else self.lag_s()
        if lag_s is not None:
            return self.clock.now_us() - round(lag_s * 1_000_000) - self.margin_us
        return (await self.database.read(upstreams.newest_time_us) or 0) - self.margin_us


def make_tools(
    database: Database,
    outbound: Outbound,
    identities: Identities,
    settings: Settings,
    clock: Clock,
    rules: Rules,
    *,
    lag_s: Callable[[], float | None] | None = None,
    rng: random.Random | None = None,
) -> Tools:
    """A set of its own, that knows nothing of any host yet."""
    # Only spreads waits; nothing depends on it being unguessable.
    rng = rng or random.Random()  # noqa: S311
    return Tools(
        database,
        outbound,
        identities,
        settings,
        clock,
        rules,
        Dialects(clock.monotonic_s),
        Hosts(rng),
        rng,
        settings.data_path / "tmp",
        lag_s=lag_s,
    )


class ExportFailures:
    """Accounts whose whole repository could not be had lately: their collections are listed instead."""

    FAILURES_MAX = 3
    FORGET_AFTER_S = 6 * 3600.0

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def refused(self, did: str, now_s: float) -> None:
        """The host doesn't give it, or it is too large: don't ask again soon."""
        self._failures[did] = (self.FAILURES_MAX, now_s)

    def failed(self, did: str, now_s: float) -> None:
        """What came was cut or wrong: it may be whole the next time."""
        self._failures[did] = (self._failures.get(did, (0, 0.0))[0] + 1, now_s)

    def usable(self, did: str, now_s: float) -> bool:
        """Is it worth asking?"""
        failures, at_s = self._failures.get(did, (0, 0.0))
        if failures and now_s - at_s > self.FORGET_AFTER_S:
            del self._failures[did]
            return True
        return failures < self.FAILURES_MAX


def still(tx: Transaction, repo: repos.Repo) -> None:
    """Is the repository still this worker's? Raises Overtaken."""
    now = repos.find(tx, repo.actor)
    if now is None or now.epoch != repo.epoch or now.state != "SCANNING":
        raise Overtaken


def collections_of(due: Due) -> tuple[str, ...]:
    """What is read of this account, in order: whom a member follows decides what else is to be read."""
    if not due.member:
        return FOLLOWEE
    rest = tuple(nsid for nsid in collections.NUMBERS if nsid not in (FOLLOWS, *FOLLOWEE))
    return (FOLLOWS, *FOLLOWEE, *rest)
