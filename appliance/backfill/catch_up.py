"""Where a stream no longer has what comes after our position, its host's archive may: the way back to it.

The archive stands in for the stream: same numbers, same events, markers included; each portion of rows is
committed with the stream's position that it reaches.
"""

from __future__ import annotations

import contextlib
import random
from typing import Final
from urllib.parse import urlsplit

from appliance import telemetry
from appliance.backfill.archive import KEPT, client
from appliance.backfill.archive_client import DIDS_MAX, Wanted
from appliance.backfill.archive_walk import CYCLES_MAX, Chosen, GaveUp, Passed, Resume, Rows, walk
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import Refused
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.archived import MARKERS, RECORDS, event_of
from appliance.ingest.upstream import COLLECTIONS, Places, good_time
from appliance.outbound.client import Outbound
from appliance.protocol.events import Event
from appliance.store import repos, upstreams
from appliance.store.database import Database, Reader

log = telemetry.Log("ingest")
CAUGHT_UP = telemetry.counter(
    "archive_catch_ups", "Streams that were caught up with, by outcome.", ["outcome"]
)

WIRE: Final = "jetstream-v2"


class CatchUp:
    """Catches up with a Jetstream v2 stream out of the archive of its host."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        applier: Applier,
        settings: Settings,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._database = database
        self._applier = applier
        self._settings = settings
        self._clock = clock
        self._client = client(outbound, settings, clock)
        # Only spreads waits; nothing depends on it being unguessable.
        self._rng = rng or random.Random()  # noqa: S311
        self._idle = 0

    async def catch_up(self, upstream: str, from_seq: int) -> int | None:
        """Apply what came after ``from_seq``, the last number of that upstream whose rows are in.

        The number that the stream then goes on from, all rows up to it in and the position stored. None where
        the archive can't do it: what is missing then has to be found in the repositories.
        """
        if not self._knows(upstream):
            return None
        try:
            reached = await self._walk(upstream, from_seq)
        except (GaveUp, Refused) as error:
            self._gave_up(upstream, from_seq, str(error))
            return None
        self._idle = 0 if reached > from_seq else self._idle + 1
        if self._idle >= CYCLES_MAX:
            self._gave_up(upstream, from_seq, "the stream is ahead of its archive")
            return None
        CAUGHT_UP.labels("done").inc()
        log.info("archive_caught_up", upstream=upstream, from_seq=from_seq, to_seq=reached)
        return reached

    def _knows(self, upstream: str) -> bool:
        """Whether the archive counts as that upstream does: numbers belong to one host."""
        wire, _, url = upstream.partition(" ")
        archive = urlsplit(self._settings.archive_origin).hostname
        return wire == WIRE and archive is not None and archive == urlsplit(url).hostname

    def _gave_up(self, upstream: str, from_seq: int, why: str) -> None:
        self._idle = 0
        CAUGHT_UP.labels("gave up").inc()
        log.error("archive_gave_up", upstream=upstream, from_seq=from_seq, error=why)

    async def _walk(self, upstream: str, from_seq: int) -> int:
        def look(reader: Reader) -> tuple[list[str], upstreams.Position | None]:
            return [did for did, _, _ in repos.tracked(reader)], upstreams.find(reader, upstream)

        dids, position = await self._database.read(look)
        named = self._settings.store_scope == "tracked"
        if named and not dids:
            raise GaveUp("nobody is tracked, so there is nothing to catch up with")
        asked = tuple(dids) if named and len(dids) <= DIDS_MAX else ()
        chosen = Chosen(frozenset(did.encode() for did in dids) if named else None, RECORDS | MARKERS)
        wanted = Wanted(dids=asked, collections=COLLECTIONS)
        places = Places()
        reached = from_seq
        time_us = position.time_us if position is not None else None
        steps = walk(self._client, wanted, chosen, Resume(from_seq), self._clock, self._rng)
        async with contextlib.aclosing(steps):  # type: ignore[type-var]
            async for step in steps:
                events: list[Event] = []
                if isinstance(step, Rows):
                    events = [event for row in step.rows if (event := event_of(row, places)) is not None]
                    if good_time(step.time_us):
                        time_us = max(time_us or 0, step.time_us)
                elif not isinstance(step, Passed):
                    continue
                reached = max(reached, step.seq)
                await self._store(Batch(upstream, WIRE, reached, time_us, events, archived=True))
        return reached

    async def _store(self, batch: Batch) -> None:
        tally = await self._database.write(
            lambda tx: self._applier.apply_batch(tx, batch, now_us=self._clock.now_us())
        )
        KEPT.labels("applied").inc(tally.applied)
        KEPT.labels("other").inc(len(batch.events) - tally.applied)
