"""A village with a market: the feed calls over it, a generator on a real socket, and readers with keys."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from appliance.auth.mint import service_token
from appliance.auth.parts import build
from appliance.auth.secrets import open_secrets
from appliance.auth.sign_in import Credentials
from appliance.errors import NotFound
from appliance.feeds.generators import SKELETON, Generators
from appliance.feeds.own import OwnFeeds
from appliance.members import admission
from appliance.members.feed_door import FeedDoor
from appliance.outbound.client import Outbound
from appliance.protocol import did_document
from appliance.protocol.keys import PrivateKey
from appliance.store import actors
from appliance.store.database import Transaction
from appliance.timeline import labelers
from appliance.xrpc.asgi import Front
from appliance.xrpc.feeds import FeedCalls
from tests.auth.house import Book, Known
from tests.auth.small_pds import Asked, SmallPds
from tests.timeline.village import Village, did, village

GENERATOR = did("maker")
FEED = f"at://{did('cook')}/app.bsky.feed.generator/soup"
US = "did:web:localhost%3A2580"


class Square:
    """``ask`` calls as ``who`` would through his PDS."""

    def __init__(self, place: Village) -> None:
        self.place = place
        self.generator = SmallPds(place.clock)
        self.pds = SmallPds(place.clock)
        self.book = Book()
        self.keys: dict[str, PrivateKey] = {}
        self.brought: list[list[str]] = []
        self.fetch: Any = None
        self.documents: dict[str, dict[str, did_document.Service]] = {}

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        await stack.enter_async_context(self.generator)
        await stack.enter_async_context(self.pds)
        settings = self.place.settings
        outbound = Outbound(settings, self.place.clock)
        stack.push_async_callback(outbound.close)

        def join(tx: Transaction, who: str, handle: str | None, invite: str, now_us: int) -> None:
            admission.admit(tx, settings, actors.ensure(tx, who, now_us), "open", now_us)

        secrets = open_secrets(settings)
        self.auth = build(self.place.database, self.book, outbound, secrets, join, settings, self.place.clock)
        stack.push_async_callback(self.auth.close)
        door = FeedDoor(self.place.database, settings, self.place.clock)
        answering = self.place.views.answering
        calls = FeedCalls(
            answering,
            Generators(self, outbound),
            OwnFeeds(answering, settings.service_did, door.admit),
            self.auth.viewers,
            self.auth.pds_sessions,
            settings,
            self.bring,
        )
        self.serve(GENERATOR, self.generator.origin)
        front = Front(
            calls.methods(),
            self.auth.viewers.authenticate,
            default_labelers=labelers.default(settings.labelers),
        )
        self.http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://us.test")
        )

    def serve(self, who: str, origin: str, kind: str = "BskyFeedGenerator") -> None:
        self.documents[who] = {"bsky_fg": did_document.Service(kind, origin)}

    async def document(self, who: str) -> did_document.Identity:
        if who not in self.documents:
            raise NotFound("no such DID")
        return did_document.Identity(who, (), None, None, self.documents[who], {})

    async def bring(self, uris: list[str], within_s: float) -> None:
        self.brought.append(uris)
        if self.fetch is not None:
            await self.fetch(uris)

    def answers(self, *entries: Any, **more: Any) -> None:
        """The generator gives these addresses, or whole entries."""
        feed = [each if isinstance(each, dict) else {"post": each} for each in entries]

        async def answer(_: Asked) -> tuple[int, Any]:
            return 200, {"feed": feed, **more}

        self.generator.instead[SKELETON] = answer

    def replies(self, *reply: Any) -> None:
        async def answer(_: Asked) -> Any:
            return reply

        self.generator.instead[SKELETON] = answer

    async def publish(self, who: str = "cook", service: str = GENERATOR, rkey: str = "soup") -> None:
        record = {"did": service, "displayName": "Soup"}
        await self.place.write(who, "app.bsky.feed.generator", record, rkey=rkey)

    async def own_feed(self, kind: str, list_uri: str = "") -> str:
        uri = f"at://{did('cook')}/app.bsky.feed.generator/{kind}"
        await self.place.mark(
            "INSERT INTO own_feed (uri, publisher, kind, list, published_us) VALUES (?, ?, ?, ?, 0)",
            uri, did("cook"), kind, list_uri,
        )  # fmt: skip
        return uri

    async def admit(self, *names: str) -> None:
        for name in names:
            await self.place.mark(
                "INSERT INTO member (actor, via, admitted_us) SELECT id, 'x', 0 FROM actor WHERE did = ?",
                did(name),
            )

    def token(self, who: str, method: str, audience: str = US) -> str:
        key = self.keys.setdefault(did(who), PrivateKey.generate("k256"))
        self.book.keys[did(who)] = key.did_key
        now_us = self.place.clock.now_us()
        token = service_token(key, issuer=did(who), audience=audience, method=method, now_us=now_us)
        return f"Bearer {token}"

    async def ask(
        self, nsid: str, authorization: str = "", headers: dict[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        sent = dict(headers or {}) | ({"authorization": authorization} if authorization else {})
        return await self.http.get(f"/xrpc/{nsid}", params=params, headers=sent)

    async def sign_in(self, who: str) -> str:
        """The access token of a session at our origin."""
        name = f"{who}.test"
        self.pds.add(did(who), name, "abcd-efgh-2345-6789")
        self.book.known[did(who)] = Known(did(who), name, self.pds.origin)
        self.book.handles[name] = did(who)
        begun = await self.auth.xrpc_sessions.create(Credentials(name, "abcd-efgh-2345-6789"), "test")
        return f"Bearer {begun.pair.access}"


@contextlib.asynccontextmanager
async def square(path: Path, **settings: Any) -> AsyncIterator[Square]:
    async with village(path, appview_did=US, allow_loopback=True, **settings) as place:
        made = Square(place)
        async with contextlib.AsyncExitStack() as stack:
            await made.open(stack)
            yield made
