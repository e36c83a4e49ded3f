"""What nobody needs goes; what somebody needs meanwhile stays."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.backfill.pruner import Pruner
from appliance.members import admission
from appliance.store import actors, records, repos
from appliance.store.database import Transaction
from tests.backfill.rig import Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Network
from tests.backfill.test_backfill import POST, assert_complete, fill
from tests.backfill.test_fetcher import FetchRig

DAY_S = 86_400


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(network, tmp_path) as made:
        yield made


def pruner_of(here: Rig) -> Pruner:
    return Pruner(here.database, here.settings, here.clock)


async def settle(pruner: Pruner) -> None:
    """Until there is nothing more to remove."""
    for _ in range(200):
        if not await pruner.step():
            return
    raise AssertionError("there is always more to prune")


async def follow(here: Rig, alice: Account, bob: Account) -> str:
    uri = alice.follow(bob.did)
    await here.deliver(alice.events[-1:])
    here.backfill.wake()
    return uri


async def unfollow(here: Rig, alice: Account, uri: str) -> None:
    await here.deliver(alice.delete(uri))


async def test_an_unfollowed_account_goes_after_the_grace_time(network: Network, here: Rig) -> None:
    alice, bob = network.add_account("alice"), network.add_account("bob")
    fill(bob, 450, 30)
    await here.join(alice)
    uri = await follow(here, alice, bob)
    await assert_complete(here, bob, "listing")
    pruner = pruner_of(here)

    await unfollow(here, alice, uri)
    await here.clock.advance(23 * 3600)
    await settle(pruner)
    assert await here.held(bob) == shown(bob)

    await here.clock.advance(2 * 3600)
    await settle(pruner)
    assert await here.held(bob) == {}
    assert await here.repo(bob) is None
    assert await here.all("SELECT count(*) FROM item") == [(0,)]


async def test_a_refollow_within_the_grace_time_costs_no_request(network: Network, here: Rig) -> None:
    alice, bob = network.add_account("alice"), network.add_account("bob")
    fill(bob, 120)
    await here.join(alice)
    await here.until_state(alice, "LIVE")
    uri = await follow(here, alice, bob)
    await assert_complete(here, bob)
    asked = len(bob.host.requests)

    await unfollow(here, alice, uri)
    bob.post("meanwhile")
    await here.deliver(bob.events[-1:])
    await here.clock.advance(600)
    await settle(pruner_of(here))
    await follow(here, alice, bob)
    await here.pass_s(30)

    assert await here.held(bob) == shown(bob)
    assert len(bob.host.requests) == asked
    repo = await here.repo(bob)
    assert repo is not None
    assert (repo.state, repo.refs, repo.unwanted_us) == ("LIVE", 1, None)


async def test_a_refollow_in_the_middle_of_pruning_brings_everything_back(
    network: Network, here: Rig
) -> None:
    alice, bob = network.add_account("alice"), network.add_account("bob")
    fill(bob, 900)
    await here.join(alice)
    uri = await follow(here, alice, bob)
    await here.until_state(bob, "LIVE")
    await unfollow(here, alice, uri)
    await here.clock.advance(25 * 3600)
    pruner = pruner_of(here)
    await pruner.step()
    assert 0 < len(await here.held(bob)) < len(shown(bob))

    await follow(here, alice, bob)
    repo = await assert_complete(here, bob)
    await settle(pruner)

    assert repo.epoch == 1
    assert await here.held(bob) == shown(bob)


@pytest.mark.parametrize("seed", range(8))
async def test_any_interleaving_of_follows_unfollows_and_pruning_ends_right(
    network: Network, here: Rig, seed: int
) -> None:
    rng = random.Random(seed)
    members = [network.add_account(name) for name in ("alice", "eve")]
    bob = network.add_account("bob")
    fill(bob, 230)
    for member in members:
        await here.join(member)
    pruner = pruner_of(here)
    follows: dict[str, list[str]] = {member.did: [] for member in members}
    for _ in range(60):
        member = rng.choice(members)
        match rng.randrange(6):
            case 0 | 1:
                follows[member.did].append(await follow(here, member, bob))
            case 2 | 3 if follows[member.did]:
                await unfollow(here, member, follows[member.did].pop(rng.randrange(len(follows[member.did]))))
            case 4:
                await pruner.step()
            case _:
                bob.post(f"{rng.random()}")
                await here.deliver(bob.events[-1:])
                await here.clock.advance(rng.choice([1, 3600, 25 * 3600]))
        here.backfill.wake()
        await asyncio.sleep(rng.choice([0, 0.003]))
        assert await here.database.read(repos.wrong_refs) == []
    if not any(follows.values()):
        await follow(here, members[0], bob)
    await here.pass_s(7200, 60)
    await here.until_state(bob, "LIVE")

    assert await here.held(bob) == shown(bob)


async def test_a_post_that_a_followed_account_reposts_survives_its_author(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = START_US - 20 * DAY_S * 1_000_000
    bob, eve = network.add_account("bob"), network.add_account("eve")
    fill(bob, 30)
    post = bob.post("worth keeping")
    eve.repost(post, bob.cid(post))
    async with rig(network, tmp_path) as here:
        both = FetchRig(here)
        try:
            await here.track(bob, eve)
            await assert_complete(here, bob)
            await assert_complete(here, eve)
            repo = await here.repo(bob)
            assert repo is not None
            await here.database.write(lambda tx: repos.unwant(tx, repo.actor, here.clock.now_us()))
            await here.clock.advance(25 * 3600)
            await settle(pruner_of(here))

            await both.until_state(post, records.LIVING)
            assert await here.held(bob, POST) == {post.split("/", 3)[3]: bob.cid(post)}
            assert await here.repo(bob) is None
        finally:
            await both.close()


async def test_context_goes_when_nothing_shows_it_any_more_and_its_time_is_over(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = START_US - 2 * DAY_S * 1_000_000
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    stranger.profile()
    kept, dropped = stranger.post("kept"), stranger.post("dropped")
    bob.repost(kept, stranger.cid(kept))
    repost = bob.repost(dropped, stranger.cid(dropped))
    async with rig(network, tmp_path) as here:
        both = FetchRig(here)
        try:
            await here.track(bob)
            for uri in (kept, dropped, f"at://{stranger.did}/app.bsky.actor.profile/self"):
                await both.until_state(uri, records.LIVING)
        finally:
            await both.close()
        pruner = pruner_of(here)
        await here.deliver(bob.delete(repost))
        await settle(pruner)
        assert await here.state_of(dropped) == records.LIVING

        await here.clock.advance(31 * DAY_S)
        await settle(pruner)
        assert await here.state_of(dropped) in (None, records.MENTIONED)
        assert await here.state_of(kept) == records.LIVING
        assert await here.state_of(f"at://{stranger.did}/app.bsky.actor.profile/self") == records.LIVING
        assert await here.held(bob) == shown(bob)


async def test_rows_of_an_account_followed_meanwhile_are_left_alone(network: Network, tmp_path: Path) -> None:
    network.now_us = START_US - 2 * DAY_S * 1_000_000
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    post = stranger.post("context")
    repost = bob.repost(post, stranger.cid(post))
    async with rig(network, tmp_path) as here:
        both = FetchRig(here)
        try:
            await here.track(bob)
            await both.until_state(post, records.LIVING)
        finally:
            await both.close()
        await here.stop()
        await here.deliver(bob.delete(repost))
        await here.clock.advance(31 * DAY_S)
        await here.track(stranger)
        await settle(pruner_of(here))

        assert await here.state_of(post) == records.LIVING


async def test_the_rows_of_a_deleted_account_go_once_the_deletion_has_proved_true(
    network: Network, here: Rig
) -> None:
    bob = network.add_account("bob")
    fill(bob, 20)
    await here.track(bob)
    await assert_complete(here, bob)
    del bob.host.accounts[bob.did]
    await here.database.write(lambda tx: repos.suspect_all(tx, "gap", here.clock.now_us()))
    await here.until_state(bob, "GONE")
    pruner = pruner_of(here)
    await settle(pruner)
    assert await here.held(bob) == shown(bob)

    await here.pass_s(4 * DAY_S, 1800)
    await settle(pruner)
    assert await here.held(bob) == {}
    assert (await here.until_state(bob, "GONE")).refs == 1


async def test_numbers_of_removed_records_are_not_given_out_again(network: Network, here: Rig) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    await here.track(bob)
    repo = await assert_complete(here, bob)
    (highest,) = (await here.all("SELECT max(id) FROM record"))[0]
    await here.database.write(lambda tx: repos.unwant(tx, repo.actor, here.clock.now_us()))
    await here.clock.advance(25 * 3600)
    await settle(pruner_of(here))
    assert await here.held(bob) == {}

    def mention(tx: Transaction) -> int | None:
        return records.mention(tx, f"at://{bob.did}/{POST}/3jzfcijpj2z2a")

    number = await here.database.write(mention)
    assert number is not None
    assert number > highest


async def test_who_leaves_is_pruned_with_those_whom_only_they_followed(network: Network, here: Rig) -> None:
    alice, bob = network.add_account("alice"), network.add_account("bob")
    fill(alice, 5)
    fill(bob, 5)
    alice.follow(bob.did)
    await here.join(alice)
    await here.until_state(alice, "LIVE")
    await here.until_state(bob, "LIVE")

    def leave(tx: Transaction) -> bool:
        actor = actors.find_id(tx, alice.did)
        assert actor is not None
        return admission.leave(tx, actor, here.clock.now_us())

    assert await here.database.write(leave)
    await here.clock.advance(25 * 3600)
    await settle(pruner_of(here))

    assert await here.all("SELECT count(*) FROM repo") == [(0,)]
    assert await here.all("SELECT count(*) FROM record WHERE state <> 0") == [(0,)]
