"""Pages that are filled until they are at least half full: what rules leave out must not end a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from appliance.store.timeline import Place
from appliance.timeline import cursors

FETCHES_MAX = 10


class Placed(Protocol):
    """A row with its place in the order of its list."""

    @property
    def sort_ms(self) -> int: ...
    @property
    def tie(self) -> int: ...
    @property
    def id(self) -> int: ...


Row = TypeVar("Row", bound=Placed)


class Page(NamedTuple):
    """Finished entries, and the cursor of what follows."""

    views: list[bytes]
    cursor: str | None


def fill(
    skeleton: Callable[[Place, int], list[Row]],
    show: Callable[[list[Row]], list[bytes]],
    cursor: str | None,
    limit: int,
) -> Page:
    """Fetch rows below the cursor's place and show them, until there is enough to show or no more.

    ``show`` writes those that the caller may see. Raises BadInput for a cursor that is none.
    """
    if cursors.is_obsolete(cursor):
        return Page([], None)
    place = cursors.parse(cursor)
    views: list[bytes] = []
    for _ in range(FETCHES_MAX):
        wanted = limit - len(views)
        rows = skeleton(place, wanted + 1)
        following = rows[wanted] if len(rows) > wanted else None
        rows = rows[:wanted]
        if rows:
            place = Place(rows[-1].sort_ms, rows[-1].tie, rows[-1].id)
        views += show(rows)
        if following is None:
            return Page(views, None)
        if len(views) >= (limit + 1) // 2:
            break
    assert following is not None
    ambiguous = (following.sort_ms, following.tie) == (place.sort_ms, place.tie)
    return Page(views, cursors.text_of(place, ambiguous=ambiguous))
