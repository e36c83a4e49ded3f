"""What a member looks at and nobody here follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.backfill import on_demand
from appliance.backfill.newest import Newest
from appliance.backfill.on_demand import OnDemand
from appliance.errors import BadInput
from appliance.store import records
from appliance.timeline.asker import PUBLIC, Asker
from tests.backfill.rig import rig
from tests.backfill.scripted_network import START_US, Account, Answer, Network, Request, error
from tests.backfill.test_fetcher import FetchRig

DAY_US = 86_400_000_000
MEMBER = Asker(did="did:plc:member", member=True)


class DemandRig(FetchRig):
    """A rig whose views ask the network."""

    def __init__(self, here: Any) -> None:
        super().__init__(here)
        newest = Newest(here.database, self.fetcher, here.rules, here.clock)
        self.views = OnDemand(here.database, here.identities, self.fetcher, newest, here.settings, here.clock)

    async def close(self) -> None:
        await self.views.close()
        await super().close()

    async def thread(self, uri: str, asker: Asker = MEMBER) -> Any:
        answer = await self.views.thread(asker, uri)
        return None if answer.error is not None else answer.parsed()["thread"]

    async def feed(self, account: Account, asker: Asker = MEMBER) -> list[str]:
        answer = await self.views.author_feed(asker, account.did)
        return [row["post"]["uri"] for row in answer.parsed()["feed"]]


@pytest.fixture
async def both(network: Network, tmp_path: Path) -> AsyncIterator[DemandRig]:
    network.now_us = START_US - DAY_US
    async with rig(network, tmp_path) as here:
        made = DemandRig(here)
        try:
            yield made
        finally:
            await made.close()


def conversation(author: Account, length: int) -> list[str]:
    """Posts that answer each other."""
    uris = [author.post("first")]
    for _ in range(length - 1):
        strong = [{"uri": uri, "cid": author.cid(uri)} for uri in (uris[0], uris[-1])]
        uris.append(author.post("next", reply={"root": strong[0], "parent": strong[1]}))
    return uris


def texts_above(thread: Any) -> int:
    count = 0
    while "post" in thread.get("parent", {}):
        thread = thread["parent"]
        count += 1
    return count


def asked(network: Network) -> int:
    return sum(len(host.requests) for host in network.hosts)


async def test_a_thread_that_nobody_here_knows_opens_with_all_that_it_answers(
    network: Network, both: DemandRig
) -> None:
    stranger = network.add_account("stranger")
    uris = conversation(stranger, 5)
    thread = await both.thread(uris[-1])
    assert thread["post"]["uri"] == uris[-1]
    assert texts_above(thread) == 4
    assert await both.here.repo(stranger) is None


async def test_guests_and_strangers_with_a_token_make_us_ask_nobody(
    network: Network, both: DemandRig
) -> None:
    stranger = network.add_account("stranger")
    uri = stranger.post("unheard of")
    for asker in (PUBLIC, Asker(did="did:plc:visitor")):
        assert await both.thread(uri, asker) is None
        for call in (both.views.profile, both.views.author_feed):
            with pytest.raises(BadInput):
                await call(asker, stranger.did)
    assert asked(network) == network.plc_requests == 0
    assert await both.here.all("SELECT count(*) FROM actor WHERE did = ?", stranger.did) == [(0,)]


async def test_a_post_that_does_not_exist_leaves_no_wait_and_no_second_question(
    network: Network, both: DemandRig
) -> None:
    stranger = network.add_account("stranger")
    uri = f"at://{stranger.did}/app.bsky.feed.post/3kaaaaaaaaa2a"
    assert await both.thread(uri) is None
    before = asked(network)
    began = time.monotonic()
    assert await both.thread(uri) is None
    assert time.monotonic() - began < on_demand.THREAD_WITHIN_S / 2
    assert asked(network) == before
    assert await both.thread("at://did:plc:nobodyatall2222222222222/app.bsky.feed.post/3kaaaaaaaaa2a") is None
    assert await both.thread(f"at://{stranger.did}/app.bsky.feed.like/3kaaaaaaaaa2a") is None
    assert await both.here.all("SELECT count(*) FROM actor WHERE did LIKE 'did:plc:nobody%'") == [(0,)]


async def test_a_slow_server_does_not_hold_up_the_answer_and_the_next_look_finds_it(
    network: Network, both: DemandRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_demand, "THREAD_WITHIN_S", 0.05)
    stranger = network.add_account("stranger")
    first, second = conversation(stranger, 2)
    open_ = asyncio.Event()

    async def slow(_: Request) -> Answer | None:
        await open_.wait()
        return None

    stranger.host.script = slow
    assert await both.thread(second) is None
    open_.set()
    await both.until_state(second, records.LIVING)
    thread = await both.thread(second)
    assert thread["post"]["uri"] == second
    await both.until_state(first, records.LIVING)
    assert texts_above(await both.thread(second)) == 1


async def test_what_an_answer_lacks_is_asked_for_once(network: Network, both: DemandRig) -> None:
    network.now_us = START_US - 60 * DAY_US
    stranger, bob = network.add_account("stranger"), network.add_account("bob")
    parent, gone = stranger.post("long ago"), stranger.post("deleted since")
    for uri in (parent, gone):
        strong = {"uri": uri, "cid": stranger.cid(uri)}
        bob.post("reply", reply={"root": strong, "parent": strong})
    stranger.delete(gone)
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")
    await both.until_idle()
    assert await both.here.state_of(parent) == records.MENTIONED

    # A guest's look asks for nothing; a member's does, and nobody waits for it.
    assert len(await both.feed(bob, PUBLIC)) == 2
    await both.until_idle()
    assert await both.here.state_of(parent) == records.MENTIONED
    assert len(await both.feed(bob)) == 2
    await both.until_state(parent, records.LIVING)
    await both.until_state(gone, records.DELETED)
    await both.until_idle()
    before = asked(network)
    for _ in range(3):
        await both.feed(bob)
        await both.until_idle()
    assert asked(network) == before


async def test_a_strangers_profile_and_newest_posts_are_fetched_for_a_member(
    network: Network, both: DemandRig
) -> None:
    stranger = network.add_account("stranger")
    stranger.profile(description="unknown here")
    uris = [stranger.post(f"number {i}") for i in range(120)]
    found = (await both.views.profile(MEMBER, stranger.did)).parsed()
    assert found["description"] == "unknown here"
    assert await both.feed(stranger) == uris[:-51:-1]
    assert await both.here.all("SELECT count(*) FROM post") == [(100,)]
    assert await both.here.repo(stranger) is None

    # Nobody listens when this one is deleted; the next page tells it.
    gone = uris.pop(-2)
    stranger.delete(gone)
    uris.append(stranger.post("number 120"))
    assert gone in await both.feed(stranger)
    listings = len(stranger.host.asked("listRecords"))
    await both.here.pass_s(on_demand.PAGE_GOOD_FOR_S + 1)
    assert await both.feed(stranger) == uris[:-51:-1]
    assert len(stranger.host.asked("listRecords")) == listings + 1


async def test_the_feed_of_an_account_that_is_followed_here_asks_nobody(
    network: Network, both: DemandRig
) -> None:
    bob = network.add_account("bob")
    bob.post("here anyway")
    await both.here.track(bob)
    await both.here.until_state(bob, "LIVE")
    before = asked(network)
    assert len(await both.feed(bob)) == 1
    assert asked(network) == before


async def test_a_hostile_or_refusing_server_costs_nothing_but_its_own_posts(
    network: Network, both: DemandRig
) -> None:
    stranger = network.add_account("stranger")
    stranger.post("hidden behind its server")

    def refuse(request: Request) -> Answer | None:
        return error(400, "InvalidRequest") if request.nsid.endswith("listRecords") else None

    stranger.host.script = refuse
    assert await both.feed(stranger) == []
    stranger.host.script = lambda _: Answer(body=b'{"records":[{"uri":"at://x","value":{}}]}')
    await both.here.pass_s(on_demand.PAGE_GOOD_FOR_S + 1)
    assert await both.feed(stranger) == []
