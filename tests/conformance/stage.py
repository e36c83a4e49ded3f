"""The whole appliance for one scenario, on a real socket, reading the recorded relay."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from appliance import app
from appliance.auth.mint import service_token
from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.store import actors
from appliance.store.database import Database, Reader, Transaction
from appliance.supervisor import Supervisor
from tests.conformance.replay_network import ReplayNetwork
from tests.conformance.scenario import Json, Query, Scenario
from tests.serving import serving

SETTLED_WITHIN_S = 60.0


class RecordedTime(SystemClock):
    """Shortly after the recording, whatever day it is here."""

    def __init__(self, start_us: int) -> None:
        self._ahead_us = start_us - super().now_us()

    def now_us(self) -> int:
        return super().now_us() + self._ahead_us


class Stage:
    """A running server, and the recording played to it."""

    def __init__(
        self,
        scenario: Scenario,
        network: ReplayNetwork,
        watch: Database,
        client: httpx.AsyncClient,
        settings: Settings,
        clock: RecordedTime,
        origin: str,
    ) -> None:
        self._scenario = scenario
        self._network = network
        self._watch = watch
        self._client = client
        self._settings = settings
        self._clock = clock
        self._origin = origin

    async def stream_to(self, seq: int) -> None:
        """Let the relay send up to this event, and wait until it is in and every name is looked up."""
        await self._network.release(seq)
        end_s = time.monotonic() + SETTLED_WITHIN_S
        while not await self._watch.read(lambda reader: _is_settled(reader, seq)):
            assert time.monotonic() < end_s, f"event {seq} did not arrive"
            await asyncio.sleep(0.01)

    async def act(self, action: Json) -> None:
        """A recorded private write; ours has to succeed or be refused as theirs was."""
        nsid = action["nsid"]
        headers = {}
        auth: httpx.BasicAuth | None = None
        if action["auth"] == "admin":
            auth = httpx.BasicAuth("admin", self._scenario.about["adminPassword"])
        else:
            headers["authorization"] = self._token(action["viewer"], nsid)
        request: dict[str, Any] = {"headers": headers, "auth": auth}
        url = f"{self._origin}/xrpc/{nsid}"
        answer = await self._client.post(url, json=action["input"], **request)
        if answer.status_code not in (action["status"], 501):
            raise RuntimeError(f"{action} was answered {answer.status_code} {answer.text}")

    async def ask(self, query: Query) -> httpx.Response:
        """The recorded request, put to our server."""
        headers = dict(query.headers)
        auth: httpx.BasicAuth | None = None
        match query.auth:
            case "admin":
                auth = httpx.BasicAuth("admin", self._scenario.about["adminPassword"])
            case "garbage":
                headers["authorization"] = "Bearer not.a.jwt"
            case _ if query.viewer is not None:
                did = self._scenario.accounts[query.viewer]
                method = "app.bsky.feed.getNothing" if query.auth == "wrong-lxm" else query.nsid
                audience = "did:example:other" if query.auth == "wrong-aud" else None
                headers["authorization"] = self._token(did, method, audience=audience)
        pairs = [
            (name, _spelled(each))
            for name, value in query.params.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        url = f"{self._origin}/xrpc/{query.nsid}"
        return await self._client.get(url, params=pairs, headers=headers, auth=auth)  # type: ignore[arg-type]

    def _token(self, did: str, method: str, *, audience: str | None = None) -> str:
        token = service_token(
            self._scenario.people[did].key,
            issuer=did,
            audience=audience or self._settings.service_did,
            method=method,
            now_us=self._clock.now_us(),
        )
        return f"Bearer {token}"


def _is_settled(reader: Reader, seq: int) -> bool:
    arrived = reader.value("SELECT max(seq) FROM upstream")
    open_names = reader.value(
        "SELECT count(*) FROM actor WHERE known = 1 AND (resolved_us IS NULL OR resolved_us < 0)"
    )
    return arrived is not None and arrived >= seq and open_names == 0


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@contextlib.asynccontextmanager
async def stage(scenario: Scenario, folder: Path) -> AsyncIterator[Stage]:
    """Everything started; everything stopped at the end."""
    about = scenario.about
    clock = RecordedTime(scenario.ended_us())
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(ReplayNetwork(scenario))
        settings = Settings(
            data_dir=str(folder),
            appview_did=about["appviewDid"],
            public_url=about["appviewPublicUrl"],
            labelers=tuple(about["labelsFromIssuerDids"]),
            admin_password=about["adminPassword"],
            upstream="relay",
            relay_url=network.relay,
            plc_url=network.origin,
            handle_resolvers=(network.origin,),
            allow_loopback=True,
            store_scope="network",
            rate_limits="off",
            commit_every_ms=5,
            outbound_rate_per_host=1000.0,
            log_level="error",
        )
        watch = await Database.open(folder / app.DATABASE_FILE, readers=1)
        stack.push_async_callback(watch.close)
        await watch.write(lambda tx: _prepare(tx, scenario))
        supervisor = Supervisor(clock)
        application = await app.build(settings, clock, supervisor, stack)
        running = asyncio.create_task(supervisor.run())
        stack.push_async_callback(_end, supervisor, running)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        origin = await stack.enter_async_context(serving(application))
        yield Stage(scenario, network, watch, client, settings, clock, origin)


async def _end(supervisor: Supervisor, running: asyncio.Task[None]) -> None:
    supervisor.stop()
    await running


def _prepare(tx: Transaction, scenario: Scenario) -> None:
    """What the stream does not carry: every recorded account is a member; the labels."""
    for did in scenario.accounts.values():
        actor = actors.ensure(tx, did)
        tx.run("INSERT INTO member (actor, via, admitted_us) VALUES (?, 'operator', 0)", (actor,))
    tx.many(
        "INSERT OR REPLACE INTO label (src, uri, val, cid, neg, cts, exp) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row["src"], row["uri"], row["val"], row["cid"] or "", int(row["neg"]), row["cts"], row["exp"])
            for row in scenario.labels()
        ],
    )
