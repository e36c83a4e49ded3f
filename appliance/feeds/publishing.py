"""Writing the records of our feeds into the repository of whoever signs in for it, and taking them out.

What stands there already as it should is left alone, so that publishing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from appliance import telemetry
from appliance.auth import pds
from appliance.auth.accounts import Account
from appliance.auth.pds import SignedIn
from appliance.auth.sign_in import parse_identifier
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import NotFound, Refused, Unavailable
from appliance.feeds.own import BASIC, LIST_PREFIX
from appliance.outbound.client import Answer, Outbound
from appliance.outbound.limits import PDS_JSON, PDS_WRITE
from appliance.store import own_feeds
from appliance.store.database import Database, Transaction
from appliance.store.own_feeds import OwnFeed

log = telemetry.Log("feeds")

GENERATOR = "app.bsky.feed.generator"
LIST = "app.bsky.graph.list"
CURATED = "app.bsky.graph.defs#curatelist"
LISTS_MAX = 100
PAGES_MAX = 20
NAME_CHARS_MAX = 24
IDENTITY_AGE_S = 600.0


class Accounts(Protocol):
    """Where accounts are looked up; ``identity.Identities`` is one."""

    async def get(self, did: str, *, max_age_s: float) -> Account: ...
    async def resolve_handle(self, handle: str) -> str | None: ...


class Done(msgspec.Struct, frozen=True):
    """What came of it, as addresses of records."""

    published: list[str]
    written: list[str]
    removed: list[str]


class _Planned(msgspec.Struct, frozen=True):
    feed: OwnFeed
    record: dict[str, Any]


class Publishing:
    """Both ways. Everything raises Refused for a wrong password and Unavailable when the PDS fails."""

    def __init__(
        self, database: Database, accounts: Accounts, outbound: Outbound, settings: Settings, clock: Clock
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._outbound = outbound
        self._settings = settings
        self._clock = clock

    async def publish(self, identifier: str, password: str) -> Done:
        """Four feeds, and one for each list for reading that the account owns."""
        origin, session = await self._sign_in(identifier, password)
        try:
            repository = _Repository(self._outbound, origin, session)
            planned = list(self._plan(session.did, await repository.records(LIST)))
            there = {record["uri"]: record["value"] for record in await repository.records(GENERATOR)}
            written = []
            for each in planned:
                old = there.get(each.feed.uri)
                if old is None or not _says(old, each.record):
                    await repository.put(each.feed.uri, {"createdAt": self._now()} | each.record | _kept(old))
                    written.append(each.feed.uri)
            wanted = {each.feed.uri for each in planned}
            removed = [uri for uri in await self._ours(session.did, there) if uri not in wanted]
            for uri in removed:
                if uri in there:
                    await repository.delete(uri)
        finally:
            await self._sign_out(origin, session)
        await self._database.write(lambda tx: self._note(tx, planned, removed), durable=True)
        log.info("feeds_published", publisher=session.did, written=len(written), removed=len(removed))
        return Done([each.feed.uri for each in planned], written, removed)

    async def unpublish(self, identifier: str, password: str) -> Done:
        """Take out all that name us, and answer for none of this account's any more."""
        origin, session = await self._sign_in(identifier, password)
        try:
            repository = _Repository(self._outbound, origin, session)
            there = {record["uri"]: record["value"] for record in await repository.records(GENERATOR)}
            removed = await self._ours(session.did, there)
            for uri in removed:
                if uri in there:
                    await repository.delete(uri)
        finally:
            await self._sign_out(origin, session)
        await self._database.write(lambda tx: own_feeds.remove(tx, removed), durable=True)
        log.info("feeds_unpublished", publisher=session.did, removed=len(removed))
        return Done([], [], removed)

    def _plan(self, did: str, lists: list[dict[str, Any]]) -> Iterator[_Planned]:
        service = self._settings.service_did
        for each in BASIC:
            uri = f"at://{did}/{GENERATOR}/{each.rkey}"
            record = {"did": service, "displayName": each.name, "description": each.about}
            yield _Planned(OwnFeed(uri, did, each.kind, ""), record)
        curated = [record for record in lists if record["value"].get("purpose") == CURATED]
        for each_list in curated[:LISTS_MAX]:
            key = each_list["uri"].rpartition("/")[2]
            name = str(each_list["value"].get("name") or "List")
            record = {
                "did": service,
                "displayName": name[:NAME_CHARS_MAX],
                "description": "What those on this list post, newest first, nothing left out.",
            }
            uri = f"at://{did}/{GENERATOR}/{LIST_PREFIX}{key}"
            yield _Planned(OwnFeed(uri, did, "list", each_list["uri"]), record)

    async def _ours(self, did: str, there: dict[str, Any]) -> list[str]:
        """Feeds of this account that we answer for, or that say so."""
        noted = await self._database.read(lambda reader: own_feeds.of_publisher(reader, did))
        named = [uri for uri, record in there.items() if record.get("did") == self._settings.service_did]
        return sorted({*(feed.uri for feed in noted), *named})

    def _note(self, tx: Transaction, planned: list[_Planned], removed: list[str]) -> None:
        for each in planned:
            own_feeds.add(tx, each.feed, self._clock.now_us())
        own_feeds.remove(tx, removed)

    async def _sign_in(self, identifier: str, password: str) -> tuple[str, SignedIn]:
        name = parse_identifier(identifier)
        did: str | None = name if name.startswith("did:") else await self._accounts.resolve_handle(name)
        if did is None:
            raise NotFound(f"the handle {name} leads to no account")
        account = await self._accounts.get(did, max_age_s=IDENTITY_AGE_S)
        if account.pds is None:
            raise Refused("this account has no server that we could ask")
        session = await pds.create_session(self._outbound, account.pds, did, password)
        if session.did != did:
            await self._sign_out(account.pds, session)
            raise Refused("the server answered for another account", name="InvalidDid")
        return account.pds, session

    async def _sign_out(self, origin: str, session: SignedIn) -> None:
        try:
            await pds.delete_session(self._outbound, origin, session.tokens)
        except Unavailable:
            log.warning("session_left", pds=origin)

    def _now(self) -> str:
        moment = datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


