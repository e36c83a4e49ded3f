"""What a member has just written is in their own next answers, and the stream changes nothing about it."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from appliance.protocol.events import CommitEvent
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views
from appliance.writes.operations import APPLY, CREATE, DELETE, PUT, Action
from tests.auth.house import ALICE, BOB
from tests.auth.small_pds import cid_of
from tests.writes.desk import POST, Desk

ME = Asker(did=ALICE, member=True)
Json = dict[str, Any]


class Answers:
    """Alice's own answers."""

    def __init__(self, desk: Desk) -> None:
        self._views = Views(desk.database, desk.settings, desk.clock)
        self._bobs = desk.bobs

    async def all(self) -> Json:
        return {
            "timeline": (await self._views.timeline(ME, limit=50)).parsed()["feed"],
            "feed": (await self._views.author_feed(ME, ALICE, limit=50)).parsed()["feed"],
            "thread": (await self._views.thread(ME, self._bobs)).parsed()["thread"],
            "me": (await self._views.profile(ME, ALICE)).parsed(),
            "bob": (await self._views.profile(ME, BOB)).parsed(),
        }


async def events_of(desk: Desk, body: Json, nsid: str) -> list[CommitEvent]:
    """What the stream brings of this call's commit."""
    writes = body["writes"] if nsid == APPLY else [{"value": body.get("record"), **body}]
    found = []
    for n, write in enumerate(writes):
        record = write.get("value")
        data = None if record is None else orjson.dumps(record)
        cid = None if record is None else cid_of(record)
        kind: Action = "delete" if record is None else "update" if nsid == PUT else "create"
        key = write["rkey"]
        found.append(
            CommitEvent(
                ALICE, desk.pds.rev, n, kind, write["collection"], key, cid, data, desk.clock.now_us()
            )
        )  # fmt: skip
    return found


def texts(feed: list[Json]) -> list[str]:
    return [row["post"]["record"]["text"] for row in feed]


async def test_each_write_shows_at_once_everywhere_and_the_stream_adds_nothing(desk: Desk) -> None:
    answers = Answers(desk)
    await desk.known(ALICE, "alice.test")
    await desk.known(BOB, "bob.test")
    await desk.follow_bob()
    cookie, writer = desk.cookie, desk.writer
    before = await answers.all()
    assert texts(before["timeline"]) == ["hello"]

    async def then(nsid: str, check: Callable[[Json], bool]) -> Json:
        now = await answers.all()
        assert check(now), (nsid, now)
        for event in await events_of(desk, desk.pds.of(nsid)[-1].json, nsid):
            await desk.apply(event)
        assert await answers.all() == now
        return now

    mine = await writer.post(cookie, "first", once="1")
    now = await then(
        CREATE, lambda a: texts(a["timeline"]) == ["first", "hello"] and texts(a["feed"]) == ["first"]
    )
    assert now["me"]["postsCount"] == 1

    await writer.post(cookie, "an answer", reply=desk.bobs, once="2")
    now = await then(
        CREATE, lambda a: [r["post"]["record"]["text"] for r in a["thread"]["replies"]] == ["an answer"]
    )
    assert now["thread"]["post"]["replyCount"] == 1
    assert now["me"]["postsCount"] == 2

    await writer.like(cookie, desk.bobs, desk.bobs_cid)
    now = await then(
        CREATE, lambda a: a["thread"]["post"]["viewer"].get("like", "").startswith(f"at://{ALICE}/")
    )
    assert now["thread"]["post"]["likeCount"] == 1

    await writer.repost(cookie, desk.bobs, desk.bobs_cid)
    now = await then(CREATE, lambda a: "repost" in a["thread"]["post"]["viewer"])
    assert now["thread"]["post"]["repostCount"] == 1
    assert sum("reason" in row for row in now["feed"]) == 1

    await writer.unlike(cookie, desk.bobs)
    now = await then(DELETE, lambda a: "like" not in a["thread"]["post"]["viewer"])
    assert now["thread"]["post"]["likeCount"] == 0

    await writer.delete(cookie, mine)
    now = await then(DELETE, lambda a: "first" not in texts(a["timeline"]) + texts(a["feed"]))
    assert now["me"]["postsCount"] == 1

    await writer.unfollow(cookie, BOB)
    now = await then(DELETE, lambda a: "following" not in a["bob"]["viewer"])
    assert (now["me"]["followsCount"], now["bob"]["followersCount"]) == (0, 0)
    await writer.follow(cookie, BOB)
    now = await then(CREATE, lambda a: "following" in a["bob"]["viewer"])
    assert (now["me"]["followsCount"], now["bob"]["followersCount"]) == (1, 1)


async def test_writes_by_xrpc_show_at_once_too(desk: Desk) -> None:
    answers = Answers(desk)
    session = await desk.session()
    profile = {"$type": "app.bsky.actor.profile", "displayName": "Alice A."}
    body: Json = {"repo": ALICE, "collection": "app.bsky.actor.profile", "rkey": "self", "record": profile}
    assert (await desk.repos.forward(session, PUT, body)).ok
    assert (await answers.all())["me"]["displayName"] == "Alice A."

    value = {"$type": POST, "text": "in a batch", "createdAt": "2026-01-01T00:00:00.000Z"}
    batch: Json = {
        "repo": ALICE,
        "writes": [{"$type": f"{APPLY}#create", "collection": POST, "value": value}],
    }
    assert (await desk.repos.forward(session, APPLY, batch)).ok
    now = await answers.all()
    assert texts(now["feed"]) == ["in a batch"]
    for event in await events_of(desk, batch, APPLY):
        await desk.apply(event)
    assert await answers.all() == now


async def test_a_write_that_went_past_us_is_answered_for_by_the_rev_that_we_have_read(desk: Desk) -> None:
    # A PDS merges its account's own fresh writes into our answer where this names an older rev.
    views = Views(desk.database, desk.settings, desk.clock)
    uri, _ = await desk.record(ALICE, POST, {"text": "straight there", "createdAt": "2026-01-01T00:00:00Z"})
    found = await desk.find(uri)
    assert found is not None
    assert found.version is not None
    assert (await views.timeline(ME, limit=50)).rev == found.version[1]


@pytest.mark.parametrize("status", [0, 502])
async def test_a_deletion_whose_answer_was_lost_shows_at_once(desk: Desk, status: int) -> None:
    uri = await desk.writer.post(desk.cookie, "soon gone", once="1")
    desk.losing(DELETE, status=status)
    await desk.moving(desk.writer.delete(desk.cookie, uri))
    assert await desk.find(uri) is None
