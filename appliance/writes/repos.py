"""The repository procedures of a member, sent to the PDS and applied here as soon as it has answered."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial
from typing import Any

import msgspec
import orjson

from appliance import crash_points, telemetry
from appliance.auth.pds_sessions import PdsSessions
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput, Corrupt, Refused, Unavailable
from appliance.ingest.apply import Applier
from appliance.outbound.client import Answer, NotSent
from appliance.outbound.limits import PDS_JSON, PDS_WRITE
from appliance.protocol import syntax
from appliance.protocol.events import CommitEvent
from appliance.protocol.tid import TidGenerator
from appliance.store import written
from appliance.store.database import Database
from appliance.store.sessions import Session
from appliance.store.written import Outcome
from appliance.writes import operations
from appliance.writes.operations import APPLY, CREATE, DELETE, Operation

log = telemetry.Log("writes")
WRITES = telemetry.counter(
    "writes", "Writes sent to members' PDSs, by procedure and outcome.", ["nsid", "outcome"]
)

BODY_MAX_BYTES = 2_000_000
LOOK_AFTER_S = (0.5, 1.0, 2.0)
# So many records of one call are looked at where the PDS does not tell at which version it wrote them.
LOOKS_MAX = 10
KEPT_US = 30 * 86_400_000_000
FORGET_EVERY_S = 3600.0
CLOSE_S = 10.0
_READ = PDS_JSON.for_person()


class Unconfirmed(Unavailable):
    """The PDS may or may not have written: neither it nor a look at the repository said so."""


class Written(msgspec.Struct, frozen=True):
    """A record as the PDS answered for it."""

    uri: str
    cid: str


class Repos:
    """Members' repositories, written through their own PDSs."""

    def __init__(self, database: Database, pds_sessions: PdsSessions, applier: Applier, clock: Clock) -> None:
        self._database = database
        self._pds_sessions = pds_sessions
        self._applier = applier
        self._clock = clock
        self._keys = TidGenerator(clock.now_us, secrets.randbelow(1024))
        self._under_way: set[asyncio.Task[Answer]] = set()

    async def run(self) -> None:
        """Forget what was written more than a month ago, now and then, for ever."""
        while True:
            await self._database.write(partial(written.forget, before_us=self._clock.now_us() - KEPT_US))
            await self._clock.sleep(FORGET_EVERY_S)

    async def close(self) -> None:
        """Let what is on its way to the PDSs come to its end."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_S)

    def next_key(self) -> str:
        """A record key that nobody has used."""
        return self._keys.next()

    async def create(
        self,
        session: Session,
        collection: str,
        record: dict[str, Any],
        rkey: str | None = None,
        *,
        form: str = "",
    ) -> Written:
        """Write a new record; ``rkey`` is one of ``next_key``. Raises as ``forward``; BadInput: refused."""
        key = rkey or self.next_key()
        body = {"repo": session.did, "collection": collection, "rkey": key, "record": record}
        answer = _done(await self.forward(session, CREATE, body, own_key=True, form=form))
        return msgspec.convert(answer, Written)

    async def delete(self, session: Session, collection: str, rkey: str, *, form: str = "") -> None:
        """Delete a record; one that is gone already is fine."""
        body = {"repo": session.did, "collection": collection, "rkey": rkey}
        _done(await self.forward(session, DELETE, body, form=form))

    async def look(self, session: Session, collection: str, rkey: str) -> bool:
        """Is there a record under this key of theirs? It is indexed here as it is there.

        Raises Unconfirmed when the PDS does not say.
        """
        before = await self._read(session, collection, rkey)
        commit = await self._latest_commit(session)
        after = await self._read(session, collection, rkey)
        rev = None if commit is None else commit["rev"]
        # The same before and after: so it was at that commit, and whatever changes it comes later.
        if before == after and isinstance(rev, str) and syntax.is_tid(rev):
            body, cid = after or (None, None)
            action: operations.Action = "delete" if after is None else "create"
            event = CommitEvent(
                session.did, rev, 0, action, collection, rkey, cid, body, self._clock.now_us()
            )
            await self._index(session, [event])
        return after is not None

    async def forward(
        self, session: Session, nsid: str, body: dict[str, Any], *, own_key: bool = False, form: str = ""
    ) -> Answer:
        """Make the call at the PDS; what it wrote is indexed here when this returns.

        An answer other than 200 is the PDS's own refusal. Raises BadInput for a body that is not sent,
        Refused when the sign-in is over, Unavailable when surely nothing was written, Unconfirmed when
        that stays unknown. Whoever leaves meanwhile changes nothing: it goes on to its end. ``form`` is
        the name by which ``written.last`` finds it again.
        """
        planned = operations.plan(nsid, body, session.did, session.handle, self.next_key, own_key=own_key)
        try:
            content = orjson.dumps(body)
        except TypeError as error:
            raise BadInput("The body is not JSON data") from error
        task = asyncio.create_task(self._forward(session, nsid, planned, content, form), name=f"write {nsid}")
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; with nobody waiting there is nobody to tell

    async def _forward(
        self, session: Session, nsid: str, planned: list[Operation], content: bytes, form: str
    ) -> Answer:
        now_us = self._clock.now_us()
        what = [(o.action, o.collection, o.rkey) for o in planned]
        numbers = await self._database.write(
            lambda tx: written.begin(tx, session.actor, form, what, now_us), durable=True
        )
        crash_points.reach("write-before-call")
        try:
            answer = await self._sent(session, nsid, planned, content)
        except ApplianceError as error:
            unknown = isinstance(error, Unconfirmed)
            WRITES.labels(nsid, "unknown" if unknown else "failed").inc()
            await self._keep(numbers, "unknown" if unknown else "refused")
            raise
        WRITES.labels(nsid, str(answer.status)).inc()
        crash_points.reach("write-after-call")
        if answer.ok:
            try:
                await self._show(session, nsid, planned, answer)
            except Unavailable:
                await self._keep(numbers, "unknown")
                raise
        await self._keep(numbers, "done" if answer.ok else "refused")
        crash_points.reach("write-after-commit")
        return answer

    async def _sent(self, session: Session, nsid: str, planned: list[Operation], content: bytes) -> Answer:
        try:
            answer = await self._pds_sessions.call(
                session.pds_session,
                "POST",
                nsid,
                limits=PDS_WRITE,
                content=content,
                headers={"content-type": "application/json"},
            )
        except NotSent:
            raise
        except Unavailable as error:
            if error.name == "RateLimitExceeded":
                raise
        else:
            if answer.status < 500:
                return answer
        return await self._settle(session, nsid, planned)

    async def _keep(self, numbers: list[int], outcome: Outcome) -> None:
        try:
            await self._database.write(lambda tx: written.settle(tx, numbers, outcome), durable=True)
        except Corrupt:
            raise
        except ApplianceError as error:
            # It stays open, and is looked for at the member's server before anything is repeated.
            log.warning("outcome_not_kept", outcome=outcome, error=error.message)

    async def found(self, session: Session, operation: Operation) -> bool | None:
        """Is that write in the repository? None when the PDS does not say."""
        try:
            there = await self._read(session, operation.collection, operation.rkey)
        except Unconfirmed:
            return None
        if there is None or operation.action == "delete":
            return (there is None) == (operation.action == "delete")
        return operation.fresh or there[1] == operation.cid

    async def _read(self, session: Session, collection: str, rkey: str) -> tuple[bytes, str] | None:
        """What the repository holds there: the record and its CID. Raises Unconfirmed when nobody says."""
        silent = Unconfirmed("Your server does not answer at the moment", name="UpstreamTimeout")
        params: dict[str, Any] = {"repo": session.did, "collection": collection, "rkey": rkey}
        try:
            answer = await self._pds_sessions.call(
                session.pds_session, "GET", "com.atproto.repo.getRecord", limits=_READ, params=params
            )
        except (Unavailable, Refused) as error:
            raise silent from error
        if answer.error_name() == "RecordNotFound":
            return None
        found = _object(answer) if answer.ok else None
        if found is None or not isinstance(found.get("value"), dict):
            raise silent
        cid = found.get("cid")
        return orjson.dumps(found["value"]), cid if isinstance(cid, str) else ""

    async def _settle(self, session: Session, nsid: str, planned: list[Operation]) -> Answer:
        """The answer that got lost, put together from what the repository holds now."""
        # A batch is all or nothing, so one of its operations speaks for all of them.
        witness = next((o for o in planned if o.action != "delete"), planned[0])
        for wait_s in LOOK_AFTER_S:
            await self._clock.sleep(wait_s)
            if await self.found(session, witness):
                log.info("write_settled", nsid=nsid, did=session.did)
                return await self._reconstructed(session, nsid, planned)
        log.warning("write_unconfirmed", nsid=nsid, did=session.did)
        raise Unconfirmed(
            "Your server did not say whether this was written: look before you repeat it",
            name="UpstreamTimeout",
        )

    async def _reconstructed(self, session: Session, nsid: str, planned: list[Operation]) -> Answer:
        results = []
        for operation in planned:
            uri = f"at://{session.did}/{operation.collection}/{operation.rkey}"
            written = {} if operation.action == "delete" else {"uri": uri, "cid": operation.cid}
            results.append({"$type": f"{APPLY}#{operation.action}Result", **written})
        body: dict[str, Any] = {"results": results}
        if nsid != APPLY:
            body = {name: value for name, value in results[0].items() if name != "$type"}
        # Only for keys that nobody else can have written meanwhile: the newest rev may be of a later commit.
        if all(operation.fresh for operation in planned):
            commit = await self._latest_commit(session)
            if commit is not None:
                body["commit"] = commit
        return Answer(200, {"content-type": "application/json"}, orjson.dumps(body))

    async def _latest_commit(self, session: Session) -> dict[str, Any] | None:
        try:
            answer = await self._pds_sessions.call(
                session.pds_session,
                "GET",
                "com.atproto.sync.getLatestCommit",
                limits=_READ,
                params={"did": session.did},
            )
        except (Unavailable, Refused):
            return None
        commit = _object(answer) if answer.ok else None
        return {"cid": commit.get("cid"), "rev": commit.get("rev")} if commit is not None else None

    async def _show(self, session: Session, nsid: str, planned: list[Operation], answer: Answer) -> None:
        """Index what was written, at the version that the stream will bring as well."""
        body = _object(answer)
        if body is None:
            raise Unconfirmed("Your server gave an answer that is not understood")
        results = body.get("results", [None] * len(planned)) if nsid == APPLY else [body]
        for operation, result in zip(planned, results, strict=False):
            _check_result(session.did, operation, result)
        commit = body.get("commit")
        if commit is None and all(operation.fresh for operation in planned):
            commit = await self._latest_commit(session)
        rev = commit.get("rev") if isinstance(commit, dict) else None
        if not isinstance(rev, str) or not syntax.is_tid(rev):
            # Nothing says at which version. Where looking doesn't either, the stream will.
            for operation in planned if len(planned) <= LOOKS_MAX else []:
                with contextlib.suppress(Unconfirmed):
                    await self.look(session, operation.collection, operation.rkey)
            return
        now_us = self._clock.now_us()
        events = [
            CommitEvent(session.did, rev, n, o.action, o.collection, o.rkey, o.cid, o.body, now_us)
            for n, (o, result) in enumerate(zip(planned, results, strict=False))
            # A PDS that stored other bytes than we sent: the stream tells which.
            if o.action == "delete" or not isinstance(result, dict) or result.get("cid", o.cid) == o.cid
        ]
        await self._index(session, events)

    async def _index(self, session: Session, events: list[CommitEvent]) -> None:
        now_us = self._clock.now_us()
        try:
            await self._database.write(
                lambda tx: [self._applier.apply(tx, event, now_us=now_us) for event in events], durable=True
            )
        except Corrupt:
            raise
        except ApplianceError as error:
            # The record is written all the same, and comes again by the stream.
            log.warning("own_write_not_indexed", did=session.did, error=error.message)


def _check_result(did: str, operation: Operation, result: Any) -> None:
    """Refuse an answer about another record than the one that was sent."""
    if operation.action == "delete" or not isinstance(result, dict):
        return
    uri, cid = result.get("uri"), result.get("cid")
    expected = f"at://{did}/{operation.collection}/{operation.rkey}"
    if uri != expected or not operations.is_record_cid(cid):
        log.error("pds_answered_for_another_record", did=did, collection=operation.collection)
        raise Unconfirmed("Your server gave an answer that does not fit what was sent")


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        value = answer.json() if answer.body else {}
    except BadInput:
        return None
    return value if isinstance(value, dict) else None


def _done(answer: Answer) -> dict[str, Any]:
    """The body of a success. Raises for a refusal of the PDS, with its name and our words."""
    body = _object(answer)
    if answer.ok and body is not None:
        return body
    name = answer.error_name()
    if answer.status == 401:
        raise Refused("Your server does not accept this sign-in any more: sign in again", name="ExpiredToken")
    if answer.status == 413:
        raise BadInput("That is too large for your server", name="PayloadTooLarge")
    if answer.status in (400, 403):
        raise BadInput(f"Your server refused this ({name or answer.status})")
    raise Unavailable("Your server can't do this at the moment")
