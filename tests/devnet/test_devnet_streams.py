import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from appliance.devnet.log import RELAY_SEQ_BASE
from appliance.devnet.network import Network
from appliance.devnet.repository import Change
from appliance.protocol import cbor, cid, dictionaries, firehose
from appliance.protocol.events import CommitEvent
from tests.devnet.devnets import client, read_frames, read_json, read_raw, repos_url, small, unpack

V2 = "network.bsky.jetstream.subscribeEvents#"


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with small() as network:
        yield network


def some_life(net: Network) -> tuple[str, str]:
    """Two accounts, eleven rows of commits, two of them in one commit."""
    mara, ben = net.create_account("mara.test").did, net.create_account("ben.test", 1).did
    first = net.post(mara, "first")
    net.like(ben, first)
    net.follow(ben, mara)
    net.repost(ben, first)
    answer = net.reply(ben, "hello", first)
    net.put(mara, "app.bsky.actor.profile", {"displayName": "Mara"}, "self")
    net.put(mara, "app.bsky.actor.profile", {"displayName": "Mara L."}, "self")
    net.delete(answer)
    net.change_handle(mara, "mara-l.test")
    net.deactivate(ben)
    return mara, ben


def rows_of(net: Network) -> int:
    return net.state.log.next_row - 1


def operation(message: dict[str, Any]) -> tuple[Any, ...]:
    body = message.get("commit") or message
    return (
        message["did"],
        body["rev"],
        body["operation"],
        body["collection"],
        body["rkey"],
        body.get("cid"),
        orjson.dumps(body["record"], option=orjson.OPT_SORT_KEYS) if "record" in body else None,
    )


async def test_the_three_streams_tell_the_same_operations_in_the_same_order(net: Network) -> None:
    some_life(net)
    events = net.state.log.end - 1

    frames = await read_frames(repos_url(net.info["relay"], 0), events)
    v2 = await read_json(f"{net.info['jetstream_v2']}?cursor=0", rows_of(net))
    v1_rows = sum(m["payload"]["$type"] != f"{V2}sync" for m in v2)
    v1 = await read_json(f"{net.info['jetstream_v1']}?cursor=0", v1_rows)

    from_relay = []
    for frame in frames:
        for event in firehose.events(frame):
            if isinstance(event, CommitEvent):
                record = None if event.record is None else orjson.loads(event.record)
                text = None if record is None else orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
                key = (event.did, event.rev, event.operation, event.collection, event.rkey, event.cid, text)
                from_relay.append(key)
    from_v2 = [operation(m["payload"]) for m in v2 if m["payload"]["$type"] == f"{V2}commit"]
    from_v1 = [operation(m) for m in v1 if m["kind"] == "commit"]
    assert len(from_relay) == 8
    assert from_relay == from_v2 == from_v1
    assert [f.kind for f in frames[:4]] == ["#identity", "#account", "#commit", "#sync"]
    assert [m["kind"] for m in v1[-2:]] == ["identity", "account"]
    assert v1[-1]["account"]["status"] == "deactivated"


async def test_each_stream_counts_in_its_own_way(net: Network) -> None:
    some_life(net)
    events = net.state.log.end - 1

    relay = await read_frames(repos_url(net.info["relay"], 0), events)
    v1 = await read_json(f"{net.info['jetstream_v1']}?cursor=0", 5)
    v2 = await read_json(f"{net.info['jetstream_v2']}?cursor=0", rows_of(net))
    mine = await read_frames(repos_url(net.info["pds"][1], 0), len(net.state.log.of_pds(1)))

    assert [f.seq for f in relay] == [RELAY_SEQ_BASE + i for i in range(1, events + 1)]
    times = [m["time_us"] for m in v1]
    assert times == sorted(set(times))
    assert [m["payload"]["seq"] for m in v2] == list(range(1, rows_of(net) + 1))
    assert [f.seq for f in mine] == list(range(1, len(mine) + 1))
    assert {f.did for f in mine} == {net.account("ben.test").did}


