"""A whole collection of one account that nobody tracks, page by page, as its PDS lists it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from appliance.backfill import listing
from appliance.backfill.fetcher import Fetcher
from appliance.backfill.listing import Part
from appliance.backfill.pds import Listed, NotOffered, PdsError
from appliance.errors import Unavailable
from appliance.store import collections

PAGES_MAX: Final = 2_000


async def pages(fetcher: Fetcher, did: str, collection: int) -> AsyncGenerator[list[Listed]]:
    """The rows of each page; ends only where the list does.

    Raises as ``Pds.list_records``, and Unavailable for a host that rests after failures or lists without end.
    """
    pds = await fetcher.server(did)
    part = Part(collections.NSIDS[collection])
    for _ in range(PAGES_MAX):
        try:
            page = await listing.read(pds, did, part, None)
        except (PdsError, NotOffered) as error:
            raise Unavailable(f"{pds.host} does not list these records") from error
        yield list(page.rows)
        if page.following is None:
            return
        part = page.following
    raise Unavailable(f"{pds.host} lists without end")
