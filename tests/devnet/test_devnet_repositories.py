from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from appliance.devnet import plc
from appliance.devnet.network import Network
from appliance.devnet.repository import Change
from appliance.errors import BadInput
from appliance.protocol import car, cbor, cid, commits, did_document, firehose, mst
from appliance.protocol.keys import PrivateKey
from tests.devnet.devnets import client, read_frames, repos_url, small


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with small() as network:
        yield network


async def test_an_export_is_signed_and_its_tree_holds_exactly_the_listed_records(net: Network) -> None:
    did = net.create_account("mara.test").did
    uris = [net.post(did, f"post {i}") for i in range(60)]
    for uri in uris[::7]:
        net.delete(uri)
    async with client() as http:
        identity = await resolve(http, net, did)
        archive = car.read(
            (await http.get(f"{identity.pds}/xrpc/com.atproto.sync.getRepo?did={did}")).content
        )

    commit = commits.parse(archive.blocks[archive.root])
    found = dict(mst.Tree(archive.blocks.get, commit.data).items())
    assert identity.signing_key is not None
    assert commits.verify(commit, identity.signing_key)
    assert found == {path: cid.cid_of(block) for path, block in net.state.repository(did).records()}
    assert len(found) == 51
    assert all(archive.blocks[name] for name in found.values())


async def test_every_commit_frame_verifies_and_chains_to_the_one_before(net: Network) -> None:
    did = net.create_account("mara.test").did
    uris = [net.post(did, f"post {i}") for i in range(40)]
    for uri in uris[5:25]:
        net.delete(uri)
    for uri in uris[30:]:
        net.put(did, "app.bsky.feed.post", {"text": "edited", "createdAt": "2026-01-01T00:00:00Z"}, uri[-13:])
    net.state.write(did, [Change(uri.partition(did)[2][1:], None) for uri in uris[:3]])
    key = net.account(did).key.did_key

    frames = await read_frames(repos_url(net.info["relay"], 0), net.state.log.end - 1)

    before: commits.Commit | None = None
    checked = 0
    for frame in frames:
        if frame.kind != "#commit":
            continue
        commit = firehose.check_commit(frame, key)
        if before is not None:
            assert (firehose.since(frame), firehose.previous_data(frame)) == (before.rev, before.data)
            assert commit.rev > before.rev
        before = commit
        checked += 1
    assert checked == 72
    assert before is not None
    assert before.data == net.state.repository(did).data


async def test_a_record_is_proven_present_or_absent(net: Network) -> None:
    did = net.create_account("mara.test").did
    uri = net.post(did, "here")
    rkey = uri.rpartition("/")[2]
    url = f"{net.info['pds'][0]}/xrpc/com.atproto.sync.getRecord"
    query = {"did": did, "collection": "app.bsky.feed.post", "rkey": rkey}
    async with client() as http:
        there = car.read((await http.get(url, params=query)).content)
        gone = car.read((await http.get(url, params=query | {"rkey": "3jzfcijpj2z2a"})).content)

    for archive, expected in ((there, net.strong_ref(uri)["cid"]), (gone, None)):
        tree = mst.Tree(archive.blocks.get, commits.parse(archive.blocks[archive.root]).data)
        asked = rkey if expected else "3jzfcijpj2z2a"
        found = tree.get(f"app.bsky.feed.post/{asked}")
        assert (None if found is None else cid.to_text(found)) == expected


async def test_a_cut_export_ends_on_a_block_boundary_and_misses_blocks(net: Network) -> None:
    did = net.create_account("mara.test").did
    for i in range(30):
        net.post(did, f"post {i}")
    net.faults["pds0"].switch({"cut_exports": True})
    async with client() as http:
        url = f"{net.info['pds'][0]}/xrpc/com.atproto.sync.getRepo?did={did}"
        archive = car.read((await http.get(url)).content)

    tree = mst.Tree(archive.blocks.get, commits.parse(archive.blocks[archive.root]).data)
    with pytest.raises(mst.Missing):
        assert all(archive.blocks.get(name) or missing(name) for _, name in tree.items())
    assert net.faults["pds0"].fired["cut-export"] == 1


def missing(name: bytes) -> bytes:
    raise mst.Missing(name)


