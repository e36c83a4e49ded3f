"""An account about which a gap casts doubt: compared, and read anew only where something differs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.protocol.events import AccountEvent
from appliance.protocol.tid import tid_of
from appliance.store import repos
from appliance.store.audits import DAY_US
from appliance.store.database import Transaction
from tests.backfill.rig import UPSTREAM, Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Answer, Network, Request, error
from tests.backfill.test_backfill import POST, fill

GAP = f"{repos.STREAM_GAP}: tested"


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig; what its network holds was written long ago."""
    network.now_us = START_US - DAY_US
    async with rig(network, tmp_path) as made:
        yield made


async def live(here: Rig, posts: int = 3) -> Account:
    bob = here.network.add_account("bob")
    fill(bob, posts)
    await here.track(bob)
    await here.until_state(bob, "LIVE")
    bob.host.requests.clear()
    return bob


async def gap(here: Rig, reason: str = GAP, from_us: int | None = START_US) -> None:
    await here.database.write(lambda tx: repos.suspect_all(tx, reason, here.clock.now_us(), from_us=from_us))


async def scans_begun(here: Rig) -> int:
    """Scan ids are never used again."""
    return int(
        (await here.all("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'scan'"))[0][0]
    )


async def test_a_doubt_says_since_when_and_two_doubts_since_the_earlier(here: Rig) -> None:
    bob = await live(here)
    await here.stop()
    await gap(here, from_us=START_US)
    await gap(here, from_us=START_US - 5)
    await gap(here, from_us=START_US + 5)
    repo = await here.repo(bob)
    assert repo is not None
    assert (repo.state, repo.reason, repo.doubt_us) == ("SUSPECT", GAP, START_US - 5)
    await gap(here, from_us=None)
    repo = await here.repo(bob)
    assert repo is not None
    assert repo.doubt_us is None

    here.start()
    repo = await here.until_state(bob, "LIVE")
    assert (repo.reason, repo.doubt, repo.doubt_us) == ("", "", None)


async def test_after_events_that_came_and_a_gap_that_took_nothing_no_scan_is_needed(here: Rig) -> None:
    bob = await live(here, posts=130)
    bob.post("told")
    await here.deliver(bob.events[-1:])
    before = await scans_begun(here)

    await gap(here)
    repo = await here.until_state(bob, "LIVE")

    assert await scans_begun(here) == before
    assert (repo.cert_rev, repo.cert_method) == (bob.rev, "listing")
    assert repo.cert_digest is not None
    # The newest pages first, then all of it.
    pages = [params.get("cursor") for params in bob.host.asked("listRecords") if params["collection"] == POST]
    assert pages[:2] == [None, None]
    assert len(pages) == 3
    assert await here.all("SELECT level, outcome FROM audit ORDER BY 1") == [
        ("listing", "equal"),
        ("tail", "equal"),
    ]


@pytest.mark.invariant("gap-means-job")
async def test_what_a_gap_took_from_the_newest_page_is_named_and_repaired_33(here: Rig) -> None:
    bob = await live(here, posts=130)
    lost = bob.post("in the gap")
    await gap(here)
    repo = await here.until_state(bob, "LIVE")

    assert await here.held(bob) == shown(bob)
    assert await here.all("SELECT rkey, kind, level, door, outcome FROM finding") == [
        (lost.rsplit("/", 1)[1], "missing", "tail", UPSTREAM, "repaired")
    ]
    assert repo.cert_rev == bob.rev


@pytest.mark.invariant("no-more-than-proved")
async def test_a_delete_deep_in_the_past_that_a_gap_took_is_found_before_the_doubt_ends(here: Rig) -> None:
    """The newest page agrees: that lifts no doubt."""
    bob = await live(here, posts=130)
    oldest = min(path for path in bob.paths if path.startswith(POST))
    bob.commit([("delete", oldest, None)])
    await gap(here)
    await here.until_state(bob, "LIVE")

    assert await here.state_of(f"at://{bob.did}/{oldest}") == 2
    assert await here.all("SELECT rkey, kind, level FROM finding") == [
        (oldest.split("/")[1], "extra", "listing")
    ]


