"""A few accounts and what they write, in a real database, through the real merge code."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.protocol import lexicons
from appliance.protocol.cid import cid_of, to_text
from appliance.protocol.events import AccountEvent, CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store import actors, identities
from appliance.store.database import Database, Transaction
from appliance.timeline.answering import Answer
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
LIKE = "app.bsky.feed.like"
FOLLOW = "app.bsky.graph.follow"
BLOCK = "app.bsky.graph.block"
PROFILE = "app.bsky.actor.profile"
LABELER = "did:plc:" + "l" * 24


def did(name: str) -> str:
    return "did:plc:" + name.ljust(24, "2")


def time_text(us: int) -> str:
    moment = datetime.fromtimestamp(us // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{us // 1000 % 1000:03}Z"


class Village:
    """Writes happen a second apart unless told. Addresses of records come back."""

    def __init__(self, database: Database, settings: Settings, clock: ManualClock) -> None:
        self.database = database
        self.settings = settings
        self.clock = clock
        self.views = Views(database, settings, clock)
        self._applier = Applier(
            Rules(partial(lexicons.validate_record, published=True), settings.store_scope)
        )
        self._us = clock.now_us()
        self._seq = 0
        self._count = 0

    async def apply(self, *events: Event) -> None:
        self._seq += 1
        batch = Batch("test", "relay", self._seq, self._us, list(events))
        tally = await self.database.write(lambda tx: self._applier.apply_batch(tx, batch, now_us=self._us))
        assert tally.dead == 0, await self.database.read(lambda r: r.all("SELECT error FROM dead_letter"))

    def event(
        self,
        who: str,
        collection: str,
        record: dict[str, Any] | None,
        *,
        rkey: str = "",
        at_us: int | None = None,
        created: str = "",
        operation: str = "",
    ) -> CommitEvent:
        """What somebody writes; None deletes."""
        self._us += 1_000_000
        self._count += 1
        now_us = self._us if at_us is None else at_us
        rev = tid_of(self._us, self._count % 1024)
        if record is None:
            return CommitEvent(did(who), rev, 0, "delete", collection, rkey, None, None, now_us)
        whole = {"$type": collection, "createdAt": created or time_text(now_us), **record}
        body = orjson.dumps(whole)
        return CommitEvent(
            did(who),
            rev,
            0,
            operation or "create",  # type: ignore[arg-type]
            collection,
            rkey or rev,
            to_text(cid_of(body)),
            body,
            now_us,
        )

    async def write(self, who: str, collection: str, record: dict[str, Any], **how: Any) -> dict[str, str]:
        """A strong reference to the new record."""
        event = self.event(who, collection, record, **how)
        await self.apply(event)
        assert event.cid is not None
        return {"uri": f"at://{event.did}/{collection}/{event.rkey}", "cid": event.cid}

    async def join(self, *names: str) -> None:
        """Accounts with a profile and a handle."""
        for name in names:
            await self.write(name, PROFILE, {"displayName": name.title()}, rkey="self")
            await self.named(name, f"{name}.test")

    async def named(self, name: str, handle: str | None) -> None:
        """What a look at the identity finds."""

        def save(tx: Transaction) -> None:
            actor = actors.ensure(tx, did(name))
            identities.save(
                tx, actor, handle=handle, pds=None, signing_key=None, resolved_us=self.clock.now_us()
            )

        await self.database.write(save)

    async def post(self, who: str, text: str = "hello", **more: Any) -> dict[str, str]:
        how = {name: more.pop(name) for name in ("rkey", "at_us", "created") if name in more}
        return await self.write(who, POST, {"text": text, **more}, **how)

    async def reply(
        self, who: str, parent: dict[str, str], root: dict[str, str] | None = None
    ) -> dict[str, str]:
        return await self.post(who, f"{who} replies", reply={"root": root or parent, "parent": parent})

    async def follow(self, who: str, *whom: str) -> None:
        for name in whom:
            await self.write(who, FOLLOW, {"subject": did(name)})

    async def block(self, who: str, whom: str) -> dict[str, str]:
        return await self.write(who, BLOCK, {"subject": did(whom)})

    async def repost(self, who: str, post: dict[str, str]) -> dict[str, str]:
        return await self.write(who, REPOST, {"subject": post})

    async def like(self, who: str, post: dict[str, str]) -> dict[str, str]:
        return await self.write(who, LIKE, {"subject": post})

    async def delete(self, ref: dict[str, str]) -> None:
        _, _, authority, collection, rkey = ref["uri"].split("/")
        self._us += 1_000_000
        self._count += 1
        rev = tid_of(self._us, self._count % 1024)
        await self.apply(CommitEvent(authority, rev, 0, "delete", collection, rkey, None, None, self._us))

    async def status(self, who: str, status: str | None) -> None:
        self._us += 1_000_000
        self._seq += 1
        await self.apply(AccountEvent(did(who), status is None, status, self._us, self._seq))

    async def mark(self, sql: str, *params: object) -> None:
        """Rows that other parts own: mutes, takedowns, labels."""
        await self.database.write(lambda tx: tx.run(sql, params))

    async def mute(self, who: str, whom: str) -> None:
        await self.mark(
            "INSERT INTO mute (viewer, subject, created_us) SELECT v.id, s.id, 0 FROM actor v, actor s"
            " WHERE v.did = ? AND s.did = ?",
            did(who),
            did(whom),
        )

    async def label(self, uri: str, value: str, *, source: str = LABELER, expires: str | None = None) -> None:
        await self.mark(
            "INSERT INTO label (src, uri, val, cts, exp) VALUES (?, ?, ?, '2026-01-01T00:00:00.000Z', ?)",
            source,
            uri,
            value,
            expires,
        )

    async def home(self, who: str, **how: Any) -> Any:
        return checked("app.bsky.feed.getTimeline", await self.views.timeline(asker(who), **how))

    async def feed(self, who: str | None, actor: str, **how: Any) -> Any:
        answer = await self.views.author_feed(asker(who), did(actor), **how)
        return checked("app.bsky.feed.getAuthorFeed", answer)

    async def thread(self, who: str | None, post: dict[str, str], **how: Any) -> Any:
        answer = await self.views.thread(asker(who), post["uri"], **how)
        return checked("app.bsky.feed.getPostThread", answer)["thread"]


def asker(who: str | None, *, operator: bool = False) -> Asker:
    return Asker(did=None if who is None else did(who), operator=operator)


def checked(nsid: str, answer: Answer) -> Any:
    """Parsed, and valid by its schema."""
    parsed = answer.parsed()
    assert lexicons.validate_output(nsid, parsed) is None
    return parsed


def uris(page: Any) -> list[str]:
    """Of the posts of a feed."""
    return [item["post"]["uri"] for item in page["feed"]]


@contextlib.asynccontextmanager
async def village(path: Path, **settings: Any) -> AsyncIterator[Village]:
    """Empty, on a database of its own. Everything that the stream carries is kept."""
    database = await Database.open(path / "appliance.db")
    chosen = Settings(data_dir=str(path), store_scope="network", labelers=(LABELER,), **settings)
    try:
        yield Village(database, chosen, ManualClock())
    finally:
        await database.close()
