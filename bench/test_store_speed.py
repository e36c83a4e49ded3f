"""What the store costs by itself: a hop to a reader, a commit, a batch of rows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from appliance.store.database import Database, Reader, Transaction

BATCH = 500


class Bench:
    """A loop and a database that outlive one call."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.database = self.run(Database.open(path))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self.database.close())
        self.loop.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "bench.sqlite")
    yield made
    made.close()


def test_a_point_read(bench: Bench, benchmark: BenchmarkFixture) -> None:
    def look(reader: Reader) -> object:
        return reader.value("SELECT value FROM meta WHERE name = ?", ("nothing",))

    assert benchmark(lambda: bench.run(bench.database.read(look))) is None


@pytest.mark.parametrize("durable", [False, True])
def test_one_write_and_its_commit(bench: Bench, benchmark: BenchmarkFixture, durable: bool) -> None:
    def put(tx: Transaction) -> int:
        return tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('mark', 'x')")

    assert benchmark(lambda: bench.run(bench.database.write(put, durable=durable))) == 1


def test_a_batch_of_500_rows_and_its_commit(bench: Bench, benchmark: BenchmarkFixture) -> None:
    rows = iter(range(10**9))

    def put(tx: Transaction) -> None:
        tx.many("INSERT INTO meta (name, value) VALUES (?, 'x')", [(str(next(rows)),) for _ in range(BATCH)])

    benchmark(lambda: bench.run(bench.database.write(put)))
    count = bench.run(bench.database.read(lambda r: r.value("SELECT count(*) FROM meta")))
    assert count % BATCH == 0
    assert count > 0
