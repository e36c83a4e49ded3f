"""The repository procedures of a member, sent to the PDS and applied here as soon as it has answered."""

from __future__ import annotations

import secrets
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
from appliance.store.database import Database
from appliance.store.sessions import Session
from appliance.writes import operations
from appliance.writes.operations import APPLY, CREATE, DELETE, Operation

log = telemetry.Log("writes")
WRITES = telemetry.counter(
    "writes", "Writes sent to members' PDSs, by procedure and outcome.", ["nsid", "outcome"]
)

BODY_MAX_BYTES = 2_000_000
LOOK_AFTER_S = (0.5, 1.0, 2.0)
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

    def next_key(self) -> str:
        """A record key that nobody has used."""
        return self._keys.next()

    async def create(
        self, session: Session, collection: str, record: dict[str, Any], rkey: str | None = None
    ) -> Written:
        """Write a new record; ``rkey`` is one of ``next_key``. Raises as ``forward``; BadInput: refused."""
        key = rkey or self.next_key()
        body = {"repo": session.did, "collection": collection, "rkey": key, "record": record}
        answer = _done(await self.forward(session, CREATE, body, own_key=True))
        return msgspec.convert(answer, Written)

    async def delete(self, session: Session, collection: str, rkey: str) -> None:
        """Delete a record; one that is gone already is fine."""
        body = {"repo": session.did, "collection": collection, "rkey": rkey}
        _done(await self.forward(session, DELETE, body))

    async def exists(self, session: Session, collection: str, rkey: str) -> bool:
        """Is there a record under this key of ours? Raises Unconfirmed when the PDS does not say."""
        there = await self.found(session, Operation("create", collection, rkey, fresh=True))
        if there is None:
            raise Unconfirmed("Your server does not answer at the moment", name="UpstreamTimeout")
        return there

    async def forward(
        self, session: Session, nsid: str, body: dict[str, Any], *, own_key: bool = False
    ) -> Answer:
        """Make the call at the PDS; what it wrote is indexed here when this returns.

        An answer other than 200 is the PDS's own refusal. Raises BadInput for a body that is not sent,
        Refused when the sign-in is over, Unavailable when surely nothing was written, Unconfirmed when
        that stays unknown.
        """
        planned = operations.plan(nsid, body, session.did, session.handle, self.next_key, own_key=own_key)
        try:
            content = orjson.dumps(body)
        except TypeError as error:
            raise BadInput("The body is not JSON data") from error
        outcome = "failed"
        crash_points.reach("write-before-call")
        try:
            try:
                answer = await self._pds_sessions.call(
                    session.pds_session,
                    "POST",
                    nsid,
                    limits=PDS_WRITE,
                    content=content,
                    headers={"content-type": "application/json"},
                )
                settled = answer.status < 500
            except NotSent:
                raise
            except Unavailable as error:
                if error.name == "RateLimitExceeded":
                    raise
                settled = False
            if not settled:
                answer = await self._settle(session, nsid, planned)
            outcome = str(answer.status)
        except Unconfirmed:
            outcome = "unknown"
            raise
        finally:
            WRITES.labels(nsid, outcome).inc()
        crash_points.reach("write-after-call")
        if answer.ok:
            await self._show(session, nsid, planned, answer)
        crash_points.reach("write-after-commit")
        return answer

    async def found(self, session: Session, operation: Operation) -> bool | None:
        """Is that write in the repository? None when the PDS does not say."""
        params: dict[str, Any] = {
            "repo": session.did,
            "collection": operation.collection,
            "rkey": operation.rkey,
        }
        try:
            answer = await self._pds_sessions.call(
                session.pds_session, "GET", "com.atproto.repo.getRecord", limits=_READ, params=params
            )
        except (Unavailable, Refused):
            return None
        if answer.ok:
            if operation.action == "delete":
                return False
            value = _object(answer)
            return value is not None and (operation.fresh or value.get("cid") == operation.cid)
        if answer.error_name() == "RecordNotFound":
            return operation.action == "delete"
        return None

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
            raise Unavailable("Your server gave an answer that is not understood")
        results = body.get("results", [None] * len(planned)) if nsid == APPLY else [body]
        for operation, result in zip(planned, results, strict=False):
            _check_result(session.did, operation, result)
        commit = body.get("commit")
        if commit is None and all(operation.fresh for operation in planned):
            commit = await self._latest_commit(session)
        rev = commit.get("rev") if isinstance(commit, dict) else None
        if not isinstance(rev, str) or not syntax.is_tid(rev):
            return  # nothing says at which version: the stream will
        now_us = self._clock.now_us()
        events = [
            CommitEvent(session.did, rev, n, o.action, o.collection, o.rkey, o.cid, o.body, now_us)
            for n, (o, result) in enumerate(zip(planned, results, strict=False))
            # A PDS that stored other bytes than we sent: the stream tells which.
            if o.action == "delete" or not isinstance(result, dict) or result.get("cid", o.cid) == o.cid
        ]
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
        raise Unavailable("Your server gave an answer that does not fit what was sent")


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
