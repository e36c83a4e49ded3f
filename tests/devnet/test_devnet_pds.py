import asyncio
import base64
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import httpx
import orjson
import pytest
from atproto import Client

from appliance.clock import ManualClock
from appliance.devnet.http import Answer, Request, Site
from appliance.devnet.network import Network
from appliance.devnet.options import DIALECTS, Dialect
from appliance.devnet.pictures import Picture, landscape
from appliance.devnet.servers import Servers, listen
from appliance.protocol import cid, keys
from tests.devnet.devnets import Caller, caller, client, small

POST = "app.bsky.feed.post"
LIKE = "app.bsky.feed.like"


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with small() as network:
        yield network


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as made:
        yield made


@pytest.fixture
async def mara(net: Network, http: httpx.AsyncClient) -> Caller:
    account = net.create_account("mara.test")
    signed_in = caller(http, net)
    await signed_in.sign_in("mara.test", account.entry.password)
    return signed_in


def text(words: str) -> dict[str, Any]:
    return {"$type": POST, "text": words, "createdAt": "2026-05-01T12:00:00.000Z"}


# ---- sessions


async def test_a_session_begins_is_shown_is_renewed_and_ends(net: Network, http: httpx.AsyncClient) -> None:
    account = net.create_account("mara.test")
    api = caller(http, net)
    session = await api.sign_in("MARA.test", account.entry.password)

    shown = await api.get("com.atproto.server.getSession")
    api.token = session["refreshJwt"]
    first = await api.post("com.atproto.server.refreshSession")
    second = await api.post("com.atproto.server.refreshSession")
    await api.post("com.atproto.server.deleteSession")
    refused = await api.error("POST", "com.atproto.server.refreshSession")

    assert (shown["did"], shown["handle"], shown["active"]) == (account.did, "mara.test", True)
    assert shown["didDoc"]["id"] == account.did
    assert claims(session["accessJwt"])["scope"] == "com.atproto.appPass"
    assert header(session["accessJwt"]) == {"typ": "at+jwt", "alg": "HS256"}
    assert claims(first["refreshJwt"])["jti"] == claims(second["refreshJwt"])["jti"]
    assert claims(first["refreshJwt"])["jti"] != claims(session["refreshJwt"])["jti"]
    assert refused == (400, "ExpiredToken")


async def test_a_wrong_password_and_an_unknown_name_look_the_same(
    net: Network, http: httpx.AsyncClient
) -> None:
    net.create_account("mara.test")
    body = {"identifier": "mara.test", "password": "aaaa-bbbb-cccc-dddd"}
    url = "com.atproto.server.createSession"
    wrong = await caller(http, net).answer("POST", url, json=body)
    unknown = await caller(http, net).answer("POST", url, json=body | {"identifier": "no.test"})

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content


async def test_tokens_of_the_wrong_kind_or_place_or_age_are_refused() -> None:
    clock = ManualClock()
    async with small(clock=clock) as net, client() as http:
        account = net.create_account("mara.test")
        api, elsewhere = caller(http, net), caller(http, net, 1)
        session = await api.sign_in("mara.test", account.entry.password)
        elsewhere.token = api.token

        foreign = await elsewhere.error("GET", "com.atproto.server.getSession")
        api.token = session["refreshJwt"]
        wrong_kind = await api.error("GET", "com.atproto.server.getSession")
        api.token = session["accessJwt"][:-4] + "AAAA"
        forged = await api.error("GET", "com.atproto.server.getSession")
        api.token = ""
        nothing = await api.error("GET", "com.atproto.server.getSession")
        await clock.advance(121 * 60)
        api.token = session["accessJwt"]
        old = await api.error("GET", "com.atproto.server.getSession")

    assert foreign == wrong_kind == forged == (400, "InvalidToken")
    assert nothing == (401, "AuthMissing")
    assert old == (400, "ExpiredToken")


async def test_a_service_token_is_signed_with_the_accounts_key(net: Network, mara: Caller) -> None:
    account = net.account("mara.test")
    answer = await mara.get(
        "com.atproto.server.getServiceAuth", aud="did:web:api.example.com", lxm="app.bsky.feed.getTimeline"
    )

    token = answer["token"]
    body, _, signature = token.rpartition(".")
    said = claims(token)
    assert keys.verify(account.key.did_key, body.encode(), part(signature))
    assert (said["iss"], said["aud"]) == (account.did, "did:web:api.example.com")
    assert (said["exp"] - said["iat"], len(said["jti"])) == (60, 32)
    far = {"aud": "did:web:api.example.com", "exp": str(said["iat"] + 3000)}
    assert await mara.error("GET", "com.atproto.server.getServiceAuth", params=far) == (400, "BadExpiration")


