import asyncio
from typing import Any

import pytest

from appliance.errors import ApplianceError, BadInput, NotFound, Refused
from appliance.writes.operations import CREATE, DELETE
from appliance.writes.repos import Unconfirmed
from tests.auth.house import ALICE, BOB
from tests.writes.desk import POST, Desk

CAROL = "did:plc:cccccccccccccccccccccccc"


async def refusal(work: Any) -> ApplianceError:
    with pytest.raises(ApplianceError) as caught:
        await work
    return caught.value


async def test_who_is_not_signed_in_writes_nothing(desk: Desk) -> None:
    for work in (
        desk.writer.post("nobody", "x"),
        desk.writer.like("nobody", desk.bobs, desk.bobs_cid),
        desk.writer.follow("", BOB),
        desk.writer.delete("x", desk.bobs),
    ):
        assert isinstance(await refusal(work), Refused)
    assert desk.pds.records == {}


async def test_a_post_with_a_mention_is_written_and_shown(desk: Desk) -> None:
    uri = await desk.writer.post(desk.cookie, "hi @bob.test https://example.net", langs=["en"])
    assert await desk.find(uri) is not None
    assert [f["features"][0]["$type"].partition("#")[2] for f in desk.pds.records[uri]["facets"]] == [
        "mention",
        "link",
    ]


async def test_a_double_click_and_a_reload_post_once(desk: Desk) -> None:
    posts = await asyncio.gather(*(desk.writer.post(desk.cookie, "once", once="form-1") for _ in range(5)))
    posts.append(await desk.writer.post(desk.cookie, "once", once="form-1"))
    assert len(set(posts)) == 1
    assert len(desk.pds.records) == 1
    assert await desk.writer.post(desk.cookie, "once", once="form-2") != posts[0]


async def test_a_form_sent_again_after_an_unknown_outcome_posts_once(desk: Desk) -> None:
    desk.losing(CREATE, before=True)
    work = desk.writer.post(desk.cookie, "once", once="form-1")
    assert isinstance(await refusal(desk.moving(work)), Unconfirmed)
    desk.pds.instead.clear()
    uri = await desk.writer.post(desk.cookie, "once", once="form-1")
    assert list(desk.pds.records) == [uri]


async def test_a_late_write_of_the_first_try_is_found_by_the_second(desk: Desk) -> None:
    desk.losing(CREATE, before=True)
    assert isinstance(
        await refusal(desk.moving(desk.writer.post(desk.cookie, "once", once="f"))), Unconfirmed
    )
    [asked] = desk.pds.of(CREATE)
    desk.pds.put(ALICE, asked.json, asked.json["record"])
    desk.pds.instead.clear()
    await desk.clock.advance(1)
    uri = await desk.writer.post(desk.cookie, "once", once="f")
    assert list(desk.pds.records) == [uri]
    assert len(desk.pds.of(CREATE)) == 1


async def test_a_reply_takes_its_root_from_the_parent(desk: Desk) -> None:
    root_uri, root_cid = await desk.post_of_bob("root")
    reply = {"root": {"uri": root_uri, "cid": root_cid}, "parent": {"uri": root_uri, "cid": root_cid}}
    parent_uri, parent_cid = await desk.post_of_bob("parent", reply=reply)
    first = await desk.writer.post(desk.cookie, "to the root", reply=root_uri)
    second = await desk.writer.post(desk.cookie, "to the parent", reply=parent_uri)
    assert desk.pds.records[first]["reply"] == reply
    assert desk.pds.records[second]["reply"] == {
        "root": {"uri": root_uri, "cid": root_cid},
        "parent": {"uri": parent_uri, "cid": parent_cid},
    }


@pytest.mark.parametrize(
    "reply", ["at://did:plc:zz/app.bsky.feed.post/x", f"at://{BOB}/app.bsky.feed.like/x", "x"]
)
async def test_a_reply_to_what_is_no_post_is_refused(desk: Desk, reply: str) -> None:
    assert isinstance(await refusal(desk.writer.post(desk.cookie, "x", reply=reply)), BadInput | NotFound)
    gone = f"at://{BOB}/{POST}/3l3qo2vuowo2b"
    assert isinstance(await refusal(desk.writer.post(desk.cookie, "x", reply=gone)), NotFound)


