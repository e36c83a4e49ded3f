"""Handles that anybody may ask for: asked outside once, for long enough."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.identity import identities
from tests.backfill.rig import Rig, rig
from tests.backfill.scripted_network import Answer, Network, Request, error
from tests.backfill.scripted_network import network as open_network

DIDS = {"ann.test": "did:plc:annaaaaaaaaaaaaaaaaaaaaa", "moved.test": "did:plc:movedaaaaaaaaaaaaaaaaaaa"}


class Resolver:
    """A server that knows handles."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request.params["handle"])
        await self.open.wait()
        did = DIDS.get(request.params["handle"])
        if did is None:
            return error(400, "InvalidRequest")
        return Answer(body=json.dumps({"did": did}).encode())


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with open_network() as made:
        yield made


@pytest.fixture
def resolver(network: Network) -> Resolver:
    made = Resolver()
    network.hosts[0].script = made
    return made


@pytest.fixture
async def here(network: Network, resolver: Resolver, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(network, tmp_path, handle_resolvers=(network.hosts[0].origin,)) as made:
        yield made


async def find(here: Rig, handle: str, within_s: float = 5.0) -> str | None:
    return await here.identities.find_handle(handle, within_s=within_s)


async def test_what_was_found_is_remembered_for_minutes_and_what_was_not_for_seconds(
    here: Rig, resolver: Resolver
) -> None:
    for _ in range(3):
        assert await find(here, "Ann.test") == DIDS["ann.test"]
        assert await find(here, "nobody.test") is None
    assert resolver.asked == ["ann.test", "nobody.test"]
    await here.clock.advance(identities.UNKNOWN_FOR_S + 1)
    await find(here, "ann.test")
    await find(here, "nobody.test")
    assert resolver.asked[2:] == ["nobody.test"]
    await here.clock.advance(identities.HANDLE_FOR_S)
    await find(here, "ann.test")
    assert resolver.asked[3:] == ["ann.test"]


async def test_many_who_ask_at_once_are_one_question(here: Rig, resolver: Resolver) -> None:
    found = await asyncio.gather(*(find(here, "ann.test") for _ in range(50)))
    assert found == [DIDS["ann.test"]] * 50
    assert resolver.asked == ["ann.test"]


async def test_nobody_waits_longer_than_he_said_and_the_answer_is_kept(here: Rig, resolver: Resolver) -> None:
    resolver.open.clear()
    assert await find(here, "moved.test", within_s=0.02) is None
    resolver.open.set()
    assert await find(here, "moved.test") == DIDS["moved.test"]
    assert resolver.asked == ["moved.test"]


async def test_a_flood_of_handles_is_cut_off_and_leaves_the_known_ones_alone(
    here: Rig, resolver: Resolver
) -> None:
    assert await find(here, "ann.test") == DIDS["ann.test"]
    resolver.open.clear()
    flood = [f"name{n}.test" for n in range(identities.HANDLES_ASKED_MAX + 50)]
    waiting = [asyncio.create_task(find(here, handle)) for handle in flood]
    await asyncio.sleep(0)
    assert await find(here, "ann.test", within_s=0.02) == DIDS["ann.test"]
    assert await find(here, "onemore.test", within_s=5.0) is None
    resolver.open.set()
    assert set(await asyncio.gather(*waiting)) == {None}
    assert len(resolver.asked) <= 1 + identities.HANDLES_ASKED_MAX


async def test_what_is_no_handle_is_never_asked_for(here: Rig, resolver: Resolver) -> None:
    for text in ("", "nodots", "did:plc:annaaaaaaaaaaaaaaaaaaaaa", "a" * 300 + ".test", "ann.test/x"):
        assert await find(here, text) is None
    assert resolver.asked == []
