"""We are a feed generator: each reader's complete timeline, for clients of others."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.feeds.generators import SKELETON
from appliance.protocol import lexicons
from tests.feeds.square import FEED, US, Square, square
from tests.timeline.village import did, uris

DESCRIBE = "app.bsky.feed.describeFeedGenerator"
PICTURE = {
    "$type": "blob",
    "ref": {"$link": "bafkreieldh4cnxcbr4xjyt6has6wuf3e2aw64usididuesabuvr6jckuku"},
    "mimeType": "image/png",
    "size": 10,
}
IMAGES = {"$type": "app.bsky.embed.images", "images": [{"image": PICTURE, "alt": ""}]}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Square]:
    async with square(tmp_path) as made:
        await made.place.join("ann", "bob", "cat", "cook", "dan")
        await made.place.follow("ann", "bob", "cat")
        await made.admit("ann")
        yield made


async def read(here: Square, feed: str, who: str = "ann", audience: str = US, **more: Any) -> Any:
    answer = await here.ask(SKELETON, here.token(who, SKELETON, audience), feed=feed, **more)
    assert answer.status_code == 200, answer.text
    assert lexicons.validate_output(SKELETON, answer.json()) is None
    return answer.json()


def posts(page: Any) -> list[str]:
    return [entry["post"] for entry in page["feed"]]


async def test_each_feed_holds_what_its_name_says_of_those_whom_the_reader_follows(here: Square) -> None:
    place = here.place
    plain = await place.post("bob", "plain")
    await place.post("dan", "not followed")
    answer = await place.reply("cat", plain)
    picture = await place.post("cat", "look", embed=IMAGES)
    repost = await place.repost("bob", picture)

    whole = await read(here, await here.own_feed("all"))
    assert posts(whole) == [ref["uri"] for ref in (picture, picture, answer, plain)]
    assert whole["feed"][0]["reason"] == {
        "$type": "app.bsky.feed.defs#skeletonReasonRepost", "repost": repost["uri"],
    }  # fmt: skip
    assert posts(whole) == uris(await place.home("ann"))
    assert posts(await read(here, await here.own_feed("no_reposts"))) == [
        ref["uri"] for ref in (picture, answer, plain)
    ]
    assert posts(await read(here, await here.own_feed("no_replies"))) == [
        ref["uri"] for ref in (picture, picture, plain)
    ]
    assert posts(await read(here, await here.own_feed("media"))) == [picture["uri"]]


async def test_a_list_is_a_feed_of_what_those_on_it_post(here: Square) -> None:
    place = here.place
    made = {"purpose": "app.bsky.graph.defs#curatelist", "name": "Friends"}
    friends = await place.write("cook", "app.bsky.graph.list", made)
    await place.write("cook", "app.bsky.graph.listitem", {"list": friends["uri"], "subject": did("dan")})
    post = await place.post("dan")
    await place.post("bob")
    feed = await here.own_feed("list", friends["uri"])

    assert posts(await read(here, feed)) == [post["uri"]]
    await place.block("dan", "ann")
    assert posts(await read(here, feed)) == []
    await place.delete(friends)
    assert posts(await read(here, feed)) == []


@pytest.mark.parametrize("limit", [1, 2, 7, 50])
@pytest.mark.parametrize("kind", ["all", "no_reposts", "no_replies", "media"])
async def test_every_row_is_on_exactly_one_page(here: Square, kind: str, limit: int) -> None:
    place = here.place
    expected = []
    for n in range(12):
        embed = {"embed": IMAGES} if n % 2 else {}
        expected.append((await place.post("bob" if n % 3 else "cat", f"{n}", **embed))["uri"])
    if kind == "media":
        expected = expected[1::2]
    feed = await here.own_feed(kind)
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(30):
        page = await read(here, feed, limit=limit, **cursor)
        found += posts(page)
        if "cursor" not in page:
            break
        cursor = {"cursor": page["cursor"]}
        await place.post("bob", "newer")
    assert found == expected[::-1]


async def test_only_a_token_for_this_call_and_for_us_is_read(here: Square) -> None:
    await here.place.post("bob")
    feed = await here.own_feed("all")
    for audience in (US, f"{US}#bsky_fg"):
        assert len(posts(await read(here, feed, audience=audience))) == 1

    async def refused(authorization: str) -> tuple[int, str]:
        answer = await here.ask(SKELETON, authorization, feed=feed)
        return answer.status_code, answer.json()["error"]

    assert await refused("") == (401, "AuthMissing")
    assert await refused(here.token("ann", SKELETON, did("other"))) == (401, "BadJwtAudience")
    assert await refused(here.token("ann", SKELETON, f"{US}#bsky_notif")) == (401, "BadJwtAudience")
    assert await refused(here.token("ann", "app.bsky.feed.getTimeline")) == (401, "BadJwtLexiconMethod")
    stolen = here.token("ann", SKELETON)
    assert await refused(stolen[:-4] + "AAAA") == (401, "BadJwtSignature")


async def test_what_is_not_published_is_unknown_and_what_is_is_told_to_anybody(here: Square) -> None:
    answer = await here.ask(SKELETON, here.token("ann", SKELETON), feed=FEED)
    assert (answer.status_code, answer.json()["error"]) == (400, "UnknownFeed")
    feed = await here.own_feed("all")
    told = (await here.ask(DESCRIBE)).json()
    assert told == {"did": US, "feeds": [{"uri": feed}]}
    assert lexicons.validate_output(DESCRIBE, told) is None
    answer = await here.ask(SKELETON, here.token("ann", SKELETON), feed=feed, cursor="bad cursor")
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequest")


async def test_our_feed_in_our_own_app_is_the_timeline_and_asks_nobody(here: Square) -> None:
    post = await here.place.post("bob")
    feed = await here.own_feed("all")
    await here.publish(service=US, rkey="all")
    for token in (here.token("ann", "app.bsky.feed.getFeed"), here.token("ann", SKELETON)):
        answer = await here.ask("app.bsky.feed.getFeed", token, feed=feed)
        assert uris(answer.json()) == [post["uri"]]
        assert answer.json()["feed"][0]["post"]["author"]["did"] == did("bob")
    assert here.generator.asked == []


async def opened_by(here: Square, who: str) -> httpx.Response:
    return await here.ask(SKELETON, here.token(who, SKELETON), feed=await here.own_feed("all"))


async def members(here: Square) -> int:
    return await here.place.database.read(lambda r: int(r.value("SELECT count(*) FROM member")))


@pytest.mark.parametrize(
    ("settings", "word"), [({"admission": "allow-list"}, "members"), ({"admission": "invite"}, "invite code")]
)
async def test_a_stranger_is_told_how_to_join(tmp_path: Path, settings: Any, word: str) -> None:
    async with square(tmp_path, public_url="https://timeline.example.net", **settings) as here:
        await here.place.join("dan")
        answer = await opened_by(here, "dan")
        # 401 or 403 would look like the end of his session.
        assert (answer.status_code, answer.json()["error"]) == (400, "NotAdmitted")
        assert word in answer.json()["message"]
        assert "https://timeline.example.net" in answer.json()["message"]
        assert await members(here) == 0


async def test_a_stranger_is_admitted_where_everybody_is_as_long_as_there_is_room(tmp_path: Path) -> None:
    async with square(tmp_path, admission="open", members_max=1) as here:
        await here.place.join("dan", "eve")
        await here.place.follow("dan", "eve")
        assert (await opened_by(here, "dan")).json() == {"feed": []}
        assert await members(here) == 1
        post = await here.place.post("eve")
        feed = f"at://{did('cook')}/app.bsky.feed.generator/all"
        again = await here.ask(SKELETON, here.token("dan", SKELETON), feed=feed)
        assert posts(again.json()) == [post["uri"]]
        answer = await here.ask(SKELETON, here.token("eve", SKELETON), feed=feed)
        assert (answer.status_code, answer.json()["error"]) == (400, "MembersFull")
        assert await members(here) == 1


async def test_the_allow_list_admits_by_did_and_by_confirmed_handle(tmp_path: Path) -> None:
    async with square(tmp_path, admission="invite", members=(did("dan"), "eve.test")) as here:
        await here.place.join("dan", "eve", "fay")
        assert (await opened_by(here, "dan")).status_code == 200
        feed = f"at://{did('cook')}/app.bsky.feed.generator/all"
        assert (await here.ask(SKELETON, here.token("eve", SKELETON), feed=feed)).status_code == 200
        assert (await here.ask(SKELETON, here.token("fay", SKELETON), feed=feed)).status_code == 400
        assert await members(here) == 2
