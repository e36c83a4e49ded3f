"""A PLC directory and PDSs on loopback, scripted by a test: real sockets, real signed repositories.

Small on purpose: what matters here is that a test can say exactly what goes wrong and when.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from appliance.protocol import car, cbor, commits, datamodel, mst
from appliance.protocol import cid as cids
from appliance.protocol.events import CommitEvent, Operation
from appliance.protocol.keys import PrivateKey
from appliance.protocol.tid import tid_of

Json = dict[str, Any]
Order = Literal["descending", "ascending", "ascending always"]
Cursors = Literal["full pages", "only when more", "always"]
START_US = 1_767_225_600_000_000


@dataclass
class Answer:
    """What goes onto the wire."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None  # close the connection after so many bytes of the body
    hang: bool = False  # never answer


def error(status: int, name: str, message: str = "", **headers: str) -> Answer:
    return Answer(status, orjson.dumps({"error": name, "message": message}), headers)


@dataclass
class Request:
    """One call, as the host saw it."""

    nsid: str
    params: dict[str, str]


Script = Callable[[Request], "Answer | Awaitable[Answer | None] | None"]


class Account:
    """A repository with a real key, and every commit it ever made."""

    def __init__(self, network: Network, did: str, handle: str, host: Host) -> None:
        self.network = network
        self.did = did
        self.handle = handle
        self.host = host
        self.key = PrivateKey.generate("k256")
        self.status: str | None = None
        self.says_it_lives_at = ""  # in its document, where that is no host of ours
        self.records: dict[str, tuple[str, bytes, bytes]] = {}  # path -> cid, json, block
        self.rev = ""
        self.events: list[CommitEvent] = []
        self.commit([])

    def commit(self, operations: list[tuple[Operation, str, Json | None]]) -> list[CommitEvent]:
        """One commit with these (operation, path, record); the events that a stream would carry."""
        self.rev = self.network.next_rev()
        made = []
        for n, (operation, path, record) in enumerate(operations):
            collection, rkey = path.split("/")
            cid: str | None = None
            body: bytes | None = None
            if record is None:
                del self.records[path]
            else:
                body = orjson.dumps({"$type": collection, **record})
                block = cbor.encode(datamodel.from_json(body))
                cid = cids.to_text(cids.cid_of(block))
                self.records[path] = (cid, body, block)
            made.append(
                CommitEvent(
                    self.did, self.rev, n, operation, collection, rkey, cid, body, self.network.now_us
                )
            )
        self.events += made
        return made

    def create(self, collection: str, record: Json, rkey: str | None = None) -> str:
        """Create in a commit of its own; the at-uri."""
        rkey = rkey or self.network.next_rev()
        self.commit([("create", f"{collection}/{rkey}", record)])
        return f"at://{self.did}/{collection}/{rkey}"

    def post(self, text: str = "hello", **more: Any) -> str:
        return self.create(
            "app.bsky.feed.post", {"text": text, "createdAt": self.network.next_datetime(), **more}
        )

    def repost(self, uri: str, cid: str) -> str:
        subject = {"uri": uri, "cid": cid}
        return self.create(
            "app.bsky.feed.repost", {"subject": subject, "createdAt": self.network.next_datetime()}
        )

    def follow(self, did: str) -> str:
        return self.create(
            "app.bsky.graph.follow", {"subject": did, "createdAt": self.network.next_datetime()}
        )

    def profile(self, **more: Any) -> str:
        return self.create("app.bsky.actor.profile", {"displayName": self.handle, **more}, "self")

    def delete(self, uri: str) -> list[CommitEvent]:
        return self.commit([("delete", uri.split("/", 3)[3], None)])

    def cid(self, uri: str) -> str:
        return self.records[uri.split("/", 3)[3]][0]

    def export(self) -> bytes:
        """The signed repository as a CAR."""
        root, nodes = mst.build({path: cids.from_text(kept[0]) for path, kept in self.records.items()})
        commit_cid, commit_block = commits.sign(self.did, self.rev, root, self.key)
        blocks = {commit_cid: commit_block, **nodes}
        for cid, _, block in self.records.values():
            blocks[cids.from_text(cid)] = block
        return car.write(commit_cid, blocks)

    @property
    def paths(self) -> dict[str, str]:
        """What the repository holds: path -> cid."""
        return {path: kept[0] for path, kept in self.records.items()}


