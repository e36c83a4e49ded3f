"""Verifications by the trusted verifiers: all that their servers list, of whoever has a row here."""

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
from appliance.store import actors, collections, records, repos
from appliance.store.database import OWN_FAULTS, Database, Reader, Transaction

log = telemetry.Log("backfill")

EVERY_S: Final = 6 * 3600.0
AGAIN_S: Final = 600.0
HELD_MAX: Final = 1_000_000


class _Verification(msgspec.Struct):
    subject: str


_verification = msgspec.json.Decoder(_Verification).decode


class Vouching:
    """Reads those lists again and again: an account may come here long after it was verified."""

    def __init__(
        self, database: Database, fetcher: Fetcher, verifiers: tuple[str, ...], rules: Rules, clock: Clock
    ) -> None:
        self._database = database
        self._fetcher = fetcher
        self._verifiers = verifiers
        self._rules = rules
        self._clock = clock

    async def run(self) -> None:
        """For ever."""
        while True:
            all_read = True
            for did in self._verifiers:
                try:
                    await self.read(did)
                except ApplianceError as error:
                    if error.name in OWN_FAULTS:
                        raise
                    log.info("verifications_not_read", verifier=did, error=error)
                    all_read = False
            await self._clock.sleep(EVERY_S if all_read else AGAIN_S)

    async def read(self, did: str) -> None:
        """One verifier's list, to its end; what is held and not in it any more is gone.

        Raises as ``listed.pages``.
        """
        held = await self._database.read(lambda r: _held(r, did))
        seen: set[str] = set()
        async for rows in listed.pages(self._fetcher, did, collections.VERIFICATION):
            seen.update(row.rkey for row in rows)
            await self._database.write(lambda tx: self._keep(tx, did, rows))  # noqa: B023
        gone = [rkey for rkey in held if rkey not in seen]
        await self._database.write(lambda tx: self._remove(tx, did, gone))

    def _keep(self, tx: Transaction, did: str, rows: list[Listed]) -> None:
        actor = actors.ensure(tx, did, self._clock.now_us())
        for row in rows:
            if _is_here(tx, row):
                self._put(tx, actor, row.rkey, row.cid, row.body)

    def _remove(self, tx: Transaction, did: str, gone: list[str]) -> None:
        actor = actors.ensure(tx, did)
        for rkey in gone:
            self._put(tx, actor, rkey, None, None)

    def _put(self, tx: Transaction, actor: int, rkey: str, cid: str | None, body: bytes | None) -> None:
        if repos.find(tx, actor) is None or cid is not None:
            now_us = self._clock.now_us()
            snapshot.fetched_row(tx, self._rules, actor, collections.VERIFICATION, rkey, cid, body, now_us)


def _held(reader: Reader, did: str) -> list[str]:
    actor = actors.find_id(reader, did)
    if actor is None:
        return []
    return records.living_keys(reader, actor, collections.VERIFICATION, HELD_MAX)


def _is_here(tx: Transaction, row: Listed) -> bool:
    """Whether the verified account has a row: of all others the verifications would be kept for nobody."""
    try:
        return actors.find_id(tx, _verification(row.body).subject) is not None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
