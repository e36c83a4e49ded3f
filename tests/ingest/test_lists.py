"""Lists of accounts on real sockets: what proves coverage, and how one connection takes over from another."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from appliance.clock import SystemClock
from appliance.ingest.modes import Limits
from appliance.store import actors, coverage, repos, upstreams
from appliance.store.database import Database, Transaction
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
UNPROVED = "SELECT count(*) FROM repo WHERE cover_us IS NULL"
numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of minutes and seconds become moments."""
    monkeypatch.setattr("appliance.ingest.line.BACKOFF_MIN_S", 0.01)
    monkeypatch.setattr("appliance.ingest.care.QUIET_S", 0.25)
    monkeypatch.setattr("appliance.ingest.care.LOOK_S", 0.02)
    monkeypatch.setattr("appliance.ingest.care.SEAL_AFTER_S", 0.05)
    monkeypatch.setattr("appliance.ingest.looks.PROBE_S", 0.2)
    monkeypatch.setattr("appliance.ingest.lines.LOOK_S", 0.02)
    monkeypatch.setattr("appliance.ingest.lines.QUIET_S", 0.05)
    monkeypatch.setattr("appliance.ingest.lines.AT_MOST_S", 0.3)
    monkeypatch.setattr("appliance.ingest.lines.RETRY_S", 0.1)


async def tell(host: Host, clock: SystemClock, who: int, at_us: int | None = None) -> str:
    """Somebody posts; the record key."""
    number = next(numbers)
    event = post_event(who, number, clock.now_us() if at_us is None else at_us)
    make = v1_line if host.wire == "v1" else v2_line
    await host.add(make(5000 + number, event))
    return str(event["commit"]["rkey"])


async def follow(at: Reading, clock: SystemClock, *who: int) -> None:
    """These become wanted."""

    def work(tx: Transaction) -> None:
        for one in who:
            repos.want(tx, actors.ensure(tx, did(one), clock.now_us()), clock.now_us())

    await at.database.write(work)


async def has(at: Reading, rkey: str) -> None:
    await at.until(f"SELECT count(*) FROM record WHERE rkey = '{rkey}' AND state = 1", 1)


def asked_for(host: Host) -> list[set[str] | None]:
    """Of each connection the accounts; None for one that asked for everybody."""
    if host.wire == "v2":
        return [set(query["dids"]) if "dids" in query else None for query in host.asked]
    return [set(hello["wantedDids"]) if "wantedDids" in hello else None for hello in host.hellos]


async def cover_us(at: Reading, who: int) -> int | None:
    sql = f"SELECT cover_us FROM repo JOIN actor ON actor.id = actor WHERE did = '{did(who)}'"
    found: int | None = await at.value(sql)
    return found


async def until_proved(at: Reading) -> None:
    await at.until(UNPROVED, 0)


async def until_open(host: Host, count: int) -> None:
    async with asyncio.timeout(20):
        while len(host.open) != count:
            await asyncio.sleep(0.01)


def dids(folder: Path, *hosts: Host, clock: SystemClock, **how: Any) -> Any:
    return reading(folder, *hosts, scope="tracked", clock=clock, coverage="dids", **how)


STEPS = ["before the follow", "after the follow", "after the new connection", "when it is proved"]


@pytest.mark.parametrize("wire", ["v1", "v2"])
@pytest.mark.parametrize("step", STEPS)
async def test_40_whatever_is_posted_after_the_coverage_point_arrives(
    tmp_path: Path, wire: str, step: str
) -> None:
    clock = ClockAt()
    host = Host(wire)
    async with host.running():
        await track(tmp_path, did(1))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            early = await tell(host, clock, 1)
            await has(at, early)
            posts: list[str] = []
            if step == STEPS[0]:
                posts.append(await tell(host, clock, 2))
            await follow(at, clock, 2)
            assert await cover_us(at, 2) is None
            if step == STEPS[1]:
                posts.append(await tell(host, clock, 2))
            async with asyncio.timeout(20):
                while {did(1), did(2)} not in asked_for(host):
                    await asyncio.sleep(0.002)
            if step == STEPS[2]:
                posts.append(await tell(host, clock, 2))
            await until_proved(at)
            posts.append(await tell(host, clock, 2))
            posts.append(await tell(host, clock, 1))
            for rkey in posts:
                await has(at, rkey)
            both = asked_for(host).index({did(1), did(2)})
            cursor = next(
                int(query["cursor"][0])
                for query, asked in zip(_of_lists(host), _lists(host), strict=True)
                if asked == {did(1), did(2)}
            )
            # The start cursor of the connection that asked for it, and that lies behind what was committed.
            assert await cover_us(at, 2) == cursor
            assert cursor <= clock.now_us() - 30_000_000
            assert both > 0
            assert await at.database.read(lambda r: r.all("SELECT * FROM gap")) == []
            await until_open(host, 1)


