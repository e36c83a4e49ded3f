"""A snapshot by the whole signed repository: exact at the rev that its owner signed."""

from __future__ import annotations

import asyncio
from typing import Final

from appliance import crash_points
from appliance.backfill import ending, export
from appliance.backfill.export import Entry, Export, NotSigned
from appliance.backfill.pds import NotOffered, Pds, PdsError
from appliance.backfill.tools import FUTURE_US, MB, Overtaken, Tools, collections_of, log, still
from appliance.errors import BadInput, NotFound
from appliance.identity.identities import Identity
from appliance.ingest import snapshot
from appliance.protocol import cid as cids
from appliance.protocol import tid
from appliance.protocol.commits import Commit
from appliance.store import collections, findings, scans
from appliance.store.backlog import Due
from appliance.store.database import Transaction
from appliance.store.repos import Repo

ROWS_PER_WRITE: Final = 200


async def read(tools: Tools, due: Due, repo: Repo, pds: Pds, identity: Identity, listed: scans.Scan) -> bool:
    """Take the repository as one signed file in place of the listing under way.

    False when this host or this repository is not to be had so; nothing has changed then. Raises
    BadInput for a file that is cut or wrong: it is fetched again later, a few times.
    """
    now_s = tools.clock.monotonic_s()
    if not tools.exports.usable(due.did, now_s):
        return False
    try:
        # Unpacking needs memory and the processor: one at a time is enough.
        async with (
            tools.unpacking,
            export.fetched(pds.export(due.did, tools.settings.car_max_mb * MB), tools.folder) as found,
        ):
            commit, entries = await _proved(tools, due, identity, listed, found)
            await _store(tools, due, repo, pds, commit, entries, found)
    except (NotOffered, PdsError) as error:
        tools.exports.refused(due.did, now_s)
        log.info("export_refused", did=due.did, error=error)
        return False
    except BadInput as error:
        log.warning("export_unusable", did=due.did, error=error)
        if error.name == "ResponseTooLarge":
            tools.exports.refused(due.did, now_s)
            return False
        tools.exports.failed(due.did, now_s)
        raise
    return True


async def _proved(
    tools: Tools, due: Due, identity: Identity, listed: scans.Scan, found: Export
) -> tuple[Commit, list[Entry]]:
    """The commit and what its tree names, once everything about them has been checked."""
    try:
        commit = await asyncio.to_thread(found.commit, due.did, _key(identity))
    except NotSigned:
        # The key may have been rotated since the document was fetched: ask once, then judge.
        tools.identities.forget(due.did)
        fresh = await tools.identities.refresh(due.did)
        commit = await asyncio.to_thread(found.commit, due.did, _key(fresh))
    if commit.rev < listed.base_rev:
        raise BadInput("the PDS gave an old copy of the repository", name="StaleRepository")
    if tid.tid_us(commit.rev) > tools.clock.now_us() + FUTURE_US:
        raise BadInput("the rev lies in the future")
    return commit, await asyncio.to_thread(found.entries, commit, collections_of(due))


def _key(identity: Identity) -> str:
    if identity.signing_key is None:
        raise NotFound("the DID document names no signing key")
    return identity.signing_key


async def _store(
    tools: Tools, due: Due, repo: Repo, pds: Pds, commit: Commit, entries: list[Entry], found: Export
) -> None:
    """All rows, in portions, then what follows from those that are not there."""
    numbers = tuple(collections.NUMBERS[nsid] for nsid in collections_of(due))

    def begin(tx: Transaction) -> int:
        still(tx, repo)
        now_us = tools.clock.now_us()
        return scans.begin(tx, repo.actor, repo.epoch, pds.origin, "signed", commit.rev, numbers, now_us)

    scan_id = await tools.database.write(begin)
    hidden = await tools.database.read(lambda r: findings.accepted(r, repo.actor))
    if hidden:
        entries = [
            entry
            for entry in entries
            if (collections.NUMBERS[entry.collection], entry.rkey, cids.to_text(entry.cid)) not in hidden
        ]
    # The last things first: keys rise with time, and readers look at the newest.
    entries.sort(key=lambda entry: entry.rkey, reverse=True)
    for at in range(0, len(entries), ROWS_PER_WRITE):
        portion = entries[at : at + ROWS_PER_WRITE]
        rows = await asyncio.to_thread(found.records, portion)

        def store(tx: Transaction, rows: list[tuple[Entry, str, bytes]] = rows) -> None:
            still(tx, repo)
            now_us = tools.clock.now_us()
            for entry, cid, body in rows:
                snapshot.snapshot_row(
                    tx,
                    tools.rules,
                    repo.actor,
                    due.did,
                    collections.NUMBERS[entry.collection],
                    entry.rkey,
                    cid,
                    body,
                    epoch=repo.epoch,
                    base_rev=commit.rev,
                    scan=scan_id,
                    now_us=now_us,
                )
            if not scans.move(tx, scan_id, numbers, None, len(rows), partial=False):
                raise Overtaken
            crash_points.reach("portion-before-commit")

        await tools.database.write(store)
    for at, number in enumerate(numbers):

        def end(tx: Transaction, number: int = number, left: tuple[int, ...] = numbers[at + 1 :]) -> None:
            still(tx, repo)
            now_us = tools.clock.now_us()
            snapshot.collection_done(tx, repo.actor, number, repo.epoch, commit.rev, scan_id, now_us)
            if not scans.move(tx, scan_id, left, None, 0, partial=False):
                raise Overtaken

        await tools.database.write(end)
    await ending.finish(tools, due, repo, scan_id, exact=True, data_cid=cids.to_text(commit.data))
