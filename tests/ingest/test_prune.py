"""What nobody needs goes; what others point at becomes a mention; tombstones go when they guard nothing."""

from appliance.ingest import prune
from appliance.store import repos
from tests.ingest.world import CREATED, NOW_US, POST, World, rev, strong, uri
from tests.merge.checker import index_faults

OK = {"text": "", "createdAt": CREATED}
LATER_US = NOW_US + prune.TOMBSTONE_AGE_US + 1_000_000_000


def unwanted(world: World, who: str) -> int:
    actor = world.actor(who)
    repos.unwant(world.tx, actor, NOW_US)
    assert repos.prune(world.tx, actor, NOW_US, NOW_US)
    return actor


def test_a_pruned_account_leaves_no_row_behind() -> None:
    world = World()
    world.track("alice")
    one = world.post("alice", "1")
    world.reply("alice", "2", one)
    world.repost("alice", "3", one)
    world.like("alice", "4", one)
    world.delete(world.post("alice", "5"))
    actor = unwanted(world, "alice")
    world.track("bob")
    world.apply(world.event("bob", "app.bsky.actor.profile", "self", {}))

    rounds = 0
    while not prune.prune_batch(world.tx, actor, 2, NOW_US):
        rounds += 1
        assert rounds < 10

    for table in ("item", "post", "link", "post_count", "floor", "scan"):
        assert world.count(table) == 0, table
    assert (
        world.all("SELECT actor FROM record")
        == world.all("SELECT actor FROM repo")
        == [(world.actor("bob"),)]
    )
    assert world.actor_counts("alice") == (0, 0, 0)
    assert world.apply(world.event("alice", POST, "6", OK)).strangers == 1


def test_a_number_is_never_given_to_another_record() -> None:
    world = World()
    world.track("alice", "bob")
    newest = world.id(world.post("alice", "1"))
    prune.prune_batch(world.tx, unwanted(world, "alice"), 10, NOW_US)

    assert world.id(world.post("bob", "1")) > newest


def test_what_others_point_at_becomes_a_mention() -> None:
    world = World()
    world.track("alice", "bob")
    post = world.post("alice", "1")
    quoted = world.post("alice", "2")
    world.post("alice", "3")
    gone = world.post("alice", "4")
    repost = world.repost("bob", "r", post)
    hidden = world.repost("bob", "h", gone)
    world.delete(gone)
    world.post("bob", "q", {"embed": {"$type": "app.bsky.embed.record", "record": strong(quoted)}})
    actor = unwanted(world, "alice")

    assert prune.prune_batch(world.tx, actor, 100, NOW_US)

    assert [world.state(address) for address in (post, quoted, gone)] == [0, 0, 0]
    assert world.find(uri("alice", POST, "3")) is None
    assert set(world.items()) == {repost, hidden, uri("bob", POST, "q")}
    assert world.counts(post) == (0, 1, 0, 0)
    assert index_faults(world.tx) == []


def test_prune_waits_for_the_grace_time_and_for_the_last_reference() -> None:
    world = World()
    world.track("alice", "alice", "bob")
    alice, bob = world.actor("alice"), world.actor("bob")
    repos.unwant(world.tx, alice, NOW_US)
    repos.unwant(world.tx, bob, NOW_US)

    assert repos.find_unwanted(world.tx, NOW_US, 10) == [bob]
    assert not repos.prune(world.tx, alice, NOW_US + 1, NOW_US)
    assert not repos.prune(world.tx, bob, NOW_US - 1, NOW_US)
    assert repos.prune(world.tx, bob, NOW_US, NOW_US)


def test_a_tombstone_below_the_floor_and_old_enough_goes() -> None:
    world = World()
    world.track("alice")
    world.delete(world.post("alice", "1", number=1), number=2)
    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 0, "no scan has said what there was"

    world.scan("alice", 3, [[]])
    assert prune.collect_tombstones(world.tx, NOW_US + 1, 10) == 0, "a replay may still bring the create back"
    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 1

    world.post("alice", "1", number=1)
    assert world.items() == []


def test_a_tombstone_above_the_floor_stays() -> None:
    world = World()
    world.live("alice")
    world.delete(uri("alice", POST, "1"), number=2)

    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 0


def test_a_tombstone_that_a_running_scan_could_contradict_stays() -> None:
    world = World()
    world.live("alice")
    world.delete(world.post("alice", "1", number=1), number=2)
    world.begin_anew("alice", 1)
    world.tx.run("UPDATE floor SET rev = ?", (rev(3),))

    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 0
    world.tx.run("DELETE FROM scan")
    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 1


def test_a_tombstone_that_tells_a_repost_its_subject_is_gone_stays() -> None:
    world = World()
    world.track("alice", "bob")
    post = world.post("alice", "1", number=1)
    world.repost("bob", "r", post)
    world.delete(post, number=2)
    world.scan("alice", 3, [[]])

    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 0


def test_a_stranger_s_tombstone_goes_when_it_is_old() -> None:
    world = World(scope="network")
    world.delete(uri("stranger", POST, "1"), number=2)

    assert prune.collect_tombstones(world.tx, NOW_US + 1, 10) == 0
    assert prune.collect_tombstones(world.tx, LATER_US, 10) == 1
