"""A PDS on a real socket: just enough HTTP, and faults on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from appliance.clock import Clock
from appliance.protocol import cbor, cid, datamodel
from appliance.protocol.tid import TidGenerator


class Asked(NamedTuple):
    method: str
    nsid: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


LATEST_COMMIT = "com.atproto.sync.getLatestCommit"


def cid_of(record: Any) -> str:
    return cid.to_text(cid.cid_of(cbor.encode(datamodel.from_json(json.dumps(record)))))


Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]
Handler = Callable[[Asked], Awaitable[Reply]]


class SmallPds:
    """Accounts with passwords; access tokens that end after two hours, refresh tokens good once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[Asked] = []
        self.passwords: dict[str, str] = {}
        self.handles: dict[str, str] = {}
        self.access: dict[str, tuple[str, float]] = {}
        self.refresh: dict[str, str] = {}
        self.instead: dict[str, Handler] = {}
        self.records: dict[str, Any] = {}
        self.blobs: list[bytes] = []
        self.revs = TidGenerator(clock.now_us, 7)
        self.rev = self.revs.next()
        self.active = True
        self._count = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> SmallPds:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def add(self, did: str, handle: str, password: str) -> None:
        self.passwords[did] = password
        self.handles[did] = handle

    def of(self, nsid: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.nsid == nsid]

    def tokens(self, did: str) -> dict[str, Any]:
        self._count += 1
        access, refresh = f"pds-access-{self._count}", f"pds-refresh-{self._count}"
        self.access[access] = (did, self.clock.monotonic_s() + 7200)
        self.refresh[refresh] = did
        return {
            "did": did,
            "handle": self.handles[did],
            "accessJwt": access,
            "refreshJwt": refresh,
            "active": self.active,
            "didDoc": {"id": did},
        }

    def viewer(self, asked: Asked) -> str | None:
        did, end_s = self.access.get(asked.bearer, ("", 0.0))
        return did if self.clock.monotonic_s() < end_s else None

    async def answer(self, asked: Asked) -> Reply:
        if asked.nsid in self.instead:
            return await self.instead[asked.nsid](asked)
        match asked.nsid:
            case "com.atproto.server.createSession":
                did, password = asked.json["identifier"], asked.json["password"]
                if self.passwords.get(did) != password:
                    return 401, {
                        "error": "AuthenticationRequired",
                        "message": "Invalid identifier or password",
                    }
                return 200, self.tokens(did)
            case "com.atproto.server.refreshSession":
                did = self.refresh.pop(asked.bearer, "")
                return (200, self.tokens(did)) if did else (400, {"error": "ExpiredToken", "message": "no"})
            case "com.atproto.server.deleteSession":
                self.refresh.pop(asked.bearer, None)
                return 200, {}
        did = self.viewer(asked) or ""
        if not did:
            return 400, {"error": "ExpiredToken", "message": "Token has expired"}
        match asked.nsid:
            case "com.atproto.server.getSession":
                return 200, {"did": did, "handle": self.handles[did]}
            case "com.atproto.repo.uploadBlob":
                self.blobs.append(asked.body)
                ref = {"$link": cid.to_text(cid.blob_cid_of(asked.body))}
                kind = asked.headers["content-type"]
                return 200, {"blob": {"$type": "blob", "ref": ref, "mimeType": kind, "size": len(asked.body)}}
            case nsid if nsid.startswith("com.atproto.repo.") or nsid == LATEST_COMMIT:
                return self.repo(did, asked)
        return 200, {"asked": asked.nsid, "did": did, "query": asked.query}

    def repo(self, did: str, asked: Asked) -> Reply:
        query = dict(parse_qsl(asked.query))
        match asked.nsid.removeprefix("com.atproto.repo."):
            case "getRecord":
                uri = f"at://{query['repo']}/{query['collection']}/{query['rkey']}"
                if uri not in self.records:
                    return 400, {"error": "RecordNotFound", "message": "Could not locate record"}
                return 200, {"uri": uri, "cid": cid_of(self.records[uri]), "value": self.records[uri]}
            case "createRecord" | "putRecord":
                return 200, {**self.put(did, asked.json, asked.json["record"]), "commit": self.commit()}
            case "deleteRecord":
                uri = f"at://{did}/{asked.json['collection']}/{asked.json['rkey']}"
                return 200, {} if self.records.pop(uri, None) is None else {"commit": self.commit()}
            case "applyWrites":
                results = []
                for write in asked.json["writes"]:
                    kind = write["$type"].partition("#")[2]
                    uri = f"at://{did}/{write['collection']}/{write['rkey']}"
                    if kind == "delete":
                        del self.records[uri]
                    put = {} if kind == "delete" else self.put(did, write, write["value"])
                    results.append({"$type": f"com.atproto.repo.applyWrites#{kind}Result", **put})
                return 200, {"commit": self.commit(), "results": results}
            case _ if asked.nsid == LATEST_COMMIT:
                return 200, {"cid": "bafyreigh2akiscaildc", "rev": self.rev}
        return 200, {"asked": asked.nsid, "did": did, "query": asked.query}

    def put(self, did: str, write: dict[str, Any], record: Any) -> dict[str, Any]:
        uri = f"at://{did}/{write['collection']}/{write['rkey']}"
        self.records[uri] = record
        return {"uri": uri, "cid": cid_of(record)}

    def commit(self) -> dict[str, str]:
        self.rev = self.revs.next()
        return {"cid": cid_of({"rev": self.rev}), "rev": self.rev}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ")
                headers: dict[str, str] = {}
                while (line := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                if headers.get("transfer-encoding") == "chunked":
                    body = b""
                    while size := int(await reader.readline(), 16):
                        body += await reader.readexactly(size)
                        await reader.readexactly(2)
                    await reader.readexactly(2)
                else:
                    body = await reader.readexactly(int(headers.get("content-length", "0")))
                path, _, query = target.partition("?")
                asked = Asked(method, path.removeprefix("/xrpc/"), query, headers, body)
                self.asked.append(asked)
                reply = await self.answer(asked)
                content = reply[1] if isinstance(reply[1], bytes) else json.dumps(reply[1]).encode()
                more = reply[2] if len(reply) == 3 else {}
                sent = {"content-type": "application/json", "content-length": str(len(content)), **more}
                head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
                writer.write(f"HTTP/1.1 {reply[0]} X\r\n{head}\r\n".encode() + content)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client or the test went away
        finally:
            writer.close()