class _Repository:
    """Records of whoever signed in."""

    def __init__(self, outbound: Outbound, origin: str, session: SignedIn) -> None:
        self._outbound = outbound
        self._origin = origin
        self._session = session

    async def records(self, collection: str) -> list[dict[str, Any]]:
        """All of one type."""
        found: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            query = f"repo={quote(self._session.did)}&collection={collection}&limit=100"
            query += f"&cursor={quote(cursor)}" if cursor else ""
            body = _body(await self._call("GET", f"com.atproto.repo.listRecords?{query}"))
            page = body.get("records")
            if not isinstance(page, list) or not all(_is_record(each) for each in page):
                raise Unavailable("the server gave an answer that is not understood")
            found += page
            cursor = body.get("cursor") or ""
            if not page or not cursor:
                return found
        return found

    async def put(self, uri: str, record: dict[str, Any]) -> None:
        _, _, did, collection, rkey = uri.split("/")
        value = {"$type": collection} | record
        _body(
            await self._write(
                "putRecord", {"repo": did, "collection": collection, "rkey": rkey, "record": value}
            )
        )

    async def delete(self, uri: str) -> None:
        _, _, did, collection, rkey = uri.split("/")
        _body(await self._write("deleteRecord", {"repo": did, "collection": collection, "rkey": rkey}))

    async def _write(self, method: str, body: dict[str, Any]) -> Answer:
        return await self._outbound.post(
            f"{self._origin}/xrpc/com.atproto.repo.{method}",
            limits=PDS_WRITE,
            json=body,
            headers=self._bearer(),
        )

    async def _call(self, verb: str, method: str) -> Answer:
        return await self._outbound.request(
            verb, f"{self._origin}/xrpc/{method}", limits=PDS_JSON.for_person(), headers=self._bearer()
        )

    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._session.access}"}


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("uri"), str) and isinstance(value.get("value"), dict)
    )


def _body(answer: Answer) -> dict[str, Any]:
    if not answer.ok:
        raise Unavailable(f"the server refused a call: {answer.error_name() or answer.status}")
    body = answer.json()
    return body if isinstance(body, dict) else {}


def _says(old: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a record holds all that we would write; what its owner added stays."""
    return all(old.get(name) == value for name, value in wanted.items())


def _kept(old: dict[str, Any] | None) -> dict[str, Any]:
    """What an earlier record has that we don't write: its time, a picture."""
    return (
        {} if old is None else {name: old[name] for name in ("createdAt", "avatar", "labels") if name in old}
    )
