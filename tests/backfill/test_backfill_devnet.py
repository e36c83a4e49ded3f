"""The whole way on a devnet: stream, backfill and fetching together give what the network holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from appliance.backfill.backfill import Backfill
from appliance.backfill.fetcher import Fetcher
from appliance.backfill.pruner import Pruner
from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.devnet.network import Network
from appliance.devnet.options import Options
from appliance.devnet.truth import Difference
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.ingest.pipeline import Pipeline
from appliance.members import admission
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.store import actors, repos
from appliance.store.database import Database, Transaction
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views

PATIENCE_S = 90.0


class Here:
    """The working parts of an appliance in this process, on one devnet."""

    def __init__(self, network: Network, folder: Path, upstream: str) -> None:
        info = network.info
        self.network = network
        self.folder = folder
        self.clock = SystemClock()
        streams = {"v1": "jetstream_v1", "v2": "jetstream_v2"}
        self.settings = Settings(
            data_dir=str(folder),
            plc_url=info["plc"],
            upstream="relay" if upstream == "relay" else "jetstream",
            jetstream_urls=(info[streams.get(upstream, "jetstream_v2")],),
            relay_url=info["relay"],
            handle_resolvers=tuple(info["pds"]),
            allow_loopback=True,
            outbound_rate_per_host=200,
            outbound_per_host=4,
        )

    async def open(self) -> None:
        settings, clock = self.settings, self.clock
        self.database = await Database.open(self.folder / "appliance.db")
        self.outbound = Outbound(settings, clock)

        def moved(tx: Transaction, actor: int) -> None:
            repos.suspect(tx, actor, "server or key changed", clock.now_us())

        self.identities = Identities(self.database, self.outbound, settings, clock, moved=moved)
        rules = Rules(partial(lexicons.validate_record, published=True))
        applier = Applier(rules)
        self.pipeline = Pipeline(self.database, self.outbound, self.identities, applier, settings, clock)
        parts = (self.database, self.outbound, self.identities, settings, clock, rules)
        self.backfill = Backfill(*parts, connected=self.pipeline.connected)
        self.fetcher = Fetcher(*parts)
        self.views = Views(self.database, settings, clock)
        self._tasks = [
            asyncio.create_task(run())
            for run in (
                self.identities.run,
                self.pipeline.run,
                self.backfill.run,
                self.fetcher.run,
                Pruner(self.database, settings, clock).run,
            )
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.outbound.close()
        await self.database.close()

    async def join(self, did: str) -> None:
        now_us = self.clock.now_us()
        await self.database.write(
            lambda tx: admission.admit(tx, self.settings, actors.ensure(tx, did, now_us), "operator", now_us)
        )

    async def timeline(self, did: str) -> list[str]:
        """Every row that the member is shown, by the record that put it there."""
        asker = Asker(did=did)
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = (await self.views.timeline(asker, cursor=cursor, limit=100)).parsed()
            for row in page["feed"]:
                reason = row.get("reason")
                found.append(reason["uri"] if reason else row["post"]["uri"])
            cursor = page.get("cursor")
            if not cursor:
                return found

    async def until_right(self, did: str) -> None:
        difference: Difference | None = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    for task in self._tasks:
                        if task.done():
                            task.result()
                    truth = self.network.timeline(did)
                    difference = truth.compare(await self.timeline(did))
                    # Which of a doubled repost is listed is the timeline's concern, not that of fetching.
                    double = {row.uri for row in truth.dropped if row.reason == "duplicate-repost"}
                    if not (difference.missing or difference.twice or set(difference.extra) - double):
                        return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            states = await self.database.read(
                lambda r: r.all("SELECT state, reason, doubt, count(*) FROM repo GROUP BY 1, 2, 3")
            )
            wanted = await self.database.read(
                lambda r: r.all("SELECT outcome, count(*) FROM fetch GROUP BY 1")
            )
            raise AssertionError(f"{difference}\n{states}\n{wanted}") from None


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with Network(Options(accounts=25, posts=60, rate=0)) as made:
        yield made


@pytest.mark.parametrize(
    ("upstream", "acts"),
    [("v2", 0), ("v2", 300), ("v1", 300), ("relay", 300)],
    ids=["v2 standing still", "v2", "v1", "relay"],
)
async def test_members_are_shown_exactly_what_the_network_holds(
    network: Network, tmp_path: Path, upstream: str, acts: int
) -> None:
    here = Here(network, tmp_path, upstream)
    await here.open()
    try:
        members = [member["did"] for member in network.info["members"]]
        for did in members:
            await here.join(did)
        for _ in range(acts):
            network.world.act()
            await asyncio.sleep(0.005)
        for did in members:
            await here.until_right(did)
        assert await here.database.read(repos.wrong_refs) == []
    finally:
        await here.close()
