"""The lies of devnet's streams: each fires, is counted, and is as the real ones are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from appliance.devnet.network import Network
from tests.devnet.devnets import read_json, small


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with small() as network:
        yield network


async def test_20_the_end_of_a_v1_replay_is_lost_for_that_reader_alone(net: Network) -> None:
    mara = net.create_account("mara.test").did
    for n in range(6):
        net.post(mara, f"post {n}")
    url = f"{net.info['jetstream_v1']}?cursor=0&wantedCollections=app.bsky.feed.post"
    net.faults["jetstream_v1"].switch({"race_events": 2})
    async with asyncio.timeout(10), websockets.connect(url, compression=None) as socket:
        told = [""]
        while told[-1] != "post 3":
            event = orjson.loads(await socket.recv())
            if event["kind"] == "commit":
                told.append(event["commit"]["record"]["text"])
        net.post(mara, "live")
        while told[-1] != "live":
            event = orjson.loads(await socket.recv())
            if event["kind"] == "commit":
                told.append(event["commit"]["record"]["text"])
    assert "post 5" not in told
    assert told[-1] == "live"
    assert net.faults["jetstream_v1"].fired["race"] >= 1
    net.faults["jetstream_v1"].off()
    again = await read_json(url, 9)
    assert "post 5" in [e["commit"]["record"]["text"] for e in again if e["kind"] == "commit"]


async def test_36_a_blind_host_tells_it_later(net: Network) -> None:
    mara, ben = net.create_account("mara.test").did, net.create_account("ben.test").did
    net.faults["jetstream_v2"].switch({"blind_dids": [mara]})
    net.post(mara, "hidden")
    net.post(ben, "shown")
    url = net.info["jetstream_v2"] + "?cursor=0&kinds=commit"
    (first,) = await read_json(url, 1)
    assert first["payload"]["did"] == ben
    assert net.faults["jetstream_v2"].fired["blind"] == 1
    net.faults["jetstream_v2"].off()
    (first,) = await read_json(url, 1)
    assert first["payload"]["did"] == mara


@pytest.mark.parametrize(("fault", "expected"), [("ignore_updates", set()), ("half_updates", {0})])
async def test_41_an_update_is_ignored_or_taken_by_half(net: Network, fault: str, expected: set[int]) -> None:
    people = sorted(net.create_account(f"p{n}.test").did for n in range(3))
    net.faults["jetstream_v1"].switch({fault: True})
    url = f"{net.info['jetstream_v1']}?requireHello=true"
    async with asyncio.timeout(10), websockets.connect(url, compression=None) as socket:

        async def update(dids: list[str]) -> None:
            payload = {"wantedDids": dids, "wantedCollections": ["app.bsky.feed.post"]}
            await socket.send(orjson.dumps({"type": "options_update", "payload": payload}).decode())

        await update([people[2]])
        first = asyncio.ensure_future(socket.recv())
        while not first.done():
            net.post(people[2], "first")
            await asyncio.sleep(0.02)
        await update(people[:2])
        while not net.faults["jetstream_v1"].fired["update"]:
            await asyncio.sleep(0.01)
        for did in people:
            net.post(did, "second")
        told = ""
        while told != (people[2] if not expected else people[0]):
            event = orjson.loads(await socket.recv())
            told = event["did"] if event["kind"] == "commit" else ""
            assert told in ("", people[2], people[0])
            assert expected or told in ("", people[2])
    assert told == (people[2] if not expected else people[0])


async def test_24_an_outbox_that_is_full_ends_the_connection_at_the_first_live_event(net: Network) -> None:
    mara = net.create_account("mara.test").did
    for n in range(5):
        net.post(mara, str(n))
    net.faults["jetstream_v1"].switch({"outbox_events": 5})
    url = f"{net.info['jetstream_v1']}?cursor=0"
    async with asyncio.timeout(10), websockets.connect(url, compression=None) as socket:
        text = ""
        while text != "4":
            event = orjson.loads(await socket.recv())
            text = event["commit"]["record"]["text"] if event["kind"] == "commit" else ""
        net.post(mara, "live")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert net.faults["jetstream_v1"].fired["outbox"] == 1


async def test_44_a_long_address_is_refused_before_the_upgrade(net: Network) -> None:
    net.faults["jetstream_v2"].switch({"url_max": 200})
    dids = "".join(f"&dids=did:plc:{n:024d}" for n in range(10))
    with pytest.raises(InvalidStatus) as refused:
        async with websockets.connect(f"{net.info['jetstream_v2']}?kinds=commit{dids}"):
            pass
    assert refused.value.response.status_code == 414
    assert net.faults["jetstream_v2"].fired["url"] == 1
