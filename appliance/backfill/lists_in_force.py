"""Lists by which members mute or block: the list of a stranger, and who is on it, are brought here.

Members' own lists come with their repositories. A list that nobody has read mutes nobody.
"""

from __future__ import annotations

from typing import Final

import msgspec

from appliance import telemetry
from appliance.backfill import listed
from appliance.backfill.fetcher import Fetcher
from appliance.backfill.pds import Listed
from appliance.clock import Clock
from appliance.errors import ApplianceError
from appliance.ingest import snapshot
from appliance.ingest.merge import Rules
from appliance.store import actors, collections, lists_in_force
from appliance.store.database import OWN_FAULTS, Database, Transaction
from appliance.store.lists_in_force import InForce

log = telemetry.Log("backfill")

LOOK_EVERY_S: Final = 5.0
READ_AGAIN_S: Final = 6 * 3600.0
AGAIN_S: Final = 600.0


class _Item(msgspec.Struct):
    list: str


_item = msgspec.json.Decoder(_Item).decode


class ListsInForce:
    """Reads each owner's items when a list of theirs comes into force, and every few hours since."""

    def __init__(self, database: Database, fetcher: Fetcher, rules: Rules, clock: Clock) -> None:
        self._database = database
        self._fetcher = fetcher
        self._rules = rules
        self._clock = clock
        self._due_s: dict[str, tuple[frozenset[str], float]] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Read what is due."""
        now_s = self._clock.monotonic_s()
        by_owner: dict[str, list[InForce]] = {}
        for each in await self._database.read(lists_in_force.of_strangers):
            by_owner.setdefault(each.owner, []).append(each)
        self._due_s = {owner: due for owner, due in self._due_s.items() if owner in by_owner}
        for owner, lists in by_owner.items():
            uris = frozenset(each.uri for each in lists)
            known, due_s = self._due_s.get(owner, (frozenset(), 0.0))
            if uris <= known and now_s < due_s:
                continue
            self._fetcher.want([each.record for each in lists])
            wait_s = READ_AGAIN_S
            try:
                await self.read(owner, uris)
            except ApplianceError as error:
                if error.name in OWN_FAULTS:
                    raise
                log.info("list_not_read", owner=owner, error=error)
                wait_s = AGAIN_S
            self._due_s[owner] = (uris, self._clock.monotonic_s() + wait_s)

    async def read(self, owner: str, uris: frozenset[str]) -> None:
        """Who is on these lists of one owner; who is not any more goes. Raises as ``listed.pages``."""
        held = await self._database.read(lambda r: lists_in_force.items(r, sorted(uris)))
        seen: set[str] = set()
        async for rows in listed.pages(self._fetcher, owner, collections.LIST_ITEM):
            wanted = [row for row in rows if _list_of(row) in uris]
            seen.update(row.rkey for row in wanted)
            await self._database.write(lambda tx: self._keep(tx, owner, wanted))  # noqa: B023
        gone = [rkey for rkey in held if rkey not in seen]
        await self._database.write(lambda tx: self._remove(tx, owner, gone))

    def _keep(self, tx: Transaction, owner: str, rows: list[Listed]) -> None:
        actor = actors.ensure(tx, owner, self._clock.now_us())
        for row in rows:
            self._put(tx, actor, row.rkey, row.cid, row.body)

    def _remove(self, tx: Transaction, owner: str, gone: list[str]) -> None:
        actor = actors.ensure(tx, owner)
        for rkey in gone:
            self._put(tx, actor, rkey, None, None)

    def _put(self, tx: Transaction, actor: int, rkey: str, cid: str | None, body: bytes | None) -> None:
        now_us = self._clock.now_us()
        snapshot.fetched_row(tx, self._rules, actor, collections.LIST_ITEM, rkey, cid, body, now_us)


def _list_of(row: Listed) -> str:
    try:
        return _item(row.body).list
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
