"""Who is told of what, by the rules of the official server: made with the record, gone with it."""

from collections.abc import Iterable
from typing import Any

import pytest

from appliance.ingest import notices, prune
from appliance.store import actors, notifications, private, repos
from appliance.store.notifications import NAMES
from tests.ingest.world import (
    CREATED,
    FOLLOW,
    LIKE,
    NOW_US,
    POST,
    PROFILE,
    REPOST,
    World,
    cid,
    did,
    strong,
    uri,
)

VERIFICATION = "app.bsky.graph.verification"
THREAD_GATE = "app.bsky.feed.threadgate"
POST_GATE = "app.bsky.feed.postgate"
PACK = "app.bsky.graph.starterpack"
DECLARATION = "app.bsky.notification.declaration"


def told(world: World, who: str) -> list[tuple[str, str]]:
    """(reason, key of the cause) of what an account is told, in no order."""
    rows = world.all(
        "SELECT n.reason, r.rkey FROM notification n JOIN record r ON r.id = n.record WHERE n.viewer = ?",
        world.known(who),
    )
    return sorted((NAMES[reason], rkey) for reason, rkey in rows)


def mention(*names: str) -> dict[str, Any]:
    return {
        "facets": [
            {
                "index": {"byteStart": 0, "byteEnd": 1},
                "features": [{"$type": "app.bsky.richtext.facet#mention", "did": did(name)}],
            }
            for name in names
        ]
    }


def quote(target: str) -> dict[str, Any]:
    return {"embed": {"$type": "app.bsky.embed.record", "record": strong(target)}}


def village(members: Iterable[str] = ("ann", "bob", "cid")) -> World:
    world = World(scope="network")
    for name in members:
        world.member(name)
    return world


def test_who_is_mentioned_quoted_and_answered_is_told_once_and_of_the_first_of_these() -> None:
    world = village()
    root = world.post("ann", "root")
    reply = {"reply": {"root": strong(root), "parent": strong(root)}}

    world.post("bob", "all", {**mention("ann", "ann"), **quote(root), **reply})
    world.post("bob", "two", {**quote(root), **reply})
    world.post("bob", "one", reply)

    assert told(world, "ann") == [("mention", "all"), ("quote", "two"), ("reply", "one")]


def test_nobody_is_told_of_his_own_doing_but_that_he_follows_himself() -> None:
    world = village()
    root = world.post("ann", "root", mention("ann"))
    world.reply("ann", "answer", root)
    world.post("ann", "quote", quote(root))
    world.like("ann", "like", root)
    world.repost("ann", "repost", root)
    world.follow("ann", "self", "ann")

    assert told(world, "ann") == [("follow", "self")]


def test_accounts_that_are_no_members_are_told_nothing() -> None:
    world = village(["ann"])
    root = world.post("zoe", "root")
    world.like("ann", "like", root)
    world.follow("ann", "follow", "zoe")
    world.reply("ann", "reply", root)

    assert world.count("notification") == 0