async def test_operations_of_one_commit_share_their_time_on_v2_and_not_on_v1(net: Network) -> None:
    did = net.create_account("mara.test").did
    path = "app.bsky.feed.post/"
    block = cbor.encode({"$type": "app.bsky.feed.post", "text": "x", "createdAt": "2026-01-01T00:00:00Z"})
    start = net.state.log.next_row
    net.state.write(did, [Change(path + net.state.tid(0), block) for _ in range(3)])

    v2 = await read_json(f"{net.info['jetstream_v2']}?cursor={start}", 3)
    v1 = (await read_json(f"{net.info['jetstream_v1']}?cursor=0", 5))[2:]

    assert len({m["payload"]["time"] for m in v2}) == 1
    assert [b["time_us"] - a["time_us"] for a, b in itertools.pairwise(v1)] == [1, 1]


async def test_cursors_resume_where_each_wire_says(net: Network) -> None:
    some_life(net)
    last = net.state.log.end - 1
    v1 = await read_json(f"{net.info['jetstream_v1']}?cursor=0", 6)

    again = await read_json(f"{net.info['jetstream_v1']}?cursor={v1[3]['time_us']}", 1)
    relay = await read_frames(repos_url(net.info["relay"], RELAY_SEQ_BASE + last - 1), 1)
    v2 = await read_json(f"{net.info['jetstream_v2']}?cursor=5", 1)
    by_time = await read_json(f"{net.info['jetstream_v2']}?cursor={v1[3]['time_us']}", 1)

    assert again == [v1[3]]
    assert relay[0].seq == RELAY_SEQ_BASE + last
    assert v2[0]["payload"]["seq"] == 5
    assert by_time[0]["payload"]["did"] == v1[3]["did"]


async def test_a_reader_without_a_cursor_gets_only_what_is_new(net: Network) -> None:
    mara, _ = some_life(net)
    async with (
        websockets.connect(repos_url(net.info["relay"])) as relay,
        websockets.connect(net.info["jetstream_v1"]) as v1,
        websockets.connect(net.info["jetstream_v2"]) as v2,
        websockets.connect(f"{net.info['jetstream_v1']}?cursor={2 * 10**15}") as future,
    ):
        uri = net.post(mara, "live")

        async with asyncio.timeout(5):
            frame = firehose.decode_frame(bytes(await relay.recv(decode=False)))
            lines = [orjson.loads(await socket.recv()) for socket in (v1, v2, future)]

    rkey = uri.rpartition("/")[2]
    assert frame.body["ops"][0]["path"].endswith(rkey)
    assert lines[0]["commit"]["rkey"] == lines[1]["payload"]["rkey"] == lines[2]["commit"]["rkey"] == rkey


async def test_repository_streams_announce_cursors_outside_their_window(net: Network) -> None:
    some_life(net)
    net.faults["relay"].switch({"keep_events": 2})
    net.faults["pds0/stream"].switch({"keep_events": 2})

    old = await read_frames(repos_url(net.info["relay"], 1), 3)
    old_pds = await read_frames(repos_url(net.info["pds"][0], 1), 2)
    future = await read_frames(repos_url(net.info["relay"], RELAY_SEQ_BASE + 9999), 1)
    future_pds = await read_frames(repos_url(net.info["pds"][0], 9999), 1)

    assert (old[0].kind, old[0].body["name"]) == ("#info", "OutdatedCursor")
    assert old[1].seq == RELAY_SEQ_BASE + net.state.log.end - 2
    assert old_pds[0].kind == "#info"
    for frame in (*future, *future_pds):
        assert (frame.kind, frame.body["error"]) == ("error", "FutureCursor")


async def test_v1_clamps_in_silence(net: Network) -> None:
    some_life(net)
    net.faults["jetstream_v1"].switch({"keep_events": 2})

    lines = await read_json(f"{net.info['jetstream_v1']}?cursor=1", 2)

    assert [line["kind"] for line in lines] == ["identity", "account"]
    assert net.faults["jetstream_v1"].fired["clamp"] == 1


