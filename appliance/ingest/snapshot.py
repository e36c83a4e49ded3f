"""Snapshots of repositories become rows: the other half of the merge rule.

Every row that a snapshot shows is a write at the rev read *before* the snapshot began. What a complete
snapshot of a collection did not show is deleted as of that rev, unless something newer is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from appliance import crash_points
from appliance.errors import NotFound
from appliance.ingest import losses, merge
from appliance.ingest.merge import Fact, Rules, Verdict
from appliance.store import actors, collections, findings, records, repos, scans
from appliance.store.database import Transaction
from appliance.store.findings import Difference


class Seen(NamedTuple):
    """A record that a page or a tree walk showed."""

    rkey: str
    cid: str
    body: bytes


def begin_scan(
    tx: Transaction,
    actor: int,
    *,
    epoch: int,
    host: str,
    method: scans.Method,
    base_rev: str,
    collections: tuple[int, ...],
    now_us: int,
) -> int | None:
    """The id of a new scan; None when the repository isn't SCANNING in that epoch any more.

    ``base_rev`` has to be read after ``repos.start`` and before the first page. ``collections`` are
    numbers in the order in which they will be read.
    """
    repo = repos.find(tx, actor)
    if repo is None or repo.state != "SCANNING" or repo.epoch != epoch:
        return None
    return scans.begin(tx, actor, epoch, host, method, base_rev, collections, now_us)


def page_done(
    tx: Transaction,
    scan_id: int,
    rules: Rules,
    rows: Iterable[Seen],
    cursor: str | None,
    now_us: int,
    *,
    windowed: bool = False,
) -> scans.Scan | None:
    """Take one page of the scan's current collection; the scan as it stands then.

    ``cursor`` None ends the collection: what was not seen becomes a tombstone and the floor rises.
    With ``windowed`` the page ends it too, but early: nothing is concluded from what was not seen.
    None is returned, and nothing written, when the scan has ended or the repository isn't SCANNING in
    its epoch: then the fetched rows prove nothing.
    """
    scan = scans.find(tx, scan_id)
    repo = None if scan is None else repos.find(tx, scan.actor)
    if scan is None or repo is None or repo.state != "SCANNING" or repo.epoch != scan.epoch:
        return None
    collection, *rest = scan.collections
    did = actors.did_of(tx, scan.actor)
    count = 0
    for seen in rows:
        count += 1
        snapshot_row(
            tx,
            rules,
            scan.actor,
            did,
            collection,
            seen.rkey,
            seen.cid,
            seen.body,
            epoch=scan.epoch,
            base_rev=scan.base_rev,
            scan=scan.id,
            now_us=now_us,
        )
    if cursor is not None and not windowed:
        scans.move(tx, scan.id, scan.collections, cursor, count, partial=False)
    else:
        if not windowed:
            collection_done(tx, scan.actor, collection, scan.epoch, scan.base_rev, scan.id, now_us)
        scans.move(tx, scan.id, tuple(rest), None, count, partial=windowed)
    return scans.find(tx, scan.id)


def snapshot_row(
    tx: Transaction,
    rules: Rules,
    actor: int,
    did: str,
    collection: int,
    rkey: str,
    cid: str,
    body: bytes,
    *,
    epoch: int,
    base_rev: str,
    scan: int,
    now_us: int,
) -> Verdict:
    """One row that the scan saw, at the version of the scan. Where an earlier scan had read the collection
    to its end and the stream should have kept it right since, a difference becomes a finding."""
    fact = Fact(
        did=did,
        actor=actor,
        collection=collection,
        rkey=rkey,
        epoch=epoch,
        rev=base_rev,
        n=records.SNAPSHOT,
        cid=cid,
        body=body,
        at_us=now_us,
        now_us=now_us,
        scan=scan,
    )
    verdict = merge.put(tx, fact, rules)
    if verdict is Verdict.APPLIED and fact.before != cid:
        losses.met_by_scan(tx, actor, Difference(collection, rkey, fact.before, cid), epoch, base_rev, now_us)
    return verdict


def collection_done(
    tx: Transaction, actor: int, collection: int, epoch: int, base_rev: str, scan: int, now_us: int
) -> int:
    """The scan has read the whole collection: bury what it did not see, raise the floor; how many."""
    version = (epoch, base_rev, records.SNAPSHOT)
    buried = 0
    for record, state, rkey, cid in records.unseen(tx, actor, collection, version, scan):
        if state != records.DELETED:
            buried += 1
            merge.ended(tx, record, collection, state, now_us)
        records.bury(tx, record, version, now_us)
        if state in (records.LIVING, records.INVALID):
            extra = Difference(collection, rkey, cid, None)
            losses.met_by_scan(tx, actor, extra, epoch, base_rev, now_us)
    scans.raise_floor(tx, actor, collection, epoch, base_rev)
    crash_points.reach("absence-before-commit")
    return buried


def finish_scan(
    tx: Transaction, scan_id: int, now_us: int, *, read: tuple[int, ...], data_cid: str | None = None
) -> repos.Certificate | None:
    """SCANNING -> LIVE (or SUSPECT, if doubt came up on the way). Raises NotFound when the scan has ended.

    ``read`` are all collections that the scan read; the certificate's digest covers them. A scan that
    was windowed somewhere gives none, and none is returned. ``data_cid`` is the root of the tree that a
    signed scan walked.
    """
    scan = scans.find(tx, scan_id)
    if scan is None:
        raise NotFound("this scan has ended")
    assert not scan.collections, "a scan ends after its last collection"
    certificate = None
    if not scan.partial:
        digest, count = records.digest(tx, scan.actor, list(read))
        shown = records.digest_for_anybody(tx, scan.actor, read, (digest, count))
        certificate = repos.Certificate(scan.base_rev, scan.method, digest, count, shown)
    scans.end(tx, scan.id)
    if not repos.finalise(tx, scan.actor, scan.epoch, scan.base_rev, certificate, now_us, data_cid=data_cid):
        raise NotFound("the repository is not being scanned")
    actors.applied_rev(tx, scan.actor, scan.base_rev, now_us)
    findings.settle(tx, scan.actor, now_us, whole=not scan.partial)
    repo = repos.find(tx, scan.actor)
    return certificate if repo is not None and repo.state == "LIVE" else None


def fetched_row(
    tx: Transaction,
    rules: Rules,
    actor: int,
    collection: int,
    rkey: str,
    cid: str | None,
    body: bytes | None,
    now_us: int,
) -> Verdict:
    """A single record as its PDS shows it now; ``cid`` None: it isn't there.

    Nothing tells its rev, so it stands below every other source: it fills what nobody knows and
    replaces what was itself fetched so.
    """
    row = records.at(tx, actor, collection, rkey)
    state = records.MENTIONED if row is None else row[1]
    floor = records.floor(tx, actor, collection)
    base = floor or (0, "", records.SNAPSHOT)
    if row is not None and state and row[2:5] > base:
        return Verdict.OLD
    if state and floor is not None and state != records.DELETED:
        # A complete scan saw it: that is better founded than a single look.
        return Verdict.OLD
    return merge.put(
        tx,
        Fact(
            did=actors.did_of(tx, actor),
            actor=actor,
            collection=collection,
            rkey=rkey,
            epoch=base[0],
            rev=base[1],
            n=records.SNAPSHOT,
            cid=cid,
            body=body,
            at_us=now_us,
            now_us=now_us,
            scan=0,
        ),
        rules,
    )


def all_collections() -> tuple[int, ...]:
    """Every collection that is kept, those that timelines list first."""
    return tuple(collections.NSIDS)
