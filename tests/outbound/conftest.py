"""A server and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.outbound.client import Outbound
from tests.scripted import Names, Server, scripted_server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with scripted_server() as made:
        yield made


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def outbound(names: Names, clock: ManualClock) -> AsyncIterator[Outbound]:
    """Allowed to talk to loopback."""
    made = Outbound(Settings(allow_loopback=True, outbound_rate_per_host=1000.0), clock, names=names)
    yield made
    await made.close()


@pytest.fixture
async def public(names: Names, clock: ManualClock) -> AsyncIterator[Outbound]:
    """As on the real network."""
    made = Outbound(Settings(appview_hostname="ours.example.com"), clock, names=names)
    yield made
    await made.close()
