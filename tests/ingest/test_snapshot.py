"""Snapshots meet the stream: neither undoes what the other knows better."""

from hashlib import sha256

import pytest

from appliance.errors import NotFound
from appliance.ingest import snapshot
from appliance.ingest.merge import Verdict
from appliance.store import records, repos
from tests.ingest.world import CREATED, LIKE, NOW_US, POST, REPOST, Row, World, cid, rev, uri
from tests.merge.checker import index_faults

OK = {"text": "", "createdAt": CREATED}


@pytest.mark.invariant("deleted-stays-deleted")
def test_a_stale_page_does_not_bring_a_deleted_post_back() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 1)
    world.delete(uri("alice", POST, "1"), number=2)

    world.page(scan, [("1", 1, OK)])
    world.finish(scan)

    assert world.items() == []


@pytest.mark.invariant("newest-wins")
def test_a_stale_page_does_not_overwrite_a_newer_update() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 1)
    world.post("alice", "1", {"text": "new"}, number=2)

    world.page(scan, [("1", 1, {**OK, "text": "old"})])

    found = world.find(uri("alice", POST, "1"))
    assert found is not None
    assert b'"new"' in (found.body or b"")


def test_what_a_complete_scan_did_not_show_is_gone_unless_it_is_newer() -> None:
    world = World()
    world.track("alice")
    world.post("alice", "old", number=1)
    scan = world.begin("alice", 5)
    newer = world.post("alice", "newer", number=9)

    world.page(scan, [("kept", 1, OK)])
    world.finish(scan)

    assert set(world.items()) == {newer, uri("alice", POST, "kept")}
    assert world.state(uri("alice", POST, "old")) == 2
    world.post("alice", "old", number=1)
    world.post("alice", "never-seen", number=4)
    assert set(world.items()) == {newer, uri("alice", POST, "kept")}
    assert index_faults(world.tx) == []


def test_a_post_that_others_mention_and_the_scan_did_not_find_is_known_to_be_gone() -> None:
    world = World()
    world.track("alice", "bob")
    subject = uri("alice", POST, "1")
    repost = world.repost("bob", "r", subject)
    assert world.items() == [repost]

    world.scan("alice", 1, [[]])

    assert world.state(subject) == 2
    assert world.items() == []


def test_a_scan_says_nothing_of_collections_that_it_did_not_read() -> None:
    world = World()
    world.track("alice")
    post = uri("bob", POST, "1")
    world.like("alice", "1", post, number=1)

    world.scan("alice", 5, [[]], POST)
    world.like("alice", "2", uri("bob", POST, "2"), number=2)

    assert world.counts(post) == (1, 0, 0, 0)
    assert world.counts(uri("bob", POST, "2")) == (1, 0, 0, 0)


def test_a_windowed_scan_buries_nothing_and_certifies_nothing() -> None:
    world = World()
    world.track("alice")
    old = world.post("alice", "old", number=1)
    scan = world.begin("alice", 5, POST, REPOST)

    after = world.page(scan, [("new", 1, OK)], "more", windowed=True)
    assert after is not None
    assert after.collections == (2,)
    world.page(scan, [])
    certificate = world.finish(scan, POST, REPOST)

    assert certificate is None
    assert (world.repo("alice").state, world.repo("alice").cert_rev) == ("LIVE", None)
    assert old in world.items()
    assert world.all("SELECT collection, rev FROM floor") == [(2, rev(5))]


def test_a_certificate_tells_rev_method_digest_and_count() -> None:
    world = World()
    world.track("alice")

    certificate = world.scan("alice", 5, [[("1", 1, OK), ("2", 2, OK)], []], POST, REPOST)

    assert certificate is not None
    assert (certificate.rev, certificate.method, certificate.records) == (rev(5), "listing", 2)
    lines = "".join(f"{POST}/{n} {cid(n)}\n" for n in (1, 2)).encode()
    assert certificate.digest == sha256(lines).digest()
    repo = world.repo("alice")
    assert (repo.state, repo.cert_rev, repo.cert_us, repo.base_rev) == ("LIVE", rev(5), NOW_US, rev(5))


def test_our_own_takedown_changes_no_digest() -> None:
    world = World()
    world.live("alice")
    world.post("alice", "1")
    before = records.digest(world.tx, world.actor("alice"), [1])

    world.tx.run("UPDATE record SET takedown = 'ref'")

    assert records.digest(world.tx, world.actor("alice"), [1]) == before
    world.scan_anew("alice", 90, [[("1", 100, OK)]])
    assert world.all("SELECT state, takedown FROM record") == [(1, "ref")]


def test_a_cid_is_kept_as_given_though_the_json_hashes_to_another() -> None:
    world = World()
    world.track("alice")

    world.scan("alice", 5, [[("1", 123, {**OK, "ratio": 1.5})]])

    found = world.find(uri("alice", POST, "1"))
    assert found is not None
    assert found.cid == cid(123)


def test_pages_go_on_where_they_stopped() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 5, POST, REPOST)

    after = world.page(scan, [("1", 1, OK)], "cursor-1")

    assert after is not None
    assert (after.cursor, after.pages, after.rows, after.collections) == ("cursor-1", 1, 1, (1, 2))
    after = world.page(scan, [("2", 2, OK)])
    assert after is not None
    assert (after.cursor, after.pages, after.rows, after.collections) == (None, 2, 2, (2,))


def test_a_page_of_an_older_epoch_or_an_ended_scan_writes_nothing() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 5)
    assert repos.raise_epoch(world.tx, world.actor("alice"), 0, "the PDS went back", NOW_US)

    assert world.page(scan, [("1", 1, OK)]) is None
    with pytest.raises(NotFound):
        world.finish(scan)
    assert world.count("record") == 0


