"""Strangers' records and profiles that a timeline shows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.backfill.fetcher import UNPLACED_MAX, Fetcher
from appliance.store import fetches, records
from appliance.store.database import Transaction
from tests.backfill.rig import Rig, rig
from tests.backfill.scripted_network import START_US, Answer, Network, Request
from tests.backfill.test_backfill import POST, assert_complete, fill

DAY_US = 86_400_000_000


class FetchRig:
    """A rig whose fetcher runs too."""

    def __init__(self, here: Rig) -> None:
        self.here = here
        self.fetcher = Fetcher(
            here.database, here.outbound, here.identities, here.settings, here.clock, here.rules
        )
        self._task = asyncio.create_task(self.fetcher.run())

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def until_state(self, uri: str, state: int) -> None:
        async def reached() -> bool:
            self.fetcher.wake()
            return await self.here.state_of(uri) == state

        await self.here.until(reached)

    async def until_idle(self) -> None:
        """Until nothing is open that is due."""

        async def idle() -> bool:
            self.fetcher.wake()
            rows = await self.here.all(
                "SELECT count(*) FROM fetch WHERE outcome = '' AND next_at_us <= ?", self.here.clock.now_us()
            )
            mark = await self.here.all(
                "SELECT (SELECT coalesce(max(arrival), 0) FROM item) <="
                " (SELECT coalesce(max(value + 0), 0) FROM meta WHERE name = 'fetch_arrival')"
            )
            return bool(rows[0][0] == 0 and mark[0][0] and not self.fetcher._running)

        await self.here.until(idle)

    async def until_outcome(self, uri: str, outcome: str) -> None:
        """However often it is asked again: a machine under load may be too slow for the first answer."""

        async def reached() -> bool:
            self.fetcher.wake()
            return await self.outcome(uri) == outcome

        await self.here.until(reached, step_s=2)

    async def outcome(self, uri: str) -> str | None:
        rows = await self.here.all(
            "SELECT outcome FROM fetch WHERE kind = 'record' AND target = ?", await self.id(uri)
        )
        return rows[0][0] if rows else None

    async def id(self, uri: str) -> int:
        found = await self.here.database.read(lambda reader: records.find(reader, uri))
        assert found is not None
        return found.id


@pytest.fixture
async def both(network: Network, tmp_path: Path) -> AsyncIterator[FetchRig]:
    network.now_us = START_US - DAY_US
    async with rig(network, tmp_path) as here:
        made = FetchRig(here)
        try:
            yield made
        finally:
            await made.close()


@pytest.mark.defect("D15")
async def test_a_repost_of_an_unknown_post_brings_the_post_and_its_author(
    network: Network, both: FetchRig
) -> None:
    stranger, bob = network.add_account("stranger", await network.add_host()), network.add_account("bob")
    stranger.profile(description="unknown here")
    post = stranger.post("worth reposting")
    fill(bob, 2)
    bob.repost(post, stranger.cid(post))

    await both.here.track(bob)
    await both.until_state(post, records.LIVING)
    await both.until_state(f"at://{stranger.did}/app.bsky.actor.profile/self", records.LIVING)

    (pds,) = (await both.here.all("SELECT pds FROM actor WHERE did = ?", stranger.did))[0]
    assert pds == stranger.host.origin
    # A stranger is shown, not tracked.
    assert await both.here.repo(stranger) is None
    await both.until_idle()
    assert await both.here.all("SELECT count(*) FROM fetch") == [(0,)]


async def test_parents_roots_and_quotes_of_recent_posts_are_fetched_wherever_they_come_from(
    network: Network, both: FetchRig
) -> None:
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    root, parent, quoted = (stranger.post(text) for text in ("root", "parent", "quoted"))

    def strong(uri: str) -> dict[str, str]:
        return {"uri": uri, "cid": stranger.cid(uri)}

    bob.post("reply", reply={"root": strong(root), "parent": strong(parent)})
    await both.here.track(bob)
    for uri in (root, parent):
        await both.until_state(uri, records.LIVING)
    await assert_complete(both.here, bob)

    bob.post("quote", embed={"$type": "app.bsky.embed.record", "record": strong(quoted)})
    await both.here.deliver(bob.events[-1:])
    await both.until_state(quoted, records.LIVING)


async def test_the_parent_of_an_old_reply_waits_until_somebody_looks(
    network: Network, both: FetchRig
) -> None:
    network.now_us = START_US - 60 * DAY_US
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    parent = stranger.post("long ago")
    strong = {"uri": parent, "cid": stranger.cid(parent)}
    bob.post("reply", reply={"root": strong, "parent": strong})
    await both.here.track(bob)
    await assert_complete(both.here, bob)
    await both.until_idle()
    assert await both.here.state_of(parent) == records.MENTIONED

    both.fetcher.want(records=[await both.id(parent)])
    await both.until_state(parent, records.LIVING)


async def test_a_repost_of_a_post_that_is_gone_shows_nothing(network: Network, both: FetchRig) -> None:
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    post = stranger.post("deleted before anybody here saw it")
    bob.repost(post, stranger.cid(post))
    stranger.delete(post)

    await both.here.track(bob)
    await both.until_state(post, records.DELETED)

    assert await both.here.all("SELECT count(*) FROM item WHERE flags & 1") == [(0,)]
    assert await both.outcome(post) == "gone"


async def test_what_was_gone_is_asked_for_again_a_day_later(network: Network, both: FetchRig) -> None:
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    post = stranger.post("in and out")
    record = stranger.records.pop(post.split("/", 3)[3])
    bob.repost(post, record[0])
    await both.here.track(bob)
    await both.until_state(post, records.DELETED)
    stranger.records[post.split("/", 3)[3]] = record

    both.fetcher.want(records=[await both.id(post)])
    await both.until_idle()
    assert await both.here.state_of(post) == records.DELETED

    await both.here.clock.advance(25 * 3600)
    both.fetcher.want(records=[await both.id(post)])
    await both.until_state(post, records.LIVING)


@pytest.mark.parametrize("status", ["deactivated", "takendown"])
async def test_the_record_of_an_inactive_stranger_is_refused_and_the_account_hidden(
    network: Network, both: FetchRig, status: str
) -> None:
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    post = stranger.post("hidden")
    bob.repost(post, stranger.cid(post))
    stranger.status = status
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")
    await both.until_outcome(post, "refused")

    assert await both.here.all("SELECT status FROM actor WHERE did = ?", stranger.did) == [(status,)]


async def test_a_stranger_who_does_not_exist_is_gone(network: Network, both: FetchRig) -> None:
    bob = network.add_account("bob")
    post = f"at://did:plc:{'n' * 24}/{POST}/3jzfcijpj2z2a"
    bob.repost(post, bob.cid(bob.post()))
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")
    await both.until_outcome(post, "gone")


async def test_a_failing_host_is_asked_again_later_and_holds_up_nobody(
    network: Network, both: FetchRig
) -> None:
    broken = await network.add_host()
    unlucky, stranger = network.add_account("unlucky", broken), network.add_account("stranger")
    bob = network.add_account("bob")
    lost, fine = unlucky.post(), stranger.post()
    bob.repost(lost, unlucky.cid(lost))
    bob.repost(fine, stranger.cid(fine))
    broken.script = lambda request: Answer(503)
    await both.here.track(bob)
    await both.until_state(fine, records.LIVING)
    await both.until_idle()
    assert await both.outcome(lost) == ""

    broken.script = None
    await both.here.clock.advance(90)
    await both.until_state(lost, records.LIVING)


async def test_a_host_that_answers_with_another_record_is_not_believed(
    network: Network, both: FetchRig
) -> None:
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    post, other = stranger.post("asked for"), stranger.post("given")
    bob.repost(post, stranger.cid(post))

    def swap(request: Request) -> Answer | None:
        if request.nsid.endswith("getRecord") and request.params["collection"] == POST:
            request.params["rkey"] = other.rsplit("/", 1)[1]
            return stranger.host.honest(request)
        return None

    stranger.host.script = swap
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")
    await both.until_idle()

    assert await both.here.state_of(post) == records.MENTIONED
    assert await both.here.state_of(other) is None


async def test_records_of_an_account_that_is_still_to_be_read_are_left_to_its_scan(
    network: Network, both: FetchRig
) -> None:
    bob, eve = network.add_account("bob"), network.add_account("eve", await network.add_host())
    post = eve.post()
    bob.repost(post, eve.cid(post))
    eve.host.script = lambda request: Answer(503)
    await both.here.track(bob, eve)
    await both.here.until_state(bob, "LIVE")
    await both.until_idle()

    assert await both.here.all("SELECT count(*) FROM fetch") == [(0,)]
    assert eve.host.asked("getRecord") == []


async def test_nothing_that_arrived_is_passed_over_by_a_restart(network: Network, both: FetchRig) -> None:
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    posts = [stranger.post(f"post {number}") for number in range(30)]
    for post in posts:
        bob.repost(post, stranger.cid(post))
    await both.close()
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")

    again = FetchRig(both.here)
    try:
        for post in posts:
            await again.until_state(post, records.LIVING)
    finally:
        await again.close()


async def test_the_most_urgent_comes_first(network: Network, tmp_path: Path) -> None:
    network.now_us = START_US - DAY_US
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    posts = [stranger.post(f"post {number}") for number in range(20)]
    for post in posts:
        bob.repost(post, stranger.cid(post))
    async with rig(network, tmp_path, outbound_per_host=1) as here:
        await here.track(bob)
        await here.until_state(bob, "LIVE")
        both = FetchRig(here)
        try:
            await both.until_state(posts[0], records.LIVING)
        finally:
            await both.close()

    asked = [p["rkey"] for p in stranger.host.asked("getRecord") if p["collection"] == POST]
    # The newest repost is what a reader meets first. The few that are started before their host is known
    # queue once more when it is.
    urgent = [post.rsplit("/", 1)[1] for post in reversed(posts)]
    assert sorted(asked) == sorted(urgent)
    moved = [abs(place - urgent.index(rkey)) for place, rkey in enumerate(asked)]
    assert max(moved) <= UNPLACED_MAX + 1


async def test_a_person_on_a_page_is_looked_up(network: Network, both: FetchRig) -> None:
    stranger, alice = network.add_account("stranger"), network.add_account("alice")
    stranger.profile(description="liked something")
    alice.follow(stranger.did)
    await both.here.join(alice)
    await both.here.until_state(alice, "LIVE")
    (actor,) = (await both.here.all("SELECT id FROM actor WHERE did = ?", stranger.did))[0]

    both.fetcher.want(people=[actor])
    await both.until_state(f"at://{stranger.did}/app.bsky.actor.profile/self", records.LIVING)


async def test_closed_requests_are_forgotten_in_the_end(network: Network, both: FetchRig) -> None:
    bob = network.add_account("bob")
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")
    now_us = both.here.clock.now_us()

    def fill_and_forget(tx: Transaction) -> int:
        fetches.want(tx, "actor", 1, 0, now_us)
        fetches.close(tx, "actor", 1, "gone")
        return fetches.forget_closed(tx, now_us, 10) + fetches.forget_closed(tx, now_us + 1, 10)

    assert await both.here.database.write(fill_and_forget) == 1


async def test_a_pinned_post_outside_the_window_is_fetched(network: Network, tmp_path: Path) -> None:
    network.now_us = START_US - 300 * DAY_US
    bob = network.add_account("bob")
    pinned = bob.post("pinned long ago")
    for number in range(130):
        bob.post(f"old {number}")
    network.now_us = START_US - DAY_US
    for number in range(120):
        bob.post(f"new {number}")
    bob.profile(pinnedPost={"uri": pinned, "cid": bob.cid(pinned)})
    async with rig(network, tmp_path, backfill_days=30) as here:
        both = FetchRig(here)
        try:
            await here.track(bob)
            await both.until_state(pinned, records.LIVING)
        finally:
            await both.close()
