"""The end of a snapshot: its certificate, and what is told about it."""

from __future__ import annotations

from typing import Final

import msgspec

from appliance import crash_points, telemetry
from appliance.backfill.tools import Overtaken, Tools, collections_of, log, still
from appliance.ingest import snapshot
from appliance.store import audits, backlog, collections, fetches, records, repos, scans
from appliance.store.backlog import Due
from appliance.store.database import Transaction
from appliance.store.repos import Repo

# Who wrote while they were listed is compared again soon, for a certificate that others can check.
DIGEST_AFTER_US: Final = 600_000_000

DONE = telemetry.histogram(
    "backfill_seconds",
    "From the start of a snapshot to its end.",
    (0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200, 86_400),
    ["method"],
)


async def finish(
    tools: Tools, due: Due, repo: Repo, scan_id: int, *, exact: bool, data_cid: str | None = None
) -> None:
    """SCANNING becomes LIVE, or SUSPECT where doubt came up on the way.

    ``exact`` says that the repository was at the base rev from the first page to the last; else the rows
    are right by the merge rule but belong to no single rev, and no digest is kept. ``data_cid`` is the root
    of the tree there, where it was walked.
    """

    def work(tx: Transaction) -> tuple[scans.Scan, repos.Repo]:
        still(tx, repo)
        scan = scans.find(tx, scan_id)
        if scan is None:
            raise Overtaken
        read = tuple(collections.NUMBERS[nsid] for nsid in collections_of(due))
        snapshot.finish_scan(tx, scan_id, tools.clock.now_us(), read=read, data_cid=data_cid)
        _want_pinned(tx, repo.actor, tools.clock.now_us())
        found = repos.find(tx, repo.actor)
        assert found is not None
        if not exact or found.seen_rev > scan.base_rev:
            backlog.forget_digest(tx, repo.actor)
            soon_us = tools.clock.now_us() + DIGEST_AFTER_US
            audits.hasten(tx, [repo.actor], "listing", soon_us)
        if scan.partial:
            backlog.complete_since(tx, repo.actor, scan.started_us)
        crash_points.reach("certificate-before-commit")
        return scan, found

    scan, found = await tools.database.write(work)
    crash_points.reach("certificate-after-commit")
    seconds = (tools.clock.now_us() - scan.started_us) / 1_000_000
    DONE.labels(scan.method).observe(seconds)
    log.info(
        "backfill_done",
        did=due.did,
        host=scan.host,
        method=scan.method,
        state=found.state,
        seconds=round(seconds, 3),
        pages=scan.pages,
        rows=scan.rows,
        partial=scan.partial,
    )


def _want_pinned(tx: Transaction, actor: int, now_us: int) -> None:
    """The pinned post may lie outside the window, or be somebody else's."""
    body = records.body_at(tx, actor, collections.PROFILE, "self")
    if body is None:
        return
    try:
        pinned = msgspec.json.decode(body, type=_Profile).pinnedPost
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    record = None if pinned is None else records.mention(tx, pinned.uri)
    if record is not None and records.state_of(tx, record) == records.MENTIONED:
        fetches.want(tx, "record", record, now_us // 1_000_000, now_us)


class _Pinned(msgspec.Struct):
    uri: str


class _Profile(msgspec.Struct):
    pinnedPost: _Pinned | None = None  # noqa: N815 - the record's own spelling
