"""Devnet's archive of Jetstream v2: what its files hold, what its plans promise, every lie it can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from appliance.devnet.network import Network
from appliance.protocol import cbor, cid, segments
from appliance.protocol.segments import Row, Segment
from tests.devnet.devnets import client, read_json, small

POST = "app.bsky.feed.post"
LIKE = "app.bsky.feed.like"
TOKEN = "open-sesame-of-the-archive"


class Reader:
    """Plain calls at the archive's origin."""

    def __init__(self, http: httpx.AsyncClient, network: Network, token: str = TOKEN) -> None:
        self._http = http
        self._base = f"{network.info['archive']}/xrpc/network.bsky.jetstream."
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def plan(self, **asked: Any) -> Any:
        answer = await self._http.post(self._base + "planSnapshot", json=asked, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def get(self, call: str, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        return await self._http.get(self._base + call, params=params, headers=self._headers | (headers or {}))

    async def rows(self, plan: Any) -> list[Row]:
        """Everything that is planned, whole segments and blocks."""
        found: list[Row] = []
        for entry in plan["segments"]:
            if entry["mode"] == "segment":
                data = (await self.get("getSegment", name=entry["name"])).content
                segment = Segment(data)
                assert segment.checksum == entry["checksum"]
                for number in range(len(segment.blocks)):
                    found += segment.block(number).chosen()
                continue
            for part in entry["blocks"]:
                for number in range(part["first"], part["last"] + 1):
                    answer = await self.get("getBlock", segment=entry["name"], blockIndex=number)
                    assert answer.headers["etag"] == f'"{entry["checksum"]}:{number}"'
                    found += segments.decode_block(answer.content).chosen()
        return found


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with small(archive_token=TOKEN) as made:
        made.archive.segment_events, made.archive.block_events = 40, 5
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as made:
        yield made


def talk(network: Network, posts: int = 90) -> tuple[str, str]:
    """Two accounts, of which the second writes all but one post."""
    first = network.create_account("first.test")
    second = network.create_account("second.test", 1)
    network.post(first.did, "only this")
    for number in range(posts):
        network.post(second.did, str(number))
    return first.did, second.did


async def test_the_archive_holds_what_the_stream_tells_by_the_same_numbers(
    network: Network, http: httpx.AsyncClient
) -> None:
    first, second = talk(network)
    network.change_handle(first, "changed.test")
    network.deactivate(first)
    uri = network.post(second, "soon gone")
    network.delete(uri)
    network.resync(second)
    network.archive.seal(all_of_it=True)
    reader = Reader(http, network)
    rows = await reader.rows(await reader.plan())
    count = network.state.log.next_row - 1
    streamed = [
        message["payload"] for message in await read_json(network.info["jetstream_v2"] + "?cursor=0", count)
    ]

    assert [row.seq for row in rows] == [each["seq"] for each in streamed] == list(range(1, count + 1))
    kinds = {1: "create", 2: "update", 3: "delete", 7: "create"}
    for row, each in zip(rows, streamed, strict=True):
        assert row.did == each["did"]
        if row.kind in kinds:
            told = (each["operation"], each["collection"], each["rkey"], each["rev"])
            assert told == (kinds[row.kind], row.collection, row.rkey, row.rev)
            assert each.get("cid") == (cid.to_text(cid.cid_of(row.payload)) if row.payload else None)
        else:
            body = cbor.decode(row.payload)
            assert isinstance(body, dict)
            marker = {4: "identity", 5: "account", 6: "sync"}[row.kind]
            assert (body["did"], body["seq"]) == (row.did, each[marker]["seq"])
    assert {row.kind for row in rows} == set(range(1, 8)) - {2}


async def test_a_plan_names_blocks_for_few_and_whole_segments_for_much(
    network: Network, http: httpx.AsyncClient
) -> None:
    first, second = talk(network)
    network.archive.seal(all_of_it=True)
    reader = Reader(http, network)
    few = await reader.plan(dids=[first], kinds=["commit"], collections=[POST])
    much = await reader.plan(dids=[second], kinds=["commit"])

    assert [entry["mode"] for entry in few["segments"]] == ["blocks"]
    assert [row.did for row in await reader.rows(few) if row.collection == POST].count(first) == 1
    assert "segment" in [entry["mode"] for entry in much["segments"]]
    mine = [row for row in await reader.rows(much) if row.did == second and row.collection == POST]
    assert len(mine) == 90
    assert (await reader.plan(dids=[first], kinds=["commit"], collections=["app.bsky.graph.*"]))[
        "segments"
    ] == []


async def test_a_plan_comes_in_pages_that_reach_the_tip(network: Network, http: httpx.AsyncClient) -> None:
    talk(network)
    network.archive.seal(all_of_it=True)
    network.archive.page = 1
    reader = Reader(http, network)
    seen: list[int] = []
    after, tip, pages = 0, None, 0
    while tip is None or after < tip:
        page = await reader.plan(afterSeq=after, **({} if tip is None else {"beforeSeq": tip}))
        tip = tip or page["sealedTipSeq"]
        seen += [row.seq for row in await reader.rows(page)]
        assert page["plannedThroughSeq"] > after
        after = page["plannedThroughSeq"]
        pages += 1

    assert pages > 2
    assert seen == list(range(1, network.state.log.next_row))


async def test_compaction_makes_a_new_generation_whose_blocks_keep_their_numbers(
    network: Network, http: httpx.AsyncClient
) -> None:
    first, _ = talk(network, 30)
    uri = network.put(first, "app.bsky.actor.profile", {"displayName": "one"}, "self")
    for name in ("two", "three"):
        network.put(first, "app.bsky.actor.profile", {"displayName": name}, "self")
    network.delete(network.post(first, "soon gone"))
    network.archive.seal(all_of_it=True)
    reader = Reader(http, network)
    before = (await reader.get("listSegments")).json()["segments"]

    assert network.archive.compact() == 3

    after = (await reader.get("listSegments")).json()["segments"]
    assert [each["name"] for each in before] == [each["name"] for each in after]
    assert all(old["checksum"] != new["checksum"] for old, new in zip(before, after, strict=True))
    rows = await reader.rows(await reader.plan())
    profiles = [row for row in rows if row.rkey == "self" and row.did == first]
    assert [cbor.decode(row.payload) for row in profiles] == [network.record(uri)]
    assert sum(row.kind == segments.DELETE for row in rows) == 1


async def test_a_segment_is_given_by_ranges_of_one_generation(
    network: Network, http: httpx.AsyncClient
) -> None:
    talk(network)
    reader = Reader(http, network)
    entry = (await reader.plan())["segments"][0]
    whole = await reader.get("getSegment", name=entry["name"])
    etag = whole.headers["etag"]
    rest = await reader.get("getSegment", {"range": "bytes=100-", "if-range": etag}, name=entry["name"])
    other = await reader.get(
        "getSegment", {"range": "bytes=100-", "if-range": '"0123456789abcdef"'}, name=entry["name"]
    )

    assert etag == f'"{entry["checksum"]}"'
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
    assert (other.status_code, other.content) == (200, whole.content)


async def test_without_its_token_the_archive_gives_nothing_but_its_list(
    network: Network, http: httpx.AsyncClient
) -> None:
    talk(network)
    network.archive.seal()
    stranger = Reader(http, network, token="")
    url = f"{network.info['archive']}/xrpc/network.bsky.jetstream.planSnapshot"

    assert (await stranger.get("listSegments")).status_code == 200
    for wrong in ({}, {"authorization": "Bearer something else"}):
        assert (await http.post(url, json={}, headers=wrong)).status_code == 401
    for call, params in (
        ("getSegment", {"name": "seg_0000000000.jss"}),
        ("getBlock", {"segment": "seg_0000000000.jss", "blockIndex": 0}),
    ):
        assert (await stranger.get(call, **params)).status_code == 401


async def test_what_is_not_there_has_names_of_its_own(network: Network, http: httpx.AsyncClient) -> None:
    talk(network)
    network.archive.seal()
    reader = Reader(http, network)
    name = "seg_0000000000.jss"

    no_segment = await reader.get("getSegment", name="seg_zzzzzzzzzz.jss")
    no_block = await reader.get("getBlock", segment=name, blockIndex=10_000)
    assert (no_segment.status_code, no_segment.json()["error"]) == (404, "SegmentNotFound")
    assert (no_block.status_code, no_block.json()["error"]) == (404, "BlockNotFound")
    network.faults["archive"].switch({"lose": [name]})
    assert (await reader.get("getSegment", name=name)).json()["error"] == "SegmentNotFound"
    assert network.faults["archive"].fired["lose"] == 1


async def test_every_lie_of_the_archive_fires(network: Network, http: httpx.AsyncClient) -> None:
    first, _ = talk(network)
    faults = network.faults["archive"]
    reader = Reader(http, network)
    planned = (await reader.plan())["segments"][0]
    name = planned["name"]
    good = (await reader.get("getSegment", name=name)).content

    faults.switch({"flip_every": 1})
    flipped = (await reader.get("getSegment", name=name)).content
    assert sum(a != b for a, b in zip(flipped, good, strict=True)) == 1
    faults.switch({"flip_every": 0, "cut_every": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await reader.get("getSegment", name=name)
    faults.switch({"cut_every": 0, "limit_every": 1})
    limited = await reader.get("getSegment", name=name)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "0.2")
    faults.switch({"limit_every": 0, "fail_every": 1})
    assert (await reader.get("getSegment", name=name)).status_code == 503
    faults.switch({"fail_every": 0, "compact_after": 1})
    rewritten = await reader.get("getSegment", name=name)
    assert rewritten.headers["etag"] != f'"{planned["checksum"]}"'
    faults.switch({"promise_too_much": True})
    promised = await reader.plan(dids=[first], kinds=["commit"], collections=[LIKE])
    assert promised["segments"] != []
    faults.switch({"promise_too_much": False, "stand_still": True})
    assert (await reader.plan())["plannedThroughSeq"] == 0
    faults.off()
    assert (await reader.plan())["plannedThroughSeq"] > 0
    assert faults.fired.keys() == {"flip", "cut", "limit", "fail", "compact", "promise", "stand-still"}
    await asyncio.sleep(0)
