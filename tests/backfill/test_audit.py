"""Comparing accounts with their own PDSs: what is found, named, repaired and certified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.backfill.audit import Auditor, Report
from appliance.store import repos
from appliance.store.audits import Level
from tests.backfill.rig import Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Network
from tests.backfill.test_backfill import POST, fill

DAY_US = 86_400_000_000


async def report(here: Rig, account: Account, *, repair: bool, level: Level = "listing") -> Report:
    """One account's report, repairs done by the rig's own worker."""
    auditor = Auditor(here.backfill.tools, wake=here.backfill.wake)
    found: list[Report] = []

    async def ask() -> None:
        found.extend([one async for one in auditor.audit([account.did], repair=repair, level=level)])

    await here.while_time_passes(ask())
    (only,) = found
    return only


async def findings(here: Rig) -> list[Any]:
    return await here.all(
        "SELECT c.nsid || '/' || f.rkey, f.kind, f.level, f.door, f.outcome FROM finding f"
        " JOIN collection c ON c.id = f.collection ORDER BY f.id"
    )


async def live(here: Rig, network: Network, posts: int = 3) -> Account:
    """bob, tracked and complete; his last commit lies a day back."""
    network.now_us = START_US - DAY_US
    bob = network.add_account("bob")
    fill(bob, posts)
    await here.track(bob)
    await here.until_state(bob, "LIVE")
    return bob


async def test_a_report_of_an_account_that_is_complete_says_so_and_changes_nothing(
    network: Network, tmp_path: Path
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        before = await here.all("SELECT * FROM repo")

        told = await report(here, bob, repair=False)

        count = len(shown(bob))
        assert (told.here, told.there, told.missing, told.extra, told.differing) == (count, count, 0, 0, 0)
        assert (told.state, told.rev, told.method, told.exact, told.error) == (
            "LIVE",
            bob.rev,
            "listing",
            True,
            "",
        )
        assert await here.all("SELECT * FROM repo") == before
        assert await here.all("SELECT level, outcome, rev FROM audit WHERE level = 'listing'") == [
            ("listing", "equal", bob.rev)
        ]


@pytest.mark.parametrize("level", ["tail", "listing", "signed"])
async def test_a_swallowed_create_update_and_delete_are_named_and_repaired_33(
    network: Network, tmp_path: Path, level: Level
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        gone, edited = sorted(path for path in bob.paths if path.startswith(POST))[:2]
        old_cid = bob.paths[edited]
        added = bob.post("never told").split("/", 3)[3]
        bob.commit([("delete", gone, None)])
        bob.commit([("update", edited, {"text": "edited", "createdAt": "2025-01-01T00:00:00Z"})])

        told = await report(here, bob, repair=False, level=level)
        assert (told.missing, told.extra, told.differing, told.repaired) == (1, 1, 1, 0)
        assert await findings(here) == []
        assert (await here.held(bob))[edited] == old_cid

        told = await report(here, bob, repair=True, level=level)
        assert (told.missing, told.extra, told.differing, told.repaired, told.state) == (1, 1, 1, 3, "LIVE")
        assert await here.held(bob) == shown(bob)
        door = "jetstream-v2 wss://stream.test"
        assert sorted(await findings(here)) == sorted(
            [
                (added, "missing", level, door, "repaired"),
                (gone, "extra", level, door, "repaired"),
                (edited, "differs", level, door, "repaired"),
            ]
        )


async def test_an_account_that_nobody_follows_or_that_is_away_is_told_as_such(
    network: Network, tmp_path: Path
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        eve = network.add_account("eve")
        assert (await report(here, eve, repair=True)).error == "nobody here follows this account"

        bob.status = "deactivated"
        assert "deactivated" in (await report(here, bob, repair=False)).error
        repo = await here.repo(bob)
        assert repo is not None
        assert repo.state == "LIVE"

        await here.database.write(
            lambda tx: repos.deactivate(tx, repo.actor, "deactivated", here.clock.now_us())
        )
        assert (await report(here, bob, repair=False)).error == "inactive: not compared"
