"""What v1 loses where a replay ends, and hosts that are blind, behind, or wrong about the time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance import telemetry
from appliance.clock import SystemClock
from appliance.ingest.sampling import Sampler
from appliance.ingest.skews import Skews
from appliance.store import coverage, gaps
from tests.ingest.hosts import (
    BEGIN_US,
    ClockAt,
    Host,
    Reading,
    connected,
    did,
    post_event,
    reading,
    remember,
    track,
    v1_line,
    v2_line,
)

POSTS = "SELECT count(*) FROM record WHERE state = 1"
SEALED = "SELECT count(*) FROM coverage WHERE sealed_us IS NOT NULL"
numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.ingest.line.BACKOFF_MIN_S", 0.01)
    monkeypatch.setattr("appliance.ingest.care.QUIET_S", 0.25)
    monkeypatch.setattr("appliance.ingest.care.LOOK_S", 0.02)
    monkeypatch.setattr("appliance.ingest.care.SEAL_AFTER_S", 0.05)
    monkeypatch.setattr("appliance.ingest.care.SEAL_RETRY_S", 0.05)
    monkeypatch.setattr("appliance.ingest.looks.PROBE_S", 0.2)
    monkeypatch.setattr("appliance.ingest.sampling.QUIET_S", 0.3)


def posts(wire: str, count: int, until_us: int, who: int = 1, ahead_us: int = 0) -> list[Any]:
    """The last so many seconds before then, a post each; ``ahead_us`` is by how much the clock is wrong."""
    made = []
    for n in range(count):
        at_us = until_us - (count - n) * 1_000_000
        event = post_event(who, n, at_us)
        event["time_us"] += ahead_us
        made.append(v1_line(100 + n, event) if wire == "v1" else v2_line(100 + n, event))
    return made


async def tell(host: Host, clock: SystemClock, who: int = 1, ahead_us: int = 0) -> str:
    number = next(numbers)
    event = post_event(who, number, clock.now_us())
    event["time_us"] += ahead_us
    await host.add((v1_line if host.wire == "v1" else v2_line)(5000 + number, event))
    return str(event["commit"]["rkey"])


async def has(at: Reading, rkey: str) -> None:
    await at.until(f"SELECT count(*) FROM record WHERE rkey = '{rkey}' AND state = 1", 1)


def metric(name: str, labels: dict[str, str] | None = None) -> float:
    return telemetry.REGISTRY.get_sample_value(f"appliance_{name}", labels or {}) or 0.0


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


async def test_20_what_is_lost_at_the_end_of_a_replay_is_found_by_a_second_connection(tmp_path: Path) -> None:
    clock = ClockAt()
    lines = posts("v1", 30, BEGIN_US)
    host = Host("v1", lines)
    host.race_us = 1_500_000
    found = metric("ingest_seam_found_total")
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, lines[0].time_us)
        async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
            await at.until("SELECT live_us IS NOT NULL FROM coverage", 1)
            # The seam of the second connection lies elsewhere, because the stream goes on.
            for _ in range(5):
                await tell(host, clock)
            host.race_us = 0
            await at.until(POSTS, 35)
            await at.until(SEALED, 1)
            assert await at.value("SELECT count(*) FROM gap") == 0
            (row,) = await at.database.read(coverage.now)
            assert row.mode == "FULL"
            assert row.from_us == lines[0].time_us - 5_000_000
            assert row.sealed_us is not None
            assert row.live_us is not None
            assert row.sealed_us >= row.live_us
    assert metric("ingest_seam_found_total") == found + 2
    assert len(host.asked) == 2
    assert int(host.asked[1]["cursor"][0]) <= lines[-2].time_us - 10_000_000


async def test_20_a_seam_that_was_not_sealed_is_asked_for_again_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ClockAt()
    lines = posts("v1", 30, BEGIN_US)
    host = Host("v1", lines)
    host.race_us = 1_500_000
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, lines[0].time_us)
        with monkeypatch.context() as patch:
            patch.setattr("appliance.ingest.care.SEAL_AFTER_S", 1000.0)
            async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
                await at.until("SELECT live_us IS NOT NULL FROM coverage", 1)
                await has(at, await tell(host, clock))
                assert await at.value(POSTS) == 29
        host.race_us = 0
        # By now the position lies well behind what was lost.
        for n in range(10):
            await host.add(v1_line(n, post_event(1, 500 + n, BEGIN_US + 20_000_000 + n)))
        await remember(tmp_path, host, None, BEGIN_US + 20_000_000)
        async with reading(tmp_path, host, scope="tracked", clock=ClockAt(BEGIN_US + 30_000_000)) as at:
            await at.until(POSTS, 41)
            assert await at.value("SELECT why FROM coverage ORDER BY id LIMIT 1") == "the process ended"
            await at.until(SEALED, 1)


async def test_20_a_server_of_v2_that_speaks_v1_needs_no_second_connection(tmp_path: Path) -> None:
    clock = ClockAt()
    lines = [v1_line(n, {**post_event(1, n, BEGIN_US - 9_000_000 + n), "cursor": 77 + n}) for n in range(5)]
    host = Host("v1", lines)
    async with host.running():
        await remember(tmp_path, host, None, lines[0].time_us)
        async with reading(tmp_path, host, clock=clock) as at:
            await at.until(SEALED, 1)
            assert len(host.asked) == 1


async def test_24_connections_that_end_right_after_the_replay_all_make_progress(tmp_path: Path) -> None:
    clock = ClockAt()
    lines = posts("v1", 40, BEGIN_US)
    host = Host("v1", lines)
    host.outbox = 3
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, lines[0].time_us)
        async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
            for round_ in range(1, 6):
                await until(lambda n=round_: len(host.open) > 0 and len(host.asked) >= n)
                await at.until(POSTS, 39 + round_)
                await tell(host, clock)
            host.outbox = None
            await at.until(POSTS, 45)
            assert await at.value("SELECT count(*) FROM gap") == 0


def test_17_a_margin_is_twice_what_two_clocks_differ() -> None:
    skews = Skews()
    assert skews.margin_us("a", "b") == 60_000_000
    skews.measured("a", 90_000_000)
    # Nobody knows how wrong the other is.
    assert skews.margin_us("a", "b") == 360_000_000
    skews.measured("b", -90_000_000)
    assert skews.margin_us("a", "b") == 360_000_000
    skews.measured("b", 85_000_000)
    assert skews.margin_us("a", "b") == 60_000_000
    skews.measured("a", 2_000_000)
    assert skews.of("a") == 0


@pytest.mark.parametrize("ahead_s", [90, -90])
async def test_17_a_host_whose_clock_is_wrong_loses_nothing_when_another_takes_over(
    tmp_path: Path, ahead_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.care.PACE_S", 0.3)
    monkeypatch.setattr("appliance.ingest.care.QUIET_S", 3.0)
    monkeypatch.setattr("appliance.ingest.pipeline.QUIET_S", 3.0)
    clock = ClockAt()
    wrong_us, right_us = ahead_s * 1_000_000, -ahead_s * 1_000_000
    first = Host("v1", posts("v1", 300, BEGIN_US, ahead_us=wrong_us))
    second = Host("v1", posts("v1", 300, BEGIN_US, ahead_us=right_us))
    keys: list[str] = []
    async with second.running():
        async with first.running():
            await track(tmp_path, did(1))
            await remember(tmp_path, first, None, first.lines[0].time_us)
            async with reading(tmp_path, first, second, scope="tracked", clock=clock) as at:
                await at.until(POSTS, 299 + 1)
                while not keys or not await at.value("SELECT count(*) FROM meta WHERE name LIKE 'skew %'"):
                    keys.append(await tell(first, clock, ahead_us=wrong_us))
                    second.lines.append(v1_line(1, _moved(first.lines[-1].data, right_us - wrong_us)))
                    await asyncio.sleep(0.02)
                await has(at, keys[-1])
                # The wrong clock is no lag.
                await until(lambda: at.pipeline.lag_s() == 0.0)
            port = first.port
        # The first is gone; meanwhile somebody posts.
        keys += [await tell(second, clock, ahead_us=right_us) for _ in range(3)]
        first.port = port
        async with reading(tmp_path, first, second, scope="tracked", clock=clock) as at:
            for rkey in keys:
                await has(at, rkey)
            assert await at.value("SELECT count(*) FROM gap") == 0
    cursor = int(second.asked[0]["cursor"][0])
    # At least twice by how far the two are apart, less what events are old.
    assert cursor <= first.lines[-1].time_us - 180_000_000 - 100_000_000


def _moved(data: bytes, by_us: int) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(data)
    event["time_us"] += by_us
    return event


@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_15_a_host_that_is_behind_our_position_is_a_gap(tmp_path: Path, wire: str) -> None:
    clock = ClockAt()
    first, second = Host(wire), Host(wire, posts(wire, 50, BEGIN_US - 3600_000_000))
    async with second.running():
        async with first.running():
            port = first.port
        first.port = port
        await track(tmp_path, did(1))
        await remember(tmp_path, first, 7, BEGIN_US - 1_000_000)
        async with reading(tmp_path, first, second, scope="tracked", clock=clock) as at:
            await connected(second)
            # Its clock is an hour late, so a cursor of ours is answered with the live tail.
            for n in range(2):
                await second.add(
                    (v1_line if wire == "v1" else v2_line)(
                        900 + n, post_event(1, 900 + n, BEGIN_US - 3600_000_000 + n)
                    )
                )
            await at.until("SELECT count(*) FROM gap", 1)
            await at.until(POSTS, 2)
            (gap,) = await at.database.read(gaps.open_)
            assert gap.from_us <= BEGIN_US - 1_000_000
            assert gap.to_us >= BEGIN_US
            assert await at.value("SELECT doubt_us FROM repo") == gap.from_us
            assert await at.value("SELECT state FROM repo") == "SUSPECT"
            # The position is the host's own now, not one that it takes for the future again.
            assert (
                await at.value("SELECT time_us FROM upstream ORDER BY updated_us DESC")
                < BEGIN_US - 3590_000_000
            )


async def test_18_a_clock_that_steps_back_two_seconds_loses_nothing(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1", posts("v1", 20, BEGIN_US))
    steps = metric("ingest_clock_steps_total")
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, host.lines[0].time_us)
        async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
            await at.until(POSTS, 20)
            await host.add(v1_line(1, post_event(1, 501, host.lines[-1].time_us - 2_000_000)))
            await at.until(POSTS, 21)
        # It has been restarted, and what it tells next carries times that we have passed.
        host.lines.append(v1_line(2, post_event(1, 502, host.lines[-2].time_us - 1_500_000)))
        async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
            await at.until(POSTS, 22)
            assert await at.value("SELECT count(*) FROM gap") == 0
    assert metric("ingest_clock_steps_total") > steps


async def test_14_a_gap_longer_than_what_is_kept_goes_to_the_tip_first(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1", posts("v1", 50, BEGIN_US - 2 * 3600_000_000))
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, host.lines[0].time_us - 3600_000_000)
        async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
            await connected(host, 2)
            assert BEGIN_US - 60_000_000 <= int(host.asked[1]["cursor"][0]) < BEGIN_US
            told = 0
            while not await at.value(POSTS):
                await tell(host, clock)
                told += 1
                await asyncio.sleep(0.05)
            assert await at.value(POSTS) <= told
            (gap,) = await at.database.read(gaps.open_)
            assert gap.from_us == host.lines[0].time_us - 3600_000_000
            assert gap.to_us >= BEGIN_US
            assert await at.value("SELECT doubt_us FROM repo") == gap.from_us


async def test_23_a_list_whose_canary_falls_silent_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.care.CANARY_S", 1.0)
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(1))
        async with reading(
            tmp_path, host, scope="tracked", clock=clock, coverage="dids", canary_dids=(did(9),)
        ) as at:
            await at.until("SELECT count(*) FROM repo WHERE cover_us IS NULL", 0)
            assert set(host.hellos[0]["wantedDids"]) == {did(1), did(9)}
            before = metric("ingest_canary_silent_total")
            host.blind = {did(9)}
            for _ in range(200):
                await tell(host, clock, 1)
                await tell(host, clock, 9)
                if metric("ingest_canary_silent_total") > before:
                    break
                await asyncio.sleep(0.05)
            assert metric("ingest_canary_silent_total") > before
            await at.until("SELECT count(*) > 0 FROM coverage WHERE why = 'no canary is heard'", 1)
            await has(at, await tell(host, clock, 1))


async def test_100_after_a_suspend_the_stream_is_read_anew_from_the_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jumping(ClockAt):
        jump_us = 0

        def now_us(self) -> int:
            return super().now_us() + self.jump_us

    monkeypatch.setattr("appliance.ingest.pipeline.CLOCK_LOOK_S", 0.05)
    clock = Jumping()
    host = Host("v2", posts("v2", 20, BEGIN_US))
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, host.lines[0].seq, host.lines[0].time_us)
        async with reading(tmp_path, host, scope="tracked", clock=clock) as at:
            await at.until("SELECT seq FROM upstream", host.lines[-1].seq)
            jumps = metric("ingest_clock_jumps_total")
            host.floor = 0
            clock.jump_us = 7200_000_000
            await connected(host, 2)
            assert host.asked[1]["cursor"] == [str(host.lines[-1].seq)]
            assert metric("ingest_clock_jumps_total") == jumps + 1
            await at.until("SELECT count(*) FROM coverage WHERE why = 'our clock jumped'", 1)
            await has(at, await tell(host, clock))
            assert await at.value("SELECT count(*) FROM gap") == 0


@pytest.mark.parametrize("wire", ["v1", "v2"])
async def test_36_a_host_that_is_blind_for_some_is_found_left_and_made_good(
    tmp_path: Path, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ClockAt()
    first, second = Host(wire, posts(wire, 20, BEGIN_US)), Host(wire, posts(wire, 20, BEGIN_US))
    async with first.running(), second.running():
        await track(tmp_path, did(1), did(2))
        await remember(tmp_path, first, first.lines[0].seq, first.lines[0].time_us)
        async with reading(
            tmp_path, first, second, scope="tracked", clock=clock, host_sampling_minutes=0
        ) as at:
            await until(lambda: [line for line in at.pipeline.lines.in_force if line.live])
            line = at.pipeline.lines.in_force[0]
            first.blind = {did(2)}
            sampler = _sampler(at)
            sampling = asyncio.create_task(sampler.sample(line))
            keys = []
            while not sampling.done():
                for who in (1, 2):
                    keys.append(await tell(first, clock, who))
                    second.lines.append(first.lines[-1])
                    await second.add()
                await asyncio.sleep(0.03)
            sample = await sampling
            assert sample is not None
            assert sample.missed
            assert {key[0] for key in sample.missed} == {did(2)}
            await until(lambda: line.host.endswith(second.url))
            for rkey in keys:
                await has(at, rkey)
            states = "SELECT group_concat(state, ' ') FROM (SELECT state FROM repo ORDER BY actor)"
            assert await at.value(states) == "LIVE SUSPECT"
            assert metric("ingest_sample_misses_total", {"upstream": _name(first)}) > 0


async def test_36_two_hosts_that_tell_the_same_are_equal(tmp_path: Path) -> None:
    async with _two_hosts(tmp_path) as (at, first, second, clock):
        line = at.pipeline.lines.in_force[0]
        sampling = asyncio.create_task(_sampler(at).sample(line))
        while not sampling.done():
            await tell(second, clock)
            await first.add(second.lines[-1])
            await asyncio.sleep(0.03)
        sample = await sampling
        assert sample is not None
        assert (sample.missed, sample.other_missed) == (frozenset(), 0)
        assert line.host == _name(first)


async def test_36_what_comes_too_late_for_the_comparison_is_asked_for_before_it_counts(
    tmp_path: Path,
) -> None:
    async with _two_hosts(tmp_path) as (at, first, second, clock):
        line = at.pipeline.lines.in_force[0]
        sampling = asyncio.create_task(_sampler(at).sample(line))
        told = 0
        while not sampling.done():
            await tell(second, clock)
            told += 1
            # In the log of the host, but not told to whoever reads it now.
            first.lines.append(second.lines[-1])
            await asyncio.sleep(0.03)
        sample = await sampling
        assert told > 20
        assert sample is not None
        assert sample.missed == frozenset()
        assert line.host == _name(first)
        assert await at.value("SELECT state FROM repo") == "LIVE"


@contextlib.asynccontextmanager
async def _two_hosts(folder: Path) -> AsyncIterator[tuple[Reading, Host, Host, SystemClock]]:
    clock = ClockAt()
    first, second = Host("v2", posts("v2", 20, BEGIN_US)), Host("v2", posts("v2", 20, BEGIN_US))
    async with first.running(), second.running():
        await track(folder, did(1))
        await remember(folder, first, first.lines[0].seq, first.lines[0].time_us)
        async with reading(
            folder, first, second, scope="tracked", clock=clock, host_sampling_minutes=0
        ) as at:
            await until(lambda: [line for line in at.pipeline.lines.in_force if line.live])
            yield at, first, second, clock


async def test_36_what_audits_found_makes_us_leave_the_host_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.ingest.sampling.AUDITS_EVERY_S", 0.05)
    clock = ClockAt()
    first, second = Host("v2", posts("v2", 50, BEGIN_US)), Host("v2", posts("v2", 50, BEGIN_US))
    async with first.running(), second.running():
        await remember(tmp_path, first, first.lines[40].seq, first.lines[40].time_us)
        async with reading(tmp_path, first, second, clock=clock, host_sampling_minutes=0) as at:
            await at.until("SELECT seq FROM upstream", first.lines[-1].seq)
            asked: list[str] = []

            def misses(_: Any, /, upstream: str, since_us: int) -> list[tuple[int, int]]:
                asked.append(upstream)
                return [(1, first.lines[5].time_us)] if upstream == _name(first) else []

            sampler = _sampler(at, misses=misses)
            task = asyncio.create_task(sampler.run())
            await connected(second)
            assert second.asked[0]["cursor"] == [str(first.lines[5].time_us - 60_000_000)]
            await at.until(POSTS, 50)
            task.cancel()
            assert _name(first) in asked


def _name(host: Host) -> str:
    return f"jetstream-{host.wire} {host.url}"


def _sampler(at: Reading, misses: Any = None) -> Sampler:
    pipeline = at.pipeline
    return Sampler(
        lambda: pipeline.lines.in_force, pipeline.lines._tools, 0.0, misses, for_s=1.0, margin_s=0.4
    )
