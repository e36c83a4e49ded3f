"""One repository, one step of its work: find out how it stands, read on, write down how that went."""

from __future__ import annotations

from typing import Final

from appliance import crash_points, telemetry
from appliance.backfill import listing, listing_scan, retries, signed_scan, verdicts
from appliance.backfill.listing import Disordered, Part
from appliance.backfill.pds import NotOffered, Pds, PdsError
from appliance.backfill.tools import Outcome, Overtaken, Tools, collections_of, log, still
from appliance.backfill.verdicts import Compared
from appliance.errors import ApplianceError, NotFound, Unavailable
from appliance.identity.identities import Identity
from appliance.store import actors, audits, collections, members, repos, scans
from appliance.store.audits import Level
from appliance.store.backlog import Due
from appliance.store.database import OWN_FAULTS, Transaction
from appliance.store.repos import Repo

STEPS = telemetry.counter("backfill_steps", "Steps of work on repositories, by how they ended.", ["outcome"])
FIRST_PAGE = telemetry.histogram(
    "backfill_first_page_seconds",
    "From wanting an account to its newest page.",
    (0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)

SCAN_GOOD_FOR_US: Final = 24 * 3_600_000_000
IDENTITY_GOOD_FOR_S: Final = 24 * 3600.0
# A listing that is longer than this is left for the whole repository: one request in place of hundreds.
PAGES_BEFORE_EXPORT: Final = 20
# A PDS that knows less than the stream brought is behind for a moment; later it was rolled back.
BEHIND_ATTEMPTS_MAX: Final = 3
DELETED: Final = "deleted"


class _Step:
    """One attempt, and what is known of it when it fails."""

    def __init__(self, tools: Tools, due: Due) -> None:
        self.tools = tools
        self.due = due
        self.origin: str | None = None
        self.progressed = False
        self.word = actors.Word(None, 0)


async def work(tools: Tools, due: Due) -> Outcome:
    """Take the repository one step further. Failures that are foreseen end in a later attempt."""
    step = _Step(tools, due)
    outcome: Outcome
    try:
        outcome = await _take(step)
    except Overtaken:
        outcome = "overtaken"
    except ApplianceError as error:
        if error.name in OWN_FAULTS:
            raise
        if step.origin is not None and isinstance(error, Unavailable):
            tools.hosts.failed(step.origin, tools.clock.monotonic_s(), error.retry_after_s)
        await _later(step, error)
        outcome = "waits"
    else:
        if step.origin is not None:
            tools.hosts.answered(step.origin)
    STEPS.labels(outcome).inc()
    return outcome


async def _take(step: _Step) -> Outcome:
    tools, due = step.tools, step.due
    identity, current = await _identity(tools, due.did, fresh=not (due.begun or due.doubt))
    if identity.pds is None:
        raise NotFound("the DID document names no PDS")
    if identity.pds != due.pds:
        # It was started in the place of another host, or of none: it has to queue for its own.
        return "again"

    def claim(tx: Transaction) -> tuple[Repo, scans.Scan | None]:
        step.word = actors.last_word(tx, due.actor)
        return _claim(tx, due, tools.clock.now_us())

    repo, scan = await tools.database.write(claim)
    if scan is None and not is_auditable(repo) and (due.begun or due.doubt):
        identity, current = await _identity(tools, due.did, fresh=True)
    if identity.pds != due.pds:
        return "again"
    if identity.pds in tools.hosts.resting(tools.clock.monotonic_s()):
        raise Unavailable("the host rests after failures", retry_after_s=retries.HOST_PAUSE_MIN_S)
    step.origin = identity.pds
    pds = Pds(tools.outbound, identity.pds, tools.dialects.of(identity.pds))
    if scan is not None and scan.host != pds.origin:
        return await _elsewhere(tools, repo)
    try:
        if scan is None and is_auditable(repo):
            return await _settle(step, repo, pds, identity)
        if scan is None:
            begun = await _begin(step, repo, pds, current=current)
            if not isinstance(begun, scans.Scan):
                return begun
            scan = begun
        return await _read(step, repo, scan, pds, identity)
    except PdsError as error:
        return await _judge(step, repo, pds, error)


def _claim(tx: Transaction, due: Due, now_us: int) -> tuple[Repo, scans.Scan | None]:
    """Bring the row to SCANNING, unless it is only to be looked at; with the scan that may go on.

    Nothing is read from the PDS before this is committed: any doubt from now on is remembered.
    """
    actor = due.actor
    repo = repos.find(tx, actor)
    if repo is None or repo.state in ("LIVE", "PRUNING"):
        raise Overtaken
    if members.is_member(tx, actor) != due.member:
        # It has become one, or left, since the list of work was read: another set of collections is due.
        raise Overtaken
    if repo.state in ("INACTIVE", "GONE"):
        return repo, None
    if is_auditable(repo):
        repos.examine(tx, actor, repo.epoch)
        return repo, None
    scan = scans.find_of(tx, actor)
    if scan is not None and not _resumable(repo, scan, now_us):
        scans.end(tx, scan.id)
        scan = None
    if repo.state == "SCANNING" and scan is not None:
        return repo, scan
    if repo.state == "SCANNING":
        repos.restart(tx, actor, repo.epoch, "restarted", now_us)
    elif repo.state == "WAIT":
        repos.retry(tx, actor, repo.epoch, now_us)
    elif repo.state == "SUSPECT":
        repos.resync(tx, actor, repo.epoch, repo.reason, 0, now_us)
    if not repos.start(tx, actor, repo.epoch, now_us):
        raise Overtaken
    return repo, scan


def is_auditable(repo: Repo) -> bool:
    """Whether the doubt says only that something may be missing: then comparing may lift it."""
    return repo.state == "SUSPECT" and repos.is_gap(repo.reason)


def _resumable(repo: Repo, scan: scans.Scan, now_us: int) -> bool:
    """Whether that scan may go on: its rows are of its base rev, whatever happened since."""
    return (
        repo.state != "SUSPECT"
        and scan.method == "listing"
        and scan.epoch == repo.epoch
        and now_us - scan.started_us <= SCAN_GOOD_FOR_US
    )


async def _identity(tools: Tools, did: str, *, fresh: bool) -> tuple[Identity, bool]:
    """Who and where, asked anew before each scan; and whether that is surely current.

    The last known will do to read from while the directory is down, but not to believe bad news.
    """
    try:
        if fresh:
            return await tools.identities.refresh(did), True
        return await tools.identities.get(did, max_age_s=IDENTITY_GOOD_FOR_S), True
    except Unavailable as error:
        known = await tools.identities.last_known(did)
        if known is None:
            raise
        log.warning("identity_not_refreshed", did=did, error=error)
        return known, False


async def _begin(step: _Step, repo: Repo, pds: Pds, *, current: bool) -> scans.Scan | Outcome:
    """From SCANNING without a scan to one that has begun, unless none is needed or possible."""
    tools, due = step.tools, step.due
    status = await verdicts.status_of(pds, due.did)
    if status.status is not None:
        return await _set_aside(step, repo, status.status, current=current)
    if repo.state in ("INACTIVE", "GONE"):
        return await _back(step, repo)
    rev = await verdicts.latest_rev(tools, pds, due.did, status)
    if repo.base_rev <= rev < repo.seen_rev and repo.attempts < BEHIND_ATTEMPTS_MAX:
        raise Unavailable("the PDS is behind the stream")
    if rev < max(repo.base_rev, repo.seen_rev):
        return await _roll_back(tools, due, repo, rev)
    numbers = tuple(collections.NUMBERS[nsid] for nsid in collections_of(due))

    def begin(tx: Transaction) -> scans.Scan:
        still(tx, repo)
        actors.confirm_status(tx, repo.actor, None)
        now_us = tools.clock.now_us()
        scan = scans.begin(tx, repo.actor, repo.epoch, pds.origin, "listing", rev, numbers, now_us)
        found = scans.find(tx, scan)
        assert found is not None
        crash_points.reach("scan-before-commit")
        return found

    return await tools.database.write(begin)


async def _settle(step: _Step, repo: Repo, pds: Pds, identity: Identity) -> Outcome:
    """Compare an account of which something may be missing: its rev, its newest page, all of it.

    The first that proves it complete ends the doubt without a scan; a difference asks for one. The directory
    is asked only where the PDS of yesterday's document denies the account.
    """
    tools, due = step.tools, step.due
    status = await verdicts.status_of(pds, due.did)
    if status.status is not None:
        identity, current = await _identity(tools, due.did, fresh=True)
        if identity.pds != pds.origin:
            return "again"
        return await _set_aside(step, repo, status.status, current=current)
    rev = await verdicts.latest_rev(tools, pds, due.did, status)
    if await _acquit(tools, repo, rev):
        return "done"
    said = verdicts.rev_says(repo, rev)
    if said == "equal":
        raise Overtaken  # a doubt came up meanwhile: that has to be asked again
    if said == "back":
        await tools.database.write(lambda tx: verdicts.regressed(tx, repo, tools.clock.now_us()))
        return "again"
    levels: tuple[Level, ...] = ("tail", "listing")
    for level in levels:
        try:
            found = await verdicts.compared(tools, due, repo, pds, identity, rev, level, 0)
        except (Disordered, NotOffered):
            found = await verdicts.compared(tools, due, repo, pds, identity, rev, "signed", 0)

        def write(tx: Transaction, found: Compared = found, level: Level = level) -> repos.Repo | None:
            now_us = tools.clock.now_us()
            # What the stream had no time to bring is not waited for: a scan is due in any case.
            verdict = verdicts.conclude(tx, due, repo, level, found, now_us, at_once=True)
            if verdict is not None:
                audits.judged(tx, repo.actor, level, verdict, rev, now_us + audits.PERIOD_US[level], now_us)
            crash_points.reach("verdict-before-commit")
            return repos.find(tx, repo.actor)

        now = await tools.database.write(write)
        crash_points.reach("verdict-after-commit")
        if now is None or (now.state, now.epoch) != (repo.state, repo.epoch):
            return "done" if now is not None and now.state == "LIVE" else "again"
    # A doubt came up meanwhile, or parts of it were never read to their end: nothing less than a scan tells.
    await tools.database.write(
        lambda tx: repos.resync(tx, repo.actor, repo.epoch, repo.reason, 0, tools.clock.now_us())
    )
    return "again"


async def _read(step: _Step, repo: Repo, scan: scans.Scan, pds: Pds, identity: Identity) -> Outcome:
    """Go on reading: first the newest page of everything, then, when others have had theirs, the rest."""
    parts = _parts(scan)
    reading = listing_scan.Reading(step.tools, step.due, repo, scan, pds)
    try:
        if repo.reason.startswith(verdicts.BY_SIGNATURE) and await signed_scan.read(
            step.tools, step.due, repo, pds, identity, scan
        ):
            return "done"
        if any(part.pages == 0 for part in parts):
            parts = await reading.first_pages(parts)
            _tell_first_page(step, repo, pds)
        else:
            longest = max((part.pages for part in parts), default=0)
            # Of a history that is not wanted whole the export would bring all.
            whole = step.due.member or not step.tools.settings.backfill_days
            dear = whole and (longest >= PAGES_BEFORE_EXPORT or (step.due.member and longest > 0))
            if dear and await signed_scan.read(step.tools, step.due, repo, pds, identity, scan):
                return "done"
            parts = await reading.stretch(parts, PAGES_BEFORE_EXPORT)
    except (Disordered, NotOffered):
        # Its pages can't be had or can't be trusted; the tree can.
        if await signed_scan.read(step.tools, step.due, repo, pds, identity, scan):
            return "done"
        raise
    finally:
        step.progressed = reading.pages > 0
    if parts:
        return "more"
    await reading.finish()
    return "done"


def _parts(scan: scans.Scan) -> list[Part]:
    """What is left to read; everything until the first page is in."""
    if scan.cursor is None:
        return [Part(collections.NSIDS[number]) for number in scan.collections]
    return listing.unpack(scan.cursor)


def _tell_first_page(step: _Step, repo: Repo, pds: Pds) -> None:
    """From here on a reader sees the newest things."""
    seconds = (step.tools.clock.now_us() - repo.since_us) / 1_000_000
    if repo.state == "QUEUED" and not repo.cert_rev:
        FIRST_PAGE.observe(seconds)
    log.info("backfill_first_page", did=step.due.did, host=pds.host, seconds=round(seconds, 3))


# ---------------------------------------------------------------- where it goes when it can't be read


async def _judge(step: _Step, repo: Repo, pds: Pds, error: PdsError) -> Outcome:
    """A refusal in the middle: ask what has become of the account. Status codes say nothing certain."""
    tools, due = step.tools, step.due
    step.word = await tools.database.read(lambda reader: actors.last_word(reader, repo.actor))
    status = await verdicts.status_of(pds, due.did)
    if status.status is None:
        raise error
    tools.identities.forget(due.did)
    identity = await tools.identities.refresh(due.did)
    if identity.pds != pds.origin:
        return await _elsewhere(tools, repo)
    return await _aside(step, repo, status.status)


async def _elsewhere(tools: Tools, repo: Repo) -> Outcome:
    """The account lives on another PDS now: what this one would go on to say counts no more."""

    def write(tx: Transaction) -> None:
        still(tx, repo)
        found = scans.find_of(tx, repo.actor)
        if found is not None:
            scans.end(tx, found.id)
        repos.restart(tx, repo.actor, repo.epoch, "the account has moved", tools.clock.now_us())

    await tools.database.write(write)
    log.info("backfill_moved", actor=repo.actor)
    return "again"


async def _set_aside(step: _Step, repo: Repo, status: str, *, current: bool) -> Outcome:
    """As ``_aside``, if it is sure that this PDS is the account's own."""
    if not current:
        raise Unavailable("the last PDS known of does not have it, and the directory is down")
    return await _aside(step, repo, status)


async def _aside(step: _Step, repo: Repo, status: str) -> Outcome:
    """Inactive or deleted by the word of its own PDS: hide it, and look again later."""
    tools = step.tools

    def write(tx: Transaction) -> None:
        _nothing_newer(tx, repo, step.word)
        now_us = tools.clock.now_us()
        again = repo.state in ("INACTIVE", "GONE") and repo.reason == status
        attempts = repo.attempts + 1 if again else 1
        repos.deactivate(tx, repo.actor, status, now_us)
        if status == DELETED:
            repos.bury(tx, repo.actor, repo.epoch, now_us)
        actors.confirm_status(tx, repo.actor, status)
        pause_us = round(retries.inactive_pause_s(attempts - 1, tools.rng) * 1_000_000)
        repos.put_off(tx, repo.actor, repo.epoch, attempts, now_us + pause_us)

    await tools.database.write(write)
    log.info("backfill_aside", actor=repo.actor, status=status)
    return "aside"


async def _back(step: _Step, repo: Repo) -> Outcome:
    """Active again."""
    tools = step.tools

    def write(tx: Transaction) -> None:
        _nothing_newer(tx, repo, step.word)
        repos.reactivate(tx, repo.actor, tools.clock.now_us())
        actors.confirm_status(tx, repo.actor, None)

    await tools.database.write(write)
    return "again"


def _nothing_newer(tx: Transaction, repo: Repo, word: actors.Word) -> None:
    """Raises Overtaken when an upstream has told of the account while its server was asked."""
    if actors.last_word(tx, repo.actor) != word:
        raise Overtaken


async def _roll_back(tools: Tools, due: Due, repo: Repo, rev: str) -> Outcome:
    """The PDS was restored from an older copy, or the repository begun anew: revs count again from there."""
    await tools.database.write(
        lambda tx: repos.raise_epoch(tx, repo.actor, repo.epoch, "the PDS went back", tools.clock.now_us())
    )
    log.warning("rollback_found", did=due.did, rev=rev, base_rev=repo.base_rev, seen_rev=repo.seen_rev)
    return "again"


async def _acquit(tools: Tools, repo: Repo, rev: str) -> bool:
    """Whether nothing has been written since the certificate, so that nothing can be missing."""

    def write(tx: Transaction) -> bool:
        now_us = tools.clock.now_us()
        if not repos.confirm_rev(tx, repo.actor, repo.epoch, repo.state, rev, now_us):
            return False
        audits.judged(tx, repo.actor, "rev", "equal", rev, now_us + audits.PERIOD_US["rev"], now_us)
        crash_points.reach("verdict-before-commit")
        return True

    return await tools.database.write(write)


async def _later(step: _Step, error: ApplianceError) -> None:
    """Note the failure and when to try again. Progress made in this attempt wipes out earlier failures."""
    tools = step.tools

    def write(tx: Transaction) -> int | None:
        repo = repos.find(tx, step.due.actor)
        if repo is None:
            return None
        attempts = 1 if step.progressed else repo.attempts + 1
        now_us = tools.clock.now_us()
        next_us = retries.next_us(now_us, error, attempts, tools.rng)
        reason = retries.reason_of(error)
        if not repos.wait(tx, repo.actor, repo.epoch, reason, attempts, next_us, now_us):
            repos.put_off(tx, repo.actor, repo.epoch, attempts, next_us)
        return next_us

    next_us = await tools.database.write(write)
    log.info("backfill_waits", did=step.due.did, reason=retries.reason_of(error), next_us=next_us)