async def test_handles_resolve_at_every_server_and_by_their_own_host(
    net: Network, http: httpx.AsyncClient
) -> None:
    did = net.create_account("mara.test", 1).did
    net.change_handle(did, "mara-l.test")

    found = await caller(http, net).get("com.atproto.identity.resolveHandle", handle="Mara-L.test")
    gone = {"params": {"handle": "mara.test"}}
    error = await caller(http, net).error("GET", "com.atproto.identity.resolveHandle", **gone)
    known = await http.get(f"{net.info['pds'][1]}/.well-known/atproto-did", headers={"host": "mara-l.test"})

    assert found == {"did": did}
    assert error == (400, "HandleNotFound")
    assert known.text == did


# ---- writing


async def test_records_are_written_read_changed_and_deleted(net: Network, mara: Caller) -> None:
    did = net.account("mara.test").did
    made = await mara.post(
        "com.atproto.repo.createRecord", repo="mara.test", collection=POST, record=text("one")
    )
    rkey = made["uri"].rpartition("/")[2]
    where = {"repo": did, "collection": POST, "rkey": rkey}
    got = await mara.get("com.atproto.repo.getRecord", **where)
    changed = await mara.post("com.atproto.repo.putRecord", **where, record=text("two"))
    same = await mara.post("com.atproto.repo.putRecord", **where, record=text("two"))
    await mara.post("com.atproto.repo.deleteRecord", **where)
    twice = await mara.post("com.atproto.repo.deleteRecord", **where)

    repository = net.state.repository(did)
    assert (made["validationStatus"], got["value"]) == ("valid", text("one"))
    assert changed["cid"] == same["cid"] != made["cid"]
    assert "commit" in changed
    assert "commit" not in same
    assert twice == {}
    assert await mara.error("GET", "com.atproto.repo.getRecord", params=where) == (400, "RecordNotFound")
    assert repository.collections == {}


async def test_a_second_like_of_one_post_takes_the_place_of_the_first(net: Network, mara: Caller) -> None:
    uri = net.post(net.account("mara.test").did, "nice")
    like = {"$type": LIKE, "subject": net.strong_ref(uri), "createdAt": "2026-05-01T12:00:00Z"}
    call = {"repo": "mara.test", "collection": LIKE, "record": like}

    first = await mara.post("com.atproto.repo.createRecord", **call)
    second = await mara.post("com.atproto.repo.createRecord", **call)
    event = net.state.log.get(net.state.log.end - 1).event
    third = await mara.post("com.atproto.repo.createRecord", **call, validate=False)

    listed = await mara.get("com.atproto.repo.listRecords", repo="mara.test", collection=LIKE)
    assert event.rows == 2
    assert {record["uri"] for record in listed["records"]} == {second["uri"], third["uri"]}
    assert first["uri"] not in {second["uri"], third["uri"]}


async def test_swaps_are_compared(net: Network, mara: Caller) -> None:
    uri = net.post(net.account("mara.test").did, "one")
    where = {"repo": "mara.test", "collection": POST, "rkey": uri[-13:]}
    now = net.strong_ref(uri)["cid"]
    other = cid.to_text(cid.cid_of(b"other"))

    async def fails(nsid: str, **body: Any) -> bool:
        return await mara.error("POST", f"com.atproto.repo.{nsid}", json=where | body) == (400, "InvalidSwap")

    assert await fails("putRecord", record=text("two"), swapRecord=other)
    assert await fails("putRecord", record=text("two"), swapRecord=None)
    assert await fails("putRecord", record=text("two"), swapCommit=other)
    assert await fails("deleteRecord", swapRecord=other)
    commit = cid.to_text(net.state.repository(net.account("mara.test").did).commit)
    await mara.post(
        "com.atproto.repo.putRecord", **where, record=text("two"), swapRecord=now, swapCommit=commit
    )


