"""Reading a PDS that we know nothing about: its calls, its dialects, its refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from appliance import telemetry
from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.outbound import limits
from appliance.outbound.client import Answer, Outbound
from appliance.protocol import cid as cids
from appliance.protocol import syntax

PAGE_ROWS = (100, 10, 1)
LIST_REPOS_PAGES_MAX = 20
FORGET_DIALECT_AFTER_S = 24 * 3600.0
DIALECTS_MAX = 10_000

# com.atproto.sync.getRepo and its siblings name these; anything else a PDS says of a repository is not final.
GONE = frozenset({"RepoNotFound"})
INACTIVE = {
    "RepoTakendown": "takendown",
    "RepoSuspended": "suspended",
    "RepoDeactivated": "deactivated",
    "AccountTakedown": "takendown",
    "AccountDeactivated": "deactivated",
}
_NOT_OFFERED = frozenset({"MethodNotImplemented", "MethodNotSupported", "XRPCNotSupported", "NotImplemented"})

SKIPPED = telemetry.counter("listed_rows_refused", "Listed records without a usable address or CID.")
# A worker does not wait for ever in the queue of one host: it gives its place to another repository.
READ = dataclasses.replace(limits.PDS_JSON, patience_s=20.0)

_T = TypeVar("_T")


class PdsError(ApplianceError):
    """The PDS answered, with an error of the protocol; ``name`` is its word."""


class NotOffered(ApplianceError):
    """The PDS does not know the call."""

    name = "MethodNotImplemented"


class Listed(NamedTuple):
    """A record as the PDS gave it; ``body`` is its JSON byte for byte."""

    rkey: str
    cid: str
    body: bytes


class Page(NamedTuple):
    """One answer of listRecords. ``cursor`` is None where the list ends.

    ``refused``: how many of its rows had no usable address or CID and are left out.
    """

    rows: list[Listed]
    cursor: str | None
    refused: int = 0


class Status(NamedTuple):
    """What the PDS says of a repository: ``status`` is None while active; ``rev`` where it told."""

    status: str | None
    rev: str | None


class _Record(msgspec.Struct):
    uri: str
    value: msgspec.Raw
    cid: str = ""


class _Records(msgspec.Struct):
    records: list[_Record]
    cursor: str | None = None


class _Status(msgspec.Struct):
    did: str
    active: bool
    status: str | None = None
    rev: str | None = None


class _Commit(msgspec.Struct):
    rev: str


class _Repo(msgspec.Struct):
    did: str
    rev: str = ""
    active: bool = True
    status: str | None = None


class _Repos(msgspec.Struct):
    repos: list[_Repo]
    cursor: str | None = None


class _Error(msgspec.Struct):
    error: str = ""


class Dialect:
    """How one host differs. Kept in memory: finding out again costs a request a day."""

    __slots__ = ("ascends", "learned_s", "many_repos", "missing")

    def __init__(self, now_s: float) -> None:
        self.learned_s = now_s
        self.missing: set[str] = set()
        self.ascends = False
        # Its list of repositories is too long for the few of them that are wanted here.
        self.many_repos = False


class Dialects:
    """What is known of every host."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._hosts: dict[str, Dialect] = {}

    def of(self, origin: str) -> Dialect:
        """What is known of this host; forgotten after a day, since hosts are updated."""
        now_s = self._monotonic_s()
        found = self._hosts.get(origin)
        if found is None or now_s - found.learned_s > FORGET_DIALECT_AFTER_S:
            if len(self._hosts) >= DIALECTS_MAX:
                self._hosts.clear()
            found = self._hosts[origin] = Dialect(now_s)
        return found


