"""The long task that has every LIVE account compared with its own PDS in time.

The rev every 6 hours, the newest page when the rev leaves it open, all of it weekly, the signed tree
monthly and of one in a hundred each day. What somebody is reading now comes first; a host that no stream
shows is read every 10 minutes. A SUSPECT account is backfill's, but for the revs that a host lists at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from appliance import telemetry
from appliance.backfill import revs
from appliance.backfill.audit import Auditor
from appliance.backfill.pds import NotOffered, Pds
from appliance.backfill.tools import Tools, log
from appliance.backfill.verdicts import Compared
from appliance.errors import ApplianceError, Corrupt, Unavailable
from appliance.ingest import losses
from appliance.store import audits, findings, repos
from appliance.store.audits import DAY_US, HOUR_US, NEVER_US, PERIOD_US, Due, Level, Outcome
from appliance.store.database import Reader, Transaction

WAITING = telemetry.gauge("audit_due", "Accounts whose comparison is due now.", ["level"])
OVERDUE = telemetry.gauge("audit_overdue", "Accounts whose comparison is long overdue.", ["level"])
RECENT = telemetry.gauge("audit_runs_day", "Accounts compared in the last 24 hours.", ["level"])
CANARY = telemetry.gauge(
    "canary_seen", "Whether the stream shows those who are known to post; -1 while nobody is."
)
DARK = telemetry.gauge("dark_hosts", "Servers of whose accounts no stream shows anything.")
FAILED = telemetry.counter("audit_failures", "Audits that ended in a way that nobody foresaw.")

# To look costs a reader 50 ms with ten thousand accounts.
POLL_S: Final = 15.0
REST_PER_LOOK: Final = 4.0
REST_MAX_S: Final = 1.0
SPREAD: Final = 0.1
# Backfill has the rest of the places: an audit can wait, a new account shall not.
PLACES_PART: Final = 4
PER_HOST: Final = 1
# From so many on a host's list of repositories is tried.
LIST_FROM: Final = 10
# Who was not found in it is looked at one by one, before the list is asked for again.
LIST_AGAIN_S: Final = 300.0
# A host's list is compared with all of its accounts that would be due within this time.
SOON_US: Final = PERIOD_US["rev"] // 4

CHORES_EVERY_S: Final = 30.0
PLAN_EVERY_S: Final = 600.0
DARK_EVERY_S: Final = 600.0
CANARIES_EVERY_S: Final = 3600.0
DARK_AFTER_LOSS_US: Final = DAY_US
SIGNED_A_DAY: Final = 0.01

STALE_US: Final = 3 * HOUR_US
READERS_MAX: Final = 2000
READ_AGAIN_S: Final = 600.0

CANARIES_MAX: Final = 5
CANARY_POSTS_MIN: Final = 10
CANARY_PATIENCE: Final = 10

AGAIN_SOON_US: Final = 600_000_000
AFTER_FAILURE_US: Final = 1_200_000_000
# Whoever wrote while they were listed is listed again before the week is over, so that they get a digest.
DIGEST_AFTER_US: Final = 6 * HOUR_US


class Schedule:
    """Starts what is due, as far as places go. Forgets nothing: all it knows is in the database."""

    def __init__(
        self,
        auditor: Auditor,
        tools: Tools,
        *,
        canaries: Sequence[str] = (),
        canary_minutes: int = 60,
        signed_a_day: float = SIGNED_A_DAY,
    ) -> None:
        """``canaries`` are DIDs known to post; without any those who post most here are taken."""
        self._signed_a_day = signed_a_day
        self._auditor = auditor
        self._tools = tools
        self._canaries = tuple(canaries)
        self._canary_us = canary_minutes * 60_000_000
        self._running: dict[int, str | None] = {}
        self._listing: set[str] = set()
        self._listed_s: dict[str, float] = {}
        self._read: set[str] = set()
        self._read_at_s: dict[str, float] = {}
        self._next_s: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._sleeping = False

    def opened(self, did: str) -> None:
        """This member reads their timeline now. Cheap: only remembered, a few minutes at most."""
        now_s = self._tools.clock.monotonic_s()
        if len(self._read_at_s) >= READERS_MAX:
            self._read_at_s.clear()
        if now_s - self._read_at_s.get(did, float("-inf")) >= READ_AGAIN_S:
            self._read_at_s[did] = now_s
            self._read.add(did)

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._flush_read()
                await self._chores()
                # Real time, whatever the clock says: looking among ten thousand costs a reader.
                began_s = loop.time()
                await self._start_lists(group)
                await self._start_due(group)
                rest_s = min((loop.time() - began_s) * REST_PER_LOOK, REST_MAX_S)
                self._sleeping = True
                await self._sleep()
                await self._tools.clock.sleep(rest_s)
                self._sleeping = False

    @property
    def busy(self) -> bool:
        """Whether anything is being compared, or looked for, right now."""
        return bool(self._running or self._listing or not self._sleeping)

    # ---------------------------------------------------------------- what is started

    @property
    def _places(self) -> int:
        taken = len(self._running) + len(self._listing)
        return max(self._tools.settings.outbound_total // PLACES_PART, 1) - taken

    async def _start_lists(self, group: asyncio.TaskGroup) -> None:
        now_us = self._tools.clock.now_us()
        soon_us = now_us + SOON_US
        now_s = self._tools.clock.monotonic_s()
        self._listed_s = {one: at_s for one, at_s in self._listed_s.items() if now_s - at_s < LIST_AGAIN_S}
        resting = {*self._tools.hosts.resting(now_s), *self._listed_s, *self._listing}
        for origin, _ in await self._tools.database.read(
            lambda r: audits.many_on_one_host(r, now_us, soon_us, LIST_FROM)
        ):
            if self._places <= 0:
                break
            if origin in resting or self._tools.dialects.of(origin).many_repos:
                continue
            self._listed_s[origin] = now_s
            self._listing.add(origin)
            group.create_task(self._list(origin), name=f"audit {origin}")

    async def _list(self, origin: str) -> None:
        tools = self._tools
        pds = Pds(tools.outbound, origin, tools.dialects.of(origin))
        now_us = tools.clock.now_us()
        soon_us = now_us + SOON_US
        try:
            accounts = await tools.database.read(lambda r: audits.on_host(r, origin, soon_us, now_us))
            number = await revs.compare_listed(tools, pds, accounts, SPREAD)
            log.info("revs_listed", host=pds.host, accounts=len(accounts), decided=number)
        except NotOffered:
            pds.dialect.many_repos = True
        except Corrupt:
            raise
        except ApplianceError as error:
            pds.dialect.many_repos = True
            if isinstance(error, Unavailable):
                tools.hosts.failed(origin, tools.clock.monotonic_s(), error.retry_after_s)
            log.info("revs_not_listed", host=pds.host, error=error)
        finally:
            self._listing.discard(origin)
            self._wake.set()

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        places = self._places
        if places <= 0:
            return
        tools = self._tools
        now_us = tools.clock.now_us()
        on_hosts = [origin for origin in self._running.values() if origin is not None]
        busy = [*tools.hosts.resting(tools.clock.monotonic_s()), *on_hosts, *self._listing]
        actors = list(self._running)
        for due in await tools.database.read(lambda r: audits.due(r, now_us, busy, actors, PER_HOST, places)):
            if due.actor not in self._running:
                self._running[due.actor] = due.pds
                group.create_task(self._work(due), name=f"audit {due.did}")

    async def _work(self, due: Due) -> None:
        try:
            await self._auditor.run_one(due, self.next_us)
        except Corrupt:
            raise
        except Exception as error:  # noqa: BLE001 - one audit: it is counted and due again, the others go on
            FAILED.inc()
            log.error("audit_broke", did=due.did, level=due.level, error=error, trace=error)
            again_us = self._tools.clock.now_us() + AFTER_FAILURE_US
            await self._tools.database.write(
                lambda tx: audits.judged(tx, due.actor, due.level, "failed", None, again_us, again_us)
            )
        finally:
            del self._running[due.actor]
            self._wake.set()

    def next_us(self, level: Level, outcome: Outcome, found: Compared | None) -> int:
        """When it is due again, by how it went."""
        rng = self._tools.rng
        pause_us = PERIOD_US[level]
        if outcome == "failed":
            pause_us = AFTER_FAILURE_US
        elif level == "tail" and outcome != "undecided":
            # The next time is given when the rev asks for it; a member's follows are read every day.
            return NEVER_US
        elif level != "rev" and outcome == "undecided":
            pause_us = AGAIN_SOON_US
        elif level == "listing" and found is not None and not found.theirs.exact:
            pause_us = DIGEST_AFTER_US
        return self._tools.clock.now_us() + round(pause_us * rng.uniform(1 - SPREAD, 1 + SPREAD))

    # ---------------------------------------------------------------- chores

    async def _flush_read(self) -> None:
        if not self._read:
            return
        readers, self._read = self._read, set()
        now_us = self._tools.clock.now_us()
        lifted = await self._tools.database.write(
            lambda tx: audits.lift_read(tx, readers, now_us - STALE_US, repos.READ_PRIORITY, now_us)
        )
        log.debug("timelines_read", readers=len(readers), lifted=lifted)

    def _is_time(self, chore: str, every_s: float) -> bool:
        now_s = self._tools.clock.monotonic_s()
        if now_s < self._next_s.get(chore, 0.0):
            return False
        self._next_s[chore] = now_s + every_s
        return True

    async def _chores(self) -> None:
        if not self._is_time("chores", CHORES_EVERY_S):
            return
        database, now_us = self._tools.database, self._tools.clock.now_us()
        if self._is_time("plan", PLAN_EVERY_S):
            await database.write(lambda tx: audits.plan(tx, now_us))
        if self._is_time("signed", CANARIES_EVERY_S):
            part = self._signed_a_day * CANARIES_EVERY_S * 1e6 / DAY_US
            await database.write(lambda tx: audits.draw(tx, "signed", part, now_us))
        if self._is_time("dark", DARK_EVERY_S):
            await self._read_dark(now_us)
        if self._is_time("canaries", CANARIES_EVERY_S):
            await self._choose_canaries(now_us)
        told_us = await self._tools.told_until_us()
        if await database.read(findings.any_in_flight):

            def lost(tx: Transaction) -> None:
                losses.tell(tx, findings.no_more_in_flight(tx, told_us))

            await database.write(lost)
        await self._tell(now_us)

    async def _read_dark(self, now_us: int) -> None:
        """The newest pages of those of whom no stream shows anything."""

        def find(reader: Reader) -> tuple[int, list[int]]:
            hosts = findings.dark_hosts(reader, now_us - DARK_AFTER_LOSS_US)
            return len(hosts), [actor for pds in hosts for actor in findings.live_on(reader, pds)]

        number, actors = await self._tools.database.read(find)
        DARK.set(number)
        if actors:
            log.warning("hosts_dark", hosts=number, accounts=len(actors))
            await self._tools.database.write(lambda tx: audits.hasten(tx, actors, "tail", now_us))

    async def _choose_canaries(self, now_us: int) -> None:
        if self._canaries:
            chosen = dict.fromkeys(self._canaries, self._canary_us)
        else:
            since_ms = (now_us - DAY_US) // 1000
            found = await self._tools.database.read(lambda r: audits.busiest(r, since_ms, CANARIES_MAX))
            chosen = {
                did: max(self._canary_us, CANARY_PATIENCE * DAY_US // number)
                for did, number in found
                if number >= CANARY_POSTS_MIN
            }
        await self._tools.database.write(lambda tx: audits.set_canaries(tx, chosen))

    async def _tell(self, now_us: int) -> None:
        health = await self._tools.database.read(lambda r: audits.health(r, now_us))
        for level, one in health.levels.items():
            WAITING.labels(level).set(one.due)
            OVERDUE.labels(level).set(one.overdue)
            RECENT.labels(level).set(one.run)
        CANARY.set(-1 if health.canary_seen is None else health.canary_seen)
        if health.canary_seen is False and self._is_time("canary alarm", CANARIES_EVERY_S):
            dids = [canary.did for canary in health.canaries]
            log.error("canary_silent", dids=dids)
            # Whether they were silent or the stream is, their own servers know.
            await self._tools.database.write(lambda tx: audits.hasten_dids(tx, dids, "rev", now_us))
        overdue = {level: one.overdue for level, one in health.levels.items() if one.overdue}
        if overdue and self._is_time("overdue alarm", CANARIES_EVERY_S):
            log.error("audits_overdue", levels=overdue)

    async def _sleep(self) -> None:
        """Until something has ended, or for the time of a poll."""
        woken = asyncio.ensure_future(self._wake.wait())
        passed = asyncio.ensure_future(self._tools.clock.sleep(POLL_S))
        try:
            await asyncio.wait({woken, passed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            passed.cancel()
        self._wake.clear()
