"""What the tests of backfill share."""

from collections.abc import AsyncIterator

import pytest

from tests.backfill.scripted_network import Network
from tests.backfill.scripted_network import network as open_network


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """A scripted network with one host."""
    async with open_network() as made:
        yield made