async def test_an_account_moves_with_a_new_key_and_its_old_server_says_so(net: Network) -> None:
    account = net.create_account("mara.test")
    did, old_key = account.did, account.key.did_key
    net.post(did, "from the old place")
    old_rev = net.state.repository(did).rev
    start = net.state.log.end

    net.migrate(did, 1)
    net.post(did, "from the new place")

    frames = await read_frames(repos_url(net.info["relay"], 7_000_000 + start - 1), 4)
    async with client() as http:
        identity = await resolve(http, net, did)
        status = "/xrpc/com.atproto.sync.getRepoStatus"
        old = (await http.get(net.info["pds"][0] + status, params={"did": did})).json()
        new = (await http.get(net.info["pds"][1] + status, params={"did": did})).json()
        audit = (await http.get(f"{net.info['plc']}/{did}/log/audit")).json()
    assert [frame.kind for frame in frames] == ["#identity", "#account", "#sync", "#commit"]
    assert identity.pds == net.info["pds"][1]
    assert identity.signing_key == account.key.did_key != old_key
    for frame in frames[2:]:
        assert firehose.check_commit(frame, account.key.did_key).rev > old_rev
    assert old == {"did": did, "active": False, "status": "deactivated"}
    assert (new["active"], new["rev"]) == (True, net.state.repository(did).rev)
    assert [entry["operation"]["prev"] for entry in audit] == [None, audit[0]["cid"]]


@pytest.mark.parametrize(
    ("step", "status", "error"),
    [
        ("deactivate", "deactivated", "RepoDeactivated"),
        ("take_down", "takendown", "RepoTakendown"),
        ("delete_account", "deleted", "RepoNotFound"),
    ],
)
async def test_an_inactive_account_is_refused_by_name_and_announced(
    net: Network, step: str, status: str, error: str
) -> None:
    did = net.create_account("mara.test").did
    getattr(net, step)(did)

    frame = (await read_frames(repos_url(net.info["relay"], 0), net.state.log.end - 1))[-1]
    async with client() as http:
        origin = net.info["pds"][0]
        repo = await http.get(f"{origin}/xrpc/com.atproto.sync.getRepo", params={"did": did})
        query = {"repo": did, "collection": "app.bsky.feed.post"}
        listed = await http.get(f"{origin}/xrpc/com.atproto.repo.listRecords", params=query)

    assert (frame.kind, frame.body["active"], frame.body["status"]) == ("#account", False, status)
    assert (repo.status_code, repo.json()["error"]) == (400, error)
    assert (listed.status_code, listed.json()["error"]) == (400, "InvalidRequest")
    assert "Could not find repo" in listed.json()["message"]


async def test_the_directory_takes_only_operations_that_are_signed_and_next(net: Network) -> None:
    rotation, stranger = PrivateKey.generate(), PrivateKey.generate()

    def unsigned(prev: str | None) -> dict[str, Any]:
        return plc.operation(
            rotation_keys=[rotation.did_key],
            signing_key=stranger.did_key,
            handle="x.test",
            pds="http://localhost:1",
            prev=prev,
        )

    genesis = plc.sign(unsigned(None), rotation)
    did = plc.did_of(genesis)
    first = cid.to_text(cid.cid_of(cbor.encode(genesis)))
    async with httpx.AsyncClient(base_url=net.info["plc"]) as http:
        forged = await http.post(f"/{did}", json=plc.sign(unsigned(None), stranger))
        other = await http.post("/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", json=genesis)
        good = await http.post(f"/{did}", json=genesis)
        again = await http.post(f"/{did}", json=genesis)
        wrong_key = await http.post(f"/{did}", json=plc.sign(unsigned(first), stranger))
        document = (await http.get(f"/{did}")).json()
        data = (await http.get(f"/{did}/data")).json()
        nobody = await http.get("/did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")

    assert [answer.status_code for answer in (forged, other, good, again, wrong_key)] == [
        400,
        400,
        200,
        400,
        400,
    ]
    assert did_document.from_parsed(document, did).handles == ("x.test",)
    assert data["verificationMethods"] == {"atproto": stranger.did_key}
    assert nobody.status_code == 404


async def test_deleting_what_is_not_there_is_refused(net: Network) -> None:
    did = net.create_account("mara.test").did
    end = net.state.log.end

    with pytest.raises(BadInput):
        net.delete(f"at://{did}/app.bsky.feed.post/3jzfcijpj2z2a")

    assert net.state.log.end == end


async def resolve(http: httpx.AsyncClient, net: Network, did: str) -> did_document.Identity:
    return did_document.parse((await http.get(f"{net.info['plc']}/{did}")).content, did)
