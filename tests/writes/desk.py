"""Somebody signed in, who writes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from appliance.clock import ManualClock
from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.members import admission
from appliance.protocol import lexicons
from appliance.protocol.events import CommitEvent
from appliance.store import actors, records
from appliance.store.database import Transaction
from appliance.store.records import Found
from appliance.store.sessions import Session
from appliance.writes.repos import Repos
from appliance.writes.writer import Writer
from tests.auth.house import ALICE, BOB, PASSWORD, House
from tests.auth.small_pds import Asked, Reply, cid_of

POST = "app.bsky.feed.post"


class Desk(House):
    """Alice at her browser; Bob has a post that she can answer and like."""

    def __init__(self, path: Path, clock: ManualClock | None = None) -> None:
        super().__init__(path, clock)
        self.steps = 0

    async def open(self, stack: AsyncExitStack) -> None:
        await super().open(stack)
        self.applier = Applier(Rules(partial(lexicons.validate_record, published=True), "network"))
        self.repos = Repos(self.database, self.auth.pds_sessions, self.applier, self.clock)
        self.writer = Writer(
            self.database, self.auth.web_sessions, self.repos, self.book.resolve_handle, self.clock
        )
        self.cookie, _ = await self.auth.web_sessions.sign_in(ALICE, PASSWORD)
        await self.database.write(lambda tx: actors.ensure(tx, BOB, self.clock.now_us()))
        self.bobs, self.bobs_cid = await self.post_of_bob("hello")

    def join(self, tx: Transaction, did: str, handle: str | None, invite: str, now_us: int) -> bool:
        actor = actors.ensure(tx, did, now_us)
        tx.run("UPDATE actor SET handle = ?, pds = ? WHERE id = ?", (handle, self.pds.origin, actor))
        admission.admit(tx, self.settings, actor, "open", now_us)
        return True

    async def session(self) -> Session:
        return await self.auth.web_sessions.get(self.cookie)

    async def post_of_bob(self, text: str, **more: Any) -> tuple[str, str]:
        return await self.record(BOB, POST, {"text": text, "createdAt": "2026-01-01T00:00:00Z", **more})

    async def record(
        self, did: str, collection: str, fields: dict[str, Any], rkey: str | None = None
    ) -> tuple[str, str]:
        """A record as the stream brings it: address and CID."""
        self.steps += 1
        record = {"$type": collection, **fields}
        rkey = rkey or self.pds.revs.next()
        rev, body, cid = self.pds.revs.next(), orjson.dumps(record), cid_of(record)
        event = CommitEvent(did, rev, 0, "create", collection, rkey, cid, body, self.clock.now_us())
        await self.apply(event)
        return f"at://{did}/{collection}/{rkey}", cid

    async def apply(self, event: CommitEvent) -> None:
        await self.database.write(lambda tx: self.applier.apply(tx, event, now_us=self.clock.now_us()))

    async def follow_bob(self) -> None:
        """Alice follows Bob, and his repository counts as read."""
        follow = {"subject": BOB, "createdAt": "2026-01-01T00:00:00Z"}
        await self.record(ALICE, "app.bsky.graph.follow", follow)

    async def known(self, did: str, handle: str) -> None:
        """Somebody of whom identity and stream have told."""

        def save(tx: Transaction) -> None:
            actor = actors.ensure(tx, did, self.clock.now_us())
            tx.run("UPDATE actor SET handle = ? WHERE id = ?", (handle, actor))

        await self.database.write(save)

    async def find(self, uri: str) -> Found | None:
        found = await self.database.read(lambda r: records.find(r, uri))
        return found if found is not None and found.state == records.LIVING else None

    async def moving(self, work: Any, seconds: float = 10) -> Any:
        """The outcome of something that waits for the clock."""
        task = asyncio.ensure_future(work)
        for _ in range(1000):
            if task.done():
                break
            await asyncio.sleep(0.002)
            await self.clock.advance(seconds / 100)
        return await task

    def losing(self, nsid: str, *, before: bool = False, status: int = 0) -> None:
        """The PDS answers this call with an error, or cuts the line, after (or before) it has done it."""
        handled = self.pds.answer

        async def lose(asked: Asked) -> Reply:
            if not before:
                del self.pds.instead[nsid]
                await handled(asked)
            if status:
                return status, {"error": "InternalServerError"}
            raise ConnectionError

        self.pds.instead[nsid] = lose
