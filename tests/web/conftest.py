"""A running website, empty or furnished, for each test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from appliance.clock import ManualClock
from tests.web import samples
from tests.web.samples import ME, NOW_US, World
from tests.web.site_rig import Site, running


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running(ME, tmp_path / "pictures", clock=ManualClock(NOW_US)) as found:
        yield found


@pytest.fixture
def world(site: Site) -> World:
    return samples.furnish(site)


@pytest.fixture
async def guest(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as client:
        yield client


@pytest.fixture
async def member(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as client:
        site.sign_in(client)
        yield client
