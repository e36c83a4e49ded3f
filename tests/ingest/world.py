"""A database of the appliance in memory, and events to apply to it."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.ingest import snapshot
from appliance.ingest.apply import Applier, Batch, Tally
from appliance.ingest.merge import Rules, Verdict
from appliance.protocol.events import CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store import actors, records, repos, scans
from appliance.store.collections import NSIDS, NUMBERS
from appliance.store.database import Transaction
from appliance.store.migrations import schema_text

NOW_US = 1_767_225_600_000_000  # 2026-01-01
UPSTREAM = "jetstream-v2 wss://upstream.test"
CID_LETTERS = "234567abcdefghijklmnopqrstuvwxyz"


def connect(path: str = ":memory:") -> sqlite3.Connection:
    """A fresh database, its transaction open."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=512)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.executescript(schema_text())
    connection.execute("BEGIN IMMEDIATE")
    return connection


def cid(number: int) -> str:
    """A CID in the network's spelling; different numbers differ."""
    text = ""
    for _ in range(12):
        number, digit = divmod(number, 31)
        text = CID_LETTERS[digit] + text
    return "bafyrei" + text + "a" * 40


def rev(number: int) -> str:
    """A rev; larger numbers are later. All lie well before NOW_US."""
    return tid_of(NOW_US - 86_400_000_000 + number * 1000)


def did(name: str) -> str:
    """Somebody's DID."""
    return "did:plc:" + name.ljust(24, "2")


def uri(who: str, collection: str, rkey: str) -> str:
    """Somebody's record."""
    return f"at://{did(who)}/{collection}/{rkey}"


POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
LIKE = "app.bsky.feed.like"
FOLLOW = "app.bsky.graph.follow"
BLOCK = "app.bsky.graph.block"
PROFILE = "app.bsky.actor.profile"
CREATED = "2025-12-31T12:00:00.000Z"


Row = tuple[str, int, dict[str, Any]]


def strong(target: str) -> dict[str, str]:
    return {"uri": target, "cid": cid(1)}


def valid(_collection: str, _body: bytes) -> str | None:
    """Accepts every record."""
    return None


