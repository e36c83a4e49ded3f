"""From wanting an account to holding all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.store import coverage, repos
from tests.backfill.rig import Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Cursors, Network, Order, Request

STRANGER = "did:plc:" + "s" * 24
POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
CID = "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"


def fill(account: Account, posts: int, reposts: int = 0) -> None:
    """A profile and so many posts and reposts."""
    account.profile()
    for number in range(posts):
        account.post(f"post {number}")
    for _ in range(reposts):
        account.repost(f"at://{STRANGER}/{POST}/{account.network.next_rev()}", CID)


async def assert_complete(here: Rig, account: Account, method: str = "listing") -> repos.Repo:
    repo = await here.until_state(account, "LIVE")
    assert await here.held(account) == shown(account)
    assert (repo.cert_rev, repo.cert_method) == (account.rev, method)
    assert await here.scan(account) is None
    return repo


@pytest.mark.parametrize("order", ["descending", "ascending", "ascending always"])
@pytest.mark.parametrize("cursors", ["full pages", "only when more", "always"])
@pytest.mark.parametrize("posts", [0, 1, 100, 250])
async def test_every_dialect_is_read_to_its_end(
    network: Network, tmp_path: Path, order: Order, cursors: Cursors, posts: int
) -> None:
    network.hosts[0].order = order
    network.hosts[0].cursors = cursors
    bob = network.add_account("bob")
    fill(bob, posts, 130)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)


@pytest.mark.parametrize("order", ["descending", "ascending"])
async def test_the_newest_page_comes_first(network: Network, tmp_path: Path, order: Order) -> None:
    network.hosts[0].order = order
    bob = network.add_account("bob")
    fill(bob, 350)
    newest = sorted(path for path in bob.paths if path.startswith(POST))[-100:]
    async with rig(network, tmp_path) as here:
        seen: list[dict[str, str]] = []

        async def spy(request: Request) -> None:
            if "cursor" in request.params:
                seen.append(await here.held(bob, POST))

        bob.host.script = spy
        await here.track(bob)
        await assert_complete(here, bob)

    assert sorted(seen[0]) == newest


async def test_a_host_that_lists_upwards_is_asked_the_other_way_round_only_once(
    network: Network, tmp_path: Path
) -> None:
    network.hosts[0].order = "ascending"
    bob, eve = network.add_account("bob"), network.add_account("eve")
    fill(bob, 150)
    fill(eve, 150)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)
        network.hosts[0].requests.clear()
        await here.track(eve)
        await assert_complete(here, eve)

    first = [p for p in eve.host.asked("listRecords") if "cursor" not in p and p["collection"] == POST]
    assert [p.get("reverse") for p in first] == ["true"]


async def test_new_accounts_get_their_first_page_before_long_ones_go_on(
    network: Network, tmp_path: Path
) -> None:
    accounts = [network.add_account(f"long{letter}") for letter in "abcdef"]
    for account in accounts:
        fill(account, 220)
    async with rig(network, tmp_path) as here:
        await here.track(*accounts)
        for account in accounts:
            await assert_complete(here, account)

    asked = [p for p in network.hosts[0].asked("listRecords") if p["collection"] == POST]
    first = [number for number, p in enumerate(asked) if "cursor" not in p]
    # One place goes on with long ones, the other is for those that nobody has seen yet.
    assert first[-1] < len(asked) // 2 + 2


@pytest.mark.parametrize(
    "missing",
    [{"getRepoStatus"}, {"getLatestCommit"}, {"getRepoStatus", "getLatestCommit"}, {"getRepo"}],
    ids=lambda names: "-".join(sorted(names)),
)
async def test_calls_that_a_host_lacks_are_done_without(
    network: Network, tmp_path: Path, missing: set[str]
) -> None:
    network.hosts[0].missing = missing
    bob = network.add_account("bob")
    fill(bob, 120)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)


async def test_nothing_is_read_before_a_stream_is_held(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    async with rig(network, tmp_path, covered=False) as here:
        await here.track(bob)
        for _ in range(50):
            here.backfill.wake()
            await here.clock.advance(0.1)
        assert bob.host.requests == []

        await here.stream_begins()
        await assert_complete(here, bob)


async def test_an_account_whose_coverage_is_not_proved_waits_for_it(network: Network, tmp_path: Path) -> None:
    bob, carol = network.add_account("bob"), network.add_account("carol")
    fill(bob, 3)
    fill(carol, 3)
    async with rig(network, tmp_path) as here:
        await here.database.write(lambda tx: coverage.set_mode(tx, "DIDS"))
        await here.track(bob, carol)
        await here.pass_s(5)
        assert bob.host.requests == carol.host.requests == []

        await here.database.write(lambda tx: coverage.prove(tx, START_US, [bob.did]))
        await assert_complete(here, bob)
        assert [row[0] for row in await here.all("SELECT state FROM repo WHERE cover_us IS NULL")] == [
            "QUEUED"
        ]


@pytest.mark.defect("D7")
async def test_five_thousand_posts_and_their_reposts_all_appear(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 5000, 700)
    async with rig(network, tmp_path, outbound_per_host=4) as here:
        await here.track(bob)
        await assert_complete(here, bob, "signed")

        (items,) = (await here.all("SELECT count(*) FROM item"))[0]
        assert items == 5700
        assert len(bob.host.asked("getRepo")) == 1


async def test_a_long_list_goes_on_where_the_export_is_refused(network: Network, tmp_path: Path) -> None:
    network.hosts[0].missing = {"getRepo"}
    bob = network.add_account("bob")
    fill(bob, 2600)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)


async def test_a_member_is_read_with_everything_and_their_follows_become_jobs(
    network: Network, tmp_path: Path
) -> None:
    alice, bob, eve = (network.add_account(name) for name in ("alice", "bob", "eve"))
    fill(alice, 5)
    fill(bob, 3)
    fill(eve, 3)
    for _ in range(120):
        alice.create("app.bsky.feed.like", {"subject": {"uri": bob.post(), "cid": CID}, "createdAt": "x"})
    alice.follow(bob.did)
    alice.follow(eve.did)
    async with rig(network, tmp_path) as here:
        await here.join(alice)
        await here.until_state(alice, "LIVE")
        repo = await assert_complete(here, bob)
        await assert_complete(here, eve)

        assert repo.refs == 1
        assert await here.held(alice, *{path.split("/")[0] for path in alice.paths}) == alice.paths
        assert await here.database.read(repos.wrong_refs) == []
        follows = alice.host.asked("listRecords")[0]
        assert (follows["repo"], follows["collection"]) == (alice.did, "app.bsky.graph.follow")


async def test_a_second_look_buries_what_is_gone(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    gone = bob.post("soon gone")
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)

        bob.delete(gone)  # the stream never tells
        await doubt(here, "dead letter")
        await assert_complete(here, bob)

        assert await here.state_of(gone) == 2


async def doubt(here: Rig, reason: str) -> None:
    """Something shook everybody's coverage."""
    await here.database.write(lambda tx: repos.suspect_all(tx, reason, here.clock.now_us()))


