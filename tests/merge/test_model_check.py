"""The merge rule under random schedules, on the store's own code; and the mistakes that it must notice.

Right schedules end with rows equal to the repository, each index row and counter included. Each wrong
variant is a mistake that a real system made; if one passed, the check would be blind.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from appliance.ingest import merge
from appliance.store import records, repos
from appliance.store.database import Transaction
from tests.merge import checker, test_lives
from tests.merge.checker import Case, wrong
from tests.merge.schedules import How, Live

RIGHT = {
    "newest page first": (How(), False),
    "oldest page first": (How(ascending=True), False),
    "exact snapshot": (How(exact=True), False),
    "losses delivered again": (How(loss=0.2), False),
    "three overlapping scans": (How(scans=3), False),
    "a gap, and a scan after it": (How(scans=2, gap=True, loss=0.1), False),
    "three scans, losses, tombstones collected": (How(scans=3, loss=0.2), True),
}
EACH = 8_250
WRONG_EACH = 2_000


def run(seeds: Iterable[int], name: str) -> tuple[int, int]:
    how, collects = RIGHT[name]
    return wrong(seeds, how, collect=checker.collect_by_rule if collects else None)


@pytest.mark.invariant("newest-wins")
@pytest.mark.invariant("deleted-stays-deleted")
@pytest.mark.invariant("replay-is-harmless")
@pytest.mark.parametrize("name", RIGHT)
def test_whatever_order_facts_arrive_in_the_rows_equal_the_repository(name: str) -> None:
    schedules, bad = run(range(EACH), name)
    print(f"{name}: {bad} wrong of {schedules}")
    assert (schedules, bad) == (EACH, 0)


def test_the_check_runs_sixty_thousand_right_schedules() -> None:
    assert len(RIGHT) * EACH + len(test_lives.FAMILIES) * test_lives.EACH >= 60_000


@pytest.mark.long
@pytest.mark.parametrize("name", RIGHT)
def test_a_million_schedules_end_with_rows_that_equal_the_repository(name: str) -> None:
    each = 1_000_000 // len(RIGHT) + 1
    schedules, bad = run(range(1_000_000, 1_000_000 + each), name)
    print(f"{name}: {bad} wrong of {schedules}")
    assert (schedules, bad) == (each, 0)


def caught(how: How, **kwargs: Any) -> None:
    schedules, bad = wrong(range(WRONG_EACH), how, check_index=False, **kwargs)
    print(f"{bad} wrong of {schedules}")
    assert schedules == WRONG_EACH
    assert bad > 5, "the check doesn't see this mistake"


def test_rows_versioned_at_the_rev_read_after_the_scan_are_noticed() -> None:
    caught(How(base_read="after"))


def test_coverage_that_begins_after_the_base_rev_was_read_is_noticed() -> None:
    caught(How(late_coverage=True))


def test_deletes_without_tombstones_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    remove = merge._remove

    def forget(tx: Transaction, fact: merge.Fact, *rest: Any) -> None:
        remove(tx, fact, *rest)
        tx.run("DELETE FROM record WHERE state = 2 AND actor = ?", (fact.actor,))

    monkeypatch.setattr(merge, "_remove", forget)
    caught(How())


def test_tombstones_collected_at_once_are_noticed() -> None:
    def collect(tx: Transaction) -> None:
        tx.run("DELETE FROM record WHERE state = 2")

    caught(How(), collect=collect)


def test_a_filter_by_the_newest_rev_seen_is_noticed() -> None:
    newest: dict[str, int] = {}

    def behind(case: Case, live: Live) -> bool:
        head = newest.get(case.did, -1)
        newest[case.did] = max(head, live.rev)
        return live.rev < head

    caught(How(loss=0.2), withhold=behind)


def test_a_finish_that_forgets_what_the_scan_saw_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = records.unseen

    def all_older(
        tx: Transaction, actor: int, collection: int, version: records.Version, _scan: int
    ) -> list[tuple[int, int, str, str | None]]:
        return unseen(tx, actor, collection, version, 2**40)

    monkeypatch.setattr(records, "unseen", all_older)
    caught(How())


def test_a_finish_that_buries_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "unseen", lambda *_: [])
    caught(How(scans=2, gap=True))


def test_snapshot_rows_that_beat_newer_operations_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    put = merge.put

    def newest_page_wins(tx: Transaction, fact: merge.Fact, rules: merge.Rules) -> merge.Verdict:
        if fact.scan is not None:
            fact.rev = checker.REVS[-1]
        return put(tx, fact, rules)

    monkeypatch.setattr(merge, "put", newest_page_wins)
    caught(How())


def test_a_place_in_the_commit_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    put = merge.put

    def without_n(tx: Transaction, fact: merge.Fact, rules: merge.Rules) -> merge.Verdict:
        if fact.scan is None:
            fact.n = 0
        verdict = put(tx, fact, rules)
        return merge.Verdict.OLD if verdict is merge.Verdict.CONFLICT else verdict

    monkeypatch.setattr(merge, "put", without_n)
    caught(How())


def test_references_that_are_never_given_back_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repos, "unwant", lambda *_: None)
    with pytest.raises(AssertionError):
        wrong(range(400), How())
