"""What nobody protects goes after its time; all that readers of this place can see stays as it was."""

from __future__ import annotations

import random
from typing import Any

import pytest

from appliance.ingest import index, prune
from appliance.store import pruning, records, repos, retention
from tests.ingest.world import CREATED, FOLLOW, NOW_US, POST, PROFILE, World, did, strong, uri

DAY_US = 86_400_000_000
LATER_US = NOW_US + 31 * DAY_US
BEFORE_US = LATER_US - 30 * DAY_US


def sweep(world: World, before_us: int = BEFORE_US) -> int:
    """Walk after walk until nothing goes, as the pruner does; how many went."""
    gone = 0
    for _ in range(20):
        after: int | None = 0
        went = 0
        while after is not None:
            ids, after = retention.walk(world.tx, before_us, after, 7)
            for record in retention.idle(world.tx, before_us, ids):
                if record.state == records.LIVING:
                    index.vanish(world.tx, record.id, record.collection, LATER_US)
                # The highest number stays as a mention, so that it is not given out again.
                went += pruning.forget_record(world.tx, record.id) or record.state != records.MENTIONED
        gone += went
        if not went:
            return gone
    raise AssertionError("there is always more")


def visible(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """All that a reader of this place can see, walked from those who read: rows with their bodies."""
    tracked = "actor IN (SELECT actor FROM repo)"
    shown = f"""
    WITH RECURSIVE shown (id) AS (
      SELECT id FROM record WHERE {tracked} AND state = 1
      UNION SELECT post FROM bookmark
      UNION SELECT l.subject FROM link l JOIN shown s ON s.id = l.id WHERE l.kind IN (1, 2, 5)
      UNION SELECT l.actor FROM link l JOIN shown s ON s.id = l.id WHERE l.kind = 6
      UNION SELECT p.parent FROM post p JOIN shown s ON s.id = p.id WHERE p.parent IS NOT NULL
      UNION SELECT p.root FROM post p JOIN shown s ON s.id = p.id WHERE p.root IS NOT NULL
      UNION SELECT p.quote FROM post p JOIN shown s ON s.id = p.id WHERE p.quote IS NOT NULL
    )
    """
    return {
        "records": world.all(
            f"{shown} SELECT id, state, cid, body, sort_ms, arrival FROM record WHERE id IN shown ORDER BY id"
        ),
        "authors": world.all(
            f"{shown} SELECT r.actor, r.cid, r.body FROM record r WHERE r.collection = 5 AND r.actor IN"
            " (SELECT actor FROM record WHERE id IN shown AND state = 1) ORDER BY r.actor"
        ),
        "items": world.all(f"SELECT * FROM item WHERE {tracked} ORDER BY id"),
        "links": world.all(f"SELECT * FROM link WHERE {tracked} ORDER BY id"),
        "mutes": world.all("SELECT * FROM mute ORDER BY viewer, subject"),
        "bookmarks": world.all("SELECT * FROM bookmark ORDER BY viewer, post"),
    }


def village(scope: str, seed: int) -> World:
    """Two members, two whom they follow, and strangers who talk to and about them and to one another."""
    rng = random.Random(seed)
    world = World(scope=scope)
    world.member("alice")
    world.member("eve")
    for who in ("bob", "carol"):
        world.follow("alice", who, who)
    strangers = [f"stranger{n}" for n in range(6)]
    posts: list[str] = []
    for who in ["alice", "eve", "bob", "carol", *strangers]:
        world.apply(world.event(who, PROFILE, "self", {"displayName": who}))
    for number in range(120):
        who = rng.choice(["alice", "eve", "bob", "carol", *strangers])
        key = f"p{number}"
        other = rng.choice(posts) if posts else None
        kind = rng.randrange(5)
        if other is None or kind == 0:
            posts.append(_any(world, who, key, {}))
        elif kind == 1:
            root = rng.choice(posts)
            posts.append(_any(world, who, key, {"reply": {"root": strong(root), "parent": strong(other)}}))
        elif kind == 2:
            embed = {"$type": "app.bsky.embed.record", "record": strong(other)}
            posts.append(_any(world, who, key, {"embed": embed}))
        else:
            collection = "app.bsky.feed.like" if kind == 3 else "app.bsky.feed.repost"
            world.apply(world.event(who, collection, key, {"subject": strong(other), "createdAt": CREATED}))
    if scope == "tracked":
        # What is only context was fetched.
        for address in posts:
            if world.state(address) == records.MENTIONED:
                world.fetched(address, {"text": "context", "createdAt": CREATED})
        for who in strangers:
            world.fetched(uri(who, PROFILE, "self"), {"displayName": who})
    alice = world.actor("alice")
    for address in rng.sample(posts, 5):
        found = world.find(address)
        if found is not None and found.state == records.LIVING:
            world.tx.run("INSERT INTO bookmark VALUES (?, ?, 'c', 1)", (alice, found.id))
    muted = alice, world.actor("bob")
    world.tx.run("INSERT INTO mute (viewer, subject, created_us) VALUES (?, ?, 1)", muted)
    return world


def _any(world: World, who: str, key: str, body: dict[str, Any]) -> str:
    world.apply(world.event(who, POST, key, {"text": key, "createdAt": CREATED, **body}))
    return uri(who, POST, key)


@pytest.mark.parametrize("scope", ["tracked", "network"])
@pytest.mark.parametrize("seed", range(6))
def test_retention_changes_nothing_that_a_reader_can_see(scope: str, seed: int) -> None:
    """Outcome 7: everything that can be seen is walked before and after."""
    world = village(scope, seed)
    before = visible(world)
    assert len(before["records"]) > 30

    gone = sweep(world)

    assert visible(world) == before
    assert gone > 0 or scope == "tracked"
    assert repos.wrong_refs(world.tx) == []
    # What is left of strangers hangs on something that is protected.
    left = world.all(
        "SELECT count(*) FROM record r WHERE r.state = 1 AND r.collection <> 5"
        " AND r.actor NOT IN (SELECT actor FROM repo)"
        f" AND NOT {pruning.POINTED_AT}"
    )
    assert left == [(0,)]
    world.connection.close()


def test_what_is_young_stays() -> None:
    world = village("network", 1)
    assert sweep(world, NOW_US - DAY_US) <= world.count("record") // 4
    stranger = world.all(
        "SELECT count(*) FROM record WHERE state = 1 AND actor NOT IN (SELECT actor FROM repo)"
    )
    assert stranger[0][0] > 20


def test_strangers_who_name_each_other_in_a_circle_protect_nobody() -> None:
    """A post may be edited until two quote each other, or one itself: nobody here has anything of it."""
    world = World(scope="network")
    one, two = uri("one", POST, "1"), uri("two", POST, "2")
    for who, key, other in (("one", "1", two), ("two", "2", one), ("three", "3", uri("three", POST, "3"))):
        embed = {"$type": "app.bsky.embed.record", "record": strong(other)}
        _any(world, who, key, {"embed": embed})
    four = _any(world, "four", "4", {"embed": {"$type": "app.bsky.embed.record", "record": strong(one)}})
    world.track("reader")
    kept = _any(world, "kept", "k", {})
    world.repost("reader", "r", kept)

    sweep(world)

    for address in (one, two, uri("three", POST, "3"), four):
        assert world.state(address) in (None, records.MENTIONED), address
    assert world.state(kept) == records.LIVING


# ---------------------------------------------------------------- prune against re-follow


class Model:
    """What must hold, by the plainest means: sets and counts."""

    def __init__(self) -> None:
        self.truth: dict[str, int] = {}  # rkey -> value, in bob's repository
        self.follows: dict[str, set[str]] = {"alice": set(), "eve": set()}
        self.serial = 0

    @property
    def refs(self) -> int:
        return sum(1 for follows in self.follows.values() if follows)


@pytest.mark.parametrize("seed", range(40))
def test_prune_and_refollow_in_any_order_leave_the_truth(seed: int) -> None:
    """Catalogue 47 and 48: follows, unfollows, prune batches, scans and live events, one by one."""
    rng = random.Random(seed)
    world = World()
    for member in ("alice", "eve"):
        world.member(member)
    model = Model()
    scan: tuple[int, dict[str, int], int] | None = None  # id, the repository as the scan began, base
    pruned = refollowed = 0
    for _ in range(120):
        model.serial += 1
        serial = model.serial
        bob = world.known("bob")
        repo = None if bob is None else repos.find(world.tx, bob)
        match rng.choice(
            ["follow", "unfollow", "unfollow", "prune", "batch", "batch", "write", "delete", "scan", "page"]
        ):
            case "follow":
                member = rng.choice(["alice", "eve"])
                refollowed += repo is not None and repo.state == "PRUNING"
                world.follow(member, f"f{serial}", "bob", number=serial)
                model.follows[member].add(f"f{serial}")
            case "unfollow":
                member = rng.choice(["alice", "eve"])
                if model.follows[member]:
                    key = rng.choice(sorted(model.follows[member]))
                    model.follows[member].discard(key)
                    world.delete(uri(member, FOLLOW, key), number=serial)
            case "prune" if bob is not None:
                pruned += repos.prune(world.tx, bob, NOW_US, NOW_US)
            case "batch" if bob is not None:
                prune.prune_batch(world.tx, bob, 2, NOW_US)
            case "write":
                key = f"p{rng.randrange(12)}"
                model.truth[key] = serial * 100
                world.apply(world.event("bob", POST, key, {"text": "", "createdAt": CREATED}, number=serial))
            case "delete" if model.truth:
                key = rng.choice(sorted(model.truth))
                del model.truth[key]
                world.apply(world.event("bob", POST, key, None, number=serial))
            case "scan" if repo is not None and repo.state in ("QUEUED", "LIVE") and scan is None:
                if repo.state == "LIVE":
                    repos.resync(world.tx, repo.actor, repo.epoch, "again", 0, NOW_US)
                scan = world.begin("bob", serial), dict(model.truth), serial
            case "page" if scan is not None:
                rows = [(key, value, {"text": "", "createdAt": CREATED}) for key, value in scan[1].items()]
                if world.page(scan[0], rows) is not None:
                    world.finish(scan[0])
                scan = None
            case _:
                continue
        # Right after each step: references, who is tracked, and what is there of a complete account.
        assert repos.wrong_refs(world.tx) == []
        bob = world.known("bob")
        repo = None if bob is None else repos.find(world.tx, bob)
        assert (repo.refs if repo is not None else 0) == model.refs
        assert not (repo is not None and repo.refs and repo.state == "PRUNING")
        if repo is not None and repo.state == "LIVE":
            held = {
                key
                for (key,) in world.all(
                    "SELECT rkey FROM record WHERE actor = ? AND collection = 1 AND state = 1", bob
                )
            }
            assert held == set(model.truth), (seed, serial)
    # In the end somebody wants it: a scan makes it whole.
    if not model.refs:
        world.follow("alice", "last", "bob", number=model.serial + 1)
    repo = world.repo("bob")
    if repo.state == "SCANNING":
        repos.restart(world.tx, repo.actor, repo.epoch, "again", NOW_US)
    elif repo.state == "LIVE":
        repos.resync(world.tx, repo.actor, repo.epoch, "again", 0, NOW_US)
    scan_id = world.begin("bob", model.serial + 2)
    assert world.page(scan_id, [(k, v, {"text": "", "createdAt": CREATED}) for k, v in model.truth.items()])
    world.finish(scan_id)
    assert {address.rsplit("/", 1)[1] for address in world.items() if did("bob") in address} == set(
        model.truth
    )
    world.connection.close()
