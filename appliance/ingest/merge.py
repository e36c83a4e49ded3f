"""The merge rule: of all that is ever said about a key, the highest version stays.

Taking a maximum commutes, so duplicates, rewinds, two upstreams and any number of snapshots may
come in any order (docs/invariants.md: newest-wins, deleted-stays-deleted, replay-is-harmless).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

import msgspec

from appliance.errors import BadInput
from appliance.ingest import content, index, times
from appliance.protocol.cid import order_key
from appliance.store import blobs, collections, posts, records
from appliance.store.database import Transaction


class Verdict(Enum):
    """What became of a fact."""

    APPLIED = "applied"
    KNOWN = "known already"
    OLD = "something newer is known"
    CONFLICT = "the same version of the same key with another value"


class Rules(msgspec.Struct, frozen=True):
    """What holds for every fact: the check of records, and whether we keep the whole network.

    ``verifiers`` are DIDs whose verifications are kept, whoever tracks them.
    """

    validate: content.Validator
    scope: Literal["tracked", "network"] = "tracked"
    verifiers: frozenset[str] = frozenset()


class Fact(msgspec.Struct, gc=False):
    """At this version the key has this value. ``epoch`` None: whichever the stored row has.

    ``cid`` and ``body`` are None where the key was deleted. ``scan`` is None for live operations.
    ``found``: somebody came upon the key in its repository, so ``at_us`` is no more than the latest moment at
    which it can have been written.
    ``cover_us`` is the upstream's time now, from which on whoever becomes tracked is covered;
    ``tracks`` is set by ``put`` to the actor who became tracked by this fact, ``before`` to the CID that
    lived here until then.
    """

    did: str
    actor: int
    collection: int
    rkey: str
    epoch: int | None
    rev: str
    n: int
    cid: str | None
    body: bytes | None
    at_us: int
    now_us: int
    scan: int | None = None
    found: bool = False
    cover_us: int | None = None
    tracks: int | None = None
    before: str | None = None


_NO_ROW: Final = (None,) * 10


def put(tx: Transaction, fact: Fact, rules: Rules) -> Verdict:
    """Store the fact if nothing newer is known of its key, and let the index follow."""
    row = records.at(tx, fact.actor, fact.collection, fact.rkey) or _NO_ROW
    record, state, epoch, rev, n, old_cid, *order, old_scan = row
    fact.before = old_cid
    live = fact.scan is None
    version = (fact.epoch if fact.epoch is not None else epoch or 0, fact.rev, fact.n)
    if not state:
        floor = records.floor(tx, fact.actor, fact.collection)
        # A scan at the floor itself may repair what an earlier one at the same rev left out.
        if floor is not None and version < floor:
            return Verdict.OLD
    else:
        stored = (epoch, rev, n)
        if version < stored:
            return Verdict.OLD
        if live and version == stored:
            return Verdict.KNOWN if fact.cid == old_cid else Verdict.CONFLICT
    scan = fact.scan if fact.scan is None or old_scan is None else max(fact.scan, old_scan)
    if fact.body is None or fact.cid is None:
        _remove(tx, fact, record, state, version, tuple(order))
        return Verdict.APPLIED
    if old_cid == fact.cid and state == records.LIVING:
        records.confirm(tx, record, version, scan)
        return Verdict.KNOWN
    return _store(tx, fact, rules, record, state, version, tuple(order), scan)


def _remove(
    tx: Transaction,
    fact: Fact,
    record: int | None,
    state: int | None,
    version: records.Version,
    order: tuple[int | None, int | None, int | None],
) -> None:
    if record is None:
        records.insert(
            tx,
            fact.actor,
            fact.collection,
            fact.rkey,
            records.DELETED,
            version,
            None,
            None,
            order,
            fact.at_us,
            None,
        )
        return
    if state != records.DELETED:
        ended(tx, record, fact.collection, state, fact.now_us)
    records.bury(tx, record, version, fact.at_us)


def ended(tx: Transaction, record: int, collection: int, state: int | None, now_us: int) -> None:
    """Take back the index rows of a key in ``state`` that is about to be buried."""
    if state == records.LIVING:
        index.vanish(tx, record, collection, now_us)
        if collection in blobs.COLLECTIONS:
            blobs.forget(tx, record)
    if collection == collections.POST:
        posts.hide_reposts(tx, record)


def _store(
    tx: Transaction,
    fact: Fact,
    rules: Rules,
    record: int | None,
    state: int | None,
    version: records.Version,
    order: tuple[int | None, int | None, int | None],
    scan: int | None,
) -> Verdict:
    assert fact.body is not None
    assert fact.cid is not None
    parts: content.Content | None
    try:
        parts = content.read(fact.collection, fact.did, fact.rkey, fact.body, rules.validate)
        created = parts.created
    except BadInput:
        parts = None
        created = content.created(fact.body)
    sort_ms, tie, arrival = order
    if sort_ms is None or tie is None:
        created_ms = times.created_ms(created)
        if fact.scan is not None:
            sort_ms = times.snapshot_sort_ms(created_ms, fact.rkey, fact.now_us)
        elif fact.found:
            sort_ms = times.snapshot_sort_ms(created_ms, fact.rkey, min(fact.at_us, fact.now_us))
        else:
            sort_ms = times.first_sort_ms(created_ms, fact.at_us)
        tie = order_key(fact.cid)
    if arrival is None and parts is not None and fact.collection in index.LISTED:
        arrival = records.next_arrival(tx)
    order = records.Order(sort_ms, tie, arrival)
    new_state = records.INVALID if parts is None else records.LIVING
    if record is None:
        record = records.insert(
            tx,
            fact.actor,
            fact.collection,
            fact.rkey,
            new_state,
            version,
            fact.cid,
            fact.body,
            order,
            fact.at_us,
            scan,
        )
    else:
        if state == records.LIVING:
            index.vanish(tx, record, fact.collection, fact.now_us, again=parts is not None)
            if fact.collection in blobs.COLLECTIONS:
                blobs.forget(tx, record)
        records.update(tx, record, new_state, version, fact.cid, fact.body, order, fact.at_us, scan)
        if state == records.DELETED and fact.collection == collections.POST:
            posts.show_reposts(tx, record)
    if parts is None:
        return Verdict.APPLIED
    if fact.collection in blobs.COLLECTIONS:
        blobs.mention(tx, record, fact.actor, fact.body)
    fact.tracks = index.appear(
        tx,
        record,
        fact.did,
        fact.actor,
        fact.collection,
        parts,
        fact.body,
        order,
        all_known=rules.scope == "network",
        now_us=fact.now_us,
        cover_us=fact.cover_us,
        again=state == records.LIVING,
    )
    return Verdict.APPLIED
