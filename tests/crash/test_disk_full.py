"""No room: readers are served, nothing is skipped, and everything goes on when there is room again.

Catalogue 7 and 11. The limit on a file's size refuses writes as a full disk does, needs no rights, and can be
lifted while the process runs.
"""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import httpx

from appliance.devnet.truth import FOLLOW
from tests.journeys.harness import Client, Process, World, comes_true
from tests.journeys.judge import signed_in, what_is_wrong


def limit(process: Process, size: int) -> None:
    """No file of that process may grow beyond this."""
    assert process._process is not None
    resource.prlimit(process._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def facts(process: Process, http: httpx.AsyncClient) -> dict[str, object]:
    answer = await http.get(f"{process.origin}/health")
    assert answer.status_code == 200
    told: dict[str, object] = answer.json()
    return told


async def storing(process: Process, http: httpx.AsyncClient, wanted: bool) -> str:
    return "" if (await facts(process, http))["storing"] is wanted else "not yet"


async def test_a_full_disk_keeps_serving_skips_nothing_and_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path / "world", accounts=12)
    await world.start(rate=40)
    data = tmp_path / "appliance"
    process = Process(data, world.settings())
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        try:
            await process.start()
            clients = await signed_in(process.origin, http, world.info["members"])
            member = Client(world.info["members"][0]["pds"], http)
            await member.sign_in(world.info["members"][0]["handle"], world.info["members"][0]["password"])

            async def begun() -> str:
                return "" if all([await client.timeline() for client in clients]) else "nothing to read yet"

            await comes_true(begun, within_s=90)

            # Full. The log of the process is a file as well and must go on.
            limit(process, max(process.log.stat().st_size + 400_000, 1_000_000))
            filler = (data / "appliance.db-wal").stat().st_size
            if filler < 1_000_000:
                limit(process, max(filler, process.log.stat().st_size + 60_000))
            await comes_true(lambda: storing(process, http, False), within_s=60)

            # Readers are served, writers are told clearly, a sign-in too.
            for client in clients:
                assert await client.timeline()
            refused = await http.post(
                f"{process.origin}/xrpc/com.atproto.server.createSession",
                json={
                    "identifier": world.info["members"][0]["handle"],
                    "password": world.info["members"][0]["password"],
                },
            )
            assert (refused.status_code, refused.json()["error"]) == (503, "StorageFull")
            assert "retry-after" in refused.headers
            ready = await http.get(f"{process.origin}/ready")
            assert ready.status_code == 200

            # Meanwhile the world goes on: more than one batch, and a change of what has to be read.
            follows = await member.call(
                "com.atproto.repo.listRecords", repo=member.did, collection=FOLLOW, limit=100
            )
            rkey = follows["records"][0]["uri"].rsplit("/", 1)[1]
            body = {"repo": member.did, "collection": FOLLOW, "rkey": rkey}
            await member.call("com.atproto.repo.deleteRecord", body)
            for _ in range(3):
                await asyncio.sleep(1)
                assert (await facts(process, http))["storing"] is False

            limit(process, resource.RLIM_INFINITY)
            await comes_true(lambda: storing(process, http, True), within_s=60)
            await world.stop()
            await world.start(rate=0)
            took_s = await comes_true(lambda: what_is_wrong(world.info, clients), within_s=120)
            print(f"exact {took_s:.1f} s after there was room")
            await signed_in(process.origin, http, world.info["members"][:1])
            log = process.tail(1_000_000)
            assert "commit_failed" in log
            assert "commit_works_again" in log
            assert "falls_behind" not in log
        except BaseException:
            print(process.tail())
            raise
        finally:
            if process.alive:
                await process.stop()
            await world.stop()


async def test_a_process_that_starts_on_a_full_disk_serves_what_it_has(tmp_path: Path) -> None:
    world = World(tmp_path / "world", accounts=8)
    await world.start(rate=0)
    data = tmp_path / "appliance"
    process = Process(data, world.settings())
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        try:
            await process.start()
            clients = await signed_in(process.origin, http, world.info["members"])
            await comes_true(lambda: what_is_wrong(world.info, clients), within_s=90)
            await process.stop()

            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            # No page fits into the log; its index, of 32 KiB, does.
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
            try:
                process.log = process.log.with_name("again.log")
                await process.start()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert await what_is_wrong(world.info, clients) == ""
        except BaseException:
            print(process.tail())
            raise
        finally:
            if process.alive:
                limit(process, resource.RLIM_INFINITY)
                await process.stop()
            await world.stop()
