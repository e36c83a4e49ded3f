"""Defects by which an earlier system lost, doubled or misordered posts, made to happen to this one.

docs/failure-modes.md lists all of them; those that a package's own tests rule out are marked there.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from appliance import config
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.ingest.pipeline import Pipeline
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.store.database import Database, Transaction
from tests.ingest.hosts import BEGIN_US, POST, ClockAt, Host, Line, post_event, reading, v1_line, v2_line

IMAGES = "app.bsky.embed.images"
BLOB = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
OLD = "2020-02-29T23:59:59.987Z"
GOLDEN = {
    "$type": POST,
    "text": "as it was written, ünïcode and all",
    "createdAt": OLD,
    "langs": ["de", "en"],
    "embed": {
        "$type": IMAGES,
        "images": [
            {
                "alt": "a picture",
                "image": {"$type": "blob", "ref": {"$link": BLOB}, "mimeType": "image/jpeg", "size": 7},
                "aspectRatio": {"width": 4, "height": 3},
            }
        ],
    },
}
PROFILE = {"$type": "app.bsky.actor.profile", "displayName": "Mara 🌱", "description": "still here"}
MB = 1024 * 1024


def lines(wire: str, events: list[dict[str, Any]]) -> list[Line]:
    make = v1_line if wire == "v1" else v2_line
    return [make(seq, event) for seq, event in enumerate(events, 1001)]


def numbered(wire: str, count: int) -> list[Line]:
    """So many posts of seven people, a second apart, up to a little before now."""
    begin_us = BEGIN_US - (count + 10) * 1_000_000
    return lines(wire, [post_event(n % 7, n, begin_us + n * 1_000_000) for n in range(count)])


async def keys(database: Database) -> list[str]:
    rows = await database.read(lambda r: r.all("SELECT rkey FROM record WHERE state = 1 ORDER BY rkey"))
    return [row[0] for row in rows]


def keys_of(host: Host) -> list[str]:
    found = [orjson.loads(line.data) for line in host.lines]
    return sorted((each.get("payload") or each["commit"])["rkey"] for each in found)


@pytest.mark.defect("D1")
@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_dates_embeds_and_names_are_stored_as_their_authors_wrote_them(
    tmp_path: Path, wire: str
) -> None:
    post = post_event(1, 1, BEGIN_US - 2_000_000, record=GOLDEN)
    profile = post_event(1, 2, BEGIN_US - 1_000_000, record=PROFILE, collection=PROFILE["$type"], rkey="self")
    host = Host(wire)
    async with host.running(), reading(tmp_path, host) as at:
        async with asyncio.timeout(60):
            while not at.pipeline.connected():
                await asyncio.sleep(0.01)
        await host.add(*lines(wire, [post, profile]))
        await at.until("SELECT count(*) FROM record WHERE state = 1", 2)
        rows = await at.database.read(
            lambda r: r.all(
                "SELECT collection, body, sort_ms FROM record WHERE state = 1 ORDER BY collection"
            )
        )
        item = await at.database.read(lambda r: r.one("SELECT flags, sort_ms FROM item"))

    assert [bytes(row[1]) for row in rows] == [orjson.dumps(GOLDEN), orjson.dumps(PROFILE)]
    assert item is not None
    assert rows[0][2] == item[1] == 1_583_020_799_987
    assert item[0] & 4, "its pictures are known as pictures"


@pytest.mark.defect("D2")
@pytest.mark.defect("D4")
@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_an_event_whose_store_fails_is_there_after_a_restart_and_so_are_all_others(
    tmp_path: Path, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.pipeline.COMMIT_RETRY_S", 0.01)
    everything = numbered(wire, 60)
    host = Host(wire, everything[:1])
    refused: list[int] = []
    write = Database.write

    async def refusing(self: Database, work: Any, *, durable: bool = False) -> Any:
        """The disk refuses from the tenth post on, in the middle of its transaction."""

        def refuses(tx: Transaction) -> Any:
            done = work(tx)
            count = tx.value("SELECT count(*) FROM record WHERE state = 1")
            if count >= 10:
                refused.append(count)
                raise sqlite3.OperationalError("database or disk is full")
            return done

        return await write(self, refuses, durable=durable)

    async with host.running():
        monkeypatch.setattr(Database, "write", refusing)
        async with reading(tmp_path, host, commit_events_max=3) as at, asyncio.timeout(60):
            while not at.pipeline.connected():
                await asyncio.sleep(0.01)
            await host.add(*everything[1:])
            while len(refused) < 3:
                await asyncio.sleep(0.01)
            assert not at.pipeline.facts()["storing"]
            before = await keys(at.database)
            assert len(before) < 10
        monkeypatch.setattr(Database, "write", write)
        async with reading(tmp_path, host) as at:
            await at.until("SELECT count(*) FROM record WHERE state = 1", len(everything) - 1)
            assert await at.value("SELECT count(*) FROM dead_letter") == 0
            assert await keys(at.database) == keys_of(host)[1:]


@pytest.mark.defect("D16")
async def test_a_burst_far_beyond_what_the_writer_takes_needs_little_memory_and_keeps_its_order(
    tmp_path: Path,
) -> None:
    """Ten times what the queue holds, each post deleted right after it was made."""
    begin_us = BEGIN_US - 60_000_000
    events = []
    for n in range(4000):
        made = post_event(n % 50, n, begin_us + n * 1000)
        made["commit"]["record"]["text"] = "x" * 2500
        gone = post_event(n % 50, n, begin_us + n * 1000 + 1, operation="delete")
        gone["commit"]["rkey"] = made["commit"]["rkey"]
        gone["commit"].pop("record")
        gone["commit"].pop("cid")
        events += [made, gone]
    host = Host("v2")
    async with host.running(), reading(tmp_path, host, ingest_queue_mb=1) as at:
        async with asyncio.timeout(60):
            while not at.pipeline.connected():
                await asyncio.sleep(0.01)
        burst = lines("v2", events)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        queued = 0
        await host.add(*burst)
        async with asyncio.timeout(60):
            while await at.value("SELECT max(seq) FROM upstream") != burst[-1].seq:
                queued = max(queued, at.pipeline.facts()["queued"])
                await asyncio.sleep(0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert await at.value("SELECT count(*) FROM record WHERE state = 1") == 0
        assert await at.value("SELECT count(*) FROM record WHERE state = 2") == 4000
    assert sum(len(line.data) for line in burst) > 10 * MB
    assert queued < 1500, "the queue holds a megabyte"
    assert grown < 60 * MB


@pytest.mark.defect("D18")
async def test_the_relay_of_the_settings_is_the_one_that_is_read(tmp_path: Path) -> None:
    host = Host("relay")
    async with host.running():
        environment = {"RELAY_URL": f"ws://localhost:{host.port}", "ALLOW_LOOPBACK": "true"}
        settings = config.load(None, environment)
        assert settings.reads_relay
        clock = ClockAt()
        settings = msgspec.structs.replace(settings, data_dir=str(tmp_path))
        database = await Database.open(tmp_path / "test.db")
        outbound = Outbound(settings, clock)
        identities = Identities(database, outbound, settings, clock)
        applier = Applier(Rules(lexicons.validate_record, "tracked"))
        pipeline = Pipeline(database, outbound, identities, applier, settings, clock)
        reader = asyncio.create_task(pipeline.run())
        try:
            async with asyncio.timeout(60):
                while not (host.asked and pipeline.connected()):
                    await asyncio.sleep(0.01)
            assert f" ws://localhost:{host.port}/" in pipeline.facts()["upstream"]
        finally:
            reader.cancel()
            await asyncio.wait([reader])
            await outbound.close()
            await database.close()


@pytest.mark.defect("D20")
def test_without_settings_nothing_is_open_to_others_and_nobody_is_let_in() -> None:
    settings = config.load(None, {})

    assert settings.bind == "127.0.0.1"
    assert (settings.admin_password, settings.session_secret, settings.members) == ("", "", ())
    assert settings.admission == "allow-list"
    assert settings.rate_limits == "on"
    assert not settings.allow_loopback
