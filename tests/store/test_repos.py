"""The state machine of repositories: each transition leaves and reaches what the table allows."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.store import actors, repos, scans
from appliance.store.database import Transaction
from appliance.store.migrations import schema_text

NOW_US = 1_767_225_600_000_000
CERTIFICATE = repos.Certificate("3aaaaaaaaaaaa", "listing", b"digest", 3)


@pytest.fixture
def tx() -> Iterator[Transaction]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(schema_text())
    yield Transaction(connection)
    connection.close()


def in_state(tx: Transaction, state: str, *, refs: int = 1, doubt: str = "") -> int:
    actor = actors.ensure(tx, f"did:plc:{state.lower()}")
    if state != "UNKNOWN":
        tx.run(
            "INSERT INTO repo (actor, state, since_us, refs, unwanted_us, doubt, epoch, cert_rev,"
            " cert_digest) VALUES (?, ?, 1, ?, ?, ?, 3, ?, ?)",
            (actor, state, refs, None if refs else 1, doubt, CERTIFICATE.rev, CERTIFICATE.digest),
        )
    return actor


def state_of(tx: Transaction, actor: int) -> str:
    repo = repos.find(tx, actor)
    return "UNKNOWN" if repo is None else repo.state


def began(tx: Transaction, actor: int) -> repos.State:
    """The state in which an audit of it begins."""
    return "SUSPECT" if state_of(tx, actor) == "SUSPECT" else "LIVE"


# Each with the epoch that it is told; those without are told by an event that knows none.
TRANSITIONS: dict[str, Callable[[Transaction, int, int], Any]] = {
    "want": lambda tx, actor, _: repos.want(tx, actor, NOW_US),
    "start": lambda tx, actor, epoch: repos.start(tx, actor, epoch, NOW_US),
    "finalise": lambda tx, actor, epoch: repos.finalise(tx, actor, epoch, "3b", CERTIFICATE, NOW_US),
    "wait": lambda tx, actor, epoch: repos.wait(tx, actor, epoch, "rate", 1, NOW_US, NOW_US),
    "retry": lambda tx, actor, epoch: repos.retry(tx, actor, epoch, NOW_US),
    "restart": lambda tx, actor, epoch: repos.restart(tx, actor, epoch, "moved", NOW_US),
    "suspect": lambda tx, actor, _: repos.suspect(tx, actor, "doubt", NOW_US),
    "confirm": lambda tx, actor, epoch: repos.confirm(
        tx, actor, epoch, began(tx, actor), CERTIFICATE, NOW_US
    ),
    "confirm_rev": lambda tx, actor, epoch: repos.confirm_rev(
        tx, actor, epoch, began(tx, actor), CERTIFICATE.rev, NOW_US
    ),
    "resync": lambda tx, actor, epoch: repos.resync(tx, actor, epoch, "differs", 0, NOW_US),
    "raise_epoch": lambda tx, actor, epoch: repos.raise_epoch(tx, actor, epoch, "back", NOW_US),
    "deactivate": lambda tx, actor, _: repos.deactivate(tx, actor, "deactivated", NOW_US),
    "reactivate": lambda tx, actor, _: repos.reactivate(tx, actor, NOW_US),
    "bury": lambda tx, actor, epoch: repos.bury(tx, actor, epoch, NOW_US),
    "prune": lambda tx, actor, _: repos.prune(tx, actor, NOW_US, NOW_US),
    "forget": lambda tx, actor, _: repos.forget(tx, actor),
}
WITH_EPOCH = {
    "start",
    "finalise",
    "wait",
    "retry",
    "restart",
    "confirm",
    "confirm_rev",
    "resync",
    "raise_epoch",
    "bury",
}


def test_the_table_names_every_transition() -> None:
    assert set(TRANSITIONS) == set(repos.ALLOWED)
    reached = set().union(*(after for _, after in repos.ALLOWED.values()))
    assert reached == {*repos.STATES, "UNKNOWN"}


@pytest.mark.parametrize("state", ["UNKNOWN", *repos.STATES])
@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_leaves_and_reaches_what_the_table_allows(
    tx: Transaction, name: str, state: str
) -> None:
    before, after = repos.ALLOWED[name]
    actor = in_state(tx, state, refs=0 if name in ("prune", "forget") else 1)

    happened = TRANSITIONS[name](tx, actor, 3)

    assert happened is (state in before)
    assert state_of(tx, actor) in (after if state in before else {state})


@pytest.mark.parametrize("name", sorted(WITH_EPOCH))
def test_a_transition_told_of_another_epoch_does_not_happen(tx: Transaction, name: str) -> None:
    for state in repos.ALLOWED[name][0]:
        actor = in_state(tx, state)
        assert TRANSITIONS[name](tx, actor, 2) is False
        assert state_of(tx, actor) == state


def test_a_scan_that_met_doubt_ends_in_doubt_and_without_certificate(tx: Transaction) -> None:
    actor = in_state(tx, "SCANNING", doubt="a gap")

    assert repos.finalise(tx, actor, 3, "3b", CERTIFICATE, NOW_US)

    repo = repos.find(tx, actor)
    assert repo is not None
    assert (repo.state, repo.reason, repo.doubt, repo.cert_us) == ("SUSPECT", "a gap", "", None)


@pytest.mark.parametrize("state", ["QUEUED", "SCANNING", "WAIT"])
def test_doubt_before_live_is_remembered(tx: Transaction, state: str) -> None:
    actor = in_state(tx, state)

    assert repos.suspect_all(tx, "a gap", NOW_US) == 0

    repo = repos.find(tx, actor)
    assert repo is not None
    assert (repo.state, repo.doubt) == (state, "a gap")


def test_a_disturbance_doubts_everybody_live(tx: Transaction) -> None:
    actors_ = [in_state(tx, state) for state in repos.STATES]

    assert repos.suspect_all(tx, "a gap", NOW_US) == 1

    assert [state_of(tx, actor) for actor in actors_].count("LIVE") == 0


def test_a_certificate_at_the_rev_that_still_stands_is_renewed(tx: Transaction) -> None:
    actor = in_state(tx, "SCANNING")
    repos.finalise(tx, actor, 3, "3aaaaaaaaaaaa", CERTIFICATE, NOW_US)
    repos.suspect(tx, actor, "a gap", NOW_US)

    assert not repos.confirm_rev(tx, actor, 3, "SUSPECT", "3aaaaaaaaaaab", NOW_US + 1)
    assert not repos.confirm_rev(tx, actor, 3, "LIVE", "3aaaaaaaaaaaa", NOW_US + 1)
    assert repos.confirm_rev(tx, actor, 3, "SUSPECT", "3aaaaaaaaaaaa", NOW_US + 1)

    repo = repos.find(tx, actor)
    assert repo is not None
    assert (repo.state, repo.cert_us, repo.cert_rev) == ("LIVE", NOW_US + 1, CERTIFICATE.rev)


def test_whoever_waits_is_due_by_urgency_then_age(tx: Transaction) -> None:
    first, second, third = (actors.ensure(tx, f"did:plc:{name}") for name in "abc")
    repos.want(tx, first, NOW_US)
    repos.want(tx, second, NOW_US + 5)
    repos.want(tx, third, NOW_US + 9, priority=10)

    assert [repo.actor for repo in repos.find_due(tx, NOW_US + 10, 10)] == [third, first, second]
    assert [repo.actor for repo in repos.find_due(tx, NOW_US + 6, 10)] == [first, second]
    assert repos.next_due_us(tx) == NOW_US


def test_deactivated_and_deactivated_again_is_one_thing(tx: Transaction) -> None:
    actor = in_state(tx, "LIVE")
    assert repos.deactivate(tx, actor, "deactivated", NOW_US)

    assert not repos.deactivate(tx, actor, "deactivated", NOW_US + 5)
    assert repos.deactivate(tx, actor, "takendown", NOW_US + 5)

    repo = repos.find(tx, actor)
    assert repo is not None
    assert (repo.reason, repo.since_us) == ("takendown", NOW_US)


def test_a_new_scan_takes_the_place_of_the_old_one(tx: Transaction) -> None:
    actor = in_state(tx, "SCANNING")
    old = scans.begin(tx, actor, 3, "https://a.test", "listing", "3a", (1, 2), NOW_US)

    new = scans.begin(tx, actor, 3, "https://b.test", "signed", "3b", (1,), NOW_US)

    assert new > old
    assert scans.find(tx, old) is None
    assert scans.find_of(tx, actor) == scans.find(tx, new)
    assert not scans.move(tx, old, (1,), None, 1, partial=False)
    scans.end(tx, new)
    assert scans.begin(tx, actor, 3, "https://b.test", "signed", "3b", (1,), NOW_US) > new


def test_a_floor_never_sinks(tx: Transaction) -> None:
    actor = in_state(tx, "LIVE")
    for epoch, rev in [(0, "3b"), (0, "3a"), (1, "3a"), (0, "3c")]:
        scans.raise_floor(tx, actor, 1, epoch, rev)

    assert tx.all("SELECT epoch, rev FROM floor") == [(1, "3a")]
