import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import Refused, Unavailable
from appliance.protocol import lexicons
from appliance.timeline import labelers
from appliance.xrpc import admin, private, reads
from appliance.xrpc.asgi import BODY_MAX_BYTES, Front
from appliance.xrpc.packing import takes_gzip
from tests.serving import serving
from tests.timeline.village import LABELER, Village, did, uris, village

PASSWORD = "open sesame"
TIMELINE = "app.bsky.feed.getTimeline"
PROFILE = "app.bsky.actor.getProfile"
FEED = "app.bsky.feed.getAuthorFeed"


class Proven(msgspec.Struct, frozen=True):
    did: str
    member: bool


async def authenticate(authorization: str | None, nsid: str, *, procedure: bool = False) -> Proven | None:
    """``Bearer ann`` is ann, a member; ``Bearer guest-ann`` is no member."""
    if authorization is None:
        return None
    name = authorization.removeprefix("Bearer ")
    if name == "wrong":
        raise Refused("the token's signature does not fit", name="BadJwtSignature")
    if name == "unreachable":
        raise Unavailable("the directory does not answer", retry_after_s=7)
    if name == "broken":
        raise RuntimeError("a mistake of ours")
    return Proven(did(name.removeprefix("guest-")), not name.startswith("guest-"))


def front(place: Village, rest: Any = None, *, password: str = PASSWORD) -> Front:
    return Front(
        [
            *reads.methods(place.views, place.settings, "1.2.3"),
            *private.methods(place.database, place.clock),
            *(admin.methods(place.database, place.clock) if password else []),
        ],
        authenticate,
        default_labelers=labelers.default(place.settings.labelers),
        admin_password=password,
        rest=rest,
        rest_has=lambda nsid: nsid == "com.atproto.server.createSession",
    )


class Client:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(
        self, nsid: str, who: str = "", headers: dict[str, str] | None = None, **params: Any
    ) -> httpx.Response:
        return await self.http.get(
            f"/xrpc/{nsid}", params=params, headers={**_bearer(who), **(headers or {})}
        )

    async def post(self, nsid: str, body: Any, who: str = "", **more: Any) -> httpx.Response:
        return await self.http.post(f"/xrpc/{nsid}", json=body, headers=_bearer(who), **more)


def _bearer(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {who}"} if who else {}


@asynccontextmanager
async def opened(path: Path, **how: Any) -> AsyncIterator[tuple[Village, Client]]:
    async with village(path) as place:
        transport = httpx.ASGITransport(front(place, **how))
        async with httpx.AsyncClient(transport=transport, base_url="http://us.test") as http:
            yield place, Client(http)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Village, Client]]:
    async with opened(tmp_path) as pair:
        await pair[0].join("ann", "bob")
        yield pair


def refused(answer: httpx.Response, status: int, name: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] == name
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_an_unknown_method_is_not_implemented(both: tuple[Village, Client]) -> None:
    _, client = both
    for nsid in ("app.bsky.nope.getNothing", "com.atproto.server.getSession", "", "a/b", "x" * 5000):
        refused(await client.get(nsid), 501, "MethodNotImplemented")
        refused(await client.post(nsid, {}), 501, "MethodNotImplemented")


async def test_each_kind_of_method_has_its_verb(both: tuple[Village, Client]) -> None:
    _, client = both
    refused(await client.post(TIMELINE, {}, "ann"), 400, "InvalidRequest")
    refused(await client.get("app.bsky.graph.muteActor", "ann"), 400, "InvalidRequest")
    head = await client.http.head(f"/xrpc/{PROFILE}", params={"actor": "ann.test"})
    full = await client.get(PROFILE, actor="ann.test")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(full.content))


