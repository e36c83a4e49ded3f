"""Power cuts: whatever the disk had not been waited for may be gone, and nothing else.

Catalogue 4 (and 1, 2): after any cut the file opens and is sound, rows and position agree, every promise is
kept, and what is missing is what the stream gives again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.store import actors, checks, repos, upstreams
from appliance.store.database import Database, Transaction
from tests.crash import power, power_child
from tests.journeys.harness import ROOT, Client, Process, World, comes_true
from tests.journeys.judge import signed_in, what_is_wrong

CUTS = 120
BATCHES = 50

compiled = pytest.mark.skipif(power.shim() is None, reason="no C compiler: the cut copies stand in for it")


async def assert_sound_and_complete(path: Path, promised: set[int]) -> int:
    """Open what the cut left; how many batches are in it. Then the stream gives the rest."""
    database = await Database.open(path)
    try:
        connection = checks.connect(path)
        assert checks.look(connection)[1] == checks.SOUND
        connection.close()
        position = await database.read(lambda reader: upstreams.find(reader, power_child.UPSTREAM))
        reached = 0 if position is None or position.seq is None else position.seq
        assert await database.read(power_child.living) == power_child.expected(reached), "rows and position"
        assert await database.read(power_child.listed) == len(power_child.expected(reached))
        assert promised <= await database.read(power_child.told), "somebody was told"
        assert not promised or reached >= max(promised)

        applier = Applier(Rules(power_child.valid))
        for number in range(reached + 1, BATCHES + 1):
            await power_child.apply(database, applier, number)
        assert await database.read(power_child.living) == power_child.expected(BATCHES)
    finally:
        await database.close()
    return reached


@compiled
@pytest.mark.invariant("position-with-rows")
async def test_after_any_power_cut_rows_position_and_promises_agree(tmp_path: Path) -> None:
    library = power.shim()
    assert library is not None
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    folder, trace = tmp_path / "data", tmp_path / "trace"
    folder.mkdir()
    env = {**os.environ, **power.environment(library, folder, trace), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.crash.power_child", str(folder / "a.db"), str(BATCHES)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, cwd=ROOT, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    ops = power.read(trace)
    kinds = {op.what for op in ops}
    assert {"W", "S"} <= kinds, "the trace saw nothing"
    assert sum(op.what == "S" and op.path.name == "a.db" for op in ops) >= 3, "nothing was folded"

    reached = []
    # Some cuts lie between two calls on purpose: right before and right after a promise.
    edges = [n + d for n, op in enumerate(ops) if op.path.name == "promises" for d in (0, 1)]
    first = next(n for n, op in enumerate(ops) if op.path.name == "promises")
    numbers = sorted([*edges, *rng.sample(range(first, len(ops) + 1), CUTS - len(edges))])
    for cut, number in enumerate(numbers):
        disk = power.cut(ops, number, rng)
        place = tmp_path / f"cut{cut}"
        place.mkdir()
        for path, data in disk.items():
            if path.name in ("a.db", "a.db-wal"):
                (place / path.name).write_bytes(data)
        given = [op for op in ops[:number] if op.path.name == "promises" and op.what == "W"]
        last = int(given[-1].data) if given else 0
        promised = set(range(power_child.TOLD_EVERY, last + 1, power_child.TOLD_EVERY))
        try:
            reached.append(await assert_sound_and_complete(place / "a.db", promised))
        except BaseException:
            print(f"seed {seed}, cut {number} of {len(ops)}")
            raise
        shutil.rmtree(place)
    assert len(set(reached)) > 20, "the cuts fell everywhere"
    print(
        f"{len(numbers)} cuts of {len(ops)} calls: all sound; batches found {min(reached)} to {max(reached)}"
    )


@pytest.mark.invariant("position-with-rows")
async def test_after_a_cut_of_the_log_rows_position_and_promises_agree(tmp_path: Path) -> None:
    """The same without a compiler: copies of file and log, the log cut anywhere behind its last promise."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    path = tmp_path / "live" / "a.db"
    path.parent.mkdir()
    log = path.with_name("a.db-wal")
    database = await Database.open(path)
    await database.write(_begin, durable=True)
    applier = Applier(Rules(power_child.valid))
    synced, cuts = log.stat().st_size, 0
    promised: set[int] = set()
    reached = []
    for number in range(1, BATCHES + 1):
        await power_child.apply(database, applier, number)
        if number % power_child.TOLD_EVERY == 0:
            await database.write(
                lambda tx, number=number: tx.run("INSERT INTO meta VALUES (?, '')", (f"told{number}",)),  # type: ignore[misc]
                durable=True,
            )
            promised.add(number)
            synced = log.stat().st_size
        if number % power_child.FOLD_EVERY == 0:
            assert await database.fold()
            synced = 0
        for _ in range(2):
            place = tmp_path / f"cut{cuts}"
            place.mkdir()
            size = log.stat().st_size
            shutil.copy(path, place / "a.db")
            (place / "a.db-wal").write_bytes(log.read_bytes()[: rng.randint(synced, size)])
            try:
                reached.append(await assert_sound_and_complete(place / "a.db", set(promised)))
            except BaseException:
                print(f"seed {seed}, cut {cuts}")
                raise
            shutil.rmtree(place)
            cuts += 1
    await database.close()
    assert cuts >= 100
    assert len(set(reached)) > 20


