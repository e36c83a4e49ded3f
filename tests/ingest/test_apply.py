"""Events become rows, and the same events again change nothing."""

import msgspec
import pytest

from appliance.store import records
from tests.ingest.world import CREATED, LIKE, POST, PROFILE, World, cid, did, strong, uri
from tests.merge.checker import index_faults


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


def test_a_record_is_kept_byte_for_byte() -> None:
    world = World()
    world.track("alice")
    body = (
        b'{"text" : "caf\xc3\xa9 \\u00e9 1.0", "createdAt":"2020-01-02T03:04:05.678901Z", "x":1.50,'
        b'"embed":{"$type":"app.bsky.embed.images","images":[]},"$type":"app.bsky.feed.post"}'
    )

    world.apply(world.event("alice", POST, "1", body))

    found = world.find(uri("alice", POST, "1"))
    assert found is not None
    assert found.body == body
    assert found.cid == cid(100)
    assert world.sort_ms(uri("alice", POST, "1")) == 1_577_934_245_678


@pytest.mark.defect("D11")
@pytest.mark.invariant("replay-is-harmless")
def test_a_log_replayed_twice_leaves_every_row_and_counter_as_it_was() -> None:
    world = World()
    world.track("alice", "bob")
    post, other = uri("alice", POST, "1"), uri("bob", POST, "2")
    body = {"text": "", "createdAt": CREATED}
    events = [
        world.event("alice", POST, "1", body),
        world.event("bob", POST, "2", {**body, "reply": {"root": strong(post), "parent": strong(post)}}),
        world.event("bob", LIKE, "3", {"subject": strong(post), "createdAt": CREATED}),
        world.event("alice", POST, "4", {**body, "embed": quote(other)}),
        world.event("bob", LIKE, "3", None),
    ]
    world.apply(*events)
    before = dump(world)

    for _ in range(2):
        tally = world.apply(*events)
        assert (tally.applied, tally.dead, tally.suspected) == (0, 0, 0)
    world.apply(*events[2:4])

    assert dump(world) == before
    assert world.counts(post) == (0, 0, 1, 0)
    assert world.counts(other) == (0, 0, 0, 1)


def test_reply_and_quote_and_media_make_flags() -> None:
    world = World()
    world.track("alice")
    parent = uri("bob", POST, "p")
    quoted = uri("bob", POST, "q")
    with_media = {
        "$type": "app.bsky.embed.recordWithMedia",
        "record": {"$type": "app.bsky.embed.record", "record": strong(quoted)},
        "media": {"$type": "app.bsky.embed.video", "video": {}},
    }
    a_list = uri("bob", "app.bsky.graph.list", "l")

    world.reply("alice", "1", parent)
    world.post("alice", "2", {"embed": quote(quoted)})
    world.post("alice", "3", {"embed": with_media})
    world.post("alice", "4", {"embed": {"$type": "app.bsky.embed.images", "images": []}})
    world.post("alice", "5", {"embed": {"$type": "app.bsky.embed.gallery", "items": []}})
    world.post("alice", "6", {"embed": quote(a_list)})

    rows = world.all("SELECT r.rkey, i.flags FROM item i JOIN record r USING (id) ORDER BY r.rkey")
    assert rows == [("1", 2), ("2", 16), ("3", 24), ("4", 4), ("5", 4), ("6", 0)]
    assert world.counts(parent) == (0, 0, 1, 0)
    assert world.counts(quoted) == (0, 0, 0, 2)


def test_an_update_changes_the_record_and_not_its_place() -> None:
    world = World()
    world.track("alice", "bob")
    post = world.post("alice", "1")
    world.like("bob", "l", post)
    before = world.all("SELECT sort_ms, tie, arrival, id FROM item")

    later = {"text": "edited", "createdAt": "2025-12-31T23:00:00Z"}
    world.apply(world.event("alice", POST, "1", later, operation="update"))

    found = world.find(post)
    assert found is not None
    assert found.body is not None
    assert msgspec.json.decode(found.body)["text"] == "edited"
    assert world.all("SELECT sort_ms, tie, arrival, id FROM item") == before
    assert world.counts(post) == (1, 0, 0, 0)


def test_an_update_of_a_post_moves_its_reply_count() -> None:
    world = World()
    world.track("alice")
    one, two = uri("bob", POST, "1"), uri("bob", POST, "2")
    world.reply("alice", "r", one)

    world.reply("alice", "r", two, operation="update")

    assert world.counts(one) == (0, 0, 0, 0)
    assert world.counts(two) == (0, 0, 1, 0)


def test_a_record_made_again_after_its_delete_stands_where_it_stood() -> None:
    world = World()
    world.track("alice")
    post = world.post("alice", "1", {"createdAt": "2025-12-30T00:00:00Z"})
    world.post("alice", "2")
    before = world.all("SELECT * FROM item ORDER BY id")
    world.delete(post)

    world.post("alice", "1", {"createdAt": "2025-12-31T23:00:00Z"})

    assert world.all("SELECT * FROM item ORDER BY id") == before


