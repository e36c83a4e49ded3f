"""The long task that removes what nobody needs any more, a little at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appliance import crash_points, telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.ingest import index, prune
from appliance.store import fetches, pruning, records, repos, retention
from appliance.store.database import Database, Transaction
from appliance.store.retention import Old

log = telemetry.Log("pruner")
PRUNED = telemetry.counter("pruned", "Rows removed, by why.", ["why"])

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
# A deletion may turn out to be an error of the host: its rows are hidden at once and stay so long.
GONE_GRACE_US: Final = 72 * HOUR_US
ROWS_PER_WRITE: Final = 200
IDS_PER_READ: Final = 2000
ACCOUNTS_AT_ONCE: Final = 20
BETWEEN_BATCHES_S: Final = 0.1
IDLE_S: Final = 60.0
WALK_EVERY_US: Final = HOUR_US


class Pruner:
    """Unfollowed accounts, deleted ones, tombstones that guard nothing, strangers' records that nothing
    shows. Each batch looks again inside its own transaction, so whoever is wanted meanwhile is left alone."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._walked_to = 0
        self._walk_again_us = 0

    async def run(self) -> None:
        """Batch after batch; long pauses when there is nothing to do."""
        while True:
            busy = await self.step()
            await self._clock.sleep(BETWEEN_BATCHES_S if busy else IDLE_S)

    async def step(self) -> bool:
        """One batch of each kind; True when there may be more."""
        busy = await self._unfollowed()
        busy |= await self._gone()
        busy |= await self._tombstones()
        busy |= await self._strangers()
        return busy

    async def _unfollowed(self) -> bool:
        now_us = self._clock.now_us()
        before_us = now_us - round(self._settings.unfollow_grace_hours * HOUR_US)
        actors = await self._database.read(lambda r: repos.find_unwanted(r, before_us, ACCOUNTS_AT_ONCE))
        for actor in actors:

            def batch(tx: Transaction, actor: int = actor) -> bool:
                if repos.prune(tx, actor, before_us, now_us):
                    tx.announce(lambda: log.info("pruning", actor=actor))
                done = prune.prune_batch(tx, actor, ROWS_PER_WRITE, now_us)
                if done:
                    # Some of it is still shown by what others wrote: it is context from now on.
                    fetches.want_shown_of(tx, actor, now_us)
                crash_points.reach("prune-before-commit")
                return done

            done = await self._database.write(batch)
            crash_points.reach("prune-after-commit")
            if done:
                PRUNED.labels("unfollowed account").inc()
                log.info("pruned", actor=actor)
        return bool(actors)

    async def _gone(self) -> bool:
        before_us = self._clock.now_us() - GONE_GRACE_US
        return await self._remove(
            lambda tx: retention.of_gone(tx, before_us, ROWS_PER_WRITE), "deleted account"
        )

    async def _tombstones(self) -> bool:
        now_us = self._clock.now_us()
        number = await self._database.write(lambda tx: prune.collect_tombstones(tx, now_us, ROWS_PER_WRITE))
        PRUNED.labels("tombstone").inc(number)
        return number == ROWS_PER_WRITE

    async def _strangers(self) -> bool:
        """A stretch of the walk through all records; then a pause before the next walk."""
        now_us = self._clock.now_us()
        if now_us < self._walk_again_us:
            return False
        before_us = now_us - self._settings.data_retention_days * DAY_US
        after = self._walked_to
        ids, end = await self._database.read(lambda r: retention.walk(r, before_us, after, IDS_PER_READ))
        for at in range(0, len(ids), ROWS_PER_WRITE):
            some = ids[at : at + ROWS_PER_WRITE]

            def still_idle(tx: Transaction, some: list[int] = some) -> list[Old]:
                return retention.idle(tx, before_us, some)

            await self._remove(still_idle, "stranger's record")
        if end is None:
            self._walked_to = 0
            self._walk_again_us = now_us + WALK_EVERY_US
            await self._database.write(lambda tx: fetches.forget_closed(tx, before_us, ROWS_PER_WRITE))
            return False
        self._walked_to = end
        return True

    async def _remove(self, find: Callable[[Transaction], list[Old]], why: str) -> bool:
        now_us = self._clock.now_us()

        def remove(tx: Transaction) -> int:
            found = find(tx)
            for record in found:
                if record.state == records.LIVING:
                    index.vanish(tx, record.id, record.collection, now_us, forgotten=True)
                pruning.forget_record(tx, record.id)
            return len(found)

        number = await self._database.write(remove)
        PRUNED.labels(why).inc(number)
        return number == ROWS_PER_WRITE