class Pds:
    """One host's public reads. Every method raises Unavailable, BadInput, PdsError or NotOffered."""

    def __init__(self, outbound: Outbound, origin: str, dialect: Dialect) -> None:
        self.origin = origin
        self.dialect = dialect
        self._outbound = outbound

    @property
    def host(self) -> str:
        """The name for logs."""
        return urlsplit(self.origin).netloc

    async def status(self, did: str) -> Status:
        """Whether the repository is active, and its latest rev where the host says so.

        A host without getRepoStatus is asked for the latest commit instead.
        """
        try:
            answer = await self._call("com.atproto.sync.getRepoStatus", _Status, did=did)
        except PdsError as error:
            if error.name in INACTIVE:
                return Status(INACTIVE[error.name], None)
            raise
        except NotOffered:
            return await self._status_by_commit(did)
        if answer.did != did:
            raise BadInput("the PDS answered for another repository")
        if answer.active:
            return Status(None, _rev(answer.rev) if answer.rev else None)
        return Status(_word(answer.status), None)

    async def _status_by_commit(self, did: str) -> Status:
        try:
            return Status(None, await self._latest_commit(did))
        except PdsError as error:
            if error.name in INACTIVE:
                return Status(INACTIVE[error.name], None)
            raise
        except NotOffered:
            repo = await self._in_list_of_repos(did)
            return Status(None, _rev(repo.rev)) if repo.active else Status(_word(repo.status), None)

    async def latest_rev(self, did: str) -> str:
        """The rev of the newest commit, by whichever call this host has."""
        try:
            return await self._latest_commit(did)
        except NotOffered:
            pass
        try:
            answer = await self._call("com.atproto.sync.getRepoStatus", _Status, did=did)
            if answer.did == did and answer.rev:
                return _rev(answer.rev)
        except NotOffered:
            pass
        return _rev((await self._in_list_of_repos(did)).rev)

    async def list_records(self, did: str, collection: str, cursor: str | None, *, reverse: bool) -> Page:
        """One page, in the host's order. Rows without a usable address are left out and counted."""
        more: dict[str, Any] = {"repo": did, "collection": collection}
        if cursor is not None:
            more["cursor"] = cursor
        if reverse:
            more["reverse"] = "true"
        for limit in PAGE_ROWS:
            try:
                answer = await self._call("com.atproto.repo.listRecords", _Records, limit=limit, **more)
                break
            except BadInput as error:
                # A few records can be larger than what is read at a time of a hundred.
                if error.name != "ResponseTooLarge" or limit == PAGE_ROWS[-1]:
                    raise
        rows = [row for record in answer.records if (row := _listed(record, did, collection)) is not None]
        refused = len(answer.records) - len(rows)
        SKIPPED.inc(refused)
        return Page(rows, answer.cursor if answer.records and answer.cursor else None, refused)

    async def record(self, did: str, collection: str, rkey: str) -> Listed:
        """One record. PdsError with ``RecordNotFound`` when there is none."""
        answer = await self._call(
            "com.atproto.repo.getRecord", _Record, repo=did, collection=collection, rkey=rkey
        )
        row = _listed(answer, did, collection)
        if row is None or row.rkey != rkey:
            raise BadInput("the PDS answered with another record")
        return row

    def export(self, did: str, bytes_max: int) -> AsyncIterator[bytes]:
        """The whole repository as a CAR, piece by piece; an iterator to be closed by the caller."""
        bounds = dataclasses.replace(limits.PDS_CAR, body_max=bytes_max, patience_s=READ.patience_s)
        return self._stream("com.atproto.sync.getRepo", bounds, did=did)

    async def _latest_commit(self, did: str) -> str:
        return _rev((await self._call("com.atproto.sync.getLatestCommit", _Commit, did=did)).rev)

    async def listed_revs(self, dids: set[str], pages_max: int) -> tuple[dict[str, str], bool]:
        """The revs of those of these repositories that are active, and whether the list was read so far
        that no more of them can come."""
        found: dict[str, str] = {}
        left = set(dids)
        cursor: str | None = None
        for _ in range(pages_max):
            more = {"cursor": cursor} if cursor else {}
            answer = await self._call("com.atproto.sync.listRepos", _Repos, limit=1000, **more)
            for repo in answer.repos:
                if repo.did in left:
                    left.discard(repo.did)
                    if repo.active and repo.rev:
                        found[repo.did] = repo.rev
            if not left or not answer.cursor or not answer.repos:
                return found, True
            if answer.cursor == cursor:
                break
            cursor = answer.cursor
        return found, False

    async def _in_list_of_repos(self, did: str) -> _Repo:
        """Walk listRepos: bearable only on the small hosts that lack the better calls."""
        cursor: str | None = None
        for _ in range(LIST_REPOS_PAGES_MAX):
            more = {"cursor": cursor} if cursor else {}
            answer = await self._call("com.atproto.sync.listRepos", _Repos, limit=1000, **more)
            for repo in answer.repos:
                if repo.did == did:
                    return repo
            if not answer.cursor or not answer.repos or answer.cursor == cursor:
                raise PdsError("the repository is not in the list of the host", name="RepoNotFound")
            cursor = answer.cursor
        raise BadInput("the host is too large to look for one repository in its list")

    async def _call(self, nsid: str, kind: type[_T], **params: Any) -> _T:
        if nsid in self.dialect.missing:
            raise NotOffered(f"{self.host} does not offer {nsid}")
        answer = await self._outbound.get(f"{self.origin}/xrpc/{nsid}", limits=READ, params=params)
        self._judge(nsid, answer)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput(f"{self.host} answered {nsid} with something else") from error

    async def _stream(self, nsid: str, bounds: limits.Limits, **params: Any) -> AsyncIterator[bytes]:
        if nsid in self.dialect.missing:
            raise NotOffered(f"{self.host} does not offer {nsid}")
        url = f"{self.origin}/xrpc/{nsid}"
        async with self._outbound.stream(url, limits=bounds, params=params) as answer:
            if not answer.ok:
                self._judge(nsid, await answer.read())
            async for piece in answer:
                yield piece

    def _judge(self, nsid: str, answer: Answer) -> None:
        """Raise for every answer but a good one."""
        if answer.status == 200:
            return
        name = answer.error_name()
        if answer.status == 501 or name in _NOT_OFFERED or (answer.status == 404 and not name):
            self.dialect.missing.add(nsid)
            raise NotOffered(f"{self.host} does not offer {nsid}")
        if answer.status >= 500 or answer.status in (408, 425) or not name:
            raise Unavailable(f"{self.host} answered {nsid} with status {answer.status}")
        raise PdsError(f"{self.host} declined {nsid}: {name}", name=name)


def _rev(text: str) -> str:
    if not syntax.is_tid(text):
        raise BadInput("the PDS named a rev that is not a TID")
    return text


def _word(status: str | None) -> str:
    """The protocol's word for why a repository is inactive, made fit for our tables."""
    return status if status and status.isalnum() and len(status) <= 40 else "deactivated"


def _listed(record: _Record, did: str, collection: str) -> Listed | None:
    try:
        uri = syntax.parse_at_uri(record.uri)
        cids.from_text(record.cid)
    except BadInput:
        return None
    if uri.authority != did or uri.collection != collection or not uri.rkey:
        return None
    return Listed(uri.rkey, record.cid, bytes(record.value))
