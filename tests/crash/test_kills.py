"""SIGKILL at every named point and at random: in the end every timeline is exactly the truth."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance import crash_points
from tests.crash.killing import RANDOM, Siege

RATE = 20.0
# How many lives on each wire in every run; the long run shares out --kills in the same way.
KILLS = {"jetstream-v2": 40, "jetstream-v1": 25, "relay": 25}
TIMES_MAX = 2
EXTRA_MAX = 3


def elsewhere(wire: str) -> set[str]:
    """Points that are not passed here: a start on a file of an older schema is tests/crash/test_points.py's,
    and only Jetstream v2 has an archive."""
    archive = set() if wire == "jetstream-v2" else {"archive-before-commit", "archive-after-commit"}
    return {"migration-before-commit", *archive}


def schedule(wire: str, kills: int, chance: random.Random) -> list[str]:
    """Every point in turn, in an order that chance picks; each third life ends at random."""
    points = [point for point in crash_points.POINTS if point not in elsewhere(wire)]
    chance.shuffle(points)
    return [RANDOM if i % 3 == 2 else points[(i - i // 3) % len(points)] for i in range(kills)]


async def under_siege(folder: Path, wire: str, kills: int, *, every_point: bool) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    siege = Siege(folder, wire, chance=chance, rate=RATE)
    try:
        await siege.begin()
        for point in schedule(wire, kills, chance):
            await siege.kill(point, chance.randint(1, TIMES_MAX))
        for point in sorted(set(crash_points.POINTS) - elsewhere(wire)):
            for _ in range(EXTRA_MAX if every_point else 0):
                if not siege.process.deaths[point]:
                    await siege.kill(point)
        told = await siege.judge()
        deaths = siege.process.deaths
        print(f"{told}; seed {seed}; {deaths.total()} kills: {dict(sorted(deaths.items()))}")
        never = set(crash_points.POINTS) - elsewhere(wire) - set(deaths)
        assert not every_point or not never, f"never reached: {sorted(never)}"
    except BaseException:
        print(f"seed {seed}")
        if hasattr(siege, "process"):
            print(siege.process.tail())
        raise
    finally:
        await siege.end()


@pytest.mark.defect("D5")
@pytest.mark.invariant("position-with-rows")
@pytest.mark.invariant("deleted-stays-deleted")
@pytest.mark.parametrize("wire", KILLS)
async def test_after_many_kills_nothing_is_lost_doubled_or_resurrected(tmp_path: Path, wire: str) -> None:
    await under_siege(tmp_path, wire, KILLS[wire], every_point=False)


@pytest.mark.long
@pytest.mark.parametrize("wire", KILLS)
async def test_after_five_hundred_kills_at_every_point_nothing_is_lost_doubled_or_resurrected(
    tmp_path: Path, wire: str, pytestconfig: pytest.Config
) -> None:
    kills = int(pytestconfig.getoption("--kills")) * KILLS[wire] // sum(KILLS.values())
    await under_siege(tmp_path, wire, kills, every_point=True)
