"""What no stream ever tells is found by looking: each planted loss is named and made good in time."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from appliance.devnet.losses import Lost
from tests.sim import virtual
from tests.sim.oracle import Oracle
from tests.sim.rig import Sim, sim
from tests.sim.village import Village

HOUR_S = 3600.0
# An account's rev is compared every 6 hours, a tenth sooner or later; the comparison itself takes a moment.
BY_REV_S = 6 * HOUR_S * 1.2


class Losses:
    """The ledger of what was swallowed beside what the appliance found."""

    def __init__(self, made: Sim, oracle: Oracle) -> None:
        self.lost = [lost for lost in oracle.lost() if oracle.follows(lost.did)]
        self.findings = findings(made)
        self.named: list[Lost] = []
        self.overtaken: list[Lost] = []
        self.unnamed: list[Lost] = []
        swallowed = {(lost.n, lost.path) for lost in self.lost}
        by_path: dict[tuple[str, str], list[tuple[int, str | None]]] = {}
        for n, _, did, path, action, rev in oracle.operations():
            value = None if action == "delete" else (oracle.world(did, rev) or {}).get(path)
            by_path.setdefault((did, path), []).append((n, value))
        for lost in self.lost:
            found_us = self.findings.get((lost.did, lost.path), [])
            operations = by_path[lost.did, lost.path]
            at = [n for n, _ in operations].index(lost.n)
            if any(us >= lost.time_us for us in found_us):
                self.named.append(lost)
            elif at + 1 < len(operations):
                # What followed it on the same key was told, or is judged in its place.
                self.overtaken.append(lost)
            elif _told_before(operations[:at], swallowed, lost.path) == operations[at][1]:
                # With what was swallowed before it, nothing has changed that anybody could miss.
                self.overtaken.append(lost)
            else:
                self.unnamed.append(lost)

    def __str__(self) -> str:
        return (
            f"{len(self.lost)} operations swallowed: {len(self.named)} named by findings,"
            f" {len(self.overtaken)} overtaken before anybody looked, {len(self.unnamed)} unnamed"
        )

    def slowest_s(self) -> float:
        """From a loss to its finding."""
        return max(
            (min(us for us in self.findings[lost.did, lost.path] if us >= lost.time_us) - lost.time_us) / 1e6
            for lost in self.named
        )


def _told_before(
    operations: list[tuple[int, str | None]], swallowed: set[tuple[int, str]], path: str
) -> str | None:
    told = [value for n, value in operations if (n, path) not in swallowed]
    return told[-1] if told else None


def findings(made: Sim) -> dict[tuple[str, str], list[int]]:
    """(DID, path) to when it was found."""
    with closing(sqlite3.connect(made.appliance.database)) as rows:
        found: dict[tuple[str, str], list[int]] = {}
        for did, path, us in rows.execute(
            "SELECT a.did, c.nsid || '/' || f.rkey, f.found_us FROM finding f JOIN actor a ON a.id = f.actor"
            " JOIN collection c ON c.id = f.collection"
        ):
            found.setdefault((did, path), []).append(us)
        return found


async def swallow(
    folder: Path, seed: int, *, people: int, share: float, hidden: float, hours: float, every_s: float
) -> str:
    """Live with losses, then without, and judge at every half hour."""
    async with sim(folder, seed, accounts=0, members=0) as made:
        village = Village(made.network, seed)
        village.settle(people, 6)
        await made.sign_in(village.member)
        oracle = Oracle(made)
        await made.until(lambda: oracle.look().certified >= people, within_s=1800)
        losses = made.network.streams["jetstream_v2"].losses
        losses.switch({"seed": seed, "lose_share": share})
        ended_s = made.now_s() + hours * HOUR_S
        blind = False
        while made.now_s() < ended_s:
            # For the middle third the stream sees nothing of some accounts.
            blind = ended_s - hours * HOUR_S * 2 / 3 <= made.now_s() < ended_s - hours * HOUR_S / 3
            losses.switch({"hide_share": hidden if blind else 0.0})
            await village.live(HOUR_S / 2, every_s)
            report = oracle.look(promised_s=BY_REV_S)
            assert report.complaints == [], (seed, report.complaints)
        losses.off()
        await asyncio.sleep(BY_REV_S)
        report = await oracle.final()
        told = Losses(made, oracle)
        said = f"seed {seed}: {told}; fired {dict(losses.fired)}; slowest {told.slowest_s() / HOUR_S:.1f} h"
        print(said)
        assert report.complaints == [], (seed, report.complaints)
        assert told.unnamed == [], (seed, told.unnamed[:5])
        assert losses.fired["lose"] > 0
        assert losses.fired["hide"] > 0
        assert told.named
        assert told.slowest_s() <= BY_REV_S
        assert not made.appliance.failures()
        return said


def test_33_36_39_events_swallowed_and_accounts_hidden_are_all_named_and_repaired_within_the_period(
    tmp_path: Path,
) -> None:
    _, passed = virtual.run(
        lambda: swallow(tmp_path, 11, people=20, share=0.05, hidden=0.15, hours=6, every_s=90), 11
    )
    print(passed)


@pytest.mark.long
def test_one_event_in_a_hundred_swallowed_for_two_days(tmp_path: Path) -> None:
    _, passed = virtual.run(
        lambda: swallow(tmp_path, 12, people=100, share=0.01, hidden=0.05, hours=48, every_s=30), 12
    )
    print(passed)
