from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.auth.mint import service_token
from appliance.protocol import lexicons
from appliance.protocol.keys import PrivateKey
from tests.auth.house import ALICE
from tests.auth.small_pds import Asked, Reply
from tests.xrpc.counter import APP_PASSWORD, Counter

CREATE = "com.atproto.server.createSession"
GET = "com.atproto.server.getSession"
REFRESH = "com.atproto.server.refreshSession"
DELETE = "com.atproto.server.deleteSession"
RECORD = "com.atproto.repo.createRecord"
UPLOAD = "com.atproto.repo.uploadBlob"
TIMELINE = "app.bsky.feed.getTimeline"
POST = "app.bsky.feed.post"
US = "did:web:localhost%3A2580"


@asynccontextmanager
async def opened(path: Path, **settings: Any) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        counter = Counter(path, **settings)
        await counter.open(stack)
        yield counter
        await counter.auth.close()


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with opened(tmp_path) as counter:
        yield counter


def post(text: str = "hello") -> dict[str, Any]:
    record = {"$type": POST, "text": text, "createdAt": "2026-01-01T00:00:00.000Z"}
    return {"repo": ALICE, "collection": POST, "record": record}


async def test_a_session_answer_keeps_the_client_here(counter: Counter) -> None:
    session = await counter.signed_in()
    assert "didDoc" not in session
    assert "pds-" not in str(session)
    assert lexicons.validate_output(CREATE, session) is None
    assert session["did"] == ALICE

    told = (await counter.get(GET, session["accessJwt"])).json()
    assert told == {"did": ALICE, "handle": "alice.test", "active": True}
    assert lexicons.validate_output(GET, told) is None

    answer = await counter.post(REFRESH, token=session["refreshJwt"])
    assert answer.status_code == 200
    fresh = answer.json()
    assert lexicons.validate_output(REFRESH, fresh) is None
    assert "didDoc" not in fresh
    assert (await counter.get(TIMELINE, fresh["accessJwt"])).status_code == 200

    assert (await counter.post(DELETE, token=fresh["refreshJwt"])).status_code == 200
    for answer in (
        await counter.get(GET, fresh["accessJwt"]),
        await counter.get(TIMELINE, fresh["accessJwt"]),
        await counter.post(REFRESH, token=fresh["refreshJwt"]),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "ExpiredToken")


