"""Servers that lie: in the end everything is exact, and until then whoever is not is named as incomplete."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.devnet.faults import PdsFaults
from appliance.devnet.options import Dialect
from appliance.devnet.pds_view import block_count
from appliance.devnet.state import Hosted
from appliance.protocol.tid import tid_of
from tests.sim import virtual
from tests.sim.oracle import Oracle
from tests.sim.rig import OPEN, Sim, sim
from tests.sim.village import Village

HOUR_S = 3600.0
LIST = "com.atproto.repo.listRecords"

Check = Callable[[Sim, Village, Oracle], Awaitable[None]]


def faults(made: Sim, number: int) -> PdsFaults:
    return made.network.pds[number].faults


def states(made: Sim) -> dict[str, tuple[str, str]]:
    """DID to state and reason, as the appliance says."""
    with closing(sqlite3.connect(made.appliance.database)) as rows:
        return {
            did: (state, reason)
            for did, state, reason in rows.execute(
                "SELECT a.did, r.state, r.reason FROM repo r JOIN actor a ON a.id = r.actor"
            )
        }


async def exact(made: Sim, oracle: Oracle, *, within_s: float) -> float:
    """Everybody is LIVE, and the last word of the oracle is that nothing is wrong."""

    def live() -> bool:
        report = oracle.look()
        assert report.complaints == [], (made.seed, report.complaints)
        active = {a.did for a in made.network.state.accounts.values() if a.active}
        return all(state == "LIVE" for did, (state, _) in states(made).items() if did in active)

    try:
        took_s = await made.until(live, within_s=within_s, every_s=30)
    except AssertionError as error:
        error.add_note(str({did: told for did, told in states(made).items() if told[0] != "LIVE"}))
        raise
    await asyncio.sleep(60)
    report = await oracle.final()
    assert report.complaints == [], (made.seed, report.complaints)
    assert not made.appliance.failures()
    return took_s


def play(
    folder: Path,
    seed: int,
    check: Check,
    *,
    people: int = 6,
    posts: int = 5,
    pds: int = 3,
    dialects: tuple[Dialect, ...] = OPEN,
    before: Callable[[Sim], Any] | None = None,
    on: list[int] | None = None,
    **settings: Any,
) -> None:
    """A village on servers that lie from the beginning, by ``before``; then whatever ``check`` does."""

    async def main() -> None:
        async with sim(folder, seed, accounts=0, members=0, pds=pds, dialects=dialects, **settings) as made:
            village = Village(made.network, seed)
            village.settle(people, posts, on=on)
            if before is not None:
                before(made)
            await made.sign_in(village.member)
            await check(made, village, Oracle(made))

    _, passed = virtual.run(main, seed)
    print(f"seed {seed}: {passed}")


async def settled(made: Sim, village: Village, oracle: Oracle) -> None:
    """As a beginning: all are certified."""
    people = len(village.people)
    await made.until(lambda: oracle.look().certified >= people, within_s=1800)


def all_is_listed_anew(made: Sim) -> None:
    """The week is over: every full listing is due."""
    with closing(sqlite3.connect(made.appliance.database, timeout=20)) as rows, rows:
        rows.execute("UPDATE audit SET due_us = 0 WHERE level = 'listing'")


def all_documents_are_due(made: Sim) -> None:
    """As after a day, or an identity event for everybody."""
    with closing(sqlite3.connect(made.appliance.database, timeout=20)) as rows, rows:
        rows.execute("UPDATE actor SET resolved_us = NULL")


# ---------------------------------------------------------------- all at once


def test_58_59_64_65_69_servers_that_lie_each_in_their_own_way_end_exact_all_the_same(tmp_path: Path) -> None:
    wanted: dict[int, dict[str, Any]] = {
        3: {"storm": 12, "storm_wait_s": 40.0},
        4: {"storm": 6, "storm_header": "ratelimit-reset"},
        5: {"fail_every": 3},
        6: {"hang_every": 4},
        7: {"busy_lists": 8},
        8: {"leave_at_page": 1, "leave_to": 0},
        9: {"missing_calls": ["com.atproto.sync.getRepo", "com.atproto.sync.getLatestCommit"]},
        10: {"cut_exports": True, "missing_calls": []},
        11: {"fail_every": 2, "fail_status": 500},
    }
    fires = {3: "storm", 4: "storm", 5: "fail", 6: "hang", 7: "busy", 8: "leave", 11: "fail"}

    def before(made: Sim) -> None:
        for number, switches in wanted.items():
            faults(made, number).switch(switches)

    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        took_s = await exact(made, oracle, within_s=6 * HOUR_S)
        for number, name in fires.items():
            assert faults(made, number).fired[name] > 0, (number, name)
        moved = [person for person in village.people if person.entry.left]
        assert moved
        requests = sum(server.requests for server in made.network.pds)
        print(f"12 servers, {len(village.people)} accounts: exact after {took_s:.0f} s, {requests} requests")

    play(tmp_path, 21, check, people=24, pds=12, before=before)


# ---------------------------------------------------------------- exports


def by_export(made: Sim) -> None:
    """No listing is to be had from this server: only the signed whole."""
    faults(made, 1).switch({"missing_calls": [LIST]})


def test_61_an_export_cut_at_any_border_of_blocks_is_never_taken_for_whole(tmp_path: Path) -> None:
    def before(made: Sim) -> None:
        by_export(made)
        faults(made, 1).switch({"cut_each": True})

    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        lies = faults(made, 1)
        blocks = {_blocks(made, person) for person in village.people}

        def every_border() -> bool:
            assert oracle.look().complaints == []
            assert oracle.look().certified <= 1, "nobody on that server can be certified"
            return {lie.detail for lie in lies.ledger} >= {str(keep) for keep in range(min(blocks))}

        await made.until(every_border, within_s=40 * HOUR_S, every_s=60)
        told = states(made)
        # Who lives there is known by the member's own repository, which may not have been read yet either.
        waiting = [told[person.did] for person in village.people if person.did in told]
        assert village.member.did in told
        assert {state for state, _ in waiting} <= {"WAIT", "QUEUED", "SCANNING"}
        assert all(reason for state, reason in waiting if state == "WAIT")
        print(f"{lies.fired['cut-each']} exports cut; {min(blocks)} to {max(blocks)} blocks")
        lies.switch({"cut_each": False})
        # An export that failed a few times is left alone for hours.
        await exact(made, oracle, within_s=12 * HOUR_S)

    play(tmp_path, 22, check, people=10, posts=6, pds=2, on=[1], before=before)


def _blocks(made: Sim, person: Hosted) -> int:
    return block_count(made.network.state.repository(person.did).export())


@pytest.mark.parametrize(
    ("switches", "fired"),
    [
        ({"torn_exports": True}, "torn-export"),
        ({"swap_exports": "?"}, "swap-export"),
        ({"old_exports": True}, "old-export"),
    ],
    ids=["62 written to meanwhile", "63 another account's", "63 an old one"],
)
def test_62_63_an_export_that_is_not_this_repository_now_certifies_nobody(
    tmp_path: Path, switches: dict[str, Any], fired: str
) -> None:
    def before(made: Sim) -> None:
        by_export(made)
        for person in list(made.network.state.accounts.values())[1:]:
            made.network.post(person.did, "so that what was before is old")
        other = next(iter(made.network.state.accounts))
        faults(made, 1).switch({k: other if v == "?" else v for k, v in switches.items()})

    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        lies = faults(made, 1)
        for _ in range(6):
            await asyncio.sleep(600)
            report = oracle.look()
            assert report.complaints == []
            assert report.certified <= 1
        assert lies.fired[fired] > 0
        # The member lives there too: whom they follow is known as far as their own repository could be read.
        assert village.member.did in states(made)
        for did, (state, reason) in states(made).items():
            # The one whose repository stands for all others has its own read, and rightly.
            assert state != "LIVE" or did == lies.swap_exports, did
            assert reason or state != "WAIT"
        lies.switch({"torn_exports": False, "swap_exports": "", "old_exports": False})
        # An export that failed a few times is left alone for hours.
        await exact(made, oracle, within_s=12 * HOUR_S)

    play(tmp_path, 23, check, people=4, pds=2, on=[1], before=before)


# ---------------------------------------------------------------- time


def test_57_70_lists_that_lag_behind_the_rev_are_found_out_and_mended(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        lies = faults(made, 1)
        lies.switch({"lag_lists_s": 120.0})
        for person in village.people:
            if person.pds == 1:
                made.network.streams["jetstream_v2"].losses.switch({"lose_next": 1, "only_did": person.did})
                made.network.post(person.did, "seen by the rev before it is in the list")
                made.network.resync(person.did)
                await asyncio.sleep(1)
        await made.until(lambda: lies.fired["lag"] > 0, within_s=600, every_s=1)
        await asyncio.sleep(900)
        # That a server shows at least the rev that it has just named is what a listing rests on. Where it
        # does not, and no stream tells either, the certificate is wrong until all is listed anew.
        assert oracle.look().complaints != []
        lies.off()
        all_is_listed_anew(made)
        await asyncio.sleep(900)
        with closing(sqlite3.connect(made.appliance.database)) as rows:
            named = rows.execute("SELECT count(*) FROM finding WHERE outcome = 'repaired'").fetchone()[0]
        assert named >= 2
        await exact(made, oracle, within_s=HOUR_S)

    play(tmp_path, 24, check)


def test_71_an_account_that_writes_ten_times_a_second_is_scanned_to_its_end(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        hot = village.people[0]

        async def write() -> None:
            for _ in range(200):
                village.act(hot)
                await asyncio.sleep(0.1)

        await asyncio.gather(write(), made.pass_s(30))
        await exact(made, oracle, within_s=HOUR_S)

    play(tmp_path, 25, check, people=3, posts=250)


# ---------------------------------------------------------------- servers and accounts


def test_84_a_server_restored_from_a_copy_raises_the_epoch_and_ends_exact(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        back = village.people[:3]
        for person in back:
            for number in range(4):
                made.network.post(person.did, f"lost with the disk {number}")
        await asyncio.sleep(120)
        for person in back:
            made.network.roll_back(person.did, 2)
        # One of them goes on writing, so that its rev is above what we knew.
        made.network.post(back[0].did, "after the restore")
        await asyncio.sleep(8 * HOUR_S)
        await exact(made, oracle, within_s=4 * HOUR_S)
        with closing(sqlite3.connect(made.appliance.database)) as rows:
            raised = rows.execute("SELECT count(*) FROM repo WHERE epoch > 0").fetchone()[0]
        assert raised >= 2

    play(tmp_path, 26, check)


def test_79_80_an_account_that_moves_while_its_old_server_goes_on_answering_is_read_at_the_new_one(
    tmp_path: Path,
) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        away = [person for person in village.people if person.pds == 1]
        for person in away:
            made.network.leave_behind(person.did, 2)
            made.network.bring_in(person.did, village.past(3))
            made.network.post(person.did, "at home in the new place")
        await exact(made, oracle, within_s=8 * HOUR_S)

    play(tmp_path, 27, check)


def test_79_records_that_an_import_brought_without_commits_are_found(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        for number, person in enumerate(village.people):
            made.network.bring_in(person.did, village.past(3), sync=number % 2 == 0)
        await asyncio.sleep(8 * HOUR_S)
        await exact(made, oracle, within_s=HOUR_S)

    play(tmp_path, 28, check)


def test_81_a_directory_that_is_down_keeps_nobody_from_being_read_where_they_are_known(
    tmp_path: Path,
) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        plc = made.network.faults["plc"]
        plc.switch({"down": True})
        all_documents_are_due(made)
        await asyncio.sleep(120)
        for person in village.people:
            made.network.post(person.did, "while nobody can look us up")
            made.network.resync(person.did)
        await asyncio.sleep(60)
        await made.until(
            lambda: {state for state, _ in states(made).values()} == {"LIVE"}, within_s=2 * HOUR_S
        )
        assert plc.fired["down"] > 0
        plc.switch({"down": False, "hang": True})
        made.network.create_account("newcomer.test", 1)
        made.network.follow(village.member.did, made.network.account("newcomer.test").did)
        await asyncio.sleep(120)
        plc.off()
        await exact(made, oracle, within_s=2 * HOUR_S)
        assert plc.fired["hang"] > 0

    play(tmp_path, 29, check)


def test_82_a_key_that_changes_between_commit_and_check_is_asked_for_anew(tmp_path: Path) -> None:
    def before(made: Sim) -> None:
        by_export(made)

    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        for number, person in enumerate(village.people):
            made.network.rotate_key(person.did, tell=number % 2 == 0)
            made.network.post(person.did, "under a new key")
        await asyncio.sleep(8 * HOUR_S)
        await exact(made, oracle, within_s=4 * HOUR_S)

    play(tmp_path, 30, check, people=4, pds=2, on=[1], before=before)


def test_74_75_76_77_accounts_that_sleep_wake_silently_are_slandered_or_begin_anew(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        net = made.network
        sleeper, silent, slandered, anew, held, stale = village.people
        net.deactivate(sleeper.did)
        net.deactivate(silent.did)
        net.take_down(held.did)
        net.claim_status(slandered.did, "deleted")
        net.delete_account(anew.did)
        net.deactivate(stale.did)
        net.activate(stale.did)
        # The old word once more, after it was taken back.
        net.claim_status(stale.did, "deactivated")
        await asyncio.sleep(600)
        shown = {uri.split("/")[2] for uri, _, _ in await oracle.walk(village.member)}
        assert not shown & {sleeper.did, silent.did, held.did, anew.did}
        net.activate(sleeper.did)
        net.lift_status(silent.did)
        net.lift_status(held.did)
        net.begin_anew(anew.did)
        for person in (sleeper, silent, slandered, anew, held, stale):
            net.post(person.did, "here I am")
        await asyncio.sleep(8 * HOUR_S)
        await exact(made, oracle, within_s=24 * HOUR_S)
        shown = {uri.split("/")[2] for uri, _, _ in await oracle.walk(village.member)}
        assert shown >= {person.did for person in village.people}

    play(tmp_path, 31, check)


def test_85_a_rev_of_next_year_hides_nothing_that_comes_after_it(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        person = village.people[0]
        now_us = made.network.state.clock.now_us()
        made.network.post_at_rev(person.did, "from next year", tid_of(now_us + 365 * 86_400_000_000, 1))
        await asyncio.sleep(600)
        report = oracle.look()
        assert report.complaints == []
        state, reason = states(made)[person.did]
        assert state != "LIVE"
        assert reason
        # The operator of that server mends it: back, and on from there.
        made.network.roll_back(person.did, 1)
        made.network.post(person.did, "from today")
        await asyncio.sleep(8 * HOUR_S)
        await exact(made, oracle, within_s=8 * HOUR_S)

    play(tmp_path, 32, check)


def test_34_what_the_stream_does_not_see_at_all_is_seen_by_looking(tmp_path: Path) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        losses = made.network.streams["jetstream_v2"].losses
        losses.switch({"hide_pds": [2]})
        await settled(made, village, oracle)
        dark = [person for person in village.people if person.pds == 2]
        for _ in range(3):
            for person in dark:
                made.network.post(person.did, "said in the dark")
            await asyncio.sleep(8 * HOUR_S)
            assert oracle.look(promised_s=7.5 * HOUR_S).complaints == []
        assert losses.fired["hide-pds"] == 9 * 1 if len(dark) == 3 else losses.fired["hide-pds"] > 0
        await exact(made, oracle, within_s=HOUR_S)

    play(tmp_path, 33, check)


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("skew_s", [-90, 90], ids=["behind", "ahead"])
def test_92_a_network_whose_clock_is_off_by_a_minute_and_a_half_loses_nothing(
    tmp_path: Path, skew_s: int
) -> None:
    async def check(made: Sim, village: Village, oracle: Oracle) -> None:
        await settled(made, village, oracle)
        for _ in range(10):
            village.act()
        await made.appliance.stop()
        for _ in range(10):
            village.act()
        await made.appliance.start()
        await exact(made, oracle, within_s=2 * HOUR_S)

    play(tmp_path, 34, check, skew_us=skew_s * 1_000_000)