async def test_v2_refuses_an_old_seq_before_the_upgrade_and_tells_of_an_old_time(net: Network) -> None:
    some_life(net)
    net.faults["jetstream_v2"].switch({"keep_events": 2})
    floor = net.state.log.row_of(net.state.log.end - 2)

    status, body = await refusal(f"{net.info['jetstream_v2']}?cursor={floor - 1}")
    by_time = await read_json(f"{net.info['jetstream_v2']}?cursor={10**15}", 2)
    at_floor = await read_json(f"{net.info['jetstream_v2']}?cursor={floor}", 1)

    assert (status, body["error"]) == (400, "CursorTooOld")
    assert str(floor) in body["message"]
    assert by_time[0]["payload"]["$type"] == f"{V2}info"
    assert by_time[0]["payload"]["name"] == "OutdatedCursor"
    assert by_time[1]["payload"]["seq"] == at_floor[0]["payload"]["seq"] == floor


@pytest.mark.parametrize(
    "query",
    [
        "wantedDids=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
        "compress=true",
        "kinds=nonsense",
        "kinds=identity&collections=app.bsky.feed.post",
        "dids=nobody",
        "cursor=-1",
        "maxMessageSizeBytes=x",
    ],
)
async def test_v2_refuses_wrong_parameters(net: Network, query: str) -> None:
    status, body = await refusal(f"{net.info['jetstream_v2']}?{query}")

    assert (status, body["error"]) == (400, "InvalidRequest")


async def test_v2_speaks_its_subprotocol_and_takes_no_messages(net: Network) -> None:
    async with websockets.connect(net.info["jetstream_v2"], subprotocols=["xrpc.v1.json"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "xrpc.v1.json"
        await socket.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_filters_let_through_what_was_asked_for(net: Network) -> None:
    mara, ben = some_life(net)

    v1 = await read_json(
        f"{net.info['jetstream_v1']}?cursor=0&wantedCollections=app.bsky.graph.*&wantedDids={ben}", 3
    )
    v2 = await read_json(
        f"{net.info['jetstream_v2']}?cursor=0&kinds=commit&dids={mara}&collections=app.bsky.actor.*", 2
    )

    assert [m["kind"] for m in v1] == ["identity", "account", "commit"]
    assert v1[2]["commit"]["collection"] == "app.bsky.graph.follow"
    assert [m["payload"]["operation"] for m in v2] == ["create", "update"]


async def test_v1_sends_nothing_before_hello_and_changes_its_filter_on_the_way(net: Network) -> None:
    mara, ben = some_life(net)
    net.activate(ben)
    async with websockets.connect(f"{net.info['jetstream_v1']}?requireHello=true&cursor=0") as socket:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.1)
        await socket.send(update([mara]))
        async with asyncio.timeout(5):
            seen = [orjson.loads(await socket.recv()) for _ in range(3)]
            await socket.send(update([ben]))
            # The update has no answer: it counts for some later event.
            while seen[-1]["did"] != ben:
                net.post(ben, "for you")
                with contextlib.suppress(TimeoutError):
                    seen.append(orjson.loads(await asyncio.wait_for(socket.recv(), 0.05)))

    assert {line["did"] for line in seen[:-1]} == {mara}


async def test_v1_closes_on_a_malformed_update(net: Network) -> None:
    async with websockets.connect(f"{net.info['jetstream_v1']}?requireHello=true") as socket:
        await socket.send(update(["not a did"]))
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 5)

    assert closed.value.rcvd is not None
    assert "invalid DID" in closed.value.rcvd.reason


async def test_compressed_frames_hold_the_same_messages(net: Network) -> None:
    some_life(net)
    plain = await read_json(f"{net.info['jetstream_v1']}?cursor=0", 5)
    plain2 = await read_json(f"{net.info['jetstream_v2']}?cursor=0", 5)
    number, current = dictionaries.current()

    packed = await read_raw(f"{net.info['jetstream_v1']}?cursor=0&compress=true", 5)
    packed2 = await read_raw(f"{net.info['jetstream_v2']}?cursor=0&zstdDictionary={number}", 5)

    assert [unpack(frame, dictionaries.legacy()) for frame in packed] == plain
    assert [unpack(frame, current) for frame in packed2] == plain2