async def test_a_gap_in_which_nothing_was_written_costs_one_request(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)
        bob.host.requests.clear()

        await here.clock.advance(60)
        await doubt(here, "stream gap: outage")
        repo = await assert_complete(here, bob)

        assert [request.nsid for request in bob.host.requests] == ["com.atproto.sync.getRepoStatus"]
        assert repo.cert_us is not None
        assert repo.cert_us >= START_US + 60_000_000


async def test_an_account_that_writes_all_the_time_is_finished_without_a_digest(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 350)
    async with rig(network, tmp_path) as here:

        async def write(request: object) -> None:
            bob.post("another one")
            await here.deliver(bob.events[-1:])

        bob.host.script = write
        await here.track(bob)
        await here.until_state(bob, "LIVE")

        assert await here.held(bob) == shown(bob)
        assert await here.all("SELECT cert_digest FROM repo") == [(None,)]


async def test_a_windowed_history_is_never_called_complete(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 400)
    network.now_us = START_US - 5 * 86_400_000_000
    for number in range(30):
        bob.post(f"new {number}")
    recent = sorted(path for path in bob.paths if path.startswith(POST))[-30:]
    async with rig(network, tmp_path, backfill_days=30) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "LIVE")

        held = await here.held(bob, POST)
        assert set(recent) <= set(held)
        assert len(held) < 430
        assert repo.cert_rev is None
        assert repo.reason == "history since 2025-12-02"


async def test_a_short_history_inside_the_window_is_complete(network: Network, tmp_path: Path) -> None:
    network.now_us = START_US - 5 * 86_400_000_000
    bob = network.add_account("bob")
    fill(bob, 130)
    async with rig(network, tmp_path, backfill_days=30) as here:
        await here.track(bob)
        await assert_complete(here, bob)