async def test_an_expired_access_token_makes_the_client_refresh(counter: Counter) -> None:
    session = await counter.signed_in()
    await counter.clock.advance(7200)
    for answer in (
        await counter.get(TIMELINE, session["accessJwt"]),
        await counter.get(GET, session["accessJwt"]),
        await counter.post(RECORD, post(), session["accessJwt"]),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "ExpiredToken")
    assert (await counter.post(REFRESH, token=session["refreshJwt"])).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"identifier": "alice.test", "password": "aaaa-bbbb-cccc-dddd"}, 401, "AuthenticationRequired"),
        ({"identifier": "nobody.test", "password": "aaaa-bbbb-cccc-dddd"}, 401, "AuthenticationRequired"),
        ({"identifier": "alice.test", "password": "my main password"}, 401, "AuthenticationRequired"),
        ({"identifier": "alice@example.net", "password": APP_PASSWORD}, 400, "InvalidRequest"),
        ({"identifier": "alice.test"}, 400, "InvalidRequest"),
        ({"identifier": 1, "password": 2}, 400, "InvalidRequest"),
        ([], 400, "InvalidRequest"),
        (None, 400, "InvalidRequest"),
        ({"identifier": "alice.test", "password": "x" * 20_000}, 413, "PayloadTooLarge"),
    ],
)
async def test_a_bad_sign_in_is_told_what_is_wrong(
    counter: Counter, body: Any, status: int, error: str
) -> None:
    answer = await counter.post(CREATE, body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_main_password_is_taken_only_where_the_operator_allows_it(tmp_path: Path) -> None:
    async with opened(tmp_path, main_passwords=True) as counter:
        counter.pds.add(ALICE, "alice.test", "my main password")
        answer = await counter.post(CREATE, {"identifier": "alice.test", "password": "my main password"})
        assert answer.status_code == 200


async def test_a_second_factor_is_passed_on(counter: Counter) -> None:
    async def ask(asked: Asked) -> Reply:
        return 401, {"error": "AuthFactorTokenRequired", "message": "A sign in code has been sent"}

    counter.pds.instead[CREATE] = ask
    answer = await counter.post(CREATE, {"identifier": "alice.test", "password": APP_PASSWORD})
    assert (answer.status_code, answer.json()["error"]) == (401, "AuthFactorTokenRequired")


async def test_switched_off_it_says_which_setting(tmp_path: Path) -> None:
    async with opened(tmp_path, xrpc_sessions=False) as counter:
        for nsid in (CREATE, REFRESH):
            answer = await counter.post(nsid, {"identifier": "alice.test", "password": APP_PASSWORD})
            assert (answer.status_code, answer.json()["error"]) == (501, "MethodNotImplemented")
            assert "XRPC_SESSIONS" in answer.json()["message"]
        assert counter.pds.of(CREATE)[1:] == []


async def test_the_limits_of_a_pds_are_passed_on_as_429(counter: Counter) -> None:
    async def limit(asked: Asked) -> Reply:
        return 429, {"error": "RateLimitExceeded"}, {"retry-after": "77"}

    counter.pds.instead[CREATE] = limit
    answer = await counter.post(CREATE, {"identifier": "alice.test", "password": APP_PASSWORD})
    assert (answer.status_code, answer.json()["error"]) == (429, "RateLimitExceeded")
    assert int(answer.headers["retry-after"]) > 60


async def test_a_write_goes_to_the_pds_under_its_own_token_and_shows_at_once(counter: Counter) -> None:
    session = await counter.signed_in()
    answer = await counter.post(RECORD, post(), session["accessJwt"])
    assert answer.status_code == 200
    written = answer.json()
    assert lexicons.validate_output(RECORD, written) is None
    [asked] = counter.pds.of(RECORD)
    assert asked.bearer.startswith("pds-access-")
    found = await counter.get("app.bsky.feed.getPosts", session["accessJwt"], uris=written["uri"])
    assert [p["uri"] for p in found.json()["posts"]] == [written["uri"]]
    timeline = (await counter.get(TIMELINE, session["accessJwt"])).json()["feed"]
    assert [item["post"]["uri"] for item in timeline] == [written["uri"]]

    deletion = {"repo": ALICE, "collection": POST, "rkey": written["uri"].rpartition("/")[2]}
    answer = await counter.post("com.atproto.repo.deleteRecord", deletion, session["accessJwt"])
    assert answer.status_code == 200
    assert (await counter.get(TIMELINE, session["accessJwt"])).json()["feed"] == []


async def test_no_token_of_a_client_ever_reaches_a_pds(counter: Counter) -> None:
    session = await counter.signed_in()
    await counter.post(RECORD, post(), session["accessJwt"])
    await counter.get("com.atproto.repo.listRecords", session["accessJwt"], repo=ALICE, collection=POST)
    await counter.post(REFRESH, token=session["refreshJwt"])
    sent = [asked.headers.get("authorization", "") for asked in counter.pds.asked]
    assert len(sent) > 2
    assert all(value == "" or value.startswith("Bearer pds-") for value in sent)
    assert all(
        "user-agent" not in asked.headers or "appliance" in asked.headers["user-agent"]
        for asked in counter.pds.asked
    )


async def test_a_token_of_a_pds_is_no_token_here(counter: Counter) -> None:
    import hmac

    from appliance.auth import jwt

    now_s = counter.clock.now_us() // 1_000_000
    claims = {
        "scope": "com.atproto.appPass",
        "sub": ALICE,
        "aud": "did:web:pds.test",
        "iat": now_s,
        "exp": now_s + 60,
    }
    signed = jwt.encode({"typ": "at+jwt", "alg": "HS256"}, claims)
    token = jwt.join(signed, hmac.digest(b"the secret of the pds", signed, "sha256"))
    for answer in (await counter.get(TIMELINE, token), await counter.post(RECORD, post(), token)):
        assert (answer.status_code, answer.json()["error"]) == (401, "BadJwtType")
    assert counter.pds.of(RECORD) == []


@pytest.mark.parametrize(
    "nsid",
    [
        RECORD,
        "com.atproto.repo.applyWrites",
        UPLOAD,
        GET,
        "com.atproto.server.getServiceAuth",
        "chat.bsky.convo.getLog",
        "app.bsky.actor.getPreferences",
    ],
)
async def test_a_service_token_and_nobody_write_at_their_own_server(counter: Counter, nsid: str) -> None:
    key = PrivateKey.generate("k256")
    counter.book.keys[ALICE] = key.did_key
    token = service_token(key, issuer=ALICE, audience=US, method=nsid, now_us=counter.clock.now_us())
    call: Callable[..., Any] = (
        counter.post if nsid in (RECORD, UPLOAD, "com.atproto.repo.applyWrites") else counter.get
    )
    sent = len(counter.pds.asked)
    answer = await (call(nsid, post(), token) if call == counter.post else call(nsid, token))
    assert (answer.status_code, answer.json()["error"]) == (501, "MethodNotImplemented")
    answer = await call(nsid)
    assert (answer.status_code, answer.json()["error"]) == (401, "AuthMissing")
    assert len(counter.pds.asked) == sent


async def test_somebody_elses_repository_is_refused_here(counter: Counter) -> None:
    session = await counter.signed_in()
    answer = await counter.post(RECORD, post() | {"repo": "bob.test"}, session["accessJwt"])
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequest")
    assert counter.pds.of(RECORD) == []


async def test_what_the_pds_refuses_is_passed_on(counter: Counter) -> None:
    async def refuse(asked: Asked) -> Reply:
        return 400, {"error": "InvalidSwap", "message": "Record was at x"}, {"ratelimit-limit": "5000"}

    counter.pds.instead[RECORD] = refuse
    session = await counter.signed_in()
    answer = await counter.post(RECORD, post(), session["accessJwt"])
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidSwap")
    assert answer.headers["ratelimit-limit"] == "5000"


async def test_a_pds_that_fails_does_not_log_the_client_out(counter: Counter) -> None:
    session = await counter.signed_in()
    for status in (401, 500, 301):

        async def fail(asked: Asked, status: int = status) -> Reply:
            return status, {"error": "InvalidToken"}

        counter.pds.instead["com.atproto.repo.listRecords"] = fail
        answer = await counter.get(
            "com.atproto.repo.listRecords", session["accessJwt"], repo=ALICE, collection=POST
        )
        assert (answer.status_code, answer.json()["error"]) == (502, "UpstreamFailure")


async def test_reads_of_the_repository_and_preferences_go_on(counter: Counter) -> None:
    session = await counter.signed_in()
    token = session["accessJwt"]
    answer = await counter.get("com.atproto.repo.listRecords", token, repo=ALICE, collection=POST, limit=5)
    assert answer.json()["query"] == f"repo={ALICE.replace(':', '%3A')}&collection={POST}&limit=5"
    await counter.post("app.bsky.actor.putPreferences", {"preferences": [{"$type": "x.y#z"}]}, token)
    [asked] = counter.pds.of("app.bsky.actor.putPreferences")
    assert asked.json == {"preferences": [{"$type": "x.y#z"}]}
    assert (await counter.get("app.bsky.actor.putPreferences", token)).status_code == 400


async def test_chat_goes_on_only_with_the_service_named(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    log = "chat.bsky.convo.getLog"
    assert (await counter.get(log, token)).status_code == 501
    named = {
        "authorization": f"Bearer {token}",
        "atproto-proxy": "did:web:api.bsky.chat#bsky_chat",
        "cookie": "x=y",
    }
    answer = await counter.http.get(f"/xrpc/{log}?cursor=a%20b", headers=named)
    assert answer.status_code == 200
    [asked] = counter.pds.of(log)
    assert asked.headers["atproto-proxy"] == "did:web:api.bsky.chat#bsky_chat"
    assert asked.query == "cursor=a%20b"
    assert "cookie" not in asked.headers


async def test_an_upload_streams_through_and_is_bounded(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await counter.signed_in())["accessJwt"]
    data = bytes(range(256)) * 4096
    headers = {"authorization": f"Bearer {token}", "content-type": "image/png"}

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]

    assert (await counter.http.post(f"/xrpc/{UPLOAD}", content=data, headers=headers)).status_code == 200
    assert (await counter.http.post(f"/xrpc/{UPLOAD}", content=pieces(), headers=headers)).status_code == 200
    assert counter.pds.blobs == [data, data]
    assert {asked.headers["content-type"] for asked in counter.pds.of(UPLOAD)} == {"image/png"}

    monkeypatch.setattr("appliance.xrpc.member_calls.BLOB_MAX_BYTES", 100_000)
    for content in (data, pieces()):
        answer = await counter.http.post(f"/xrpc/{UPLOAD}", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (413, "PayloadTooLarge")
    assert len(counter.pds.blobs) == 2


async def test_an_upload_with_an_expired_token_is_renewed_before_it_streams(counter: Counter) -> None:
    session = await counter.signed_in()
    await counter.clock.advance(7200)
    token = (await counter.post(REFRESH, token=session["refreshJwt"])).json()["accessJwt"]
    headers = {"authorization": f"Bearer {token}", "content-type": "image/png"}
    assert (
        await counter.http.post(f"/xrpc/{UPLOAD}", content=b"x" * 1000, headers=headers)
    ).status_code == 200
    assert counter.pds.blobs == [b"x" * 1000]


async def test_wrong_tries_are_counted_for_the_address_that_the_proxy_names(tmp_path: Path) -> None:
    async with opened(tmp_path, rate_limits="on") as counter:

        async def try_(client: str) -> int:
            body = {"identifier": "alice.test", "password": "aaaa-bbbb-cccc-dddd"}
            headers = {"x-forwarded-for": client}
            return (await counter.http.post(f"/xrpc/{CREATE}", json=body, headers=headers)).status_code

        assert [await try_("192.0.2.1") for _ in range(6)] == [401] * 5 + [429]
        assert await try_("192.0.2.1, 192.0.2.2") == 401
        assert await try_("192.0.2.2, 192.0.2.1") == 429


async def test_two_authorization_headers_are_one_too_many(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    twice = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    for nsid in (GET, TIMELINE):
        assert (await counter.http.get(f"/xrpc/{nsid}", headers=twice)).status_code == 401


async def test_wrong_verbs_and_unknown_methods_are_told(counter: Counter) -> None:
    assert (await counter.get(CREATE)).status_code == 400
    assert (await counter.post(GET, {})).status_code == 400
    assert (await counter.get("com.example.unknown")).status_code == 501
    answer = await counter.http.options(f"/xrpc/{CREATE}")
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await counter.get(GET)).headers["access-control-allow-origin"] == "*"


async def test_cookies_mean_nothing_to_xrpc(counter: Counter) -> None:
    answer = await counter.http.get(f"/xrpc/{GET}", headers={"cookie": f"session={counter.cookie}"})
    assert (answer.status_code, answer.json()["error"]) == (401, "AuthMissing")


async def test_a_call_for_another_service_goes_on_to_the_members_server(counter: Counter) -> None:
    session = await counter.signed_in()
    maker = "did:plc:mmmmmmmmmmmmmmmmmmmmmmmm"

    async def call(nsid: str, service: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {session['accessJwt']}", "atproto-proxy": service}
        if body is None:
            return await counter.http.get(f"/xrpc/{nsid}?a=1", headers=headers)
        return await counter.http.post(f"/xrpc/{nsid}", json=body, headers=headers)

    for nsid, service in (
        ("app.bsky.feed.sendInteractions", f"{maker}#bsky_fg"),
        ("com.atproto.label.queryLabels", f"{maker}#atproto_labeler"),
        ("tools.ozone.moderation.queryStatuses", f"{maker}#atproto_labeler"),
    ):
        answer = await call(nsid, service, {"interactions": []} if "send" in nsid else None)
        assert answer.status_code == 200, answer.text
        (asked,) = counter.pds.of(nsid)
        assert asked.headers["atproto-proxy"] == service
        assert asked.bearer.startswith("pds-access-")
        assert answer.headers["access-control-allow-origin"] == "*"

    # The AppView that a client usually names is what we are; ourselves we don't ask by a detour.
    for service in ("did:web:api.bsky.app#bsky_appview", f"{US}#bsky_fg"):
        answer = await call(TIMELINE, service)
        assert answer.json() == {"feed": [], "countsScope": "tracked"}
    assert counter.pds.of(TIMELINE) == []


@pytest.mark.parametrize(
    "nsid",
    [
        "com.atproto.server.createAppPassword",
        "com.atproto.server.deleteAccount",
        "com.atproto.identity.updateHandle",
    ],
)
async def test_naming_a_service_does_not_open_calls_of_the_account_itself(
    counter: Counter, nsid: str
) -> None:
    session = await counter.signed_in()
    headers = {"authorization": f"Bearer {session['accessJwt']}", "atproto-proxy": "did:web:a.example#b"}
    answer = await counter.http.post(f"/xrpc/{nsid}", json={}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (501, "MethodNotImplemented")
    assert counter.pds.of(nsid) == []
