import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image

from appliance.clock import ManualClock
from appliance.devnet import truth
from appliance.devnet.network import Network, run
from appliance.devnet.options import Options
from appliance.devnet.seeding import DONE, PICTURES
from appliance.protocol import cbor, lexicons
from tests.devnet.devnets import caller, client, read_json, small

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
ROOT = Path(__file__).parents[2]


def world(data: Path | None = None, **fields: Any) -> Network:
    """A seeded world that stands still."""
    return Network(Options(**({"accounts": 24, "posts": 25, "rate": 0, "data": data} | fields)))


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with world() as network:
        yield network


def all_records(net: Network, collection: str = "") -> Iterator[tuple[str, str, Any]]:
    for account in net.state.accounts.values():
        for path, block in net.state.repository(account.did).records():
            if path.startswith(collection):
                yield account.did, path, cbor.decode(block)


async def test_every_record_of_the_world_is_valid_for_its_lexicon(net: Network) -> None:
    for _ in range(600):
        net.world.act()
    seen = 0
    for account in net.state.accounts.values():
        for path, block in net.state.repository(account.did).records():
            collection, _, rkey = path.partition("/")
            assert lexicons.validate_record(collection, cbor.to_json(block), rkey=rkey) is None
            seen += 1

    assert seen > 2000
    assert {"post", "reply", "like", "repost", "follow", "delete"} <= set(net.world.done)


async def test_the_world_has_what_a_timeline_has_to_show(net: Network) -> None:
    posts = [value for _, _, value in all_records(net, POST)]
    embeds = {post["embed"]["$type"].rpartition(".")[2] for post in posts if "embed" in post}
    languages = {language for post in posts for language in post["langs"]}
    profiles = [value for _, _, value in all_records(net, "app.bsky.actor.profile")]
    texts = [post["text"] for post in posts]

    assert embeds >= {"images", "external", "record"}
    assert len(languages) >= 2
    assert any("reply" in post for post in posts)
    assert any("pinnedPost" in profile for profile in profiles)
    assert sum("avatar" in profile for profile in profiles) > 20
    assert len(set(texts)) > len(texts) * 0.6
    assert all(0 < len(text) <= 300 for text in texts)
    first = net.info["members"][0]["did"]
    follows = sum(1 for did, _, _ in all_records(net, "app.bsky.graph.follow") if did == first)
    assert follows > 20


async def test_facets_cover_exactly_the_bytes_of_their_words(net: Network) -> None:
    kinds = set()
    for _, _, post in all_records(net, POST):
        for facet in post.get("facets", ()):
            index, feature = facet["index"], facet["features"][0]
            words = post["text"].encode()[index["byteStart"] : index["byteEnd"]].decode()
            kind = feature["$type"].rpartition("#")[2]
            kinds.add(kind)
            if kind == "tag":
                assert words == f"#{feature['tag']}"
            elif kind == "mention":
                assert words == f"@{net.account(feature['did']).handle}"
            else:
                host, _, slug = words.rstrip("…").partition("/")
                assert feature["uri"].startswith(f"https://{host}/")
                assert feature["uri"].rpartition("/")[2].startswith(slug)
    assert kinds == {"tag", "mention", "link"}


async def test_pictures_are_real_and_say_their_size(net: Network) -> None:
    looked_at = 0
    async with client() as http:
        for did, _, post in all_records(net, POST):
            for image in post.get("embed", {}).get("images", ())[:1]:
                query = {
                    "did": did,
                    "cid": orjson.loads(cbor.to_json(cbor.encode(image)))["image"]["ref"]["$link"],
                }
                origin = net.state.origin(net.account(did).pds)
                answer = await http.get(f"{origin}/xrpc/com.atproto.sync.getBlob", params=query)
                if answer.status_code == 400:
                    assert not net.account(did).active
                    continue
                path = Path(net.state.journal.path).parent / "blobs" / query["cid"]
                with Image.open(path) as picture:
                    assert picture.size == tuple(image["aspectRatio"][k] for k in ("width", "height"))
                assert answer.content == path.read_bytes()
                assert image["alt"]
                looked_at += 1
                if looked_at == 5:
                    return
    raise AssertionError("no pictures")


async def test_every_picture_of_the_pool_can_be_shown_also_one_that_nobody_has_shown_yet() -> None:
    # So few posts that most of the pool is shown by nobody at first.
    async with world(accounts=12, posts=1) as net:
        pool = orjson.loads(net.state.notes[PICTURES])
        shown = {name for account in net.state.accounts.values() for name in account.blobs}

        assert {each["data"] for each in pool} - shown
        for each in pool:
            with Image.open(io.BytesIO(net.state.blob_bytes(each["data"]))) as picture:
                assert picture.size == (each["width"], each["height"])


