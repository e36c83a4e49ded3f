"""Every function of the store that changes what is said of an account, interleaved with all the others; and
the mistakes that this must notice.

Right lives are never called complete while they are not, and come to rest as the world is. Each wrong
variant is a mistake in one family of functions; if one passed, the check would be blind.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from appliance.backfill import job, verdicts
from appliance.ingest import prune
from appliance.store import backlog, coverage, findings, pruning, records, repos
from appliance.store.database import Reader, Transaction
from tests.merge.lives import How, wrong

QUIET = {"loses": False, "accounts": False, "goes_back": False, "leaves": False}

FAMILIES = {
    "doubt and comparison": How(accounts=False, goes_back=False, leaves=False),
    "accounts that come and go": How(loses=False, goes_back=False, leaves=False),
    "epochs": How(loses=False, accounts=False, leaves=False),
    "followed and left": How(loses=False, accounts=False, goes_back=False),
    "everything": How(),
    "everything, of lists": How(lists=True),
}
EACH = 400
WRONG_AT_ONCE = 60
WRONG_AT_MOST = 600


@pytest.mark.invariant("no-more-than-proved")
@pytest.mark.invariant("covered-is-carried")
@pytest.mark.parametrize("name", FAMILIES)
def test_47_48_nobody_is_called_complete_who_is_not_whatever_happens_in_between(name: str) -> None:
    lives, bad = wrong(range(EACH), FAMILIES[name])
    print(f"{name}: {bad} wrong of {lives}")
    assert (lives, bad) == (EACH, 0)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_a_hundred_thousand_lives_come_to_rest_as_the_world_is(name: str) -> None:
    each = 100_000 // len(FAMILIES) + 1
    lives, bad = wrong(range(1_000_000, 1_000_000 + each), FAMILIES[name])
    print(f"{name}: {bad} wrong of {lives}")
    assert (lives, bad) == (each, 0)


def caught(how: How) -> None:
    """Told by a life of which something untrue was said, or by the guard of the database."""
    for first in range(0, WRONG_AT_MOST, WRONG_AT_ONCE):
        try:
            _, bad = wrong(range(first, first + WRONG_AT_ONCE), how)
        except (AssertionError, sqlite3.IntegrityError) as error:
            print(f"stopped: {error}")
            return
        if bad:
            return
    pytest.fail("the check doesn't see this mistake")


def without(text: str, *, instead: str) -> Any:
    """``Transaction.run`` in which this part of one statement is another."""
    run = Transaction.run

    def changed(self: Transaction, sql: str, params: Any = ()) -> int:
        return run(self, sql.replace(text, instead), params)

    return changed


# -------------------------------------------------------------------- doubt and comparison


def test_a_doubt_that_comes_up_during_a_scan_and_is_forgotten_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repos, "_doubt_more", lambda *_: None)
    caught(FAMILIES["doubt and comparison"])


def test_a_comparison_that_lifts_a_newer_doubt_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Transaction, "run", without(" AND state = ? AND doubt = ''", instead=" AND state = ?")
    )
    caught(FAMILIES["doubt and comparison"])


def test_a_certificate_renewed_by_the_newest_rev_seen_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = " AND cert_rev = ? AND cert_digest IS NOT NULL AND max(seen_rev, base_rev) <= cert_rev"
    monkeypatch.setattr(Transaction, "run", without(known, instead=" AND max(seen_rev, base_rev) <= ?"))
    caught(FAMILIES["doubt and comparison"])


def test_a_digest_of_an_account_that_wrote_meanwhile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "forget_digest", lambda *_: None)
    caught(How(**QUIET))


def test_a_digest_given_without_comparing_it_with_ours_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def certificate(_reader: Reader, _due: object, _repo: object, found: verdicts.Compared) -> object:
        return repos.Certificate(found.theirs.ended, "listing", *found.theirs.digest())

    monkeypatch.setattr(verdicts, "certificate", certificate)
    caught(FAMILIES["doubt and comparison"])


def test_a_gap_that_casts_no_doubt_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repos, "_suspect", lambda *_: 0)
    caught(FAMILIES["doubt and comparison"])


def test_a_finding_that_outlives_its_repair_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = findings.settle
    monkeypatch.setattr(
        findings, "settle", lambda tx, actor, now_us, **_: settle(tx, actor, now_us, whole=False)
    )
    caught(FAMILIES["epochs"])


# -------------------------------------------------------------------- scans


def test_any_old_scan_that_goes_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_resumable", lambda *_: True)
    monkeypatch.setattr(Transaction, "run", without("DELETE FROM scan WHERE actor = ?", instead="SELECT ?"))
    caught(FAMILIES["everything"])


# -------------------------------------------------------------------- epochs, accounts


def test_a_rollback_that_begins_no_new_epoch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transaction, "run", without("reason = ?, epoch = epoch + 1,", instead="reason = ?,"))
    caught(FAMILIES["epochs"])


def test_an_account_begun_anew_in_its_old_epoch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Transaction,
        "run",
        without("UPDATE repo SET epoch = epoch + 1, base_rev = ''", instead="UPDATE repo SET base_rev = ''"),
    )
    caught(FAMILIES["accounts that come and go"])


def test_an_account_that_wakes_up_complete_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Transaction,
        "run",
        without(
            "SET state = 'QUEUED', reason = 'active again', since_us = ?2",
            instead="SET state = 'LIVE', reason = 'active again', since_us = ?2",
        ),
    )
    caught(FAMILIES["accounts that come and go"])


def test_a_scan_that_survives_its_account_s_sleep_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    deactivate = repos.deactivate

    def asleep(tx: Transaction, actor: int, reason: str, now_us: int) -> bool:
        found = repos.find(tx, actor)
        return found is not None and found.state != "SCANNING" and deactivate(tx, actor, reason, now_us)

    monkeypatch.setattr(repos, "deactivate", asleep)
    caught(FAMILIES["accounts that come and go"])


# -------------------------------------------------------------------- followed and left


def test_an_account_wanted_again_in_its_old_epoch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tombstones may be gone, and its certificate with rows that are gone as well."""
    want = repos.want

    def resumed(tx: Transaction, actor: int, now_us: int, **more: Any) -> bool:
        tx.run("UPDATE repo SET state = 'LIVE', refs = 0 WHERE actor = ? AND state = 'PRUNING'", (actor,))
        return want(tx, actor, now_us, **more)

    monkeypatch.setattr(repos, "want", resumed)
    caught(FAMILIES["followed and left"])


