"""Our server for one scenario: the real application parts on a real socket, over a database of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

from appliance.auth.mint import service_token
from appliance.auth.service_tokens import ServiceTokens
from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.ingest import apply
from appliance.ingest.merge import Rules
from appliance.protocol import did_document, firehose, lexicons
from appliance.protocol.events import Event, IdentityEvent
from appliance.store.database import Database, Transaction
from appliance.timeline import labelers
from appliance.timeline.views import Views
from appliance.xrpc import admin, private, reads
from appliance.xrpc.asgi import Front
from tests.conformance.replay_network import ReplayNetwork
from tests.conformance.scenario import Json, Query, Scenario
from tests.serving import serving


class Proven(msgspec.Struct, frozen=True):
    """A caller whose token was verified. Every recorded account is admitted."""

    did: str
    member: bool = True


class ReplayedIdentities:
    """Looks DIDs and handles up over HTTP, as the appliance does."""

    def __init__(self, network: ReplayNetwork, client: httpx.AsyncClient) -> None:
        self._network = network
        self._client = client

    async def document(self, did: str) -> did_document.Identity | None:
        answer = await self._client.get(f"{self._network.origin}/{did}")
        return did_document.parse(answer.content, did) if answer.status_code == 200 else None

    async def key_of(self, did: str, key_id: str, fresh: bool) -> str | None:
        """What ServiceTokens asks for."""
        found = await self.document(did)
        return None if found is None else found.signing_key

    async def handle_of(self, did: str) -> str | None:
        """The handle, if it points back."""
        found = await self.document(did)
        if found is None or not found.handles:
            return None
        handle = found.handles[0]
        answer = await self._client.get(
            f"{self._network.origin}/xrpc/com.atproto.identity.resolveHandle", params={"handle": handle}
        )
        return handle if answer.status_code == 200 and answer.json()["did"] == did else None


class Stage:
    """A running server, and the recording played to it."""

    def __init__(
        self,
        scenario: Scenario,
        database: Database,
        network: ReplayNetwork,
        identities: ReplayedIdentities,
        client: httpx.AsyncClient,
        settings: Settings,
        origin: str,
    ) -> None:
        self._scenario = scenario
        self._database = database
        self._network = network
        self._identities = identities
        self._client = client
        self._settings = settings
        self._origin = origin
        self._applier = apply.Applier(
            Rules(validate=partial(lexicons.validate_record, published=True), scope="network")
        )
        self._named: set[str] = set()

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

    async def apply(self, seq: int, raw: bytes) -> None:
        """A frame of the recorded stream."""
        self._network.seq = seq
        frame = firehose.decode_frame(raw)
        events: list[Event] = firehose.events(frame, raw)
        if not events:
            return
        # What the network saw then is "now" for this event.
        now_us = max(event.time_us for event in events)
        batch = apply.Batch("replay", "relay", seq, now_us, events)
        await self._database.write(lambda tx: self._applier.apply_batch(tx, batch, now_us=now_us))
        for event in events:
            if isinstance(event, IdentityEvent) or (event.did and event.did not in self._named):
                assert event.did is not None
                await self._name(event.did)

    async def _name(self, did: str) -> None:
        self._named.add(did)
        handle = await self._identities.handle_of(did)

        def change(tx: Transaction) -> None:
            tx.run("UPDATE actor SET handle = NULL WHERE handle = ? AND did <> ?", (handle, did))
            tx.run("UPDATE actor SET handle = ? WHERE did = ?", (handle, did))

        await self._database.write(change)

    def _token(self, did: str, method: str, *, audience: str | None = None) -> str:
        person = self._scenario.people[did]
        token = service_token(
            person.key,
            issuer=did,
            audience=audience or self._settings.service_did,
            method=method,
            now_us=SystemClock().now_us(),
        )
        return f"Bearer {token}"

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


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@contextlib.asynccontextmanager
async def stage(scenario: Scenario, folder: Path) -> AsyncIterator[Stage]:
    """Everything started; everything stopped at the end."""
    about = scenario.about
    settings = Settings(
        data_dir=str(folder),
        appview_did=about["appviewDid"],
        public_url=about["appviewPublicUrl"],
        labelers=tuple(about["labelsFromIssuerDids"]),
        admin_password=about["adminPassword"],
        store_scope="network",
        members=("*",),
        rate_limits="off",
    )
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(folder / "appliance.db")
        stack.push_async_callback(database.close)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        network = await stack.enter_async_context(ReplayNetwork(scenario))
        identities = ReplayedIdentities(network, client)
        tokens = ServiceTokens(identities, settings, clock)

        async def authenticate(authorization: str | None, nsid: str, *, procedure: bool = False) -> Proven:
            return Proven(await tokens.verify(authorization, nsid, procedure=procedure))

        views = Views(database, settings, clock)
        front = Front(
            [
                *reads.methods(views, settings, "test"),
                *private.methods(database, clock),
                *admin.methods(database),
            ],
            authenticate,
            default_labelers=labelers.default(settings.labelers),
            admin_password=settings.admin_password,
        )
        origin = await stack.enter_async_context(serving(front))
        await database.write(lambda tx: _load_labels(tx, scenario.labels()))
        yield Stage(scenario, database, network, identities, client, settings, origin)


def _load_labels(tx: Transaction, labels: list[Json]) -> None:
    tx.many(
        "INSERT OR REPLACE INTO label (src, uri, val, cid, neg, cts, exp) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row["src"], row["uri"], row["val"], row["cid"] or "", int(row["neg"]), row["cts"], row["exp"])
            for row in labels
        ],
    )