def test_an_update_of_something_never_seen_counts_as_its_creation() -> None:
    world = World()
    world.track("alice")

    post = world.post("alice", "1", operation="update")

    assert world.items() == [post]


@pytest.mark.invariant("deleted-stays-deleted")
def test_a_delete_that_overtakes_its_create_wins() -> None:
    world = World()
    world.track("alice")
    world.delete(uri("alice", POST, "1"), number=5)

    world.post("alice", "1", number=4)

    assert world.items() == []
    world.post("alice", "1", number=6)
    assert len(world.items()) == 1


@pytest.mark.invariant("newest-wins")
def test_lost_events_that_come_back_land_although_newer_ones_are_in() -> None:
    world = World()
    world.track("alice")
    world.post("alice", "new", number=9)

    world.post("alice", "old", number=2)

    assert len(world.items()) == 2
    assert world.repo("alice").seen_rev > "3"


def test_operations_of_one_commit_are_ordered_by_their_place() -> None:
    world = World()
    world.track("alice")
    create = world.event("alice", POST, "1", {"text": "", "createdAt": CREATED}, number=3, n=1)
    delete = world.event("alice", POST, "1", None, number=3, n=0)

    world.apply(create)
    world.apply(delete)

    assert len(world.items()) == 1


def test_a_repost_of_an_unknown_post_is_listed_and_its_subject_waits_to_be_fetched() -> None:
    world = World()
    world.track("alice")
    subject = uri("stranger", POST, "1")

    repost = world.repost("alice", "r", subject)

    assert world.items() == [repost]
    assert world.state(subject) == 0
    assert world.counts(subject) == (0, 1, 0, 0)


def test_a_repost_of_a_deleted_post_is_off_the_lists_until_the_post_is_back() -> None:
    world = World()
    world.track("alice", "bob")
    post = world.post("alice", "1")
    first, second = world.repost("bob", "r1", post), world.repost("bob", "r2", post)
    assert set(world.items()) == {post, first, second}

    world.delete(post)
    late = world.repost("alice", "r3", post)
    assert world.items() == []

    world.post("alice", "1")
    assert set(world.items()) == {post, first, second, late}
    assert index_faults(world.tx) == []


def test_a_reply_to_a_deleted_post_stays_listed() -> None:
    world = World()
    world.track("alice", "bob")
    post = world.post("alice", "1")
    reply = world.reply("bob", "r", post)

    world.delete(post)

    assert world.items() == [reply]
    assert world.counts(post) == (0, 0, 1, 0)


def test_blocks_hide_nothing_at_write_time() -> None:
    world = World()
    world.track("alice", "bob")
    block = {"subject": did("bob"), "createdAt": CREATED}
    world.apply(world.event("alice", "app.bsky.graph.block", "b", block))

    post = world.post("bob", "1")
    repost = world.repost("alice", "r", post)

    assert set(world.items()) == {post, repost}


def test_strangers_are_dropped_before_their_record_is_looked_at() -> None:
    world = World()
    world.track("alice")

    tally = world.apply(world.event("stranger", POST, "1", b"\xff not json", operation="create"))

    assert (tally.strangers, tally.applied, tally.dead) == (1, 0, 0)
    assert world.count("record") == 0
    assert world.count("actor") == 1


def test_a_stranger_s_delete_of_a_record_that_we_hold_for_others_is_taken() -> None:
    world = World()
    world.track("alice")
    subject = uri("stranger", POST, "1")
    world.repost("alice", "r", subject)
    world.fetched(subject, {"text": "found", "createdAt": CREATED})
    assert world.state(subject) == 1

    world.delete(subject)
    assert world.state(subject) == 2
    assert world.items() == []


def test_a_stranger_s_delete_of_a_record_never_held_leaves_no_row() -> None:
    world = World()
    world.track("alice")

    world.delete(uri("stranger", POST, "1"))

    assert world.count("record") == 0


def test_network_scope_keeps_strangers() -> None:
    world = World(scope="network")

    post = world.post("stranger", "1")
    world.delete(uri("other", POST, "never-seen"))
    world.post("other", "never-seen", number=1)

    assert world.items() == [post]
    assert world.all("SELECT known FROM actor ORDER BY id") == [(1,), (1,)]


def test_unknown_collections_are_counted_and_ignored() -> None:
    world = World()
    world.track("alice")

    tally = world.apply(world.event("alice", "fm.teal.alpha.actor.status", "self", {"a": 1}))

    assert tally.unknown_collection == 1
    assert world.count("record") == 0
    assert world.repo("alice").seen_rev != ""


