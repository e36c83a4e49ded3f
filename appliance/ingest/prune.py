"""Removing what nobody needs: repositories that nobody follows, tombstones that guard nothing."""

from __future__ import annotations

from typing import Final

from appliance.ingest import index
from appliance.store import posts, pruning, records, repos
from appliance.store.collections import POST
from appliance.store.database import Transaction

# Longer than any upstream replays, https://github.com/bluesky-social/jetstream: 36 hours.
TOMBSTONE_AGE_US: Final = 7 * 86_400_000_000


def prune_batch(tx: Transaction, actor: int, rows_max: int, now_us: int) -> bool:
    """Remove some rows of an account that is PRUNING; True when it is done and forgotten.

    Somebody may want the account again between two batches: then nothing is found to remove.
    """
    prunable = pruning.find_prunable(tx, actor, rows_max)
    for record, collection, state in prunable:
        if state == records.LIVING:
            index.vanish(tx, record, collection, now_us, forgotten=True)
        gone = pruning.forget_record(tx, record)
        if not gone and state == records.DELETED and collection == POST:
            # A mention says nothing about being deleted.
            posts.show_reposts(tx, record)
    if len(prunable) < rows_max:
        pruning.forget_idle_mentions(tx, actor)
    return repos.forget(tx, actor)


def collect_tombstones(tx: Transaction, now_us: int, rows_max: int) -> int:
    """Drop tombstones that no source can contradict any more; how many."""
    spent = pruning.spent_tombstones(tx, now_us - TOMBSTONE_AGE_US, rows_max)
    for record in spent:
        pruning.forget_record(tx, record)
    return len(spent)