@pytest.mark.parametrize("by", [ALICE, BOB])
async def test_nobody_answers_likes_or_follows_across_a_block(desk: Desk, by: str) -> None:
    other = BOB if by == ALICE else ALICE
    block = {"subject": other, "createdAt": "2026-01-01T00:00:00Z"}
    await desk.record(by, "app.bsky.graph.block", block)
    for work in (
        desk.writer.post(desk.cookie, "x", reply=desk.bobs),
        desk.writer.like(desk.cookie, desk.bobs, desk.bobs_cid),
        desk.writer.toggle_follow(desk.cookie, BOB),
    ):
        assert (await refusal(work)).name == "BlockedActor"
    assert desk.pds.records == {}


async def test_a_locked_thread_takes_no_reply(desk: Desk) -> None:
    rkey = desk.bobs.rpartition("/")[2]
    gate = {"post": desk.bobs, "allow": [], "createdAt": "2026-01-01T00:00:00Z"}
    await desk.record(BOB, "app.bsky.feed.threadgate", gate, rkey)
    assert (await refusal(desk.writer.post(desk.cookie, "x", reply=desk.bobs))).name == "ReplyNotAllowed"


async def test_liking_twice_from_two_tabs_makes_one_record(desk: Desk) -> None:
    await asyncio.gather(*(desk.writer.like(desk.cookie, desk.bobs, desk.bobs_cid) for _ in range(4)))
    assert len(desk.pds.records) == 1
    [like] = desk.pds.records.values()
    assert like["subject"] == {"uri": desk.bobs, "cid": desk.bobs_cid}


async def test_taking_a_like_back_deletes_every_one_of_them(desk: Desk) -> None:
    for rkey in ("3l3qo2vuowo2b", "3l3qo2vuowo2c"):
        like = {"subject": {"uri": desk.bobs, "cid": desk.bobs_cid}, "createdAt": "2026-01-01T00:00:00Z"}
        uri, _ = await desk.record(ALICE, "app.bsky.feed.like", like, rkey)
        desk.pds.records[uri] = like
    await desk.writer.toggle_like(desk.cookie, desk.bobs, desk.bobs_cid)
    assert desk.pds.records == {}
    assert await desk.rows("link") == 0
    await desk.writer.toggle_like(desk.cookie, desk.bobs, desk.bobs_cid)
    assert len(desk.pds.records) == 1


async def test_reposting_and_following_go_both_ways(desk: Desk) -> None:
    for _ in range(2):
        await desk.writer.repost(desk.cookie, desk.bobs, desk.bobs_cid)
        await desk.writer.follow(desk.cookie, BOB)
        await desk.writer.follow(desk.cookie, CAROL)
    assert sorted(uri.split("/")[3] for uri in desk.pds.records) == [
        "app.bsky.feed.repost",
        "app.bsky.graph.follow",
        "app.bsky.graph.follow",
    ]
    for _ in range(2):
        await desk.writer.unrepost(desk.cookie, desk.bobs)
        await desk.writer.unfollow(desk.cookie, BOB)
        await desk.writer.toggle_follow(desk.cookie, CAROL)
    assert [uri.split("/")[3] for uri in desk.pds.records] == ["app.bsky.graph.follow"]
    assert len(desk.pds.of(DELETE)) == 3


@pytest.mark.parametrize("did", ["bob.test", ALICE, "", "did:x"])
async def test_only_another_account_can_be_followed(desk: Desk, did: str) -> None:
    assert isinstance(await refusal(desk.writer.follow(desk.cookie, did)), BadInput)


async def test_only_own_things_can_be_deleted(desk: Desk) -> None:
    uri = await desk.writer.post(desk.cookie, "mine")
    for other in (desk.bobs, f"at://{ALICE}/app.bsky.actor.profile/self", f"at://{ALICE}/{POST}", "nonsense"):
        assert isinstance(await refusal(desk.writer.delete(desk.cookie, other)), BadInput)
    assert list(desk.pds.records) == [uri]
    await desk.writer.delete(desk.cookie, uri)
    assert desk.pds.records == {}
    assert await desk.find(uri) is None
