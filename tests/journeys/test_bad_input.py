"""Every parameter and every body, made wrong from the schemas: a 400 with the protocol's name, never a 500.

``build.py test tests/journeys/test_bad_input.py --long`` tries some hundred times as many bodies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson
import pytest
from hypothesis import given, settings

from appliance.protocol import lexicons
from tests import lexicon_values as values
from tests.journeys.harness import Process, World
from tests.tidy import generated

# What any method may say beside the names in its schema.
GENERAL = {
    "InvalidRequest",
    "AuthenticationRequired",
    "AuthMissing",
    "InvalidToken",
    "ExpiredToken",
    "NotFound",
    "PayloadTooLarge",
    "RateLimitExceeded",
}
# The demo's servers have not everything that is passed on to a member's own.
OF_THE_SERVER = {"UpstreamFailure", "MethodNotImplemented"}
ENDS_THE_SESSION = {"com.atproto.server.deleteSession", "com.atproto.server.refreshSession"}
FAMILIAR = {
    "app.bsky.feed.getTimeline",
    "app.bsky.feed.getAuthorFeed",
    "app.bsky.graph.getFollows",
    "app.bsky.graph.getFollowers",
    "app.bsky.notification.listNotifications",
    "app.bsky.feed.searchPosts",
    "app.bsky.feed.getLikes",
}
RAW_BODIES = {
    "empty": b"",
    "half": b'{"subject": ',
    "a list": b"[]",
    "a number": b"1",
    "not text": b"\xff\xfe{}",
    "a mark before it": b"\xef\xbb\xbf{}",
    "no number": b'{"limit": NaN}',
    "a huge number": b'{"limit": 1e999, "seenAt": ' + b"9" * 5000 + b"}",
    "a surrogate": b'{"actor": "\\ud800", "text": "\\udfff"}',
    "deep": b"[" * 40_000 + b"]" * 40_000,
    "deep objects": b'{"a":' * 15_000 + b"1" + b"}" * 15_000,
    "the same key twice": b'{"actor": 1, "actor": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}',
    "larger than taken": b'{"a": "' + b"x" * 300_000 + b'"}',
}


class Door:
    """The public address of an appliance, with a member's session."""

    def __init__(self, origin: str, world: dict[str, Any]) -> None:
        self.http = httpx.Client(base_url=origin, timeout=30, trust_env=False)
        member = world["members"][0]
        body = {"identifier": member["handle"], "password": member["password"]}
        session = self.http.post("/xrpc/com.atproto.server.createSession", json=body).json()
        self.did = session["did"]
        self.headers = {"authorization": f"Bearer {session['accessJwt']}"}
        self.tried: Counter[int] = Counter()
        self.wrong: list[tuple[Any, ...]] = []
        posts = self.get("app.bsky.feed.getTimeline", {"limit": ["1"]}).json()["feed"]
        uri, cid = (posts[0]["post"][name] for name in ("uri", "cid")) if posts else ("", "")
        self.known = {
            "at-identifier": self.did,
            "did": self.did,
            "handle": session["handle"],
            "at-uri": uri,
            "cid": cid,
        }

    def get(self, nsid: str, parameters: dict[str, list[str]]) -> httpx.Response:
        pairs = [(name, text) for name, texts in parameters.items() for text in texts]
        return self.http.get(f"/xrpc/{nsid}?{urlencode(pairs)}", headers=self.headers)

    def post(self, nsid: str, body: bytes, kind: str = "application/json") -> httpx.Response:
        # Some are refused before their body was read.
        headers = {**self.headers, "content-type": kind, "connection": "close"}
        return self.http.post(f"/xrpc/{nsid}", content=body, headers=headers)

    def judge(self, nsid: str, answer: httpx.Response, *, sent: Any, is_wrong: bool) -> None:
        """Note it when this is no answer for what was sent; ``is_wrong`` by the method's schema."""
        self.tried[answer.status_code] += 1
        reason = what_is_wrong(nsid, answer, is_wrong=is_wrong)
        if reason:
            self.wrong.append((nsid, str(sent)[:300], answer.status_code, reason, answer.text[:300]))


def what_is_wrong(nsid: str, answer: httpx.Response, *, is_wrong: bool) -> str:
    """Nothing, or what no caller should see."""
    if answer.status_code == 200:
        # What is passed on is the member's own server's to refuse.
        if is_wrong and METHODS[nsid] == "served":
            return "taken"
        output = lexicons.method(nsid).get("output", {})
        if output.get("encoding") != "application/json":
            return "" if output or not answer.content else "an answer where there is none"
        return lexicons.validate_output(nsid, answer.json()) or ""
    try:
        body = answer.json()
    except ValueError:
        return "the error is not JSON"
    name = body.get("error")
    if not isinstance(name, str) or not isinstance(body.get("message"), str):
        return "the error has no name and message"
    if name in OF_THE_SERVER and METHODS[nsid] == "passed on":
        return ""
    if not 400 <= answer.status_code < 500:
        return "not the caller's mistake"
    own = {each["name"] for each in lexicons.method(nsid).get("errors", ())}
    return "" if name in own | GENERAL else f"nobody knows the name {name}"


