"""SIGKILL at random while the world writes: in the end every timeline is exactly the truth."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.devnet.truth import FOLLOW
from tests.journeys.harness import Client, Process, World, comes_true
from tests.journeys.judge import signed_in, what_is_wrong

KILLS = {"jetstream-v2": 50, "jetstream-v1": 20, "relay": 20}
RATE = 30.0
RUN_S = (0.02, 0.9)
SETTLE_S = 120.0


async def change_follows(info: dict[str, Any], http: httpx.AsyncClient, chance: random.Random) -> None:
    """Members follow and unfollow at their own servers, whether or not the appliance runs."""
    members = []
    for member in info["members"]:
        client = Client(member["pds"], http)
        await client.sign_in(member["handle"], member["password"])
        members.append(client)
    everybody = []
    for origin in info["pds"]:
        listed = await Client(origin, http).call("com.atproto.sync.listRepos", limit=100)
        everybody += [repo["did"] for repo in listed["repos"]]
    while True:
        await asyncio.sleep(chance.uniform(0.2, 0.8))
        client = chance.choice(members)
        page = await client.call(
            "com.atproto.repo.listRecords", repo=client.did, collection=FOLLOW, limit=100
        )
        follows = {record["value"]["subject"]: record["uri"] for record in page["records"]}
        subject = chance.choice(everybody)
        if subject in follows:
            rkey = follows[subject].rsplit("/", 1)[1]
            body = {"repo": client.did, "collection": FOLLOW, "rkey": rkey}
            await client.call("com.atproto.repo.deleteRecord", body)
        elif subject != client.did:
            record = {"$type": FOLLOW, "subject": subject, "createdAt": "2026-01-01T00:00:00Z"}
            body = {"repo": client.did, "collection": FOLLOW, "record": record}
            await client.call("com.atproto.repo.createRecord", body)


@pytest.mark.invariant("position-with-rows")
@pytest.mark.parametrize("wire", KILLS)
async def test_after_many_kills_nothing_is_lost_doubled_or_resurrected(tmp_path: Path, wire: str) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    world = World(tmp_path / "world", accounts=14)
    await world.start(rate=RATE)
    process = Process(tmp_path / "appliance", world.settings(wire))
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        try:
            await process.start()
            clients = await signed_in(process.origin, http, world.info["members"])
            changing = asyncio.create_task(change_follows(world.info, http, chance))
            try:
                for _ in range(KILLS[wire]):
                    await asyncio.sleep(chance.uniform(*RUN_S))
                    await process.kill()
                    await process.start()
            finally:
                changing.cancel()
                await asyncio.wait([changing])
            follows = changing.exception() if not changing.cancelled() else None
            assert follows is None, follows
            await world.stop()
            await world.start(rate=0)
            for client, member in zip(clients, world.info["members"], strict=True):
                # The sign-in itself has survived every kill; a fresh one works as well.
                await client.call("com.atproto.server.getSession")
                await client.sign_in(member["handle"], member["password"])
            took_s = await comes_true(lambda: what_is_wrong(world.info, clients), within_s=SETTLE_S)
            rows = [len(await client.timeline()) for client in clients]
            starts = sorted(process.starts_s)
            print(
                f"{wire}, {KILLS[wire]} kills (seed {seed}): exact {took_s:.1f} s after the last;"
                f" rows {rows};"
                f" start to ready median {starts[len(starts) // 2]:.2f} s, slowest {starts[-1]:.2f} s"
            )
        except BaseException:
            print(f"seed {seed}; {process.tail()}")
            raise
        finally:
            if process.alive:
                await process.stop()
            await world.stop()