async def test_browsers_may_call_from_anywhere(both: tuple[Village, Client]) -> None:
    _, client = both
    asked = await client.http.options(
        f"/xrpc/{TIMELINE}",
        headers={"origin": "https://x.test", "access-control-request-headers": "authorization"},
    )
    assert asked.status_code == 204
    assert "authorization" in asked.headers["access-control-allow-headers"]
    answer = await client.get(TIMELINE, "ann")
    assert answer.headers["access-control-allow-origin"] == "*"
    for name in ("atproto-repo-rev", "atproto-content-labelers", "ratelimit-limit", "retry-after"):
        assert name in answer.headers["access-control-expose-headers"]


async def test_who_must_sign_in_and_who_may(both: tuple[Village, Client]) -> None:
    _, client = both
    refused(await client.get(TIMELINE), 401, "AuthMissing")
    refused(await client.get(TIMELINE, "wrong"), 401, "BadJwtSignature")
    refused(await client.get(PROFILE, "wrong", actor="ann.test"), 401, "BadJwtSignature")
    assert (await client.get(PROFILE, actor="ann.test")).status_code == 200
    assert (
        await client.get("com.atproto.identity.resolveHandle", "wrong", handle="ann.test")
    ).status_code == 200
    unreachable = await client.get(TIMELINE, "unreachable")
    refused(unreachable, 503, "UpstreamFailure")
    assert unreachable.headers["retry-after"] == "7"
    twice = await client.http.get(
        f"/xrpc/{TIMELINE}", headers=[("authorization", "Bearer ann"), ("authorization", "Bearer bob")]
    )
    refused(twice, 401, "AuthenticationRequired")


async def test_our_own_mistakes_are_500_and_tell_nothing(both: tuple[Village, Client]) -> None:
    _, client = both
    answer = await client.get(TIMELINE, "broken")
    refused(answer, 500, "InternalServerError")
    assert "mistake" not in answer.text


async def test_answers_carry_revision_and_labelers(both: tuple[Village, Client]) -> None:
    place, client = both
    ref = await place.post("ann")
    answer = await client.get(TIMELINE, "ann")
    assert answer.headers["atproto-repo-rev"] == ref["uri"].rsplit("/", 1)[1]
    assert answer.headers["atproto-content-labelers"] == f"{LABELER};redact"
    none = await client.get(TIMELINE, "ann", {"atproto-accept-labelers": ""})
    assert "atproto-content-labelers" not in none.headers
    missing = await client.get(
        "app.bsky.feed.getPostThread", "ann", uri=f"at://{did('ann')}/app.bsky.feed.post/3kaaaaaaaaa2a"
    )
    refused(missing, 400, "NotFound")
    assert "atproto-repo-rev" in missing.headers


async def test_small_methods_answer(both: tuple[Village, Client]) -> None:
    _, client = both
    found = await client.get("com.atproto.identity.resolveHandle", handle="Ann.Test")
    assert found.json() == {"did": did("ann")}
    refused(await client.get("com.atproto.identity.resolveHandle", handle="no.test"), 400, "InvalidRequest")
    assert (await client.get("_health")).json() == {"version": "1.2.3"}
    server = (await client.get("com.atproto.server.describeServer")).json()
    assert lexicons.validate_output("com.atproto.server.describeServer", server) is None