class World:
    """The store, with one applier; events get rising revs unless told."""

    def __init__(self, path: str = ":memory:", **rules: Any) -> None:
        self.connection = connect(path)
        self.tx = Transaction(self.connection)
        self.rules = Rules(**{"validate": valid, **rules})
        self.applier = Applier(self.rules)
        self.now_us = NOW_US
        self._numbers = itertools.count(1)

    def track(self, *names: str) -> None:
        """Somebody wants these accounts."""
        for name in names:
            repos.want(self.tx, actors.ensure(self.tx, did(name)), self.now_us)

    def track_did(self, whose: str) -> None:
        repos.want(self.tx, actors.ensure(self.tx, whose), self.now_us)

    def member(self, name: str) -> int:
        """Admit an account as members do."""
        actor = actors.ensure(self.tx, did(name), self.now_us)
        self.tx.run(
            "INSERT INTO member (actor, via, admitted_us) VALUES (?, 'open', ?)", (actor, self.now_us)
        )
        repos.want(self.tx, actor, self.now_us)
        for followee in self.all(
            "SELECT subject FROM link WHERE kind = 3 AND waiting = 0 AND actor = ?", actor
        ):
            repos.want(self.tx, followee[0], self.now_us)
        return actor

    def leave(self, name: str) -> None:
        """End a membership as members does."""
        actor = self.actor(name)
        self.tx.run("DELETE FROM member WHERE actor = ?", (actor,))
        repos.unwant(self.tx, actor, self.now_us)
        for followee in self.all(
            "SELECT subject FROM link WHERE kind = 3 AND waiting = 0 AND actor = ?", actor
        ):
            repos.unwant(self.tx, followee[0], self.now_us)

    def event(
        self,
        who: str,
        collection: str,
        rkey: str,
        body: dict[str, Any] | bytes | None,
        *,
        number: int | None = None,
        n: int = 0,
        operation: str = "",
        value: int | None = None,
        at_us: int | None = None,
    ) -> CommitEvent:
        """A commit event; ``body`` None deletes."""
        number = next(self._numbers) if number is None else number
        raw = body if isinstance(body, bytes) else msgspec.json.encode({"$type": collection, **(body or {})})
        return CommitEvent(
            did=did(who),
            rev=rev(number),
            n=n,
            operation=operation or ("delete" if body is None else "create"),  # type: ignore[arg-type]
            collection=collection,
            rkey=rkey,
            cid=None if body is None else cid(number * 100 + n if value is None else value),
            record=None if body is None else raw,
            time_us=self.now_us + number if at_us is None else at_us,
        )

    def apply(self, *events: Event) -> Tally:
        """One batch."""
        return self.applier.apply_batch(self.tx, batch(events), now_us=self.now_us)

    def one(self, event: Event) -> None:
        """An event that nothing is wrong with."""
        tally = self.apply(event)
        assert tally.dead == tally.unknown_collection == 0, tally

    def post(self, who: str, rkey: str, body: dict[str, Any] | None = None, **how: Any) -> str:
        """A post is applied; its address."""
        self.one(self.event(who, POST, rkey, {"text": rkey, "createdAt": CREATED, **(body or {})}, **how))
        return uri(who, POST, rkey)

    def reply(self, who: str, rkey: str, parent: str, root: str = "", **how: Any) -> str:
        return self.post(
            who, rkey, {"reply": {"root": strong(root or parent), "parent": strong(parent)}}, **how
        )

    def repost(self, who: str, rkey: str, subject: str, **how: Any) -> str:
        self.one(self.event(who, REPOST, rkey, {"subject": strong(subject), "createdAt": CREATED}, **how))
        return uri(who, REPOST, rkey)

    def like(self, who: str, rkey: str, subject: str, **how: Any) -> str:
        self.one(self.event(who, LIKE, rkey, {"subject": strong(subject), "createdAt": CREATED}, **how))
        return uri(who, LIKE, rkey)

    def follow(self, who: str, rkey: str, whom: str, **how: Any) -> str:
        self.one(self.event(who, FOLLOW, rkey, {"subject": did(whom), "createdAt": CREATED}, **how))
        return uri(who, FOLLOW, rkey)

    def delete(self, address: str, **how: Any) -> None:
        _, _, owner, collection, rkey = address.split("/")
        event = self.event("", collection, rkey, None, **how)
        self.one(msgspec.structs.replace(event, did=owner))

    def fetched(self, address: str, body: dict[str, Any] | None, value: int = 7) -> Verdict:
        """A single look at somebody's PDS."""
        _, _, owner, collection, rkey = address.split("/")
        return snapshot.fetched_row(
            self.tx,
            self.rules,
            actors.ensure(self.tx, owner),
            NUMBERS[collection],
            rkey,
            None if body is None else cid(value),
            None if body is None else msgspec.json.encode({"$type": collection, **body}),
            self.now_us,
        )

    def begin(self, who: str, base: int, *names: str, epoch: int | None = None) -> int:
        """A snapshot begins; its id."""
        repo = self.repo(who)
        assert repos.start(self.tx, repo.actor, repo.epoch, self.now_us)
        scan = snapshot.begin_scan(
            self.tx,
            repo.actor,
            epoch=repo.epoch if epoch is None else epoch,
            host="https://pds.test",
            method="listing",
            base_rev=rev(base),
            collections=tuple(NUMBERS[nsid] for nsid in names or (POST,)),
            now_us=self.now_us,
        )
        assert scan is not None
        return scan

    def page(self, scan: int, rows: list[Row], cursor: str | None = None, **how: Any) -> scans.Scan | None:
        """One page of the collection at hand; without cursor its last."""
        found = scans.find(self.tx, scan)
        nsid = NSIDS[found.collections[0]] if found is not None else ""
        seen = [
            snapshot.Seen(rkey, cid(value), msgspec.json.encode({"$type": nsid, **body}))
            for rkey, value, body in rows
        ]
        return snapshot.page_done(self.tx, scan, self.rules, seen, cursor, self.now_us, **how)

    def finish(self, scan: int, *names: str) -> repos.Certificate | None:
        return snapshot.finish_scan(
            self.tx, scan, self.now_us, read=tuple(NUMBERS[nsid] for nsid in names or (POST,))
        )

    def scan(self, who: str, base: int, pages: Iterable[list[Row]], *names: str) -> repos.Certificate | None:
        """A complete snapshot, one page for each collection."""
        scan = self.begin(who, base, *names)
        for page in pages:
            assert self.page(scan, page)
        return self.finish(scan, *names)

    def begin_anew(self, who: str, base: int, *names: str) -> int:
        """A snapshot of a repository that was LIVE."""
        assert repos.resync(self.tx, self.actor(who), self.repo(who).epoch, "again", 0, self.now_us)
        return self.begin(who, base, *names)

    def scan_anew(
        self, who: str, base: int, pages: Iterable[list[Row]], *names: str
    ) -> repos.Certificate | None:
        scan = self.begin_anew(who, base, *names)
        for page in pages:
            assert self.page(scan, page)
        return self.finish(scan, *names)

    def live(self, *names: str) -> None:
        """Track these and call their repositories scanned at nothing."""
        self.track(*names)
        for name in names:
            self.scan(name, 0, [[]])

    def known(self, who: str) -> int | None:
        return actors.find_id(self.tx, did(who))

    def actor(self, who: str) -> int:
        found = actors.find_id(self.tx, did(who))
        assert found is not None
        return found

    def repo(self, who: str) -> repos.Repo:
        found = repos.find(self.tx, self.actor(who))
        assert found is not None
        return found

    def scan_of(self, who: str) -> scans.Scan | None:
        return scans.find_of(self.tx, self.actor(who))

    def find(self, address: str) -> records.Found | None:
        return records.find(self.tx, address)

    def state(self, address: str) -> int | None:
        found = self.find(address)
        return None if found is None else found.state

    def id(self, address: str) -> int:
        found = self.find(address)
        assert found is not None
        return found.id

    def items(self) -> list[str]:
        """Addresses of everything that feeds list, newest first."""
        rows = self.all("SELECT id FROM item ORDER BY sort_ms DESC, tie DESC, id DESC")
        return [records.uri(self.tx, row[0]) for row in rows]

    def counts(self, address: str) -> tuple[int, int, int, int]:
        """(likes, reposts, replies, quotes)."""
        row = self.tx.one(
            "SELECT likes, reposts, replies, quotes FROM post_count WHERE id = ?", (self.id(address),)
        )
        return (0, 0, 0, 0) if row is None else row

    def actor_counts(self, who: str) -> tuple[int, int, int]:
        """(follows, followers, posts)."""
        row = self.tx.one(
            "SELECT follows, followers, posts FROM actor_count WHERE actor = ?", (self.actor(who),)
        )
        return (0, 0, 0) if row is None else row

    def sort_ms(self, address: str) -> int:
        return int(self.tx.value("SELECT sort_ms FROM record WHERE id = ?", (self.id(address),)))

    def all(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        return self.tx.all(sql, params)

    def count(self, table: str) -> int:
        return int(self.tx.value(f"SELECT count(*) FROM {table}"))


def batch(events: Iterable[Event], seq: int = 1, time_us: int = NOW_US) -> Batch:
    """Events as an upstream brings them."""
    return Batch(UPSTREAM, "jetstream-v2", seq, time_us, list(events))
