"""Likes, reposts, follows: one of each pair counts, the others wait for their turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.store import timeline
from tests.ingest.world import CREATED, POST, REPOST, World, did, strong, uri
from tests.merge.checker import index_faults

LIST = "app.bsky.graph.list"


def test_a_second_like_of_the_same_post_waits_and_counts_nothing() -> None:
    world = World()
    world.track("alice")
    post = uri("bob", POST, "1")

    world.like("alice", "1", post)
    world.like("alice", "2", post)

    assert world.counts(post) == (1, 0, 0, 0)
    assert world.all("SELECT r.rkey, waiting FROM link JOIN record r USING (id) ORDER BY 1") == [
        ("1", 0),
        ("2", 1),
    ]


def test_the_oldest_that_waits_takes_the_place_and_the_count_stays() -> None:
    world = World()
    world.track("alice")
    post = uri("bob", POST, "1")
    first = world.like("alice", "1", post)
    world.like("alice", "3", post)
    world.like("alice", "2", post)

    world.delete(first)

    assert world.counts(post) == (1, 0, 0, 0)
    assert world.all("SELECT r.rkey FROM link JOIN record r USING (id) WHERE waiting = 0") == [("3",)]


def test_deleting_one_that_waits_changes_nothing() -> None:
    world = World()
    world.track("alice")
    post = uri("bob", POST, "1")
    world.like("alice", "1", post)
    second = world.like("alice", "2", post)

    world.delete(second)

    assert world.counts(post) == (1, 0, 0, 0)
    assert world.count("link") == 1


def test_both_of_two_reposts_are_listed_and_one_is_counted() -> None:
    world = World()
    world.track("alice")
    post = uri("bob", POST, "1")

    first, second = world.repost("alice", "1", post), world.repost("alice", "2", post)

    assert set(world.items()) == {first, second}
    assert world.counts(post) == (0, 1, 0, 0)
    world.delete(first)
    assert world.items() == [second]
    assert world.counts(post) == (0, 1, 0, 0)


def test_home_shows_one_of_two_reposts_and_the_other_when_that_one_goes() -> None:
    world = World()
    world.track("alice")
    world.track("bob")
    post = world.post("bob", "1")
    first, second = world.repost("alice", "1", post), world.repost("alice", "2", post)

    assert home(world, "alice") == [first]
    # The subject goes and comes back: still one.
    world.delete(post)
    assert home(world, "alice") == []
    assert world.post("bob", "1") == post
    assert home(world, "alice") == [first]
    world.delete(first)
    assert home(world, "alice") == [second]


def home(world: World, who: str) -> list[str]:
    """The addresses of the home timeline's rows; without follows it shows one's own."""
    rows = timeline.timeline_page(world.tx, world.actor(who), timeline.NEWEST, 50)
    return [address for address in world.items() if world.id(address) in {row.id for row in rows}]


@pytest.mark.defect("D12")
@pytest.mark.invariant("newest-wins")
@pytest.mark.parametrize("order", ["delete first", "follow first"])
def test_unfollow_and_refollow_in_either_order_end_followed(order: str) -> None:
    world = World()
    world.member("alice")
    old = world.follow("alice", "old", "bob", number=1)

    if order == "delete first":
        world.delete(old, number=2)
        world.follow("alice", "new", "bob", number=3)
    else:
        world.follow("alice", "new", "bob", number=3)
        world.delete(old, number=2)

    assert world.actor_counts("alice") == (1, 0, 0)
    assert world.actor_counts("bob") == (0, 1, 0)
    assert world.repo("bob").refs == 1
    assert index_faults(world.tx) == []


def test_a_link_that_an_update_turns_elsewhere_is_counted_there() -> None:
    world = World()
    world.track("alice")
    one, two = uri("bob", POST, "1"), uri("bob", POST, "2")
    world.repost("alice", "r", one)

    world.repost("alice", "r", two, operation="update")

    assert world.counts(one) == (0, 0, 0, 0)
    assert world.counts(two) == (0, 1, 0, 0)
    assert world.items() == [uri("alice", REPOST, "r")]


def test_likes_before_their_subject_are_right_when_it_arrives() -> None:
    world = World()
    world.track("alice", "bob")
    post = uri("bob", POST, "1")
    world.like("alice", "l", post)

    world.post("bob", "1")

    assert world.counts(post) == (1, 0, 0, 0)
    world.delete(post)
    assert world.counts(post) == (1, 0, 0, 0)


def test_an_item_of_a_list_links_the_list_with_the_account() -> None:
    world = World()
    world.track("alice", "bob")
    a_list = uri("alice", LIST, "l")
    item = {"list": a_list, "subject": did("carol"), "createdAt": CREATED}
    world.apply(world.event("alice", LIST, "l", {"name": "x", "createdAt": CREATED}))

    world.apply(world.event("alice", "app.bsky.graph.listitem", "1", item))
    world.apply(world.event("bob", "app.bsky.graph.listitem", "1", item))
    block = {"subject": a_list, "createdAt": CREATED}
    world.apply(world.event("bob", "app.bsky.graph.listblock", "1", block))

    links = world.all("SELECT kind, actor, subject FROM link ORDER BY kind")
    assert links == [
        (5, world.actor("bob"), world.id(a_list)),
        (6, world.id(a_list), world.actor("carol")),
    ]
    assert world.state(uri("bob", "app.bsky.graph.listitem", "1")) == 3


STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", None])), min_size=1, max_size=30
)


@given(STEPS)
@pytest.mark.invariant("replay-is-harmless")
def test_counts_follow_any_sequence_of_likes_and_unlikes(steps: list[tuple[str, str | None]]) -> None:
    world = World()
    world.track("alice")
    likes: dict[str, str] = {}
    for rkey, target in steps:
        if target is None:
            world.delete(uri("alice", "app.bsky.feed.like", rkey))
            likes.pop(rkey, None)
        else:
            world.like("alice", rkey, uri("bob", POST, target))
            likes[rkey] = target

    for target in "xy":
        expected = 1 if target in likes.values() else 0
        found = world.find(uri("bob", POST, target))
        assert found is None or world.counts(uri("bob", POST, target))[0] == expected
    assert index_faults(world.tx) == []
    world.connection.close()


def test_a_like_names_its_subject_by_address_whatever_the_cid() -> None:
    world = World()
    world.track("alice", "bob")
    post = world.post("bob", "1")
    other = {"subject": {**strong(post), "cid": "bafyother"}, "createdAt": CREATED}

    world.apply(world.event("alice", "app.bsky.feed.like", "1", other))

    assert world.counts(post) == (1, 0, 0, 0)
