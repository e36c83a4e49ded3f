"""A whole network and a whole appliance in one process, on the virtual loop.

Both are built as they are built for real, and talk over loopback sockets; only the appliance's own front is
called without one. Everything the appliance knows is in its database, so it can be stopped and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from appliance import app, telemetry
from appliance.backfill import backfill, fetcher, schedule
from appliance.config import Settings
from appliance.devnet.network import Network
from appliance.devnet.options import Dialect, Options
from appliance.devnet.state import Hosted
from appliance.identity import identities
from appliance.supervisor import Supervisor
from tests.sim.virtual import VirtualClock

# How often the long tasks look around when nobody wakes them. Each look costs real time, and in days of
# virtual time nothing depends on half a second.
LOOK_S = 30.0
OPEN = (
    Dialect("reference", rate=None),
    Dialect("ascending", descending=False, cursor="never", latest_commit=False, rate=None),
    Dialect("opaque", cursor="always", opaque_cursor=True, rate=None),
)


class Appliance:
    """Built by ``app.build``, started and stopped at will."""

    def __init__(self, folder: Path, network: Network, clock: VirtualClock, **settings: Any) -> None:
        self.folder = folder
        self.clock = clock
        self.database = folder / app.DATABASE_FILE
        info = network.info
        chosen: dict[str, Any] = {
            "data_dir": str(folder),
            "port": 2580,
            "jetstream_urls": (info["jetstream_v2"],),
            "plc_url": info["plc"],
            "handle_resolvers": tuple(info["pds"]),
            "allow_loopback": True,
            "members": ("*",),
            "rate_limits": "off",
            "readers": 1,
            "outbound_rate_per_host": 50.0,
            "outbound_per_host": 4,
            "session_secret": "a secret of the simulation, long enough for it",
        }
        self.settings = Settings(**chosen | settings)
        self.supervisor: Supervisor | None = None
        self.started_s = 0.0
        self.http: httpx.AsyncClient
        self._stack: contextlib.AsyncExitStack
        self._task: asyncio.Task[None]

    @property
    def runs(self) -> bool:
        return self.supervisor is not None

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.AsyncExitStack()
        self.supervisor = Supervisor(self.clock)
        application = await app.build(self.settings, self.clock, self.supervisor, self._stack)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(application),
            base_url=self.settings.origin,
            timeout=None,
            trust_env=False,
        )
        self._task = asyncio.create_task(self.supervisor.run(), name="appliance")
        self.started_s = self.clock.monotonic_s()

    async def stop(self) -> None:
        """An orderly end, as on SIGTERM."""
        assert self.supervisor is not None, "it runs"
        self.supervisor.stop()
        try:
            await self._task
        finally:
            await self.http.aclose()
            await self._stack.aclose()
            self.supervisor = None

    def failures(self) -> dict[str, str]:
        """Long tasks that raised, and what they last said."""
        assert self.supervisor is not None, "it runs"
        return {task.name: task.last_error for task in self.supervisor.tasks() if task.failures}


class Sim:
    """The two together, and the clock."""

    def __init__(self, network: Network, appliance: Appliance, seed: int) -> None:
        self.network = network
        self.appliance = appliance
        self.seed = seed
        self.members: list[Hosted] = []

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def pass_s(self, seconds: float) -> None:
        """Let time pass; everything that falls due on the way happens."""
        await asyncio.sleep(seconds)

    async def until(self, done: Callable[[], Any], *, within_s: float, every_s: float = 5.0) -> float:
        """Look every so often until it holds; the virtual seconds that took."""
        began_s = self.now_s()
        while True:
            found = done()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return self.now_s() - began_s
            if self.now_s() - began_s >= within_s:
                raise AssertionError(f"seed {self.seed}: still not so after {within_s} virtual s: {done}")
            await asyncio.sleep(every_s)

    async def sign_in(self, *members: Hosted) -> None:
        """They become members, which is what makes the appliance follow whom they follow."""
        for member in members:
            await token(self.appliance, member)
            self.members.append(member)


async def token(appliance: Appliance, member: Hosted) -> str:
    """A fresh access token of the appliance's own."""
    answer = await appliance.http.post(
        "/xrpc/com.atproto.server.createSession",
        json={"identifier": member.handle, "password": member.entry.password},
    )
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["accessJwt"]
    return found


@contextlib.asynccontextmanager
async def sim(
    folder: Path,
    seed: int,
    *,
    accounts: int = 24,
    posts: int = 8,
    members: int = 2,
    rate: float = 0.0,
    pds: int = 3,
    dialects: Iterable[Dialect] = OPEN,
    retention_s: float = 6 * 3600.0,
    retention_events: int = 500,
    skew_us: int = 0,
    wire: str = "jetstream_v2",
    archive_token: str = "",
    **settings: Any,
) -> AsyncIterator[Sim]:
    """A seeded world with members signed in; the appliance runs, whatever it has read so far.

    With ``archive_token`` the network has an archive, and the appliance may read it.
    """
    clock = VirtualClock()
    telemetry.configure("error", "text")
    options = Options(
        accounts=accounts,
        posts=posts,
        members=members,
        rate=rate,
        seed=seed,
        pds=pds,
        dialects=tuple(dialects),
        data=folder / "network",
        retention_s=retention_s,
        retention_events=retention_events,
        clock=VirtualClock(skew_us=skew_us),
        archive=bool(archive_token),
        archive_token=archive_token,
    )
    with contextlib.ExitStack() as patches:
        for module in (backfill, fetcher, identities, schedule):
            patches.enter_context(mock.patch.object(module, "POLL_S", LOOK_S))
        async with Network(options) as network:
            network.state.keep_chronicle()
            urls = {"jetstream_urls": (network.info[wire],)}
            if wire == "relay":
                urls = {"upstream": "relay", "relay_url": network.info["relay"]}  # type: ignore[dict-item]
            if archive_token:
                settings |= {"archive_url": network.info["archive"], "archive_token": archive_token}
            appliance = Appliance(folder / "appliance", network, clock, **urls | settings)
            await appliance.start()
            made = Sim(network, appliance, seed)
            try:
                people = [a for a in network.state.accounts.values() if a.status != "deleted"]
                await made.sign_in(*people[:members])
                yield made
            finally:
                if appliance.runs:
                    await appliance.stop()