METHODS = {
    method.nsid: method.status
    for method in generated.xrpc_methods()
    if method.status != "501" and not method.nsid.startswith("chat.") and method.kind != "subscription"
}
QUERIES = [nsid for nsid in METHODS if lexicons.method(nsid)["type"] == "query"]
PROCEDURES = [nsid for nsid in METHODS if nsid not in QUERIES and nsid not in ENDS_THE_SESSION]
WITH_BODY = [nsid for nsid in PROCEDURES if values.body_schema(nsid) is not None]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("bad-input")
    world = World(folder / "world", accounts=6)
    with asyncio.Runner() as runner:
        runner.run(world.start(rate=0))
        more = {"ADMIN_PASSWORD": "of the operator", "FEEDS": "true"}
        process = Process(folder / "appliance", world.settings() | more)
        try:
            runner.run(process.start())
            made = Door(process.origin, world.info)
            yield made
            made.http.close()
            assert "xrpc_failed" not in process.tail(10_000_000)
        finally:
            if process.alive:
                runner.run(process.stop())
            runner.run(world.stop())


def settle(door: Door, least: int) -> None:
    tried, wrong = door.tried.copy(), door.wrong.copy()
    door.tried.clear()
    door.wrong.clear()
    print(f"{tried.total()} calls: {dict(sorted(tried.items()))}")
    assert wrong == []
    assert tried.total() >= least


def breaks(nsid: str, parameters: dict[str, list[str]]) -> bool:
    """Does the schema refuse them? What is empty counts as absent."""
    pairs = [(name, text) for name, texts in parameters.items() for text in texts]
    try:
        lexicons.parse_parameters(nsid, pairs)
    except Exception:
        return True
    return False


def test_each_parameter_of_each_query_may_be_anything(door: Door) -> None:
    for nsid in QUERIES:
        right = values.right_parameters(nsid, door.known)
        for parameter in lexicons.query_parameters(nsid):
            for texts in values.odd_parameters(parameter):
                sent = right | {parameter.name: texts}
                door.judge(nsid, door.get(nsid, sent), sent=sent, is_wrong=breaks(nsid, sent))
            without = {name: texts for name, texts in right.items() if name != parameter.name}
            door.judge(nsid, door.get(nsid, without), sent=without, is_wrong=parameter.required)
        unknown = right | {"unknown": ["1"], "limit[]": ["2"]}
        door.judge(nsid, door.get(nsid, unknown), sent=unknown, is_wrong=False)
    settle(door, least=2_000)


def test_a_cursor_of_another_list_is_taken_or_refused_by_name(door: Door) -> None:
    cursors = []
    for nsid in FAMILIAR:
        page = door.get(nsid, values.right_parameters(nsid, door.known) | {"limit": ["1"]}).json()
        cursors += [page["cursor"]] if "cursor" in page else []
    assert len(cursors) >= 3
    for nsid in QUERIES:
        if not any(parameter.name == "cursor" for parameter in lexicons.query_parameters(nsid)):
            continue
        for cursor in cursors:
            for text in (cursor, cursor[:-1], cursor * 2, cursor[::-1]):
                sent = values.right_parameters(nsid, door.known) | {"cursor": [text], "limit": ["2"]}
                door.judge(nsid, door.get(nsid, sent), sent=sent, is_wrong=False)
    settle(door, least=300)


def test_a_query_string_that_is_no_text_is_refused(door: Door) -> None:
    for query in ("%ED%A0%80", "%FF", "limit=%C0%80", "&" * 2000, "a=1&" * 2000, "=%00", "limit=5;cursor=1"):
        for nsid in ("app.bsky.feed.getTimeline", "app.bsky.actor.getProfile"):
            answer = door.http.get(f"/xrpc/{nsid}?{query}", headers=door.headers)
            door.judge(nsid, answer, sent=query, is_wrong=False)
    settle(door, least=10)


def test_a_body_that_is_no_json_of_its_kind_is_refused(door: Door) -> None:
    for nsid in WITH_BODY:
        for name, body in RAW_BODIES.items():
            door.judge(nsid, door.post(nsid, body), sent=name, is_wrong=name != "the same key twice")
        for kind in ("", "text/plain", "application/cbor", "multipart/form-data; boundary=x"):
            door.judge(nsid, door.post(nsid, b"{}", kind), sent=kind, is_wrong=True)
    settle(door, least=300)


def test_each_body_with_something_wrong_in_it_is_refused_by_name(
    door: Door, pytestconfig: pytest.Config
) -> None:
    each = 400 if pytestconfig.getoption("--long") else 12
    for nsid in WITH_BODY:
        schema = values.body_schema(nsid)
        assert schema is not None
        right = values.example(schema, nsid)
        assert lexicons.validate_input(nsid, right) is None, (nsid, right)
        settings(max_examples=each, database=None)(trial_of_bodies(door, nsid, right))()
    settle(door, least=each * len(WITH_BODY) // 2)


def trial_of_bodies(door: Door, nsid: str, right: Any) -> Callable[[], None]:
    @given(values.mutated(right))
    def trial(body: Any) -> None:
        try:
            sent = orjson.dumps(body)
        except TypeError:  # an integer that JSON has no room for
            return
        wrong = lexicons.validate_input(nsid, orjson.loads(sent)) is not None
        door.judge(nsid, door.post(nsid, sent), sent=sent, is_wrong=wrong)

    return trial


def test_every_method_is_in_the_trial() -> None:
    assert len(QUERIES) + len(PROCEDURES) + len(ENDS_THE_SESSION) == len(METHODS)
    assert len(METHODS) > 100
