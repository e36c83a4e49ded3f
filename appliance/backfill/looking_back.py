"""The long task that looks through what is here already for what concerns a new member."""

from __future__ import annotations

from functools import partial
from typing import Final

from appliance import telemetry
from appliance.clock import Clock
from appliance.ingest import notices
from appliance.store import notifications
from appliance.store.database import Database, Transaction

log = telemetry.Log("looking_back")

IDS_PER_READ: Final = 2000
ROWS_PER_WRITE: Final = 100
BETWEEN_READS_S: Final = 0.02
IDLE_S: Final = 5.0


class LookingBack:
    """From the newest record down, a stretch at a time; how far is kept with what was found there."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Stretch after stretch; pauses when no member waits."""
        while True:
            await self._clock.sleep(BETWEEN_READS_S if await self.step() else IDLE_S)

    async def step(self) -> bool:
        """One stretch for one member; False when nobody waits."""
        behind = await self._database.read(notifications.behind)
        if behind is None:
            return False
        above = max(behind.record - IDS_PER_READ, 0)
        ids = await self._database.read(
            lambda reader: notifications.naming(reader, behind.did, above, behind.record)
        )
        for at in range(0, len(ids), ROWS_PER_WRITE):
            some = ids[at : at + ROWS_PER_WRITE]
            await self._database.write(partial(_tell, viewer=behind.viewer, ids=some))
        await self._database.write(lambda tx: notifications.looked_through(tx, behind.viewer, above))
        if above == 0:
            log.info("looked_back", actor=behind.viewer)
        return True


def _tell(tx: Transaction, viewer: int, ids: list[int]) -> None:
    """Tell the member of these records, as far as they still live."""
    for record in ids:
        candidate = notifications.candidate(tx, record)
        if candidate is not None:
            notices.found(tx, candidate, viewer)
