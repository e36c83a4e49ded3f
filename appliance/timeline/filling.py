"""Pages that are filled until they are at least half full: what rules leave out must not end a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from appliance.store.timeline import Place
from appliance.timeline import cursors

FETCHES_MAX = 10


class Spelling(Protocol):
    """How a list spells places as cursors; ``parse`` raises BadInput."""

    def is_obsolete(self, text: str | None, /) -> bool: ...
    def parse(self, text: str | None, /) -> Place: ...
    def text_of(self, place: Place, following: Place, /) -> str: ...


class ByTimeAndCid:
    """The spelling of most lists."""

    is_obsolete = staticmethod(cursors.is_obsolete)
    parse = staticmethod(cursors.parse)

    @staticmethod
    def text_of(place: Place, following: Place, /) -> str:
        """The cursor after this row, before the other."""
        return cursors.text_of(place, ambiguous=place[:2] == following[:2])


BY_TIME_AND_CID: Spelling = ByTimeAndCid()


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
    spelling: Spelling = BY_TIME_AND_CID,
) -> Page:
    """Fetch rows below the cursor's place and show them, until there is enough to show or no more.

    ``show`` writes those that the caller may see. Raises BadInput for a cursor that is none.
    """
    if spelling.is_obsolete(cursor):
        return Page([], None)
    place = spelling.parse(cursor)
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
    return Page(views, spelling.text_of(place, Place(following.sort_ms, following.tie, following.id)))
