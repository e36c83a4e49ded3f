"""Reading collections page by page, whichever way round the host lists them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from appliance.backfill.pds import Listed, Page, Pds
from appliance.errors import BadInput
from appliance.protocol import syntax, tid

PAGES_MAX = 50_000


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One collection of a scan and how far it was read. Stored as JSON in the scan's row.

    ``last`` is the last key read: keys must go on in the same direction, or the list is no list.
    """

    collection: str
    cursor: str | None = None
    reverse: bool = False
    pages: int = 0
    last: str = ""
    upward: bool | None = None


class Read(NamedTuple):
    """A page, and the part as it then stands: None at its end.

    ``cut`` says that the end is that of the window of BACKFILL_DAYS, not of the list.
    """

    rows: list[Listed]
    following: Part | None
    cut: bool


class Disordered(BadInput):
    """The host does not list every record by its key: pages may skip some while others come and go."""

    name = "DisorderedListing"


def pack(parts: Sequence[Part]) -> str:
    """The parts as they are stored."""
    return msgspec.json.encode(parts).decode()


def unpack(text: str) -> list[Part]:
    """The parts as they were stored."""
    return msgspec.json.decode(text, type=list[Part])


async def read(pds: Pds, did: str, part: Part, window_us: int | None) -> Read:
    """The next page of this part.

    The first page is the newest wherever the host can be brought to give that first. With ``window_us``
    the part ends after a page that lies wholly before that time.
    """
    reverse = part.reverse if part.pages else pds.dialect.ascends
    page = await pds.list_records(did, part.collection, part.cursor, reverse=reverse)
    if part.pages == 0 and page.cursor is not None and _upward(page.rows):
        page, reverse = await _other_way_round(pds, did, part, page, reverse)
    if page.refused:
        # Whatever they are, nothing may be concluded from what such a list does not show.
        raise Disordered("the PDS lists records without usable address or CID")
    if page.cursor is not None and (page.cursor == part.cursor or part.pages >= PAGES_MAX):
        raise BadInput("the PDS lists in a circle", name="RepeatedCursor")
    upward = _direction(part, page.rows)
    if page.cursor is None:
        return Read(page.rows, None, cut=False)
    if window_us is not None and upward is False and all(_before(row, window_us) for row in page.rows):
        return Read(page.rows, None, cut=True)
    last = page.rows[-1].rkey if page.rows else part.last
    following = Part(part.collection, page.cursor, reverse, part.pages + 1, last, upward)
    return Read(page.rows, following, cut=False)


async def _other_way_round(pds: Pds, did: str, part: Part, page: Page, reverse: bool) -> tuple[Page, bool]:
    """The host's first page is the oldest: ask for the other end, and remember if that helps."""
    other = await pds.list_records(did, part.collection, None, reverse=not reverse)
    if _upward(other.rows):
        return page, reverse
    pds.dialect.ascends = not reverse
    return other, not reverse


def _upward(rows: Sequence[Listed]) -> bool:
    return len(rows) > 1 and rows[0].rkey < rows[-1].rkey


def _direction(part: Part, rows: Sequence[Listed]) -> bool | None:
    """Whether keys rise, None while nobody knows. Raises Disordered."""
    keys = [row.rkey for row in rows]
    if part.last:
        keys.insert(0, part.last)
    upward = part.upward
    if upward is None and len(keys) > 1:
        upward = keys[0] < keys[1]
    for before, after in pairwise(keys):
        if before == after or (before < after) is not upward:
            raise Disordered("the PDS does not list by record key")
    return upward


def _before(row: Listed, window_us: int) -> bool:
    """Whether both the key and the record's own claim lie before that time."""
    if not syntax.is_tid(row.rkey) or tid.tid_us(row.rkey) >= window_us:
        return False
    try:
        created = msgspec.json.decode(row.body, type=_Dated).createdAt
        return syntax.parse_datetime_us(created) < window_us
    except (msgspec.MsgspecError, RecursionError, BadInput):
        return True


class _Dated(msgspec.Struct):
    createdAt: str = ""  # noqa: N815 - the record's own spelling
