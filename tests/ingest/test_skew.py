"""92. A clock that is wrong: noticed at the start, told to the operator, no harm to the order of posts."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from appliance import telemetry
from appliance.clock import ManualClock
from appliance.ingest.skew import Skew
from tests.ingest.hosts import BEGIN_US, ClockAt, Host, connected, post_event, reading, remember, v2_line
from tests.ingest.world import NOW_US, POST, World, uri

SECOND_US = 1_000_000


def gauge() -> float:
    text = generate_latest(telemetry.REGISTRY).decode()
    return float(
        next(line for line in text.splitlines() if "clock_skew_seconds " in line and line[0] != "#").split()[
            1
        ]
    )


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", -0.5),
        ("Wed, 31 Dec 2025 23:00:00 GMT", 3599.5),
        ("Thu, 01 Jan 2026 12:00:00 +0000", -43_200.5),
        ("no date", None),
        (None, None),
    ],
)
def test_the_answer_that_opens_a_stream_tells_how_far_our_clock_is_off(
    date: str | None, seconds: float | None
) -> None:
    skew = Skew(ManualClock(NOW_US))

    skew.opened(date)

    assert skew.seconds == seconds


async def hear(skew: Skew, clock: ManualClock, *, pace: float, late_us: int, events: int) -> None:
    """Eleven seconds of a stream that moves at that pace of time."""
    begun_us = clock.now_us()
    for number in range(events + 1):
        skew.heard(begun_us - late_us + round(number * 11 / events * SECOND_US * pace))
        await clock.advance(11 / events)


@pytest.mark.parametrize(
    ("pace", "events", "found"),
    [(1.0, 100, True), (20.0, 100, False), (1.0, 5, False)],
    ids=["at the tip", "catching up", "a trickle"],
)
async def test_a_busy_stream_at_its_tip_tells_too_and_a_replay_does_not(
    pace: float, events: int, found: bool
) -> None:
    clock = ManualClock(NOW_US)
    skew = Skew(clock)

    await hear(skew, clock, pace=pace, late_us=90 * SECOND_US, events=events)

    assert (skew.seconds is not None) is found
    if found:
        assert skew.seconds == pytest.approx(90, abs=0.2)
        assert gauge() == pytest.approx(90, abs=0.2)


@pytest.mark.parametrize("off_s", [-86_400, 0, 86_400])
async def test_a_start_with_a_wrong_clock_says_so_at_the_first_connection(
    tmp_path: Path, off_s: int, caplog: pytest.LogCaptureFixture
) -> None:
    import time

    here_us = time.time_ns() // 1000 + off_s * SECOND_US
    async with Host("v2").running() as host, reading(tmp_path, host, clock=ClockAt(here_us)) as at:
        await connected(host)
        await at.until("SELECT count(*) FROM upstream", 1)
        found = at.pipeline.facts()["clock_skew_s"]
        assert found == pytest.approx(off_s, abs=20)
        assert gauge() == found
    assert ("clock_differs" in caplog.text) is (off_s != 0)


@pytest.mark.parametrize("off_s", [-86_400, 86_400])
async def test_live_posts_stand_where_the_stream_says_whatever_our_clock_says(
    tmp_path: Path, off_s: int
) -> None:
    event = post_event(1, 1, BEGIN_US)
    event["commit"]["record"]["createdAt"] = "2036-01-01T00:00:00Z"
    lines = [v2_line(1000, post_event(2, 2, BEGIN_US - SECOND_US)), v2_line(1001, event)]
    async with Host("v2", lines).running() as host:
        await remember(tmp_path, host, 1000, BEGIN_US - SECOND_US)
        async with reading(tmp_path, host, clock=ClockAt(BEGIN_US + off_s * SECOND_US)) as at:
            await at.until("SELECT count(*) FROM record WHERE state = 1", 1)
            assert await at.value("SELECT sort_ms FROM record") == BEGIN_US // 1000
            assert await at.value("SELECT count(*) FROM dead_letter") == 0


def test_with_a_clock_that_is_a_day_behind_revs_of_today_are_no_future() -> None:
    world = World()
    world.live("alice")
    world.now_us -= 3 * 86_400 * SECOND_US

    post = world.post("alice", "1", at_us=NOW_US)

    assert world.state(post) == 1
    assert world.sort_ms(uri("alice", POST, "1")) <= NOW_US // 1000
