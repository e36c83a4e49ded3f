"""Jetstream v2: ``network.bsky.jetstream.subscribeEvents``, numbered events in JSON.

The cursor is a seq, inclusive, and belongs to one host; from 10^15 on it is a time in microseconds.
Frames are compressed with a dictionary that the server names; without it they come as plain text.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import orjson
from websockets.asyncio.client import ClientConnection

from appliance import telemetry
from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.ingest.jetstream import Account, Identity, Sync, account_event, identity_event, json_decoder
from appliance.ingest.lists import EVERYBODY, Wanted
from appliance.ingest.upstream import (
    BEHIND,
    COLLECTIONS,
    FRAME_MAX,
    SKIPPED,
    Chunk,
    Inflater,
    Places,
    Start,
    TooOld,
    WireName,
    broken,
    cursor_us,
    good_seq,
    good_time,
    origin_of,
    parsed,
)
from appliance.outbound.addresses import Params, with_params
from appliance.outbound.client import Declined, Outbound
from appliance.outbound.limits import STREAM_HELPER
from appliance.protocol import dictionaries
from appliance.protocol.events import CommitEvent, Event, SyncEvent
from appliance.protocol.syntax import parse_datetime_us

log = telemetry.Log("ingest")

SUBPROTOCOL = "xrpc.v1.json"
GAP_TOLERANCE_US = 5_000_000
SPACE = "network.bsky.jetstream.subscribeEvents#"
_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"


class _Payload(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    seq: int = 0
    did: str = ""
    time: str = ""
    rev: str = ""
    operation: str = ""
    collection: str = ""
    rkey: str = ""
    record: msgspec.Raw = msgspec.Raw()
    cid: str | None = None
    identity: msgspec.Raw = msgspec.Raw()
    account: msgspec.Raw = msgspec.Raw()
    sync: msgspec.Raw = msgspec.Raw()
    name: str = ""


class _Frame(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    payload: _Payload | None = None
    error: str = ""


class _Numbered(msgspec.Struct, gc=False):
    """What is left to read of an event whose other parts make no sense."""

    seq: int | None = None
    did: str | None = None
    time: str | None = None


class _NumberedFrame(msgspec.Struct, gc=False):
    payload: _Numbered


_decode = msgspec.json.Decoder(_Frame).decode
_decode_numbered = msgspec.json.Decoder(_NumberedFrame).decode
_decode_sync = json_decoder(Sync)
_decode_identity = json_decoder(Identity)
_decode_account = json_decoder(Account)


class JetstreamV2:
    """One host's stream of all accounts, or of a short list."""

    wire: WireName = "jetstream-v2"

    def __init__(self, outbound: Outbound, url: str, cache: Path, wanted: Wanted = EVERYBODY) -> None:
        self.name = f"{self.wire} {url}"
        self._url = url
        self._outbound = outbound
        self._cache = cache / "zstd"
        self._wanted = wanted
        self._plain = False
        self._dictionary: tuple[int, bytes] | None = None
        self._inflater = Inflater(None)
        self._places = Places()
        self._seconds: tuple[str, int] = ("", 0)
        self._first = True

    async def open(self, start: Start | None) -> ClientConnection:
        self._places = Places()
        self._first = True
        dictionary = None if self._plain else self._dictionary or self._newest_kept()
        try:
            return await self._connect(start, dictionary)
        except Declined as declined:
            if _error_name(declined.body) != "UnknownZstdDictionary":
                raise
        dictionary = await self._fetch_dictionary()
        try:
            return await self._connect(start, dictionary)
        except Declined as declined:
            if _error_name(declined.body) != "UnknownZstdDictionary":
                raise
        log.warning("dictionary_refused", upstream=self.name)
        return await self._connect(start, None)

    async def decode(self, message: bytes) -> Chunk | None:
        try:
            text = self._inflater.text(message)
            frame = parsed(_decode, text)
        except BadInput as error:
            return self._unreadable(message, error)
        payload = frame.payload
        if frame.type == "message" and payload is not None:
            self._first = False
            return self._payload(payload, text)
        if frame.type == "error":
            raise Unavailable(f"the stream ended itself: {frame.error[:100]}")
        if not frame.type:
            if self._first:
                raise Unavailable("this is not the wire of subscribeEvents", name="WrongWire")
            return self._unreadable(message, BadInput("a frame without a type"))
        SKIPPED.labels(self.wire, "frame").inc()
        return None

    def go_plain(self) -> bool:
        changed = not self._plain
        self._plain = True
        return changed

    def missed(self, start: Start, first: Chunk) -> str | None:
        if first.seq is None:
            return None
        if not start.same_host or start.seq is None:
            # A time that is too old is announced; one in the future is not.
            cursor = cursor_us(start, 0)
            late = cursor is not None and first.time_us is not None and first.time_us < cursor
            return BEHIND if late else None
        if self._wanted.dids is not None:
            return "the host's numbers start over" if first.seq < start.seq else None
        # The seq itself is asked for again, so it comes first unless something is wrong.
        if first.seq < start.seq:
            return "the host's numbers start over"
        late = (
            first.time_us is None or start.time_us is None or first.time_us > start.time_us + GAP_TOLERANCE_US
        )
        return "the stream begins later than asked" if first.seq > start.seq and late else None

    async def _connect(self, start: Start | None, dictionary: tuple[int, bytes] | None) -> ClientConnection:
        params: Params = {"collections": list(COLLECTIONS)}
        if self._wanted.dids is not None:
            # Few accounts: without the other filter each rev of theirs is told.
            params = {"dids": self._wanted.asked}
        if start is not None:
            if start.same_host and start.seq is not None:
                params["cursor"] = start.seq
            elif (cursor := cursor_us(start, 0)) is not None:
                params["cursor"] = cursor
        if dictionary is not None:
            params["zstdDictionary"] = dictionary[0]
        try:
            connection = await self._outbound.websocket(
                with_params(self._url, params), max_size=FRAME_MAX, subprotocols=[SUBPROTOCOL]
            )
        except Declined as declined:
            if _error_name(declined.body) == "CursorTooOld":
                raise TooOld("the host no longer has what comes after our position") from declined
            raise
        self._dictionary = dictionary
        self._inflater = Inflater(None if dictionary is None else dictionary[1])
        return connection

    def _payload(self, payload: _Payload, text: bytes) -> Chunk | None:
        kind = payload.type
        if kind == SPACE + "info":
            if payload.name == "OutdatedCursor":
                return Chunk([], None, None, 0, outdated="the host clamped our position")
            SKIPPED.labels(self.wire, "info").inc()
            return None
        size = len(text) + 200
        try:
            time_us = self._time_us(payload.time)
        except BadInput:
            time_us = 0
        seq = payload.seq
        if not good_seq(seq) or not good_time(time_us):
            why = "an event without number or time"
            return Chunk([broken(self.wire, why, text, payload.did or None)], None, None, size)
        events: list[Event]
        try:
            if kind == SPACE + "commit":
                events = [self._commit(payload, time_us)]
            elif kind == SPACE + "identity":
                events = [identity_event(_decode_identity(payload.identity), payload.did, time_us)]
            elif kind == SPACE + "account":
                events = [account_event(_decode_account(payload.account), payload.did, time_us)]
            elif kind == SPACE + "sync":
                events = [SyncEvent(payload.did, _decode_sync(payload.sync).rev, time_us)]
            elif not kind:
                raise BadInput("an event without a type")
            else:
                SKIPPED.labels(self.wire, "kind").inc()
                events = []
        except BadInput as error:
            events = [broken(self.wire, error.message, text, payload.did or None, time_us)]
        return Chunk(events, seq, time_us, size)

    def _commit(self, payload: _Payload, time_us: int) -> CommitEvent:
        did, rev = payload.did, payload.rev
        if not (did and rev and payload.operation and payload.collection and payload.rkey):
            raise BadInput("a commit without all its parts")
        record = bytes(payload.record)
        return CommitEvent(
            did,
            rev,
            self._places.next(did, rev),
            payload.operation,  # type: ignore[arg-type]  # a newer word is for the merge rule to judge
            payload.collection,
            payload.rkey,
            payload.cid,
            record if record and record != b"null" else None,
            time_us,
        )

    def _unreadable(self, message: bytes, error: BadInput) -> Chunk:
        """Neither position nor account may be lost with an event, as far as they can be read."""
        seq = time_us = did = None
        with contextlib.suppress(ApplianceError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            text = self._inflater.text(message)
            found = _decode_numbered(text).payload
            message, did, seq = text, found.did, found.seq
            time_us = None if found.time is None else self._time_us(found.time)
        if seq is None or not good_seq(seq) or time_us is None or not good_time(time_us):
            seq = time_us = None
        event = broken(self.wire, error.message, message, did, time_us or 0)
        return Chunk([event], seq, time_us, len(message) + 200)

    def _time_us(self, text: str) -> int:
        """RFC 3339 with six decimals; the seconds are parsed once for all events that share them."""
        if len(text) == 27 and text[19] == "." and text[26] == "Z" and text[20:26].isdecimal():
            seconds, whole_us = self._seconds
            if text[:19] != seconds:
                whole_us = parse_datetime_us(text[:19] + "Z")
                self._seconds = (text[:19], whole_us)
            return whole_us + int(text[20:26])
        return parse_datetime_us(text)

    def _newest_kept(self) -> tuple[int, bytes]:
        """The dictionary fetched last, or the one that ships."""
        with contextlib.suppress(OSError):
            kept = sorted(self._cache.glob("*.zdict"), key=lambda path: path.stat().st_mtime)
            if kept and _is_dictionary(data := kept[-1].read_bytes()):
                return dictionaries.id_of(data), data
        return dictionaries.current()

    async def _fetch_dictionary(self) -> tuple[int, bytes] | None:
        """The server's present dictionary, kept on disk; None when it can't be had."""
        url = f"{origin_of(self._url)}/xrpc/network.bsky.jetstream.getZstdDictionary"
        try:
            answer = await self._outbound.get(url, limits=STREAM_HELPER)
        except ApplianceError as error:
            log.warning("dictionary_unavailable", upstream=self.name, error=error)
            return None
        if answer.status != 200 or not _is_dictionary(answer.body):
            log.warning("dictionary_unavailable", upstream=self.name, status=answer.status)
            return None
        key = dictionaries.id_of(answer.body)
        log.info("dictionary_fetched", upstream=self.name, id=key)
        with contextlib.suppress(OSError):  # the copy on disk only saves the next start a request
            self._cache.mkdir(parents=True, exist_ok=True)
            part = self._cache / f"{key}.part"
            part.write_bytes(answer.body)
            part.replace(self._cache / f"{key}.zdict")
        return key, answer.body


def _is_dictionary(data: bytes) -> bool:
    return data[:4] == _DICTIONARY_MAGIC and len(data) > 8


def _error_name(body: bytes) -> str:
    with contextlib.suppress(orjson.JSONDecodeError):
        parsed_body: Any = orjson.loads(body)
        if isinstance(parsed_body, dict):
            return str(parsed_body.get("error", ""))
    return ""
