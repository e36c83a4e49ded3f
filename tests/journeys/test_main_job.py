"""The main job, from outside: sign in, page to the end, and it is everything, in order, once."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.devnet import truth
from tests.journeys.harness import ROOT, Client, check_order, comes_true, told_in
from tests.journeys.judge import signed_in, what_is_wrong

ACCOUNTS = 16
SETTLE_S = 90.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


async def start_demo(folder: Path, rate: float) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    told = folder / "info.json"
    told.unlink(missing_ok=True)
    with (folder / "demo.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "appliance.cli", "demo", "--port", "0", "--data", str(folder / "data")),
            *("--accounts", str(ACCOUNTS), "--rate", str(rate), "--info", str(told)),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    return process, await told_in(told, process, 60)


async def stop_demo(process: asyncio.subprocess.Process) -> int:
    process.send_signal(signal.SIGINT)
    return await asyncio.wait_for(process.wait(), 30)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


async def test_the_demo_shows_every_member_everything_and_keeps_it_over_a_restart(
    folder: Path, http: httpx.AsyncClient
) -> None:
    process, info = await start_demo(folder, rate=0)
    try:
        clients = await signed_in(info["appliance"], http, info["members"])
        # When the demo says that it is ready, it is: nothing is waited for here.
        assert await what_is_wrong(info, clients) == ""
        before = [await client.timeline() for client in clients]
        network = await truth.from_network(info)
        for client, rows in zip(clients, before, strict=True):
            small_pages = await client.timeline(limit=7)
            assert small_pages == rows
            assert len(rows) > 200
            expected = network.timeline(client.did)
            print(f"{client.did}: {len(rows)} rows exact; rightly absent:")
            for dropped in expected.dropped:
                print(f"  {dropped.uri} {dropped.reason}")
    finally:
        assert await stop_demo(process) == 0

    process, info = await start_demo(folder, rate=0)
    try:
        clients = await signed_in(info["appliance"], http, info["members"])
        assert await what_is_wrong(info, clients) == ""
        assert [await client.timeline() for client in clients] == before
    finally:
        assert await stop_demo(process) == 0


async def test_a_new_follow_brings_the_whole_history_at_its_own_times(
    folder: Path, http: httpx.AsyncClient
) -> None:
    process, info = await start_demo(folder, rate=0)
    try:
        member = info["members"][1]
        client = Client(info["appliance"], http)
        await client.sign_in(member["handle"], member["password"])
        network = await truth.from_network(info)
        follows = await followed_by(client)
        stranger = max(
            (
                did
                for did, account in network.accounts.items()
                if did not in follows | {client.did} and account.active
            ),
            key=lambda did: len(network.accounts[did].records.get(truth.POST, {})),
        )
        theirs = {
            f"at://{stranger}/{truth.POST}/{rkey}" for rkey in network.accounts[stranger].records[truth.POST]
        }
        assert len(theirs) > 10
        assert not theirs & {row.uri for row in await client.timeline()}

        began = time.monotonic()
        follow = await client.call(
            "com.atproto.repo.createRecord",
            {
                "repo": client.did,
                "collection": truth.FOLLOW,
                "record": {
                    "$type": truth.FOLLOW,
                    "subject": stranger,
                    "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                },
            },
        )
        first_s = await comes_true(lambda: lacks(client, theirs, at_most=len(theirs) - 1), within_s=SETTLE_S)
        await comes_true(lambda: what_is_wrong(info, [client]), within_s=SETTLE_S)
        whole_s = time.monotonic() - began
        print(f"new follow: first rows after {first_s:.2f} s, all {len(theirs)} posts after {whole_s:.2f} s")
        times = network.accounts[stranger].records[truth.POST]
        for row in await client.timeline():
            if row.uri in theirs:
                created = times[row.uri.rsplit("/", 1)[1]][1]["createdAt"]
                assert row.sort_at[:19] == created[:19]

        await client.call(
            "com.atproto.repo.deleteRecord",
            {"repo": client.did, "collection": truth.FOLLOW, "rkey": follow["uri"].rsplit("/", 1)[1]},
        )
        await comes_true(lambda: what_is_wrong(info, [client]), within_s=SETTLE_S)
        assert not theirs & {row.uri for row in await client.timeline()}
    finally:
        assert await stop_demo(process) == 0


async def test_the_timeline_moves_and_stays_exact_while_people_write(
    folder: Path, http: httpx.AsyncClient
) -> None:
    process, info = await start_demo(folder, rate=20)
    try:
        clients = await signed_in(info["appliance"], http, info["members"])
        first = await clients[0].timeline()
        await comes_true(lambda: grows(clients[0], len(first)), within_s=SETTLE_S)
    finally:
        assert await stop_demo(process) == 0
    process, info = await start_demo(folder, rate=0)
    try:
        clients = await signed_in(info["appliance"], http, info["members"])
        await comes_true(lambda: what_is_wrong(info, clients), within_s=SETTLE_S)
    finally:
        assert await stop_demo(process) == 0


async def followed_by(client: Client) -> set[str]:
    found: set[str] = set()
    cursor = None
    while True:
        params = {"actor": client.did, "limit": 100} | ({"cursor": cursor} if cursor else {})
        page = await client.call("app.bsky.graph.getFollows", **params)
        found |= {follow["did"] for follow in page["follows"]}
        cursor = page.get("cursor")
        if cursor is None:
            return found


async def lacks(client: Client, uris: set[str], *, at_most: int) -> str:
    missing = uris - {row.uri for row in await client.timeline()}
    return "" if len(missing) <= at_most else f"{len(missing)} of {len(uris)} missing"


async def grows(client: Client, rows: int) -> str:
    shown = await client.timeline()
    check_order(shown)
    return "" if len(shown) >= rows + 20 else f"{len(shown)} rows"
