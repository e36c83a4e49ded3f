"""What /health and /ready rest on: quiet is well, and each thing that is not well turns them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from quart import Quart

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.ops.probes import probes
from appliance.ops.watch import Verdict, Watch
from appliance.store.database import Database
from appliance.timeline.completeness import Stream

WELL = {"connected": True, "storing": True, "queued": 0, "events": 10, "lag_s": 0.2}


class Rig:
    """A watch over facts that a test sets, on a clock that it moves."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.told: dict[str, Any] = dict(WELL)
        self.watch = Watch(database, lambda: self.told, Settings(), self.clock)

    async def pass_by(self, seconds: float) -> Verdict:
        """Time goes on, looked at each second; the database answers meanwhile."""
        for _ in range(round(seconds)):
            await self.clock.advance(1)
            self.watch.stream()
            await self.watch.ask()
        return self.watch.verdict()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    database = await Database.open(tmp_path / "appliance.db")
    yield Rig(database)
    await database.close()


async def test_a_quiet_network_stays_good_for_as_long_as_it_likes(rig: Rig) -> None:
    """Nothing comes for an hour; the connection stands."""
    assert await rig.pass_by(3600) == Verdict([], [])
    assert rig.watch.stream() == Stream(None, 0.2)


async def test_a_break_that_is_over_in_seconds_is_no_news(rig: Rig) -> None:
    await rig.pass_by(5)
    since_us = rig.clock.now_us()
    rig.told |= {"connected": False, "lag_s": 7200.0}  # as old as the last event of a quiet network
    await rig.pass_by(8)
    short = rig.watch.stream()
    await rig.pass_by(4)
    down = rig.watch.stream()
    rig.told |= {"connected": True, "lag_s": 0.0}

    assert short.down_since_us is None
    assert short.lag_s == pytest.approx(8.2)
    assert down == Stream(since_us, 7200.0)
    assert rig.watch.stream() == Stream(None, 0.0)


async def test_a_stream_that_is_gone_is_not_live_and_then_not_ready(rig: Rig) -> None:
    """Catalogue 99: kill the task, keep HTTP."""
    await rig.pass_by(5)
    rig.told |= {"connected": False, "lag_s": None}

    early = await rig.pass_by(50)
    late = await rig.pass_by(15)

    assert early == Verdict([], [])
    assert late == Verdict([], ["the stream has not been live for 65 s"])
    rig.told |= WELL
    assert await rig.pass_by(1) == Verdict([], [])


async def test_a_stream_that_falls_behind_is_not_ready_however_connected(rig: Rig) -> None:
    """Catalogue 102: a restart loop never catches up, and the lag tells."""
    await rig.pass_by(5)
    rig.told |= {"lag_s": 3000.0}

    assert (await rig.pass_by(61)).unready == ["the stream has not been live for 61 s"]
    assert rig.watch.stream() == Stream(None, 3000.0)


async def test_events_that_wait_and_do_not_move_are_a_stall(rig: Rig) -> None:
    rig.told |= {"queued": 7}
    await rig.pass_by(29)
    before = rig.watch.verdict()
    stalled = await rig.pass_by(3)
    rig.told |= {"events": 11}
    moving = await rig.pass_by(1)

    assert before == Verdict([], [])
    assert stalled.dead == ["events wait and none was stored for 31 s"]
    assert stalled.unready[0] == stalled.dead[0]
    assert moving.dead == []


async def test_a_database_that_refuses_is_a_stall(rig: Rig) -> None:
    rig.told |= {"storing": False}

    assert (await rig.pass_by(29)).dead == []
    assert (await rig.pass_by(3)).dead == ["the database has refused to store for 32 s"]


async def test_a_database_that_does_not_answer_is_a_stall(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.pass_by(2)

    async def refuse(_: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(rig.watch, "_database", type("Gone", (), {"read": staticmethod(refuse)}))

    assert (await rig.pass_by(34)).dead == []
    assert (await rig.pass_by(3)).dead == ["the database has not answered for 37 s"]


async def test_a_doubt_that_stays_open_for_a_day_is_not_ready(rig: Rig, tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "other.db")
    watch = Watch(database, lambda: WELL, Settings(), rig.clock)
    now_us = rig.clock.now_us()
    await database.write(
        lambda tx: tx.run(
            "INSERT INTO actor (id, did) VALUES (1, 'did:plc:a')",
        )
    )
    await database.write(
        lambda tx: tx.run(
            "INSERT INTO repo (actor, state, since_us, refs) VALUES (1, 'SUSPECT', ?, 1)", (now_us,)
        )
    )
    await rig.clock.advance(23 * 3600)
    watch.stream()
    await watch.ask()
    young = watch.verdict()
    await rig.clock.advance(2 * 3600)
    watch.stream()
    await watch.ask()

    assert young == Verdict([], [])
    assert watch.verdict() == Verdict([], ["a doubt has been open for 25 h"])
    lenient = Watch(database, lambda: WELL, Settings(ready_doubt_max_hours=0), rig.clock)
    await lenient.ask()
    assert lenient.verdict() == Verdict([], [])
    await database.close()


async def test_a_loop_that_stands_still_is_measured(rig: Rig) -> None:
    rig.watch.late(0.0)
    assert rig.watch.longest_stall_s() == 0.0
    rig.watch.late(2.5)
    assert rig.watch.longest_stall_s() == 2.5
    await rig.clock.advance(61)
    rig.watch.late(0.02)
    assert rig.watch.longest_stall_s() == 0.02


class Judge:
    """Says what the test wants."""

    def __init__(self) -> None:
        self.said = Verdict([], [])

    def verdict(self) -> Verdict:
        return self.said

    def facts(self) -> dict[str, Any]:
        return {"upstream": "wss://secret.test", "lag_s": 1.0}


async def test_probes_tell_the_verdict_to_all_and_the_facts_to_those_who_may(tmp_path: Path) -> None:
    judge, registry, asked = Judge(), CollectorRegistry(), []
    Gauge("lag", "Lag.", registry=registry)

    async def refresh() -> None:
        asked.append(1)

    app = Quart(__name__)
    app.register_blueprint(probes(judge, refresh, registry, "pass word"))

    async def get(path: str, address: str, **more: Any) -> Any:
        client = app.test_client()
        return await client.get(path, scope_base={"client": (address, 1)}, **more)

    assert (await (await get("/health", "127.0.0.1")).get_json())["upstream"] == "wss://secret.test"
    assert await (await get("/health", "203.0.113.5")).get_json() == {"alive": True}
    assert await (await get("/ready", "203.0.113.5")).get_json() == {"ready": True}
    judge.said = Verdict([], ["a doubt"])
    unready = await get("/ready", "::1")
    assert (unready.status_code, (await unready.get_json())["wrong"]) == (503, ["a doubt"])
    assert (await get("/health", "203.0.113.5")).status_code == 200
    judge.said = Verdict(["stalled"], ["stalled"])
    dead = await get("/health", "203.0.113.5")
    assert (dead.status_code, await dead.get_json()) == (503, {"alive": False})

    assert (await get("/metrics", "203.0.113.5")).status_code == 401
    assert asked == []
    wrong = await get("/metrics", "203.0.113.5", auth=("admin", "guess"))
    right = await get("/metrics", "203.0.113.5", auth=("admin", "pass word"))
    here = await get("/metrics", "127.0.0.1")
    assert (wrong.status_code, right.status_code, here.status_code) == (401, 200, 200)
    assert b"lag 0.0" in await here.get_data()
    assert asked == [1, 1]
