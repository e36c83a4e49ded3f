"""The newest posts of somebody whom nobody here follows: one page of the list, for who looks at them now."""

from __future__ import annotations

from typing import Final

from appliance.backfill import listing
from appliance.backfill.fetcher import Fetcher
from appliance.backfill.listing import Part
from appliance.backfill.pds import Listed, NotOffered, PdsError
from appliance.clock import Clock
from appliance.errors import Unavailable
from appliance.ingest import snapshot
from appliance.ingest.merge import Rules
from appliance.store import actors, collections, records, repos
from appliance.store.database import Database, Reader, Transaction

HELD_MAX: Final = 1000


class Newest:
    """Reads and keeps such pages. What is held and no longer listed was deleted while nobody listened."""

    def __init__(self, database: Database, fetcher: Fetcher, rules: Rules, clock: Clock) -> None:
        self._database = database
        self._fetcher = fetcher
        self._rules = rules
        self._clock = clock

    async def read(self, did: str) -> bool:
        """Fetch the page; False when the account is tracked, and all of it is here or on its way.

        Raises as ``Pds.list_records``, and Unavailable for a host that rests after failures.
        """
        held = await self._database.read(lambda r: _held(r, did))
        if held is None:
            return False
        pds = await self._fetcher.server(did)
        try:
            page = await listing.read(pds, did, Part(collections.NSIDS[collections.POST]), None)
        except (PdsError, NotOffered) as error:
            raise Unavailable(f"{pds.host} does not list the posts") from error
        rows, whole = page.rows, page.following is None
        if len(rows) > 1 and rows[0].rkey < rows[-1].rkey and not whole:
            gone: list[str] = []  # a host that begins with the oldest tells nothing about the newest
        else:
            listed = {row.rkey for row in rows}
            oldest = "" if whole or not rows else min(listed)
            gone = [rkey for rkey in held if rkey >= oldest and rkey not in listed]
        await self._database.write(lambda tx: self._keep(tx, did, rows, gone))
        return True

    def _keep(self, tx: Transaction, did: str, rows: list[Listed], gone: list[str]) -> None:
        now_us = self._clock.now_us()
        actor = actors.ensure(tx, did, now_us)
        if repos.find(tx, actor) is not None:
            return  # tracked since: its scan does it better
        taken = [(row.rkey, row.cid, row.body) for row in rows]
        for rkey, cid, body in [*taken, *((rkey, None, None) for rkey in gone)]:
            snapshot.fetched_row(tx, self._rules, actor, collections.POST, rkey, cid, body, now_us)


def _held(reader: Reader, did: str) -> list[str] | None:
    """Keys of the posts that were here before the page was asked for; None for a tracked account."""
    actor = actors.find_id(reader, did)
    if actor is None:
        return []
    if repos.find(reader, actor) is not None:
        return None
    return records.living_keys(reader, actor, collections.POST, HELD_MAX)
