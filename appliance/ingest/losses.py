"""Differences between our rows and a repository become findings, and an alarm.

A difference is a loss only if every stream had the time to deliver what explains it. What a scan has met
and a stream may still bring is noted as in flight and told later, or never.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance import telemetry
from appliance.protocol import syntax, tid
from appliance.store import actors, findings, records, repos, upstreams
from appliance.store.collections import NSIDS
from appliance.store.database import Transaction
from appliance.store.findings import BY_SCAN, IN_FLIGHT, Difference, Finding

log = telemetry.Log("audit")
DIFFERENCES = telemetry.counter(
    "audit_differences",
    "Differences from accounts' own servers, by the upstream that should have delivered them.",
    ["door", "level"],
)

# A record takes seconds from its server to us; a relay that is busy may take longer.
LAG_US: Final = 30_000_000
LINES_MAX: Final = 20


def met_by_scan(
    tx: Transaction, actor: int, difference: Difference, epoch: int, base_rev: str, now_us: int
) -> None:
    """A scan has just repaired this key, of a collection that an earlier one had read to its end or not."""
    floor = records.floor(tx, actor, difference.collection)
    if floor is None:
        return
    position_us = upstreams.newest_time_us(tx) or 0
    about_us = _about_us(difference, base_rev)
    in_flight = about_us > position_us - LAG_US
    # After a rollback the repository itself has changed in a way that no stream tells.
    door = findings.door_at(tx, about_us) if floor[0] == epoch else BY_SCAN
    found = _add(
        tx,
        actor,
        difference,
        level="scan",
        rev=base_rev,
        door=door,
        now_us=now_us,
        repaired=True,
        note=IN_FLIGHT if in_flight and door != BY_SCAN else "",
    )
    if found is not None and found.note != IN_FLIGHT:
        tell(tx, [found])


def met_by_audit(
    tx: Transaction, actor: int, differences: Iterable[Difference], level: str, rev: str, now_us: int
) -> list[Finding]:
    """An audit has met these, after every stream had the time to bring them; those that are new."""
    found = []
    for difference in differences:
        door = findings.door_at(tx, _about_us(difference, rev))
        one = _add(tx, actor, difference, level=level, rev=rev, door=door, now_us=now_us)
        if one is not None:
            found.append(one)
    tell(tx, found)
    return found


def tell(tx: Transaction, found: list[Finding]) -> None:
    """Raise the alarm, once this is committed."""
    if not found:
        return
    uris = [f"at://{actors.did_of(tx, one.actor)}/{NSIDS[one.collection]}/{one.rkey}" for one in found]

    def alarm() -> None:
        for one in found:
            DIFFERENCES.labels(one.door, one.level).inc()
        for uri, one in list(zip(uris, found, strict=True))[:LINES_MAX]:
            log.warning(
                "audit_difference",
                uri=uri,
                kind=one.kind,
                ours=one.ours,
                theirs=one.theirs,
                level=one.level,
                door=one.door,
                from_us=one.from_us,
                to_us=one.to_us,
            )
        if len(found) > LINES_MAX:
            log.warning("audit_differences_more", number=len(found) - LINES_MAX)

    tx.announce(alarm)


def _add(
    tx: Transaction,
    actor: int,
    difference: Difference,
    *,
    level: str,
    rev: str,
    door: str,
    now_us: int,
    repaired: bool = False,
    note: str = "",
) -> Finding | None:
    repo = repos.find(tx, actor)
    from_us = None if repo is None else repo.cert_us if repo.cert_us is not None else repo.cover_us
    return findings.add(
        tx,
        actor,
        difference,
        level=level,
        rev=rev,
        door=door,
        from_us=from_us,
        to_us=upstreams.newest_time_us(tx) or now_us,
        now_us=now_us,
        outcome="repaired" if repaired else "open",
        note=note,
    )


def _about_us(difference: Difference, rev: str) -> int:
    """When the commit was made that should have been delivered: at the latest at the repository's rev."""
    latest_us = tid.tid_us(rev) if syntax.is_tid(rev) else 0
    if difference.kind == "missing" and syntax.is_tid(difference.rkey):
        return min(tid.tid_us(difference.rkey), latest_us)
    return latest_us
