"""Numbers of strangers: said to be missing, or brought from an index outside behind the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.backfill import outside_counts
from appliance.backfill.outside_counts import LATELY_S, WAITING_MAX, Counting
from appliance.clock import SystemClock
from appliance.devnet.backlinks import Backlinks
from appliance.devnet.network import Network
from appliance.errors import BadInput, Unavailable
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views
from tests.devnet.devnets import small
from tests.timeline.village import POST, Village, did, village


class Place:
    """Ann's post is here, and in the network; only there do strangers like it."""

    def __init__(self, here: Village, network: Network, backlinks: Backlinks, origin: str) -> None:
        self.here = here
        self.network = network
        self.backlinks = backlinks
        settings = msgspec.structs.replace(
            here.settings, store_scope="tracked", constellation_url=origin, allow_loopback=True
        )
        self.views = Views(here.database, settings, here.clock)
        self.outbound = Outbound(settings, SystemClock())
        self.counting = Counting(here.database, self.outbound, origin, here.clock)
        self.wanted: list[str] = []
        self.views.answering.uncounted = self.wanted.extend

    async def post(self, uri: str, *, member: bool = True) -> Any:
        answer = await self.views.posts(Asker(did=did("bob"), member=member), [uri])
        body = answer.parsed()
        assert lexicons.validate_output("app.bsky.feed.getPosts", body) is None
        assert body["countsScope"] == "tracked"
        return body["posts"][0]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with village(tmp_path) as here, small(pds=1) as network:
        backlinks, origin = await network.add_backlinks()
        made = Place(here, network, backlinks, origin)
        await here.join("bob")
        try:
            yield made
        finally:
            await made.outbound.close()


async def known(place: Place) -> str:
    """A post of Ann's; one like of it is known here, three and two answers are not."""
    network = place.network
    ann = network.create_account("ann.test")
    uri = network.post(ann.did, "hello")
    others = [network.create_account(f"s{number}.test") for number in range(3)]
    for other in others:
        network.like(other.did, uri)
        network.follow(other.did, ann.did)
    network.like(others[0].did, uri)
    for other in others[:2]:
        network.reply(other.did, "hi", uri)
    network.post(
        others[0].did, "see", embed={"$type": "app.bsky.embed.record", "record": network.strong_ref(uri)}
    )
    record = network.record(uri)
    assert record is not None
    event = place.here.event("ann", POST, record, rkey=uri.rpartition("/")[2])
    await place.here.apply(msgspec.structs.replace(event, did=ann.did))
    return uri


async def test_numbers_come_for_the_next_look_and_are_marked(place: Place) -> None:
    uri = await known(place)
    first = await place.post(uri)
    assert (first["likeCount"], "countsFrom" in first) == (0, False)
    assert place.backlinks.asked == []
    assert place.wanted == [uri]
    for target in place.wanted:
        await place.counting.ask(target)
    second = await place.post(uri)
    counts = [second[f"{name}Count"] for name in ("like", "repost", "reply", "quote")]
    assert counts == [3, 0, 2, 1]
    assert second["countsFrom"] == "constellation"

    # For ten minutes nobody asks again; what is counted here is never shown as less.
    place.wanted.clear()
    await place.post(uri)
    assert place.wanted == []
    await place.here.clock.advance(601)
    await place.post(uri, member=False)
    assert place.wanted == []
    await place.post(uri)
    assert place.wanted == [uri]
    for name in ("bob", "cid", "dot", "eve"):
        await place.here.like(name, {"uri": uri, "cid": second["cid"]})
    assert (await place.post(uri))["likeCount"] == 4


async def test_followers_of_a_profile_are_counted_outside_too(place: Place) -> None:
    uri = await known(place)
    ann = uri.split("/")[2]
    asker = Asker(did=did("bob"), member=True)
    assert (await place.views.profile(asker, ann)).parsed()["followersCount"] == 0
    assert ann in place.wanted
    await place.counting.ask(ann)
    profile = (await place.views.profile(asker, ann)).parsed()
    assert (profile["followersCount"], profile["countsFrom"]) == (3, "constellation")


async def test_an_index_that_is_down_or_lies_changes_nothing_and_is_left_alone(place: Place) -> None:
    uri = await known(place)
    place.backlinks.faults.switch({"down": True})
    with pytest.raises(Unavailable):
        await place.counting.ask(uri)
    assert "countsFrom" not in await place.post(uri)
    task = asyncio.create_task(place.counting.run())
    try:
        place.counting.want([uri, uri])
        async with asyncio.timeout(60):
            while len(place.backlinks.asked) < 2:
                await asyncio.sleep(0.01)
        place.counting.want([uri])
        place.backlinks.faults.off()
        place.backlinks.faults.switch({"nonsense": True})
        await place.here.clock.advance(LATELY_S + 1)
        place.counting.want([uri])
        async with asyncio.timeout(60):
            while (await place.post(uri)).get("countsFrom") != "constellation":
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert len(place.backlinks.asked) == 3
    assert (await place.post(uri))["likeCount"] == 0


async def test_what_waits_is_bounded_and_the_newest_go_first(place: Place) -> None:
    place.counting.want(f"at://x/{number}" for number in range(WAITING_MAX + 10))
    waiting = list(place.counting._waiting)
    assert (len(waiting), waiting[-1]) == (WAITING_MAX, f"at://x/{WAITING_MAX + 9}")


async def test_where_all_is_counted_nothing_is_said(place: Place) -> None:
    post = await place.here.post("bob")
    body = (await place.here.views.posts(Asker(did=did("bob"), member=True), [post["uri"]])).parsed()
    assert "countsScope" not in body
    assert "countsFrom" not in body["posts"][0]


@pytest.mark.parametrize("body", [None, [], {"links": 5}, {"total": 3}])
def test_an_answer_that_is_none_is_refused(body: Any) -> None:
    with pytest.raises(BadInput):
        outside_counts.read(body, 1)


@pytest.mark.parametrize("number", [-1, 1.5, True, "7", None, 10**18])
def test_a_number_that_is_none_counts_as_nothing(number: Any) -> None:
    body = {"links": {"app.bsky.feed.like": {".subject.uri": {"distinct_dids": number}}}}
    assert outside_counts.read(body, 1).likes == 0
