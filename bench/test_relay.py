"""Checked commits a CPU second: what the reader of a relay spends on the commits of tracked accounts.

Signature, blocks and the inversion of the tree, beside only reading the frames of accounts that nobody
tracks. The chain itself is compared in the writer and is part of bench/test_apply.py's world.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.relay import Relay
from appliance.outbound.client import Outbound
from appliance.protocol import cid, mst
from appliance.protocol.events import BrokenEvent
from appliance.protocol.tid import tid_of
from appliance.store import actors, identities
from appliance.store.database import Database, Transaction
from tests.ingest.hosts import BEGIN_US, POST, ClockAt, did
from tests.ingest.signed import Numbers, Repo

ACCOUNTS = 20
RECORDS = 2000
COMMITS = 2000
ROUNDS = 3


def repositories() -> tuple[list[Repo], list[bytes]]:
    """Accounts with a history, and the frames of what they write next."""
    numbers = Numbers()
    numbers.next()
    repos = [Repo(who=did(number), numbers=numbers) for number in range(ACCOUNTS)]
    for repo in repos:
        keys = [tid_of(BEGIN_US - (at + 1) * 3_600_000_000, at % 1024) for at in range(RECORDS)]
        repo.root, repo.blocks = mst.build({f"{POST}/{key}": cid.cid_of(key.encode()) for key in keys})
    return repos, [repos[at % ACCOUNTS].post(f"post {at}").data for at in range(COMMITS)]


async def checked(folder: Path, repos: list[Repo], frames: list[bytes], *, tracked: bool) -> float:
    """Seconds of this process for all frames, with those of its threads."""
    database = await Database.open(folder / "bench.db", readers=1)
    clock, settings = ClockAt(BEGIN_US + 3_600_000_000), Settings(data_dir=str(folder))
    outbound = Outbound(settings, clock)

    def know(tx: Transaction) -> None:
        for repo in repos:
            identities.save(
                tx,
                actors.ensure(tx, repo.did),
                handle=None,
                pds="https://pds.test",
                signing_key=repo.key.did_key,
                resolved_us=BEGIN_US - 1_000_000,
            )

    await database.write(know)
    who = Identities(database, outbound, settings, clock)
    relay = Relay(outbound, who, "ws://localhost", lambda _: tracked, clock)
    began_s = time.process_time()
    for frame in frames:
        chunk = await relay.decode(frame)
        assert chunk is not None
        assert not any(isinstance(event, BrokenEvent) for event in chunk.events)
    took_s = time.process_time() - began_s
    await outbound.close()
    await database.close()
    return took_s


def test_commits_of_tracked_accounts_are_checked(tmp_path: Path, record_property: Any) -> None:
    repos, frames = repositories()
    runs = []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        runs.append(
            (
                asyncio.run(checked(folder, repos, frames, tracked=True)),
                asyncio.run(checked(folder, repos, frames, tracked=False)),
            )
        )
    with_s, without_s = min(runs)[0], min(run[1] for run in runs)
    record_property("checked_per_s", round(COMMITS / with_s))
    print(
        f"\n{COMMITS / with_s:,.0f} checked commits a CPU second, {COMMITS / without_s:,.0f} unchecked;"
        f" {ACCOUNTS} accounts of {RECORDS} records"
    )
    assert with_s > without_s