async def test_v2_hands_out_its_dictionary_and_refuses_another(net: Network) -> None:
    origin = net.info["jetstream_v2"].replace("ws", "http", 1).partition("/xrpc/")[0]
    path = "/xrpc/network.bsky.jetstream.getZstdDictionary"
    number, current = dictionaries.current()
    async with client() as http:
        answer = await http.get(f"{origin}{path}")
        stale = await http.get(f"{origin}{path}", params={"id": "7"})

    status, body = await refusal(f"{net.info['jetstream_v2']}?zstdDictionary=7")

    assert (answer.content, answer.headers["x-zstd-dictionary-id"]) == (current, str(number))
    assert stale.json()["error"] == body["error"] == "UnknownZstdDictionary"
    assert status == 400
    assert str(number) in body["message"]


async def test_a_resync_is_told_with_its_records_on_v2_alone(net: Network) -> None:
    did = net.create_account("mara.test").did
    net.post(did, "one")
    net.post(did, "two")
    start, numbered = net.state.log.next_row, net.state.log.end

    net.resync(did)
    net.post(did, "three")

    v2 = [m["payload"] for m in await read_json(f"{net.info['jetstream_v2']}?cursor={start}", 4)]
    v1 = await read_json(f"{net.info['jetstream_v1']}?cursor={net.state.log.time_of(numbered)}", 1)
    assert [m["$type"].removeprefix(V2) for m in v2] == ["sync", "commit", "commit", "commit"]
    assert v2[0]["sync"]["rev"] == v2[1]["rev"] == v2[2]["rev"] != v2[3]["rev"]
    assert v1[0]["commit"]["record"]["text"] == "three"


async def test_a_relay_answers_what_relays_answer(net: Network) -> None:
    mara, ben = some_life(net)
    origin = net.info["relay"].replace("ws", "http", 1)
    async with httpx.AsyncClient(base_url=f"{origin}/xrpc/") as http:
        status = (await http.get("com.atproto.sync.getRepoStatus", params={"did": ben})).json()
        repos = (await http.get("com.atproto.sync.listRepos", params={"limit": 1})).json()
        latest = (await http.get("com.atproto.sync.getLatestCommit", params={"did": mara})).json()
        repo = await http.get("com.atproto.sync.getRepo", params={"did": mara})

    repository = net.state.repository(mara)
    assert status == {"did": ben, "active": False, "status": "deactivated"}
    assert (repos["repos"][0]["did"], repos["cursor"]) == (mara, "1")
    assert latest == {"cid": cid.to_text(repository.commit), "rev": repository.rev}
    assert repo.status_code == 302
    assert repo.headers["location"].startswith(net.info["pds"][0])


# ---- faults


async def test_a_connection_is_cut_after_so_many_messages_and_nothing_is_lost_by_it(net: Network) -> None:
    did = net.create_account("mara.test").did
    uris = [net.post(did, f"post {i}") for i in range(20)]
    net.faults["jetstream_v2"].switch({"cut_every": 7})
    seen: dict[int, Any] = {}
    said: list[object] = []

    async with asyncio.timeout(10):
        while len(seen) < rows_of(net):
            url = f"{net.info['jetstream_v2']}?cursor={max(seen, default=0) + 1}"
            async with websockets.connect(url) as socket:
                try:
                    while len(seen) < rows_of(net):
                        message = orjson.loads(await socket.recv())["payload"]
                        seen[message["seq"]] = message
                except ConnectionClosed as closed:
                    said.append(closed.rcvd)

    assert set(said) == {None}, "cut without a word"
    posts = [m["rkey"] for m in seen.values() if m.get("collection") == "app.bsky.feed.post"]
    assert posts == [uri.rpartition("/")[2] for uri in uris]
    assert net.faults["jetstream_v2"].fired["cut"] >= 3


