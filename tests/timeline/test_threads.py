import re
from pathlib import Path
from typing import Any

import pytest

from tests.timeline.village import POST, Village, asker, did, village

NESTED = re.compile(rb'"\$type":"app\.bsky\.feed\.defs#threadViewPost"')


def texts(thread: Any) -> Any:
    """The tree of texts below a post."""
    return [thread["post"]["record"]["text"], *[texts(reply) for reply in thread.get("replies", [])]]


def balanced(body: bytes) -> bool:
    """Whether brackets outside of strings match; no step recurses."""
    stack = []
    for bracket in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body):
        character = chr(bracket)
        if character in "{[":
            stack.append({"{": "}", "[": "]"}[character])
        elif character in "}]" and (not stack or stack.pop() != character):
            return False
    return not stack


async def chain(place: Village, length: int) -> list[dict[str, str]]:
    """Posts that answer each other in turn."""
    posts = [await place.post("ann", "0")]
    events = []
    for number in range(1, length):
        reply = {"root": posts[0], "parent": posts[-1]}
        event = place.event("bob" if number % 2 else "ann", POST, {"text": str(number), "reply": reply})
        assert event.cid is not None
        posts.append({"uri": f"at://{event.did}/{POST}/{event.rkey}", "cid": event.cid})
        events.append(event)
    await place.apply(*events)
    return posts


@pytest.mark.defect("D19")
async def test_replies_nest_newest_first(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        root = await place.post("ann", "root")
        first = await place.post("bob", "first", reply={"root": root, "parent": root})
        await place.post("cid", "second", reply={"root": root, "parent": root})
        await place.post("ann", "below first", reply={"root": root, "parent": first})

        thread = await place.thread(None, root)

        assert texts(thread) == ["root", ["second"], ["first", ["below first"]]]


async def test_a_thread_of_1000_levels_is_answered_in_both_directions(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        posts = await chain(place, 1001)

        down = await place.views.thread(asker("ann"), posts[0]["uri"], depth=1000, height=0)
        up = await place.views.thread(asker("ann"), posts[-1]["uri"], depth=0, height=1000)

        assert len(NESTED.findall(down.body)) == len(NESTED.findall(up.body)) == 1001
        assert balanced(down.body)
        assert balanced(up.body)
        assert up.body.count(b'"parent":{"$type"') == 1000


@pytest.mark.defect("D19")
async def test_depth_and_height_end_where_they_were_asked_to(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        posts = await chain(place, 9)

        middle = await place.thread(None, posts[4], depth=2, height=1)
        alone = await place.thread(None, posts[4], depth=0, height=0)

        assert texts(middle) == ["4", ["5", ["6"]]]
        assert "replies" not in middle["replies"][0]["replies"][0]
        assert middle["parent"]["post"]["record"]["text"] == "3"
        assert "parent" not in middle["parent"]
        assert "replies" not in alone
        assert "parent" not in alone


async def test_posts_that_were_edited_into_a_circle_end_somewhere(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        one = await place.post("ann", "one", rkey="3kaaaaaaaaa2a")
        two = await place.post("bob", "two", reply={"root": one, "parent": one})
        reply = {"root": one, "parent": two}
        await place.write(
            "ann", POST, {"text": "one again", "reply": reply}, rkey="3kaaaaaaaaa2a", operation="update"
        )

        answer = await place.views.thread(asker(None), two["uri"], depth=1000, height=1000)

        assert balanced(answer.body)
        assert len(NESTED.findall(answer.body)) < 10


async def test_a_missing_parent_is_said_to_be_missing(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        root = await place.post("ann")
        reply = await place.reply("bob", root)
        await place.delete(root)

        thread = await place.thread(None, reply)

        assert thread["parent"] == {
            "$type": "app.bsky.feed.defs#notFoundPost",
            "notFound": True,
            "uri": root["uri"],
        }


async def test_a_handle_in_the_address_is_looked_up(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        root = await place.post("ann")

        thread = await place.thread(None, {"uri": root["uri"].replace(did("ann"), "ANN.test")})

        assert thread["post"]["uri"] == root["uri"]


async def test_the_like_of_the_threads_author_is_told(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        root = await place.post("ann")
        reply = await place.reply("bob", root)
        like = await place.like("ann", reply)

        thread = await place.thread("bob", root)

        assert thread["threadContext"] == {}
        assert thread["replies"][0]["threadContext"] == {"rootAuthorLike": like["uri"]}