class Host:
    """A PDS with its own habits."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.origin = ""
        self.accounts: dict[str, Account] = {}
        self.order: Order = "descending"
        self.cursors: Cursors = "full pages"
        self.missing: set[str] = set()
        self.script: Script | None = None
        self.requests: list[Request] = []
        self.in_flight = 0
        self.in_flight_most = 0

    def asked(self, nsid: str) -> list[dict[str, str]]:
        """The parameters of each call of that name."""
        return [request.params for request in self.requests if request.nsid.endswith(nsid)]

    async def answer(self, path: str, params: dict[str, str]) -> Answer:
        request = Request(path.removeprefix("/xrpc/"), params)
        self.requests.append(request)
        self.in_flight += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight)
        try:
            if self.script is not None:
                scripted = self.script(request)
                if isinstance(scripted, Awaitable):
                    scripted = await scripted
                if scripted is not None:
                    return scripted
            return self.honest(request)
        finally:
            self.in_flight -= 1

    def honest(self, request: Request) -> Answer:
        """What an honest PDS of these habits answers."""
        name = request.nsid.rsplit(".", 1)[-1]
        if name in self.missing:
            return error(501, "MethodNotImplemented")
        if name == "listRepos":
            return _json(
                {
                    "repos": [
                        {"did": a.did, "head": "x", "rev": a.rev, "active": a.status is None}
                        for a in self.accounts.values()
                    ]
                }
            )
        account = self.accounts.get(request.params.get("did") or request.params.get("repo") or "")
        if account is None:
            if name in ("listRecords", "getRecord"):
                return error(400, "InvalidRequest", "Could not find repo")
            return error(400, "RepoNotFound")
        if name == "getRepoStatus":
            if account.status is not None:
                return _json({"did": account.did, "active": False, "status": account.status})
            return _json({"did": account.did, "active": True, "rev": account.rev})
        if account.status is not None:
            word = {"takendown": "RepoTakendown", "suspended": "RepoSuspended"}.get(
                account.status, "RepoDeactivated"
            )
            if name in ("listRecords", "getRecord"):
                return error(400, "InvalidRequest", "Could not find repo")
            return error(400, word)
        match name:
            case "getLatestCommit":
                return _json({"cid": "bafyreib", "rev": account.rev})
            case "getRepo":
                return Answer(200, account.export(), {"content-type": "application/vnd.ipld.car"})
            case "getRecord":
                path = f"{request.params['collection']}/{request.params['rkey']}"
                if path not in account.records:
                    return error(400, "RecordNotFound")
                return Answer(body=_record_json(account, path))
            case "listRecords":
                return self._list(account, request.params)
        return error(501, "MethodNotImplemented")

    def _list(self, account: Account, params: dict[str, str]) -> Answer:
        collection = params["collection"]
        limit = int(params.get("limit", "50"))
        cursor = params.get("cursor")
        upward = self.order != "descending"
        if params.get("reverse") == "true" and self.order != "ascending always":
            upward = not upward
        keys = sorted(p.split("/")[1] for p in account.records if p.startswith(collection + "/"))
        if not upward:
            keys.reverse()
        if cursor:
            keys = [key for key in keys if (key > cursor if upward else key < cursor)]
        page = keys[:limit]
        give = (
            bool(page)
            and {
                "full pages": len(page) == limit,
                "only when more": len(keys) > len(page),
                "always": True,
            }[self.cursors]
        )
        tail = b',"cursor":' + orjson.dumps(page[-1]) if give else b""
        rows = b",".join(_record_json(account, f"{collection}/{key}") for key in page)
        return Answer(body=b'{"records":[' + rows + b"]" + tail + b"}")


class Network:
    """A PLC directory and hosts, all on loopback."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.accounts: dict[str, Account] = {}
        self.plc = ""
        self.plc_requests = 0
        self.plc_down = False
        self.now_us = START_US - 400 * 86_400_000_000
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()

    def next_rev(self) -> str:
        self.now_us += 60_000_000
        return tid_of(self.now_us, 7)

    def next_datetime(self) -> str:
        import datetime

        moment = datetime.datetime.fromtimestamp(self.now_us / 1e6, datetime.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"

    async def add_host(self) -> Host:
        host = Host(self)

        async def serve(path: str, params: dict[str, str]) -> Answer:
            return await host.answer(path, params)

        host.origin = await self._listen(serve)
        self.hosts.append(host)
        return host

    def add_account(self, name: str, host: Host | None = None) -> Account:
        letters = "".join(c for c in name if c.isalpha()).ljust(24, "a")[:24]
        did = f"did:plc:{letters}"
        host = host or self.hosts[0]
        account = Account(self, did, f"{name}.test", host)
        host.accounts[did] = account
        self.accounts[did] = account
        return account

    def move(self, account: Account, host: Host) -> None:
        """Migrate: the new host has it, the document says so, the old one is left deactivated."""
        old = account.host
        stale = Account.__new__(Account)
        stale.__dict__.update(account.__dict__)
        stale.records = dict(account.records)
        stale.status = "deactivated"
        old.accounts[account.did] = stale
        account.host = host
        host.accounts[account.did] = account

    async def open(self) -> None:
        self.plc = await self._listen(self._directory)
        await self.add_host()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.transport.abort()
        for server in self._servers:
            await server.wait_closed()

    async def _directory(self, path: str, params: dict[str, str]) -> Answer:
        self.plc_requests += 1
        if self.plc_down:
            return Answer(503)
        account = self.accounts.get(unquote(path[1:]))
        if account is None:
            return error(404, "NotFound")
        return _json(
            {
                "@context": ["https://www.w3.org/ns/did/v1"],
                "id": account.did,
                "alsoKnownAs": [f"at://{account.handle}"],
                "verificationMethod": [
                    {
                        "id": f"{account.did}#atproto",
                        "type": "Multikey",
                        "controller": account.did,
                        "publicKeyMultibase": account.key.multibase,
                    }
                ],
                "service": [
                    {
                        "id": "#atproto_pds",
                        "type": "AtprotoPersonalDataServer",
                        "serviceEndpoint": account.says_it_lives_at or account.host.origin,
                    }
                ],
            }
        )

    async def _listen(self, serve: Callable[[str, dict[str, str]], Awaitable[Answer]]) -> str:
        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._open.add(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await _one_request(reader, writer, serve):
                    pass
            self._open.discard(writer)
            writer.close()

        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        self._servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _one_request(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    serve: Callable[[str, dict[str, str]], Awaitable[Answer]],
) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    target = head.split(b" ", 2)[1].decode()
    parts = urlsplit(target)
    params = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    answer = await serve(parts.path, params)
    if answer.hang:
        await asyncio.Event().wait()
    headers = {"content-type": "application/json", **answer.headers, "content-length": str(len(answer.body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {answer.status} X\r\n{lines}\r\n".encode())
    writer.write(answer.body if answer.cut_at is None else answer.body[: answer.cut_at])
    await writer.drain()
    return answer.cut_at is None


def _record_json(account: Account, path: str) -> bytes:
    cid, body, _ = account.records[path]
    uri = orjson.dumps(f"at://{account.did}/{path}")
    return b'{"uri":' + uri + b',"cid":' + orjson.dumps(cid) + b',"value":' + body + b"}"


def _json(value: Json) -> Answer:
    return Answer(body=orjson.dumps(value))


@contextlib.asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """An open network with one host."""
    made = Network()
    await made.open()
    try:
        yield made
    finally:
        await made.close()
