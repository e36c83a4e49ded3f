"""What the readers of the three wires have in common: positions, chunks, and guards against bad frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec
import zstandard
from websockets.asyncio.client import ClientConnection

from appliance import telemetry
from appliance.errors import BadInput, Unavailable
from appliance.protocol.events import BrokenEvent, Event
from appliance.store import collections
from appliance.store.database import Transaction

Envelope = TypeVar("Envelope")
WireName: TypeAlias = Literal["jetstream-v1", "jetstream-v2", "relay"]

# The collections that every Jetstream connection asks for: what we keep.
COLLECTIONS: Final = tuple(collections.NUMBERS)

FRAME_MAX: Final = 32 * 1024 * 1024  # a websocket message beyond this ends the connection
TEXT_MAX: Final = 8 * 1024 * 1024  # an event beyond this, decompressed, is kept as broken
RAW_KEPT_MAX: Final = 64 * 1024  # of a broken event
DEPTH_MAX: Final = 64
OTHER_HOST_MARGIN_US: Final = 60_000_000
RETENTION_ASSUMED_US: Final = 20 * 3600 * 1_000_000
FIRST_TIME_US: Final = 10**15  # 2001: smaller numbers are seconds, milliseconds or seqs by mistake
LAST_TIME_US: Final = 10**16
# Why the first event shows that our position lies in the host's future.
BEHIND: Final = "the host is behind our position"
_PLACES_MAX: Final = 65_536
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_WINDOW_MAX: Final = 8 * 1024 * 1024

BROKEN = telemetry.counter(
    "ingest_broken", "Frames and events that could not be understood.", ["wire", "why"]
)
SKIPPED = telemetry.counter("ingest_skipped", "Events of kinds that mean nothing to us.", ["wire", "kind"])


class Gap(NamedTuple):
    """An interval that an upstream did not deliver."""

    from_us: int
    to_us: int
    reason: str


class Chunk(NamedTuple):
    """What one frame said. ``seq`` and ``time_us`` are the position after it, None where it tells none;
    ``size`` is what it weighs in the queue. ``outdated``: the host says that it skips something.
    ``note`` is run in the transaction of the events, after them."""

    events: list[Event]
    seq: int | None
    time_us: int | None
    size: int
    gap: Gap | None = None
    outdated: str = ""
    note: Callable[[Transaction], None] | None = None


class Start(NamedTuple):
    """Where to go on: the last event taken. ``seq`` means something to the same host alone.

    ``seen`` is False when no event was there yet, just a connection: then the time of the first event
    says nothing about what may be missing before it. ``margin_us`` asks for more before the position than
    is usual.
    """

    seq: int | None
    time_us: int | None
    same_host: bool
    seen: bool = True
    margin_us: int = 0


class TooOld(Unavailable):
    """Our position means nothing to the host, or it no longer has what comes after it."""


class Poisoned(Unavailable):
    """The connection can't be read on: a frame is too large or does not decompress."""


class Wire(Protocol):
    """One way to speak to one host. ``name`` is its key in table upstream."""

    name: str
    wire: WireName

    async def open(self, start: Start | None) -> ClientConnection:
        """Connect and ask for what comes after ``start``. Raises TooOld, Unavailable, BadInput."""
        ...

    async def decode(self, message: bytes) -> Chunk | None:
        """One frame; None for one that says nothing. Raises Poisoned, TooOld, Unavailable."""
        ...

    def go_plain(self) -> bool:
        """Don't use compression any more; False when the wire has no other form."""
        ...

    def missed(self, start: Start, first: Chunk) -> str | None:
        """Why the first event shows that some between it and ``start`` were not delivered."""
        ...


class Places:
    """The place of each operation among those of the same commit, by order of arrival.

    Jetstream has no end of commit and mixes accounts, so the last commit of many accounts is kept.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}

    def next(self, did: str, rev: str) -> int:
        last = self._last.pop(did, None)
        n = last[1] + 1 if last is not None and last[0] == rev else 0
        self._last[did] = (rev, n)
        if len(self._last) > _PLACES_MAX:
            del self._last[next(iter(self._last))]
        return n


class Inflater:
    """Zstd frames with a dictionary, within limits."""

    def __init__(self, dictionary: bytes | None) -> None:
        known = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
        self._zstd = zstandard.ZstdDecompressor(dict_data=known, max_window_size=_WINDOW_MAX)

    def text(self, message: bytes) -> bytes:
        """The message, decompressed where it is a zstd frame. Raises Poisoned, BadInput if too large."""
        if message[:4] != _ZSTD_MAGIC:
            return message
        try:
            size = zstandard.frame_content_size(message)
            if size > TEXT_MAX:
                raise BadInput("an event is too large")
            if size >= 0:
                return self._zstd.decompress(message, allow_extra_data=False)
            return self._unknown_size(message)
        except zstandard.ZstdError as error:
            raise Poisoned("a frame does not decompress") from error

    def _unknown_size(self, message: bytes) -> bytes:
        pieces: list[bytes] = []
        total = 0
        with self._zstd.stream_reader(message) as reader:
            while piece := reader.read(64 * 1024):
                total += len(piece)
                if total > TEXT_MAX:
                    raise BadInput("an event is too large")
                pieces.append(piece)
        return b"".join(pieces)


def broken(wire: WireName, why: str, raw: bytes, did: str | None = None, time_us: int = 0) -> BrokenEvent:
    """A counted event that could not be understood."""
    BROKEN.labels(wire, why).inc()
    return BrokenEvent(did, raw[:RAW_KEPT_MAX], why, time_us)


def check_depth(text: bytes) -> None:
    """Raise BadInput for JSON nested so deeply that no record is; cheap for what isn't."""
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    inside = escaped = False
    for byte in text:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise BadInput("nested too deeply")
        elif byte in b"]}":
            depth -= 1


def parsed(decode: Callable[[bytes], Envelope], text: bytes) -> Envelope:
    """The envelope. Raises BadInput for everything that is none."""
    if len(text) > TEXT_MAX:
        raise BadInput("an event is too large")
    check_depth(text)
    try:
        return decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput("not an event of this wire") from error


def cursor_us(start: Start, rewind_us: int) -> int | None:
    """The time to ask for: a little earlier on the same host, more so on another, whose clock differs."""
    if start.time_us is None:
        return None
    margin_us = rewind_us if start.same_host else OTHER_HOST_MARGIN_US
    cursor = start.time_us - max(margin_us, start.margin_us)
    # A cursor in another unit would be taken for a seq, or for the future: a silent gap.
    assert FIRST_TIME_US <= cursor < LAST_TIME_US, cursor
    return cursor


def good_seq(seq: int) -> bool:
    """Whether that can be an event's number, and neither a time nor more than the database holds."""
    return 0 < seq < FIRST_TIME_US


def good_time(time_us: int) -> bool:
    """Whether that can be a time in microseconds."""
    return FIRST_TIME_US <= time_us < LAST_TIME_US


def origin_of(url: str) -> str:
    """The http origin of a websocket address."""
    parts = urlsplit(url)
    return f"{'http' if parts.scheme in ('ws', 'http') else 'https'}://{parts.netloc}"
