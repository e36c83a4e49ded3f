"""Who may reply and who may quote, judged when the post is indexed."""

import pytest

from tests.ingest.world import CREATED, POST, World, did, strong, uri
from tests.merge.checker import index_faults

THREAD_GATE = "app.bsky.feed.threadgate"
POST_GATE = "app.bsky.feed.postgate"
LIST = "app.bsky.graph.list"
ITEM = "app.bsky.graph.listitem"
RULE = "app.bsky.feed.threadgate#"
BREAKS_THREAD, BREAKS_POST = 32, 64


def gate(world: World, *rules: dict[str, str], who: str = "alice", rkey: str = "1", **more: object) -> None:
    body = {"post": uri(who, POST, rkey), "createdAt": CREATED, "allow": list(rules), **more}
    world.apply(world.event(who, THREAD_GATE, rkey, body))


def rule(name: str, **more: str) -> dict[str, str]:
    return {"$type": RULE + name, **more}


def flags(world: World, address: str) -> int:
    return int(world.tx.value("SELECT flags FROM post WHERE id = ?", (world.id(address),)))


def network() -> World:
    return World(scope="network")


def test_a_gate_that_allows_nobody_keeps_out_everybody_but_its_owner() -> None:
    world = network()
    root = world.post("alice", "1")
    gate(world)

    stranger, own = world.reply("bob", "r", root), world.reply("alice", "r", root)

    assert flags(world, stranger) & BREAKS_THREAD
    assert not flags(world, own) & BREAKS_THREAD
    assert world.counts(root) == (0, 0, 1, 0)
    assert set(world.items()) == {root, stranger, own}
    world.delete(stranger)
    assert world.counts(root) == (0, 0, 1, 0)
    assert index_faults(world.tx) == []


def test_a_gate_without_a_list_of_who_may_lets_everybody_in() -> None:
    world = network()
    root = world.post("alice", "1")
    world.apply(world.event("alice", THREAD_GATE, "1", {"post": root, "createdAt": CREATED}))

    assert not flags(world, world.reply("bob", "r", root)) & BREAKS_THREAD


@pytest.mark.parametrize(
    ("follower", "followee", "name"), [("alice", "bob", "followingRule"), ("bob", "alice", "followerRule")]
)
def test_a_gate_for_follows_lets_in_whom_the_follow_names(follower: str, followee: str, name: str) -> None:
    world = network()
    root = world.post("alice", "1")
    gate(world, rule(name))
    before = world.reply("bob", "before", root)

    world.follow(follower, "f", followee)
    after = world.reply("bob", "after", root)

    assert flags(world, before) & BREAKS_THREAD
    assert not flags(world, after) & BREAKS_THREAD


def test_a_gate_for_the_mentioned_lets_them_in() -> None:
    world = network()
    mention = {"$type": "app.bsky.richtext.facet#mention", "did": did("bob")}
    facets = [{"index": {"byteStart": 0, "byteEnd": 1}, "features": [mention]}]
    root = world.post("alice", "1", {"facets": facets})
    gate(world, rule("mentionRule"))

    assert not flags(world, world.reply("bob", "r", root)) & BREAKS_THREAD
    assert flags(world, world.reply("carol", "r", root)) & BREAKS_THREAD


def test_a_gate_for_a_list_lets_its_members_in() -> None:
    world = network()
    root = world.post("alice", "1")
    a_list = uri("alice", LIST, "l")
    world.apply(world.event("alice", LIST, "l", {"name": "x", "createdAt": CREATED}))
    world.apply(
        world.event("alice", ITEM, "i", {"list": a_list, "subject": did("bob"), "createdAt": CREATED})
    )
    gate(world, rule("listRule", list=a_list))

    assert not flags(world, world.reply("bob", "r", root)) & BREAKS_THREAD
    assert flags(world, world.reply("carol", "r", root)) & BREAKS_THREAD


def test_where_follows_are_not_known_completely_a_reply_has_the_benefit_of_the_doubt() -> None:
    world = World()
    world.track("alice", "bob")
    root = world.post("alice", "1", number=10)
    gate(world, rule("followingRule"))
    doubtful = world.reply("bob", "1", root)

    world.scan("alice", 1, [[]], "app.bsky.graph.follow")
    known = world.reply("bob", "2", root)

    assert not flags(world, doubtful) & BREAKS_THREAD
    assert flags(world, known) & BREAKS_THREAD


def test_later_gates_do_not_judge_older_replies() -> None:
    world = network()
    root = world.post("alice", "1")
    reply = world.reply("bob", "r", root)

    gate(world)

    assert not flags(world, reply) & BREAKS_THREAD


@pytest.mark.parametrize("post", [uri("bob", POST, "1"), uri("alice", POST, "2"), "nonsense"])
def test_a_gate_of_another_post_has_no_say(post: str) -> None:
    world = network()
    root = world.post("alice", "1")

    gate(world, post=post)

    assert world.state(uri("alice", THREAD_GATE, "1")) == 3
    assert not flags(world, world.reply("bob", "r", root)) & BREAKS_THREAD


def test_a_post_whose_author_switched_quotes_off_is_quoted_against_their_will() -> None:
    world = network()
    post = world.post("alice", "1")
    off = {"$type": "app.bsky.feed.postgate#disableRule"}
    body = {"post": post, "createdAt": CREATED, "embeddingRules": [off]}
    world.apply(world.event("alice", POST_GATE, "1", body))
    embed = {"embed": {"$type": "app.bsky.embed.record", "record": strong(post)}}

    theirs, own = world.post("bob", "q", embed), world.post("alice", "q", embed)

    assert flags(world, theirs) & BREAKS_POST
    assert not flags(world, own) & BREAKS_POST
    assert all(row[0] < 32 for row in world.all("SELECT flags FROM item"))