def test_a_reply_reaches_four_posts_up_and_each_author_once() -> None:
    world = village(["ann", "bob", "cid", "dot", "eve", "fay"])
    address = root = world.post("ann", "0")
    for number, who in enumerate(["bob", "cid", "dot", "bob", "fay"], 1):
        address = world.reply(who, str(number), address, root)

    assert ("reply", "4") in told(world, "ann")
    assert ("reply", "5") not in told(world, "ann")
    assert told(world, "bob") == [("reply", "2"), ("reply", "3"), ("reply", "5")]
    subject = world.all(
        "SELECT s.rkey FROM notification n JOIN record r ON r.id = n.record JOIN record s ON s.id = n.subject"
        " WHERE r.rkey = '5' AND n.viewer = ?",
        world.actor("bob"),
    )
    assert subject == [("4",)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_in_whatever_order_a_thread_arrives_the_same_are_told(order: tuple[int, ...]) -> None:
    world = village(["ann", "bob", "cid", "dot"])
    names = ["ann", "bob", "cid", "dot"]
    addresses = [uri(name, POST, name) for name in names]
    for number in order:
        if number == 0:
            world.post("ann", "ann")
        else:
            world.reply(names[number], names[number], addresses[number - 1], addresses[0])

    assert told(world, "ann") == [("reply", "bob"), ("reply", "cid"), ("reply", "dot")]
    assert told(world, "bob") == [("reply", "cid"), ("reply", "dot")]
    assert told(world, "cid") == [("reply", "dot")]


def test_a_reply_that_breaks_the_gate_tells_nobody_but_whom_it_mentions() -> None:
    world = village()
    root = world.post("ann", "root")
    world.one(world.event("ann", THREAD_GATE, "root", {"post": root, "allow": [], "createdAt": CREATED}))

    world.reply("bob", "breaks", root)
    world.post("bob", "shouts", {**mention("ann"), "reply": {"root": strong(root), "parent": strong(root)}})

    assert told(world, "ann") == [("mention", "shouts")]


def test_what_is_under_a_hidden_reply_does_not_reach_further_up() -> None:
    world = village()
    root = world.post("ann", "root")
    hidden = world.reply("bob", "hidden", root)
    gate = {"post": root, "hiddenReplies": [hidden], "createdAt": CREATED}
    world.one(world.event("ann", THREAD_GATE, "root", gate))

    world.reply("cid", "under", hidden, root)

    assert told(world, "bob") == [("reply", "under")]
    assert told(world, "ann") == [("reply", "hidden")]


def test_a_quote_against_the_post_gate_tells_nobody() -> None:
    world = village()
    root = world.post("ann", "root")
    rules = [{"$type": "app.bsky.feed.postgate#disableRule"}]
    gate = {"post": root, "embeddingRules": rules, "createdAt": CREATED}
    world.one(world.event("ann", POST_GATE, "root", gate))

    world.post("bob", "quote", quote(root))

    assert told(world, "ann") == []


def test_a_muted_thread_tells_no_more_but_what_was_told_stays() -> None:
    world = village()
    root = world.post("ann", "root")
    before = world.reply("bob", "before", root)
    private.mute_thread(world.tx, world.actor("ann"), world.id(root), NOW_US)

    world.reply("bob", "after", before, root)
    world.like("bob", "like", root)
    world.post("bob", "quote", quote(root))
    world.post("bob", "mention", mention("ann"))

    assert told(world, "ann") == [("mention", "mention"), ("reply", "before")]


def test_a_like_or_repost_tells_the_author_and_by_whose_repost_it_came() -> None:
    world = village()
    root = world.post("ann", "root")
    repost = world.repost("bob", "repost", root)
    via = {"subject": strong(root), "via": strong(repost), "createdAt": CREATED}

    world.one(world.event("cid", LIKE, "like", via))
    world.one(world.event("cid", REPOST, "again", via))
    world.one(world.event("ann", LIKE, "own", via))

    assert told(world, "ann") == [("like", "like"), ("repost", "again"), ("repost", "repost")]
    assert told(world, "bob") == [("like-via-repost", "like"), ("repost-via-repost", "again")]


def test_of_two_likes_one_is_told_and_when_it_goes_the_other() -> None:
    world = village()
    root = world.post("ann", "root")
    first = world.like("bob", "first", root)
    second = world.like("bob", "second", root)
    assert told(world, "ann") == [("like", "first")]

    world.delete(first)
    assert told(world, "ann") == [("like", "second")]
    world.delete(second)
    assert told(world, "ann") == []


def test_what_is_deleted_is_told_no_more_and_an_edit_is_told_anew() -> None:
    world = village()
    root = world.post("ann", "root")
    reply = world.reply("bob", "reply", root)
    follow = world.follow("bob", "follow", "ann")
    assert len(told(world, "ann")) == 2

    world.one(world.event("bob", POST, "reply", {"text": "x", "createdAt": CREATED, **mention("cid")}))
    assert told(world, "ann") == [("follow", "follow")]
    assert told(world, "cid") == [("mention", "reply")]

    world.delete(reply)
    world.delete(follow)
    assert world.count("notification") == 0


def test_replays_change_nothing() -> None:
    world = village()
    root = world.event("ann", POST, "root", {"text": "", "createdAt": CREATED})
    target = strong(uri("ann", POST, "root"))
    events = [
        root,
        world.event("bob", LIKE, "like", {"subject": target, "createdAt": CREATED}),
        world.event("bob", FOLLOW, "follow", {"subject": did("ann"), "createdAt": CREATED}),
        world.event(
            "bob",
            POST,
            "reply",
            {"text": "", "createdAt": CREATED, "reply": {"root": target, "parent": target}},
        ),
    ]
    world.apply(*events)
    once = world.all("SELECT * FROM notification")

    world.apply(*events, *reversed(events))

    assert len(once) == 3
    assert world.all("SELECT * FROM notification") == once


def test_who_joined_by_a_starter_pack_is_told_to_its_maker_once_and_for_good() -> None:
    world = village()
    pack = uri("ann", PACK, "pack")
    profile = {"createdAt": CREATED, "joinedViaStarterPack": strong(pack)}

    world.one(world.event("bob", PROFILE, "self", profile))
    assert told(world, "ann") == [("starterpack-joined", "self")]
    world.one(world.event("bob", PROFILE, "self", {**profile, "displayName": "Bob"}, operation="update"))
    assert told(world, "ann") == [("starterpack-joined", "self")]

    world.one(world.event("cid", PROFILE, "self", {"createdAt": CREATED}))
    world.one(world.event("cid", PROFILE, "self", profile, operation="update"))
    assert told(world, "ann") == [("starterpack-joined", "self")]


def test_the_end_of_a_verification_is_told_but_not_that_we_forgot_it() -> None:
    world = village()
    body = {"subject": did("ann"), "handle": "ann.test", "displayName": "", "createdAt": CREATED}
    world.one(world.event("zoe", VERIFICATION, "v", body))
    assert told(world, "ann") == [("verified", "v")]
    world.delete(uri("zoe", VERIFICATION, "v"))
    assert told(world, "ann") == [("unverified", "v")]

    world.track("yan")
    world.one(world.event("yan", VERIFICATION, "v", body))
    repos.unwant(world.tx, world.actor("yan"), world.now_us)
    assert repos.prune(world.tx, world.actor("yan"), world.now_us, world.now_us)
    assert prune.prune_batch(world.tx, world.actor("yan"), 100, world.now_us)
    assert told(world, "ann") == [("unverified", "v")]
    assert world.count("notification") == 1


def test_who_subscribed_is_told_of_later_posts_as_the_author_allows() -> None:
    world = village()
    keys = {"ann": "3kaaaaaaaaaa2", "cid": "3kaaaaaaaaab2"}
    for name, key in keys.items():
        private.subscribe(
            world.tx, world.actor(name), world.actor("bob"), key, post=True, reply=name == "cid"
        )
    world.follow("ann", "f", "bob")
    created = {"createdAt": "2025-12-31T12:00:00.000Z"}

    world.post("bob", "old", {"createdAt": "2020-01-01T00:00:00.000Z"})
    root = world.post("bob", "new", created)
    world.reply("bob", "reply", root)
    assert told(world, "ann") == [("subscribed-post", "new")]
    assert told(world, "cid") == []  # who does not follow may not be told

    world.follow("cid", "f", "bob")
    world.reply("bob", "reply2", root)
    assert told(world, "cid") == [("subscribed-post", "reply2")]

    declared = {"allowSubscriptions": "mutuals"}
    world.one(world.event("bob", DECLARATION, "self", declared))
    world.post("bob", "mutuals", created)
    assert told(world, "ann") == [("subscribed-post", "new")]
    world.follow("bob", "back", "ann")
    world.post("bob", "mutual", {**created, **mention("ann")})
    world.post("bob", "plain", created)
    assert ("mention", "mutual") in told(world, "ann")
    assert ("subscribed-post", "plain") in told(world, "ann")
    assert ("subscribed-post", "mutual") not in told(world, "ann")


def test_a_newcomer_is_told_of_what_was_here_and_nobody_else_is_told_again() -> None:
    world = village(["bob"])
    root = world.post("ann", "root")
    world.like("bob", "like", root)
    world.follow("bob", "follow", "ann")
    reply = world.reply("bob", "reply", root)
    world.reply("cid", "below", reply, root)
    world.post("cid", "mention", mention("ann", "bob"))
    world.tx.run("DELETE FROM notification WHERE reason = 1")
    before = told(world, "bob")
    world.member("ann")

    for record in notifications.naming(world.tx, did("ann"), 0, 1000):
        candidate = notifications.candidate(world.tx, record)
        assert candidate is not None
        notices.found(world.tx, candidate, world.actor("ann"))

    assert told(world, "ann") == [
        ("follow", "follow"),
        ("like", "like"),
        ("mention", "mention"),
        ("reply", "below"),
        ("reply", "reply"),
    ]
    assert told(world, "bob") == before


def test_who_leaves_is_forgotten() -> None:
    world = village()
    world.follow("bob", "f", "ann")
    notifications.seen(world.tx, world.actor("ann"), 5)

    notifications.forget_member(world.tx, world.actor("ann"))

    assert told(world, "ann") == []
    assert world.count("notification_state") == 0


def test_a_malformed_did_in_a_mention_or_a_strange_via_does_no_harm() -> None:
    world = village()
    root = world.post("ann", "root")
    broken = mention("bob")
    broken["facets"][0]["features"][0]["did"] = "did:bogus"
    world.post("bob", "m", broken)
    body = {"subject": strong(root), "via": {"uri": "at://x", "cid": cid(1)}, "createdAt": CREATED}
    world.one(world.event("bob", LIKE, "l", body))

    assert told(world, "ann") == [("like", "l")]
    assert actors.find_id(world.tx, "did:bogus") is None
