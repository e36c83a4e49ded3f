"""SIGKILL at every named point and at random: in the end every timeline is exactly the truth."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance import crash_points
from tests.crash.killing import RANDOM, Siege

RATE = 20.0
WIRES = ("jetstream-v2", "jetstream-v1", "relay")
TIMES_MAX = 2
EXTRA_MAX = 4
# In every run a wire has so long; each point has its turn on one of the wires, the rest is chance.
KILLING_S = 18.0
PATIENCE = 0.4
# Of the long run's --kills, in tenths.
PARTS = {"jetstream-v2": 4, "jetstream-v1": 3, "relay": 3}


def passed(wire: str) -> set[str]:
    """Points that lives on this wire come to. A start on a file of an older schema is
    tests/crash/test_points.py's; only Jetstream v2 has an archive, and a relay has no lists."""
    points = set(crash_points.POINTS) - {"migration-before-commit"}
    if wire != "jetstream-v2":
        points -= {"archive-before-commit", "archive-after-commit"}
    if wire == "relay":
        points -= {"switch-before-commit", "switch-after-commit"}
    return points


def share(wire: str, turn: int) -> list[str]:
    """The points that have their turn on this wire: over all wires each one once, in turn on each."""
    points = []
    for number, point in enumerate(crash_points.POINTS):
        # The proof of a list takes longest by v1.
        wires = [one for one in WIRES if point in passed(one)]
        if point.startswith("switch"):
            wires = wires[:1]
        if wires and wires[(number + turn) % len(wires)] == wire:
            points.append(point)
    return points


def schedule(wire: str, kills: int, chance: random.Random) -> list[str]:
    """Every point in turn, in an order that chance picks; each third life ends at random."""
    points = sorted(passed(wire))
    chance.shuffle(points)
    return [RANDOM if i % 3 == 2 else points[(i - i // 3) % len(points)] for i in range(kills)]


@contextlib.asynccontextmanager
async def siege_of(folder: Path, wire: str) -> AsyncIterator[Siege]:
    """It goes on until the end, when the timelines are judged and figures printed."""
    seed = random.randrange(2**32)
    began_s = time.monotonic()
    siege = Siege(folder, wire, chance=random.Random(seed), rate=RATE)
    try:
        await siege.begin()
        yield siege
        told = await siege.judge()
        deaths = siege.process.deaths
        print(
            f"{told}; seed {seed}; {time.monotonic() - began_s:.0f} s;"
            f" {deaths.total()} kills: {dict(sorted(deaths.items()))}"
        )
    except BaseException:
        print(f"seed {seed}")
        if hasattr(siege, "process"):
            print(siege.process.tail())
        raise
    finally:
        await siege.end()


def test_over_all_wires_each_point_has_its_turn_whatever_the_turn() -> None:
    for turn in range(6):
        turns = sorted(point for wire in WIRES for point in share(wire, turn))
        assert turns == sorted(set(crash_points.POINTS) - {"migration-before-commit"})


@pytest.mark.defect("D5")
@pytest.mark.invariant("position-with-rows")
@pytest.mark.invariant("deleted-stays-deleted")
@pytest.mark.parametrize("wire", WIRES)
async def test_after_many_kills_nothing_is_lost_doubled_or_resurrected(tmp_path: Path, wire: str) -> None:
    async with siege_of(tmp_path, wire) as siege:
        points = share(wire, int(time.time()) // 86_400)
        siege.chance.shuffle(points)
        end_s = time.monotonic() + KILLING_S
        for life in itertools.count(1):
            await siege.kill(points.pop() if points and life % 3 else RANDOM, patience=PATIENCE)
            if time.monotonic() > end_s:
                break


@pytest.mark.long
@pytest.mark.parametrize("wire", WIRES)
async def test_after_five_hundred_kills_at_every_point_nothing_is_lost_doubled_or_resurrected(
    tmp_path: Path, wire: str, pytestconfig: pytest.Config
) -> None:
    kills = math.ceil(int(pytestconfig.getoption("--kills")) * PARTS[wire] / 10)
    async with siege_of(tmp_path, wire) as siege:
        deaths = siege.process.deaths
        for point in schedule(wire, kills, siege.chance):
            once = point.startswith(("switch", "sealed", "verdict", "archive"))
            await siege.kill(point, 1 if once else siege.chance.randint(1, TIMES_MAX))
        for point in sorted(passed(wire)):
            for _ in range(EXTRA_MAX):
                if not deaths[point]:
                    await siege.kill(point)
        never = passed(wire) - set(deaths)
        assert not never, f"never reached: {sorted(never)}"
