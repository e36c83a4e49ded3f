"""From wanting an account to holding all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.backfill.rig import rig, shown
from tests.backfill.scripted_network import Network
from tests.backfill.scripted_network import network as open_network

STRANGER = "did:plc:" + "s" * 24


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with open_network() as made:
        yield made


async def test_a_wanted_account_is_read_completely(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    bob.profile()
    for number in range(250):
        bob.post(f"post {number}")
    for _ in range(130):
        bob.repost(f"at://{STRANGER}/app.bsky.feed.post/{network.next_rev()}", "bafyreib")
    async with rig(network, tmp_path) as here:
        await here.track(bob)

        repo = await here.until_state(bob, "LIVE")

        assert await here.held(bob) == shown(bob)
        assert repo.cert_rev == bob.rev
        assert repo.cert_method == "listing"
        assert await here.scan(bob) is None