async def test_the_same_seed_makes_the_same_people_say_the_same(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        async with world(clock=ManualClock(), accounts=12, posts=10) as net:
            for _ in range(50):
                net.world.act()
            posts = (value["text"] + value["createdAt"] for _, _, value in all_records(net, POST))
            said.append(([account.handle for account in net.state.accounts.values()], sorted(posts)))
    async with world(clock=ManualClock(), accounts=12, posts=10, seed=2) as net:
        other = sorted(value["text"] + value["createdAt"] for _, _, value in all_records(net, POST))

    assert said[0] == said[1]
    assert said[0][1] != other


async def test_the_world_goes_on_living_at_its_pace() -> None:
    async with world(accounts=12, posts=10, rate=200) as net:
        messages = await read_json(net.info["jetstream_v2"], 60)

    assert len({message["payload"]["did"] for message in messages}) > 4
    members = {member["did"] for member in net.info["members"]}
    assert not members & {message["payload"]["did"] for message in messages}


# ---- truth


@pytest.mark.invariant("truth-is-the-repositories")
async def test_the_truth_from_outside_is_the_truth_from_inside() -> None:
    reasons = set()
    # By a clock of its own: what happens hangs on the time, too.
    async with world(clock=ManualClock()) as net:
        for _ in range(300):
            net.world.act()
        outside = await truth.from_network(net.info)

        for member in net.info["members"]:
            inside, seen = net.timeline(member["did"]), outside.timeline(member["did"])
            assert set(inside.rows) == set(seen.rows)
            assert set(inside.dropped) == set(seen.dropped)
            assert len(inside.rows) > 50
            reasons |= {dropped.reason for dropped in inside.dropped}
    assert reasons >= {"subject-gone", "duplicate-repost"}


async def test_a_timeline_has_posts_and_reposts_and_names_what_it_drops() -> None:
    async with small() as net:
        mara, ben, ida, olga = (net.create_account(f"{n}.test", i % 2).did for i, n in enumerate("mbio"))
        for other in (ben, ida):
            net.follow(mara, other)
        mine, bens, olgas = net.post(mara, "mine"), net.post(ben, "ben's"), net.post(olga, "olga's")
        idas = net.post(ida, "ida's")
        gone = net.post(olga, "gone soon")
        broken = net.put(ben, POST, {"text": 5})
        of_broken = net.repost(mara, broken)
        shown, twice, lost = net.repost(ben, olgas), net.repost(ben, olgas), net.repost(ben, gone)
        self_repost = net.repost(mara, mine)
        net.delete(gone)
        net.deactivate(ida)

        timeline = net.timeline(mara)

        assert {row.uri for row in timeline.rows} == {mine, bens, shown, self_repost}
        assert {(each.uri, each.reason) for each in timeline.dropped} == {
            (twice, "duplicate-repost"),
            (lost, "subject-gone"),
            (broken, "invalid"),
            (of_broken, "subject-gone"),
        }
        assert not timeline.compare([mine, bens, twice, self_repost])
        wrong = timeline.compare([mine, bens, shown, twice, idas, mine])
        assert wrong.missing == (self_repost,)
        assert set(wrong.extra) == {twice, idas}
        assert wrong.twice == (mine,)

        net.deactivate(olga)
        assert {(each.uri, each.reason) for each in net.timeline(mara).dropped} >= {
            (shown, "subject-inactive"),
            (lost, "subject-inactive"),
        }
        net.put(ben, "app.bsky.graph.block", {"subject": mara, "createdAt": "2026-01-01T00:00:00Z"})
        assert {row.uri for row in net.timeline(mara).rows} == {mine, self_repost}


# ---- keeping


async def test_a_restart_keeps_accounts_repositories_sessions_and_positions(tmp_path: Path) -> None:
    async with world(tmp_path, accounts=12, posts=10) as net, client() as http:
        did = net.info["members"][0]["did"]
        for _ in range(50):
            net.world.act()
        net.migrate(did, 2)
        uri = net.post(did, "kept")
        session = await caller(http, net, 2).sign_in(net.account(did).handle, net.account(did).entry.password)
        info, end, rows = net.info, net.state.log.end, net.state.log.next_row
        before = {key: account.repository.export() for key, account in accounts(net)}
        told = await read_json(f"{info['jetstream_v2']}?cursor=1", rows - 1)
        truth_before = net.timeline(did)

    async with world(tmp_path, accounts=12, posts=10) as net, client() as http:
        api = caller(http, net, 2)
        api.token = session["refreshJwt"]
        renewed = await api.post("com.atproto.server.refreshSession")

        assert {**net.info, "members": []} == {**info, "members": []}
        assert [member["did"] for member in net.info["members"]] == [m["did"] for m in info["members"]]
        assert net.info["members"][0]["pds"] == info["pds"][2]
        assert {key: account.repository.export() for key, account in accounts(net)} == before
        assert (net.state.log.end, net.state.log.next_row) == (end, rows)
        assert await read_json(f"{info['jetstream_v2']}?cursor=1", rows - 1) == told
        assert net.timeline(did) == truth_before
        assert net.record(uri) is not None
        assert renewed["did"] == did
        later = net.post(did, "after the restart")
        assert (await read_json(f"{info['jetstream_v2']}?cursor={rows}", 1))[0]["payload"]["rkey"] == later[
            -13:
        ]


def accounts(net: Network) -> Iterator[tuple[str, Any]]:
    return ((did, account) for did, account in net.state.accounts.items() if account.status != "deleted")


async def test_servers_that_had_to_move_are_found_through_the_directory(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        did = net.create_account("mara.test").did
        old = net.info["pds"][0]
    port = int(old.rpartition(":")[2])
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    try:
        async with small(tmp_path) as net, httpx.AsyncClient() as http:
            document = (await http.get(f"{net.info['plc']}/{did}")).json()

            assert net.info["pds"][0] != old
            assert document["service"][0]["serviceEndpoint"] == net.info["pds"][0]
    finally:
        taken.close()
        await taken.wait_closed()


async def test_a_torn_entry_at_the_end_is_cut_off_and_a_half_made_world_made_anew(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        did = net.create_account("mara.test").did
        kept = net.post(did, "whole")
        journal = net.state.journal.path
    with journal.open("ab") as file:
        file.write(b"\x40\x00\x00\x00 torn")

    async with small(tmp_path) as net:
        assert net.record(kept) is not None
        assert net.record(net.post(did, "and on")) is not None
        last = net.state.log.end
    async with small(tmp_path) as net:
        assert net.state.log.end == last

    data = journal.read_bytes()
    marker = data.index(DONE.encode(), 8)
    journal.write_bytes(data[: marker - 40])
    async with small(tmp_path, accounts=3, posts=3) as net:
        assert did in net.state.accounts or len(net.state.accounts) == 3


async def test_killed_at_any_moment_it_comes_back_with_all_that_it_told(tmp_path: Path) -> None:
    info_file = tmp_path / "info.json"
    told: dict[int, Any] = {}
    for _ in range(3):
        info_file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD, str(tmp_path / "data"), str(info_file)),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            async with asyncio.timeout(15):
                while not info_file.exists():
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
                info = orjson.loads(info_file.read_bytes())
                cursor = max(told, default=0) + 1
                for message in await read_json(f"{info['jetstream_v2']}?cursor={max(cursor - 5, 1)}", 60):
                    payload = message["payload"]
                    assert told.setdefault(payload["seq"], payload) == payload
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    async with Network(Options(data=tmp_path / "data", accounts=12, posts=10, rate=0)) as net:
        messages = await read_json(f"{net.info['jetstream_v2']}?cursor=1", max(told))
        assert [message["payload"] for message in messages] == [told[seq] for seq in sorted(told)]
        for did, account in accounts(net):
            assert account.repository.tree().root == account.repository.data, did


CHILD = """
import asyncio, sys
from pathlib import Path
from appliance.devnet.network import run
from appliance.devnet.options import Options
options = Options(data=Path(sys.argv[1]), info=Path(sys.argv[2]), accounts=12, posts=10, rate=300)
asyncio.run(run(options, stop=asyncio.Event()))
"""


async def test_run_tells_when_it_is_ready_and_ends_when_told(tmp_path: Path) -> None:
    stop = asyncio.Event()
    ready: list[dict[str, Any]] = []

    def on_ready(info: dict[str, Any]) -> None:
        ready.append(info)
        stop.set()

    options = Options(accounts=5, posts=3, rate=5, info=tmp_path / "info.json", members=2)
    await asyncio.wait_for(run(options, stop=stop, on_ready=on_ready), 10)

    assert ready == [orjson.loads((tmp_path / "info.json").read_bytes())]
    assert set(ready[0]) == {
        *("appliance", "plc", "pds", "relay", "jetstream_v1", "jetstream_v2", "archive", "control"),
        "members",
    }
    assert [len(part) for part in ready[0]["members"][1]["password"].split("-")] == [4, 4, 4, 4]
    assert len(ready[0]["members"]) == 2
