"""``com.atproto.sync.subscribeRepos`` of a relay or a PDS: repository commits in binary frames.

Commits of tracked accounts are checked against their signing key and against their own trees; the
writer checks that each follows the one before it (chain.py). What others sent is the relay's word.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from cachetools import LRUCache, TTLCache
from websockets.asyncio.client import ClientConnection

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import BadInput, NotFound, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest.upstream import (
    FRAME_MAX,
    RETENTION_ASSUMED_US,
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
from appliance.protocol import car, cid, commits, firehose, mst
from appliance.protocol.events import Event, HeadEvent
from appliance.protocol.firehose import Frame
from appliance.protocol.syntax import normalise_did, parse_datetime_us

log = telemetry.Log("ingest")
CHECKED = telemetry.counter("ingest_commits_checked", "Commits of tracked accounts, by verdict.", ["verdict"])

NSID = "com.atproto.sync.subscribeRepos"
GAP_TOLERANCE_US = 5_000_000
AGAIN_MAX = 20_000
KEYS_MAX = 100_000
KEY_S = 60.0

NO_KEY = "the signing key is not known"
TOO_BIG = "a commit was too big to be told"
UNPROVEN = "a commit came without its proof"


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
        # The key of an account; None: nobody could tell it.
        self._keys: TTLCache[str, str | None] = TTLCache(KEYS_MAX, KEY_S, timer=clock.monotonic_s)
        self._asked_s: LRUCache[str, float] = LRUCache(10_000)
        # Of a connection that reads from the host's beginning: until when that is nothing new.
        self._again_until_us = 0
        self._again = 0
        self._clamped = False

    async def open(self, start: Start | None) -> ClientConnection:
        url = self._url
        self._again_until_us, self._again, self._clamped = 0, 0, False
        if start is not None:
            if not start.same_host or (start.seq is None and start.time_us is None):
                raise TooOld("this host numbers its events itself")
            if start.seq is None:
                # Connected before, and nothing came: a quiet host has little to tell from its beginning.
                self._again_until_us = start.time_us or 0
                url = with_params(url, {"cursor": 0})
            else:
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
                if self._again_until_us:
                    # Of everything: whether our part is among what is left, the first event shows.
                    self._clamped = True
                    return None
                return Chunk([], None, None, 0, outdated="the host clamped our position")
            SKIPPED.labels(self.wire, "info").inc()
            return None
        seq = frame.seq
        time_us = _time_us(frame)
        if seq is None or not good_seq(seq) or time_us is None:
            why = "an event without number or time"
            return Chunk([broken(self.wire, why, message, frame.did)], None, None, size)
        if time_us < self._again_until_us:
            self._again += 1
            if self._again > AGAIN_MAX:
                raise TooOld("too much lies before the time of our position")
        if frame.kind not in ("#commit", "#sync", "#identity", "#account"):
            SKIPPED.labels(self.wire, "kind").inc()
            return Chunk([], seq, time_us, size)
        did = _spelt(frame.did)
        if frame.kind == "#identity" and did is not None:
            self._keys.pop(did, None)
        if did is not None and frame.kind in ("#commit", "#sync") and self._tracked(did):
            return Chunk(await self._judged(frame, did, message, time_us), seq, time_us, size)
        return Chunk(firehose.events(frame, message), seq, time_us, size)

    def go_plain(self) -> bool:
        return False

    def missed(self, start: Start, first: Chunk) -> str | None:
        if first.seq is None:
            return None
        if start.seq is None:
            # From the host's beginning: it lacks what we ask for only if that is older than what it keeps.
            bearable_us = GAP_TOLERANCE_US if self._clamped else RETENTION_ASSUMED_US
            late = (first.time_us or 0) > (start.time_us or 0) + bearable_us
            return "the stream begins later than asked" if late else None
        if first.seq < start.seq - 1:
            return "the host's numbers start over"
        late = start.time_us is None or (first.time_us or 0) > start.time_us + GAP_TOLERANCE_US
        return "the stream begins later than asked" if first.seq > start.seq and late else None

    async def _judged(self, frame: Frame, did: str, message: bytes, time_us: int) -> list[Event]:
        """Where the commit leaves the repository, and its operations, if it is what it should be.

        One that is not is kept as broken. Where that can't be told, doubt comes with it.
        """
        is_commit = frame.kind == "#commit"
        try:
            since = firehose.since(frame) if is_commit else None
            before = firehose.previous_data(frame) if is_commit else None
            archive = firehose.blocks_of(frame)
            commit = await self._signed(frame, archive, did)
            doubt = NO_KEY if commit is None else _unproven(frame, archive, commit)
        except BadInput as error:
            CHECKED.labels("refused").inc()
            log.warning("commit_refused", did=did, upstream=self.name, why=error.message)
            return [broken(self.wire, error.message, message, did, time_us)]
        CHECKED.labels(doubt or "good").inc()
        head = HeadEvent(
            did,
            str(frame.body.get("rev", "")),
            None if commit is None else cid.to_text(commit.data),
            since,
            None if before is None else cid.to_text(before),
            time_us,
            jump=not is_commit,
            doubt=doubt,
        )
        return [head, *firehose.events(frame, message, archive)] if is_commit else [head]

    async def _signed(self, frame: Frame, archive: car.Car, did: str) -> commits.Commit | None:
        """The commit; None where no key can be had. Raises BadInput for one that the account did not sign."""
        key = await self._key(did)
        if key is None:
            return None
        # Either clock may be wrong: ours, or that of the host.
        now_us = max(self._clock.now_us(), _time_us(frame) or 0)
        try:
            return firehose.signed_commit(frame, archive, key, now_us=now_us)
        except BadInput as error:
            if error.name != "InvalidSignature":
                raise
            newer = await self._new_key(did)
            if newer in (None, key):
                raise
        assert newer is not None
        return firehose.signed_commit(frame, archive, newer, now_us=now_us)

    async def _key(self, did: str) -> str | None:
        """The account's signing key, the last known one while nobody tells a newer one."""
        if did in self._keys:
            return self._keys[did]
        key: str | None = None
        try:
            key = (await self._identities.get(did)).signing_key
        except (NotFound, BadInput) as error:
            log.info("key_not_known", did=did, error=error)
        except Unavailable as error:
            known = await self._identities.last_known(did)
            key = None if known is None else known.signing_key
            log.info("key_not_refreshed", did=did, error=error, known=key is not None)
        self._keys[did] = key
        return key

    async def _new_key(self, did: str) -> str | None:
        """The key by a document asked for now: it may have been rotated since the last one was read.

        None when it can't be had; whoever signs wrongly makes us ask once a minute and no more.
        """
        now_s = self._clock.monotonic_s()
        if now_s - self._asked_s.get(did, float("-inf")) >= KEY_S:
            self._asked_s[did] = now_s
            self._identities.forget(did)
            try:
                self._keys[did] = (await self._identities.refresh(did)).signing_key
            except (NotFound, BadInput, Unavailable) as error:
                log.info("key_not_refreshed", did=did, error=error, known=True)
                return None
        return self._keys.get(did)


def _unproven(frame: Frame, archive: car.Car, commit: commits.Commit) -> str:
    """Why a signed commit does not show what it changed; empty if it does. Raises BadInput if it lies."""
    if frame.kind != "#commit":
        return ""
    if frame.body.get("tooBig") or frame.body.get("rebase"):
        return TOO_BIG
    try:
        firehose.check_operations(frame, archive, commit)
    except mst.Missing:
        # Older software sends no proof of what it changed: a snapshot has to show it.
        return UNPROVEN
    return ""


def _spelt(did: str | None) -> str | None:
    """In the spelling under which the account is known here."""
    if did is None or not did.startswith("did:web:"):
        return did
    try:
        return normalise_did(did)
    except BadInput:
        return did


def _time_us(frame: Frame) -> int | None:
    text = frame.body.get("time")
    if not isinstance(text, str):
        return None
    try:
        time_us = parse_datetime_us(text)
    except BadInput:
        return None
    return time_us if good_time(time_us) else None
