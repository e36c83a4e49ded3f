"""The chain of an account's commits outlives restarts and snapshots, and breaks for that account alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.ingest import chain
from appliance.ingest.apply import Batch
from appliance.ingest.relay import TOO_BIG, UNPROVEN
from appliance.protocol import car, firehose, keys, mst
from appliance.protocol.events import AccountEvent, BrokenEvent, Event, HeadEvent
from appliance.protocol.tid import tid_us
from appliance.store import chains, repos
from tests.ingest.hosts import BEGIN_US, Host, Line, connected, did, reading, remember, track
from tests.ingest.signed import ALICE, Numbers, Repo, document, know
from tests.ingest.world import NOW_US, POST, World, rev
from tests.ingest.world import cid as some_cid
from tests.ingest.world import did as somebody

BOB = did(2)
MINUTE_US = 60_000_000


@pytest.fixture
async def host(tmp_path: Path) -> Any:
    """A relay that runs for the whole test; its directory knows nobody yet."""
    async with Host("relay").running() as running:
        yield running


async def ready(folder: Path, host: Host, *known: Repo) -> None:
    """These accounts are tracked and certain, and the stream was read up to before their first commit."""
    for repo in known:
        await know(folder, repo.key.did_key, repo.did)
    await track(folder, *(repo.did for repo in known))
    await remember(folder, host, 1000, BEGIN_US - 600_000_000)


async def play(folder: Path, host: Host, *lines: Line) -> dict[str, tuple[Any, ...]]:
    """A process that reads these and ends; (state, reason, doubt_us, posts) of each account."""
    await host.add(*lines)
    async with reading(folder, host, scope="tracked") as at:
        await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 20)
        rows = await at.database.read(
            lambda r: r.all(
                "SELECT a.did, p.state, p.reason, p.doubt_us,"
                " (SELECT count(*) FROM record k WHERE k.actor = a.id AND k.state = 1)"
                " FROM repo p JOIN actor a ON a.id = p.actor"
            )
        )
        assert await at.value("SELECT count(*) FROM gap") == 0
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "lost"])
async def test_the_chain_goes_on_after_a_restart(tmp_path: Path, host: Host, lost: bool) -> None:
    repo = Repo()
    await ready(tmp_path, host, repo)
    before = await play(tmp_path, host, repo.post("a"), repo.post("b"))
    assert before[ALICE][0] == "LIVE"

    if lost:
        repo.post("while we were away, and never told")
    after = await play(tmp_path, host, repo.post("c"))

    assert after[ALICE][0] == ("SUSPECT" if lost else "LIVE")
    assert after[ALICE][3] == 3


async def test_the_chain_goes_on_after_each_reconnection(tmp_path: Path, host: Host) -> None:
    repo = Repo()
    await ready(tmp_path, host, repo)
    cuts = iter([3, 2, 4, 1, 3])
    host.cuts = lambda: next(cuts, None)

    found = await play(tmp_path, host, *(repo.post(f"post {n}") for n in range(10)))

    assert len(host.asked) > 3, "it was cut"
    assert found[ALICE][0] == "LIVE"
    assert found[ALICE][3] == 10


@pytest.mark.invariant("gap-means-job")
async def test_a_broken_chain_doubts_that_account_alone_and_from_its_last_good_commit(
    tmp_path: Path, host: Host
) -> None:
    numbers = Numbers()
    alice, bob = Repo(numbers=numbers), Repo(who=BOB, numbers=numbers)
    await ready(tmp_path, host, alice, bob)
    lines = [alice.post("a1"), bob.post("b1"), alice.post("a2")]
    good = alice.rev
    alice.post("lost")
    lines += [bob.post("b2"), alice.post("a4"), bob.post("b3"), alice.post("a5")]

    found = await play(tmp_path, host, *lines)

    assert good is not None
    assert found[ALICE] == ("SUSPECT", chain.BROKEN, tid_us(good) - 5 * MINUTE_US, 4)
    assert found[BOB] == ("LIVE", "", None, 3)


def without_proof(line: Line) -> dict[str, Any]:
    """As older software sends it: the commit and the record, no nodes of the tree."""
    body = firehose.decode_frame(line.data).body
    blocks = car.read(body["blocks"]).blocks
    few = {name: blocks[name] for name in (body["commit"], body["ops"][0]["cid"])}
    return {"blocks": car.write(body["commit"], few)}


@pytest.mark.parametrize("what", ["tooBig", "rebase", "no proof", "no record"])
async def test_a_commit_that_does_not_show_everything_doubts_its_account_and_the_chain_goes_on(
    tmp_path: Path, host: Host, what: str
) -> None:
    repo = Repo()
    await ready(tmp_path, host, repo)
    good = repo.post("shown whole")
    odd = repo.post("odd")
    if what in ("tooBig", "rebase"):
        odd = repo.again(odd, **{what: True, "ops": []})
    elif what == "no proof":
        odd = repo.again(odd, **without_proof(odd))
    else:
        body = firehose.decode_frame(odd.data).body
        blocks = car.read(body["blocks"]).blocks
        del blocks[body["ops"][0]["cid"]]
        odd = repo.again(odd, blocks=car.write(body["commit"], blocks))

    found = await play(tmp_path, host, good, odd, repo.post("whole again"))

    reason = {"no proof": UNPROVEN, "no record": "a record came without its body"}.get(what, TOO_BIG)
    assert found[ALICE][:2] == ("SUSPECT", reason)
    assert found[ALICE][3] == (3 if what == "no proof" else 2)
    async with reading(tmp_path, host) as at:
        assert await at.value("SELECT head_rev FROM repo") == repo.rev
        assert await at.value("SELECT count(*) FROM dead_letter") == 0


async def test_38_a_commit_whose_record_block_is_missing_is_fetched_and_its_account_doubted(
    tmp_path: Path, host: Host
) -> None:
    repo, other = Repo(), Repo(who=BOB)
    await ready(tmp_path, host, repo, other)
    good, bare = repo.post("shown whole"), repo.post("not there", rkey="3mbare2222222")
    body = firehose.decode_frame(bare.data).body
    blocks = car.read(body["blocks"]).blocks
    del blocks[body["ops"][0]["cid"]]

    found = await play(tmp_path, host, good, repo.again(bare, blocks=car.write(body["commit"], blocks)))

    assert found[ALICE][0] == "SUSPECT"
    assert found[BOB][0] == "LIVE"
    async with reading(tmp_path, host) as at:
        wanted = "SELECT rkey FROM fetch JOIN record ON id = target WHERE kind = 'record' AND outcome = ''"
        assert await at.value(wanted) == "3mbare2222222"
        assert await at.value("SELECT state FROM record WHERE rkey = '3mbare2222222'") == 0


async def test_a_forged_commit_is_kept_as_it_came_and_leaves_the_chain_where_it_was(
    tmp_path: Path, host: Host
) -> None:
    repo = Repo()
    await ready(tmp_path, host, repo)
    host.documents = {ALICE: document(repo.key)}
    good = repo.post("good")
    root, blocks, last = repo.root, dict(repo.blocks), repo.rev
    forged = repo.post("forged", key=keys.PrivateKey.generate())
    repo.root, repo.blocks, repo.rev = root, blocks, last

    found = await play(tmp_path, host, good, forged, repo.post("good again"))

    assert found[ALICE][0] == "SUSPECT"
    assert found[ALICE][3] == 2
    async with reading(tmp_path, host) as at:
        assert await at.value("SELECT raw FROM dead_letter") == forged.data
        assert await at.value("SELECT count(*) FROM dead_letter") == 1
        # Not "a commit before this one is missing": the next good one follows the last good one.
        assert await at.value("SELECT reason FROM repo") == "an event could not be applied"


async def test_a_key_rotated_between_commit_and_check_is_asked_for_though_its_document_is_young(
    tmp_path: Path, host: Host
) -> None:
    """82. The document was read for something else a moment ago; since then the key has changed."""
    repo = Repo()
    await track(tmp_path, ALICE)
    await remember(tmp_path, host, 1000, BEGIN_US - 600_000_000)
    host.documents = {ALICE: document(repo.key)}
    async with reading(tmp_path, host, scope="tracked") as at:
        await connected(host)
        await at.identities.refresh(ALICE)
        repo.key = keys.PrivateKey.generate()
        host.documents = {ALICE: document(repo.key)}
        await host.add(repo.post("by the new key"), repo.post("and another"))
        await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 20)
        assert await at.value("SELECT count(*) FROM dead_letter") == 0
        assert await at.value("SELECT count(*) FROM record WHERE state = 1") == 2
    assert len(host.fetched) == 2, "once for the old key, once for the new"


@pytest.mark.parametrize("forged", [False, True], ids=["honest", "forged"])
async def test_while_the_directory_is_down_the_last_known_key_judges(
    tmp_path: Path, host: Host, forged: bool
) -> None:
    """81. An identity event has made the document due, and nobody answers for it."""
    repo = Repo()
    await know(tmp_path, repo.key.did_key, resolved_us=None)
    host.directory_down = True
    await track(tmp_path, ALICE)
    await remember(tmp_path, host, 1000, BEGIN_US - 600_000_000)
    async with reading(tmp_path, host, scope="tracked") as at:
        await connected(host)
        await host.add(repo.post("a", key=keys.PrivateKey.generate() if forged else None))
        await asyncio.wait_for(at.pipeline.wait_for(seq=host.lines[-1].seq), 20)
        assert await at.value("SELECT state FROM repo") == ("SUSPECT" if forged else "LIVE")
        assert await at.value("SELECT count(*) FROM record WHERE state = 1") == (0 if forged else 1)
        assert await at.value("SELECT count(*) FROM dead_letter") == (1 if forged else 0)


async def test_two_trees_at_one_rev_are_doubted(tmp_path: Path, host: Host) -> None:
    repo = Repo()
    await ready(tmp_path, host, repo)
    lines = [repo.post("a"), repo.post("b")]
    repo.root = mst.build({})[0]  # signed by the same key, at the same rev

    found = await play(tmp_path, host, *lines, repo.sync())

    assert found[ALICE][:2] == ("SUSPECT", chain.FORKED)


async def test_a_commit_or_sync_of_an_older_rev_changes_nothing(tmp_path: Path, host: Host) -> None:
    repo = Repo()
    await ready(tmp_path, host, repo)
    first = repo.post("a", rkey="one")
    old_sync = repo.sync()
    lines = [first, repo.delete("one"), repo.post("b")]
    lines += [repo.again(first), repo.again(old_sync), repo.again(lines[1]), repo.post("c")]

    found = await play(tmp_path, host, *lines)

    assert found[ALICE] == ("LIVE", "", None, 2)


async def test_a_did_in_capitals_is_checked_as_its_account(tmp_path: Path, host: Host) -> None:
    """87. Another spelling must not lead past the signature."""
    web = "did:web:alice.net"
    honest = Repo(who=web)
    await ready(tmp_path, host, honest)
    forger = Repo(who="did:web:ALICE.net", numbers=honest.numbers)

    found = await play(tmp_path, host, honest.post("mine"), forger.post("not hers"))

    assert found[web][0] == "SUSPECT"
    assert found[web][3] == 1


async def test_a_rev_of_the_future_is_refused_here_too(tmp_path: Path, host: Host) -> None:
    """85."""
    repo = Repo()
    await ready(tmp_path, host, repo)
    number = repo.numbers.number
    repo.numbers.number += 86_400 * 365
    future = repo.post("from next year")
    repo.numbers.number = number
    future = repo.again(future, time="2026-07-04T21:10:02.000000Z")

    found = await play(tmp_path, host, future)

    assert found[ALICE][0] == "SUSPECT"
    assert found[ALICE][3] == 0
    async with reading(tmp_path, host) as at:
        assert await at.value("SELECT seen_rev || head_rev FROM repo") == ""
        assert await at.value("SELECT error FROM dead_letter") == "rev lies in the future"


@pytest.mark.parametrize("rkey", ["a" * 512, "self", "-._~:", "3jzfcijpj2z2a"])
async def test_any_key_is_checked_deleted_and_used_again(tmp_path: Path, host: Host, rkey: str) -> None:
    """86. Keys are opaque: of 512 bytes, of no time, used again after a deletion."""
    repo = Repo()
    await ready(tmp_path, host, repo)
    lines = [repo.post("first", rkey=rkey), repo.post("edited", rkey=rkey), repo.delete(rkey)]

    found = await play(tmp_path, host, *lines, repo.post("used again", rkey=rkey))

    assert found[ALICE] == ("LIVE", "", None, 1)


async def test_a_stale_deletion_sent_again_after_the_return_hides_nobody(tmp_path: Path, host: Host) -> None:
    """21, 22. The relay was restored from a copy and sends old events again, under their old numbers."""
    repo = Repo()
    await ready(tmp_path, host, repo)
    post = repo.post("a")
    gone = repo.tell("#account", active=False, status="deleted")
    back = repo.tell("#account", active=True)
    await play(tmp_path, host, post, gone, back)
    host.lines = [post]
    async with reading(tmp_path, host, scope="tracked") as at:
        await at.until("SELECT count(*) FROM gap", 1)
        await connected(host, 3)
        await host.add(gone)
        await at.until("SELECT seq FROM upstream", gone.seq)
        assert await at.value(f"SELECT status FROM actor WHERE did = '{ALICE}'") is None
        assert await at.value("SELECT state FROM repo") == "QUEUED"


# ---------------------------------------------------------------- chain and snapshot


def head(number: int, *, before: str | None = None, since: int | None = None, **more: Any) -> HeadEvent:
    """The commit of that number of alice, whose tree is named by its number."""
    return HeadEvent(
        somebody("alice"), rev(number), some_cid(number),
        None if since is None else rev(since), before, NOW_US + number, **more,
    )  # fmt: skip


def follows(number: int, last: int | None = None) -> HeadEvent:
    """The commit of that number, after the one of that other."""
    last = number - 1 if last is None else last
    return head(number, before=some_cid(last), since=last)


def tell(world: World, *events: Event) -> None:
    world.applier.apply_batch(
        world.tx, Batch("relay wss://r", "relay", 1, NOW_US, list(events)), now_us=NOW_US
    )


def commit(world: World, number: int, last: int | None = None) -> None:
    """The same with one post in it."""
    event = world.event(
        "alice", POST, str(number), {"text": "", "createdAt": "2025-01-01T00:00:00Z"}, number=number
    )
    tell(world, follows(number, last), event)


def state(world: World) -> tuple[str, str]:
    repo = world.repo("alice")
    return repo.state, repo.reason or repo.doubt


def test_the_tree_is_kept_in_the_transaction_of_the_rows() -> None:
    world = World()
    world.live("alice")
    world.tx.run("SAVEPOINT batch")
    commit(world, 5)
    assert chains.head(world.tx, world.actor("alice"))[:2] == (rev(5), some_cid(5))

    world.tx.run("ROLLBACK TO batch")

    assert world.count("record") == 0
    assert chains.head(world.tx, world.actor("alice"))[:2] == (rev(0), None)


@pytest.mark.parametrize(("last", "expected"), [(4, ("LIVE", "")), (3, ("SUSPECT", chain.BROKEN))])
def test_after_a_listing_the_chain_goes_on_by_rev(last: int, expected: tuple[str, str]) -> None:
    world = World()
    world.track("alice")
    world.scan("alice", 4, [[]])

    commit(world, 5, last)

    assert state(world) == expected


@pytest.mark.parametrize(("last", "expected"), [(4, ("LIVE", "")), (3, ("SUSPECT", chain.BROKEN))])
def test_after_a_signed_scan_the_chain_goes_on_by_tree(last: int, expected: tuple[str, str]) -> None:
    world = World()
    world.track("alice")
    world.tx.run("UPDATE repo SET state = 'SCANNING'")
    assert repos.finalise(world.tx, world.actor("alice"), 0, rev(4), None, NOW_US, data_cid=some_cid(4))

    commit(world, 5, last)

    assert state(world) == expected


def test_commits_during_a_scan_are_applied_and_the_chain_stands_at_the_newest_of_them() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 4)
    commit(world, 5)
    commit(world, 6)
    world.page(scan, [])
    world.finish(scan)

    assert chains.head(world.tx, world.actor("alice"))[:2] == (rev(6), some_cid(6))
    assert len(world.items()) == 2
    commit(world, 7)
    assert state(world) == ("LIVE", "")
    commit(world, 9)
    assert state(world) == ("SUSPECT", chain.BROKEN)


def test_a_snapshot_newer_than_the_stream_lets_it_come_up_without_doubt() -> None:
    """The stream is behind: what it still brings is in the snapshot already."""
    world = World()
    world.live("alice")
    commit(world, 1, 0)
    scan = world.begin_anew("alice", 8)
    commit(world, 3)  # 2 is lost, and was read by the scan
    world.page(scan, [])
    world.finish(scan)
    commit(world, 6)
    commit(world, 8)
    assert state(world) == ("LIVE", "")
    assert chains.head(world.tx, world.actor("alice"))[:2] == (rev(8), some_cid(8))

    commit(world, 9)

    assert state(world) == ("LIVE", "")


def test_a_chain_that_breaks_behind_the_base_of_a_running_scan_is_answered_by_another_scan() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 4)
    commit(world, 5)
    commit(world, 7)
    world.page(scan, [])
    world.finish(scan)

    assert state(world) == ("SUSPECT", chain.BROKEN)


def test_a_resync_takes_away_what_was_deleted_in_the_break() -> None:
    world = World()
    world.live("alice")
    commit(world, 1, 0)
    commit(world, 2)
    commit(world, 4)
    assert state(world) == ("SUSPECT", chain.BROKEN)

    world.scan_anew("alice", 4, [[("2", 200, {"text": "", "createdAt": "2025-01-01T00:00:00Z"})]])

    assert [address.rsplit("/", 1)[1] for address in world.items()] == ["2"]
    commit(world, 5)
    assert state(world) == ("LIVE", "")


def test_a_new_epoch_begins_a_new_chain() -> None:
    world = World()
    world.live("alice")
    commit(world, 50, 0)
    assert repos.raise_epoch(world.tx, world.actor("alice"), 0, "the PDS went back", NOW_US)
    world.scan("alice", 3, [[]])
    assert chains.head(world.tx, world.actor("alice"))[:2] == (rev(3), None)

    commit(world, 4)

    assert state(world) == ("LIVE", "")


def test_what_others_have_shown_since_begins_the_chain_anew() -> None:
    """Read by Jetstream for a while, which tells no trees: that is no break."""
    world = World()
    world.live("alice")
    commit(world, 1, 0)
    world.post("alice", "jetstream", number=5)

    commit(world, 7)

    assert state(world) == ("LIVE", "")
    commit(world, 9)
    assert state(world) == ("SUSPECT", chain.BROKEN)


def test_a_member_s_own_write_does_not_hide_a_break_before_it() -> None:
    world = World()
    world.live("alice")
    commit(world, 1, 0)
    own = world.event("alice", POST, "own", {"text": "", "createdAt": "2025-01-01T00:00:00Z"}, number=3)
    world.applier.apply(world.tx, own, now_us=NOW_US)

    tell(world, follows(3), own)

    assert state(world) == ("SUSPECT", chain.BROKEN)


def test_a_sync_to_the_tree_that_we_have_moves_the_chain_and_any_other_is_doubt() -> None:
    world = World()
    world.live("alice")
    commit(world, 1, 0)
    tell(world, HeadEvent(somebody("alice"), rev(3), some_cid(1), None, None, NOW_US, jump=True))
    assert state(world) == ("LIVE", "")
    assert chains.head(world.tx, world.actor("alice"))[:2] == (rev(3), some_cid(1))

    tell(world, head(4, jump=True))

    assert state(world) == ("SUSPECT", chain.JUMPED)


@pytest.mark.parametrize("checked", [True, False])
def test_a_commit_that_was_read_before_its_account_was_tracked_is_doubted(checked: bool) -> None:
    world = World()
    world.live("alice")
    event = world.event("alice", POST, "1", {"text": "", "createdAt": "2025-01-01T00:00:00Z"}, number=1)

    tell(world, *([follows(1)] if checked else []), event)

    assert state(world) == (("LIVE", "") if checked else ("SUSPECT", "a commit came unchecked"))


def test_an_unchecked_commit_that_a_running_snapshot_shows_anyway_is_not_doubted() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 4)
    tell(world, world.event("alice", POST, "1", {"text": ""}, number=3))
    world.page(scan, [])
    world.finish(scan)

    assert state(world) == ("LIVE", "")
    assert world.items() == [], "the snapshot did not show it"


@pytest.mark.parametrize("time_us", [NOW_US - MINUTE_US, 0])
def test_an_event_that_could_not_be_applied_casts_doubt_from_its_own_time_on(time_us: int) -> None:
    world = World()
    world.live("alice")

    tell(world, BrokenEvent(somebody("alice"), b"?", "not a frame", time_us))

    assert state(world) == ("SUSPECT", "an event could not be applied")
    assert world.tx.value("SELECT doubt_us FROM repo") == (time_us or None)


def test_a_relay_out_of_step_with_an_account_doubts_it_from_its_last_commit_on() -> None:
    world = World()
    world.live("alice")
    commit(world, 1, 0)

    world.apply(AccountEvent(somebody("alice"), False, "desynchronized", NOW_US, 5))

    assert state(world) == ("SUSPECT", "account desynchronized")
    assert world.tx.value("SELECT doubt_us FROM repo") == tid_us(rev(1)) - 5 * MINUTE_US


def test_a_certificate_since_the_last_commit_bounds_the_doubt() -> None:
    world = World()
    world.live("alice")
    commit(world, 1, 0)
    sure_us = NOW_US + 3600 * 1_000_000
    certificate = repos.Certificate(rev(1), "listing", b"", 1)
    assert repos.confirm(world.tx, world.actor("alice"), 0, "LIVE", certificate, sure_us)

    commit(world, 3)

    assert world.tx.value("SELECT doubt_us FROM repo") == sure_us - 5 * MINUTE_US
