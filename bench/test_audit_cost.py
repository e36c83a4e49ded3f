"""What proof costs: requests a minute and processor time of the audit schedule for 10,000 accounts."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import orjson

from appliance.backfill.audit import Auditor
from appliance.backfill.schedule import Schedule
from appliance.backfill.tools import make_tools
from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.merge import Rules
from appliance.outbound.client import Answer, Outbound
from appliance.protocol import cid as cids
from appliance.protocol.tid import tid_of
from appliance.store import actors, audits, records, repos
from appliance.store.audits import DAY_US, HOUR_US
from appliance.store.database import Database, Transaction

ACCOUNTS = 10_000
LARGE_HOSTS = 20
SMALL_HOSTS = 100
ON_SMALL = 20
POSTS = 5
# The part of all accounts that writes something between two looks.
WRITES = 0.3
HOURS = 6
STEP_S = 15.0
START_US = 1_767_225_600_000_000


class FromMemory:
    """Hosts that answer at once: what remains is our own cost."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.revs: dict[str, str] = {}
        self.rows: dict[str, list[tuple[str, str]]] = {}
        self.on_host: dict[str, list[str]] = {}

    async def get(self, url: str, *, limits: Any, params: Mapping[str, Any]) -> Answer:
        origin, name = url.split("/xrpc/")
        name = name.rsplit(".", 1)[1]
        self.requests[name] += 1
        await asyncio.sleep(0)
        return Answer(200, {}, orjson.dumps(self._answer(origin, name, params)))

    def _answer(self, origin: str, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if name == "listRepos":
            dids = self.on_host[origin]
            listed = [{"did": did, "rev": self.revs[did], "active": True} for did in dids]
            # A large host's list never ends in time.
            return {"repos": listed} if len(dids) == ON_SMALL else {"repos": listed[:1], "cursor": "more"}
        if name == "listRecords":
            did, nsid = params["repo"], params["collection"]
            rows = self.rows[did] if nsid.endswith(".post") else []
            return {
                "records": [{"uri": f"at://{did}/{nsid}/{k}", "cid": cid, "value": {}} for k, cid in rows]
            }
        return {"did": params["did"], "active": True, "rev": self.revs[params["did"]]}


def _cid(number: int) -> str:
    return cids.to_text(cids.cid_of(str(number).encode()))


def _populate(tx: Transaction, net: FromMemory) -> None:
    rng = random.Random(5)
    for number in range(ACCOUNTS):
        small = number < SMALL_HOSTS * ON_SMALL
        host = (
            f"https://small{number // ON_SMALL}.test"
            if small
            else f"https://large{number % LARGE_HOSTS}.test"
        )
        did = f"did:plc:{number:024d}"
        actor = actors.ensure(tx, did, START_US)
        tx.run("UPDATE actor SET pds = ?, known = 1, resolved_us = ? WHERE id = ?", (host, START_US, actor))
        repos.want(tx, actor, START_US, cover_us=START_US)
        repos.start(tx, actor, 0, START_US)
        rev = tid_of(START_US - DAY_US + number * 1000, 1)
        rows = []
        for post in range(POSTS):
            rkey = tid_of(START_US - 30 * DAY_US + (number * POSTS + post) * 1000, 1)
            cid = _cid(number * POSTS + post)
            records.insert(
                tx, actor, 1, rkey, records.LIVING, (0, rev, records.SNAPSHOT), cid, b"{}",
                (START_US // 1000, post, None), START_US, None,
            )  # fmt: skip
            rows.append((rkey, cid))
        for collection in (1, 2, 5):
            tx.run(
                "INSERT INTO floor (actor, collection, epoch, rev) VALUES (?, ?, 0, ?)",
                (actor, collection, rev),
            )
        digest, count = records.digest(tx, actor, [1, 2, 5])
        repos.finalise(tx, actor, 0, rev, repos.Certificate(rev, "listing", digest, count), START_US)
        if rng.random() < WRITES:
            rev = tid_of(START_US - 3600_000_000 + number * 1000, 1)
            repos.seen_rev(tx, actor, rev)
        net.revs[did] = rev
        net.rows[did] = sorted(rows, reverse=True)
        net.on_host.setdefault(host, []).append(did)


def test_requests_a_minute_and_processor_time_of_the_schedule(tmp_path: Path) -> None:
    asyncio.run(_measure(tmp_path))


async def _measure(folder: Path) -> None:
    clock = ManualClock(START_US)
    settings = Settings(data_dir=str(folder))
    database = await Database.open(folder / "appliance.db")
    net = FromMemory()
    await database.write(lambda tx: _populate(tx, net))
    outbound = cast("Outbound", net)
    identities = Identities(database, outbound, settings, clock)
    tools = make_tools(
        database, outbound, identities, settings, clock, Rules(lambda c, b: None), lag_s=lambda: 0.0,
        rng=random.Random(3),
    )  # fmt: skip
    schedule = Schedule(Auditor(tools), tools, signed_a_day=0.0)
    await database.write(lambda tx: audits.plan(tx, clock.now_us()))
    task = asyncio.create_task(schedule.run())
    try:
        cpu_s, began_s = time.process_time(), time.perf_counter()
        while clock.now_us() - START_US < HOURS * HOUR_US:
            await clock.advance(STEP_S)
            await asyncio.sleep(0.001)
            while schedule.busy:
                # Its rests between looks are of real time, and short.
                await clock.advance(0.05)
                await asyncio.sleep(0.0005)
        cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - began_s
        health = await database.read(lambda r: audits.health(r, clock.now_us()))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await database.close()
    minutes = (clock.now_us() - START_US) / 60_000_000
    total = sum(net.requests.values())
    print(f"\n{ACCOUNTS} accounts, {HOURS} hours of the schedule in {took_s:.0f} s; {WRITES:.0%} had written")
    print(f"  requests a minute {total / minutes:.1f}: {dict(net.requests)}")
    print(f"  processor time {cpu_s:.1f} s, {cpu_s / (minutes * 60):.2%} of one core")
    print(
        f"  by level: { ({level: (one.run, one.due, one.overdue) for level, one in health.levels.items()}) }"
    )
    assert health.levels["rev"].run >= ACCOUNTS * 0.85
    assert health.levels["rev"].overdue == 0
    assert total / minutes < 200