BAD_PARAMETERS: list[tuple[str, list[tuple[str, str]]]] = [
    (TIMELINE, [("limit", "0")]),
    (TIMELINE, [("limit", "-1")]),
    (TIMELINE, [("limit", "101")]),
    (TIMELINE, [("limit", "abc")]),
    (TIMELINE, [("limit", "1.5")]),
    (TIMELINE, [("limit", "1e1")]),
    (TIMELINE, [("limit", "9" * 5000)]),
    (TIMELINE, [("limit", "١٢")]),
    (TIMELINE, [("cursor", "garbage")]),
    (TIMELINE, [("cursor", "1__2__3")]),
    (TIMELINE, [("cursor", "9" * 40 + "__a")]),
    (FEED, []),
    (FEED, [("actor", "")]),
    (FEED, [("actor", "not an actor")]),
    (FEED, [("actor", "did:plc:")]),
    (FEED, [("actor", "nobody.test")]),
    (PROFILE, [("actor", "\x00")]),
    (PROFILE, [("actor", "did:plc:" + "a" * 4000)]),
    ("app.bsky.feed.getPosts", []),
    ("app.bsky.feed.getPosts", [("uris", "not-a-uri")]),
    ("app.bsky.feed.getPosts", [("uris", f"at://{did('ann')}/app.bsky.feed.post/{n}") for n in range(26)]),
    ("app.bsky.feed.getPosts", [("uris", "at://ann.test/app.bsky.feed.post/3k2aaaaaaaaaa")]),
    ("app.bsky.actor.getProfiles", [("actors", f"a{n}.test") for n in range(26)]),
    ("app.bsky.feed.getPostThread", [("uri", f"at://{did('ann')}/app.bsky.feed.post/x"), ("depth", "1001")]),
    ("app.bsky.feed.getPostThread", [("uri", f"at://{did('ann')}/app.bsky.feed.post/x"), ("depth", "-1")]),
    ("app.bsky.feed.getPostThread", [("uri", f"at://{did('ann')}")]),
    ("app.bsky.feed.getLikes", [("uri", "at://ann.test/app.bsky.feed.post/3k2aaaaaaaaaa")]),
    ("app.bsky.graph.getFollows", [("actor", did("zoe"))]),
]


@pytest.mark.parametrize(("nsid", "pairs"), BAD_PARAMETERS)
async def test_bad_parameters_are_the_callers_mistake(
    both: tuple[Village, Client], nsid: str, pairs: list[tuple[str, str]]
) -> None:
    _, client = both
    answer = await client.http.get(f"/xrpc/{nsid}?{urlencode(pairs)}", headers=_bearer("ann"))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] in ("InvalidRequest", "NotFound")


@pytest.mark.parametrize(
    "query",
    [
        "limit=%",
        "limit=%ff%fe",
        "%00=1",
        "&&&=&",
        "limit=5;limit=6",
        "a=1&" * 2000,
        "cursor=%f0%9f%98%80",
        "x" * 64_100,
    ],
)
async def test_hostile_query_strings_are_never_our_mistake(both: tuple[Village, Client], query: str) -> None:
    _, client = both
    answer = await client.http.get(f"/xrpc/{TIMELINE}?{query}", headers=_bearer("ann"))
    assert answer.status_code in (200, 400), answer.text


