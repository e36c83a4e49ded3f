"""A real database and real workers beside a scripted network; time moves only by hand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import orjson

from appliance.backfill.audit import Auditor
from appliance.backfill.backfill import Backfill
from appliance.backfill.schedule import Schedule
from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest import accounts
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.members import admission
from appliance.outbound.client import Outbound
from appliance.protocol.events import Event
from appliance.store import actors, audits, records, repos, scans
from appliance.store.database import Database, Reader, Transaction
from tests.backfill.scripted_network import START_US, Account, Network

UPSTREAM = "jetstream-v2 wss://stream.test"
PATIENCE_S = 60.0


def valid(collection: str, body: bytes) -> str | None:
    """Every JSON object with its type is good enough here."""
    return None if orjson.loads(body).get("$type") == collection else "no type"


class Rig:
    """The parts of an appliance that backfill needs, over one database file."""

    def __init__(self, network: Network, folder: Path, **settings: Any) -> None:
        self.network = network
        self.folder = folder
        self.clock = ManualClock(START_US)
        self.settings = Settings(
            **{
                "data_dir": str(folder),
                "plc_url": network.plc,
                "allow_loopback": True,
                "outbound_rate_per_host": 1e6,
                "members": ("*",),
                **settings,
            }
        )
        self.rules = Rules(valid)
        self.connected = False
        self.database: Database
        self.outbound: Outbound
        self.identities: Identities
        self.backfill: Backfill
        self._task: asyncio.Task[None] | None = None
        self._audits: asyncio.Task[None] | None = None
        self.schedule: Schedule | None = None

    async def open(self) -> None:
        """As at the start of the process."""
        self.applier = Applier(self.rules)
        self.database = await Database.open(self.folder / "appliance.db")
        self.outbound = Outbound(self.settings, self.clock)
        self.identities = Identities(
            self.database,
            self.outbound,
            self.settings,
            self.clock,
            moved=lambda tx, actor: accounts.moved(tx, actor, self.clock.now_us()),
        )
        self.backfill = Backfill(
            self.database,
            self.outbound,
            self.identities,
            self.settings,
            self.clock,
            self.rules,
            connected=lambda: self.connected,
            rng=random.Random(1),
        )

    async def close(self) -> None:
        await self.stop_audits()
        await self.stop()
        await self.outbound.close()
        await self.database.close()

    async def restart(self) -> None:
        """As if the process had been killed and started again."""
        running = self._task is not None
        await self.close()
        await self.open()
        if running:
            self.start()

    def start(self) -> None:
        self._task = asyncio.create_task(self.backfill.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def start_audits(self, *, signed: bool = False, **how: Any) -> None:
        """The schedule runs, beside a stream that keeps up; everybody LIVE has been planned for.

        Signed trees are read only where a test is about them: when they are due is a matter of chance.
        """
        tools = self.backfill.tools
        tools.lag_s = lambda: 0.0
        if not signed:
            how["signed_a_day"] = 0.0
        self.schedule = Schedule(Auditor(tools, wake=self.backfill.wake), tools, **how)
        self._audits = asyncio.create_task(self.schedule.run())
        await self.until(self._are_planned)
        if not signed:
            await self.database.write(
                lambda tx: tx.run("UPDATE audit SET due_us = ? WHERE level = 'signed'", (audits.NEVER_US,))
            )

    async def _are_planned(self) -> bool:
        missing = await self.all(
            "SELECT actor FROM repo WHERE state = 'LIVE' AND actor NOT IN (SELECT actor FROM audit)"
        )
        return not missing

    async def stop_audits(self) -> None:
        if self._audits is not None:
            self._audits.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._audits
            self._audits = None

    async def stream_begins(self) -> None:
        """There is a stream whose position is held."""
        await self.deliver([])

    async def deliver(self, events: Iterable[Event]) -> None:
        """The stream brings these."""
        batch = Batch(UPSTREAM, "jetstream-v2", 1, self.clock.now_us(), list(events))
        await self.database.write(lambda tx: self.applier.apply_batch(tx, batch, now_us=self.clock.now_us()))

    async def track(self, *accounts: Account) -> None:
        """Somebody follows these."""

        def work(tx: Transaction) -> None:
            for account in accounts:
                repos.want(tx, actors.ensure(tx, account.did), self.clock.now_us())

        await self.database.write(work)
        self.backfill.wake()

    async def join(self, account: Account) -> None:
        """The account becomes a member."""
        now_us = self.clock.now_us()
        await self.database.write(
            lambda tx: admission.admit(
                tx, self.settings, actors.ensure(tx, account.did, now_us), "operator", now_us
            )
        )
        self.backfill.wake()

    async def until(self, done: Callable[[], Any], what: str = "", step_s: float = 0.02) -> None:
        """Wait until it holds. The clock moves slowly: pauses of a second or two pass by themselves,
        longer ones with longer steps."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = done()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                self._check()
                self.backfill.wake()
                await self.clock.advance(step_s)
                await asyncio.sleep(0.002)

    async def while_time_passes(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this while the clock moves on slowly."""
        task = asyncio.create_task(work)
        await self.until(task.done)
        await task

    async def pass_s(self, seconds: float, step_s: float = 10.0) -> None:
        """Let time pass in steps, with room for the sockets between them."""
        while seconds > 0:
            self.backfill.wake()
            await self.clock.advance(min(step_s, seconds))
            await asyncio.sleep(0.003)
            seconds -= step_s

    async def until_state(self, account: Account, *states: str, step_s: float = 0.02) -> repos.Repo:
        """Wait until the account's repository is in one of these states."""
        last: list[Any] = []

        async def reached() -> bool:
            last[:] = [await self.repo(account)]
            return last[0] is not None and last[0].state in states

        try:
            await self.until(reached, step_s=step_s)
        except TimeoutError:
            asked = [request for host in self.network.hosts for request in host.requests][-5:]
            raise AssertionError(f"waited for {states}, is {last}; last asked: {asked}") from None
        found: repos.Repo = last[0]
        return found

    def _check(self) -> None:
        for task in (self._task, self._audits):
            if task is not None and task.done():
                task.result()

    async def repo(self, account: Account) -> repos.Repo | None:
        def work(reader: Reader) -> repos.Repo | None:
            actor = actors.find_id(reader, account.did)
            return None if actor is None else repos.find(reader, actor)

        return await self.database.read(work)

    async def scan(self, account: Account) -> scans.Scan | None:
        def work(reader: Reader) -> scans.Scan | None:
            actor = actors.find_id(reader, account.did)
            return None if actor is None else scans.find_of(reader, actor)

        return await self.database.read(work)

    async def held(self, account: Account, *types: str) -> dict[str, str]:
        """What lives here of that account: path -> cid."""
        wanted = types or ("app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.actor.profile")
        rows = await self.all(
            "SELECT c.nsid || '/' || r.rkey, r.cid FROM record r JOIN actor a ON a.id = r.actor"
            " JOIN collection c ON c.id = r.collection WHERE a.did = ? AND r.state IN (1, 3)",
            account.did,
        )
        return {path: cid for path, cid in rows if path.split("/")[0] in wanted}

    async def all(self, sql: str, *params: object) -> list[Any]:
        return await self.database.read(lambda reader: reader.all(sql, params))

    async def state_of(self, uri: str) -> int | None:
        found = await self.database.read(lambda reader: records.find(reader, uri))
        return None if found is None else found.state


def shown(account: Account, *types: str) -> dict[str, str]:
    """What a timeline shows of that account, by its repository."""
    wanted = types or ("app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.actor.profile")
    return {path: cid for path, cid in account.paths.items() if path.split("/")[0] in wanted}


@contextlib.asynccontextmanager
async def rig(network: Network, folder: Path, *, covered: bool = True, **settings: Any) -> AsyncIterator[Rig]:
    """An open rig with its worker running, closed at the end."""
    made = Rig(network, folder, **settings)
    await made.open()
    if covered:
        await made.stream_begins()
    made.start()
    try:
        yield made
    finally:
        await made.close()
