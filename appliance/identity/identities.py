"""DIDs and handles, looked up once and kept: documents from the directory or the domain, handles both ways.

https://atproto.com/specs/did, https://atproto.com/specs/handle
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote, unquote

from cachetools import TTLCache

from appliance import telemetry
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, NotFound, Unavailable
from appliance.identity import handles
from appliance.outbound.client import Outbound
from appliance.outbound.limits import DID_WEB, PLC
from appliance.protocol import did_document
from appliance.protocol.syntax import is_did, is_handle, normalise_did, normalise_handle
from appliance.store import actors
from appliance.store import identities as rows
from appliance.store.database import OWN_FAULTS, Database, Transaction

log = telemetry.Log("identity")
LOOKUPS = telemetry.counter("identity_lookups", "DID documents asked for.", ["outcome"])

GOOD_FOR_S = 24 * 3600.0
FORCED_EVERY_S = 60.0
UNKNOWN_FOR_S = 30.0
UNKNOWN_MAX = 20_000
HANDLE_FOR_S = 300.0
HANDLES_ASKED_MAX = 64
DUE_AT_ONCE = 200
DUE_PARALLEL = 8
RETRY_S = 300.0
CLAIM_S = 120.0
POLL_S = 1.0
# Events may be lost: who is tracked is read again daily, a few at a time.
RECHECK_EVERY_S = 60.0
RECHECK_AT_ONCE = 60
RECHECK_RETRY_S = 3600.0

Moved = Callable[[Transaction, int], None]


class Identity(NamedTuple):
    """Who a DID is. ``handle`` is confirmed both ways, else None; ``pds`` is an origin."""

    did: str
    handle: str | None
    pds: str | None
    signing_key: str | None


class Identities:
    """The look-ups of the whole process. ``moved`` runs in the writer when a known account's server or
    key turns out to have changed."""

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        settings: Settings,
        clock: Clock,
        *,
        moved: Moved | None = None,
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._settings = settings
        self._clock = clock
        self._moved = moved
        self._running: dict[str, asyncio.Task[did_document.Identity]] = {}
        self._unknown: TTLCache[str, ApplianceError] = TTLCache(
            UNKNOWN_MAX, UNKNOWN_FOR_S, timer=clock.monotonic_s
        )
        self._documents: TTLCache[str, did_document.Identity] = TTLCache(
            UNKNOWN_MAX, FORCED_EVERY_S, timer=clock.monotonic_s
        )
        self._handles: TTLCache[str, str] = TTLCache(UNKNOWN_MAX, HANDLE_FOR_S, timer=clock.monotonic_s)
        self._nobody: TTLCache[str, None] = TTLCache(UNKNOWN_MAX, UNKNOWN_FOR_S, timer=clock.monotonic_s)
        self._asking: dict[str, asyncio.Task[str | None]] = {}
        self._wake = asyncio.Event()
        # Tracked accounts whose document could not be read again; it is tried later.
        self._not_now: TTLCache[str, None] = TTLCache(UNKNOWN_MAX, RECHECK_RETRY_S, timer=clock.monotonic_s)
        self._recheck_s = clock.monotonic_s() + RECHECK_EVERY_S

    async def get(self, did: str, *, max_age_s: float = GOOD_FOR_S) -> Identity:
        """Who this is, from a document of at most that age.

        Raises NotFound for a DID that does not exist, BadInput for what is none, Unavailable when nobody
        answers.
        """
        known = await self._database.read(lambda r: rows.find(r, did))
        if known is not None and known.resolved_us is not None and known.pds is not None:
            age_s = (self._clock.now_us() - known.resolved_us) / 1e6
            if known.resolved_us > 0 and age_s < max_age_s:
                return Identity(known.did, known.handle, known.pds, known.signing_key)
        return await self.refresh(did)

    async def refresh(self, did: str) -> Identity:
        """The same from a document asked for now, or within the last minute."""
        await self.document(did)
        known = await self._database.read(lambda r: rows.find(r, did))
        assert known is not None
        return Identity(known.did, known.handle, known.pds, known.signing_key)

    async def last_known(self, did: str) -> Identity | None:
        """By the last document that was read, however old; None for one never read. Asks nobody."""
        known = await self._database.read(lambda r: rows.find(r, did))
        if known is None or (known.pds is None and known.signing_key is None):
            return None
        return Identity(known.did, known.handle, known.pds, known.signing_key)

    async def document(self, did: str) -> did_document.Identity:
        """What the DID document says, services and keys included; asked for at most once a minute."""
        did = normalise_did(did)
        found = self._documents.get(did)
        if found is not None:
            return found
        refused = self._unknown.get(did)
        if refused is not None:
            raise refused
        task = self._running.get(did)
        if task is None:
            task = asyncio.create_task(self._fetch_and_keep(did))
            self._running[did] = task
            task.add_done_callback(lambda done: self._end(did, done))
        return await asyncio.shield(task)

    async def key_of(self, did: str, key_id: str, fresh: bool) -> str | None:
        """The did:key under that id in the document, None when there is none."""
        if not fresh and key_id in ("#atproto", "atproto"):
            try:
                return (await self.get(did)).signing_key
            except NotFound:
                return None
        try:
            return (await self.document(did)).keys.get(key_id.removeprefix("#"))
        except NotFound:
            return None

    async def resolve_handle(self, handle: str) -> str | None:
        """The DID that the handle points at, asked now; None when there is none. Raises Unavailable."""
        handle = normalise_handle(handle)
        if not is_handle(handle):
            return None
        return await handles.resolve(self._outbound, self._settings, handle)

    async def find_handle(self, handle: str, *, within_s: float) -> str | None:
        """The same for whoever may ask anything: from memory if asked lately, else within that time.

        None also while nobody answers, or when too many handles are being asked for already. Nothing
        is to be trusted to it: a handle that has changed hands is found out minutes later.
        """
        if not is_handle(handle):
            return None
        handle = normalise_handle(handle)
        if handle in self._nobody:
            return None
        found = self._handles.get(handle)
        if found is not None:
            return found
        task = self._asking.get(handle)
        if task is None:
            if len(self._asking) >= HANDLES_ASKED_MAX:
                return None
            task = self._asking[handle] = asyncio.create_task(self._ask_and_remember(handle))
        # Whoever does not wait to the end leaves the answer for the next one.
        done, _ = await asyncio.wait([task], timeout=within_s)
        return task.result() if done else None

    async def _ask_and_remember(self, handle: str) -> str | None:
        try:
            did = await self.resolve_handle(handle)
        except (Unavailable, BadInput):
            did = None
        finally:
            self._asking.pop(handle, None)
        if did is None:
            self._nobody[handle] = None
        else:
            self._handles[handle] = did
        return did

    async def lookup(self, did_or_handle: str) -> Identity:
        """Either kind of name. Raises as ``get``."""
        if is_did(did_or_handle):
            return await self.get(did_or_handle)
        did = await self.resolve_handle(did_or_handle)
        if did is None:
            raise NotFound("Unable to resolve handle")
        return await self.get(did)

    def forget(self, did: str) -> None:
        """The document may have changed: the next look-up asks."""
        self._documents.pop(did, None)
        self._unknown.pop(did, None)

    def wake(self) -> None:
        """Some accounts became due."""
        self._wake.set()

    async def run(self) -> None:
        """Read the documents of accounts that are due, and of tracked ones once a day, for ever."""
        while True:
            self._wake.clear()
            await self._recheck()
            due = await self._database.read(lambda r: rows.due(r, self._clock.now_us(), DUE_AT_ONCE))
            waiting = list(due)

            async def worker() -> None:
                while waiting:  # noqa: B023 - the list of this round
                    await self._read_due(waiting.pop())  # noqa: B023

            async with asyncio.TaskGroup() as group:
                for _ in range(DUE_PARALLEL):
                    group.create_task(worker())
            if not due:
                await _either(self._wake.wait(), self._clock.sleep(POLL_S))

    async def _recheck(self) -> None:
        """Read documents that are a day old and confirm their handles, though no event told of a change."""
        if self._clock.monotonic_s() < self._recheck_s:
            return
        self._recheck_s = self._clock.monotonic_s() + RECHECK_EVERY_S
        before_us = self._clock.now_us() - round(GOOD_FOR_S * 1e6)
        without = list(self._not_now)
        waiting = await self._database.read(lambda r: rows.stale(r, before_us, without, RECHECK_AT_ONCE))

        async def worker() -> None:
            while waiting:
                did = waiting.pop()
                self.forget(did)
                try:
                    await self.document(did)
                except ApplianceError as error:
                    self._not_now[did] = None
                    log.info("identity_put_off", did=did, error=error)

        async with asyncio.TaskGroup() as group:
            for _ in range(DUE_PARALLEL):
                group.create_task(worker())

    async def _read_due(self, did: str) -> None:
        self.forget(did)
        try:
            await self.document(did)
        except ApplianceError as error:
            if error.name in OWN_FAULTS:
                raise  # our own disk refuses: that says nothing about them
            log.info("identity_put_off", did=did, error=error)
            wait_s = RETRY_S if isinstance(error, Unavailable) else GOOD_FOR_S
            until_us = self._clock.now_us() + round(wait_s * 1e6)
            await self._database.write(lambda tx: rows.put_off(tx, did, until_us))

    def _end(self, did: str, done: asyncio.Task[did_document.Identity]) -> None:
        self._running.pop(did, None)
        if not done.cancelled():
            # Whoever asked may be gone; then nobody else takes note of the failure.
            done.exception()

    async def _fetch_and_keep(self, did: str) -> did_document.Identity:
        claimed_until_us = self._clock.now_us() + round(CLAIM_S * 1e6)
        await self._database.write(lambda tx: rows.claim(tx, did, claimed_until_us))
        try:
            document = await self._fetch(did)
        except (NotFound, BadInput) as error:
            LOOKUPS.labels(error.name).inc()
            self._unknown[did] = error
            raise
        except Unavailable:
            LOOKUPS.labels("unavailable").inc()
            raise
        LOOKUPS.labels("found").inc()
        handle = await self._confirmed(document)
        now_us = self._clock.now_us()

        def keep(tx: Transaction) -> None:
            before = rows.find(tx, did)
            actor = actors.ensure(tx, did)
            rows.save(
                tx,
                actor,
                handle=handle,
                pds=document.pds,
                signing_key=document.signing_key,
                resolved_us=now_us,
                claimed=before is not None,
            )
            changed = before is not None and (
                (before.pds is not None and before.pds != document.pds)
                or (before.signing_key is not None and before.signing_key != document.signing_key)
            )
            if changed and self._moved is not None:
                self._moved(tx, actor)

        await self._database.write(keep)
        self._documents[did] = document
        return document

    async def _confirmed(self, document: did_document.Identity) -> str | None:
        """The document's first handle, if it points back."""
        if not document.handles:
            return None
        handle = document.handles[0]
        try:
            back = await handles.resolve(self._outbound, self._settings, handle)
        except Unavailable:
            known = await self._database.read(lambda r: rows.find(r, document.did))
            # Nobody answers: what was confirmed before stays.
            return handle if known is not None and known.handle == handle else None
        return handle if back == document.did else None

    async def _fetch(self, did: str) -> did_document.Identity:
        if did.startswith("did:plc:"):
            url, limits = f"{self._settings.plc_url.rstrip('/')}/{did}", PLC
        elif did.startswith("did:web:"):
            host = unquote(did.removeprefix("did:web:"))
            local = self._settings.allow_loopback and host.partition(":")[0] == "localhost"
            url = f"{'http' if local else 'https'}://{quote(host, safe=':.-')}/.well-known/did.json"
            limits = PLC if local else DID_WEB
        else:
            raise BadInput("this kind of DID is not supported", name="InvalidDid")
        answer = await self._outbound.get(url, limits=limits)
        if answer.status in (404, 410):
            raise NotFound("this DID does not exist", name="DidNotFound")
        if answer.status != 200:
            raise Unavailable("the DID document could not be read")
        return did_document.parse(answer.body, did)


async def _either(*waits: Awaitable[object]) -> None:
    """Return when the first of them does; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
