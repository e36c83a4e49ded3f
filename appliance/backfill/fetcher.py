"""Strangers' records and profiles that a timeline shows: fetched one by one, asked for through a table."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from typing import Final
from weakref import WeakValueDictionary

from cachetools import TTLCache

from appliance import telemetry
from appliance.backfill import retries
from appliance.backfill.pds import GONE, Dialects, Listed, NotOffered, Pds, PdsError
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Corrupt, NotFound, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest import accounts, snapshot
from appliance.ingest.merge import Rules
from appliance.outbound.client import Outbound
from appliance.store import actors, collections, fetches
from appliance.store.database import OWN_FAULTS, Database, Reader, Transaction
from appliance.store.fetches import Wanted

log = telemetry.Log("fetcher")
FETCHES = telemetry.counter("fetches", "Strangers' records and profiles asked for.", ["kind", "outcome"])
FAILED = telemetry.counter("fetch_failures", "Fetches that ended in a way that nobody foresaw.")

POLL_S: Final = 0.5
AT_ONCE: Final = 16
UNPLACED_MAX: Final = 6
ATTEMPTS_MAX: Final = 8
SWEEP_ROWS: Final = 500
# Older replies and quotes are completed when somebody looks at them.
RECENT_MS: Final = 7 * 86_400_000
WANTED_MAX: Final = 5000
# Pages are looked at again and again; what was asked for once stays asked for.
ASKED_FOR_S: Final = 600.0
ASKED_MAX: Final = 50_000
PROFILE: Final = "app.bsky.actor.profile"
AFTER_FAILURE_S: Final = 60.0
AFTER_REFUSAL_S: Final = 2.0

Key = tuple[fetches.Kind, int]


class Fetcher:
    """Works through what is wanted, the most urgent first. ``run`` lasts until it is cancelled."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        identities: Identities,
        settings: Settings,
        clock: Clock,
        rules: Rules,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._identities = identities
        self._settings = settings
        self._clock = clock
        self._rules = rules
        # Only spreads waits; nothing depends on it being unguessable.
        self._rng = rng or random.Random()  # noqa: S311
        self._dialects = Dialects(clock.monotonic_s)
        self._hosts = retries.Hosts(self._rng)
        self._running: dict[Key, Wanted] = {}
        self._resting: dict[Key, float] = {}
        self._asked: set[Key] = set()
        # What was asked for lately, and whether it has ended or waits for its next attempt.
        self._lately: TTLCache[Key, bool] = TTLCache(ASKED_MAX, ASKED_FOR_S, timer=clock.monotonic_s)
        self._ends: WeakValueDictionary[Key, asyncio.Future[None]] = WeakValueDictionary()
        self._wake = asyncio.Event()

    def want(self, records: Iterable[int] = (), people: Iterable[int] = ()) -> None:
        """Somebody looks at a page that lacks these (ids of records and actors): fetch them first.

        Returns at once. Beyond a few thousand at a time more are forgotten: the next look asks again.
        """
        for key in _keys(records, people):
            if key not in self._lately and len(self._asked) < WANTED_MAX:
                self._lately[key] = False
                self._asked.add(key)
                self._wake.set()

    async def fetched(
        self, records: Iterable[int] = (), people: Iterable[int] = (), *, within_s: float
    ) -> bool:
        """As ``want``, and wait so long for them; True when something has come of it.

        Not waited for is what ended a little while ago: it is here, or would not come now either.
        """
        records, people = tuple(records), tuple(people)
        waiting = []
        for key in _keys(records, people):
            if self._lately.get(key):
                continue
            end = self._ends.get(key)
            if end is None:
                end = self._ends[key] = asyncio.get_running_loop().create_future()
            waiting.append(end)
        self.want(records, people)
        if not waiting or within_s <= 0:
            return False
        done, _ = await asyncio.wait(waiting, timeout=within_s)
        return bool(done)

    def wake(self) -> None:
        """There may be something to do: look now, not at the next poll."""
        self._wake.set()

    async def server(self, did: str) -> Pds:
        """Where that account lives. Raises as ``Identities.get``, and Unavailable for a host that rests."""
        identity = await self._identities.get(did)
        if identity.pds is None:
            raise NotFound("the DID document names no PDS")
        if identity.pds in self._hosts.resting(self._clock.monotonic_s()):
            raise Unavailable("the host rests after failures", retry_after_s=retries.HOST_PAUSE_MIN_S)
        return Pds(self._outbound, identity.pds, self._dialects.of(identity.pds))

    async def run(self) -> None:
        """Find what newly arrived items lack, and fetch what is due; for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                await self._note_asked()
                more = await self._sweep()
                await self._start_due(group)
                if not more:
                    await self._sleep()

    async def _note_asked(self) -> None:
        if not self._asked:
            return
        asked, self._asked = self._asked, set()
        now_us = self._clock.now_us()

        def note(tx: Transaction) -> list[Key]:
            for kind, target in asked:
                fetches.want(tx, kind, target, fetches.NOW + now_us // 1_000_000, now_us)
            return [key for key in asked if not fetches.is_open(tx, *key)]

        for key in await self._database.write(note):
            self._settle(key)

    def _settle(self, key: Key) -> None:
        """Nothing more will come of it for a while."""
        if key in self._lately:
            self._lately[key] = True
        end = self._ends.pop(key, None)
        if end is not None and not end.done():
            end.set_result(None)

    async def _sweep(self) -> bool:
        now_us = self._clock.now_us()
        recent_ms = now_us // 1000 - RECENT_MS
        return await self._database.write(lambda tx: fetches.sweep(tx, recent_ms, now_us, SWEEP_ROWS))

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        if len(self._running) >= AT_ONCE:
            return
        now_s = self._clock.monotonic_s()
        now_us = self._clock.now_us()
        self._resting = {key: until for key, until in self._resting.items() if until > now_s}
        per_host = Counter(wanted.pds for wanted in self._running.values())
        full = [
            host for host, n in per_host.items() if host is not None and n >= self._settings.outbound_per_host
        ]
        busy = [*full, *self._hosts.resting(now_s)]
        for wanted in await self._database.read(lambda r: fetches.due(r, now_us, 4 * AT_ONCE, busy)):
            most = UNPLACED_MAX if wanted.pds is None else self._settings.outbound_per_host
            key = (wanted.kind, wanted.target)
            if key in self._running or key in self._resting or per_host[wanted.pds] >= most:
                continue
            if len(self._running) >= AT_ONCE:
                break
            per_host[wanted.pds] += 1
            self._running[key] = wanted
            group.create_task(self._work(wanted), name=f"fetch {wanted.did}")

    async def _work(self, wanted: Wanted) -> None:
        key = (wanted.kind, wanted.target)
        outcome = "failed"
        try:
            outcome = await self._fetch(wanted)
        except Corrupt:
            raise
        except Unavailable as error:
            # Our own disk refuses: nobody else is to blame, and soon there may be room.
            log.warning("fetch_not_stored", did=wanted.did, error=error)
            self._resting[key] = self._clock.monotonic_s() + AFTER_REFUSAL_S
        except Exception as error:  # noqa: BLE001 - one fetch: it is counted and tried again, the others go on
            FAILED.inc()
            log.error("fetch_failed", did=wanted.did, error=error, trace=error)
            self._resting[key] = self._clock.monotonic_s() + AFTER_FAILURE_S
        finally:
            FETCHES.labels(wanted.kind, outcome).inc()
            del self._running[key]
            if outcome != "placed":
                self._settle(key)
            self._wake.set()

    async def _fetch(self, wanted: Wanted) -> str:
        pds: Pds | None = None
        try:
            identity = await self._identities.get(wanted.did)
            if identity.pds is None:
                raise NotFound("the DID document names no PDS")
            if identity.pds != wanted.pds:
                # It was started in the place of another host, or of none: it has to queue for its own.
                return "placed"
            pds = Pds(self._outbound, identity.pds, self._dialects.of(identity.pds))
            collection, rkey = wanted.collection or PROFILE, wanted.rkey or "self"
            outcome = await self._take(wanted, pds, collection, rkey)
        except (Unavailable, BadInput) as error:
            if error.name in OWN_FAULTS:
                raise
            if pds is not None and isinstance(error, Unavailable):
                self._hosts.failed(pds.origin, self._clock.monotonic_s(), error.retry_after_s)
            return await self._later(wanted, error)
        except NotFound:
            # No such DID, or it is nowhere: nothing of it can be shown.
            await self._close(wanted, "gone")
            return "gone"
        self._hosts.answered(pds.origin)
        return outcome

    async def _take(self, wanted: Wanted, pds: Pds, collection: str, rkey: str) -> str:
        try:
            row = await pds.record(wanted.did, collection, rkey)
        except NotOffered:
            await self._close(wanted, "refused")
            return "refused"
        except PdsError as error:
            return await self._refused(wanted, pds, collection, rkey, error)
        await self._store(wanted, collection, rkey, row)
        return "found"

    async def _refused(self, wanted: Wanted, pds: Pds, collection: str, rkey: str, error: PdsError) -> str:
        """There is no such record, or the whole account is not to be had: only its status tells."""
        status: str | None
        word = await self._database.read(lambda reader: _last_word(reader, wanted.did))
        try:
            status = (await pds.status(wanted.did)).status
        except NotOffered:
            status = None
        except PdsError as told:
            if told.name not in GONE:
                raise Unavailable(told.message) from told
            status = "deleted"
        if status is None:
            if error.name not in ("RecordNotFound", "InvalidRequest", "NotFound"):
                raise Unavailable(error.message) from error
            await self._store(wanted, collection, rkey, None)
            return "gone"

        def aside(tx: Transaction) -> None:
            actor = actors.ensure(tx, wanted.did)
            if actors.last_word(tx, actor) != word:
                raise Unavailable("the account has changed while its server was asked")
            accounts.status_found(tx, actor, status, self._clock.now_us())
            fetches.close(tx, wanted.kind, wanted.target, "gone" if status == "deleted" else "refused")

        await self._database.write(aside)
        return "refused"

    async def _store(self, wanted: Wanted, collection: str, rkey: str, row: Listed | None) -> None:
        """The record as it is now, or that it isn't there."""

        def store(tx: Transaction) -> None:
            now_us = self._clock.now_us()
            actor = actors.ensure(tx, wanted.did, now_us)
            snapshot.fetched_row(
                tx,
                self._rules,
                actor,
                collections.NUMBERS[collection],
                rkey,
                row.cid if row else None,
                row.body if row else None,
                now_us,
            )
            if wanted.kind == "record" and row is None:
                fetches.close(tx, wanted.kind, wanted.target, "gone")
                return
            fetches.done(tx, wanted.kind, wanted.target)
            if wanted.kind == "record":
                fetches.want_profile(tx, actor, wanted.priority, now_us)

        await self._database.write(store)

    async def _close(self, wanted: Wanted, outcome: fetches.Outcome) -> None:
        await self._database.write(lambda tx: fetches.close(tx, wanted.kind, wanted.target, outcome))

    async def _later(self, wanted: Wanted, error: ApplianceError) -> str:
        attempts = wanted.attempts + 1
        if attempts >= ATTEMPTS_MAX:
            await self._close(wanted, "refused")
            log.info("fetch_given_up", did=wanted.did, error=error)
            return "refused"
        next_us = retries.next_us(self._clock.now_us(), error, attempts, self._rng)
        await self._database.write(
            lambda tx: fetches.postpone(tx, wanted.kind, wanted.target, attempts, next_us)
        )
        return "waits"

    async def _sleep(self) -> None:
        """Until woken, or for the time of a poll."""
        woken = asyncio.ensure_future(self._wake.wait())
        passed = asyncio.ensure_future(self._clock.sleep(POLL_S))
        try:
            await asyncio.wait({woken, passed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            passed.cancel()


def _keys(records: Iterable[int], people: Iterable[int]) -> list[Key]:
    return [*(("record", i) for i in records), *(("actor", i) for i in people)]


def _last_word(reader: Reader, did: str) -> actors.Word:
    actor = actors.find_id(reader, did)
    return actors.Word(None, 0) if actor is None else actors.last_word(reader, actor)
