"""The way through an archive: one generation a segment, no row too many, none too few."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance.backfill import archive_client
from appliance.backfill.archive_client import NewGeneration, Plan, Planned, Wanted
from appliance.backfill.archive_walk import Chosen, GaveUp, Resume, Rows, Tip, walk
from appliance.devnet.network import Network
from appliance.errors import BadInput, Refused
from appliance.outbound.client import Answer
from appliance.protocol.segments import Row
from tests.backfill.archive_rig import TOKEN, Parts, parts
from tests.devnet.devnets import small

POST = "app.bsky.feed.post"
PROFILE = "app.bsky.actor.profile"
ALL = Chosen(None, frozenset({POST.encode(), PROFILE.encode()}))


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with small(archive_token=TOKEN) as made:
        made.archive.segment_events, made.archive.block_events = 20, 4
        yield made


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncIterator[Parts]:
    async with parts(network, tmp_path) as made:
        yield made


def edits(network: Network, number: int = 6) -> str:
    """One account that changes its profile between posts; all of it sealed."""
    did = edits_unsealed(network, number)
    network.archive.seal(all_of_it=True)
    return did


def edits_unsealed(network: Network, number: int = 6) -> str:
    did = network.create_account("alice.test").did
    for turn in range(number):
        network.put(did, PROFILE, {"displayName": str(turn)}, "self")
        network.post(did, str(turn))
    return did


async def steps(here: Parts, wanted: Wanted, chosen: Chosen, resume: Resume = Resume()) -> list[Any]:  # noqa: B008
    return [step async for step in walk(here.client, wanted, chosen, resume, here.clock, random.Random(1))]


def rows_of(found: list[Any]) -> list[Row]:
    return [row for step in found if isinstance(step, Rows) for row in step.rows]


async def test_rows_come_once_each_in_the_order_of_their_numbers_up_to_the_tip(
    network: Network, here: Parts
) -> None:
    did = edits(network, 30)
    network.archive.page = 3
    tip = network.archive.seal()
    network.post(did, "after the plan")
    found = await steps(here, Wanted(), Chosen(None, frozenset({POST.encode()})))

    assert found[0] == Tip(tip)
    assert found[-1].seq == tip
    seqs = [row.seq for row in rows_of(found)]
    assert seqs == sorted(set(seqs))
    assert len(seqs) == 30


async def test_only_rows_of_the_wanted_accounts_and_collections_are_given_out(
    network: Network, here: Parts
) -> None:
    alice = edits(network)
    bob = network.create_account("bob.test").did
    for number in range(5):
        network.post(bob, str(number))
        network.post(alice, str(number))
    network.archive.seal(all_of_it=True)
    network.faults["archive"].switch({"promise_too_much": True})
    wanted = Wanted(kinds=("commit",), dids=(bob,), collections=(POST,))
    found = rows_of(await steps(here, wanted, Chosen(frozenset({bob.encode()}), frozenset({POST.encode()}))))

    assert network.faults["archive"].fired["promise"] > 0
    assert [(row.did, row.collection) for row in found] == [(bob, POST)] * 5


@pytest.mark.parametrize("by_blocks", [True, False], ids=["by blocks", "whole"])
async def test_a_segment_that_is_rewritten_during_its_download_is_given_out_in_one_generation(
    network: Network, here: Parts, by_blocks: bool
) -> None:
    network.archive.segment_events = 200
    other = network.create_account("other.test").did
    did = edits_unsealed(network)
    for number in range(40):
        network.post(other, str(number))
    network.archive.seal(all_of_it=True)
    # Of several blocks the third comes from the new file; a whole one changes before it is sent.
    network.faults["archive"].switch({"compact_after": 3 if by_blocks else 1})
    wanted = Wanted(kinds=("commit",), dids=(did,) if by_blocks else (), collections=(PROFILE, POST))
    plan = await here.client.plan(wanted, 0, None)
    assert [segment.mode for segment in plan.segments] == ["blocks" if by_blocks else "segment"]
    found = rows_of(await steps(here, wanted, ALL))

    assert network.faults["archive"].fired["compact"] == 1
    profiles = [row for row in found if row.collection == PROFILE and row.did == did]
    # The older versions went with the old generation, whose first blocks had been fetched already.
    assert [row.rkey for row in profiles] == ["self"]
    assert sum(row.collection == POST and row.did == did for row in found) == 6


async def test_a_segment_half_taken_before_is_taken_again_when_its_generation_is_another(
    network: Network, here: Parts
) -> None:
    edits(network)
    plan = await here.client.plan(Wanted(), 0, None)
    first = plan.segments[0]
    for checksum, known in ((first.checksum, 9), ("0" * 16, 0)):
        found = await steps(here, Wanted(), ALL, Resume(0, None, first.name, checksum, 9))
        told = {
            step.known_seq for step in found if isinstance(step, Rows) and step.planned.name == first.name
        }
        assert told == {known}


async def test_a_download_that_is_cut_goes_on_where_it_ended(network: Network, here: Parts) -> None:
    edits(network, 40)
    whole = len(rows_of(await steps(here, Wanted(), ALL)))
    network.faults["archive"].switch({"cut_every": 2})
    found = rows_of(await steps(here, Wanted(), ALL))

    assert len(found) == whole
    assert network.faults["archive"].fired["cut"] > 1
    assert network.archive.resumed == network.faults["archive"].fired["cut"]


async def test_a_flipped_byte_in_every_third_block_costs_only_those_blocks(
    network: Network, here: Parts
) -> None:
    did = edits(network)
    other = network.create_account("other.test").did
    for number in range(40):
        network.post(other, str(number))
        if number % 9 == 0:
            network.post(did, str(number))
    network.archive.seal(all_of_it=True)
    wanted = Wanted(kinds=("commit",), dids=(did,), collections=(POST,))
    expected = rows_of(await steps(here, wanted, ALL))
    network.faults["archive"].switch({"flip_every": 3})
    found = await steps(here, wanted, ALL)

    assert rows_of(found) == expected
    assert network.faults["archive"].fired["flip"] > 0


async def test_an_archive_that_is_away_is_given_up_after_five_cycles(
    network: Network, here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits(network)
    monkeypatch.setattr(archive_client, "PAUSE_S", 0.001)
    network.faults["archive"].switch({"fail_every": 1})

    with pytest.raises(GaveUp, match="503"):
        await steps(here, Wanted(), ALL)
    assert network.faults["archive"].fired["fail"] == 5


async def test_a_wrong_token_is_refused_at_once(network: Network, tmp_path: Path) -> None:
    edits(network)
    async with parts(network, tmp_path / "x", archive_token="wrong") as here:
        with pytest.raises(Refused):
            await steps(here, Wanted(), ALL)


class Scripted:
    """An archive whose every answer is given."""

    def __init__(self, *bodies: Any) -> None:
        self._bodies = list(bodies)
        self.asked: list[Any] = []

    async def post(self, url: str, **how: Any) -> Answer:
        self.asked.append(how)
        body = self._bodies.pop(0)
        return Answer(200, {}, body if isinstance(body, bytes) else orjson.dumps(body))

    async def get(self, url: str, **how: Any) -> Answer:
        return await self.post(url, **how)


SEGMENT = {
    "name": "seg_0000000000.jss",
    "index": 0,
    "checksum": "0123456789abcdef",
    "minSeq": 1,
    "maxSeq": 9,
    "mode": "segment",
}


def page(through: int, tip: int, *segments: dict[str, Any]) -> dict[str, Any]:
    return {"plannedThroughSeq": through, "sealedTipSeq": tip, "segments": list(segments), "stats": {}}


@pytest.mark.parametrize(
    "answer",
    [
        page(5, 9),
        page(3, 9),
        page(10, 9),
        page(12, 12),
        page(9, 9, SEGMENT | {"name": "../../etc/passwd"}),
        page(9, 9, SEGMENT | {"checksum": "0123"}),
        page(9, 9, SEGMENT | {"minSeq": 10}),
        page(9, 9, SEGMENT, SEGMENT),
        page(9, 9, SEGMENT | {"mode": "blocks", "blocks": [{"first": 3, "last": 2}]}),
        page(9, 9, SEGMENT | {"mode": "blocks", "blocks": [{"first": 0, "last": 10**9}]}),
        {"plannedThroughSeq": "9"},
        b"<html>",
        b"[" * 100_000,
    ],
)
async def test_a_plan_that_leads_nowhere_or_makes_no_sense_is_bad_input(
    here: Parts, tmp_path: Path, answer: Any
) -> None:
    client = archive_client.ArchiveClient(Scripted(answer), "http://a.test", "", tmp_path, here.clock)  # type: ignore[arg-type]

    with pytest.raises(BadInput):
        await client.plan(Wanted(), 5, 9)


async def test_a_plan_asks_for_what_is_wanted_and_sends_the_token(here: Parts, tmp_path: Path) -> None:
    network = Scripted(page(9, 9, SEGMENT))
    client = archive_client.ArchiveClient(network, "http://a.test", TOKEN, tmp_path, here.clock)  # type: ignore[arg-type]
    plan = await client.plan(Wanted(("commit",), ("did:plc:a",), (POST,)), 5, None)

    assert plan == Plan(9, 9, (Planned("seg_0000000000.jss", "0123456789abcdef", 1, 9, "segment"),))
    (asked,) = network.asked
    assert asked["json"] == {
        "kinds": ["commit"],
        "dids": ["did:plc:a"],
        "collections": [POST],
        "afterSeq": 5,
    }
    assert asked["headers"] == {"authorization": f"Bearer {TOKEN}"}


async def test_no_more_accounts_are_asked_for_than_a_plan_may_name(here: Parts) -> None:
    with pytest.raises(AssertionError):
        await here.client.plan(Wanted(dids=("did:plc:a",) * 10_001), 0, None)


async def test_a_block_without_the_planned_etag_is_of_another_generation(here: Parts, tmp_path: Path) -> None:
    client = archive_client.ArchiveClient(Scripted(b"frame"), "http://a.test", "", tmp_path, here.clock)  # type: ignore[arg-type]
    planned = Planned("seg_0000000000.jss", "0123456789abcdef", 1, 9, "blocks", ())

    with pytest.raises(NewGeneration):
        await client._block(planned, 0)
