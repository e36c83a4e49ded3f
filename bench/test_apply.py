"""Events a second through the merge rule into a real file, beside just decoding the same lines.

The mix has the shapes of real network events: mostly likes, then posts, follows, reposts, blocks,
deletes, profiles. Accounts are synthetic; a share of them is tracked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.protocol import lexicons
from appliance.protocol.events import CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store import actors, repos
from appliance.store.database import Database, Transaction

EVENTS = 20_000
BATCH = 500
ACCOUNTS = 5_000
NOW_US = 1_767_225_600_000_000
# Shares of a minute of the network, per thousand.
MIX = {"like": 640, "post": 120, "follow": 60, "repost": 95, "block": 15, "profile": 5, "delete": 65}
LETTERS = "234567abcdefghijklmnopqrstuvwxyz"


class _Commit(msgspec.Struct, gc=False):
    rev: str
    operation: str
    collection: str
    rkey: str
    record: msgspec.Raw = msgspec.Raw()
    cid: str | None = None


class _Line(msgspec.Struct, gc=False):
    did: str
    time_us: int
    kind: str
    commit: _Commit


def did(number: int) -> str:
    text = ""
    for _ in range(24):
        number, digit = divmod(number * 2654435761 + 7, 32)
        text += LETTERS[digit]
    return "did:plc:" + text


def lines(count: int) -> list[bytes]:
    """JSON lines as a stream of version 1 sends them; the same each time."""
    chance = random.Random(7)
    names = [did(number) for number in range(ACCOUNTS)]
    kinds = chance.choices(list(MIX), weights=list(MIX.values()), k=count)
    made = []
    for number, kind in enumerate(kinds):
        us = NOW_US - 3_600_000_000 + number * 1500
        who, other = chance.choice(names), chance.choice(names)
        made.append(msgspec.json.encode(_line(kind, number, us, who, other, chance)))
    return made


def _line(kind: str, number: int, us: int, who: str, other: str, chance: random.Random) -> dict[str, Any]:
    created = {"createdAt": "2025-12-31T23:00:00.000Z"}
    post = {
        "uri": f"at://{other}/app.bsky.feed.post/{tid_of(us - chance.randrange(10**9))}",
        "cid": cid(chance),
    }
    shapes: dict[str, tuple[str, dict[str, Any] | None]] = {
        "like": ("app.bsky.feed.like", {"subject": post, **created}),
        "repost": ("app.bsky.feed.repost", {"subject": post, **created}),
        "follow": ("app.bsky.graph.follow", {"subject": other, **created}),
        "block": ("app.bsky.graph.block", {"subject": other, **created}),
        "profile": (
            "app.bsky.actor.profile",
            {"displayName": "Somebody", "description": "x" * 100, **created},
        ),
        "delete": ("app.bsky.feed.like", None),
        "post": ("app.bsky.feed.post", _post(post, chance, created)),
    }
    nsid, record = shapes[kind]
    commit: dict[str, Any] = {
        "rev": tid_of(us),
        "operation": "delete" if record is None else "create",
        "collection": nsid,
        "rkey": "self" if kind == "profile" else tid_of(us - 5, number % 1024),
    }
    if record is not None:
        commit |= {"record": {"$type": nsid, **record}, "cid": cid(chance)}
    return {"did": who, "time_us": us, "kind": "commit", "commit": commit}


def _post(other: dict[str, str], chance: random.Random, created: dict[str, str]) -> dict[str, Any]:
    record: dict[str, Any] = {"text": "words " * chance.randrange(1, 30), "langs": ["en"], **created}
    if chance.random() < 0.5:
        record["reply"] = {"root": other, "parent": other}
    if chance.random() < 0.2:
        record["embed"] = {"$type": "app.bsky.embed.record", "record": other}
    return record


def cid(chance: random.Random) -> str:
    return "bafyrei" + "".join(chance.choices(LETTERS.replace("1", "a"), k=51)) + "a"


_decode = msgspec.json.Decoder(_Line).decode


def decode_all(raw: list[bytes]) -> list[_Line]:
    return [_decode(line) for line in raw]


def event(line: bytes) -> Event:
    found = _decode(line)
    commit = found.commit
    return CommitEvent(
        found.did,
        commit.rev,
        0,
        commit.operation,  # type: ignore[arg-type]
        commit.collection,
        commit.rkey,
        commit.cid,
        None if commit.operation == "delete" else bytes(commit.record),
        found.time_us,
    )


class Bench:
    """A database on disk with some accounts tracked, used through its own writer."""

    def __init__(self, path: Path, tracked: int, rules: Rules) -> None:
        self.loop = asyncio.new_event_loop()
        self.database = self.loop.run_until_complete(Database.open(path, readers=1))
        self.applier = Applier(rules)

        def prepare(tx: Transaction) -> None:
            for number in range(tracked):
                repos.want(tx, actors.ensure(tx, did(number)), NOW_US)

        self.loop.run_until_complete(self.database.write(prepare))

    def take(self, raw: list[bytes]) -> None:
        """Decode, apply and commit everything, in batches as the pipeline makes them."""
        self.loop.run_until_complete(self._take(raw))

    async def _take(self, raw: list[bytes]) -> None:
        for start in range(0, len(raw), BATCH):
            events = [event(line) for line in raw[start : start + BATCH]]
            batch = Batch("bench", "jetstream-v1", None, events[-1].time_us, events)
            await self.database.write(partial(self._apply, batch))

    def _apply(self, batch: Batch, tx: Transaction) -> None:
        self.applier.apply_batch(tx, batch, now_us=NOW_US)

    def close(self) -> None:
        self.loop.run_until_complete(self.database.close())
        self.loop.close()


RAW = lines(EVENTS)
RULES = {
    "tracked": Rules(partial(lexicons.validate_record, published=True)),
    "network": Rules(partial(lexicons.validate_record, published=True), "network"),
}


def report(benchmark: Any) -> None:
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["events_per_s"] = round(EVENTS / seconds)
    print(f"\n{benchmark.name}: {EVENTS / seconds:,.0f} events/s, {seconds / EVENTS * 1e6:.1f} µs each")


def test_decoding_the_lines_and_nothing_more(benchmark: Any) -> None:
    found = benchmark.pedantic(decode_all, args=(RAW,), rounds=5, warmup_rounds=1)
    assert len(found) == EVENTS
    report(benchmark)


@pytest.mark.parametrize(
    ("share", "scope"),
    [(0.01, "tracked"), (0.10, "tracked"), (0.10, "network")],
    ids=["1%", "10%", "network"],
)
def test_events_committed(benchmark: Any, tmp_path: Path, share: float, scope: str) -> None:
    made: list[Bench] = []

    def fresh() -> tuple[tuple[Callable[..., None], list[bytes]], dict[str, Any]]:
        for old in made:
            old.close()
        made[:] = [
            Bench(tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite", int(ACCOUNTS * share), RULES[scope])
        ]
        return (made[0].take, RAW), {}

    benchmark.pedantic(lambda take, raw: take(raw), setup=fresh, rounds=3)
    kept = made[0].loop.run_until_complete(
        made[0].database.read(lambda r: r.value("SELECT count(*) FROM record WHERE state = 1"))
    )
    made[0].close()
    assert kept > EVENTS * share * 0.5
    report(benchmark)