def test_pruning_whom_somebody_follows_again_is_noticed_47_48(monkeypatch: pytest.MonkeyPatch) -> None:
    def prunable(tx: Transaction, actor: int, rows_max: int) -> list[tuple[int, int, int]]:
        return tx.all("SELECT id, collection, state FROM record WHERE actor = ? LIMIT ?", (actor, rows_max))

    monkeypatch.setattr(pruning, "find_prunable", prunable)
    monkeypatch.setattr(
        repos,
        "find_unwanted",
        lambda reader, _before_us, rows_max: [
            row[0] for row in reader.all("SELECT actor FROM repo ORDER BY random() LIMIT ?", (rows_max,))
        ],
    )
    caught(FAMILIES["followed and left"])


def test_references_that_are_not_given_back_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repos, "unwant", lambda *_: None)
    caught(FAMILIES["followed and left"])


def test_a_pruning_that_never_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repos, "forget", lambda *_: False)
    caught(FAMILIES["followed and left"])


def test_tombstones_dropped_before_their_time_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(tx: Transaction, _now_us: int, _rows_max: int) -> int:
        return tx.run(
            "DELETE FROM record WHERE state = ? AND NOT EXISTS (SELECT 1 FROM finding WHERE false)",
            (records.DELETED,),
        )

    monkeypatch.setattr(prune, "collect_tombstones", collect)
    caught(How(**QUIET))


# -------------------------------------------------------------------- coverage


def test_covered_by_a_list_as_soon_as_it_is_wanted_is_noticed_41(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "mode", lambda _reader: "FULL")
    caught(FAMILIES["everything, of lists"])


def test_a_proof_for_more_than_were_asked_for_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    prove = coverage.prove
    monkeypatch.setattr(coverage, "prove", lambda tx, from_us, _dids: prove(tx, from_us, None))
    caught(FAMILIES["everything, of lists"])


def test_who_left_and_came_back_as_covered_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Transaction, "run", without("doubt_us = NULL, cover_us = ?4,", instead="cover_us = coalesce(?4, ?2),")
    )
    caught(FAMILIES["everything, of lists"])


def test_a_change_to_lists_that_leaves_somebody_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = coverage.wanted
    monkeypatch.setattr(coverage, "wanted", lambda reader: dict.fromkeys(list(wanted(reader))[::2], False))
    caught(FAMILIES["everything, of lists"])


def test_a_scan_of_an_account_that_nothing_carries_yet_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_DUE", backlog._DUE.replace("AND r.cover_us IS NOT NULL", ""))
    caught(FAMILIES["everything, of lists"])