@pytest.mark.invariant("no-more-than-proved")
async def test_a_doubt_met_while_an_audit_is_under_way_outlives_it(here: Rig) -> None:
    bob = await live(here)
    looks: list[Request] = []

    async def another(request: Request) -> None:
        looks.append(request)
        if len(looks) == 1:
            await gap(here, "stream gap: the second")

    bob.host.script = another
    await gap(here)
    await here.until_state(bob, "LIVE")

    # The first look's answer may be older than the second gap, so it had to be asked again.
    assert len(looks) == 2


@pytest.mark.parametrize("first", [GAP, "an event could not be applied"])
async def test_a_grave_doubt_is_settled_by_a_scan_alone(here: Rig, first: str) -> None:
    bob = await live(here)
    before = await scans_begun(here)
    await here.stop()
    await gap(here, first)
    await gap(here, "an event could not be applied" if first == GAP else GAP)
    here.start()
    await here.until_state(bob, "LIVE")

    assert await scans_begun(here) == before + 1


async def test_an_account_that_writes_all_the_time_is_out_of_doubt_without_a_digest(here: Rig) -> None:
    bob = await live(here, posts=130)
    before = await scans_begun(here)

    async def write(request: object) -> None:
        bob.post("another one")
        await here.deliver(bob.events[-1:])

    bob.host.script = write
    await gap(here)
    repo = await here.until_state(bob, "LIVE")

    assert await scans_begun(here) == before
    assert repo.cert_digest is None
    assert await here.held(bob) == shown(bob)


async def test_a_gap_during_a_rollback_begins_a_new_epoch_84(here: Rig) -> None:
    bob = await live(here)
    gone = bob.post("taken").split("/", 3)[3]
    await here.deliver(bob.events[-1:])
    del bob.records[gone]
    bob.rev = tid_of(START_US - 300 * DAY_US, 7)
    await gap(here)
    repo = await here.until_state(bob, "LIVE", step_s=10)

    assert repo.epoch == 1
    assert await here.held(bob) == shown(bob)


async def test_a_host_that_is_down_leaves_the_doubt_and_the_content_where_they_are(here: Rig) -> None:
    bob = await live(here)
    bob.host.script = lambda _: Answer(503, b"")
    await gap(here)
    await here.until(lambda: len(bob.host.requests) >= 2, step_s=5)
    repo = await here.repo(bob)
    assert repo is not None
    assert (repo.state, repo.reason, repo.doubt_us) == ("SUSPECT", GAP, START_US)
    assert await here.held(bob) == shown(bob)

    bob.host.script = None
    await here.until_state(bob, "LIVE", step_s=10)


async def test_what_a_repeated_scan_repairs_is_named_with_its_door_38(here: Rig) -> None:
    bob = await live(here)
    lost = bob.post("swallowed")
    await gap(here, "an event could not be applied")
    await here.until_state(bob, "LIVE")

    assert await here.all("SELECT rkey, kind, level, door, outcome FROM finding") == [
        (lost.rsplit("/", 1)[1], "missing", "scan", UPSTREAM, "repaired")
    ]


async def test_a_first_scan_finds_nothing_lost(here: Rig) -> None:
    await live(here, posts=130)
    assert await here.all("SELECT * FROM finding") == []


