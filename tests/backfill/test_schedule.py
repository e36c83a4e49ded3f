"""Audits that run by themselves: what the streams lose is found, named and repaired within its period."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance.protocol.tid import tid_of
from appliance.store import actors, audits, backlog, findings, repos
from appliance.store.audits import DAY_US, HOUR_US
from appliance.store.database import Transaction
from tests.backfill.rig import UPSTREAM, Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Answer, Network, Request
from tests.backfill.test_backfill import POST, fill

HOUR_S = 3600.0
STEP_S = 60.0


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig beside a stream that keeps up."""
    network.now_us = START_US - DAY_US
    async with rig(network, tmp_path) as made:
        made.backfill.tools.lag_s = lambda: 0.0
        yield made


async def live(here: Rig, name: str = "bob", posts: int = 3) -> Account:
    account = here.network.add_account(name)
    fill(account, posts)
    await here.track(account)
    await here.until_state(account, "LIVE")
    return account


def say_nothing(account: Account, operation: str) -> tuple[str, str]:
    """The account writes and the stream drops it; (path, kind of the finding that has to name it)."""
    paths = sorted(path for path in account.paths if path.startswith(POST))
    if operation == "create":
        return account.post("swallowed").split("/", 3)[3], "missing"
    if operation == "update":
        account.commit([("update", paths[0], {"text": "edited", "createdAt": "2025-01-01T00:00:00Z"})])
        return paths[0], "differs"
    account.commit([("delete", paths[0], None)])
    return paths[0], "extra"


async def named(here: Rig, account: Account) -> list[tuple[str, str]]:
    """(path, kind) of each finding about the account."""
    return await here.all(
        "SELECT c.nsid || '/' || f.rkey, f.kind FROM finding f JOIN collection c ON c.id = f.collection"
        " JOIN actor a ON a.id = f.actor WHERE a.did = ?",
        account.did,
    )


async def until_named(here: Rig, account: Account, *losses: tuple[str, str], step_s: float = STEP_S) -> None:
    """Wait until exactly these losses are named and repaired."""

    async def done() -> bool:
        repo = await here.repo(account)
        if repo is None or repo.state != "LIVE":
            return False
        return sorted(await named(here, account)) == sorted(losses) and await here.held(account) == shown(
            account
        )

    await here.until(done, step_s=step_s)


async def verdicts(here: Rig, level: str) -> list[Any]:
    return await here.all("SELECT outcome, rev FROM audit WHERE level = ? ORDER BY actor", level)


# ---------------------------------------------------------------- what each level finds


async def test_an_account_that_wrote_nothing_is_certified_anew_by_one_request_in_six_hours(here: Rig) -> None:
    bob = await live(here)
    before = await here.repo(bob)
    assert before is not None
    since_us = before.cert_us or 0
    assert since_us
    bob.host.requests.clear()

    await here.start_audits()
    await here.pass_s(6.1 * HOUR_S, step_s=300)

    async def renewed() -> bool:
        repo = await here.repo(bob)
        return repo is not None and repo.cert_us is not None and repo.cert_us > since_us

    await here.until(renewed, step_s=STEP_S)
    after = await here.repo(bob)
    assert after is not None
    assert (after.cert_rev, after.cert_digest) == (before.cert_rev, before.cert_digest)
    levels = {request.nsid for request in bob.host.requests}
    assert levels == {"com.atproto.sync.getRepoStatus"}
    assert len(bob.host.requests) <= 2


@pytest.mark.parametrize("operation", ["create", "update", "delete"])
async def test_a_swallowed_frame_is_found_by_the_rev_and_the_newest_page_within_six_hours_33_39(
    here: Rig, operation: str
) -> None:
    """The last thing before silence: no later event would ever have shown that it is missing."""
    bob = await live(here)
    await here.start_audits()
    loss = say_nothing(bob, operation)

    began_us = here.clock.now_us()
    await until_named(here, bob, loss)

    assert here.clock.now_us() - began_us < 7 * HOUR_US
    assert await here.all("SELECT level, door, outcome FROM finding") == [("tail", UPSTREAM, "repaired")]
    (row,) = await here.all("SELECT from_us, to_us, found_us, settled_us FROM finding")
    assert row[0] < row[2] <= row[3]


