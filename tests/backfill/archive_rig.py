"""An appliance's working parts on a devnet with an archive, and what its tables say in the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from appliance.backfill.archive import Archive
from appliance.backfill.archive import client as archive_client
from appliance.backfill.backfill import Backfill
from appliance.backfill.catch_up import CatchUp
from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.devnet.network import Network
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.ingest.pipeline import Pipeline
from appliance.members import admission
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.store import actors, repos, upstreams
from appliance.store.database import Database, Reader, Transaction

TOKEN = "open-sesame-of-the-archive"
PATIENCE_S = 40.0

_RECORDS = """
SELECT a.did, c.nsid, r.rkey, r.state, r.cid, r.body,
  -- Of what is replaced under its key, whoever heard of the first version has its time.
  iif(r.rkey = 'self', 0, r.sort_ms), iif(r.rkey = 'self', 0, r.tie)
FROM record r JOIN actor a ON a.id = r.actor JOIN collection c ON c.id = r.collection
JOIN repo p ON p.actor = a.id WHERE r.state IN (1, 3) AND p.state = 'LIVE' AND r.collection IN (1, 2, 5)
"""
_ITEMS = """
SELECT a.did, r.collection, r.rkey, i.sort_ms, i.tie, i.flags & ~128, s.rkey
FROM item i JOIN record r ON r.id = i.id JOIN actor a ON a.id = i.actor JOIN record s ON s.id = i.subject
JOIN repo p ON p.actor = a.id WHERE p.state = 'LIVE' AND s.state = 1
"""
_PAIRS = """
SELECT DISTINCT a.did, l.kind, s.rkey FROM link l JOIN actor a ON a.id = l.actor
JOIN record s ON s.id = l.subject AND l.kind = 2 JOIN repo p ON p.actor = a.id WHERE p.state = 'LIVE'
"""
_POSTS = """
SELECT a.did, r.rkey, p.sort_ms, p.flags, parent.rkey, root.rkey, quote.rkey
FROM post p JOIN record r ON r.id = p.id JOIN actor a ON a.id = p.actor
LEFT JOIN record parent ON parent.id = p.parent LEFT JOIN record root ON root.id = p.root
LEFT JOIN record quote ON quote.id = p.quote JOIN repo o ON o.actor = a.id WHERE o.state = 'LIVE'
"""
_COUNTS = """
SELECT a.did, r.rkey, c.reposts, c.replies, c.quotes
FROM post_count c JOIN record r ON r.id = c.id JOIN actor a ON a.id = r.actor
WHERE c.reposts + c.replies + c.quotes > 0
"""
_REPOS = """
SELECT a.did, r.state, r.epoch, r.base_rev, r.cert_rev, r.cert_method, r.cert_digest, r.cert_count
FROM repo r JOIN actor a ON a.id = r.actor
"""


class Parts:
    """Everything but the web, over one database file; what shall run is started by name."""

    def __init__(self, network: Network, folder: Path, **settings: Any) -> None:
        info = network.info
        folder.mkdir(parents=True, exist_ok=True)
        self.network = network
        self.folder = folder
        self.clock = SystemClock()
        self.settings = Settings(
            **{
                "data_dir": str(folder),
                "plc_url": info["plc"],
                "jetstream_urls": (info["jetstream_v2"],),
                "archive_url": info["archive"],
                "archive_token": TOKEN,
                "archive_accounts_min": 2,
                "allow_loopback": True,
                "outbound_rate_per_host": 1000,
                "outbound_per_host": 4,
                **settings,
            }
        )
        self.upstream = f"jetstream-v2 {info['jetstream_v2']}"
        self.tasks: list[asyncio.Task[None]] = []
        self._heard_from = network.state.log.next_row

    async def open(self) -> None:
        settings, clock = self.settings, self.clock
        self.database = await Database.open(self.folder / "appliance.db", readers=1)
        self.outbound = Outbound(settings, clock)

        def moved(tx: Transaction, actor: int) -> None:
            repos.suspect(tx, actor, "server or key changed", clock.now_us())

        self.identities = Identities(self.database, self.outbound, settings, clock, moved=moved)
        rules = Rules(partial(lexicons.validate_record, published=True))
        self.applier = Applier(rules)
        parts = (self.database, self.outbound, self.applier, settings, clock)
        self.archive = Archive(*parts, random.Random(1))
        self.catching_up = CatchUp(*parts, random.Random(1))
        self.pipeline = Pipeline(
            self.database,
            self.outbound,
            self.identities,
            self.applier,
            settings,
            clock,
            catch_up=self.catching_up.catch_up if settings.archive_origin else None,
        )
        self.backfill = Backfill(
            self.database,
            self.outbound,
            self.identities,
            settings,
            clock,
            rules,
            connected=self.pipeline.connected,
        )
        self.client = archive_client(self.outbound, settings, clock)

    def start(self, *names: str) -> None:
        """Begin with ``pipeline``, ``backfill``, ``archive`` or ``identities``."""
        self.tasks += [asyncio.create_task(getattr(self, name).run()) for name in names]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.tasks.clear()
        await self.outbound.close()
        await self.database.close()

    async def stream(self) -> None:
        """Read the stream, from now on or from where it was left."""
        self._heard_from = self.network.state.log.next_row
        self.start("pipeline", "identities")
        await self.until(lambda: _true(self.pipeline.connected()), "connected")
        await self.until(lambda: self.has("SELECT 1 FROM upstream"), "a position")

    async def want(self, dids: list[str]) -> None:
        """Somebody follows all these."""

        def work(tx: Transaction) -> None:
            for did in dids:
                repos.want(tx, actors.ensure(tx, did), self.clock.now_us())

        await self.database.write(work)
        self.backfill.wake()

    async def join(self, did: str) -> None:
        now_us = self.clock.now_us()
        await self.database.write(
            lambda tx: admission.admit(tx, self.settings, actors.ensure(tx, did, now_us), "operator", now_us)
        )

    async def until(self, done: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await done():
                    for task in self.tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            states = await self.all("SELECT state, reason, doubt, count(*) FROM repo GROUP BY 1, 2, 3")
            runs = await self.all("SELECT * FROM archive_run")
            raise AssertionError(f"waited for {what}; {states}; {runs}") from None

    async def settled(self) -> None:
        """Until every account is LIVE, or set aside by its PDS, and the stream has been read to its end."""
        end = self.network.state.log.next_row - 1

        async def done() -> bool:
            def look(reader: Reader) -> bool:
                position = upstreams.find(reader, self.upstream)
                open_rows = reader.value("SELECT 1 FROM repo WHERE state NOT IN ('LIVE', 'INACTIVE', 'GONE')")
                if open_rows is not None or position is None:
                    return False
                # Before its first event a stream has no number.
                return (position.seq or self._heard_from - 1) >= end

            return await self.database.read(look)

        await self.until(done, "everything LIVE")

    async def position(self) -> int | None:
        found = await self.database.read(lambda reader: upstreams.find(reader, self.upstream))
        return None if found is None else found.seq

    async def has(self, sql: str, *params: object) -> bool:
        return bool(await self.all(sql, *params))

    async def all(self, sql: str, *params: object) -> list[Any]:
        return await self.database.read(lambda reader: reader.all(sql, params))

    async def tables(self) -> dict[str, list[Any]]:
        """What readers would be shown, without numbers that only count arrivals."""
        found = {
            name: await self.all(sql)
            for name, sql in (
                ("records", _RECORDS),
                ("items", _ITEMS),
                ("pairs", _PAIRS),
                ("posts", _POSTS),
                ("counts", _COUNTS),
                ("repos", _REPOS),
            )
        }
        found["records"] = [
            (*row[:5], orjson.dumps(orjson.loads(row[5]), option=orjson.OPT_SORT_KEYS), *row[6:])
            for row in found["records"]
        ]
        return {name: sorted(rows, key=repr) for name, rows in found.items()}


@contextlib.asynccontextmanager
async def parts(network: Network, folder: Path, **settings: Any) -> AsyncIterator[Parts]:
    """Opened, nothing running; closed in the end."""
    made = Parts(network, folder, **settings)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def same(left: dict[str, list[Any]], right: dict[str, list[Any]]) -> None:
    """Assert that two appliances show the same, told table by table."""
    for name, rows in left.items():
        only_left, only_right = set(rows) - set(right[name]), set(right[name]) - set(rows)
        told = [f"{name}: {len(only_left)} only left, {len(only_right)} only right"]
        told += [f"  left {row}" for row in sorted(only_left, key=repr)[:5]]
        told += [f"  right {row}" for row in sorted(only_right, key=repr)[:5]]
        assert not only_left, "\n".join(told)
        assert not only_right, "\n".join(told)
        assert len(rows) == len(right[name]), name


async def _true(value: bool) -> bool:
    return value
