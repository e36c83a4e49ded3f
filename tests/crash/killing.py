"""An appliance that dies at named points or at random, and a world that makes it pass there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from appliance import crash_points
from appliance.devnet.truth import BYPASS, FOLLOW, POST
from tests.crash.looks import Looks, answered, is_deleted, look_around
from tests.journeys.harness import Client, Process, World, comes_true
from tests.journeys.judge import signed_in, what_is_wrong

RANDOM = "at random"
REACHED_WITHIN_S = 12.0
# A list takes over once it is proved, which takes its time.
SWITCHED_WITHIN_S = 30.0
NEWCOMERS = 2
REBORN = 2
SETTLE_S = 240.0
STREAMS = {"jetstream-v2": "jetstream_v2", "jetstream-v1": "jetstream_v1", "relay": "relay"}
CREATED_AT = "2026-01-01T00:00:00Z"
SETTINGS = {
    # An unfollowed account is pruned at the next start, so that every kind of work goes on all the time.
    "UNFOLLOW_GRACE_HOURS": "0.0001",
    "MAIN_PASSWORDS": "true",
}


class Mortal(Process):
    """An appliance that can be told where to die. ``deaths`` counts where it did."""

    def __init__(self, data: Path, settings: Mapping[str, str]) -> None:
        super().__init__(data, settings)
        self.deaths: Counter[str] = Counter()

    def from_now_on(self, **settings: str) -> None:
        """With these settings from the next start on."""
        self._environment |= settings

    async def live(
        self, point: str, times: int, within_s: float, meanwhile: Callable[[], Awaitable[None]]
    ) -> None:
        """Start, and die at that point, or at random after so many seconds; whatever runs, dies first."""
        await self.end()
        marks = self._marks(point)
        # It may die before it is ready.
        with (
            self._armed("" if point == RANDOM else f"{point}:{times}"),
            contextlib.suppress(AssertionError),
        ):
            await self.start()
        if self.alive:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._until_dead(meanwhile)
        if self.alive:
            await self.kill()
        assert self._process is not None
        code = self._process.returncode
        assert code == -signal.SIGKILL, f"ended by itself with {code}: {self.tail()}"
        self.deaths[point if point != RANDOM and self._marks(point) > marks else RANDOM] += 1

    async def end(self) -> None:
        """Die at random, unless it is dead."""
        if self.alive:
            await self.kill()
            self.deaths[RANDOM] += 1

    async def _until_dead(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        while self.alive:
            await meanwhile()
            await asyncio.sleep(0.02)

    def _marks(self, point: str) -> int:
        return self.log.read_bytes().count(f"crash point {point}\n".encode()) if self.log.exists() else 0

    @contextlib.contextmanager
    def _armed(self, text: str) -> Iterator[None]:
        self._environment[crash_points.VARIABLE] = text
        try:
            yield
        finally:
            del self._environment[crash_points.VARIABLE]


class Siege:
    """A world that is never quiet, an appliance in it, and members who look and write all the time.

    Half of those whom a member follows at first stay followed; the others come and go. By a Jetstream some
    lives read everybody's events, and others those of a list.
    """

    def __init__(
        self, folder: Path, wire: str, *, chance: random.Random, rate: float, accounts: int = 12
    ) -> None:
        self.world = World(folder / "world", accounts=accounts)
        self.chance = chance
        self.rate = rate
        self.wire = wire
        self.tokens: list[Client] = []
        self.looks: list[Looks] = []
        self.process: Mortal
        self._folder = folder
        # Kept connections end when either side is busy or dead: each call has its own.
        fresh = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(timeout=60, trust_env=False, headers=BYPASS, limits=fresh)
        self._at_home: list[Client] = []
        self._here: list[Client] = []
        self._loose: dict[str, list[str]] = {}
        self._everybody: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._deeds: list[asyncio.Task[None]] = []
        self._reborn = asyncio.Lock()
        self._serial = itertools.count(1)

    async def begin(self, settings: Mapping[str, str] = SETTINGS) -> None:
        """Everything runs, members are signed in, and the world has begun to move."""
        await self.world.start(rate=self.rate)
        members = self.world.info["members"]
        settings = {**self.world.settings(self.wire), **settings}
        if self.wire == "jetstream-v2":
            settings |= {"ARCHIVE_URL": self.world.info["archive"], "ARCHIVE_ACCOUNTS_MIN": "1"}
        self.process = Mortal(self._folder / "appliance", settings)
        await self.process.start()
        self._here = await signed_in(self.process.origin, self._http, members)
        for member in members:
            client = Client(member["pds"], self._http)
            await client.sign_in(member["handle"], member["password"])
            self._at_home.append(client)
        for origin in self.world.info["pds"]:
            listed = await Client(origin, self._http).call("com.atproto.sync.listRepos", limit=100)
            self._everybody += sorted(repo["did"] for repo in listed["repos"] if repo["active"])
        for home, here in zip(self._at_home, self._here, strict=True):
            follows = sorted(await self._follows(home))
            steady = follows[: len(follows) // 2]
            self._loose[home.did] = sorted(set(self._everybody) - {*steady, home.did})
            self.looks.append(Looks(here, self._http, steady))
        for work in (self._follow_about, self._write_here, self._disturb, self._look):
            self._tasks.append(asyncio.create_task(work(), name=work.__name__))

    async def kill(self, point: str, times: int = 1, *, patience: float = 1.0) -> None:
        """One life and one death; ``patience`` is the part of the usual time that a point has."""
        within_s = self.chance.uniform(0.02, 0.9) if point == RANDOM else REACHED_WITHIN_S
        lists = point.startswith("switch")
        if lists and point != "switch-begin":
            within_s = SWITCHED_WITHIN_S
        if point != RANDOM:
            within_s *= patience
        await self.process.end()
        if self.wire != "relay":
            lists = lists or self.chance.random() < 0.3
            self.process.from_now_on(COVERAGE="dids" if lists else "full")
        async with self._led_to(point):
            await self.process.live(point, times, within_s, lambda: self._provoke(point))
        for task in self._tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_name()} has ended")

    @contextlib.asynccontextmanager
    async def _led_to(self, point: str) -> AsyncIterator[None]:
        """What must be so before a life that shall come to the point."""
        stream = STREAMS[self.wire]
        if point.startswith("verdict") and self.chance.random() < 0.5:
            await self._leave_a_gap()
            yield
            await self._fault(stream, keep_events=None)
        elif point.startswith("verdict"):
            self._let_audits_be_due()
            yield
        elif point.startswith("archive"):
            await self._let_newcomers_wait()
            yield
            for number in range(len(self.world.info["pds"])):
                await self._fault(f"pds{number}", down=False)
        else:
            yield

    async def judge(self) -> str:
        """After the last kill: exact in the end, and every answered sign-in still holds; the figures."""
        await asyncio.gather(*self._deeds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.world.stop()
        await self.world.start(rate=0)
        if not self.process.alive:
            await self.process.start()
        for client in [*self._here, *self.tokens]:
            await client.call("com.atproto.server.getSession")
        for client, member in zip(self._here, self.world.info["members"], strict=True):
            # The network has only just come back, too.
            async with asyncio.timeout(SETTLE_S):
                while await self._signs_in(client, member) is None:
                    await asyncio.sleep(0.5)

        async def wrong() -> str:
            for each in self.looks:
                await each.look(self.world.info["pds"])
            return await what_is_wrong(self.world.info, self._here)

        took_s = await comes_true(wrong, within_s=SETTLE_S)
        starts = sorted(self.process.starts_s)
        looks, gone = sum(each.count for each in self.looks), sum(len(each.gone) for each in self.looks)
        assert looks > 0
        return (
            f"{self.wire}: exact {took_s:.1f} s after the last kill; {looks} looks,"
            f" {gone} deleted rows watched, {len(self.tokens)} more sign-ins;"
            f" rows {[len(await client.timeline()) for client in self._here]};"
            f" start to ready median {starts[len(starts) // 2]:.2f} s, slowest {starts[-1]:.2f} s"
        )

    async def end(self) -> None:
        """Nothing of it runs any more."""
        for task in (*self._tasks, *self._deeds):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._deeds, return_exceptions=True)
        if hasattr(self, "process") and self.process.alive:
            await self.process.stop()
        await self.world.stop()
        await self._http.aclose()

    # ---- what happens meanwhile

    async def _follow_about(self) -> None:
        while True:
            await self._change_follow(self.chance.choice(self._at_home))
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    async def _write_here(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))
            await self._write(self.chance.choice(self._here))

    async def _disturb(self) -> None:
        """Accounts go away and come back, and are to be read anew; what was seen is deleted."""
        while True:
            await asyncio.sleep(self.chance.uniform(0.3, 1.0))
            uri = self.chance.choice(self.looks).any_of(self.chance)
            if uri is not None and not await is_deleted(self._http, self.world.info["pds"], uri):
                await self._command("delete", uri)
            did = self.chance.choice(self._everybody)
            members = {client.did for client in self._at_home}
            if did in members or self.chance.random() < 0.7:
                await self._command("resync", did)
            else:
                async with self._reborn:
                    await self._command("deactivate", did)
                    await asyncio.sleep(self.chance.uniform(0.05, 0.6))
                    await self._command("activate", did)

    async def _look(self) -> None:
        await look_around(self.looks, self.world.info["pds"])

    async def _provoke(self, point: str) -> None:
        """Do what leads past the point, where the world's own life does not do it often."""
        if point.startswith("sign-in"):
            client = Client(self.process.origin, self._http)
            if await self._signs_in(client, self.chance.choice(self.world.info["members"])):
                self.tokens.append(client)
        elif point.startswith("epoch"):
            # Once begun it is finished, whenever the process dies: nobody stays deleted.
            deed = asyncio.create_task(self._begin_anew())
            self._deeds.append(deed)
            await asyncio.shield(deed)
        elif point.startswith("write"):
            await self._write(self.chance.choice(self._here))
        elif point.startswith(("archive", "batch", "prune", "verdict")) or point == RANDOM:
            await asyncio.sleep(0.05)
        else:
            await self._change_follow(self.chance.choice(self._at_home))
            await asyncio.sleep(0.1)

    # ---- deeds

    async def _signs_in(self, client: Client, member: Mapping[str, Any]) -> Any:
        """Here; what was answered, None while that can't be done."""
        body = {"identifier": member["handle"], "password": member["password"]}
        answer = await answered(client, "com.atproto.server.createSession", body)
        if answer is not None:
            client.take(answer)
        return answer

    async def _follows(self, client: Client) -> dict[str, str]:
        page = await client.call(
            "com.atproto.repo.listRecords", repo=client.did, collection=FOLLOW, limit=100
        )
        return {record["value"]["subject"]: record["uri"] for record in page["records"]}

    async def _change_follow(self, client: Client) -> None:
        """At the member's own server, whether or not the appliance runs."""
        follows = await self._follows(client)
        subject = self.chance.choice(self._loose[client.did])
        if subject in follows:
            body = {"repo": client.did, "collection": FOLLOW, "rkey": follows[subject].rsplit("/", 1)[1]}
            await client.call("com.atproto.repo.deleteRecord", body)
        else:
            await self._follow(client, subject)

    async def _follow(self, client: Client, subject: str) -> None:
        record = {"$type": FOLLOW, "subject": subject, "createdAt": CREATED_AT}
        await client.call(
            "com.atproto.repo.createRecord", {"repo": client.did, "collection": FOLLOW, "record": record}
        )

    async def _write(self, client: Client) -> None:
        """Through the appliance: a post, now and then taken back at once."""
        record = {"$type": POST, "text": f"through {self.wire}", "createdAt": CREATED_AT}
        body: dict[str, Any] = {"repo": client.did, "collection": POST, "record": record}
        answer = await answered(client, "com.atproto.repo.createRecord", body)
        if answer is not None and self.chance.random() < 0.5:
            rkey = answer["uri"].rsplit("/", 1)[1]
            body = {"repo": client.did, "collection": POST, "rkey": rkey}
            await answered(client, "com.atproto.repo.deleteRecord", body)

    def _let_audits_be_due(self) -> None:
        """As a week later, for whoever is LIVE in the database that the last life left."""
        with (
            contextlib.closing(sqlite3.connect(self.process.data / "appliance.db")) as connection,
            connection,
        ):
            connection.executemany(
                "INSERT INTO audit (actor, level, due_us) SELECT actor, ?, 0 FROM repo WHERE state = 'LIVE'"
                " ON CONFLICT (actor, level) DO UPDATE SET due_us = 0",
                [("rev",), ("tail",), ("listing",), ("signed",)],
            )

    async def _let_newcomers_wait(self) -> None:
        """Accounts with a history that is in the archive, followed while no server answers the appliance."""
        for _ in range(NEWCOMERS):
            created = await self._command("create_account", f"newcomer{next(self._serial)}.test")
            for number in range(6):
                await self._command("post", created["did"], f"from before {number}")
            await self._follow(self.chance.choice(self._at_home), created["did"])
        await self._command("seal_archive")
        for number in range(len(self.world.info["pds"])):
            await self._fault(f"pds{number}", down=True)

    async def _leave_a_gap(self) -> None:
        """The upstream forgets what was not read: after the restart everybody is in doubt."""
        await self._fault(STREAMS[self.wire], keep_events=1)
        async with asyncio.timeout(SETTLE_S):
            before = await self._progress()
            while await self._progress() < before + 5:
                await asyncio.sleep(0.05)

    async def _begin_anew(self) -> None:
        """A deletion that its server confirms, and another repository under the same name."""
        members = {client.did for client in self._at_home}
        async with self._reborn:
            # Always the same few: of the others it is known what may never be seen again.
            did = self.chance.choice(sorted(set(self._everybody) - members)[:REBORN])
            for each in self.looks:
                each.begins_anew(did)
            await self._command("delete_account", did)
            await asyncio.sleep(1)
            await self._command("begin_anew", did)
            await asyncio.sleep(1)

    async def _fault(self, of: str, **switches: Any) -> None:
        answer = await self._http.post(f"{self.world.info['control']}/faults", json={"of": of, **switches})
        assert answer.status_code == 200, answer.text

    async def _progress(self) -> int:
        events: int = (await self._http.get(f"{self.world.info['control']}/progress")).json()["events"]
        return events

    async def _command(self, method: str, *args: Any) -> Any:
        answer = await self._http.post(
            f"{self.world.info['control']}/call", json={"method": method, "args": args}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]