READS = [
    TIMELINE,
    FEED,
    PROFILE,
    "app.bsky.feed.getPosts",
    "app.bsky.feed.getPostThread",
    "app.bsky.actor.getProfiles",
    "app.bsky.graph.getFollows",
    "app.bsky.graph.getFollowers",
    "app.bsky.feed.getLikes",
    "app.bsky.feed.getRepostedBy",
    "com.atproto.identity.resolveHandle",
]
POST_URI = f"at://{did('ann')}/app.bsky.feed.post"
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "0", "-5", "5", "101", "true", "null", "NaN", "::", "\ud800", "posts_with_media"]),
    st.sampled_from(["ann.test", did("ann"), did("zoe"), "at://", POST_URI, f"{POST_URI}/3kaaaaaaaaa2a"]),
    st.sampled_from(
        [f"at://{did('ann')}/com.example.other/self", "1__bafyreiaaaaaaaaaaaa", "99999999999999__z"]
    ),
)
NAMES = st.sampled_from(
    [
        "limit",
        "cursor",
        "actor",
        "actors",
        "uri",
        "uris",
        "cid",
        "depth",
        "parentHeight",
        "filter",
        "includePins",
        "handle",
        "x",
    ]
)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Client]]:
    """One village for many questions."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Client:
            place, client = await stack.enter_async_context(opened(tmp_path_factory.mktemp("lasting")))
            await place.join("ann", "bob")
            await place.follow("ann", "bob")
            await place.post("ann", rkey="3kaaaaaaaaa2a")
            return client

        yield runner, runner.run(start())
        runner.run(stack.aclose())


@settings(max_examples=250)
@given(st.sampled_from(READS), st.lists(st.tuples(NAMES, VALUES), max_size=6), st.booleans())
def test_no_parameters_bring_a_read_to_fall(
    lasting: tuple[asyncio.Runner, Client], nsid: str, pairs: list[tuple[str, str]], signed_in: bool
) -> None:
    runner, client = lasting
    query = urlencode(pairs, errors="surrogatepass")
    headers = _bearer("ann" if signed_in else "")
    answer = runner.run(client.http.get(f"/xrpc/{nsid}?{query}", headers=headers))
    assert answer.status_code in (200, 400, 401), (nsid, pairs, answer.text)
    if answer.status_code == 200:
        assert lexicons.validate_output(nsid, answer.json()) is None


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from(["ann", "guest-ann"]))
def test_no_body_brings_a_procedure_to_fall(
    lasting: tuple[asyncio.Runner, Client], body: bytes, who: str
) -> None:
    runner, client = lasting
    headers = {**_bearer(who), "content-type": "application/json"}
    answer = runner.run(client.http.post("/xrpc/app.bsky.graph.muteActor", content=body, headers=headers))
    assert answer.status_code in (400, 403), answer.text


async def test_mutes_are_kept_for_members(both: tuple[Village, Client]) -> None:
    place, client = both
    await place.follow("ann", "bob")
    await place.post("bob")

    answer = await client.post("app.bsky.graph.muteActor", {"actor": "bob.test"}, "ann")
    assert (answer.status_code, answer.content) == (200, b"")
    again = await client.post("app.bsky.graph.muteActor", {"actor": did("bob")}, "ann")
    assert again.status_code == 200
    assert uris(await place.home("ann")) == []

    refused(
        await client.post("app.bsky.graph.muteActor", {"actor": "ann.test"}, "ann"), 400, "InvalidRequest"
    )
    refused(await client.post("app.bsky.graph.muteActor", {"actor": "no.test"}, "ann"), 400, "InvalidRequest")
    refused(
        await client.post("app.bsky.graph.muteActor", {"actor": "bob.test"}, "guest-zoe"), 403, "NotAMember"
    )
    refused(await client.post("app.bsky.graph.muteActor", {"actor": "bob.test"}), 401, "AuthMissing")
    rows = await place.database.read(lambda r: r.all("SELECT did FROM actor WHERE did = ?", (did("zoe"),)))
    assert rows == []

    assert (await client.post("app.bsky.graph.unmuteActor", {"actor": "bob.test"}, "ann")).status_code == 200
    assert len(uris(await place.home("ann"))) == 1


async def test_bookmarks_are_counted_once(both: tuple[Village, Client]) -> None:
    place, client = both
    ref = await place.post("bob")

    async def seen() -> tuple[int, bool]:
        answer = await client.get("app.bsky.feed.getPosts", "ann", uris=ref["uri"])
        (view,) = answer.json()["posts"]
        return view["bookmarkCount"], view["viewer"]["bookmarked"]

    assert await seen() == (0, False)
    for _ in range(2):
        assert (await client.post("app.bsky.bookmark.createBookmark", ref, "ann")).status_code == 200
    assert await seen() == (1, True)
    for _ in range(2):
        gone = await client.post("app.bsky.bookmark.deleteBookmark", {"uri": ref["uri"]}, "ann")
        assert gone.status_code == 200
    assert await seen() == (0, False)
    profile = {"uri": f"at://{did('bob')}/app.bsky.actor.profile/self", "cid": ref["cid"]}
    refused(
        await client.post("app.bsky.bookmark.createBookmark", profile, "ann"), 400, "UnsupportedCollection"
    )


async def test_bodies_have_a_limit_and_a_kind(both: tuple[Village, Client]) -> None:
    _, client = both
    mute = "/xrpc/app.bsky.graph.muteActor"
    big = {"actor": "bob.test", "more": "x" * BODY_MAX_BYTES}
    refused(await client.http.post(mute, json=big, headers=_bearer("ann")), 400, "PayloadTooLarge")
    plain = {**_bearer("ann"), "content-type": "text/plain"}
    refused(await client.http.post(mute, content=b"{}", headers=plain), 400, "InvalidRequest")
    deep = {**_bearer("ann"), "content-type": "application/json"}
    refused(await client.http.post(mute, content=b"[" * 50_000, headers=deep), 400, "InvalidRequest")


def basic(password: str, name: str = "admin") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def test_the_operator_takes_down_and_sees_what_is_down(both: tuple[Village, Client]) -> None:
    place, client = both
    ref = await place.post("bob")
    update, status = "com.atproto.admin.updateSubjectStatus", "com.atproto.admin.getSubjectStatus"
    account = {"$type": "com.atproto.admin.defs#repoRef", "did": did("bob")}
    record = {"$type": "com.atproto.repo.strongRef", **ref}

    async def set_to(subject: dict[str, str], takedown: dict[str, Any]) -> Any:
        body = {"subject": subject, "takedown": takedown}
        answer = await client.http.post(f"/xrpc/{update}", json=body, headers=basic(PASSWORD))
        assert answer.status_code == 200, answer.text
        assert lexicons.validate_output(update, answer.json()) is None
        return answer.json()

    told = await set_to(record, {"applied": True, "ref": "t1"})
    assert told == {"subject": record, "takedown": {"applied": True, "ref": "t1"}}
    assert (await client.get("app.bsky.feed.getPosts", uris=ref["uri"])).json() == {"posts": []}
    found = await client.http.get(f"/xrpc/{status}", params={"uri": ref["uri"]}, headers=basic(PASSWORD))
    assert found.json()["takedown"] == {"applied": True, "ref": "t1"}
    assert lexicons.validate_output(status, found.json()) is None
    assert (
        await client.http.get(f"/xrpc/{FEED}", params={"actor": "bob.test"}, headers=basic(PASSWORD))
    ).json()["feed"]
    await set_to(record, {"applied": False})
    assert len((await client.get("app.bsky.feed.getPosts", uris=ref["uri"])).json()["posts"]) == 1

    await set_to(account, {"applied": True})
    refused(await client.get(PROFILE, actor="bob.test"), 400, "AccountTakedown")
    seen = await client.http.get(f"/xrpc/{PROFILE}", params={"actor": "bob.test"}, headers=basic(PASSWORD))
    assert seen.json()["handle"] == "bob.test"


@pytest.mark.parametrize(
    "headers", [basic("wrong"), basic(PASSWORD, "root"), {"authorization": "Basic !!!"}, {}, _bearer("ann")]
)
async def test_nobody_else_is_the_operator(both: tuple[Village, Client], headers: dict[str, str]) -> None:
    _, client = both
    body = {
        "subject": {"$type": "com.atproto.admin.defs#repoRef", "did": did("bob")},
        "takedown": {"applied": True},
    }
    answer = await client.http.post("/xrpc/com.atproto.admin.updateSubjectStatus", json=body, headers=headers)
    refused(answer, 401, "AuthenticationRequired")
    assert (await client.get(PROFILE, actor="bob.test")).status_code == 200


async def test_the_operators_password_is_not_a_viewer(both: tuple[Village, Client]) -> None:
    _, client = both
    answer = await client.http.get(f"/xrpc/{TIMELINE}", headers=basic(PASSWORD))
    refused(answer, 401, "AuthenticationRequired")


async def test_without_a_password_there_is_no_operator(tmp_path: Path) -> None:
    async with opened(tmp_path, password="") as (place, client):
        await place.join("bob")
        body = {
            "subject": {"$type": "com.atproto.admin.defs#repoRef", "did": did("bob")},
            "takedown": {"applied": True},
        }
        for password in ("", PASSWORD):
            answer = await client.http.post(
                "/xrpc/com.atproto.admin.updateSubjectStatus", json=body, headers=basic(password)
            )
            refused(answer, 501, "MethodNotImplemented")
            seen = await client.http.get(
                f"/xrpc/{PROFILE}", params={"actor": "bob.test"}, headers=basic(password)
            )
            refused(seen, 401, "AuthenticationRequired")


async def test_what_is_not_ours_goes_on_to_the_rest_with_cors(tmp_path: Path) -> None:
    async def rest(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-rest", b"1")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async with opened(tmp_path, rest=rest) as (_, client):
        session = await client.post("com.atproto.server.createSession", {})
        assert session.headers["x-rest"] == "1"
        assert session.headers["access-control-allow-origin"] == "*"
        page = await client.http.get("/profile/ann.test")
        assert page.text == "/profile/ann.test"
        assert "access-control-allow-origin" not in page.headers
        refused(await client.get("com.example.other"), 501, "MethodNotImplemented")


async def test_it_speaks_http_on_a_real_socket(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        await place.post("ann")
        async with serving(front(place)) as origin, httpx.AsyncClient(base_url=origin) as http:
            answer = await http.get(f"/xrpc/{TIMELINE}", headers=_bearer("ann"))
            assert lexicons.validate_output(TIMELINE, answer.json()) is None
            assert len(answer.json()["feed"]) == 1
            refused(await http.get("/xrpc/app.bsky.nope"), 501, "MethodNotImplemented")


async def test_long_answers_are_packed_for_those_who_take_it_and_only_for_them(
    both: tuple[Village, Client],
) -> None:
    place, client = both
    for n in range(40):
        await place.post("ann", f"one of forty {n}")
    plain = await client.get(FEED, actor="ann.test", headers={"accept-encoding": "identity"})
    packed = await client.get(FEED, actor="ann.test", headers={"accept-encoding": "br, gzip;q=0.5"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert (
        int(packed.headers["content-length"]) * 4 < int(plain.headers["content-length"]) == len(plain.content)
    )
    for answer in (plain, packed):
        assert "accept-encoding" in answer.headers["vary"]
        assert "authorization" in answer.headers["vary"]
        assert answer.headers.get_list("content-length") == [answer.headers["content-length"]]
    small = await client.get("_health", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        (b"gzip", True),
        (b"GZIP, deflate, br", True),
        (b"br;q=1, gzip;q=0.001", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000, *", False),
        (b"*;q=0", False),
        (b"br, zstd", False),
        (b"", False),
        (b"gzipped", False),
        (b";;,=,q=", False),
    ],
)
def test_accept_encoding_is_read_as_written(accepted: bytes, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


async def test_t101_a_name_that_is_not_ours_is_answered_by_nobody(tmp_path: Path) -> None:
    async with village(tmp_path) as place:

        async def rest(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"page"})

        app = Front(
            reads.methods(place.views, place.settings, "1.2.3"),
            authenticate,
            default_labelers=(),
            rest=rest,
            hosts=frozenset({"us.test", "::1"}),
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://us.test") as http:
            for host in ("us.test", "US.test:443", "[::1]:2580"):
                for path in ("/xrpc/_health", "/login"):
                    assert (await http.get(path, headers={"Host": host})).status_code == 200
            forwarded = {"Host": "us.test", "X-Forwarded-Host": "evil.test"}
            assert (await http.get("/login", headers=forwarded)).text == "page"
            for host in ("evil.test", "us.test.evil.test", "us.test@evil.test", "[", "", "evil.test:2580"):
                for path in ("/xrpc/_health", "/login", "/api/actions/post"):
                    answer = await http.get(path, headers={"Host": host})
                    assert (answer.status_code, answer.json()["error"]) == (421, "MisdirectedRequest")
            assert (await http.get("/health", headers={"Host": "10.0.0.7"})).status_code == 200
