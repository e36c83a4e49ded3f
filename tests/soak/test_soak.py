"""Hundreds of events a second for as long as asked, with faults of all kinds: nothing grows, nothing is lost.

``--soak SECONDS`` says for how long; what is true of an hour begins to show in a minute.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.devnet.truth import BYPASS
from tests.crash.looks import Looks, look_around
from tests.journeys.harness import Client, Process, World, comes_true
from tests.journeys.judge import signed_in, what_is_wrong
from tests.soak.gauges import Sample, look, slope_per_hour

RATE = 500.0
ACCOUNTS = 120
SAMPLES = 60
RESIDENT_MAX_MB = 700.0
LOG_MAX_MB = 128.0
HANDLES_MAX = 200
# Of the second half, when caches are full. A minute's slope is mostly noise: short runs are judged by
# the bounds above.
GROWTH_MAX_MB_PER_HOUR = 60.0
GROWTH_JUDGED_FROM_S = 1800.0
SETTLE_S = 600.0
STREAM = {"cut_every": 4000, "duplicate_every": 50}


def test_growth_is_told_from_noise() -> None:
    def sample(at_s: float, resident_mb: float) -> Sample:
        return Sample(at_s, resident_mb, 0, 0, 0, 0, 0)

    leaking = [sample(i * 10.0, 200 + i + (i % 7) * 5) for i in range(100)]
    steady = [sample(i * 10.0, 200 + (i % 7) * 5) for i in range(100)]

    assert slope_per_hour(leaking, lambda each: each.resident_mb) == pytest.approx(360, rel=0.05)
    assert abs(slope_per_hour(steady, lambda each: each.resident_mb)) < 10


@pytest.mark.long
async def test_at_500_events_a_second_with_faults_nothing_grows_and_nothing_is_lost(
    tmp_path: Path, soak_s: float
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    world = World(tmp_path / "world", accounts=ACCOUNTS)
    await world.start(rate=RATE)
    process = Process(tmp_path / "appliance", {**world.settings(), "CACHE_MB": "32", "READERS": "2"})
    samples: list[Sample] = []
    # Kept connections end when either side is busy: each call has its own.
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=60, trust_env=False, headers=BYPASS, limits=fresh) as http:
        try:
            await process.start(within_s=60)
            members = world.info["members"]
            clients = await signed_in(process.origin, http, members)
            looks = [
                Looks(client, http, await follows(http, member))
                for client, member in zip(clients, members, strict=True)
            ]
            began = time.monotonic()
            first = await progress(world, http)
            tasks = [
                asyncio.create_task(look_around(looks, world.info["pds"], pause_s=0.5)),
                asyncio.create_task(lie(world, http, chance)),
            ]
            try:
                while time.monotonic() - began < soak_s:
                    await asyncio.sleep(soak_s / SAMPLES)
                    metrics = (await http.get(f"{process.origin}/metrics")).text
                    samples.append(look(process.pid, process.data / "appliance.db", metrics))
                    for task in tasks:
                        if task.done():
                            task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            seconds = time.monotonic() - began
            last = await progress(world, http)
            fired = await faults_fired(world, http)
            await world.stop()
            await world.start(rate=0)

            async def wrong() -> str:
                for each in looks:
                    await each.look(world.info["pds"], pages=20)
                return await what_is_wrong(world.info, clients)

            took_s = await comes_true(wrong, within_s=SETTLE_S)
            made_per_s = (last["events"] - first["events"]) / seconds
            print(report(samples, made_per_s, seconds, took_s, looks, fired, seed))
        except BaseException:
            print(f"seed {seed}; {process.tail()}")
            raise
        finally:
            if process.alive:
                await process.stop()
            await world.stop()
    assert {"cut", "duplicate", "fail"} <= fired, fired
    assert max(each.resident_mb for each in samples) < RESIDENT_MAX_MB
    assert max(each.log_mb for each in samples) < LOG_MAX_MB
    assert max(each.handles for each in samples) < HANDLES_MAX
    assert samples[-1].events > samples[0].events
    if soak_s >= GROWTH_JUDGED_FROM_S:
        later = samples[len(samples) // 2 :]
        assert slope_per_hour(later, lambda each: each.resident_mb) < GROWTH_MAX_MB_PER_HOUR
        assert slope_per_hour(later, lambda each: each.handles) < 10


async def lie(world: World, http: httpx.AsyncClient, chance: random.Random) -> None:
    """Cut and doubled streams all the time; now and then a server or an account is away."""
    control = world.info["control"]
    await say(http, f"{control}/faults", {"of": "jetstream_v2", **STREAM})
    await say(http, f"{control}/faults", {"of": "pds0", "fail_every": 20})
    everybody = await accounts(world, http)
    while True:
        await asyncio.sleep(chance.uniform(1.0, 4.0))
        did = chance.choice(everybody)
        match chance.randrange(4):
            case 0:
                await say(http, f"{control}/call", {"method": "deactivate", "args": [did]})
                await asyncio.sleep(chance.uniform(0.5, 2.0))
                await say(http, f"{control}/call", {"method": "activate", "args": [did]})
            case 1:
                await say(http, f"{control}/call", {"method": "resync", "args": [did]})
            case 2:
                await say(http, f"{control}/faults", {"of": "pds1", "down": True})
                await asyncio.sleep(chance.uniform(0.5, 2.0))
                await say(http, f"{control}/faults", {"of": "pds1", "off": True})
            case _:
                await say(http, f"{control}/faults", {"of": "jetstream_v2", "mute": True})
                await asyncio.sleep(chance.uniform(0.2, 1.0))
                await say(http, f"{control}/faults", {"of": "jetstream_v2", "mute": False})


async def say(http: httpx.AsyncClient, url: str, body: dict[str, Any]) -> None:
    answer = await http.post(url, json=body)
    assert answer.status_code == 200, answer.text


async def accounts(world: World, http: httpx.AsyncClient) -> list[str]:
    """Everybody but the members, whose sign-ins have to stay."""
    found = []
    for origin in world.info["pds"]:
        listed = await Client(origin, http).call("com.atproto.sync.listRepos", limit=1000)
        found += [repo["did"] for repo in listed["repos"] if repo["active"]]
    return sorted(set(found) - {member["did"] for member in world.info["members"]})


async def follows(http: httpx.AsyncClient, member: dict[str, Any]) -> list[str]:
    """Whom a member follows; nobody changes that here."""
    page = await Client(member["pds"], http).call(
        "com.atproto.repo.listRecords", repo=member["did"], collection="app.bsky.graph.follow", limit=100
    )
    return [record["value"]["subject"] for record in page["records"]]


async def progress(world: World, http: httpx.AsyncClient) -> dict[str, Any]:
    """How many events there have been."""
    told: dict[str, Any] = (await http.get(f"{world.info['control']}/progress")).json()
    return told


async def faults_fired(world: World, http: httpx.AsyncClient) -> set[str]:
    """What lies were told at all."""
    told = (await http.get(f"{world.info['control']}/faults")).json()
    return {fault for report in told.values() for fault in report["fired"]}


def report(
    samples: list[Sample],
    made_per_s: float,
    seconds: float,
    took_s: float,
    looks: list[Looks],
    fired: set[str],
    seed: int,
) -> str:
    """The figures."""
    later = samples[len(samples) // 2 :]
    taken_per_s = (samples[-1].events - samples[0].events) / (samples[-1].at_s - samples[0].at_s)
    resident = [each.resident_mb for each in samples]
    return (
        f"{seconds:.0f} s: {made_per_s:.0f} events/s made, {taken_per_s:.0f}/s taken in;"
        f" lag at most {max(each.lag_s for each in samples):.1f} s;"
        f" memory {resident[0]:.0f} to {resident[-1]:.0f} MB, at most {max(resident):.0f},"
        f" {slope_per_hour(later, lambda each: each.resident_mb):+.0f} MB/h in the second half;"
        f" log at most {max(each.log_mb for each in samples):.1f} MB;"
        f" handles {min(each.handles for each in samples)} to {max(each.handles for each in samples)};"
        f" database {samples[-1].database_mb:.0f} MB; exact {took_s:.1f} s after the end;"
        f" {sum(each.count for each in looks)} looks,"
        f" {sum(len(each.gone) for each in looks)} deletions watched; faults {sorted(fired)}; seed {seed}"
    )
