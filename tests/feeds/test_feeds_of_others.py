"""getFeed: a generator names posts, our rules decide which of them are shown."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.feeds.generators import SKELETON
from appliance.protocol import lexicons
from tests.auth.small_pds import Asked
from tests.feeds.square import FEED, GENERATOR, US, Square, square
from tests.timeline.village import did, uris

GET = "app.bsky.feed.getFeed"
SEND = "app.bsky.feed.sendInteractions"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Square]:
    async with square(tmp_path) as made:
        await made.place.join("ann", "bob", "cat", "cook")
        await made.publish()
        yield made


def shown(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert lexicons.validate_output(GET, answer.json()) is None
    return answer.json()


async def test_a_feed_is_shown_in_its_order_with_what_the_generator_said_of_it(here: Square) -> None:
    one, two = await here.place.post("bob", "one"), await here.place.post("cat", "two")
    repost = await here.place.repost("ann", one)
    reason = {"$type": "app.bsky.feed.defs#skeletonReasonRepost", "repost": repost["uri"]}
    pin = {"$type": "app.bsky.feed.defs#skeletonReasonPin"}
    here.answers(
        {"post": two["uri"], "feedContext": "because", "reason": pin},
        {"post": one["uri"], "reason": reason},
        {"post": two["uri"], "reason": reason},
        two["uri"],
        f"at://{did('bob')}/app.bsky.feed.post/3kaaaaaaaaaaa",
        cursor="more",
        reqId="r1",
    )
    headers = {"accept-language": "de", "x-bsky-topics": "soup", "cookie": "secret"}

    answer = await here.ask(GET, feed=FEED, limit=10, headers=headers)

    page = shown(answer)
    assert uris(page) == [two["uri"], one["uri"], two["uri"]]
    assert page["cursor"] == "more"
    assert {item["reqId"] for item in page["feed"]} == {"r1"}
    assert [item.get("feedContext") for item in page["feed"]] == ["because", None, None]
    assert page["feed"][0]["reason"]["$type"] == "app.bsky.feed.defs#reasonPin"
    # The repost is of another post than the third entry says: that entry is no repost of anything.
    assert page["feed"][1]["reason"]["by"]["did"] == did("ann")
    (asked,) = here.generator.of(SKELETON)
    assert (asked.headers["accept-language"], asked.headers["x-bsky-topics"]) == ("de", "soup")
    assert not {"authorization", "cookie"} & set(asked.headers)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["atproto-content-labelers"]


async def test_no_more_than_was_asked_for_and_no_cursor_that_leads_nowhere(here: Square) -> None:
    posts = [(await here.place.post("bob", f"{n}"))["uri"] for n in range(4)]
    here.answers(*posts, cursor="same")

    assert uris(shown(await here.ask(GET, feed=FEED, limit=2))) == posts[:2]
    assert "cursor" not in shown(await here.ask(GET, feed=FEED, cursor="same"))
    here.answers(cursor="on")
    assert shown(await here.ask(GET, feed=FEED)) == {"feed": []}


@pytest.mark.invariant("blocked-is-unseen")
async def test_whom_the_reader_blocks_or_mutes_is_left_out(here: Square) -> None:
    one, two = await here.place.post("bob", "one"), await here.place.post("cat", "two")
    three = await here.place.post("cook", "three")
    await here.place.block("ann", "bob")
    await here.place.mute("ann", "cat")
    here.answers(one["uri"], two["uri"], three["uri"])

    assert uris(shown(await here.ask(GET, here.token("ann", GET), feed=FEED))) == [three["uri"]]
    assert uris(shown(await here.ask(GET, feed=FEED))) == [one["uri"], two["uri"], three["uri"]]


async def test_the_generators_own_token_goes_to_that_generator_and_to_nobody_else(here: Square) -> None:
    post = await here.place.post("bob")
    here.answers(post["uri"])
    good = here.token("ann", SKELETON, GENERATOR)

    assert uris(shown(await here.ask(GET, good, feed=FEED))) == [post["uri"]]
    assert here.generator.of(SKELETON)[-1].headers["authorization"] == good
    fragment = here.token("ann", SKELETON, f"{GENERATOR}#bsky_fg")
    shown(await here.ask(GET, fragment, feed=FEED))

    count = len(here.generator.of(SKELETON))
    for wrong in (here.token("ann", SKELETON, did("other")), here.token("ann", SKELETON, US)):
        answer = await here.ask(GET, wrong, feed=FEED)
        assert (answer.status_code, answer.json()["error"]) == (401, "BadJwtAudience")
    answer = await here.ask(GET, here.token("ann", "app.bsky.feed.getTimeline"), feed=FEED)
    assert (answer.status_code, answer.json()["error"]) == (401, "BadJwtLexiconMethod")
    assert len(here.generator.of(SKELETON)) == count

    shown(await here.ask(GET, here.token("ann", GET), feed=FEED))
    assert "authorization" not in here.generator.of(SKELETON)[-1].headers


async def test_who_signed_in_here_is_vouched_for_by_his_own_server(here: Square) -> None:
    await here.admit("ann")
    session = await here.sign_in("ann")
    here.answers()

    async def vouch(asked: Asked) -> tuple[int, Any]:
        assert asked.query == f"aud={GENERATOR.replace(':', '%3A')}&lxm={SKELETON}", asked.query
        return 200, {"token": "a.b.c"}

    here.pds.instead["com.atproto.server.getServiceAuth"] = vouch
    shown(await here.ask(GET, session, feed=FEED))
    assert here.generator.of(SKELETON)[-1].headers["authorization"] == "Bearer a.b.c"


async def test_posts_that_are_not_here_are_fetched_for_members_only(here: Square) -> None:
    absent = f"at://{did('bob')}/app.bsky.feed.post/3kaaaaaaaaaaa"
    here.answers(absent)

    async def fetch(wanted: list[str]) -> None:
        await here.place.post("bob", "brought", rkey="3kaaaaaaaaaaa")

    here.fetch = fetch
    assert shown(await here.ask(GET, here.token("ann", GET), feed=FEED)) == {"feed": []}
    assert here.brought == []
    await here.admit("cat")
    assert uris(shown(await here.ask(GET, here.token("cat", GET), feed=FEED))) == [absent]
    assert here.brought == [[absent]]


@pytest.mark.parametrize(
    ("reply", "status", "name", "message"),
    [
        ((400, {"error": "UnknownFeed", "message": "no soup"}), 400, "UnknownFeed", "no soup"),
        ((403, {"error": "Paid\u2028Only", "message": "pay"}), 400, "InvalidRequest", "pay"),
        ((400, {"error": "ExpiredToken", "message": "old"}), 400, "InvalidRequest", "old"),
        ((401, b"<html>"), 400, "InvalidRequest", "the feed does not answer this"),
        ((500, {"error": "Boom", "message": "a trace"}), 502, "Boom", "feed unavailable"),
        ((200, {"nope": 1}), 502, "InvalidFeedResponse", "feed provided an invalid response"),
        ((200, {"feed": [{"post": "no"}]}), 502, "InvalidFeedResponse", "feed provided an invalid response"),
        ((200, b"[" * 100), 502, "InvalidFeedResponse", "feed provided an invalid response"),
        ((200, b" " * 2_000_000), 502, "UpstreamFailure", "feed unavailable"),
        ((301, {}, {"location": "http://localhost:1/"}), 502, "UpstreamFailure", "feed unavailable"),
    ],
)  # fmt: skip
async def test_what_a_generator_fails_at_is_told_by_name(
    here: Square, reply: Any, status: int, name: str, message: str
) -> None:
    here.replies(*reply)
    answer = await here.ask(GET, feed=FEED)
    assert (answer.status_code, answer.json()) == (status, {"error": name, "message": message})


async def test_a_feed_without_a_generator_is_told_in_the_words_that_clients_know(here: Square) -> None:
    async def said(feed: str = FEED, method: str = GET) -> tuple[int, str]:
        answer = await here.ask(method, feed=feed)
        return answer.status_code, answer.json()["message"]

    assert await said(FEED + "2") == (400, "could not find feed")
    assert await said(f"at://{did('cook')}/app.bsky.feed.post/soup") == (400, "could not find feed")
    await here.publish(service=did("nobody"), rkey="gone")
    gone = f"at://{did('cook')}/app.bsky.feed.generator/gone"
    assert (await said(gone))[1].startswith("could not resolve did document")
    here.serve(GENERATOR, here.generator.origin, kind="SomethingElse")
    for method in (GET, "app.bsky.feed.getFeedGenerator"):
        assert (await said(method=method))[1].startswith("invalid did document")
    here.serve(GENERATOR, "http://localhost:1")
    assert await said() == (502, "feed unavailable")
    # An address that is not for the likes of us is not asked.
    here.serve(GENERATOR, "http://169.254.169.254")
    assert await said() == (502, "feed unavailable")


async def test_a_generator_is_shown_with_its_feed(here: Square) -> None:
    answer = await here.ask("app.bsky.feed.getFeedGenerator", feed=FEED)
    body = answer.json()
    assert lexicons.validate_output("app.bsky.feed.getFeedGenerator", body) is None
    assert (body["view"]["did"], body["isOnline"], body["isValid"]) == (GENERATOR, True, True)


async def test_what_a_reader_did_goes_on_to_the_generator_by_way_of_his_server(here: Square) -> None:
    await here.admit("ann")
    session = await here.sign_in("ann")
    body = {"feed": FEED, "interactions": [{"item": FEED, "event": "app.bsky.feed.defs#requestLess"}]}

    async def send(authorization: str) -> httpx.Response:
        return await here.http.post(f"/xrpc/{SEND}", json=body, headers={"authorization": authorization})

    assert (await send(session)).status_code == 200
    (asked,) = here.pds.of(SEND)
    assert asked.headers["atproto-proxy"] == f"{GENERATOR}#bsky_fg"
    assert asked.json == body
    answer = await send(here.token("ann", SEND, f"{US}#bsky_fg"))
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequest")
    body.pop("feed")
    assert (await send(here.token("ann", SEND, f"{US}#bsky_fg"))).status_code == 200
    assert (await here.http.post(f"/xrpc/{SEND}", json=body)).status_code == 401
    assert len(here.pds.of(SEND)) == 1