def _begin(tx: Transaction) -> None:
    repos.want(tx, actors.ensure(tx, power_child.ALICE, power_child.NOW_US), power_child.NOW_US)


# ---------------------------------------------------------------- the whole appliance


def _mutes(path: Path) -> set[tuple[str, str]]:
    connection = checks.connect(path)
    try:
        sql = (
            "SELECT viewer.did, subject.did FROM mute JOIN actor viewer ON viewer.id = mute.viewer"
            " JOIN actor subject ON subject.id = mute.subject"
        )
        return set(connection.execute(sql).fetchall())
    finally:
        connection.close()


def _sign_ins(path: Path) -> int:
    connection = checks.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM session").fetchone()[0])
    finally:
        connection.close()


async def _lives_through_cuts(tmp_path: Path, cuts: int) -> None:
    library = power.shim()
    assert library is not None
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    world = World(tmp_path / "world", accounts=10)
    await world.start(rate=30)
    data, trace = tmp_path / "appliance", tmp_path / "trace"
    process = Process(data, {**world.settings(), **power.environment(library, data, trace)})
    data.mkdir()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        try:
            await process.start()
            clients = await signed_in(process.origin, http, world.info["members"])
            before = _sign_ins(data / "appliance.db")
            assert before == len(clients)
            began = trace.stat().st_size
            promises: list[tuple[int, Client, str]] = []
            for client, subject in itertools.islice(itertools.product(clients, clients), 12):
                if client is not subject:
                    await client.call("app.bsky.graph.muteActor", {"actor": subject.did})
                    # Whatever is traced from here on comes after the answer.
                    promises.append((trace.stat().st_size, client, subject.did))
                await asyncio.sleep(0.3)
            await process.kill()
            await world.stop()
            await world.start(rate=0)
            ops = power.read(trace)
            first = next(n for n, op in enumerate(ops) if op.end > began)
            for cut in range(cuts):
                number = rng.randint(first, len(ops))
                disk = power.cut(ops, number, rng)
                again = tmp_path / f"again{cut}"
                shutil.copytree(data, again, ignore=shutil.ignore_patterns("appliance.db*"))
                for path, image in disk.items():
                    if path.name.startswith("appliance.db") and not path.name.endswith("-shm"):
                        (again / path.name).write_bytes(image)
                # Under the same address: the tokens name it.
                revived = Process(again, {**world.settings(), "PORT": str(process.port)})
                revived.origin = process.origin
                try:
                    assert _sign_ins(again / "appliance.db") == before, "a sign-in that was answered is gone"
                    await revived.start()
                    for client, member in zip(clients, world.info["members"], strict=True):
                        await client.sign_in(member["handle"], member["password"])
                    kept = _mutes(again / "appliance.db")
                    due = {(c.did, whom) for at, c, whom in promises if at <= ops[number - 1].end}
                    assert due <= kept, "a mute that was answered is gone"
                    # The truth is that of the repositories: it knows of no mutes.
                    for client in clients:
                        for whom in (subject for viewer, subject in kept if viewer == client.did):
                            await client.call("app.bsky.graph.unmuteActor", {"actor": whom})
                    took_s = await comes_true(lambda: what_is_wrong(world.info, clients), within_s=90)
                    assert "store_went_back" not in revived.tail(100_000), "a power cut is no restore"
                    print(f"cut {number} of {len(ops)}: exact after {took_s:.1f} s, {len(due)} promises kept")
                except BaseException:
                    print(f"seed {seed}, cut {number}; {revived.tail()}")
                    raise
                finally:
                    if revived.alive:
                        await revived.stop()
                shutil.rmtree(again)
        finally:
            if process.alive:
                await process.kill()
            await world.stop()


@compiled
async def test_a_whole_appliance_is_exact_again_after_power_cuts(tmp_path: Path) -> None:
    await _lives_through_cuts(tmp_path, 3)


@compiled
@pytest.mark.long
async def test_a_whole_appliance_is_exact_again_after_many_power_cuts(tmp_path: Path) -> None:
    await _lives_through_cuts(tmp_path, 25)
