"""Jetstream v1: ``/subscribe``, events in JSON that are placed by the server's clock.

The cursor is a time in microseconds, inclusive; one that is too old or in the future is changed in
silence, so only the first event tells. Every connection asks anew for a few seconds before the
position: the clock may have stepped back, and the same time may belong to several events.
"""

from __future__ import annotations

import contextlib

import msgspec
import orjson
from websockets.asyncio.client import ClientConnection

from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.ingest.jetstream import Account, Identity, account_event, identity_event, json_decoder
from appliance.ingest.lists import EVERYBODY, Wanted
from appliance.ingest.upstream import (
    BEHIND,
    COLLECTIONS,
    FRAME_MAX,
    OTHER_HOST_MARGIN_US,
    RETENTION_ASSUMED_US,
    SKIPPED,
    Chunk,
    Inflater,
    Places,
    Start,
    WireName,
    broken,
    cursor_us,
    good_time,
    parsed,
)
from appliance.outbound.addresses import Params, with_params
from appliance.outbound.client import Outbound
from appliance.protocol import dictionaries
from appliance.protocol.events import CommitEvent, Event

REWIND_US = 5_000_000


class _Commit(msgspec.Struct, gc=False):
    rev: str
    operation: str
    collection: str
    rkey: str
    record: msgspec.Raw = msgspec.Raw()
    cid: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    did: str = ""
    time_us: int = 0
    kind: str = ""
    commit: _Commit | None = None
    identity: msgspec.Raw = msgspec.Raw()
    account: msgspec.Raw = msgspec.Raw()
    cursor: int = 0  # a seq, which only servers of v2 add
    type: str = msgspec.field(name="$type", default="")


class _Timed(msgspec.Struct, gc=False):
    """What is left to read of an event whose other parts make no sense."""

    did: str | None = None
    time_us: int | None = None


_decode = msgspec.json.Decoder(_Envelope).decode
_decode_timed = msgspec.json.Decoder(_Timed).decode
_decode_identity = json_decoder(Identity)
_decode_account = json_decoder(Account)


class JetstreamV1:
    """One host's stream of all accounts, or of a list.

    ``numbered`` once the server has shown that it is v2's: then nothing is lost where its replay ends.
    """

    wire: WireName = "jetstream-v1"

    def __init__(self, outbound: Outbound, url: str, wanted: Wanted = EVERYBODY) -> None:
        self.name = f"{self.wire} {url}"
        self.numbered = False
        self._url = url
        self._wanted = wanted
        self._outbound = outbound
        self._plain = False
        self._inflater = Inflater(dictionaries.legacy())
        self._places = Places()

    async def open(self, start: Start | None) -> ClientConnection:
        self._places = Places()
        self.numbered = False
        # The filter goes in the first message: nothing is sent before it, and it has no length limit
        # of proxies. It is the only one: an update has no answer, so nothing could be proved by it.
        params: Params = {"requireHello": "true"}
        if not self._plain:
            params["compress"] = "true"
        if start is not None and (cursor := cursor_us(start, REWIND_US)) is not None:
            params["cursor"] = cursor
        connection = await self._outbound.websocket(with_params(self._url, params), max_size=FRAME_MAX)
        payload: dict[str, object] = {"wantedCollections": COLLECTIONS}
        if self._wanted.dids is not None:
            payload["wantedDids"] = self._wanted.asked
        await connection.send(orjson.dumps({"type": "options_update", "payload": payload}).decode())
        return connection

    async def decode(self, message: bytes) -> Chunk | None:
        try:
            text = self._inflater.text(message)
            envelope = parsed(_decode, text)
        except BadInput as error:
            return self._unreadable(message, error)
        if envelope.type:
            raise Unavailable("this is not the wire of /subscribe", name="WrongWire")
        size = len(text) + 200
        if envelope.cursor:
            self.numbered = True
        did, time_us = envelope.did, envelope.time_us
        if not good_time(time_us) or not did:
            event = broken(self.wire, "an event without account or time", text, did or None)
            return Chunk([event], None, None, size)
        events: list[Event]
        try:
            if envelope.kind == "commit":
                events = [self._commit(envelope.commit, did, time_us)]
            elif envelope.kind == "identity":
                events = [identity_event(_decode_identity(envelope.identity), did, time_us)]
            elif envelope.kind == "account":
                events = [account_event(_decode_account(envelope.account), did, time_us)]
            elif not envelope.kind:
                raise BadInput("an event without a kind")
            else:
                SKIPPED.labels(self.wire, "kind").inc()
                events = []
        except BadInput as error:
            events = [broken(self.wire, error.message, text, did, time_us)]
        return Chunk(events, None, time_us, size)

    def go_plain(self) -> bool:
        changed = not self._plain
        self._plain = True
        return changed

    def missed(self, start: Start, first: Chunk) -> str | None:
        if start.time_us is None or first.time_us is None:
            return None
        cursor = cursor_us(start, REWIND_US)
        if cursor is not None and first.time_us < cursor:
            # A cursor in the future is answered with the live tail, in silence.
            return BEHIND
        if self._wanted.dids is not None:
            return None  # old or quiet: a list can't tell
        if not start.seen:
            tolerance_us = RETENTION_ASSUMED_US
        else:
            # On the same host the event at the position itself is within what is asked for again.
            tolerance_us = 0 if start.same_host else max(OTHER_HOST_MARGIN_US, start.margin_us)
        return "the stream begins later than asked" if first.time_us > start.time_us + tolerance_us else None

    def _commit(self, commit: _Commit | None, did: str, time_us: int) -> CommitEvent:
        if commit is None:
            raise BadInput("a commit without its body")
        record = bytes(commit.record)
        return CommitEvent(
            did,
            commit.rev,
            self._places.next(did, commit.rev),
            commit.operation,  # type: ignore[arg-type]  # a newer word is for the merge rule to judge
            commit.collection,
            commit.rkey,
            commit.cid,
            record if record and record != b"null" else None,
            time_us,
        )

    def _unreadable(self, message: bytes, error: BadInput) -> Chunk:
        did = time_us = None
        with contextlib.suppress(ApplianceError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            text = self._inflater.text(message)
            found = _decode_timed(text)
            message, did, time_us = text, found.did, found.time_us
        if time_us is None or not good_time(time_us):
            time_us = None
        event = broken(self.wire, error.message, message, did, time_us or 0)
        return Chunk([event], None, time_us, len(message) + 200)
