"""Switched off for longer than any stream goes back: afterwards every timeline is exact again."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.sim import virtual
from tests.sim.oracle import Oracle
from tests.sim.rig import Sim, sim
from tests.sim.village import Village

HOUR_S = 3600.0


def requests(made: Sim) -> int:
    """What all servers and the directory were asked so far, but for sign-ins and pages."""
    return sum(server.requests for server in made.network.pds)


def open_gaps(made: Sim) -> tuple[int, int]:
    """(gaps ever, gaps open)."""
    with closing(sqlite3.connect(made.appliance.database)) as rows:
        found: tuple[int, int] = rows.execute(
            "SELECT count(*), count(*) FILTER (WHERE closed_us IS NULL) FROM gap"
        ).fetchone()
        return found


def gaps(made: Sim) -> str:
    """Every gap as the appliance wrote it down."""
    with closing(sqlite3.connect(made.appliance.database)) as rows:
        return "\n".join(
            map(str, rows.execute("SELECT reason, from_us, to_us, noticed_us, closed_us FROM gap"))
        )


async def outage(folder: Path, seed: int, *, people: int, hours: float, deeds: int, wire: str) -> str:
    """Off for so long, while so much happens; then on, and exact without another look of a judge."""
    async with sim(
        folder,
        seed,
        accounts=0,
        members=0,
        retention_s=600,
        retention_events=20,
        wire=wire,
        outbound_rate_per_host=5.0,
        outbound_per_host=2,
    ) as made:
        village = Village(made.network, seed)
        village.settle(people, 3)
        await made.sign_in(village.member)
        oracle = Oracle(made)
        await made.until(
            lambda: oracle.look().certified > people, within_s=20 * HOUR_S, every_s=max(people / 20, 5)
        )
        await village.live(300, 30)
        await made.appliance.stop()
        await village.live(hours * HOUR_S, hours * HOUR_S / deeds)
        stream = made.network.streams[wire]
        assert stream.floor() > deeds // 2, "what was missed is no longer told"
        asked, began_s, real_s = requests(made), made.now_s(), time.perf_counter()
        await made.appliance.start()

        def caught_up() -> bool:
            report = oracle.look()
            assert report.complaints == [], (seed, report.complaints)
            return report.certified > people and open_gaps(made)[1] == 0 < open_gaps(made)[0]

        took_s = await made.until(caught_up, within_s=3 * HOUR_S, every_s=max(people / 20, 5))
        real_s = time.perf_counter() - real_s
        used = requests(made) - asked
        said = (
            f"seed {seed}, {wire}: {people} accounts, off for {hours} h, {deeds} deeds missed: exact"
            f" {took_s:.0f} virtual s after the start ({real_s:.0f} real), {used} requests;"
            f" per 1,000 accounts {used * 1000 / people:.0f} requests, {took_s * 1000 / people:.0f} s"
        )
        print(said)
        await asyncio.sleep(120)
        report = await oracle.final()
        assert report.complaints == [], (seed, report.complaints)
        assert open_gaps(made)[1] == 0, gaps(made)
        assert made.now_s() - began_s < 20 * HOUR_S
        assert not made.appliance.failures()
        return said


@pytest.mark.parametrize("wire", ["jetstream_v2", "jetstream_v1"])
def test_5_14_off_for_longer_than_the_stream_goes_back_every_timeline_is_exact_again(
    tmp_path: Path, wire: str
) -> None:
    _, passed = virtual.run(lambda: outage(tmp_path, 41, people=24, hours=5, deeds=120, wire=wire), 41)
    print(passed)


def test_5_14_with_an_archive_nobody_is_in_doubt_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with sim(
            tmp_path,
            43,
            accounts=0,
            members=0,
            retention_s=600,
            retention_events=20,
            archive_token="let me in",
        ) as made:
            village = Village(made.network, 43)
            village.settle(12, 3)
            await made.sign_in(village.member)
            oracle = Oracle(made)
            await made.until(lambda: oracle.look().certified > 12, within_s=20 * HOUR_S)
            await village.live(300, 30)
            await made.appliance.stop()
            await village.live(5 * HOUR_S, 150)
            made.network.seal_archive()
            asked = requests(made)
            await made.appliance.start()
            await asyncio.sleep(300)
            assert oracle.look().certified > 12
            assert open_gaps(made) == (0, 0), gaps(made)
            report = await oracle.final()
            assert report.complaints == [], report.complaints
            print(f"{requests(made) - asked} requests to servers")

    _, passed = virtual.run(main, 43)
    print(passed)


@pytest.mark.long
def test_a_thousand_accounts_are_exact_again_after_a_day_without_us(tmp_path: Path) -> None:
    _, passed = virtual.run(
        lambda: outage(tmp_path, 42, people=1000, hours=30, deeds=1500, wire="jetstream_v2"), 42
    )
    print(passed)
