"""Events become rows."""

from tests.ingest.world import World


def test_a_post_of_a_tracked_account_is_listed_and_its_delete_takes_it_back() -> None:
    world = World()
    world.track("alice")

    post = world.post("alice", "1")

    assert world.items() == [post]
    assert world.actor_counts("alice") == (0, 0, 1)
    world.delete(post)
    assert world.items() == []
    assert world.state(post) == 2
    assert world.actor_counts("alice") == (0, 0, 0)
