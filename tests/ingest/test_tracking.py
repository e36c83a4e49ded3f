"""Whom members follow is tracked from the same transaction on; references say for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ingest import prune
from appliance.store import repos
from tests.ingest.world import CREATED, FOLLOW, NOW_US, POST, World, did, uri

OK = {"text": "", "createdAt": CREATED}
HOUR_US = 3_600_000_000


@pytest.mark.invariant("gap-means-job")
def test_a_member_s_follow_makes_the_job_and_the_coverage_in_one_transaction() -> None:
    world = World()
    world.member("alice")
    follow = world.event(
        "alice", FOLLOW, "f", {"subject": did("bob"), "createdAt": CREATED}, at_us=NOW_US - 5
    )

    tally = world.apply(follow, world.event("bob", POST, "1", OK))

    assert tally.newly_tracked == 1
    repo = world.repo("bob")
    assert (repo.state, repo.refs, repo.cover_us) == ("QUEUED", 1, NOW_US - 5)
    assert world.items() == [uri("bob", POST, "1")]


def test_coverage_of_a_follow_by_our_own_write_begins_where_the_stream_stands() -> None:
    world = World()
    world.member("alice")
    world.post("alice", "1")

    event = world.event(
        "alice", FOLLOW, "f", {"subject": did("bob"), "createdAt": CREATED}, at_us=NOW_US + 99
    )
    world.applier.apply(world.tx, event, now_us=NOW_US)

    assert world.repo("bob").cover_us == NOW_US


def test_a_stranger_s_follow_tracks_nobody() -> None:
    world = World()
    world.track("alice")

    world.follow("alice", "f", "bob")

    assert repos.find(world.tx, world.actor("bob")) is None
    assert world.apply(world.event("bob", POST, "1", OK)).strangers == 1


def test_two_members_who_follow_the_same_account_share_its_row() -> None:
    world = World()
    world.member("alice")
    world.member("carol")

    world.follow("alice", "f", "bob")
    world.follow("carol", "f", "bob")

    assert world.repo("bob").refs == 2
    assert repos.wrong_refs(world.tx) == []


def test_of_two_follow_records_for_one_account_one_deleted_keeps_it_wanted() -> None:
    world = World()
    world.member("alice")
    first = world.follow("alice", "1", "bob")
    second = world.follow("alice", "2", "bob")
    assert world.repo("bob").refs == 1

    world.delete(first)
    assert (world.repo("bob").refs, world.repo("bob").unwanted_us) == (1, None)

    world.delete(second)
    assert (world.repo("bob").refs, world.repo("bob").unwanted_us) == (0, NOW_US)


def test_an_unfollowed_account_is_kept_up_to_date_for_a_while_and_a_refollow_costs_nothing() -> None:
    world = World()
    world.member("alice")
    follow = world.follow("alice", "1", "bob")
    world.scan("bob", 0, [[]])
    world.delete(follow)

    post = world.post("bob", "1")
    world.follow("alice", "2", "bob")

    assert world.items() == [post]
    repo = world.repo("bob")
    assert (repo.state, repo.refs, repo.unwanted_us, repo.epoch) == ("LIVE", 1, None, 0)


def test_an_account_that_follows_itself_is_counted_for_both_reasons() -> None:
    world = World()
    world.member("alice")

    follow = world.follow("alice", "1", "alice")
    assert world.repo("alice").refs == 2
    world.delete(follow)

    assert world.repo("alice").refs == 1


def test_a_rollback_of_the_transaction_forgets_whom_it_tracked() -> None:
    world = World()
    world.member("alice")
    world.tx.run("SAVEPOINT outer_part")
    world.follow("alice", "f", "bob")
    world.tx.run("ROLLBACK TO outer_part")

    # Another account gets the row id that the undone one had.
    world.post(
        "alice",
        "1",
        {"reply": {"root": {"uri": uri("carol", POST, "1")}, "parent": {"uri": uri("carol", POST, "1")}}},
    )

    assert world.apply(world.event("bob", POST, "1", OK)).strangers == 1
    assert world.items() == [uri("alice", POST, "1")]


@pytest.mark.invariant("deleted-stays-deleted")
def test_wanted_again_while_its_rows_go_it_begins_a_new_epoch() -> None:
    world = World()
    world.member("alice")
    follow = world.follow("alice", "1", "bob", number=1)
    world.scan("bob", 5, [[(str(n), n, OK) for n in range(5)]])
    world.delete(follow, number=2)
    bob = world.actor("bob")
    assert repos.prune(world.tx, bob, NOW_US, NOW_US)
    assert not prune.prune_batch(world.tx, bob, 2, NOW_US)

    world.follow("alice", "2", "bob", number=3)

    assert not prune.prune_batch(world.tx, bob, 100, NOW_US)
    assert len(world.items()) == 3
    repo = world.repo("bob")
    assert (repo.state, repo.refs, repo.epoch) == ("QUEUED", 1, 1)
    # Nothing has changed at the PDS: the same rev as before has to bring back what was removed.
    world.scan("bob", 5, [[(str(n), n, OK) for n in range(5)]])
    assert len(world.items()) == 5


STEP = st.tuples(
    st.sampled_from(["follow", "unfollow", "prune", "batch", "post", "join", "leave"]),
    st.integers(0, 2),
    st.integers(0, 2),
)


@given(st.lists(STEP, max_size=40))
def test_references_are_right_and_the_wanted_are_never_removed(steps: list[tuple[str, int, int]]) -> None:
    world = World()
    names = ["alice", "bob", "carol"]
    members: set[str] = set()
    for number, (what, one, other) in enumerate(steps):
        who, whom = names[one], names[other]
        if what == "join" and who not in members:
            world.member(who)
            members.add(who)
        elif what == "leave" and who in members:
            world.leave(who)
            members.discard(who)
        elif what == "follow":
            world.follow(who, whom, whom)
        elif what == "unfollow":
            world.delete(uri(who, FOLLOW, whom))
        elif what == "post":
            world.post(who, str(number))
        elif what in ("prune", "batch"):
            actor = world.known(who)
            if actor is not None and what == "prune":
                repos.prune(world.tx, actor, NOW_US, NOW_US)
            elif actor is not None:
                prune.prune_batch(world.tx, actor, 1, NOW_US)
        assert repos.wrong_refs(world.tx) == []
        wanted = world.all("SELECT count(*) FROM repo WHERE refs > 0 AND state = 'PRUNING'")
        assert wanted == [(0,)]
    world.connection.close()