async def test_a_swallowed_event_stays_swallowed_and_stands_in_the_ledger(net: Network) -> None:
    did = net.create_account("mara.test").did
    net.post(did, "before")
    lost = net.state.log.end
    net.faults["jetstream_v1"].switch({"swallow_between": [lost, lost]})
    uri = net.post(did, "never told")
    net.post(did, "after")

    for _ in range(2):
        url = f"{net.info['jetstream_v1']}?cursor=0&wantedCollections=app.bsky.feed.post"
        lines = await read_json(url, 4)
        assert [line["commit"]["record"]["text"] for line in lines if "commit" in line] == ["before", "after"]
    frames = await read_frames(repos_url(net.info["relay"], RELAY_SEQ_BASE + lost - 1), 1)

    assert frames[0].body["ops"][0]["path"] == uri.partition(did)[2][1:]
    lies = [lie for lie in net.faults["jetstream_v1"].ledger if lie.fault == "swallow"]
    assert [(lie.did, lie.detail) for lie in lies] == [(did, "app.bsky.feed.post")] * 2


async def test_messages_are_told_twice_late_or_not_at_all_on_request(net: Network) -> None:
    did = net.create_account("mara.test").did
    faults = net.faults["jetstream_v2"]
    faults.switch({"duplicate_every": 2, "delay_s": 0.01})
    first = [m["payload"]["seq"] for m in await read_json(f"{net.info['jetstream_v2']}?cursor=1", 4)]
    faults.off()
    faults.switch({"mute": True})
    async with websockets.connect(net.info["jetstream_v2"]) as socket:
        net.post(did, "unheard")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.2)
        faults.off()
        heard = orjson.loads(await asyncio.wait_for(socket.recv(), 5))

    assert first == [1, 2, 2, 3]
    assert heard["payload"]["record"]["text"] == "unheard"
    assert faults.fired["duplicate"] == 1
    assert faults.fired["delay"] >= 3
    assert faults.fired["mute"] >= 1


async def test_faults_and_commands_are_reached_over_http(net: Network) -> None:
    async with httpx.AsyncClient(base_url=net.info["control"]) as http:
        made = (await http.post("/call", json={"method": "create_account", "args": ["mara.test"]})).json()
        did = made["result"]["did"]
        await http.post("/call", json={"method": "post", "args": [did, "hello"]})
        await http.post("/faults", json={"of": "relay", "swallow_every": 1})
        wrong = await http.post("/faults", json={"of": "relay", "nonsense": 1})
        await http.post("/faults", json={"of": "relay", "off": True, "delay_s": 0.0})
        timeline = (await http.get("/timeline", params={"did": did})).json()
        report = (await http.get("/faults")).json()

    assert [row["kind"] for row in timeline["rows"]] == ["post"]
    assert wrong.status_code == 400
    assert set(report) >= {"relay", "jetstream_v1", "jetstream_v2", "pds0", "pds1"}


@pytest.mark.parametrize("stream", ["relay", "jetstream_v1", "jetstream_v2"])
async def test_a_stream_keeps_up_with_two_thousand_events_a_second(net: Network, stream: str) -> None:
    did = net.create_account("mara.test").did
    for i in range(2000):
        net.post(did, f"post number {i}")
    url = repos_url(net.info["relay"], 0) if stream == "relay" else f"{net.info[stream]}?cursor=0"

    # Of the processor, not of the wall: the machine may be busy with something else.
    began = time.process_time()
    await read_raw(url, 2000)

    assert 2000 / (time.process_time() - began) > 2000


def update(dids: list[str]) -> str:
    return orjson.dumps({"type": "options_update", "payload": {"wantedDids": dids}}).decode()


async def refusal(url: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        async with websockets.connect(url):
            pass
    response = refused.value.response
    return response.status_code, orjson.loads(response.body or b"{}")
