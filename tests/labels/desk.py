"""A listener on one labeler of a small network, over a real database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.devnet.labeler import Labeler
from appliance.devnet.network import Network
from appliance.identity.identities import Identities
from appliance.labels.stream import Stream
from appliance.outbound.client import Outbound
from appliance.store import actors, labels
from appliance.store.database import Database
from appliance.store.labels import Heard
from tests.devnet.devnets import small

ANN = "did:plc:" + "a" * 24
BOB = "did:plc:" + "b" * 24
POST = f"at://{ANN}/app.bsky.feed.post/3jzfcijpj2z2a"


class HastyClock(SystemClock):
    """Waits a fiftieth of what is asked: pauses between tries are not what is looked at."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


class Desk:
    """``listening`` keeps the stream open; what it takes is in the database."""

    def __init__(self, network: Network, labeler: Labeler, database: Database, path: Path) -> None:
        self.network = network
        self.labeler = labeler
        self.database = database
        self.clock = HastyClock()
        self.settings = Settings(
            data_dir=str(path), plc_url=network.info["plc"], allow_loopback=True, labelers=(labeler.did,)
        )
        self.outbound = Outbound(self.settings, self.clock)
        self.identities = Identities(database, self.outbound, self.settings, self.clock)

    def stream(self, *, everybody: bool = False) -> Stream:
        return Stream(
            self.labeler.did,
            self.database,
            self.outbound,
            self.identities,
            self.clock,
            everybody=everybody,
        )

    @contextlib.asynccontextmanager
    async def listening(self, *, everybody: bool = False) -> AsyncIterator[Stream]:
        """Until the block ends; it begins once the connection stands and everybody was asked about."""
        stream = self.stream(everybody=everybody)
        task = asyncio.create_task(stream.run())
        try:
            await asyncio.wait_for(stream.stands.wait(), 60)
            if not everybody:
                await until(self.has_asked)
            yield stream
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def has_asked(self) -> bool:
        return not (await self.database.read(lambda r: labels.not_asked(r, self.labeler.did, 1)))[1]

    async def know(self, *dids: str) -> None:
        """These accounts have a row here."""
        for did in dids:
            await self.database.write(lambda tx: actors.ensure(tx, did))  # noqa: B023

    async def heard(self) -> Heard:
        found = await self.database.read(lambda r: labels.find(r, self.labeler.did))
        assert found is not None
        return found

    async def rows(self) -> list[tuple[Any, ...]]:
        """uri, value, whether it is taken back."""
        return await self.database.read(lambda r: r.all("SELECT uri, val, neg FROM label ORDER BY uri, val"))

    async def until_rows(self, *rows: tuple[Any, ...]) -> None:
        async def there() -> bool:
            return await self.rows() == sorted(rows)

        await until(there)

    async def until_heard(self, holds: Callable[[Heard], bool]) -> None:
        async def so() -> bool:
            return holds(await self.heard())

        await until(so)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, for a minute at most."""
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def desk(path: Path) -> AsyncIterator[Desk]:
    """Ann and Bob have rows."""
    async with small(pds=1) as network:
        labeler = await network.add_labeler()
        database = await Database.open(path / "appliance.db")
        made = Desk(network, labeler, database, path)
        await made.know(ANN, BOB)
        try:
            yield made
        finally:
            await made.outbound.close()
            await database.close()