def _of_lists(host: Host) -> list[dict[str, list[str]]]:
    if host.wire == "v2":
        return [query for query in host.asked if "dids" in query]
    return [query for query, asked in zip(host.asked, asked_for(host), strict=False) if asked is not None]


def _lists(host: Host) -> list[set[str]]:
    return [asked for asked in asked_for(host) if asked is not None]


async def test_41_no_update_is_ever_sent_so_nothing_is_proved_by_one(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(1))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            for who in (2, 3):
                await follow(at, clock, who)
                await until_proved(at)
    assert {did(1), did(2), did(3)} in asked_for(host)
    assert host.messages == []  # also 25: an update in a replay would starve the connection


async def test_40_nothing_is_proved_while_the_new_connection_is_not(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v2")
    async with host.running():
        await track(tmp_path, did(1))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            host.url_max = max(len(str(host.asked[-1])), 1) - 10_000  # no further handshake is answered well
            before = len(host.asked)
            await follow(at, clock, 2)
            await connected(host, before + 3)
            assert await cover_us(at, 2) is None
            # What was in force still is.
            await has(at, await tell(host, clock, 1))
            assert (
                await at.value("SELECT mode FROM coverage WHERE closed_us IS NULL AND live_us > 0")
                == "DIDS-V2"
            )
            host.url_max = 10**6
            await until_proved(at)
            await has(at, await tell(host, clock, 2))


async def test_42_without_accounts_there_is_no_connection_and_never_one_for_everybody(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(1))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            await until_open(host, 1)

            def forget(tx: Transaction) -> None:
                repos.unwant(tx, actors.ensure(tx, did(1)), 1)
                actor = actors.ensure(tx, did(1))
                assert repos.prune(tx, actor, 2, 2)
                assert repos.forget(tx, actor)

            await at.database.write(forget)
            await until_open(host, 0)
            assert at.pipeline.facts()["caught_up"] is True
            assert at.pipeline.lag_s() == 0.0
            await follow(at, clock, 2)
            await until_proved(at)
            await has(at, await tell(host, clock, 2))
    long_ones = [asked for asked in host.hellos if "wantedDids" not in asked]
    # Only probes, which read one event, ask for everybody.
    assert len(long_ones) < len(host.hellos)
    assert _lists(host)[0] == {did(1)}
    assert _lists(host)[-1] == {did(2)}


async def test_43_one_account_too_many_changes_to_everybody_without_a_break(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    limits = Limits(up=3, down=2, calm_s=0.5, v2_up=0)
    async with host.running():
        await track(tmp_path, *map(did, (1, 2, 3)))
        async with dids(tmp_path, host, clock=clock, limits=limits) as at:
            await until_proved(at)
            assert at.pipeline.facts()["mode"] == "DIDS"
            posts = [await tell(host, clock, who) for who in (1, 2, 3)]
            for rkey in posts:
                await has(at, rkey)
            await follow(at, clock, 4)
            for _ in range(200):
                posts.append(await tell(host, clock, 1 + len(posts) % 3))
                await asyncio.sleep(0.01)
                if at.pipeline.lines.mode == "FULL":
                    break
            await at.until("SELECT value FROM meta WHERE name = 'coverage'", "FULL")
            await until_proved(at)
            posts.append(await tell(host, clock, 4))
            for rkey in posts:
                await has(at, rkey)
            names = await at.database.read(lambda r: r.all("SELECT name FROM upstream"))
            assert names == [(f"jetstream-v1 {host.url}",)]
            # And back again, once few have been wanted for long enough.

            def fewer(tx: Transaction) -> None:
                for who in (2, 3, 4):
                    actor = actors.ensure(tx, did(who))
                    repos.unwant(tx, actor, 1)
                    assert repos.prune(tx, actor, 2, 2)

            await at.database.write(fewer)
            await at.database.write(lambda tx: tx.run("DELETE FROM repo WHERE state = 'PRUNING'"))
            await at.until("SELECT value FROM meta WHERE name = 'coverage'", "DIDS")
            await has(at, await tell(host, clock, 1))
            assert await at.value("SELECT count(*) FROM gap") == 0
            assert _lists(host)[-1] == {did(1)}
            assert await cover_us(at, 1) is not None


async def test_43_the_real_numbers(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, *map(did, range(9_000)))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            assert max(len(asked) for asked in _lists(host)) == 9_000
            await follow(at, clock, *range(9_000, 10_001))
            await at.until("SELECT value FROM meta WHERE name = 'coverage'", "FULL")
            await until_proved(at)
            await has(at, await tell(host, clock, 10_000))
            assert max(len(asked) for asked in _lists(host)) == 9_000


async def test_44_an_address_that_a_proxy_refuses_becomes_a_hello(tmp_path: Path) -> None:
    clock = ClockAt()
    newer, older = Host("v2"), Host("v1")
    newer.url_max = 400
    async with newer.running(), older.running():
        await track(tmp_path, *map(did, range(9)))
        async with dids(tmp_path, newer, older, clock=clock) as at:
            async with asyncio.timeout(20):
                while not _lists(older):
                    await asyncio.sleep(0.01)
            await until_proved(at)
            assert await at.value("SELECT value FROM meta WHERE name = 'coverage'") == "DIDS"
            await has(at, await tell(older, clock, 8))
    assert _lists(newer)[0] == set(map(did, range(9)))


async def test_a_short_list_is_asked_of_v2_with_every_rev_and_a_longer_one_of_v1(tmp_path: Path) -> None:
    clock = ClockAt()
    newer, older = Host("v2"), Host("v1")
    limits = Limits(v2_up=2, v2_down=1)
    async with newer.running(), older.running():
        await track(tmp_path, did(1), did(2))
        async with dids(tmp_path, newer, older, clock=clock, limits=limits) as at:
            await until_proved(at)
            asked = next(query for query in newer.asked if "dids" in query)
            assert "collections" not in asked
            assert set(asked["dids"]) == {did(1), did(2)}
            rkey = await tell(newer, clock, 1)
            await older.add(v1_line(0, post_event(9, 9, clock.now_us())))
            await has(at, rkey)
            await follow(at, clock, 3)
            await until_proved(at)
            assert await at.value("SELECT value FROM meta WHERE name = 'coverage'") == "DIDS"
            await has(at, await tell(older, clock, 3))
            await until_open(newer, 0)
            assert await at.value("SELECT count(*) FROM gap") == 0


async def test_45_five_thousand_follows_in_a_minute_are_a_few_connections(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(0))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            for begin in range(1, 5_000, 250):
                await follow(at, clock, *range(begin, begin + 250))
                await asyncio.sleep(0.01)
            await until_proved(at)
            assert await at.value("SELECT count(*) FROM repo") == 5_001
            assert len(_lists(host)) <= 20
            await has(at, await tell(host, clock, 4_999))


async def test_several_lists_and_only_the_one_that_changes_is_opened_anew(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, *map(did, range(5)))
        async with dids(tmp_path, host, clock=clock, per_connection=2, limits=Limits(v2_up=0)) as at:
            await until_proved(at)
            lists = [one for one in _lists(host) if len(one) <= 2]
            assert set().union(*lists) == set(map(did, range(5)))
            for who in range(5):
                await has(at, await tell(host, clock, who))
            before = len(_lists(host))
            await follow(at, clock, 5)
            await until_proved(at)
            await until_open(host, 3)
            changed = _lists(host)[before:]
            assert all(did(5) in one for one in changed)
            for who in range(6):
                await has(at, await tell(host, clock, who))
            assert at.pipeline.facts()["connections"] == 3
        # All go on from the slowest after a restart.
        async with dids(tmp_path, host, clock=clock, per_connection=2, limits=Limits(v2_up=0)) as at:
            for who in range(6):
                await has(at, await tell(host, clock, who))
            assert await at.value("SELECT count(*) FROM gap") == 0


@pytest.mark.invariant("covered-is-carried")
async def test_accounts_wanted_while_it_was_down_are_proved_by_the_next_start_cursor(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(1))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            await has(at, await tell(host, clock, 1))
            covered_us = await cover_us(at, 1)
        missed = await tell(host, clock, 1)
        database = await Database.open(tmp_path / "test.db")

        def work(tx: Transaction) -> None:
            assert coverage.mode(tx) == "DIDS"
            repos.want(tx, actors.ensure(tx, did(2)), 5, cover_us=5)

        await database.write(work)
        lists = await database.read(upstreams.of_lists)
        await database.close()
        later = await tell(host, clock, 2)
        before = len(_lists(host))
        async with dids(tmp_path, host, clock=clock) as at:
            assert await cover_us(at, 2) is None
            await until_proved(at)
            await has(at, missed)
            await has(at, later)
            position_us = lists[0][1].time_us
            assert position_us is not None
            assert await cover_us(at, 2) == position_us - 5_000_000
            assert await cover_us(at, 1) == covered_us
            assert await at.value("SELECT count(*) FROM gap") == 0
        assert _lists(host)[before] == {did(1), did(2)}


@pytest.mark.invariant("covered-is-carried")
async def test_changing_the_mode_at_restarts_loses_nothing_and_doubts_nobody(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1", [v1_line(1, post_event(9, 9, BEGIN_US - 1_000_000))])
    posts: list[str] = []
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, host.lines[0].time_us)
        for round_, mode in enumerate(["full", "dids", "dids", "full", "dids", "full"]):
            async with reading(tmp_path, host, scope="tracked", clock=clock, coverage=mode) as at:
                await until_proved(at)
                await at.until(
                    "SELECT coalesce((SELECT value FROM meta WHERE name = 'coverage'), 'FULL')", mode.upper()
                )
                await follow(at, clock, 10 + round_)
                posts.append(await tell(host, clock, 1))
                await until_proved(at)
                posts.append(await tell(host, clock, 10 + round_))
                for rkey in posts[-2:]:
                    await has(at, rkey)
            # While it is down.
            posts += [await tell(host, clock, 1), await tell(host, clock, 10 + round_)]
        async with reading(tmp_path, host, scope="tracked", clock=clock, coverage="full") as at:
            for rkey in posts:
                await has(at, rkey)
            assert await at.value("SELECT count(*) FROM gap") == 0
            states = "SELECT count(*) FROM repo WHERE state = 'LIVE'"
            assert await at.value(states) == 1


async def test_14_a_position_older_than_a_list_can_tell_is_found_by_the_probe(tmp_path: Path) -> None:
    clock = ClockAt()
    old = [v1_line(n, post_event(3, n, BEGIN_US - 500_000_000 + n * 1_000_000)) for n in range(100)]
    host = Host("v1", old)
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, old[0].time_us)
        host.floor = 50
        async with dids(tmp_path, host, clock=clock) as at:
            await at.until("SELECT count(*) FROM gap", 1)
            await at.until("SELECT state FROM repo", "SUSPECT")
            assert await at.value("SELECT doubt_us FROM repo") == old[0].time_us
            await until_proved(at)
            # Nothing is called covered that lies within the gap.
            covered_us = await cover_us(at, 1)
            assert covered_us is not None
            assert covered_us >= old[50].time_us
            gap = await at.database.read(lambda r: r.one("SELECT from_us, to_us, reason FROM gap"))
            assert gap == (old[0].time_us, old[50].time_us, "the stream begins later than asked")


async def test_14_a_list_that_is_only_quiet_is_no_gap(tmp_path: Path) -> None:
    clock = ClockAt()
    old = [v1_line(n, post_event(3, n, BEGIN_US - 500_000_000 + n * 1_000_000)) for n in range(100)]
    host = Host("v1", old)
    async with host.running():
        await track(tmp_path, did(1))
        await remember(tmp_path, host, None, old[0].time_us)
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            assert await at.value("SELECT count(*) FROM gap") == 0


async def test_49_two_who_follow_the_same_account_wait_for_one_proof(tmp_path: Path) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(1))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            await asyncio.gather(follow(at, clock, 2), follow(at, clock, 2))
            await until_proved(at)
            assert await at.value("SELECT refs FROM repo JOIN actor ON id = actor WHERE refs > 1") == 2
            assert len([one for one in _lists(host) if did(2) in one]) <= 3


async def test_47_wanted_again_while_the_list_still_names_it_it_is_proved_without_a_connection(
    tmp_path: Path,
) -> None:
    clock = ClockAt()
    host = Host("v1")
    async with host.running():
        await track(tmp_path, did(1), did(2))
        async with dids(tmp_path, host, clock=clock) as at:
            await until_proved(at)
            await has(at, await tell(host, clock, 1))

            def leave_and_return(tx: Transaction) -> None:
                actor = actors.ensure(tx, did(2))
                repos.unwant(tx, actor, 1)
                assert repos.prune(tx, actor, 2, 2)
                repos.want(tx, actor, 3)

            await at.database.write(leave_and_return)
            assert await cover_us(at, 2) is None
            lists = len(_lists(host))
            await until_proved(at)
            assert len(_lists(host)) == lists
            repo = await at.database.read(lambda r: repos.find(r, actors.find_id(r, did(2)) or 0))
            assert repo is not None
            assert (repo.state, repo.epoch) == ("QUEUED", 1)
