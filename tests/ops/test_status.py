"""``status``: every fact that is wrong is named in words with a hint, and none is when all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.ops import measures, printed, status
from appliance.ops.machine import Machine, look
from appliance.ops.status import Problem, Snapshot, Status
from appliance.ops.watch import Watch
from appliance.store import standing
from appliance.store.audits import LevelHealth
from appliance.store.database import Database
from appliance.store.standing import Found, Standing, States
from appliance.telemetry import REGISTRY
from appliance.timeline.completeness import Stream

NOW_US = 1_795_244_191_751_000
HOUR_US = 3_600_000_000

WELL = Standing(
    upstreams=[standing.Upstream("jetstream-v2 wss://a.test", "jetstream-v2", 9, NOW_US, 9, NOW_US)],
    connections=[],
    states=[States("LIVE", 40, NOW_US - HOUR_US), States("INACTIVE", 1, NOW_US)],
    waits={},
    doubts=0,
    oldest_doubt_us=None,
    gaps_open=0,
    oldest_gap_us=None,
    gaps_day=1,
    audits={"rev": LevelHealth(40, 2, 40, 0, 0, NOW_US)},
    canary_seen=True,
    canary_us=NOW_US,
    findings=[Found("jetstream-v2 wss://a.test", 0, 3)],
    archive=standing.ArchiveRun("https://a.test", 90, 40, 1234, NOW_US, None, ""),
    dead_letters=0,
    dead_letters_day=0,
    members=3,
    certified_records=4711,
)
LIVE = Stream(None, 0.1)
ROOMY = Machine(10, 10, 80_000_000_000, 10, 10, 1024)


def snapshot(machine: Machine = ROOMY, stream: Stream | None = LIVE, **changed: Any) -> Snapshot:
    return Snapshot(NOW_US, WELL._replace(**changed), machine, stream, {}, 90.0, 0.0)


def wrong(found: Snapshot, dead: list[str] | None = None) -> list[Problem]:
    return status.problems(found, dead or [])


def test_nothing_is_wrong_where_all_is_well() -> None:
    found = snapshot()

    assert wrong(found) == []
    told = status.as_json(found, [])
    assert told["healthy"] is True
    assert printed.status_report(told).startswith("healthy\n")
    assert "archive     https://a.test, 1234 rows, at 40 of 90" in printed.status_report(told)


@pytest.mark.parametrize(
    ("found", "fact", "words"),
    [
        (snapshot(stream=None), "process", "no appliance is running"),
        (
            snapshot(stream=Stream(NOW_US - HOUR_US, None)),
            "stream",
            "no stream is live since 2026-11-21T05:56",
        ),
        (snapshot(stream=Stream(None, 61.0)), "lag", "the stream is behind: 61 s"),
        (snapshot(gaps_open=1, oldest_gap_us=NOW_US), "gaps", "1 gaps of the stream"),
        (snapshot(doubts=2, oldest_doubt_us=NOW_US), "doubts", "2 accounts are in doubt"),
        (
            snapshot(findings=[Found("relay wss://r.test", 3, 3)]),
            "findings",
            "3 differences are open (from relay",
        ),
        (
            snapshot(audits={"rev": LevelHealth(40, 9, 0, 5, 0, None)}),
            "audits",
            "5 audits are overdue (5 rev)",
        ),
        (snapshot(canary_seen=False), "canary", "the stream shows nothing of those who are known to post"),
        (
            snapshot(states=[States("SCANNING", 1, NOW_US - 25 * HOUR_US)]),
            "loading",
            "1 accounts are still loading",
        ),
        (snapshot(dead_letters=2, dead_letters_day=1), "dead-letters", "2 events could not be applied"),
        (snapshot(ROOMY._replace(free=900_000_000)), "disk", "only 900 MB are free"),
        (snapshot(ROOMY._replace(wal=2_000_000_000)), "wal", "has 2000 MB"),
        (snapshot(ROOMY._replace(open_files=900)), "files", "900 of 1024 files"),
    ],
)
def test_each_thing_that_is_wrong_is_said_with_what_to_do(found: Snapshot, fact: str, words: str) -> None:
    """Catalogue 103 among them: audits that do not run are a fault, not silence."""
    (problem,) = wrong(found)

    assert (problem.fact, problem.grave) == (fact, True)
    assert words in problem.words
    assert problem.hint
    told = status.as_json(found, [problem])
    assert told["healthy"] is False
    assert f"! {problem.words}\n    {problem.hint}" in printed.status_report(told)


def test_what_is_no_fault_of_ours_is_told_and_is_no_alarm() -> None:
    """Catalogue 101: a host that asks to wait."""
    found = snapshot(waits={"rate": 2, "host": 1}, dead_letters=1)

    problems = wrong(found)

    assert [(one.fact, one.grave) for one in problems] == [("waiting", False), ("dead-letters", False)]
    assert "3 accounts can't be read just now (2 rate, 1 host)" in problems[0].words
    assert status.as_json(found, problems)["healthy"] is True


def test_a_dead_process_comes_first() -> None:
    assert [one.fact for one in wrong(snapshot(gaps_open=1), ["it is stalled"])] == ["process", "gaps"]


async def test_the_facts_are_those_of_the_rows(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "appliance.db")
    clock = ManualClock(NOW_US)
    facts = {
        "connected": True,
        "storing": True,
        "queued": 0,
        "events": 0,
        "lag_s": 0.0,
        "upstream": "wss://x",
    }
    watch = Watch(database, lambda: facts, Settings(), clock)
    for statement in (
        "INSERT INTO actor (id, did) VALUES (1, 'did:plc:a'), (2, 'did:plc:b'), (3, 'did:plc:c')",
        "INSERT INTO upstream (name, wire, seq, time_us, updated_us) VALUES ('u', 'relay', 5, 77, 78)",
        (
            "INSERT INTO repo (actor, state, reason, since_us, refs, cert_count) VALUES"
            " (1, 'LIVE', '', 5, 1, 10), (2, 'WAIT', 'host: gone', 6, 1, 3), (3, 'SUSPECT', 'gap', 7, 1, 0)"
        ),
        (
            "INSERT INTO gap (upstream, from_us, to_us, reason, noticed_us, closed_us) VALUES"
            f" ('u', 1, 2, 'r', {NOW_US}, NULL), ('u', 1, 2, 'r', {NOW_US}, 9), ('u', 1, 2, 'r', 1, 9)"
        ),
        (
            "INSERT INTO audit (actor, level, due_us, at_us, outcome) VALUES"
            f" (1, 'rev', {NOW_US - 2 * HOUR_US}, 5, 'equal'),"
            f" (3, 'rev', {NOW_US + 5}, {NOW_US - 5}, 'differs'),"
            f" (2, 'rev', 0, 0, '')"
        ),
        (
            "INSERT INTO finding (actor, collection, rkey, kind, level, rev, door, found_us, outcome) VALUES"
            f" (3, 1, 'x', 'missing', 'tail', 'r', 'u', {NOW_US}, 'open'),"
            f" (3, 1, 'y', 'missing', 'tail', 'r', 'u', 5, 'repaired'),"
            f" (3, 1, 'z', 'extra', 'tail', 'r', 'scan', {NOW_US}, 'repaired')"
        ),
        "INSERT INTO archive_run (source, tip_seq, rows, started_us) VALUES ('s', 9, 5, 6)",
        f"INSERT INTO dead_letter (upstream, raw, error, at_us) VALUES ('u', x'00', 'e', {NOW_US})",
    ):
        await database.write(lambda tx, statement=statement: tx.run(statement))  # type: ignore[misc]
    snapshot_ = await Status(database, clock, watch).look()
    found = snapshot_.standing

    assert found.states == [States("LIVE", 1, 5), States("SUSPECT", 1, 7), States("WAIT", 1, 6)]
    assert (found.waits, found.doubts, found.oldest_doubt_us) == ({"host": 1}, 1, 7)
    assert (found.gaps_open, found.oldest_gap_us, found.gaps_day) == (1, NOW_US, 2)
    assert found.audits["rev"] == LevelHealth(1, 1, 0, 1, 0, 5)
    assert found.findings == [Found("scan", 0, 1), Found("u", 1, 1)]
    assert (found.dead_letters, found.certified_records) == (1, 13)
    assert found.archive == standing.ArchiveRun("s", 9, 0, 5, 6, None, "")
    measures.update(snapshot_)
    assert REGISTRY.get_sample_value("appliance_findings_open", {"door": "u"}) == 1
    assert REGISTRY.get_sample_value("appliance_audit_accounts", {"level": "rev"}) == 1
    assert REGISTRY.get_sample_value("appliance_gaps_open") == 1
    assert REGISTRY.get_sample_value("appliance_doubt_age_seconds") == (NOW_US - 7) / 1e6
    assert (REGISTRY.get_sample_value("appliance_database_wal_bytes") or 0) > 0
    await database.write(lambda tx: tx.run("DELETE FROM audit"))
    await clock.advance(10)
    unaudited = (await Status(database, clock, watch).look()).standing.audits["rev"]
    assert (unaudited.overdue, unaudited.run) == (1, 0)
    await database.close()


async def test_the_public_facts_name_nobody_and_nothing_of_the_machine(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "appliance.db")
    clock = ManualClock(NOW_US)
    facts = {
        "connected": True,
        "storing": True,
        "queued": 0,
        "events": 0,
        "lag_s": 0.0,
        "upstream": "wss://x",
    }
    public = await Status(database, clock, Watch(database, lambda: facts, Settings(), clock)).public()

    text = str(public)
    assert set(public) == {
        *("version", "healthy", "at", "uptimeSeconds", "problems", "stream", "accounts", "records"),
        *("doubts", "gaps", "audits", "findings"),
    }
    assert "wss://" not in text
    assert "did:" not in text
    await database.close()


def test_the_machine_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "appliance.db").write_bytes(b"x" * 100)
    (tmp_path / "appliance.db-wal").write_bytes(b"x" * 50)

    found = look(tmp_path / "appliance.db")

    assert (found.database, found.wal) == (100, 50)
    assert found.free > 0
    assert found.resident > 1_000_000
    assert 0 < found.open_files <= found.files_max