def test_a_new_epoch_beats_all_older_rows_and_hides_nothing_meanwhile() -> None:
    world = World()
    world.live("alice")
    lost = world.post("alice", "lost", number=80)
    kept = world.post("alice", "kept", number=81)
    assert repos.raise_epoch(world.tx, world.actor("alice"), 0, "the PDS went back", NOW_US)
    assert set(world.items()) == {lost, kept}

    world.scan("alice", 7, [[("kept", 5, OK)]])
    new = world.post("alice", "new", number=8)

    assert set(world.items()) == {kept, new}


def test_a_scan_at_the_same_rev_repairs_what_an_earlier_one_missed() -> None:
    world = World()
    world.track("alice")
    world.scan("alice", 5, [[("1", 1, OK)]])

    world.scan_anew("alice", 5, [[("1", 11, OK), ("2", 2, OK)]])

    assert len(world.items()) == 2
    found = world.find(uri("alice", POST, "1"))
    assert found is not None
    assert found.cid == cid(11)


def test_begin_needs_a_repository_that_is_being_scanned() -> None:
    world = World()
    world.track("alice")
    begin = {"host": "h", "method": "listing", "base_rev": rev(1), "collections": (1,), "now_us": NOW_US}

    assert snapshot.begin_scan(world.tx, world.actor("alice"), epoch=0, **begin) is None  # type: ignore[arg-type]


def test_resuming_a_scan_keeps_doubt_and_a_fresh_one_answers_it() -> None:
    world = World()
    world.track("alice")
    actor = world.actor("alice")
    scan = world.begin("alice", 5)
    repos.suspect(world.tx, actor, "a gap", NOW_US)
    assert repos.wait(world.tx, actor, 0, "rate", 1, NOW_US, NOW_US)
    assert repos.retry(world.tx, actor, 0, NOW_US)

    assert repos.start(world.tx, actor, 0, NOW_US)
    world.page(scan, [])
    assert world.finish(scan) is None
    assert world.repo("alice").state == "SUSPECT"

    assert repos.resync(world.tx, actor, 0, "gap", 0, NOW_US)
    world.scan("alice", 6, [[]])
    assert world.repo("alice").state == "LIVE"


class TestFetched:
    def test_fills_what_nobody_knows_and_is_replaced_by_the_next_look(self) -> None:
        world = World()
        world.track("alice")
        post = uri("bob", POST, "1")
        world.like("alice", "l", post)

        world.fetched(post, OK, 1)
        world.fetched(post, {**OK, "text": "edited"}, 2)

        found = world.find(post)
        assert found is not None
        assert (found.state, found.cid) == (1, cid(2))
        assert world.fetched(post, None) is Verdict.APPLIED
        assert world.state(post) == 2

    def test_never_undoes_what_the_stream_said(self) -> None:
        world = World()
        world.live("alice")
        world.post("alice", "1", number=1)
        world.delete(uri("alice", POST, "2"), number=2)

        assert world.fetched(uri("alice", POST, "1"), {**OK, "text": "stale"}) is Verdict.OLD
        assert world.fetched(uri("alice", POST, "2"), OK) is Verdict.OLD
        assert world.fetched(uri("alice", POST, "1"), None) is Verdict.OLD

    def test_yields_to_any_event(self) -> None:
        world = World()
        world.track("alice")
        post = uri("alice", POST, "1")
        world.fetched(post, OK)

        world.delete(post, number=1)

        assert world.state(post) == 2

    def test_yields_to_a_scan(self) -> None:
        world = World()
        world.track("alice")
        world.fetched(
            uri("alice", LIKE, "1"), {"subject": {"uri": uri("b", POST, "1")}, "createdAt": CREATED}
        )
        world.fetched(uri("alice", POST, "1"), OK)

        world.scan("alice", 1, [[("1", 44, OK)], []], POST, LIKE)

        found = world.find(uri("alice", POST, "1"))
        assert found is not None
        assert found.cid == cid(44)
        assert world.state(uri("alice", LIKE, "1")) == 2


def test_late_rows_have_higher_arrival_than_what_was_read() -> None:
    world = World()
    world.live("alice")
    world.post("alice", "new", {"createdAt": "2025-12-31T20:00:00Z"}, number=50)
    top = world.all("SELECT max(arrival) FROM item")[0][0]

    world.scan_anew("alice", 60, [[("new", 5000, OK), ("old", 2, {"createdAt": "2019-01-01T00:00:00Z"})]])

    late = world.all("SELECT r.rkey FROM item JOIN record r USING (id) WHERE item.arrival > ?", top)
    assert late == [("old",)]


def test_what_we_took_down_is_neither_missing_nor_brought_back_by_a_scan() -> None:
    """98. Hidden here and present there is no difference: takedowns stand beside the rows."""
    world = World()
    world.live("alice")
    world.post("alice", "1", number=1)
    world.post("alice", "2", number=2)
    world.tx.run("UPDATE record SET takedown = 'ref' WHERE rkey = '1'")
    rows: list[Row] = [("1", 100, OK), ("2", 200, OK)]

    certificate = world.scan_anew("alice", 5, [rows])

    assert certificate is not None
    assert certificate.records == 2
    assert world.all("SELECT rkey, state, takedown FROM record ORDER BY rkey") == [
        ("1", 1, "ref"),
        ("2", 1, None),
    ]
    again = world.scan_anew("alice", 6, [rows])
    assert again is not None
    assert again.digest == certificate.digest