def test_a_record_that_breaks_its_lexicon_is_kept_not_indexed_and_counts_in_the_digest() -> None:
    world = World(validate=lambda _collection, body: "bad" if b"bad" in body else None)
    world.live("alice")
    world.post("alice", "1", {"text": "bad"}, number=1)

    post = uri("alice", POST, "1")
    assert world.state(post) == 3
    assert world.items() == []
    assert world.actor_counts("alice") == (0, 0, 0)
    assert records.digest(world.tx, world.actor("alice"), [1])[1] == 1

    world.post("alice", "1", number=2)
    assert world.items() == [post]
    world.post("alice", "1", {"text": "bad"}, number=3)
    assert world.items() == []
    assert index_faults(world.tx) == []


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"not json",
        b'{"createdAt":1}',
        b'{"createdAt":"2025-01-01T00:00:00Z","reply":5}',
        b'{"createdAt":"2025-01-01T00:00:00Z","embed":{"$type":"app.bsky.embed.record","record":7}}',
        b'{"createdAt":"2025-01-01T00:00:00Z","reply":' + b"[" * 100_000,
        b'{"createdAt":"\xff"}',
        b"",
    ],
)
def test_whatever_a_record_holds_it_stops_nothing(body: bytes) -> None:
    world = World()
    world.track("alice")

    tally = world.apply(world.event("alice", POST, "1", body), world.event("alice", POST, "2", OK))

    assert tally.dead == 0
    assert world.state(uri("alice", POST, "1")) == 3
    assert world.items() == [uri("alice", POST, "2")]


OK = {"text": "", "createdAt": CREATED}


def test_keys_are_opaque_text_of_any_allowed_length() -> None:
    world = World()
    world.track("alice")
    keys = ["self", "~.:_-", "a" * 512, "2025-01-01", "0"]

    for key in keys:
        world.post("alice", key)

    assert len(world.items()) == len(keys)
    world.delete(uri("alice", POST, "a" * 512))
    assert len(world.items()) == len(keys) - 1


def test_a_profile_lives_under_self_only() -> None:
    world = World()
    world.track("alice")

    world.apply(world.event("alice", PROFILE, "self", {"displayName": "A"}))
    world.apply(world.event("alice", PROFILE, "other", {"displayName": "B"}))

    assert world.state(uri("alice", PROFILE, "self")) == 1
    assert world.state(uri("alice", PROFILE, "other")) == 3


def test_a_did_web_in_capitals_is_the_same_account() -> None:
    world = World()
    world.track_did("did:web:example.com")
    event = world.event("x", POST, "1", OK)

    world.apply(msgspec.structs.replace(event, did="did:web:EXAMPLE.com"))

    assert world.items() == [f"at://did:web:example.com/{POST}/1"]


def test_a_did_web_with_a_dot_behind_it_is_nobody_whom_we_know() -> None:
    """87. It names the same host; taken as it is it would be a second account."""
    world = World(scope="network")
    event = world.event("x", POST, "1", {"text": "", "createdAt": CREATED})

    tally = world.apply(msgspec.structs.replace(event, did="did:web:alice.test."))

    assert tally.strangers == 1
    assert world.count("actor") == 0


def test_links_to_what_is_no_address_here_are_kept_without_effect() -> None:
    world = World()
    world.track("alice")
    for number, target in enumerate(
        [
            "at://handle.test/app.bsky.feed.post/1",
            "https://example.com",
            "at://did:plc:x/com.unknown.thing/1",
            "",
        ]
    ):
        world.like("alice", str(number), target)

    assert world.count("link") == 0
    assert world.all("SELECT DISTINCT state FROM record") == [(1,)]


def test_the_position_is_stored_with_the_rows() -> None:
    world = World()
    world.track("alice")
    world.post("alice", "1")

    assert world.all("SELECT name, wire, seq, events FROM upstream") == [
        ("jetstream-v2 wss://upstream.test", "jetstream-v2", 1, 1)
    ]


def test_a_member_s_own_write_is_in_at_once_and_the_stream_changes_nothing() -> None:
    world = World()
    world.member("alice")
    event = world.event("alice", POST, "1", OK)

    tally = world.applier.apply(world.tx, event, now_us=world.now_us)
    assert tally.applied == 1
    before = world.all("SELECT * FROM record")
    again = world.apply(msgspec.structs.replace(event, time_us=event.time_us + 5_000_000))

    assert (again.applied, again.known, again.suspected) == (0, 1, 0)
    assert world.all("SELECT * FROM record") == before


def test_the_newest_rev_applied_is_what_atproto_repo_rev_says() -> None:
    world = World()
    world.track("alice")
    first = world.event("alice", POST, "1", OK)
    second = world.event("alice", POST, "2", OK)

    world.apply(second)
    world.apply(first)

    assert world.all("SELECT rev, known FROM actor") == [(second.rev, 1)]
    assert world.repo("alice").seen_rev == second.rev


def test_arrival_numbers_rise_and_are_never_used_again() -> None:
    world = World()
    world.track("alice")
    world.post("alice", "1")
    second = world.post("alice", "2")
    world.delete(second)

    world.post("alice", "3")

    assert world.all("SELECT arrival FROM item ORDER BY arrival") == [(1,), (3,)]


def quote(target: str) -> dict[str, object]:
    return {"$type": "app.bsky.embed.record", "record": strong(target)}


def dump(world: World) -> dict[str, list[tuple[object, ...]]]:
    tables = ("record", "item", "post", "link", "post_count", "actor_count", "actor", "repo")
    return {table: world.all(f"SELECT * FROM {table} ORDER BY 1") for table in tables}
