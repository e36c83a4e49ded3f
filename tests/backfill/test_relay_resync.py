"""A relay that swallows commits: the next one shows it, and the account is read anew, deletions included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from appliance.devnet.faults import StreamFaults
from appliance.devnet.log import RELAY_SEQ_BASE
from appliance.devnet.network import Network
from appliance.devnet.options import Options
from tests.backfill.test_backfill_devnet import Here

PATIENCE_S = 30.0


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with Network(Options(accounts=8, posts=20, rate=0, members=1, pds=1)) as made:
        yield made


async def states(here: Here) -> dict[str, tuple[str, int]]:
    """(state, since) of every tracked account."""
    rows = await here.database.read(
        lambda r: r.all("SELECT a.did, p.state, p.since_us FROM repo p JOIN actor a ON a.id = p.actor")
    )
    return {did: (state, since_us) for did, state, since_us in rows}


async def all_live(here: Here) -> dict[str, tuple[str, int]]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await states(here)
            if found and {state for state, _ in found.values()} <= {"LIVE", "INACTIVE"}:
                return found
            await asyncio.sleep(0.05)


def stream_faults(network: Network, name: str) -> StreamFaults:
    found = network.faults[name]
    assert isinstance(found, StreamFaults)
    return found


async def swallowed(stream: StreamFaults, times: int) -> None:
    """Wait until the fault has fired that often."""
    async with asyncio.timeout(PATIENCE_S):
        while stream.fired["swallow"] < times:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["relay", "pds"])
async def test_swallowed_commits_are_noticed_by_the_next_and_read_from_the_account_s_server(
    network: Network, tmp_path: Path, kind: str
) -> None:
    """33, 37. A commit that deletes and one that writes are swallowed; nobody else is read again."""
    member = network.info["members"][0]["did"]
    here = Here(network, tmp_path, "relay")
    stream = stream_faults(network, "relay")
    if kind == "pds":
        origin = network.info["pds"][0].replace("http://", "ws://")
        here.settings = msgspec.structs.replace(here.settings, relay_url=origin)
        stream = stream_faults(network, "pds0/stream")
    await here.open()
    try:
        await here.join(member)
        await here.until_right(member)
        whom = next(did for did in await all_live(here) if did != member)
        doomed = network.post(whom, "deleted while the relay slept")
        await here.until_right(member)
        before = await all_live(here)

        stream.switch({"swallow_dids": [whom]})
        network.delete(doomed)
        network.post(whom, "written while the relay slept")
        await swallowed(stream, 2)
        stream.switch({"swallow_dids": []})
        network.post(whom, "told again")

        await here.until_right(member)
        after = await all_live(here)
        changed = {did for did in before if before[did] != after[did]}
        assert changed == {whom}, "exactly that account was read again"
        # The chain goes on from there: what comes next is no break.
        network.post(whom, "and on")
        await here.until_right(member)
        assert (await all_live(here))[whom] == after[whom]
    finally:
        await here.close()


async def test_a_repository_that_jumped_is_read_anew_and_one_that_only_says_so_is_not(
    network: Network, tmp_path: Path
) -> None:
    """36, 37."""
    member = network.info["members"][0]["did"]
    here = Here(network, tmp_path, "relay")
    await here.open()
    try:
        await here.join(member)
        await here.until_right(member)
        whom = next(did for did in await all_live(here) if did != member)
        network.post(whom, "so that the tree is known")
        await here.until_right(member)
        before = await all_live(here)

        network.resync(whom)  # to where it stands
        newest = RELAY_SEQ_BASE + network.state.log.end - 1
        await asyncio.wait_for(here.pipeline.wait_for(seq=newest), PATIENCE_S)
        assert await all_live(here) == before

        stream = stream_faults(network, "relay")
        stream.switch({"swallow_dids": [whom]})
        network.post(whom, "swallowed")
        await swallowed(stream, 1)
        stream.switch({"swallow_dids": []})
        network.resync(whom)

        await here.until_right(member)
        after = await all_live(here)
        assert {did for did in before if before[did] != after[did]} == {whom}
    finally:
        await here.close()
