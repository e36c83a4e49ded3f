"""Of strangers that is kept which concerns a member, and what says how they stand to members stays."""

from typing import Any

import pytest

from appliance.ingest import index
from appliance.store import records, retention
from tests.ingest.world import (
    BLOCK,
    CREATED,
    FOLLOW,
    LIKE,
    NOW_US,
    POST,
    PROFILE,
    REPOST,
    World,
    did,
    strong,
    uri,
)

LIST = "app.bsky.graph.list"
LIST_ITEM = "app.bsky.graph.listitem"
LIST_BLOCK = "app.bsky.graph.listblock"
VERIFICATION = "app.bsky.graph.verification"

POSTED = uri("ann", POST, "root")
THEIRS = uri("zoe", LIST, "list")
CONCERNING: dict[str, tuple[str, dict[str, Any]]] = {
    "follow": (FOLLOW, {"subject": did("ann")}),
    "block": (BLOCK, {"subject": did("ann")}),
    "like": (LIKE, {"subject": strong(POSTED)}),
    "repost": (REPOST, {"subject": strong(POSTED)}),
    "reply": (POST, {"text": "", "reply": {"root": strong(POSTED), "parent": strong(POSTED)}}),
    "quote": (POST, {"text": "", "embed": {"$type": "app.bsky.embed.record", "record": strong(POSTED)}}),
    "listitem": (LIST_ITEM, {"subject": did("ann"), "list": THEIRS}),
    "verification": (VERIFICATION, {"subject": did("ann"), "handle": "ann.test", "displayName": ""}),
    "join": (PROFILE, {"joinedViaStarterPack": strong(uri("ann", "app.bsky.graph.starterpack", "p"))}),
}


def house() -> World:
    """One member, who posted."""
    world = World()
    world.member("ann")
    world.post("ann", "root")
    return world


def event(world: World, kind: str, who: str = "zoe", **how: Any) -> Any:
    collection, body = CONCERNING[kind]
    rkey = "self" if kind == "join" else kind
    return world.event(who, collection, rkey, {**body, "createdAt": CREATED}, **how)


@pytest.mark.parametrize("kind", CONCERNING)
def test_what_a_stranger_does_about_a_member_is_kept_and_of_others_nothing(kind: str) -> None:
    world = house()
    made = event(world, kind)

    assert world.apply(made).applied == 1
    assert world.state(uri("zoe", made.collection, made.rkey)) == records.LIVING
    wanted = world.all("SELECT a.did FROM fetch JOIN actor a ON a.id = target WHERE kind = 'actor'")
    assert wanted == [(did("zoe"),)]

    other = World()
    other.member("bob")
    other.track("ann")
    assert other.apply(event(other, kind)).strangers == 1
    assert other.count("record") == 0


def test_the_set_of_members_follows_the_rows_also_back_from_an_undone_write() -> None:
    world = house()
    assert world.apply(event(world, "follow")).applied == 1

    world.tx.run("SAVEPOINT undone")
    world.member("bob")
    made = world.event("yan", FOLLOW, "f", {"subject": did("bob"), "createdAt": CREATED})
    assert world.apply(made).applied == 1
    world.tx.run("ROLLBACK TO undone")
    assert world.apply(made).strangers == 1

    world.leave("ann")
    assert world.apply(event(world, "block", "yan")).strangers == 1


def test_an_edit_that_names_a_member_is_kept_though_the_post_was_not() -> None:
    world = house()

    assert world.apply(event(world, "reply", operation="update")).applied == 1

    assert world.count("notification") == 1


def test_a_stranger_who_takes_it_back_is_believed() -> None:
    world = house()
    world.apply(event(world, "block"))
    assert world.all("SELECT kind FROM link WHERE kind = 4") == [(4,)]

    world.delete(uri("zoe", BLOCK, "block"))

    assert world.all("SELECT kind FROM link WHERE kind = 4") == []


def test_a_block_by_a_list_counts_where_a_member_is_on_the_list() -> None:
    world = house()
    blocks = {"subject": THEIRS, "createdAt": CREATED}
    assert world.apply(world.event("yan", LIST_BLOCK, "early", blocks)).strangers == 1

    world.apply(event(world, "listitem"))
    assert world.apply(world.event("yan", LIST_BLOCK, "late", blocks)).applied == 1

    wanted = world.all("SELECT target FROM fetch WHERE kind = 'record'")
    assert wanted == [(world.id(THEIRS),)]
    elsewhere = {"subject": uri("zoe", LIST, "other"), "createdAt": CREATED}
    assert world.apply(world.event("yan", LIST_BLOCK, "x", elsewhere)).strangers == 1


@pytest.mark.parametrize("body", [b"{", b'{"subject":7}', b'{"subject":"at://"}', b"\xff", b"{}"])
def test_a_block_by_a_list_that_cannot_be_read_concerns_nobody(body: bytes) -> None:
    world = house()

    assert world.apply(world.event("yan", LIST_BLOCK, "x", body)).strangers == 1


def test_a_member_with_a_web_did_is_found_in_every_spelling_of_an_address() -> None:
    world = World()
    name = "did:web:ann.example"
    world.tx.run("INSERT INTO actor (did, known) VALUES (?, 1)", (name,))
    world.tx.run(
        "INSERT INTO member (actor, via, admitted_us) SELECT id, 'open', 0 FROM actor WHERE did = ?", (name,)
    )
    posted = f"at://{name}/{POST}/1"

    assert world.apply(world.event("zoe", FOLLOW, "f", {"subject": name, "createdAt": CREATED})).applied == 1
    like = {"subject": strong(posted), "createdAt": CREATED}
    assert world.apply(world.event("zoe", LIKE, "l", like)).applied == 1
    longer = {"subject": name + ".evil", "createdAt": CREATED}
    assert world.apply(world.event("zoe", FOLLOW, "g", longer)).strangers == 1


def test_how_strangers_stand_to_members_outlives_the_retention_and_the_rest_does_not() -> None:
    world = house()
    for kind in CONCERNING:
        world.apply(event(world, kind))
    world.apply(world.event("yan", LIST_BLOCK, "lb", {"subject": THEIRS, "createdAt": CREATED}))

    def idle() -> list[str]:
        ids, _ = retention.walk(world.tx, NOW_US + 10**12, 0, 10_000)
        return sorted(records.uri(world.tx, found).split("/")[-1] for found in ids)

    # A profile stays as long as its owner has other records here, and a list as long as a member is on it.
    assert idle() == ["like", "quote", "reply", "repost"]

    for old in retention.idle(world.tx, NOW_US + 10**12, [world.id(uri("zoe", LIKE, "like"))]):
        index.vanish(world.tx, old.id, old.collection, NOW_US, forgotten=True)
    assert world.all("SELECT 1 FROM notification WHERE reason = 4") == []
    world.leave("ann")
    assert {"block", "follow", "listitem", "verification"} <= set(idle())