@pytest.mark.parametrize("operation", ["update", "delete"])
async def test_a_loss_deep_in_the_past_is_found_by_the_weekly_listing_33(here: Rig, operation: str) -> None:
    bob = await live(here, posts=230)
    await here.start_audits()
    loss = say_nothing(bob, operation)

    await until_named(here, bob, loss, step_s=1800)

    assert await here.all("SELECT level FROM finding") == [("listing",)]
    assert here.clock.now_us() - START_US < 8 * DAY_US


@pytest.mark.invariant("no-more-than-proved")
async def test_that_the_newest_commit_was_seen_proves_nothing_about_the_one_before(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    loss = say_nothing(bob, "create")
    bob.post("told")
    await here.deliver(bob.events[-1:])
    repo = await here.repo(bob)
    assert repo is not None
    assert repo.seen_rev == bob.rev

    began_us = here.clock.now_us()
    await until_named(here, bob, loss)
    assert here.clock.now_us() - began_us < 7 * HOUR_US


async def test_an_import_without_commits_is_found_37_79(here: Rig) -> None:
    """A moved or restored account has records that no stream ever carried."""
    bob = await live(here)
    await here.start_audits()
    losses = [say_nothing(bob, "create") for _ in range(5)]

    await until_named(here, bob, *losses)


async def test_what_was_written_and_told_is_no_loss(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    for _ in range(3):
        bob.post("told")
        await here.deliver(bob.events[-1:])
        await here.pass_s(6.5 * HOUR_S, step_s=300)

    async def compared() -> bool:
        return ("equal", bob.rev) in await verdicts(here, "tail")

    await here.until(compared, step_s=STEP_S)
    assert await named(here, bob) == []
    # The newest page was all there is, so it is a certificate at the rev of the last event.
    repo = await here.repo(bob)
    assert repo is not None
    assert (repo.cert_rev, repo.cert_method) == (bob.rev, "listing")
    assert repo.cert_digest is not None


async def test_a_record_that_the_stream_is_about_to_bring_is_no_loss(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    actor = (await here.all("SELECT actor FROM repo"))[0][0]
    await here.database.write(lambda tx: audits.hasten(tx, [actor], "tail", 0))

    def writes(request: Request) -> None:
        if request.nsid.endswith("listRecords") and request.params["collection"] == POST:
            bob.host.script = None
            here.network.now_us = here.clock.now_us()
            bob.post("just now")

    bob.host.script = writes
    await here.until(lambda: bob.host.script is None, step_s=5)
    await here.pass_s(10, step_s=1)
    await here.deliver(bob.events[-1:])

    async def compared() -> bool:
        return ("equal", bob.rev) in await verdicts(here, "tail") or await here.all(
            "SELECT outcome FROM audit WHERE level = 'tail'"
        ) == [("equal",)]

    await here.until(compared, step_s=5)
    assert await named(here, bob) == []


async def test_an_account_that_wrote_while_it_was_read_gets_its_digest_soon(here: Rig) -> None:
    bob = here.network.add_account("bob")
    fill(bob, 150)

    async def write(request: object) -> None:
        bob.post("another one")
        await here.deliver(bob.events[-1:])

    bob.host.script = write
    await here.track(bob)
    await here.until_state(bob, "LIVE")
    assert await here.all("SELECT cert_digest FROM repo") == [(None,)]

    bob.host.script = None
    await here.start_audits()

    async def has_digest() -> bool:
        return await here.all("SELECT cert_digest IS NOT NULL, cert_rev FROM repo") == [(1, bob.rev)]

    await here.until(has_digest, step_s=STEP_S)
    assert here.clock.now_us() - START_US < HOUR_US


async def test_a_lying_rev_is_not_believed_85(here: Rig) -> None:
    """A rev a year ahead of every clock is refused; the account is looked at again, and shows as failed."""
    bob = await live(here)
    await here.start_audits()
    future = tid_of(START_US + 366 * DAY_US, 7)

    def lie(request: Request) -> Answer | None:
        if "sync" not in request.nsid:
            return None
        return Answer(body=orjson.dumps({"did": bob.did, "active": True, "rev": future}))

    bob.host.script = lie
    cert = await here.all("SELECT cert_rev, cert_us, state FROM repo")

    async def failed() -> bool:
        return ("failed", None) in await verdicts(here, "rev")

    await here.until(failed, step_s=300)
    assert await here.all("SELECT cert_rev, cert_us, state FROM repo") == cert


async def test_a_rollback_begins_a_new_epoch_and_what_it_took_is_named_84(here: Rig) -> None:
    bob = await live(here)
    gone = bob.post("taken by the rollback")
    await here.deliver(bob.events[-1:])
    path = gone.split("/", 3)[3]
    await here.start_audits()

    del bob.records[path]
    bob.rev = tid_of(START_US - 300 * DAY_US, 7)

    await until_named(here, bob, (path, "extra"))
    repo = await here.repo(bob)
    assert repo is not None
    assert (repo.epoch, repo.base_rev) == (1, bob.rev)
    assert await here.all("SELECT door FROM finding") == [("scan",)]


async def test_a_replica_that_is_behind_for_a_moment_begins_no_epoch_70(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    behind = tid_of(START_US - 300 * DAY_US, 7)
    seen: list[Request] = []

    def lag(request: Request) -> Answer | None:
        if seen or "sync" not in request.nsid:
            return None
        seen.append(request)
        return Answer(body=orjson.dumps({"did": bob.did, "active": True, "rev": behind}))

    bob.host.script = lag
    await here.until(lambda: bool(seen), step_s=300)
    repo = await here.until_state(bob, "LIVE", step_s=5)
    assert repo.epoch == 0
    assert await named(here, bob) == []


# ---------------------------------------------------------------- hosts


async def test_a_small_host_is_asked_once_for_the_revs_of_all_its_accounts(here: Rig) -> None:
    people = [await live(here, f"bob{letter}") for letter in "abcdefghijklm"]
    host = people[0].host
    host.requests.clear()
    await here.start_audits()
    await here.database.write(
        lambda tx: audits.hasten_dids(tx, [one.did for one in people], "rev", here.clock.now_us())
    )

    async def all_equal() -> bool:
        return await verdicts(here, "rev") == [("equal", one.rev) for one in people]

    await here.until(all_equal, step_s=1)
    assert {request.nsid for request in host.requests} == {"com.atproto.sync.listRepos"}
    assert len(host.requests) == 1


async def test_a_large_host_is_not_walked_for_a_few_accounts(here: Rig) -> None:
    people = [await live(here, f"bob{letter}") for letter in "abcdefghijklm"]
    host = people[0].host
    await here.start_audits()

    def crowd(request: Request) -> Answer | None:
        if not request.nsid.endswith("listRepos"):
            return None
        number = int(request.params.get("cursor", "0")) + 1
        rows = [{"did": f"did:plc:{number:024d}", "rev": people[0].rev, "active": True}]
        return Answer(body=orjson.dumps({"repos": rows, "cursor": str(number)}))

    host.script = crowd
    host.requests.clear()
    await here.database.write(
        lambda tx: audits.hasten_dids(tx, [one.did for one in people], "rev", here.clock.now_us())
    )

    async def all_equal() -> bool:
        return await verdicts(here, "rev") == [("equal", one.rev) for one in people]

    await here.until(all_equal, step_s=1)
    assert len(host.asked("listRepos")) == 1
    assert len(host.asked("getRepoStatus")) == len(people)


async def test_a_crowd_in_doubt_is_settled_by_the_list_of_its_host_73(here: Rig) -> None:
    people = [await live(here, f"bob{letter}") for letter in "abcdefghijklm"]
    host = people[0].host
    await here.start_audits()
    await here.stop()
    host.requests.clear()
    await here.database.write(
        lambda tx: repos.suspect_all(tx, "stream gap: outage", here.clock.now_us(), from_us=START_US)
    )

    async def all_live() -> bool:
        return await here.all("SELECT state, doubt_us, count(*) FROM repo GROUP BY 1, 2") == [
            ("LIVE", None, len(people))
        ]

    await here.until(all_live, step_s=1)
    assert [request.nsid for request in host.requests] == ["com.atproto.sync.listRepos"]


async def test_a_host_that_no_stream_shows_is_read_every_ten_minutes_34(here: Rig) -> None:
    """After a first loss nobody waits six hours for the next."""
    bob = await live(here)
    await here.start_audits()
    first = say_nothing(bob, "create")
    await until_named(here, bob, first)

    here.network.now_us = here.clock.now_us()
    second = say_nothing(bob, "create")
    began_us = here.clock.now_us()
    await until_named(here, bob, first, second)

    assert here.clock.now_us() - began_us < HOUR_US

    # The stream shows it again: then it isn't dark.
    here.network.now_us = here.clock.now_us()
    bob.post("told")
    await here.deliver(bob.events[-1:])
    assert await here.database.read(lambda r: findings.dark_hosts(r, START_US)) == []


# ---------------------------------------------------------------- who comes first


async def test_who_opens_a_timeline_has_its_stale_accounts_looked_at_first(here: Rig) -> None:
    ann, bob = here.network.add_account("ann"), here.network.add_account("bob")
    fill(bob, 2)
    ann.follow(bob.did)
    await here.join(ann)
    await here.until_state(bob, "LIVE")
    await here.until_state(ann, "LIVE")
    await here.start_audits()
    await here.database.write(lambda tx: tx.run("UPDATE audit SET due_us = ?", (START_US + DAY_US,)))
    bob.host.requests.clear()

    assert here.schedule is not None
    here.schedule.opened(ann.did)

    async def looked() -> bool:
        return await here.all(
            "SELECT u.outcome FROM audit u JOIN actor a ON a.id = u.actor WHERE a.did = ? AND level = 'rev'",
            bob.did,
        ) == [("equal",)]

    await here.until(looked, step_s=1)
    assert [r.params.get("did") for r in bob.host.requests if "sync" in r.nsid] == [bob.did]


async def test_a_lost_follow_is_found_within_a_day_46(here: Rig) -> None:
    ann, bob = here.network.add_account("ann"), here.network.add_account("bob")
    fill(bob, 2)
    await here.join(ann)
    await here.until_state(ann, "LIVE")
    for number in range(120):
        ann.follow(
            f"did:plc:{number:024d}".replace("0", "a").replace("1", "b").replace("8", "c").replace("9", "d")
        )
        await here.deliver(ann.events[-1:])
    await here.start_audits()
    ann.follow(bob.did)  # the stream never tells

    await here.until_state(bob, "LIVE", step_s=300)

    assert here.clock.now_us() - START_US < 1.5 * DAY_US
    assert ("missing",) in await here.all("SELECT kind FROM finding WHERE collection = 4")


async def test_doubts_and_new_accounts_take_turns_73(here: Rig) -> None:
    """Neither ten thousand in doubt nor ten thousand new ones starve the others."""
    await here.stop()

    def crowd(tx: Transaction) -> None:
        for number in range(3000):
            actor = actors.ensure(tx, f"did:plc:crowd{number:019d}")
            tx.run("UPDATE actor SET pds = 'https://pds.test' WHERE id = ?", (actor,))
            tx.run(
                "INSERT INTO repo (actor, state, reason, since_us, refs, next_at_us, cover_us)"
                " VALUES (?, ?, 'stream gap: outage', 1, 1, ?, 1)",
                (actor, "SUSPECT" if number < 2000 else "QUEUED", number),
            )

    await here.database.write(crowd)
    started: dict[str, int] = {"SUSPECT": 0, "QUEUED": 0}

    def next_one(tx: Transaction, turn: int) -> str:
        (one,) = backlog.due(tx, here.clock.now_us(), [], [], 2, 1, doubts_first=bool(turn % 2))
        state = str(tx.value("SELECT state FROM repo WHERE actor = ?", (one.actor,)))
        tx.run("DELETE FROM repo WHERE actor = ?", (one.actor,))
        return state

    for turn in range(40):
        started[await here.database.write(functools.partial(next_one, turn=turn))] += 1
    assert started == {"SUSPECT": 20, "QUEUED": 20}


# ---------------------------------------------------------------- do they run?


async def test_an_auditor_that_is_off_shows_as_overdue_103(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    await here.stop_audits()
    fresh = await here.database.read(lambda r: audits.health(r, here.clock.now_us()))
    assert {one.overdue for one in fresh.levels.values()} == {0}

    later_us = here.clock.now_us() + 10 * HOUR_US
    stale = await here.database.read(lambda r: audits.health(r, later_us))
    assert (stale.levels["rev"].overdue, stale.levels["rev"].run, stale.levels["listing"].overdue) == (
        1,
        0,
        0,
    )
    month_us = here.clock.now_us() + 60 * DAY_US
    stale = await here.database.read(lambda r: audits.health(r, month_us))
    assert [stale.levels[level].overdue for level in ("rev", "listing", "signed")] == [1, 1, 1]

    await here.start_audits()
    await here.until(lambda: _is_level_run(here, "rev"), step_s=300)
    well = await here.database.read(lambda r: audits.health(r, here.clock.now_us()))
    assert (well.levels["rev"].overdue, well.levels["rev"].run) == (0, 1)
    assert bob.host.asked("getRepoStatus")


async def _is_level_run(here: Rig, level: str) -> bool:
    return (await here.all("SELECT at_us FROM audit WHERE level = ?", level))[0][0] is not None


async def test_a_canary_that_the_stream_does_not_show_is_told_103(
    here: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    bob = await live(here)
    here.network.now_us = here.clock.now_us()
    bob.post("chirp")
    await here.deliver(bob.events[-1:])
    await here.start_audits(canaries=[bob.did])
    await here.until(lambda: _canary_seen(here, True))

    await here.pass_s(2 * HOUR_S, step_s=60)

    await here.until(lambda: _canary_seen(here, False))
    assert any(record.message == "canary_silent" for record in caplog.records)


async def _canary_seen(here: Rig, seen: bool) -> bool:
    health = await here.database.read(lambda r: audits.health(r, here.clock.now_us()))
    return health.canary_seen is seen


async def test_misses_are_counted_by_the_upstream_that_should_have_told(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    loss = say_nothing(bob, "create")
    await until_named(here, bob, loss)

    missed = await here.database.read(lambda r: audits.misses_since(r, UPSTREAM, START_US))
    actor = (await here.all("SELECT actor FROM repo"))[0][0]
    assert [one for one, _ in missed] == [actor]
    assert await here.database.read(lambda r: audits.misses_since(r, "another", START_US)) == []
    assert await here.database.read(lambda r: audits.misses_since(r, UPSTREAM, here.clock.now_us())) == []


async def test_an_audit_that_fails_again_and_again_shows_as_overdue_103(here: Rig) -> None:
    bob = await live(here)
    await here.start_audits()
    bob.host.script = lambda _: Answer(400, b'{"error":"InvalidRequest","message":"not now"}')

    async def overdue() -> bool:
        health = await here.database.read(lambda r: audits.health(r, here.clock.now_us()))
        return health.levels["rev"].overdue == 1 and health.levels["rev"].failed == 1

    await here.until(overdue, step_s=600)
    assert here.clock.now_us() - START_US < 12 * HOUR_US
