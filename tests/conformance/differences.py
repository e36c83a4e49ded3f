"""The written list of how we may differ from the recorded answers, and why.

``MUST`` differ by nature and are not counted as differences. ``OURS`` are cases where our promise
wins over the official server's habit; each is recognised exactly, checked as far as it goes, and
counted apart. Nothing else may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.conformance.comparing import plain
from tests.conformance.scenario import Query

MUST = {
    "C-1": "cursors name a place in our order: the same time, of the cid the deciding characters only",
    "C-2": "message texts of errors are our own; error names and statuses are compared",
    "C-3": "where the official server fails with 500 (malformed cursors, a Bearer that is no JWT, handles in"
    " at-uris of lists), any refusal of ours from 400 on is equal",
}


class Case(NamedTuple):
    """``holds`` is true where this promise explains the whole difference."""

    id: str
    why: str
    holds: Callable[[Query, Any, Any], bool]


def _own_rows_cap(query: Query, ours: Any, theirs: Any) -> bool:
    """They leave own rows out of a page beyond a cap: theirs is a part of ours, in order."""
    if query.nsid != "app.bsky.feed.getTimeline":
        return False
    mine, other = plain(ours).get("feed", []), plain(theirs).get("feed", [])
    rest = iter(mine)
    return len(mine) > len(other) and all(any(item == each for each in rest) for item in other)


def _doubled_self_follow(query: Query, ours: Any, theirs: Any) -> bool:
    """Somebody who follows himself gets each own item twice from them."""
    if query.nsid != "app.bsky.feed.getTimeline":
        return False
    seen: list[Any] = []
    for item in plain(theirs).get("feed", []):
        if item not in seen:
            seen.append(item)
    mine = plain(ours).get("feed", [])
    return len(seen) < len(theirs.get("feed", [])) and mine[: len(seen)] == seen


OURS = [
    Case("P-1", "own posts are not capped in the timeline: it is complete", _own_rows_cap),
    Case("P-2", "who follows himself sees each own post once", _doubled_self_follow),
]
