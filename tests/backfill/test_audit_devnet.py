"""Audits on a devnet whose streams swallow things: every loss is named, and everything is right again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.backfill.audit import Auditor
from appliance.devnet.network import Network
from appliance.devnet.options import Options
from tests.backfill.test_backfill_devnet import Here

SETTLE_S = 1.5


@pytest.mark.parametrize("upstream", ["v2", pytest.param("v1", marks=pytest.mark.long)])
async def test_every_frame_that_a_stream_swallowed_is_named_and_repaired_33(
    tmp_path: Path, upstream: str
) -> None:
    async with Network(Options(accounts=15, posts=40, rate=0)) as network:
        here = Here(network, tmp_path, upstream)
        await here.open()
        try:
            members = [member["did"] for member in network.info["members"]]
            for did in members:
                await here.join(did)
            for did in members:
                await here.until_right(did)
            faults = network.faults["jetstream_v2" if upstream == "v2" else "jetstream_v1"]
            faults.switch({"swallow_every": 6})
            for _ in range(150):
                network.world.act()
                await asyncio.sleep(0.002)
            await asyncio.sleep(SETTLE_S)
            faults.off()
            assert faults.fired["swallow"] > 10

            tools = here.backfill.tools
            tools.lag_s, tools.margin_us = here.pipeline.lag_s, 500_000
            auditor = Auditor(tools, wake=here.backfill.wake)
            reports = [one async for one in auditor.audit(None, repair=True)]

            assert [one for one in reports if one.error] == []
            lost = sum(one.missing + one.extra + one.differing for one in reports)
            assert lost > 0
            found = await here.database.read(
                lambda r: r.all("SELECT outcome, door, count(*) FROM finding GROUP BY 1, 2")
            )
            assert sum(number for _, _, number in found) >= lost
            assert {door.split()[0] for _, door, _ in found} == {f"jetstream-{upstream}"}
            for did in members:
                await here.until_right(did)
            again = [one async for one in auditor.audit(None, repair=False)]
            assert {(one.missing, one.extra, one.differing) for one in again} == {(0, 0, 0)}
        finally:
            await here.close()
