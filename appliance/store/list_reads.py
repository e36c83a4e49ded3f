"""Lists and whom they concern: what a viewer mutes and blocks by list, and who blocks whom so.

Whether a list counts at all (it lives, is of the moderating kind, its owner is active) is not asked
here: that is what its own row and its owner's say.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.store.batches import batches, pair_batches
from appliance.store.database import Reader

LIST_BLOCK = 5
LIST_ITEM = 6


def muted_lists(reader: Reader, viewer: int) -> set[int]:
    """The lists that a viewer mutes."""
    return {row[0] for row in reader.all("SELECT list FROM list_mute WHERE viewer = ?", (viewer,))}


def blocked_lists(reader: Reader, viewer: int) -> dict[int, str]:
    """The lists that a viewer blocks, with the record keys of those blocks."""
    return dict(
        reader.all(
            "SELECT l.subject, r.rkey FROM link l INDEXED BY link_by_actor CROSS JOIN record r ON r.id = l.id"
            f" WHERE l.kind = {LIST_BLOCK} AND l.actor = ? AND l.waiting = 0",
            (viewer,),
        )
    )


def holding(reader: Reader, person: int) -> list[int]:
    """The lists that have this person on them and are blocked by somebody."""
    return [
        row[0]
        for row in reader.all(
            f"SELECT i.actor FROM link i INDEXED BY link_by_subject WHERE i.kind = {LIST_ITEM}"
            " AND i.subject = ? AND i.waiting = 0 AND EXISTS (SELECT 1 FROM link b INDEXED BY link_by_subject"
            f"  WHERE b.kind = {LIST_BLOCK} AND b.subject = i.actor AND b.waiting = 0)",
            (person,),
        )
    ]


def members_among(reader: Reader, lists: Collection[int], people: Collection[int]) -> list[tuple[int, int]]:
    """(list, person) of these people who are on these lists."""
    found: list[tuple[int, int]] = []
    for each in lists:
        for marks, part in batches(people):
            found.extend(
                reader.all(
                    "SELECT actor, subject FROM link INDEXED BY link_pair"
                    f" WHERE kind = {LIST_ITEM} AND actor = ? AND subject IN ({marks}) AND waiting = 0",
                    [each, *part],
                )
            )
    return found


def blockers_among(reader: Reader, lists: Collection[int], people: Collection[int]) -> list[tuple[int, int]]:
    """(person, list) of these people who block these lists."""
    found: list[tuple[int, int]] = []
    for each in lists:
        for marks, part in batches(people):
            found.extend(
                reader.all(
                    "SELECT actor, subject FROM link INDEXED BY link_pair"
                    f" WHERE kind = {LIST_BLOCK} AND actor IN ({marks}) AND subject = ? AND waiting = 0",
                    [*part, each],
                )
            )
    return found


def any_blocks(reader: Reader) -> bool:
    """Whether anybody blocks any list."""
    return reader.value(f"SELECT 1 FROM link WHERE kind = {LIST_BLOCK} AND waiting = 0 LIMIT 1") is not None


def blocking_pairs(reader: Reader, pairs: Collection[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(blocker, blocked, list) among these pairs."""
    found: list[tuple[int, int, int]] = []
    for marks, part in pair_batches(pairs):
        found.extend(
            reader.all(
                f"WITH pair (a, b) AS (VALUES {marks}) SELECT pair.a, pair.b, l.subject FROM pair"
                " CROSS JOIN link AS l INDEXED BY link_by_actor"
                f" ON l.kind = {LIST_BLOCK} AND l.actor = pair.a AND l.waiting = 0"
                " CROSS JOIN link AS i INDEXED BY link_pair"
                f" ON i.kind = {LIST_ITEM} AND i.actor = l.subject AND i.subject = pair.b AND i.waiting = 0",
                part,
            )
        )
    return found


def item_counts(reader: Reader, lists: Collection[int]) -> dict[int, int]:
    """How many are on each of these lists."""
    found: dict[int, int] = {}
    for marks, part in batches(lists):
        found.update(
            reader.all(
                "SELECT actor, count(*) FROM link INDEXED BY link_pair"
                f" WHERE kind = {LIST_ITEM} AND actor IN ({marks}) AND waiting = 0 GROUP BY actor",
                part,
            )
        )
    return found