async def test_many_writes_make_one_commit_or_none(net: Network, mara: Caller) -> None:
    did = net.account("mara.test").did
    old = net.post(did, "old")[-13:]
    kind = "com.atproto.repo.applyWrites#"
    end = net.state.log.end

    done = await mara.post(
        "com.atproto.repo.applyWrites",
        repo=did,
        writes=[
            {"$type": f"{kind}create", "collection": POST, "value": text("a")},
            {"$type": f"{kind}update", "collection": POST, "rkey": old, "value": text("b")},
            {"$type": f"{kind}create", "collection": "org.example.thing", "rkey": "x", "value": {"n": 1}},
        ],
    )
    bad = {"repo": did, "writes": [{"$type": f"{kind}create", "collection": POST, "value": text("c")}]}
    bad["writes"] = [*bad["writes"], {"$type": f"{kind}delete", "collection": POST, "rkey": "nothing"}]
    refused = await mara.error("POST", "com.atproto.repo.applyWrites", json=bad)

    assert [result.get("validationStatus") for result in done["results"]] == ["valid", "valid", "unknown"]
    assert [result["$type"].removeprefix(kind) for result in done["results"]] == [
        "createResult",
        "updateResult",
        "createResult",
    ]
    assert refused == (400, "InvalidRequest")
    assert net.state.log.end == end + 1
    assert len(net.state.repository(did).collections[POST]) == 2


@pytest.mark.parametrize(
    ("record", "collection", "error"),
    [
        ({"text": 5, "createdAt": "2026-05-01T12:00:00Z"}, POST, "InvalidRecord"),
        ({"$type": LIKE, "text": "x"}, POST, "InvalidRecord"),
        ({"text": "x", "createdAt": "yesterday"}, POST, "InvalidRecord"),
        ({"pi": 3.14}, "org.example.thing", "InvalidRequest"),
        ({"text": "x", "createdAt": "2026-05-01T12:00:00Z"}, "not an nsid", "InvalidRequest"),
        ([], POST, "InvalidRecord"),
    ],
)
async def test_records_that_break_a_rule_are_refused(
    mara: Caller, record: Any, collection: str, error: str
) -> None:
    body = {"repo": "mara.test", "collection": collection, "record": record}

    assert await mara.error("POST", "com.atproto.repo.createRecord", json=body) == (400, error)


async def test_only_the_owner_writes_and_only_while_active(net: Network, mara: Caller) -> None:
    other = net.create_account("ben.test").did
    body = {"repo": other, "collection": POST, "record": text("not mine")}
    foreign = await mara.error("POST", "com.atproto.repo.createRecord", json=body)
    net.deactivate(net.account("mara.test").did)
    asleep = await mara.error("POST", "com.atproto.repo.createRecord", json=body | {"repo": "mara.test"})

    assert foreign == (400, "InvalidRequest")
    assert asleep == (400, "AccountDeactivated")


async def test_a_blob_is_there_for_others_once_a_record_holds_it(
    net: Network, mara: Caller, http: httpx.AsyncClient
) -> None:
    picture: Picture = landscape(Random(1), 96, 64)
    did = net.account("mara.test").did
    headers = {"content-type": "text/plain"}
    uploaded = await mara.answer("POST", "com.atproto.repo.uploadBlob", headers, content=picture.data)
    blob = uploaded.json()["blob"]
    query = {"did": did, "cid": blob["ref"]["$link"]}
    early = await mara.error("GET", "com.atproto.sync.getBlob", params=query)
    image = {"image": blob, "alt": picture.alt}
    record = text("look") | {"embed": {"$type": "app.bsky.embed.images", "images": [image]}}
    await mara.post("com.atproto.repo.createRecord", repo=did, collection=POST, record=record)

    url = f"{net.info['pds'][0]}/xrpc/com.atproto.sync.getBlob"
    served = await http.get(url, params=query)
    listed = await mara.get("com.atproto.sync.listBlobs", did=did)

    missing = record | {
        "embed": {"$type": "app.bsky.embed.images", "images": [image | {"image": elsewhere()}]}
    }
    body = {"repo": did, "collection": POST, "record": missing}
    assert blob["mimeType"] == "image/jpeg"
    assert early == (400, "BlobNotFound")
    assert (served.content, served.headers["content-type"]) == (picture.data, "image/jpeg")
    assert served.headers["content-security-policy"].startswith("default-src 'none'")
    assert listed == {"cids": [blob["ref"]["$link"]]}
    assert await mara.error("POST", "com.atproto.repo.createRecord", json=body) == (400, "BlobNotFound")


