"""Blind hosts: two hosts are read side by side now and then, and what one alone shows is looked into."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

from appliance import telemetry
from appliance.errors import BadInput, Unavailable
from appliance.ingest.doors import Host, Tools
from appliance.ingest.line import Line
from appliance.ingest.looks import look
from appliance.ingest.upstream import RETENTION_ASSUMED_US, Chunk, Start
from appliance.protocol.events import CommitEvent
from appliance.store import actors, repos
from appliance.store.database import Reader, Transaction

Key: TypeAlias = tuple[str, str, str, str]  # did, collection, rkey, rev


class Misses(Protocol):
    """(actor, from when) of each account of which audits found what the upstream had not told since then."""

    def __call__(self, reader: Reader, /, upstream: str, since_us: int) -> list[tuple[int, int]]: ...


log = telemetry.Log("ingest")
SAMPLES = telemetry.counter("ingest_samples", "Comparisons of two hosts.", ["end"])
MISSED = telemetry.counter("ingest_sample_misses", "Operations that one host alone told.", ["upstream"])

FOR_S: Final = 60.0
MARGIN_S: Final = 10.0
QUIET_S: Final = 3.0
AUDITS_EVERY_S: Final = 60.0
REASON: Final = f"{repos.STREAM_GAP}: a host was blind"


class Sample(NamedTuple):
    """What a comparison found: told by the other host and, asked again, not by ours; and the reverse."""

    missed: frozenset[Key]
    other_missed: int


class Sampler:
    """Compares the hosts of the lines in force. ``misses`` tells what audits found."""

    def __init__(
        self,
        lines: Callable[[], Sequence[Line]],
        tools: Tools,
        every_s: float,
        misses: Misses | None = None,
        for_s: float = FOR_S,
        margin_s: float = MARGIN_S,
    ) -> None:
        self._lines = lines
        self._tools = tools
        self._every_s = every_s
        self._misses = misses
        self._for_s = for_s
        self._margin_s = margin_s
        self._turn = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._every_s > 0:
                group.create_task(self._sample_forever())
            if self._misses is not None:
                group.create_task(self._ask_audits_forever(self._misses))

    async def sample(self, line: Line) -> Sample | None:
        """Compare once, and leave the host where it was blind; None where nothing could be compared."""
        others = [host for host in line.hosts if host.name != line.host]
        if not others or not line.live:
            return None
        self._turn += 1
        other = others[self._turn % len(others)]
        connection, ours = line.connection, line.host
        began_us = line.newest_us or self._tools.clock.now_us()
        here: dict[Key, float] = {}
        now_s = self._tools.clock.monotonic_s
        # Whatever the other tells must have reached us a little earlier or later: by our own clock, so that
        # theirs don't matter.
        line.tap = lambda chunk: here.update(dict.fromkeys(_keys(chunk), now_s()))
        try:
            await self._tools.clock.sleep(self._margin_s)
            there = await self._told(other, line)
            await self._tools.clock.sleep(self._margin_s)
        except (Unavailable, BadInput) as error:
            SAMPLES.labels("failed").inc()
            log.info("sample_failed", upstream=other.name, error=error)
            return None
        finally:
            line.tap = None
        if line.connection is not connection or not line.live or there is None:
            SAMPLES.labels("disturbed").inc()
            return None
        missing = there.keys() - here.keys()
        if missing:
            missing -= await self._told_again(line, began_us)
        from_s, to_s = min(there.values(), default=0.0), max(there.values(), default=0.0)
        inner = {key for key, at in here.items() if from_s + self._margin_s < at < to_s - self._margin_s}
        sample = Sample(frozenset(missing), len(inner - there.keys()))
        SAMPLES.labels("blind" if missing else "equal").inc()
        log.info(
            "hosts_compared",
            upstream=ours,
            other=other.name,
            both=len(here.keys() & there.keys()),
            missed=len(missing),
            other_missed=sample.other_missed,
        )
        if missing:
            MISSED.labels(ours).inc(len(missing))
            await self._leave(line, other, missing, began_us)
        return sample

    async def _told(self, other: Host, line: Line) -> dict[Key, float] | None:
        """What the other host tells for a while from its tip on, and when."""
        told: dict[Key, float] = {}
        ended = asyncio.ensure_future(self._tools.clock.sleep(self._for_s))
        reading = look(other.make(line.wanted), None, self._tools.clock, self._for_s + 1)
        try:
            async with contextlib.aclosing(reading):
                while True:
                    step = asyncio.ensure_future(anext(reading, None))
                    try:
                        await asyncio.wait({step, ended}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        if not step.done():
                            step.cancel()
                            await asyncio.wait({step})
                    if ended.done():
                        return told
                    chunk = step.result()
                    if chunk is None:
                        return None
                    told.update(dict.fromkeys(_keys(chunk), self._tools.clock.monotonic_s()))
        finally:
            ended.cancel()

    async def _told_again(self, line: Line, from_us: int) -> set[Key]:
        """What our host tells of the same time when it is asked anew: then it was only late."""
        host = next(host for host in line.hosts if host.name == line.host)
        start = Start(None, from_us, same_host=True, seen=False, margin_us=round(self._margin_s * 1e6))
        told: set[Key] = set()
        try:
            reading = look(host.make(line.wanted), start, self._tools.clock, QUIET_S)
            async with contextlib.aclosing(reading):
                # Its tip, by its own clock: what was read of it so far may be what is late.
                until_us = self._tools.clock.now_us() + self._tools.skews.of(host.name)
                async for chunk in reading:
                    told.update(_keys(chunk))
                    if chunk.time_us is not None and chunk.time_us > until_us:
                        break
        except (Unavailable, BadInput) as error:
            log.info("sample_failed", upstream=host.name, error=error)
        return told

    async def _leave(self, line: Line, other: Host, missing: Iterable[Key], began_us: int) -> None:
        """Doubt whom it concerns, and read the other host from the last time on that is certain for them."""
        dids = sorted({key[0] for key in missing})
        clock = self._tools.clock

        def work(tx: Transaction) -> int:
            earliest_us = began_us
            for did in dids:
                actor = actors.find_id(tx, did)
                repo = None if actor is None else repos.find(tx, actor)
                if repo is None:
                    continue
                certain_us = min(began_us, repo.cert_us if repo.cert_us is not None else began_us)
                repos.suspect(tx, repo.actor, REASON, clock.now_us(), from_us=certain_us)
                earliest_us = min(earliest_us, certain_us)
            return earliest_us

        from_us = max(await self._tools.write(work), clock.now_us() - RETENTION_ASSUMED_US)
        log.warning("blind_host", upstream=line.host, accounts=len(dids), from_us=from_us)
        line.leave(other.name, from_us, "it was blind for some accounts")

    async def _sample_forever(self) -> None:
        while True:
            await self._tools.clock.sleep(self._every_s)
            for line in self._lines():
                await self.sample(line)

    async def _ask_audits_forever(self, misses: Misses) -> None:
        since_us = self._tools.clock.now_us()
        while True:
            await self._tools.clock.sleep(AUDITS_EVERY_S)
            asked_us = self._tools.clock.now_us()
            for line in self._lines():
                host = line.host
                found = await self._tools.database.read(partial(misses, upstream=host, since_us=since_us))
                others = [one for one in line.hosts if one.name != host]
                if found and others and line.in_force:
                    from_us = max(min(at for _, at in found), asked_us - RETENTION_ASSUMED_US)
                    log.warning("blind_host", upstream=host, accounts=len(found), from_us=from_us)
                    line.leave(others[0].name, from_us, "audits found what it had not told")
            since_us = asked_us


def _keys(chunk: Chunk) -> Iterable[Key]:
    return [
        (event.did, event.collection, event.rkey, event.rev)
        for event in chunk.events
        if isinstance(event, CommitEvent)
    ]
