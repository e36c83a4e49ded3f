"""The history of many new accounts at once, out of a Jetstream v2 archive: rows at once, for few requests.

What it brings are operations at their own revs, for the merge rule like any other. It proves nothing: the
accounts go on waiting for the listing of their own PDS, which alone gives certificates.
"""

from __future__ import annotations

import contextlib
import random
from typing import Final

from appliance import crash_points, telemetry
from appliance.backfill.archive_client import DIDS_MAX, ArchiveClient, Wanted
from appliance.backfill.archive_walk import Chosen, GaveUp, Passed, Resume, Rows, Tip, walk
from appliance.backfill.tools import FOLLOWEE
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import Refused, Unavailable
from appliance.ingest.apply import Applier
from appliance.ingest.archived import event_of
from appliance.ingest.upstream import Places
from appliance.outbound.client import Outbound
from appliance.store import archives
from appliance.store.archives import Run
from appliance.store.database import Database, Reader, Transaction

log = telemetry.Log("backfill")
KEPT = telemetry.counter("archive_rows", "Rows out of the archive, by what became of them.", ["outcome"])
RUNS = telemetry.counter("archive_runs", "Runs of bulk history, by how they ended.", ["outcome"])

LOOK_EVERY_S: Final = 2.0
REFUSED_PAUSE_S: Final = 3600.0
SILENT_PAUSE_S: Final = 300.0


def client(outbound: Outbound, settings: Settings, clock: Clock) -> ArchiveClient:
    """The archive that the settings name."""
    folder = settings.data_path / "tmp"
    return ArchiveClient(outbound, settings.archive_origin, settings.archive_token, folder, clock)


class Archive:
    """Brings history whenever enough accounts wait for theirs. ``run`` lasts until it is cancelled."""

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

    @property
    def usable(self) -> bool:
        """Whether there is an archive to ask. It would bring more than BACKFILL_DAYS lets in."""
        return bool(self._settings.archive_origin) and not self._settings.backfill_days

    async def run(self) -> None:
        """Look for accounts that wait, bring their history, and so on for ever."""
        while True:
            run = await self._next()
            if run is None:
                await self._clock.sleep(LOOK_EVERY_S)
                continue
            try:
                await self.bring(run)
            except Refused as error:
                log.error("archive_refused", origin=self._client.origin, error=error)
                await self._clock.sleep(REFUSED_PAUSE_S)
            except GaveUp as error:
                if isinstance(error.__cause__, Unavailable):
                    log.warning("archive_silent", origin=self._client.origin, error=error)
                    await self._clock.sleep(SILENT_PAUSE_S)
                else:
                    log.error("archive_gave_up", origin=self._client.origin, run=run.id, error=error)
                    await self._end(run, "gave up")

    async def bring(self, run: Run) -> None:
        """Bring what the run still lacks. Raises GaveUp, Refused."""
        epochs = await self._database.read(lambda reader: archives.epochs(reader, run.id))
        if epochs:
            await self._walk(run, epochs)
        await self._end(run, "done")

    async def _walk(self, run: Run, epochs: dict[str, int]) -> None:
        wanted = Wanted(kinds=("commit",), dids=tuple(epochs), collections=FOLLOWEE)
        chosen = Chosen(
            frozenset(did.encode() for did in epochs), frozenset(nsid.encode() for nsid in FOLLOWEE)
        )
        resume = Resume(run.after_seq, run.tip_seq, run.segment, run.checksum, run.seq)
        places = Places()
        steps = walk(self._client, wanted, chosen, resume, self._clock, self._rng)
        async with contextlib.aclosing(steps):  # type: ignore[type-var]
            async for step in steps:
                if isinstance(step, Rows):
                    await self._take(run, step, epochs, places)
                else:
                    await self._note(run, step)

    async def _take(self, run: Run, step: Rows, epochs: dict[str, int], places: Places) -> None:
        """Rows, and how far the run then is: one transaction."""
        # Those that are known are gone through for their places in commits.
        events = [
            event
            for row in step.rows
            if (event := event_of(row, places)) is not None and row.seq > step.known_seq
        ]
        if step.seq <= step.known_seq:
            return

        def work(tx: Transaction) -> int:
            tally = self._applier.apply_history(
                tx, f"archive {run.source}", step.seq, events, epochs, now_us=self._clock.now_us()
            )
            archives.moved(tx, run.id, step.planned.name, step.planned.checksum, step.seq, tally.applied)
            crash_points.reach("archive-before-commit")
            return tally.applied

        applied = await self._database.write(work)
        crash_points.reach("archive-after-commit")
        KEPT.labels("applied").inc(applied)
        KEPT.labels("other").inc(len(events) - applied)

    async def _note(self, run: Run, step: Tip | Passed) -> None:
        if isinstance(step, Tip):
            await self._database.write(lambda tx: archives.planned(tx, run.id, step.seq))
        else:
            await self._database.write(lambda tx: archives.passed(tx, run.id, step.seq))

    async def _next(self) -> Run | None:
        """The run that goes on, or a new one where enough accounts wait."""
        source = self._client.origin
        least = self._settings.archive_accounts_min

        def find(reader: Reader) -> tuple[Run | None, int]:
            run = archives.unfinished(reader)
            return run, 0 if run is not None else len(archives.waiting(reader, least))

        run, waiting = await self._database.read(find)
        if run is not None and run.source != source:
            # Its numbers mean nothing here.
            await self._end(run, "another archive")
            return None
        if run is not None or waiting < least:
            return run

        def begin(tx: Transaction) -> tuple[Run, int]:
            accounts = archives.waiting(tx, DIDS_MAX)
            return archives.begin(tx, source, accounts, self._clock.now_us()), len(accounts)

        begun, accounts = await self._database.write(begin)
        log.info("archive_begins", run=begun.id, origin=source, accounts=accounts)
        return begun

    async def _end(self, run: Run, outcome: str) -> None:
        def end(tx: Transaction) -> int:
            found = archives.find(tx, run.id)
            archives.end(tx, run.id, outcome, self._clock.now_us())
            return 0 if found is None else found.rows

        rows = await self._database.write(end)
        RUNS.labels(outcome).inc()
        seconds = (self._clock.now_us() - run.started_us) / 1_000_000
        log.info("archive_ends", run=run.id, outcome=outcome, rows=rows, seconds=round(seconds, 3))
