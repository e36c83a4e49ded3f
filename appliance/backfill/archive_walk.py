"""The way through an archive: page after page of the plan, segment after segment, rows by their numbers.

Nothing of a segment is given out before all that is planned of it has come in one generation. A new
generation, a bad byte or a silence costs that segment alone: a new plan begins where the last one ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

from appliance import telemetry
from appliance.backfill.archive_client import ArchiveClient, Fetched, NewGeneration, Planned, Wanted
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.protocol.segments import Row

log = telemetry.Log("backfill")
RESTARTS = telemetry.counter("archive_restarts", "Segments of an archive that were begun anew.", ["why"])

CYCLES_MAX: Final = 5
PAUSE_MIN_S: Final = 0.25
PAUSE_MAX_S: Final = 60.0
ROWS_AT_ONCE: Final = 500


class GaveUp(ApplianceError):
    """Cycle after cycle nothing was won; the cause says what the last one failed at."""

    name = "ArchiveGaveUp"


class Resume(NamedTuple):
    """Where to begin: behind ``after_seq``, up to ``tip_seq`` or where the archive ends when it is planned.

    Of one generation of one segment the rows up to ``seq`` are in already.
    """

    after_seq: int = 0
    tip_seq: int | None = None
    segment: str = ""
    checksum: str = ""
    seq: int = 0


class Chosen(NamedTuple):
    """Which rows to give out; None stands for all accounts. Plans promise too much, never too little."""

    dids: frozenset[bytes] | None
    collections: frozenset[bytes]


class Tip(NamedTuple):
    """Where the walk will end; comes first."""

    seq: int


class Rows(NamedTuple):
    """The next rows of a segment: with them everything of it up to ``seq`` is out, at ``time_us``.

    Rows up to ``known_seq`` were taken before.
    """

    planned: Planned
    rows: list[Row]
    seq: int
    time_us: int
    known_seq: int


class Passed(NamedTuple):
    """Everything up to here has come."""

    seq: int


async def walk(
    client: ArchiveClient,
    wanted: Wanted,
    chosen: Chosen,
    resume: Resume,
    clock: Clock,
    rng: random.Random,
) -> AsyncIterator[Tip | Rows | Passed]:
    """Everything that is wanted. Raises GaveUp, Refused."""
    after, tip, idle = resume.after_seq, resume.tip_seq, 0
    while tip is None or after < tip:
        before = after
        wait_s = 0.0
        failure: ApplianceError | None = None
        try:
            plan = await client.plan(wanted, after, tip)
            if tip is None:
                tip = plan.sealed_tip_seq
                yield Tip(tip)
            for planned in plan.segments:
                same = (planned.name, planned.checksum) == (resume.segment, resume.checksum)
                async with client.fetched(planned) as found:
                    for number in range(len(found)):
                        for rows in await asyncio.to_thread(
                            _rows, found, number, planned, chosen, after, tip
                        ):
                            yield rows._replace(known_seq=resume.seq if same else 0)
                after = max(after, min(planned.max_seq, plan.planned_through_seq))
                yield Passed(after)
            after = max(after, plan.planned_through_seq)
            yield Passed(after)
        except NewGeneration as error:
            failure = error
        except (BadInput, Unavailable) as error:
            failure = error
            wait_s = min(PAUSE_MIN_S * 2**idle, PAUSE_MAX_S) * rng.uniform(0.5, 1.0)
            if isinstance(error, Unavailable) and error.retry_after_s is not None:
                wait_s = max(wait_s, error.retry_after_s)
        if failure is None:
            idle = 0
            continue
        RESTARTS.labels(failure.name).inc()
        log.warning("archive_restarts", error=failure, after_seq=after, idle=idle)
        idle = 0 if after > before else idle + 1
        if idle >= CYCLES_MAX:
            raise GaveUp(f"no progress in {CYCLES_MAX} cycles: {failure.message}") from failure
        await clock.sleep(wait_s)


def _rows(found: Fetched, number: int, planned: Planned, chosen: Chosen, after: int, tip: int) -> list[Rows]:
    """The wanted rows of a block, in portions. Raises BadInput."""
    block = found.block(number)
    if not block.rows:
        return []
    if not planned.min_seq <= block.seqs[0] <= block.seqs[-1] <= planned.max_seq:
        raise BadInput("a block with numbers from outside its segment")
    rows = [row for row in block.chosen(chosen.dids, chosen.collections) if after < row.seq <= tip]
    last_seq, last_us = min(block.seqs[-1], tip), block.times_us[-1]
    return list(_portions(planned, rows, last_seq, last_us))


def _portions(planned: Planned, rows: list[Row], last_seq: int, last_us: int) -> Iterator[Rows]:
    for at in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        part = rows[at : at + ROWS_AT_ONCE]
        if at + ROWS_AT_ONCE < len(rows):
            yield Rows(planned, part, part[-1].seq, part[-1].time_us, 0)
        else:
            yield Rows(planned, part, last_seq, last_us, 0)
