"""Any order and any number of deliveries of the same events leave the same rows."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocol.events import CommitEvent
from tests.ingest.world import BLOCK, CREATED, FOLLOW, LIKE, POST, REPOST, World, did, strong, uri
from tests.merge.checker import index_faults

WHO = ("alice", "bob")
KEYS = ("1", "2", "3")

BODIES = st.one_of(
    st.tuples(st.just(POST), st.none()),
    st.tuples(st.just(POST), st.sampled_from(WHO), st.sampled_from(KEYS)),
    st.tuples(st.sampled_from([LIKE, REPOST]), st.sampled_from(WHO), st.sampled_from(KEYS)),
    st.tuples(st.sampled_from([FOLLOW, BLOCK]), st.sampled_from((*WHO, "carol"))),
)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(WHO), st.sampled_from(KEYS), st.booleans(), BODIES), min_size=1, max_size=25
)

# Where a row stands, and which of a pair counts, depends on what arrived first: that is left out here.
ROWS = {
    "records": "SELECT a.did, collection, rkey, state, epoch, r.rev, n, cid, CAST(body AS TEXT) FROM record r"
    " JOIN actor a ON a.id = r.actor",
    "items": "SELECT a.did, r.collection, r.rkey, i.flags & 127, s.rkey, s.actor = i.actor FROM item i"
    " JOIN record r USING (id) JOIN actor a ON a.id = r.actor JOIN record s ON s.id = i.subject",
    "posts": "SELECT a.did, r.rkey, flags, p.rkey"
    " FROM post JOIN record r USING (id) JOIN actor a ON a.id = r.actor"
    " LEFT JOIN record p ON p.id = post.parent",
    "pairs": "SELECT l.kind, a.did, CASE WHEN l.kind IN (1, 2) THEN s.rkey || s.actor"
    " ELSE b.did END, count(*), sum(waiting) FROM link l JOIN actor a ON a.id = l.actor"
    " LEFT JOIN (SELECT k.id, k.rkey, d.did AS actor"
    " FROM record k JOIN actor d ON d.id = k.actor) s ON s.id = l.subject"
    " LEFT JOIN actor b ON b.id = l.subject GROUP BY 1, 2, 3",
    "counts": "SELECT a.did, r.collection, r.rkey, likes, reposts, replies, quotes FROM post_count c"
    " JOIN record r USING (id) JOIN actor a ON a.id = r.actor WHERE likes OR reposts OR replies OR quotes",
    "actors": "SELECT a.did, follows, followers, posts FROM actor_count c JOIN actor a ON a.id = c.actor"
    " WHERE follows OR followers OR posts",
    # What tells of a post above, or of a deleted one, depends on what was here when it came.
    "told": "SELECT v.did, a.did, n.reason, o.did, s.collection, s.rkey, count(*) FROM notification n"
    " JOIN actor v ON v.id = n.viewer JOIN actor a ON a.id = n.author LEFT JOIN record s ON s.id = n.subject"
    " LEFT JOIN actor o ON o.id = s.actor LEFT JOIN post p ON p.id = n.record"
    " WHERE n.reason NOT IN (2, 3) OR (s.state = 1 AND s.id IN (p.parent, p.quote))"
    " GROUP BY 1, 2, 3, 4, 5, 6",
    "wanted": "SELECT a.did, refs FROM repo JOIN actor a ON a.id = repo.actor WHERE refs",
}


def rows(world: World) -> dict[str, list[tuple[Any, ...]]]:
    # A mention of what an undone link once pointed at may or may not have been made.
    return {
        name: sorted(
            (row for row in world.all(sql) if name != "records" or row[3] != 0),
            key=lambda row: tuple(map(str, row)),
        )
        for name, sql in ROWS.items()
    }


def events(world: World, operations: list[tuple[Any, ...]]) -> list[CommitEvent]:
    made = []
    for number, (who, rkey, deletes, (collection, *parts)) in enumerate(operations, 1):
        body: dict[str, Any] | None = {"createdAt": CREATED, "text": str(number)}
        if deletes:
            body = None
        elif collection in (FOLLOW, BLOCK):
            body = {"createdAt": CREATED, "subject": did(parts[0])}
        elif collection in (LIKE, REPOST):
            body = {"createdAt": CREATED, "subject": strong(uri(parts[0], POST, parts[1]))}
        elif parts[0] is not None:
            parent = strong(uri(parts[0], POST, parts[1]))
            body = {"createdAt": CREATED, "text": str(number), "reply": {"root": parent, "parent": parent}}
        # Every other pair of operations shares a commit.
        made.append(world.event(who, collection, rkey, body, number=number // 2, n=number % 2))
    return made


def apply_all(
    sequence: list[CommitEvent] | None, operations: list[tuple[Any, ...]], size: int
) -> dict[str, Any]:
    world = World()
    for who in WHO:
        world.member(who)
    todo = events(world, operations) if sequence is None else sequence
    for start in range(0, len(todo), size):
        world.apply(*todo[start : start + size])
    assert index_faults(world.tx) == []
    result = rows(world)
    world.connection.close()
    return result


@pytest.mark.defect("D12")
@pytest.mark.invariant("replay-is-harmless")
@pytest.mark.invariant("newest-wins")
@given(OPERATIONS, st.randoms(use_true_random=False), st.integers(1, 30))
@settings(max_examples=300)
def test_any_order_and_any_repetition_give_the_same_rows(
    operations: list[tuple[Any, ...]], chance: random.Random, size: int
) -> None:
    in_order = apply_all(None, operations, 1)
    world = World()
    shuffled = events(world, operations)
    world.connection.close()
    shuffled += chance.choices(shuffled, k=chance.randint(0, 10))
    chance.shuffle(shuffled)

    assert apply_all(shuffled, operations, size) == in_order
