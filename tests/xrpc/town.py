"""A whole appliance on a real socket, with a village in its database that writes while it is asked.

It runs in a thread with a loop of its own, so that the examples of many tests share it. No upstream
and no background work: what is there was written by ``place``.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import httpx

from appliance import app
from appliance.auth.mint import service_token
from appliance.backfill import on_demand
from appliance.clock import Clock, ManualClock
from appliance.config import Settings
from appliance.protocol.keys import PrivateKey
from appliance.store import actors, identities
from appliance.store.database import Database, Transaction
from appliance.supervisor import Supervisor
from appliance.xrpc import feeds
from tests.answers import verdict
from tests.serving import serving
from tests.timeline.village import LABELER, Village, did

T = TypeVar("T")
SERVICE = "did:web:town.test"
PASSWORD = "open sesame"
# So long an answer may take on a machine that does much else.
ANSWER_WITHIN_S = 60.0
KEY = PrivateKey.generate()


class Town:
    """``do`` runs what is written for the town's loop; ``place`` writes, ``get`` and ``post`` ask."""

    place: Village

    def __init__(self) -> None:
        self.settled: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._http: httpx.AsyncClient
        self._settings: Settings
        self._opened: Database | None = None

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of this, on the town's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=1200)

    async def get(self, nsid: str, who: str = "", pairs: Any = (), **params: Any) -> httpx.Response:
        """A query by this member, or by nobody."""
        asked = [*pairs, *params.items()]
        headers = self._headers(nsid, who)
        return await self._http.get(f"/xrpc/{nsid}", params=asked, headers=headers)

    async def post(self, nsid: str, who: str, body: Any) -> httpx.Response:
        """A procedure by this member."""
        return await self._http.post(f"/xrpc/{nsid}", json=body, headers=self._headers(nsid, who))

    async def answer(self, nsid: str, who: str = "", pairs: Any = (), **params: Any) -> Any:
        """What a query is answered; it must be 200, and valid."""
        reply = await self.get(nsid, who, pairs, **params)
        assert reply.status_code == 200, (nsid, params, reply.text)
        assert verdict(reply) is None, (nsid, params)
        return reply.json()

    async def done(self, nsid: str, who: str, body: Any) -> Any:
        """What a procedure is answered; it must be 200, and valid."""
        reply = await self.post(nsid, who, body)
        assert reply.status_code == 200, (nsid, body, reply.text)
        assert verdict(reply) is None, (nsid, body)
        return reply.json() if reply.content else None

    async def guest(self, *names: str) -> None:
        """Accounts with a profile, a handle and a key, that can ask."""
        await self.place.join(*names)

        def save(tx: Transaction) -> None:
            for name in names:
                actor = actors.ensure(tx, did(name))
                identities.save(
                    tx,
                    actor,
                    handle=f"{name}.test",
                    pds="http://127.0.0.1:1",
                    signing_key=KEY.did_key,
                    resolved_us=self.place.clock.now_us(),
                )

        await self.place.database.write(save)

    async def member(self, *names: str) -> None:
        """The same, and they belong here."""
        await self.guest(*names)
        for name in names:
            await self.place.mark(
                "INSERT INTO member (actor, via, admitted_us)"
                " SELECT id, 'operator', 0 FROM actor WHERE did = ?",
                did(name),
            )

    def _headers(self, nsid: str, who: str) -> Mapping[str, str]:
        if not who:
            return {}
        token = service_token(
            KEY,
            issuer=did(who),
            audience=SERVICE,
            method=nsid,
            now_us=self.place.clock.now_us(),
        )
        return {"authorization": f"Bearer {token}"}

    async def _open(self, path: Path, stack: contextlib.AsyncExitStack) -> None:
        clock = ManualClock()
        self._settings = Settings(
            data_dir=str(path),
            appview_did=SERVICE,
            admin_password=PASSWORD,
            store_scope="network",
            labelers=(LABELER,),
            upstream="relay",
            relay_url="ws://127.0.0.1:1",
            plc_url="http://127.0.0.1:1",
            handle_resolvers=("http://127.0.0.1:1",),
            allow_loopback=True,
            rate_limits="off",
            log_level="error",
        )
        really = app._open

        async def opened(*how: Any) -> Database:
            self._opened = await really(*how)
            return self._opened

        with mock.patch.object(app, "_open", opened):
            application = await app.build(self._settings, clock, _Idle(clock), stack)
        assert self._opened is not None
        self.place = Village(self._opened, self._settings, clock)
        origin = await stack.enter_async_context(serving(application))
        self._http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=origin, timeout=ANSWER_WITHIN_S, trust_env=False)
        )


class _Idle(Supervisor):
    """Nothing of the background is started."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)

    def start(self, *_: Any, **__: Any) -> None:
        """Not here."""


@contextlib.contextmanager
def town(path: Path) -> Iterator[Town]:
    """Open, without anybody in it."""
    found = Town()
    loop = found._loop
    # The network that could bring what is missing is not there: nobody need wait for it.
    waits = [(on_demand, name) for name in vars(on_demand) if name.endswith("_WITHIN_S")]
    patches = [mock.patch.object(*place, 0.02) for place in [*waits, (feeds, "WITHIN_S")]]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = contextlib.AsyncExitStack()
    for patch in patches:
        patch.start()
    try:
        found.do(found._open(path, stack))
        yield found
    finally:
        found.do(stack.aclose())
        for patch in patches:
            patch.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
