"""Jetstream v2's archive: sealed segments of the network's own log, plans, and compaction on request."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.devnet import segments
from appliance.devnet.entries import AccountBody, CommitBody, IdentityBody, SyncBody
from appliance.devnet.faults import Faults
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.jetstream_v2 import KINDS
from appliance.devnet.log import EventLog, Told
from appliance.devnet.segments import Line, Sealed
from appliance.devnet.times import iso_ms
from appliance.protocol import car, cbor, cid, syntax

SPACE = "/xrpc/network.bsky.jetstream."
_MARKERS = {4: "identity", 5: "account", 6: "sync"}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True, kw_only=True)
class ArchiveFaults(Faults):
    """What the archive does wrong: ``limit_every`` answers every n-th request with 429, ``fail_every`` with
    503; ``cut_every`` ends every n-th download in the middle, ``flip_every`` sends it with one wrong byte;
    ``compact_after`` rewrites every file once so many downloads were begun; ``lose`` denies having these
    segments; ``promise_too_much`` plans every block there is; ``stand_still`` plans pages that don't advance.
    """

    limit_every: int = 0
    fail_every: int = 0
    cut_every: int = 0
    flip_every: int = 0
    compact_after: int = 0
    lose: frozenset[str] = frozenset()
    promise_too_much: bool = False
    stand_still: bool = False


@dataclass(slots=True)
class _File:
    """One segment with its place in the archive."""

    index: int
    first: int
    last: int
    sealed: Sealed
    generation: int = 1

    @property
    def name(self) -> str:
        digits = ""
        number = self.index
        for _ in range(10):
            number, digit = divmod(number, 36)
            digits = _DIGITS[digit] + digits
        return f"seg_{digits}.jss"


@dataclass(slots=True)
class Archive:
    """The archive of one network. What is sealed follows the log whenever somebody asks.

    ``page`` is how many segments and blocks a page of the plan may name. ``delay_s`` is the least time of
    a download.
    """

    log: EventLog
    token: str = ""
    segment_events: int = 2000
    block_events: int = 100
    page: int = 100_000
    delay_s: float = 0.0
    faults: ArchiveFaults = field(default_factory=ArchiveFaults)
    downloads: int = 0
    resumed: int = 0
    _requests: int = 0
    _next_event: int = 1
    _open: list[Line] = field(default_factory=list)
    _files: list[_File] = field(default_factory=list)

    def seal(self, *, all_of_it: bool = False) -> int:
        """Take up what the log has got since; the number of the last sealed row.

        ``all_of_it`` seals a segment early, as the end of its hour does.
        """
        while self._next_event < self.log.end:
            for told in self.log.read(self._next_event, 500):
                self._open += lines(told)
                self._next_event = told.event.n + 1
        while len(self._open) >= self.segment_events or (all_of_it and self._open):
            part, self._open = self._open[: self.segment_events], self._open[self.segment_events :]
            blocks = [part[at : at + self.block_events] for at in range(0, len(part), self.block_events)]
            sealed = segments.seal(blocks)
            self._files.append(_File(len(self._files), part[0].seq, part[-1].seq, sealed))
        return self._files[-1].last if self._files else 0

    def compact(self) -> int:
        """Rewrite every file without records that something newer replaced; how many rows went.

        Blocks keep their numbers, deletes and markers stay.
        """
        newest: dict[tuple[str, str, str], int] = {}
        for file in self._files:
            for line in _lines_of(file):
                if line.kind not in _MARKERS:
                    newest[line.did, line.collection, line.rkey] = line.seq
        gone = 0
        for file in self._files:
            blocks = [
                [
                    line
                    for line in block
                    if line.kind in _MARKERS or newest[line.did, line.collection, line.rkey] == line.seq
                ]
                for block in file.sealed.blocks
            ]
            kept = sum(map(len, blocks))
            gone += sum(map(len, file.sealed.blocks)) - kept
            sealed = segments.seal(blocks, (file.first, file.last))
            if sealed.checksum == file.sealed.checksum:
                # Another generation all the same: the writer notes when it was made.
                sealed = segments.seal([*blocks, []], (file.first, file.last))
            file.sealed = sealed
            file.generation += 1
        return gone

    # ---- what it answers

    def plan(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Raises XrpcError for what can't be asked."""
        kinds, dids, collections = (
            frozenset(_texts(asked, name)) for name in ("kinds", "dids", "collections")
        )
        if len(_texts(asked, "dids")) > 10_000 or not all(map(syntax.is_did, dids)):
            raise invalid("malformed or too many dids")
        if len(collections) > 100 or not all(syntax.is_nsid(name.removesuffix(".*")) for name in collections):
            raise invalid("malformed or too many collections")
        if not kinds <= set(KINDS) or (collections and kinds and "commit" not in kinds):
            raise invalid("kinds that don't fit")
        after, before = _number(asked, "afterSeq", 0), _number(asked, "beforeSeq", 2**62)
        tip = min(self.seal(), before)
        through, entries = tip, 0
        found: list[dict[str, Any]] = []
        matched = 0
        for file in self._files:
            if file.last <= after or file.first > tip:
                continue
            blocks = [
                number
                for number, block in enumerate(file.sealed.blocks)
                if any(after < line.seq <= tip for line in block)
                and (
                    self.faults.promise_too_much
                    or any(_matches(line, kinds, dids, collections) for line in block)
                )
            ]
            if not blocks:
                continue
            whole = len(blocks) >= 0.75 * len(file.sealed.blocks)
            size = 1 if whole else len(blocks)
            if found and entries + size > self.page:
                through = int(found[-1]["maxSeq"])
                break
            entries += size
            matched += len(blocks)
            found.append(_entry(file, None if whole else blocks))
        if self.faults.stand_still and found:
            self.faults.note("stand-still", after)
            through = after
        if self.faults.promise_too_much:
            self.faults.note("promise", after)
        return {
            "plannedThroughSeq": through,
            "sealedTipSeq": tip,
            "segments": found,
            "stats": {
                "segmentsExamined": len(self._files),
                "segmentsMatched": len(found),
                "blocksMatched": matched,
                "entries": entries,
            },
        }

    async def get_block(self, request: Request) -> Answer:
        file = self._find(request.get("segment"))
        number = request.get("blockIndex")
        if not number.isdecimal() or int(number) >= len(file.sealed.frames):
            raise XrpcError(404, "BlockNotFound", "there is no such block")
        await self._begun()
        # Whatever the file is by now.
        return self._download(file.sealed.frames[int(number)], f'"{file.sealed.checksum}:{number}"', request)

    async def get_segment(self, request: Request) -> Answer:
        file = self._find(request.get("name"))
        await self._begun()
        return self._download(file.sealed.data, f'"{file.sealed.checksum}"', request)

    def listing(self, request: Request) -> dict[str, Any]:
        self.seal()
        start = int(request.find("cursor") or 0)
        limit = request.limit(100, 1000)
        files = self._files[start : start + limit]
        listed = []
        for file in files:
            times = [line.witnessed_us for line in _lines_of(file)] or [0]
            listed.append(
                {
                    "name": file.name,
                    "index": file.index,
                    "sizeBytes": len(file.sealed.data),
                    "checksum": file.sealed.checksum,
                    "eventCount": sum(map(len, file.sealed.blocks)),
                    "minSeq": file.first,
                    "maxSeq": file.last,
                    "minWitnessedAt": min(times),
                    "maxWitnessedAt": max(times),
                }
            )
        more = start + limit < len(self._files)
        return {"segments": listed} | ({"cursor": str(start + limit)} if more else {})

    def admit(self, request: Request) -> None:
        """The token, then the faults that every call may have. Raises XrpcError."""
        authorization = request.headers.get("authorization", "").encode()
        if self.token and not hmac.compare_digest(authorization, f"Bearer {self.token}".encode()):
            raise XrpcError(401, "AuthenticationRequired", "a token is needed")
        self._requests += 1
        faults = self.faults
        if faults.limit_every and self._requests % faults.limit_every == 0:
            faults.note("limit", self._requests)
            raise XrpcError(429, "RateLimitExceeded", "too many requests", {"retry-after": "0.2"})
        if faults.fail_every and self._requests % faults.fail_every == 0:
            faults.note("fail", self._requests)
            raise XrpcError(503, "ServiceUnavailable", "try again")

    async def _begun(self) -> None:
        self.downloads += 1
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.faults.compact_after and self.downloads >= self.faults.compact_after:
            self.faults.compact_after = 0
            self.faults.note("compact", self.downloads, detail=f"{self.compact()} rows went")

    def _find(self, name: str) -> _File:
        for file in self._files:
            if file.name == name:
                if name in self.faults.lose:
                    self.faults.note("lose", file.index, detail=name)
                    break
                return file
        raise XrpcError(404, "SegmentNotFound", "there is no such segment")

    def _download(self, data: bytes, etag: str, request: Request) -> Answer:
        faults = self.faults
        headers = {"etag": etag, "accept-ranges": "bytes"}
        begin, status = 0, 200
        asked = request.headers.get("range", "")
        if asked.startswith("bytes=") and request.headers.get("if-range", etag) == etag:
            begin, status = int(asked[6:].partition("-")[0]), 206
            self.resumed += 1
            headers["content-range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        body = data[begin:]
        if faults.flip_every and self.downloads % faults.flip_every == 0:
            at = len(body) // 2
            body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
            faults.note("flip", begin + at, detail=etag)
        cut = None
        if faults.cut_every and self.downloads % faults.cut_every == 0:
            cut = len(body) // 2
            faults.note("cut", begin + cut, detail=etag)
        return Answer(body, status, "application/octet-stream", headers, cut=cut)


def lines(told: Told) -> list[Line]:
    """The rows of an event, numbered as the stream numbers them."""
    event, body = told.event, told.event.body
    found: list[Line] = []

    def add(kind: str, collection: str = "", rkey: str = "", rev: str = "", payload: bytes = b"") -> None:
        seq = event.row + len(found)
        number = segments.KINDS[kind]
        found.append(Line(seq, event.time_us, number, event.did, collection, rkey, rev, payload))

    if isinstance(body, CommitBody):
        for write in body.writes:
            collection, _, rkey = write.path.partition("/")
            add(write.action, collection, rkey, body.rev, write.block or b"")
        return found
    relayed: dict[str, Any] = {"did": event.did, "seq": told.relay_seq, "time": iso_ms(event.time_us)}
    match body:
        case SyncBody():
            block = car.write(root := cid.cid_of(body.commit), [(root, body.commit)])
            add("sync", payload=cbor.encode(relayed | {"rev": body.rev, "blocks": block}))
            for path, record in body.resync:
                collection, _, rkey = path.partition("/")
                add("resync", collection, rkey, body.rev, record)
        case IdentityBody():
            add("identity", payload=cbor.encode(relayed | {"handle": body.handle}))
        case AccountBody():
            status = {} if body.status is None else {"status": body.status}
            add("account", payload=cbor.encode(relayed | {"active": body.active} | status))
    return found


def site(archive: Archive) -> Site:
    """The calls of the archive's origin."""

    async def plan(request: Request) -> Answer:
        archive.admit(request)
        return json_answer(archive.plan(request.json()))

    async def get_block(request: Request) -> Answer:
        archive.admit(request)
        return await archive.get_block(request)

    async def get_segment(request: Request) -> Answer:
        archive.admit(request)
        return await archive.get_segment(request)

    async def list_segments(request: Request) -> Answer:
        return json_answer(archive.listing(request))

    made = Site()
    made.post(SPACE + "planSnapshot", plan)
    made.get(SPACE + "getBlock", get_block)
    made.get(SPACE + "getSegment", get_segment)
    made.get(SPACE + "listSegments", list_segments)
    return made


def _lines_of(file: _File) -> Iterable[Line]:
    return (line for block in file.sealed.blocks for line in block)


def _entry(file: _File, blocks: Sequence[int] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": file.name,
        "index": file.index,
        "checksum": file.sealed.checksum,
        "minSeq": file.first,
        "maxSeq": file.last,
        "mode": "segment" if blocks is None else "blocks",
    }
    if blocks is None:
        return entry
    ranges: list[dict[str, int]] = []
    for number in blocks:
        if ranges and ranges[-1]["last"] == number - 1:
            ranges[-1]["last"] = number
        else:
            ranges.append({"first": number, "last": number})
    return entry | {"blocks": ranges}


def _matches(line: Line, kinds: frozenset[str], dids: frozenset[str], collections: frozenset[str]) -> bool:
    if line.kind in _MARKERS:
        # Blocks with markers are always planned unless other kinds were named.
        return not kinds or (_MARKERS[line.kind] in kinds and (not dids or line.did in dids))
    if (kinds and "commit" not in kinds) or (dids and line.did not in dids):
        return False
    return not collections or any(
        line.collection == name or (name.endswith(".*") and line.collection.startswith(name[:-1]))
        for name in collections
    )


def _texts(asked: dict[str, Any], name: str) -> list[str]:
    values = asked.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise invalid(f"{name} must be an array of strings")
    return values


def _number(asked: dict[str, Any], name: str, default: int) -> int:
    value = asked.get(name, default)
    if not isinstance(value, int) or value < 0:
        raise invalid(f"{name} must be a number that is not negative")
    return value