def elsewhere() -> dict[str, Any]:
    link = {"$link": cid.to_text(cid.blob_cid_of(b"nowhere"))}
    return {"$type": "blob", "ref": link, "mimeType": "image/jpeg", "size": 7}


# ---- dialects


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_every_dialect_lists_every_record_once_in_its_own_order(dialect: Dialect) -> None:
    async with small(pds=1, dialects=(dialect,)) as net, client() as http:
        did = net.create_account("mara.test").did
        uris = [net.post(did, f"post {i}") for i in range(20)]
        api, listed, cursors = caller(http, net), [], []
        query: dict[str, Any] = {"repo": did, "collection": POST, "limit": 10}
        while True:
            page = await api.get("com.atproto.repo.listRecords", **query)
            listed += [record["uri"] for record in page["records"]]
            cursors.append("cursor" in page)
            if not page["records"] or "cursor" not in page:
                break
            query["cursor"] = page["cursor"]
        reverse = await api.get(
            "com.atproto.repo.listRecords", repo=did, collection=POST, reverse="true", limit=3
        )

    assert listed == (uris[::-1] if dialect.descending else uris)
    assert [record["uri"] for record in reverse["records"]] == listed[::-1][:3]
    assert (
        cursors
        == {
            "full": [True, True, False],
            "always": [True, True, False],
            "never": [True, False],
        }[dialect.cursor]
    )


async def test_a_server_may_lack_get_latest_commit(http: httpx.AsyncClient) -> None:
    async with small(pds=2, dialects=DIALECTS[:2]) as net:
        one, two = net.create_account("mara.test").did, net.create_account("ben.test", 1).did
        latest = await caller(http, net).get("com.atproto.sync.getLatestCommit", did=one)
        lacking = await caller(http, net, 1).error(
            "GET", "com.atproto.sync.getLatestCommit", params={"did": two}
        )
        status = await caller(http, net, 1).get("com.atproto.sync.getRepoStatus", did=two)

        assert latest["rev"] == net.state.repository(one).rev
        assert lacking == (501, "MethodNotImplemented")
        assert status["rev"] == net.state.repository(two).rev


async def test_who_asks_too_often_is_told_when_to_come_back(http: httpx.AsyncClient) -> None:
    clock = ManualClock()
    dialect = Dialect("strict", rate=(3, 10.0))
    async with small(pds=1, dialects=(dialect,), clock=clock) as net:
        api = caller(http, net)
        answers = [await api.answer("GET", "com.atproto.server.describeServer") for _ in range(4)]
        await clock.advance(11)
        later = await api.answer("GET", "com.atproto.server.describeServer")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].json()["error"] == "RateLimitExceeded"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 11
    assert int(answers[3].headers["ratelimit-reset"]) > clock.now_us() // 1_000_000 - 12
    assert later.status_code == 200


async def test_a_server_fails_on_request(net: Network, http: httpx.AsyncClient) -> None:
    did = net.create_account("mara.test").did
    hidden = net.post(did, "hidden")
    net.faults["pds0"].switch({"fail_every": 2, "hide_records": [hidden]})
    query = {"repo": did, "collection": POST}
    answers = [
        await caller(http, net).answer("GET", "com.atproto.repo.listRecords", params=query) for _ in range(4)
    ]
    net.faults["pds0"].off()
    net.faults["pds0"].switch({"down": True})
    down = await caller(http, net).answer("GET", "com.atproto.repo.listRecords", params=query)

    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    assert all(answer.json().get("records", []) == [] for answer in answers)
    assert down.status_code == 502
    assert net.faults["pds0"].fired == {"fail": 2, "hide": 2, "down": 1}


# ---- proxy


