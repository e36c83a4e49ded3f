"""Comparing accounts with their own PDSs: one account at one level, and reports for who asks.

When each is due by itself is the matter of schedule.py, what a comparison proves that of verdicts.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

from appliance import crash_points, telemetry
from appliance.backfill import compare, job, verdicts
from appliance.backfill.listing import Disordered
from appliance.backfill.pds import NotOffered, Pds
from appliance.backfill.retries import HOST_PAUSE_MIN_S, reason_of
from appliance.backfill.tools import Overtaken, Tools, collections_of, log
from appliance.backfill.verdicts import Compared
from appliance.errors import ApplianceError, Corrupt, NotFound, Unavailable
from appliance.identity.identities import Identity
from appliance.ingest import losses
from appliance.store import actors, audits, backlog, collections, records, repos
from appliance.store.audits import Account, Level, Outcome
from appliance.store.backlog import Due
from appliance.store.database import Transaction
from appliance.store.repos import Repo

RUNS = telemetry.counter("audit_runs", "Comparisons with accounts' own servers.", ["level", "outcome"])

IDENTITY_GOOD_FOR_S: Final = 24 * 3600.0
# How long a report waits for the repair that it asked for.
REPAIR_WITHIN_S: Final = 1800.0
LOOK_EVERY_S: Final = 0.25
STEPS_MAX: Final = 100_000
_TO_READ: Final = ("QUEUED", "SCANNING", "SUSPECT")


class Report(NamedTuple):
    """One account beside its PDS. ``here`` and ``there`` count records as far as they were read.

    ``exact``: the repository was at the one rev ``rev`` while it was read. ``repaired`` of the differences
    are right by now. ``error`` is '' where the comparison could be made, and where there is nothing to
    compare: INACTIVE and GONE have no method.
    """

    did: str
    handle: str | None
    state: str
    here: int = 0
    there: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    rev: str = ""
    method: str = ""
    exact: bool = False
    repaired: int = 0
    error: str = ""


class Looked(NamedTuple):
    """What a look at the rev has decided, or what a comparison has found where it decided nothing."""

    repo: Repo
    rev: str
    said: str
    found: Compared | None


class Auditor:
    """Compares. Shares pacing, dialects and resting hosts with whoever else has the same tools.

    ``wake`` tells the worker that repairs; without it repairs are done here and now.
    """

    def __init__(self, tools: Tools, *, wake: Callable[[], None] | None = None) -> None:
        self._tools = tools
        self._wake = wake

    async def audit(
        self, dids: Sequence[str] | None, *, repair: bool, level: Level = "listing"
    ) -> AsyncIterator[Report]:
        """A report for each of these DIDs, or for every tracked account, as they come.

        Without ``repair`` nothing is written but the verdict. With it differences become findings and are
        repaired before the report, and what is proved is certified.
        """
        accounts = await self._tools.database.read(lambda r: audits.of_dids(r, dids))
        for did in set(dids or ()) - {account.did for account in accounts}:
            yield Report(did, None, "UNKNOWN", error="nobody here follows this account")
        waiting = iter(accounts)
        settings = self._tools.settings
        places = max(min(settings.outbound_total // 2, len(accounts)), 1)
        done: asyncio.Queue[Report | BaseException | None] = asyncio.Queue(places)

        async def work() -> None:
            try:
                for account in waiting:
                    await done.put(await self._report(account, level, repair=repair))
            except Exception as error:  # noqa: BLE001 - raised again where the reports are read
                await done.put(error)
            await done.put(None)

        tasks = [asyncio.create_task(work(), name="audit") for _ in range(places)]
        try:
            left = len(tasks)
            while left:
                report = await done.get()
                if isinstance(report, BaseException):
                    raise report
                if report is None:
                    left -= 1
                else:
                    yield report
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------- by itself

    async def run_one(
        self, due: audits.Due, next_us: Callable[[Level, Outcome, Compared | None], int]
    ) -> Outcome:
        """Compare an account that is due, write what that proves, and when it is due again."""
        account = Due(due.actor, due.did, due.pds, due.member, begun=False)
        level = due.level
        origin = due.pds
        looked: Looked | None = None
        outcome: Outcome
        try:
            looked = await self._look(account, level, write=True)
            outcome = await self._write(account, level, looked)
        except Overtaken:
            # Not LIVE any more: it is backfill's.
            outcome = "undecided"
        except ApplianceError as error:
            if isinstance(error, Corrupt) or error.name == "StorageFull":
                raise
            if origin is not None and isinstance(error, Unavailable):
                self._tools.hosts.failed(origin, self._tools.clock.monotonic_s(), error.retry_after_s)
            log.info("audit_failed", did=due.did, level=level, reason=reason_of(error))
            outcome, looked = "failed", None
        else:
            if origin is not None:
                self._tools.hosts.answered(origin)
        RUNS.labels(level, outcome).inc()
        found = None if looked is None else looked.found
        rev = None if looked is None else looked.rev
        due_us = next_us(level, outcome, found)

        def write(tx: Transaction) -> None:
            now_us = self._tools.clock.now_us()
            audits.judged(tx, due.actor, level, outcome, rev, due_us, now_us)
            if level == "tail" and found is not None and found.theirs.whole and outcome == "equal":
                # The newest page was all there is.
                again_us = next_us("listing", outcome, found)
                audits.judged(tx, due.actor, "listing", outcome, rev, again_us, now_us)

        await self._tools.database.write(write)
        return outcome

    async def _write(self, due: Due, level: Level, looked: Looked) -> Outcome:
        """What the look proves becomes rows, in one transaction."""

        def work(tx: Transaction) -> Outcome:
            now_us = self._tools.clock.now_us()
            said: Outcome
            if looked.found is not None:
                said = verdicts.conclude(tx, due, looked.repo, level, looked.found, now_us) or "undecided"
            else:
                said = by_rev(tx, looked.repo, looked.rev, now_us)
            crash_points.reach("verdict-before-commit")
            return said

        outcome = await self._tools.database.write(work)
        crash_points.reach("verdict-after-commit")
        if outcome == "differs" and self._wake is not None:
            self._wake()
        return outcome

    async def _look(self, due: Due, level: Level, *, write: bool) -> Looked:
        """Ask the PDS. ``write`` takes only what may be certified, and sets aside who is inactive there."""
        tools = self._tools
        identity, pds = await self._pds(due)

        def begin(tx: Transaction) -> tuple[Repo | None, actors.Word]:
            repo = repos.find(tx, due.actor)
            if repo is not None and job.is_auditable(repo) and write:
                repos.examine(tx, due.actor, repo.epoch)
            return repo, actors.last_word(tx, due.actor)

        repo, word = await tools.database.write(begin)
        if repo is None or (write and repo.state != "LIVE" and not job.is_auditable(repo)):
            raise Overtaken
        status = await verdicts.status_of(pds, due.did)
        if status.status is not None:
            if write:
                await self._set_aside(due, repo, status.status, pds, word)
                raise Overtaken
            raise NotFound(f"the PDS says that it is {status.status}")
        rev = await verdicts.latest_rev(tools, pds, due.did, status)
        said = verdicts.rev_says(repo, rev)
        if level == "rev" or said == "back":
            return Looked(repo, rev, said, None)
        try:
            found = await verdicts.compared(tools, due, repo, pds, identity, rev, level)
        except (Disordered, NotOffered):
            if level == "signed":
                raise
            found = await verdicts.compared(tools, due, repo, pds, identity, rev, "signed")
        return Looked(repo, rev, said, found)

    async def _pds(self, due: Due) -> tuple[Identity, Pds]:
        tools = self._tools
        identity = await tools.identities.get(due.did, max_age_s=IDENTITY_GOOD_FOR_S)
        if identity.pds is None:
            raise NotFound("the DID document names no PDS")
        if identity.pds in tools.hosts.resting(tools.clock.monotonic_s()):
            raise Unavailable("the host rests after failures", retry_after_s=HOST_PAUSE_MIN_S)
        return identity, Pds(tools.outbound, identity.pds, tools.dialects.of(identity.pds))

    async def _set_aside(self, due: Due, repo: Repo, status: str, pds: Pds, word: actors.Word) -> None:
        """Its PDS says that it is inactive; if it is still its PDS, backfill looks at it from now on."""
        tools = self._tools
        tools.identities.forget(due.did)
        if (await tools.identities.refresh(due.did)).pds != pds.origin:
            raise Unavailable("the account has moved")

        def write(tx: Transaction) -> None:
            if actors.last_word(tx, repo.actor) == word:
                repos.deactivate(tx, repo.actor, status, tools.clock.now_us())

        await tools.database.write(write)
        if self._wake is not None:
            self._wake()

    # ---------------------------------------------------------------- for who asks

    async def _report(self, account: Account, level: Level, *, repair: bool) -> Report:
        due = Due(account.actor, account.did, account.pds, account.member, begun=False)
        numbers = [collections.NUMBERS[nsid] for nsid in collections_of(due)]
        here = await self._tools.database.read(lambda r: records.living_count(r, account.actor, numbers))
        report = Report(account.did, account.handle, account.state, here)
        if account.state in ("INACTIVE", "GONE", "PRUNING"):
            return report
        try:
            looked = await self._look(due, level, write=False)
        except Overtaken:
            return report._replace(error="nobody follows it any more")
        except ApplianceError as error:
            if isinstance(error, Corrupt):
                raise
            return report._replace(error=reason_of(error))
        report = report._replace(rev=looked.rev, method=level)
        found = looked.found
        if found is None:
            return await self._report_rev(report, due, looked, repair=repair)
        kinds = [one.kind for one in found.differences]
        report = report._replace(
            here=found.here,
            there=found.theirs.number,
            missing=kinds.count("missing"),
            extra=kinds.count("extra"),
            differing=kinds.count("differs"),
            rev=found.theirs.began,
            method=found.theirs.method,
            exact=found.theirs.exact,
        )
        if not repair:
            outcome: Outcome = "equal" if not kinds else "differs" if found.told else "undecided"
            await self._judged(due, level, outcome, report.rev)
            return report
        return await self._repair(report, due, level, looked, found, numbers)

    async def _report_rev(self, report: Report, due: Due, looked: Looked, *, repair: bool) -> Report:
        outcome: Outcome = "equal" if looked.said == "equal" else "undecided"
        if repair:
            outcome = await self._tools.database.write(
                lambda tx: by_rev(tx, looked.repo, looked.rev, self._tools.clock.now_us())
            )
        await self._judged(due, "rev", outcome, looked.rev)
        if looked.said == "equal":
            return report._replace(there=report.here, exact=True)
        if looked.said == "back":
            return report._replace(error="data: the PDS names an older rev than is known here")
        return report._replace(error="undecided: written to since its certificate")

    async def _repair(
        self, report: Report, due: Due, level: Level, looked: Looked, found: Compared, numbers: list[int]
    ) -> Report:
        """Certify, or note what differs, have it read anew, and say what is right then."""

        def write(tx: Transaction) -> None:
            now_us = self._tools.clock.now_us()
            repo = repos.find(tx, due.actor)
            assert repo is not None
            if looked.repo.state == "LIVE" or job.is_auditable(looked.repo):
                verdict = (
                    verdicts.conclude(tx, due, looked.repo, level, found, now_us, at_once=True) or "undecided"
                )
            else:
                verdict = "differs" if found.differences else "equal"
                if found.told:
                    losses.met_by_audit(tx, due.actor, found.differences, level, report.rev, now_us)
                if repo.state == "SUSPECT":
                    repos.resync(tx, due.actor, repo.epoch, repo.reason, 0, now_us)
            audits.judged(tx, due.actor, level, verdict, report.rev, now_us + audits.PERIOD_US[level], now_us)

        await self._tools.database.write(write)
        error = await self._until_read(due.actor)

        def after(tx: Transaction) -> tuple[int, int, str]:
            left = compare.differences(tx, due.actor, looked.repo.epoch, found.theirs)
            repo = repos.find(tx, due.actor)
            state = "UNKNOWN" if repo is None else repo.state
            return len(left), records.living_count(tx, due.actor, numbers), state

        left, here, state = await self._tools.database.write(after)
        repaired = max(len(found.differences) - left, 0)
        return report._replace(here=here, repaired=repaired, state=state, error=error)

    async def _until_read(self, actor: int) -> str:
        """Wait for the scan that is asked for, or do it; '' when it has ended, else what is in the way."""
        tools = self._tools
        end_s = tools.clock.monotonic_s() + REPAIR_WITHIN_S
        for _ in range(STEPS_MAX):
            due, repo = await tools.database.read(lambda r: (backlog.due_of(r, actor), repos.find(r, actor)))
            if due is None or repo is None or repo.state not in (*_TO_READ, "WAIT"):
                return ""
            if repo.state == "WAIT":
                return repo.reason
            if self._wake is None:
                await job.work(tools, due)
            elif tools.clock.monotonic_s() > end_s:
                break
            else:
                self._wake()
                await tools.clock.sleep(LOOK_EVERY_S)
        return "the repair takes longer than is waited for"

    async def _judged(self, due: Due, level: Level, outcome: Outcome, rev: str) -> None:
        now_us = self._tools.clock.now_us()
        await self._tools.database.write(
            lambda tx: audits.judged(
                tx, due.actor, level, outcome, rev, now_us + audits.PERIOD_US[level], now_us
            )
        )


def by_rev(tx: Transaction, repo: Repo, rev: str, now_us: int) -> Outcome:
    """Write what the latest rev alone proves. Where it proves nothing the newest page is asked for, unless
    that was done at this very rev."""
    now = repos.find(tx, repo.actor)
    if now is None or (now.state, now.epoch) != (repo.state, repo.epoch):
        return "undecided"
    if repos.confirm_rev(tx, repo.actor, repo.epoch, repo.state, rev, now_us):
        return "equal"
    if verdicts.rev_says(now, rev) == "back":
        # What has arrived since the PDS was asked explains an older answer.
        if verdicts.rev_says(repo, rev) == "back":
            verdicts.regressed(tx, repo, now_us)
        return "undecided"
    if repo.state == "LIVE":
        last = audits.find(tx, repo.actor, "tail")
        if last is None or last.outcome != "equal" or last.rev != rev:
            audits.hasten(tx, [repo.actor], "tail", now_us)
    return "undecided"
