"""A writer for power cuts: batches of a stream with their position, and writes that somebody was told of."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.protocol.events import CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store import actors, repos
from appliance.store.database import Database, Reader, Transaction

NOW_US = 1_767_225_600_000_000
UPSTREAM = "jetstream-v2 wss://upstream.test"
ALICE = "did:plc:" + "a" * 24
POST = "app.bsky.feed.post"
PER_BATCH = 4
TOLD_EVERY = 5
FOLD_EVERY = 16
LETTERS = "234567abcdefghijklmnopqrstuvwxyz"


def valid(_collection: str, _body: bytes) -> str | None:
    return None


def cid(number: int) -> str:
    text = ""
    for _ in range(12):
        number, digit = divmod(number, 31)
        text = LETTERS[digit] + text
    return "bafyrei" + text + "a" * 40


def batch(number: int) -> Batch:
    """The stream's part with this number, the first is 1: some posts, and now and then a deletion."""
    events: list[Event] = []
    for place in range(PER_BATCH):
        serial = number * PER_BATCH + place
        gone = place == PER_BATCH - 1 and number > 3
        rkey = f"k{(number - 3) * PER_BATCH if gone else serial:07}"
        body = {"$type": POST, "text": "x" * (serial * 37 % 900), "createdAt": "2026-01-01T00:00:00Z"}
        events.append(
            CommitEvent(
                did=ALICE,
                rev=tid_of(NOW_US - 86_400_000_000 + serial * 1000),
                n=0,
                operation="delete" if gone else "create",
                collection=POST,
                rkey=rkey,
                cid=None if gone else cid(serial),
                record=None if gone else msgspec.json.encode(body),
                time_us=NOW_US + serial,
            )
        )
    return Batch(UPSTREAM, "jetstream-v2", number, NOW_US + number, events)


def expected(number: int) -> set[str]:
    """Keys that live after so many batches."""
    living: set[str] = set()
    for one in range(1, number + 1):
        for event in batch(one).events:
            assert isinstance(event, CommitEvent)
            if event.operation == "delete":
                living.discard(event.rkey)
            else:
                living.add(event.rkey)
    return living


def living(reader: Reader) -> set[str]:
    return {rkey for (rkey,) in reader.all("SELECT rkey FROM record WHERE state = 1")}


def listed(reader: Reader) -> int:
    return int(reader.value("SELECT count(*) FROM item"))


def told(reader: Reader) -> set[int]:
    return {int(name[4:]) for (name,) in reader.all("SELECT name FROM meta WHERE name LIKE 'told%'")}


async def apply(database: Database, applier: Applier, number: int) -> None:
    await database.write(lambda tx: applier.apply_batch(tx, batch(number), now_us=NOW_US))


async def write(path: Path, batches: int) -> None:
    """So many batches; each promise is written into the file ``promises`` once it was given."""
    database = await Database.open(path)

    def begin(tx: Transaction) -> None:
        repos.want(tx, actors.ensure(tx, ALICE, NOW_US), NOW_US)
        tx.value("PRAGMA wal_autocheckpoint=60")

    await database.write(begin, durable=True)
    applier = Applier(Rules(valid))
    promises = os.open(path.with_name("promises"), os.O_WRONLY | os.O_CREAT, 0o600)
    for number in range(1, batches + 1):
        await apply(database, applier, number)
        if number % TOLD_EVERY == 0:
            await database.write(
                lambda tx, number=number: tx.run("INSERT INTO meta VALUES (?, '')", (f"told{number}",)),  # type: ignore[misc]
                durable=True,
            )
            os.pwrite(promises, b"%09d" % number, 0)
        if number % FOLD_EVERY == 0:
            await database.fold()
    os.close(promises)
    await database.close()


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