async def test_what_a_scan_sees_before_the_stream_brings_it_is_late_and_not_lost(
    here: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    bob = await live(here)
    here.network.now_us = here.clock.now_us()
    bob.post("on its way")
    await gap(here, "an event could not be applied")
    await here.until_state(bob, "LIVE", step_s=5)
    assert await here.all("SELECT outcome, note FROM finding") == [("repaired", "in flight")]

    await here.deliver(bob.events[-1:])

    assert await here.all("SELECT outcome, note FROM finding") == [("late", "")]
    assert not any(record.message == "audit_difference" for record in caplog.records)


async def test_what_the_stream_does_not_bring_in_time_is_told_as_lost(
    here: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    bob = await live(here)
    here.network.now_us = here.clock.now_us()
    bob.post("never comes")
    await gap(here, "an event could not be applied")
    await here.until_state(bob, "LIVE", step_s=5)
    assert not any(record.message == "audit_difference" for record in caplog.records)

    async def told() -> bool:
        return any(record.message == "audit_difference" for record in caplog.records)

    await here.start_audits()
    await here.until(told, step_s=5)

    assert await here.all("SELECT outcome, note FROM finding") == [("repaired", "")]


async def test_who_becomes_a_member_has_lost_nothing(here: Rig) -> None:
    """More of the account is read than before: what is new to us was never due."""
    bob = await live(here)
    bob.follow("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
    await here.join(bob)
    await here.until_state(bob, "LIVE")
    await here.until(lambda: _followed(here))
    assert await here.all("SELECT * FROM finding") == []


async def _followed(here: Rig) -> bool:
    return bool(await here.all("SELECT 1 FROM link WHERE kind = 3"))


@pytest.mark.invariant("no-more-than-proved")
async def test_a_rev_renews_no_certificate_that_belongs_to_none(here: Rig) -> None:
    """Without a digest the rows are of no single rev: that the rev is the same again says nothing."""
    bob = await live(here)
    actor = (await here.all("SELECT actor FROM repo"))[0][0]
    for change in ("cert_digest = NULL", f"cert_digest = x'00', seen_rev = '{tid_of(START_US, 1)}'"):
        before = await here.repo(bob)
        assert before is not None

        def renew(tx: Transaction, change: str = change) -> bool:
            tx.run(f"UPDATE repo SET {change}")
            return repos.confirm_rev(tx, actor, 0, "LIVE", bob.rev, here.clock.now_us() + 1)

        assert await here.database.write(renew) is False


async def test_a_gap_asks_the_directory_nothing_and_each_account_one_thing(here: Rig) -> None:
    await live(here)
    before = here.network.plc_requests
    await gap(here)
    await here.until_state(next(iter(here.network.accounts.values())), "LIVE")
    assert here.network.plc_requests == before


async def test_an_account_that_moved_during_a_gap_is_read_at_its_new_home_78_79(here: Rig) -> None:
    """The old host denies it; there, nothing may be concluded from that."""
    bob = await live(here)
    other = await here.network.add_host()
    here.network.move(bob, other)
    bob.post("at the new home")
    await gap(here)
    await here.until(lambda: _holds_all(here, bob), step_s=5)
    repo = await here.until_state(bob, "LIVE", step_s=5)
    assert repo.cert_rev == bob.rev


async def _holds_all(here: Rig, bob: Account) -> bool:
    return await here.held(bob) == shown(bob)


async def test_an_account_created_anew_after_its_deletion_has_lost_nothing_77(here: Rig) -> None:
    bob = await live(here)
    bob.host.script = lambda request: error(400, "RepoNotFound")
    await here.deliver([AccountEvent(bob.did, False, "deleted", START_US, 1)])
    await here.until_state(bob, "GONE", step_s=5)

    bob.host.script = None
    bob.records.clear()
    bob.rev = tid_of(START_US - 399 * DAY_US, 7)
    bob.records.update(here.network.add_account("eve").records)
    here.network.now_us = START_US - 200 * DAY_US
    bob.post("hello again")
    await here.deliver([AccountEvent(bob.did, True, None, START_US, 2)])
    repo = await here.until_state(bob, "LIVE", step_s=5)

    assert repo.epoch == 1
    assert await here.held(bob) == shown(bob)
    assert await here.all("SELECT * FROM finding") == []
