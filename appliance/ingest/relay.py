"""``com.atproto.sync.subscribeRepos`` of a relay or a PDS: repository commits in binary frames.

Commits of tracked accounts are checked against their signing key, and against the tree that the
commit before them left. What others sent is the relay's word.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from cachetools import LRUCache
from websockets.asyncio.client import ClientConnection

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import BadInput, NotFound, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest.upstream import (
    FRAME_MAX,
    SKIPPED,
    Chunk,
    Start,
    TooOld,
    WireName,
    broken,
    good_seq,
    good_time,
)
from appliance.outbound.addresses import with_params
from appliance.outbound.client import Outbound
from appliance.protocol import commits, firehose, mst
from appliance.protocol.events import Event, SyncEvent
from appliance.protocol.firehose import Frame
from appliance.protocol.syntax import parse_datetime_us

log = telemetry.Log("ingest")
CHECKED = telemetry.counter("ingest_commits_checked", "Commits of tracked accounts, by verdict.", ["verdict"])

NSID = "com.atproto.sync.subscribeRepos"
GAP_TOLERANCE_US = 5_000_000
TREES_MAX = 200_000
UNKNOWN_KEY_S = 60.0


class Relay:
    """One host's stream of all repositories. ``tracked`` tells whose commits are to be checked."""

    wire: WireName = "relay"

    def __init__(
        self,
        outbound: Outbound,
        identities: Identities,
        url: str,
        tracked: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        path = urlsplit(url).path
        self._url = url if path.endswith(NSID) else f"{url.rstrip('/')}/xrpc/{NSID}"
        self.name = f"{self.wire} {self._url}"
        self._outbound = outbound
        self._identities = identities
        self._tracked = tracked
        self._clock = clock
        self._trees: LRUCache[str, tuple[str, bytes]] = LRUCache(TREES_MAX)
        self._no_key_until_s: LRUCache[str, float] = LRUCache(10_000)

    async def open(self, start: Start | None) -> ClientConnection:
        url = self._url
        if start is not None:
            if not start.same_host or start.seq is None:
                raise TooOld("this host numbers its events itself")
            # The last event is asked for again: whether it comes shows that nothing was skipped.
            url = with_params(url, {"cursor": max(start.seq - 1, 0)})
        return await self._outbound.websocket(url, max_size=FRAME_MAX)

    async def decode(self, message: bytes) -> Chunk | None:
        size = len(message) + 500
        try:
            frame = firehose.decode_frame(message)
        except BadInput as error:
            return Chunk([broken(self.wire, error.message, message)], None, None, size)
        if frame.kind == "error":
            name = str(frame.body.get("error", ""))[:100]
            if name == "FutureCursor":
                raise TooOld("the host's numbers start over")
            raise Unavailable(f"the stream ended itself: {name}")
        if frame.kind == "#info":
            if frame.body.get("name") == "OutdatedCursor":
                return Chunk([], None, None, 0, outdated="the host clamped our position")
            SKIPPED.labels(self.wire, "info").inc()
            return None
        seq = frame.seq
        time_us = _time_us(frame)
        if seq is None or not good_seq(seq) or time_us is None:
            why = "an event without number or time"
            return Chunk([broken(self.wire, why, message, frame.did)], None, None, size)
        if frame.kind not in ("#commit", "#sync", "#identity", "#account"):
            SKIPPED.labels(self.wire, "kind").inc()
            return Chunk([], seq, time_us, size)
        events = firehose.events(frame, message)
        did = frame.did
        if did is not None and frame.kind in ("#commit", "#sync") and self._tracked(did):
            events = await self._judged(frame, did, events, message, time_us)
        return Chunk(events, seq, time_us, size)

    def go_plain(self) -> bool:
        return False

    def missed(self, start: Start, first: Chunk) -> str | None:
        if start.seq is None or first.seq is None:
            return None
        if first.seq < start.seq - 1:
            return "the host's numbers start over"
        late = start.time_us is None or (first.time_us or 0) > start.time_us + GAP_TOLERANCE_US
        return "the stream begins later than asked" if first.seq > start.seq and late else None

    async def _judged(
        self, frame: Frame, did: str, events: list[Event], message: bytes, time_us: int
    ) -> list[Event]:
        """The events if the commit is what it should be; with doubt added where that can't be told."""
        try:
            commit = await self._checked(frame, did)
        except mst.Missing:
            # Older software sends no proof of what it changed: the audit has to.
            return self._doubtful("unproven", frame, events, time_us)
        except Unavailable:
            return self._doubtful("no key", frame, events, time_us)
        except BadInput as error:
            CHECKED.labels("refused").inc()
            log.warning("commit_refused", did=did, upstream=self.name, why=error.message)
            return [broken(self.wire, error.message, message, did, time_us)]
        known = self._trees.get(did)
        if known is not None and commit.rev <= known[0]:
            # Seen before, or sent late: rows have versions of their own.
            return events if frame.kind == "#commit" else []
        self._trees[did] = (commit.rev, commit.data)
        if frame.kind == "#sync":
            return [] if known is not None and known[1] == commit.data else events
        if frame.body.get("tooBig"):
            return self._doubtful("too big", frame, events, time_us)
        if known is not None:
            before = firehose.previous_data(frame)
            fits = before == known[1] if before is not None else firehose.since(frame) == known[0]
            if not fits:
                return self._doubtful("chain broken", frame, events, time_us)
        CHECKED.labels("good").inc()
        return events

    async def _checked(self, frame: Frame, did: str) -> commits.Commit:
        key = await self._key(did)
        try:
            return firehose.check_commit(frame, key, now_us=self._clock.now_us())
        except BadInput as error:
            if error.name != "InvalidSignature":
                raise
            newer = await self._key(did, fresh=True)
            if newer == key:
                raise
        return firehose.check_commit(frame, newer, now_us=self._clock.now_us())

    async def _key(self, did: str, *, fresh: bool = False) -> str:
        """The account's signing key. Raises Unavailable when it can't be had, for a while without asking."""
        now_s = self._clock.monotonic_s()
        if not fresh and self._no_key_until_s.get(did, 0.0) > now_s:
            raise Unavailable("the signing key is not known")
        try:
            identity = await (self._identities.refresh(did) if fresh else self._identities.get(did))
        except (NotFound, BadInput, Unavailable) as error:
            self._no_key_until_s[did] = now_s + UNKNOWN_KEY_S
            raise Unavailable("the signing key is not known") from error
        if identity.signing_key is None:
            self._no_key_until_s[did] = now_s + UNKNOWN_KEY_S
            raise Unavailable("the signing key is not known")
        return identity.signing_key

    def _doubtful(self, verdict: str, frame: Frame, events: list[Event], time_us: int) -> list[Event]:
        CHECKED.labels(verdict).inc()
        rev = frame.body.get("rev")
        return [*events, SyncEvent(frame.did or "", rev if isinstance(rev, str) else "", time_us)]


def _time_us(frame: Frame) -> int | None:
    text = frame.body.get("time")
    if not isinstance(text, str):
        return None
    try:
        time_us = parse_datetime_us(text)
    except BadInput:
        return None
    return time_us if good_time(time_us) else None
