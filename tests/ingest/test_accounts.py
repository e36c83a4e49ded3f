"""Events about whole accounts: hidden is not gone, and a false word destroys nothing."""

import pytest

from appliance.ingest import accounts
from appliance.protocol.events import AccountEvent, IdentityEvent, SyncEvent
from appliance.store import actors, repos
from tests.ingest.world import CREATED, NOW_US, POST, World, batch, did, rev, uri


def status(world: World, who: str, status: str | None, seq: int, *, active: bool | None = None) -> None:
    world.apply(AccountEvent(did(who), status is None if active is None else active, status, NOW_US, seq))


def shown(world: World, who: str) -> str | None:
    found: str | None = world.tx.value("SELECT status FROM actor WHERE did = ?", (did(who),))
    return found


@pytest.mark.defect("D17")
@pytest.mark.parametrize("word", ["deactivated", "suspended", "takendown", "deleted", "a word of the future"])
def test_an_inactive_account_is_hidden_and_keeps_its_rows(word: str) -> None:
    world = World()
    world.live("alice")
    post = world.post("alice", "1")

    status(world, "alice", word, 1)

    assert shown(world, "alice") == word
    assert (world.repo("alice").state, world.repo("alice").reason) == ("INACTIVE", word)
    assert world.state(post) == 1
    assert world.items() == [post]


def test_an_account_that_comes_back_is_shown_and_read_again() -> None:
    world = World()
    world.live("alice")
    status(world, "alice", "deactivated", 1)

    status(world, "alice", None, 2)

    assert shown(world, "alice") is None
    assert world.repo("alice").state == "QUEUED"


def test_posts_of_the_time_between_are_found_after_the_return() -> None:
    world = World()
    world.live("alice")
    world.post("alice", "1", number=1)
    status(world, "alice", "deactivated", 1)
    status(world, "alice", None, 2)

    world.scan("alice", 5, [[("1", 100, OK), ("2", 200, OK)]])

    assert world.repo("alice").state == "LIVE"
    assert len(world.items()) == 2


OK = {"text": "", "createdAt": CREATED}


def test_a_stale_account_event_that_is_replayed_changes_nothing() -> None:
    world = World()
    world.live("alice")
    status(world, "alice", "deleted", 10)
    status(world, "alice", None, 11)

    status(world, "alice", "deleted", 10)

    assert shown(world, "alice") is None
    assert world.repo("alice").state == "QUEUED"


def test_numbers_of_another_upstream_are_not_compared() -> None:
    world = World()
    world.live("alice")
    status(world, "alice", None, 1_000_000)

    event = AccountEvent(did("alice"), False, "deactivated", NOW_US, 5)
    other = batch([event])
    world.applier.apply_batch(
        world.tx, type(other)("relay wss://other", "relay", 5, NOW_US, [event]), now_us=NOW_US
    )

    assert shown(world, "alice") == "deactivated"


def test_what_the_pds_says_wins_and_older_upstream_words_stay_old() -> None:
    world = World()
    world.live("alice")
    status(world, "alice", "takendown", 10)

    accounts.status_found(world.tx, world.actor("alice"), None, NOW_US)
    assert (shown(world, "alice"), world.repo("alice").state) == (None, "QUEUED")
    status(world, "alice", "takendown", 9)

    assert shown(world, "alice") is None


def test_a_false_deletion_destroys_nothing_and_ends_when_the_pds_still_has_the_account() -> None:
    world = World()
    world.live("alice")
    post = world.post("alice", "1", number=3)

    status(world, "alice", "deleted", 10)
    accounts.status_found(world.tx, world.actor("alice"), None, NOW_US)
    world.scan("alice", 3, [[("1", 300, OK)]])

    assert world.items() == [post]
    assert world.repo("alice").state == "LIVE"


def test_a_confirmed_deletion_and_a_new_account_of_that_name_begin_a_new_epoch() -> None:
    world = World()
    world.live("alice")
    world.post("alice", "old", number=50)
    status(world, "alice", "deleted", 10)
    assert repos.bury(world.tx, world.actor("alice"), 0, NOW_US)
    assert world.repo("alice").state == "GONE"

    status(world, "alice", None, 11)
    assert (world.repo("alice").state, world.repo("alice").epoch) == ("QUEUED", 1)
    new = world.post("alice", "new", number=4)
    world.scan("alice", 3, [[]])

    assert world.items() == [new]
    assert world.state(uri("alice", POST, "old")) == 2


def test_a_second_active_event_of_a_live_account_is_no_news() -> None:
    world = World()
    world.live("alice")

    status(world, "alice", None, 5)

    assert world.repo("alice").state == "LIVE"


@pytest.mark.parametrize("word", ["desynchronized", "throttled"])
def test_the_relay_s_own_trouble_hides_nobody_and_raises_doubt(word: str) -> None:
    world = World()
    world.live("alice")

    status(world, "alice", word, 5, active=False)

    assert shown(world, "alice") is None
    assert world.repo("alice").state == "SUSPECT"


def test_inactive_without_a_word_is_deactivated() -> None:
    world = World()
    world.live("alice")

    status(world, "alice", None, 5, active=False)

    assert shown(world, "alice") == "deactivated"


def test_commits_of_a_hidden_account_are_kept() -> None:
    world = World()
    world.live("alice")
    status(world, "alice", "deactivated", 1)

    post = world.post("alice", "1")

    assert world.state(post) == 1
    assert world.repo("alice").state == "INACTIVE"


def test_a_running_scan_of_an_account_that_goes_inactive_is_void() -> None:
    world = World()
    world.track("alice")
    scan = world.begin("alice", 1)

    status(world, "alice", "deactivated", 1)

    assert world.scan_of("alice") is None
    assert world.page(scan, [("1", 1, OK)]) is None
    assert world.items() == []


def test_strangers_known_here_are_hidden_too_and_others_leave_no_row() -> None:
    world = World()
    world.track("alice")
    world.repost("alice", "r", uri("bob", POST, "1"))

    status(world, "bob", "takendown", 1)
    status(world, "nobody", "takendown", 2)

    assert shown(world, "bob") == "takendown"
    assert actors.find_id(world.tx, did("nobody")) is None


def test_an_identity_event_makes_the_identity_due_and_its_handle_is_not_believed() -> None:
    world = World()
    world.live("alice")
    world.tx.run("UPDATE actor SET handle = 'alice.test', resolved_us = 5")

    world.apply(IdentityEvent(did("alice"), "mallory.test", NOW_US, 1))

    assert world.all("SELECT handle, resolved_us FROM actor") == [("alice.test", None)]
    assert world.repo("alice").state == "LIVE"


def test_a_sync_event_raises_doubt_and_clears_nothing() -> None:
    world = World()
    world.live("alice")
    post = world.post("alice", "1")

    tally = world.apply(SyncEvent(did("alice"), rev(900), NOW_US), SyncEvent(did("nobody"), rev(900), NOW_US))

    assert tally.suspected == 1
    assert world.repo("alice").state == "SUSPECT"
    assert world.items() == [post]
