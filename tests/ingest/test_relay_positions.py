"""Where the reading of a relay goes on: after silence, after a long history, on another relay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.ingest import relay
from tests.ingest.hosts import BEGIN_US, ClockAt, Host, Line, connected, reading, remember, track
from tests.ingest.signed import FIRST_US, Numbers, Repo, know

HOUR_US = 3_600_000_000


def later(repo: Repo, us: int) -> None:
    """What the repository tells from here on is told so much later."""
    repo.numbers.number += us // 1_000_000


async def connect_in_silence(folder: Path, host: Host, repo: Repo) -> None:
    """A process that reads a relay without a word, and ends."""
    await know(folder, repo.key.did_key)
    async with reading(folder, host, scope="tracked") as at:
        await at.until("SELECT count(*) FROM upstream", 1)
        assert await at.value("SELECT seq FROM upstream") is None
    await track(folder, repo.did)


@pytest.mark.parametrize("clamped", [False, True], ids=["whole", "clamped before us"])
async def test_after_a_silence_everything_is_asked_for_and_nothing_is_missing(
    tmp_path: Path, clamped: bool
) -> None:
    host, repo = Host("relay"), Repo()
    older = [repo.post("long before us"), repo.post("before us")]
    async with host.running():
        await connect_in_silence(tmp_path, host, repo)
        later(repo, BEGIN_US - FIRST_US + 3 * HOUR_US)
        await host.add(*older, *(repo.post(f"while nobody was connected {n}") for n in range(3)))
        host.floor = 1 if clamped else 0
        async with reading(tmp_path, host, scope="tracked", clock=ClockAt(BEGIN_US + 4 * HOUR_US)) as at:
            await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 20)
            assert host.asked[-1]["cursor"] == ["0"]
            assert await at.value("SELECT count(*) FROM gap") == 0
            assert await at.value("SELECT count(*) FROM record WHERE state = 1") == (4 if clamped else 5)
            assert await at.value("SELECT state FROM repo") == "LIVE"


async def test_after_a_silence_longer_than_hosts_keep_events_there_is_a_gap(tmp_path: Path) -> None:
    host, repo = Host("relay"), Repo()
    async with host.running():
        await connect_in_silence(tmp_path, host, repo)
        later(repo, BEGIN_US - FIRST_US + 30 * HOUR_US)
        await host.add(repo.post("thirty hours later"))
        async with reading(tmp_path, host, scope="tracked", clock=ClockAt(BEGIN_US + 31 * HOUR_US)) as at:
            await at.until("SELECT count(*) FROM gap", 1)
            await at.until("SELECT state FROM repo", "SUSPECT")


async def test_a_host_that_says_that_it_lacks_our_part_is_believed(tmp_path: Path) -> None:
    host, repo = Host("relay"), Repo()
    async with host.running():
        await connect_in_silence(tmp_path, host, repo)
        later(repo, BEGIN_US - FIRST_US + HOUR_US)
        await host.add(repo.post("kept no more"), repo.post("kept"))
        host.floor = 1
        # Its numbers begin with 1: it has kept one event less than it ever had.
        host.lines[0] = Line(2, *host.lines[0][1:])
        async with reading(tmp_path, host, scope="tracked", clock=ClockAt(BEGIN_US + 2 * HOUR_US)) as at:
            await at.until("SELECT count(*) FROM gap", 1)


async def test_a_long_history_is_not_read_again_for_a_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "AGAIN_MAX", 3)
    host, repo = Host("relay"), Repo()
    async with host.running():
        await connect_in_silence(tmp_path, host, repo)
        await host.add(*(repo.post(f"history {n}") for n in range(8)))
        async with reading(tmp_path, host, scope="tracked") as at:
            await at.until("SELECT count(*) FROM gap", 1)
            await connected(host, 3)
            assert "cursor" not in host.asked[2], "at the tip"
            await host.add(repo.post("new"))
            await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 20)


async def test_of_several_relays_the_next_one_takes_over_and_what_lies_between_is_a_gap(
    tmp_path: Path,
) -> None:
    numbers = Numbers()
    repo = Repo(numbers=numbers)
    first, second = Host("relay"), Host("relay")
    async with first.running(), second.running():
        both = f"ws://localhost:{first.port}, ws://localhost:{second.port}"
        await know(tmp_path, repo.key.did_key)
        await track(tmp_path, repo.did)
        await remember(tmp_path, first, 1000, FIRST_US)
        async with reading(tmp_path, first, scope="tracked", relay_url=both) as at:
            await connected(first)
            await first.add(repo.post("by the first"))
            await at.until("SELECT count(*) FROM record WHERE state = 1", 1)
            first.refuses = True
            first.drop_connections()
            await connected(second)
            assert "cursor" not in second.asked[0], "numbers of the first mean nothing to it"
            await at.until("SELECT count(*) FROM gap", 1)
            await at.until("SELECT state FROM repo", "SUSPECT")
            await second.add(repo.post("by the second"))
            await at.until("SELECT count(*) FROM record WHERE state = 1", 2)