class Service:
    """A service that repeats what it was asked, and is known by a did:web of localhost."""

    async def start(self) -> None:
        self.stop = asyncio.Event()
        self.servers = Servers(self.stop)
        listening = listen(0)
        self.port = listening.getsockname()[1]
        self.origin, self.did = f"http://localhost:{self.port}", f"did:web:localhost%3A{self.port}"
        site = Site()

        async def document(_: Request) -> Answer:
            service = {"id": "#bsky_appview", "type": "BskyAppView", "serviceEndpoint": self.origin}
            return Answer(orjson.dumps({"id": self.did, "service": [service]}))

        async def repeat(request: Request) -> Answer:
            said: dict[str, Any] = {"method": request.method, "path": request.path, "query": request.query}
            said |= {"headers": request.headers, "body": request.body.decode()}
            return Answer(orjson.dumps(said), headers={"atproto-repo-rev": "3jzfcijpj2z2a"})

        site.get("/.well-known/did.json", document)
        site.fallback = repeat
        self.servers.add_site(site, listening)
        await self.servers.start()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    started = Service()
    await started.start()
    yield started
    await started.servers.close()


async def test_a_call_with_a_proxy_header_goes_there_with_a_service_token(
    net: Network, mara: Caller, service: Service
) -> None:
    proxy = {"atproto-proxy": f"{service.did}#bsky_appview", "x-secret": "stays"}
    read = await mara.answer("GET", "app.bsky.feed.getTimeline", proxy, params={"limit": "5"})
    write = await mara.answer("POST", "app.bsky.graph.muteActor", proxy, json={"actor": "x"})

    said, written = read.json(), write.json()
    token = said["headers"]["authorization"].removeprefix("Bearer ")
    body, _, signature = token.rpartition(".")
    account = net.account("mara.test")
    assert (said["path"], said["query"]) == ("/xrpc/app.bsky.feed.getTimeline", [["limit", "5"]])
    assert (written["method"], written["body"]) == ("POST", '{"actor":"x"}')
    assert keys.verify(account.key.did_key, body.encode(), part(signature))
    assert claims(token)["iss"] == account.did
    assert claims(token)["aud"] == service.did
    assert claims(token)["lxm"] == "app.bsky.feed.getTimeline"
    assert not {"atproto-proxy", "x-secret"} & said["headers"].keys()
    assert read.headers["atproto-repo-rev"] == "3jzfcijpj2z2a"


async def test_app_bsky_calls_go_to_the_appview_that_the_server_is_set_to(
    net: Network, mara: Caller, service: Service
) -> None:
    nowhere = await mara.error("GET", "app.bsky.feed.getTimeline")
    net.set_appview(service.origin, service.did)
    signed = (await mara.answer("GET", "app.bsky.feed.getTimeline")).json()
    mara.token = ""
    public = (await mara.answer("GET", "app.bsky.actor.getProfile", params={"actor": "mara.test"})).json()

    assert nowhere == (501, "MethodNotImplemented")
    assert claims(signed["headers"]["authorization"])["aud"] == service.did
    assert "authorization" not in public["headers"]


@pytest.mark.parametrize(
    "header", ["nonsense", "did:web:localhost%3A1#x", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa#x"]
)
async def test_a_proxy_header_that_leads_nowhere_is_an_error(mara: Caller, header: str) -> None:
    answer = await mara.answer("GET", "app.bsky.feed.getTimeline", {"atproto-proxy": header})

    assert answer.status_code in (400, 502)
    assert answer.json()["error"] in ("InvalidRequest", "UpstreamFailure")


async def test_the_python_client_signs_in_writes_and_reads(net: Network) -> None:
    account = net.create_account("mara.test")

    def use() -> tuple[str, list[str], bytes]:
        sdk = Client(base_url=f"{net.info['pds'][0]}/xrpc")
        sdk.login("mara.test", account.entry.password, fetch_bsky_profile=False)
        sdk.send_post("hello from afar", profile_identify=account.did)
        listed = sdk.com.atproto.repo.list_records({"repo": account.did, "collection": POST})
        repo = sdk.com.atproto.sync.get_repo({"did": account.did})
        texts = [str(record.value["text"]) for record in listed.records]
        found = str(sdk.com.atproto.identity.resolve_handle({"handle": "mara.test"}).did)
        sdk.request.close()
        return found, texts, repo

    did, texts, repo = await asyncio.to_thread(use)

    assert did == account.did
    assert texts == ["hello from afar"]
    assert repo == net.state.repository(did).export()


def header(token: str) -> Any:
    return orjson.loads(part(token.split(".")[0]))


def claims(token: str) -> Any:
    return orjson.loads(part(token.split(".")[1]))


def part(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
