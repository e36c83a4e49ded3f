"""All labelers that are listened to: those of the operator, and those that most members ask for."""

from __future__ import annotations

import asyncio

from appliance import telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import Corrupt
from appliance.labels.checking import Documents
from appliance.labels.stream import Stream
from appliance.labels.subscriptions import Subscriptions, show
from appliance.outbound.client import Outbound
from appliance.protocol import syntax
from appliance.store import labels
from appliance.store.database import Database

log = telemetry.Log("labels")
LISTENED = telemetry.gauge("labelers", "Labelers whose streams are read or tried.")

LOOK_EVERY_S = 60.0
# What nobody foresaw of one labeler must not end the others.
AFTER_FAILURE_S = 300.0


class Labelers:
    """Keeps one stream open to each labeler that is wanted."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        documents: Documents,
        subscriptions: Subscriptions,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._documents = documents
        self._subscriptions = subscriptions
        self._settings = settings
        self._clock = clock
        self.streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Listen to whoever is wanted, for ever."""
        async with asyncio.TaskGroup() as group:
            await self._show(self._settings.labelers)
            group.create_task(self._subscriptions.run())
            while True:
                self._subscriptions.changed.clear()
                await self.choose(group)
                await self._changed_or_later()

    async def choose(self, group: asyncio.TaskGroup) -> None:
        """Begin with those that are wanted now, and leave the others."""
        wanted = await self.wanted()
        for did in [did for did in self.streams if did not in wanted]:
            self._tasks.pop(did).cancel()
            del self.streams[did]
        for did in wanted:
            if did not in self.streams:
                self.streams[did] = Stream(
                    did,
                    self._database,
                    self._outbound,
                    self._documents,
                    self._clock,
                    everybody=self._settings.store_scope == "network",
                )
                self._tasks[did] = group.create_task(self._keep(self.streams[did]), name=f"labels of {did}")
        LISTENED.set(len(self.streams))

    async def wanted(self) -> list[str]:
        """The operator's labelers, then those of most members, as many as the setting allows."""
        most = self._settings.labeler_streams_max
        subscribed = await self._database.read(lambda r: labels.subscribed(r, most))
        each = dict.fromkeys([*self._settings.labelers, *subscribed])
        return [did for did in each if syntax.is_did(did)][:most]

    async def _show(self, dids: tuple[str, ...]) -> None:
        """What these labelers say of themselves is fetched, for the pages about them."""
        if self._settings.labeler_streams_max:
            for did in dids:
                if syntax.is_did(did):
                    self._subscriptions.show_later(
                        *await self._database.write(lambda tx: show(tx, did))  # noqa: B023
                    )

    async def _changed_or_later(self) -> None:
        waits = [
            asyncio.ensure_future(self._subscriptions.changed.wait()),
            asyncio.ensure_future(self._clock.sleep(LOOK_EVERY_S)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _keep(self, stream: Stream) -> None:
        while True:
            try:
                await stream.run()
            except Corrupt:
                raise
            except Exception as error:  # noqa: BLE001 - one labeler: whatever it makes of us must not end the others
                log.error("labeler_failed", labeler=stream.did, error=error, trace=error)
                await self._clock.sleep(AFTER_FAILURE_S)
