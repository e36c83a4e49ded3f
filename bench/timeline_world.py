"""A network of made-up posts in a real database, through the real merge code."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.protocol import lexicons
from appliance.protocol.cid import cid_of, to_text
from appliance.protocol.events import CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store.database import Database, Transaction

START_US = 1_780_000_000_000_000
WORDS = "quick brown fox jumps over a lazy dog while seven wizards box five dozen liquor jugs at night"
BATCH = 500


def did(number: int) -> str:
    """The DID of an account; number 0 is the viewer."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    text = ""
    for _ in range(24):
        text, number = letters[number % 32] + text, number // 32
    return f"did:plc:{text}"


class World:
    """Events of the network, one after the other, a second apart."""

    def __init__(self, *, accounts: int, follows: int, seed: int = 7) -> None:
        self.random = random.Random(seed)
        self.accounts = accounts
        self.follows = follows
        self.now_us = START_US
        self._posts: list[tuple[str, str]] = []
        self._threads: dict[str, tuple[str, str]] = {}
        weights = [1 / (place + 3) ** 0.7 for place in range(accounts)]
        self._writers = self.random.choices(range(1, accounts + 1), weights, k=200_000)
        self._next = 0

    def beginnings(self) -> list[Event]:
        """Profiles of everybody, the follows of the viewer, and some between others."""
        events: list[Event] = []
        for number in range(self.accounts + 1):
            blob = {"$type": "blob", "ref": {"$link": _cid(number)}, "mimeType": "image/jpeg", "size": 9000}
            profile = {"displayName": f"Account {number}", "description": self._text(), "avatar": blob}
            events.append(self._event(number, "app.bsky.actor.profile", profile, rkey="self"))
        followed = self.random.sample(range(1, self.accounts + 1), self.follows)
        return events + [self._event(0, "app.bsky.graph.follow", {"subject": did(n)}) for n in followed]

    def item(self) -> Event:
        """The next post, reply, quote, repost or like."""
        kind = self.random.random()
        author = self._writers[self._next % len(self._writers)]
        self._next += 1
        recent = self._posts[-400:]
        if kind < 0.12 and recent:
            return self._event(author, "app.bsky.feed.repost", {"subject": self._ref(recent)})
        if kind < 0.30 and recent:
            return self._event(author, "app.bsky.feed.like", {"subject": self._ref(recent)})
        post: dict[str, Any] = {"text": self._text(), "langs": ["en"]}
        thread = None
        if kind < 0.50 and recent:
            parent = self.random.choice(recent)
            thread = self._threads.get(parent[0], parent)
            post["reply"] = {"root": _as_ref(thread), "parent": _as_ref(parent)}
        elif kind < 0.55 and recent:
            post["embed"] = {"$type": "app.bsky.embed.record", "record": self._ref(recent)}
        elif kind < 0.70:
            blob = {
                "$type": "blob",
                "ref": {"$link": _cid(self._next)},
                "mimeType": "image/jpeg",
                "size": 300_000,
            }
            image = {"image": blob, "alt": self._text(), "aspectRatio": {"width": 1200, "height": 800}}
            post["embed"] = {"$type": "app.bsky.embed.images", "images": [image]}
        event = self._event(author, "app.bsky.feed.post", post)
        assert event.cid is not None
        here = (f"at://{event.did}/app.bsky.feed.post/{event.rkey}", event.cid)
        self._posts.append(here)
        if thread is not None:
            self._threads[here[0]] = thread
        return event

    def _event(
        self, author: int, collection: str, record: dict[str, Any], rkey: str | None = None
    ) -> CommitEvent:
        self.now_us += 1_000_000
        created = datetime.fromtimestamp(self.now_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        record = {"$type": collection, **record, "createdAt": created}
        body = orjson.dumps(record)
        tid = tid_of(self.now_us, 1)
        return CommitEvent(
            did(author), tid, 0, "create", collection, rkey or tid, to_text(cid_of(body)), body, self.now_us
        )

    def _ref(self, posts: list[tuple[str, str]]) -> dict[str, str]:
        return _as_ref(self.random.choice(posts))

    def _text(self) -> str:
        return " ".join(self.random.choices(WORDS.split(), k=self.random.randint(8, 40)))


def _as_ref(post: tuple[str, str]) -> dict[str, str]:
    return {"uri": post[0], "cid": post[1]}


def _cid(number: int) -> str:
    return to_text(b"\x01\x55\x12\x20" + number.to_bytes(32, "big"))


async def fill(path: Path, *, items: int, accounts: int = 1000, follows: int = 300) -> tuple[Database, World]:
    """An open database with that many items."""
    database = await Database.open(path)
    world = World(accounts=accounts, follows=follows)
    applier = Applier(Rules(validate=partial(lexicons.validate_record, published=True), scope="network"))

    def apply(tx: Transaction, events: list[Event]) -> None:
        applier.apply_batch(tx, Batch("bench", "relay", 1, world.now_us, events), now_us=world.now_us)

    await database.write(lambda tx: apply(tx, world.beginnings()))
    await database.write(lambda tx: tx.run("UPDATE actor SET handle = 'h' || id || '.test'"))
    for _ in range(items // BATCH):
        events = [world.item() for _ in range(BATCH)]
        await database.write(lambda tx, events=events: apply(tx, events))  # type: ignore[misc]
    await database.write(lambda tx: tx.run("ANALYZE"))
    return database, world
