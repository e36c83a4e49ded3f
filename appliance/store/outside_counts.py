"""Numbers of everybody's likes, reposts, answers, quotes and followers, as an index outside counts them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.batches import text_batches
from appliance.store.database import Reader, Transaction


class OutsideCounts(NamedTuple):
    """Of one post or account; what makes no sense of it is 0."""

    likes: int
    reposts: int
    replies: int
    quotes: int
    followers: int
    asked_us: int


def find(reader: Reader, targets: Collection[str]) -> dict[str, OutsideCounts]:
    """By address or DID; what was never asked for is not in it."""
    found: dict[str, OutsideCounts] = {}
    for marks, part in text_batches(targets):
        rows = reader.all(
            "SELECT target, likes, reposts, replies, quotes, followers, asked_us FROM outside_count"
            f" WHERE target IN ({marks})",
            part,
        )
        found.update((row[0], OutsideCounts(*row[1:])) for row in rows)
    return found


def put(tx: Transaction, target: str, counts: OutsideCounts) -> None:
    """The latest answer about it."""
    tx.run(
        "INSERT OR REPLACE INTO outside_count"
        " (target, likes, reposts, replies, quotes, followers, asked_us) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (target, *counts),
    )


def forget(tx: Transaction, before_us: int, rows_max: int) -> int:
    """What was asked for before then, the oldest first; how many went."""
    return tx.run(
        "DELETE FROM outside_count WHERE target IN"
        " (SELECT target FROM outside_count WHERE asked_us < ? ORDER BY asked_us LIMIT ?)",
        (before_us, rows_max),
    )
