"""One lasting subscription, to everybody or to a list of accounts: its hosts in turn, and what it has proved.

A line is in force, or a candidate that is to take over. Only a line in force moves the stored position; a
candidate ends with its first connection unless it has been put in force by then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from appliance import telemetry
from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.ingest import jetstream_v1
from appliance.ingest.care import Care
from appliance.ingest.connection import Ear, chunks
from appliance.ingest.doors import Door, Host, Tools
from appliance.ingest.lists import Wanted, host_of
from appliance.ingest.upstream import (
    BEHIND,
    OTHER_HOST_MARGIN_US,
    Chunk,
    Gap,
    Poisoned,
    Start,
    TooOld,
    Wire,
    WireName,
    cursor_us,
)
from appliance.outbound.client import Declined
from appliance.store import coverage, repos, upstreams
from appliance.store.database import Transaction

log = telemetry.Log("ingest")
CONNECTIONS = telemetry.counter("ingest_connections", "Connections to upstreams, by how they ended.", ["end"])
GAPS = telemetry.counter("ingest_gaps", "Intervals that upstreams did not deliver.")
STEPS = telemetry.counter("ingest_clock_steps", "Times that an upstream's clock went back between events.")

BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 30.0
FAILURES_BEFORE_NEXT_HOST = 3
POISON_BEFORE_PLAIN = 2
POISON_BEFORE_SKIP = 4
AHEAD_MAX_US = 300_000_000
# What a host keeps ends that far behind its tip: then the tip is read first.
TIP_FIRST_US = 900_000_000


class Line:
    """Reads until ``run`` is cancelled.

    ``position`` is what was queued, ``committed`` what is in the database, each with the host's name.
    ``proved`` is set once a connection is known to deliver everything after its start cursor.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        wanted: Wanted,
        tools: Tools,
        position: tuple[str, Start] | None,
        *,
        in_force: bool,
        first: str = "",
        seam_us: int | None = None,
        behind_us: int | None = None,
    ) -> None:
        """``first`` names the host to begin with. A candidate reads from ``position`` minus ``behind_us``."""
        self.wanted = wanted
        self.in_force = in_force
        self.proved = asyncio.Event()
        self.live = False
        self.connected_to: str | None = None
        self.heard_s = 0.0
        self.refused: int | None = None  # status of the last handshake that was declined
        self.tap: Callable[[Chunk], None] | None = None
        self._door: Door | None = None
        self.from_us: int | None = None  # start cursor of the connection, as upstream time
        self.newest_us: int | None = None  # of the events of this connection
        self._hosts = hosts
        self._tools = tools
        self._at = next((i for i, host in enumerate(hosts) if host.name == first), 0)
        self._wires: dict[int, Wire] = {}
        self._first_start: Start | None = None
        self.position = position
        if position is not None and behind_us is not None:
            name, start = position
            assert start.time_us is not None
            self._first_start = start._replace(seq=None, margin_us=behind_us)
            self.position = name, Start(None, start.time_us - behind_us, start.same_host, seen=False)
        self.committed = self.position
        self.passes_us = position[1].time_us if position is not None and not in_force else None
        self.seam_us = seam_us
        self._order: tuple[int, int, str] | None = None
        self._ear = Ear()
        self.broken: Exception | None = None
        self.canary_s = 0.0

    @property
    def host(self) -> str:
        """Name of the host that is read, or is about to be."""
        return self._hosts[self._at].name

    @property
    def connection(self) -> Door | None:
        """The connection that stands, or stood last."""
        return self._door

    @property
    def row(self) -> int | None:
        """Of table coverage: that of the connection that stands, or stood last."""
        return None if self._door is None else self._door.row

    @property
    def hosts(self) -> Sequence[Host]:
        """All that it may read, in order of preference."""
        return self._hosts

    def cut(self, why: str) -> None:
        """End the connection; the line goes on from its position."""
        self._ear.cut(why)

    def leave(self, host: str, from_us: int, why: str) -> None:
        """Go to that host, and read there from an earlier time on."""
        at = next(i for i, one in enumerate(self._hosts) if one.name == host)
        self._order = at, from_us, why
        self._ear.cut(why)

    # ---------------------------------------------------------------- reading

    async def run(self) -> None:
        """Read until cancelled; as a candidate, until the connection ends, which is raised."""
        failures = poison = 0
        start_over, bare = "", False
        while True:
            wire = self._wire()
            reached = self.position[1] if self.position is not None else Start(None, None, False)
            start, owed = self._start(wire), None
            if start_over:
                begin_us = reached.time_us or 0
                start, owed = self._tip(wire, bare=bare), Gap(begin_us, begin_us, start_over)
            elif start is None and await self._tools.database.read(
                repos.any_begun if self.wanted.dids is None else coverage.any_proved
            ):
                # It was lost before its first event, and with it what would have told where to go on.
                begin_us = self._tools.clock.now_us()
                owed = Gap(begin_us, begin_us, "there was no position yet")
            if start is None:
                start = self._tip(wire, bare=bare)
            self.refused = None
            end, opened, progress = await self._connection(wire, start, owed, reached)
            if opened:
                # What was owed is written down, and the position lies behind it.
                start_over, bare = "", False
            if progress:
                failures = poison = 0
            if isinstance(end, TooOld):
                if self.in_force and await self._caught_up(wire):
                    await self._tools.clock.sleep(BACKOFF_MIN_S)
                    continue
                bare = bool(start_over) or self.position is None
                start_over = end.message
            elif isinstance(end, Poisoned):
                poison += 1
                if poison >= POISON_BEFORE_SKIP:
                    # Nothing gets past this frame: what lies behind it is worth more.
                    start_over, bare, poison = end.message, True, 0
                elif poison >= POISON_BEFORE_PLAIN and wire.go_plain():
                    log.warning("compression_given_up", upstream=wire.name)
            elif isinstance(end, Declined):
                self.refused = end.status
            CONNECTIONS.labels(type(end).__name__).inc()
            failures += 1
            log.warning("upstream_lost", upstream=wire.name, error=end, failures=failures, progress=progress)
            if not self.in_force:
                raise end
            if self._order is not None:
                self._at, from_us, why = self._order
                self._order = None
                self.position = "", Start(None, from_us, same_host=False, seen=False)
                self.seam_us, failures, start_over = None, 0, ""
                log.warning("upstream_changed", upstream=self.host, why=why, from_us=from_us)
                continue
            if failures >= FAILURES_BEFORE_NEXT_HOST and len(self._hosts) > 1:
                self._at, failures = (self._at + 1) % len(self._hosts), 0
                log.warning("upstream_changed", upstream=self.host, why="it failed", from_us=reached.time_us)
            if isinstance(end, TooOld) and failures <= 2:
                # The sooner the gap is known, the better: the host is well, it is asked for too much.
                continue
            pause_s = min(BACKOFF_MIN_S * 2 ** min(failures, 10) / 2, BACKOFF_MAX_S)
            if isinstance(end, Unavailable) and end.retry_after_s is not None:
                pause_s = max(pause_s, min(end.retry_after_s, BACKOFF_MAX_S))
            await self._tools.clock.sleep(pause_s * self._tools.random.uniform(0.5, 1.0))

    async def _caught_up(self, wire: Wire) -> bool:
        """Read what the host has forgotten out of its archive, and take the position that this reached.

        Only of everybody: the numbers of a list stand for that list alone.
        """
        tools = self._tools
        if tools.catch_up is None or self.wanted.dids is not None:
            return False
        await tools.settled()
        before = await tools.database.read(lambda reader: upstreams.find(reader, wire.name))
        if before is None or before.seq is None:
            return False
        opened_us = tools.clock.now_us()
        reached = await tools.catch_up(wire.name, before.seq)
        after = await tools.database.read(lambda reader: upstreams.find(reader, wire.name))
        assert after is not None
        self.position = self.committed = position_of(wire.name, after.seq, after.time_us, after.events)

        def note(tx: Transaction) -> None:
            row = coverage.opened(
                tx, wire.name, self.wanted.mode, self.wanted.hash, None, before.seq, before.time_us, opened_us
            )
            coverage.closed(tx, row, after.time_us, "read out of the archive", tools.clock.now_us())

        if after != before:
            await tools.write(note)
        return reached is not None

    async def _connection(
        self, wire: Wire, start: Start | None, owed: Gap | None, reached: Start
    ) -> tuple[ApplianceError, bool, bool]:
        """Read one connection to its end: why it ended, whether it stood, and got beyond what was known."""
        door = self._door = Door(self, wire.name, wire.wire)
        # Of another host, too, the same is to be expected: it is the same network.
        ear = self._ear = Ear(busy=self._ear.busy)
        self.newest_us = None
        care: asyncio.Task[None] | None = None
        progress = False
        end: ApplianceError
        try:
            stream = chunks(wire, start, self._tools.clock, owed, ear, skew=self._tools.skew)
            async with contextlib.aclosing(stream) as reading:
                async for chunk in reading:
                    if care is None:
                        chunk = self._opened(door, chunk, start)
                        looks_after = Care(self, self._tools, self._hosts[self._at], wire, door, start, ear)
                        care = asyncio.create_task(looks_after.run(), name="ingest care")
                    elif chunk.gap is not None:
                        self._judge(wire, chunk.gap)
                    if not progress and _is_news(chunk, reached):
                        progress = True
                    await self._take(door, chunk)
            raise AssertionError("a connection ends by raising")
        except (Unavailable, BadInput) as error:
            end = error
        finally:
            self.connected_to = None
            self.live = False
            if care is not None:
                care.cancel()
        if self.broken is not None:
            raise self.broken
        if care is not None:
            why = ear.why or end.message
            to_us = self.newest_us

            def note(tx: Transaction) -> None:
                coverage.closed(tx, door.known_row, to_us, why, self._tools.clock.now_us())

            await self._tools.deliver(door, Chunk([], None, None, 0, note=note))
        return end, care is not None, progress

    def _opened(self, door: Door, chunk: Chunk, start: Start | None) -> Chunk:
        """The connection stands: the first chunk, which says so in the database."""
        clock, wanted = self._tools.clock, self.wanted
        self.connected_to = door.name
        self.canary_s = clock.monotonic_s()
        seq, self.from_us = _asked(door.wire, start)
        log.info(
            "upstream_connected",
            upstream=door.name,
            mode=wanted.mode,
            accounts=None if wanted.dids is None else len(wanted.dids),
            filter=wanted.hash,
            from_seq=seq,
            from_us=self.from_us,
        )
        accounts = None if wanted.dids is None else len(wanted.dids)
        from_us = self.from_us

        def note(tx: Transaction) -> None:
            now_us = clock.now_us()
            door.row = coverage.opened(
                tx, door.name, wanted.mode, wanted.hash, accounts, seq, from_us, now_us
            )

        if chunk.gap is not None:
            self.gap_found(door.name, chunk.gap)
            # What lies before is the gap's: a connection that ends before its first event is no second one.
            self.position = None
        time_us = chunk.time_us
        if self.position is None:
            # The connection stands, so whatever comes from now on is kept: a network that has nothing to
            # say yet is covered as well. The margin is for the difference of clocks.
            time_us = clock.now_us() - OTHER_HOST_MARGIN_US
        return chunk._replace(time_us=time_us, note=note)

    def _judge(self, wire: Wire, gap: Gap) -> None:
        """What the first event shows to be missing. Raises where the connection is of no use then."""
        if not self.in_force:
            raise Unavailable(f"no candidate: {gap.reason}")
        far = self._tools.clock.now_us() - gap.to_us > TIP_FIRST_US
        if far and gap.reason != BEHIND and not wire.name.startswith("relay "):
            # Everything after the gap is looked at anyway; meanwhile more would be lost.
            raise TooOld(gap.reason)
        # The host's numbers or clock are others now.
        self.position = None
        self.gap_found(wire.name, gap)

    def gap_found(self, upstream: str, gap: Gap) -> None:
        """Count it, and prove nothing from before its end."""
        if self.from_us is not None:
            self.from_us = max(self.from_us, gap.to_us)
        GAPS.inc()
        log.warning("gap_found", upstream=upstream, **gap._asdict())

    async def _take(self, door: Door, chunk: Chunk) -> None:
        self.heard_s = self._tools.clock.monotonic_s()
        if chunk.time_us is not None:
            if chunk.events:
                newest_us = self.newest_us
                if newest_us is None or chunk.time_us > newest_us:
                    self.newest_us = chunk.time_us
                elif chunk.time_us < newest_us and chunk.seq is None:
                    STEPS.inc()
                if self.wanted.canaries:
                    self._listen_for_canaries(chunk)
            chunk = self._placed(door, chunk, chunk.time_us)
        if self.tap is not None:
            self.tap(chunk)
        if (
            chunk.events
            or chunk.gap is not None
            or chunk.time_us is not None
            or chunk.seq is not None
            or chunk.note is not None
        ):
            await self._tools.deliver(door, chunk)

    def _placed(self, door: Door, chunk: Chunk, time_us: int) -> Chunk:
        """The chunk with a time that may be stored as a position; the position moves there."""
        known = self.position
        before_us = known[1].time_us if known is not None and known[0] == door.name else None
        if time_us > self._tools.clock.now_us() + AHEAD_MAX_US:
            # A position in the future would be answered with the live tail, in silence.
            chunk = chunk._replace(time_us=before_us)
        elif chunk.seq is None and before_us is not None and time_us < before_us:
            # Asked for again, or the server's clock has stepped back: the rewind covers that.
            chunk = chunk._replace(time_us=before_us)
        # A chunk that says nothing but a time is the connection's own.
        seen = chunk.seq is not None or bool(chunk.events) or (known is not None and known[1].seen)
        self.position = (door.name, Start(chunk.seq, chunk.time_us, same_host=True, seen=seen))
        return chunk

    def _start(self, wire: Wire) -> Start | None:
        if self.position is None:
            return None
        name, start = self.position
        if self._first_start is not None:
            start, self._first_start = self._first_start, None
        margin_us = start.margin_us
        if self.seam_us is not None and start.time_us is not None:
            # What was lost where the last replay ended is asked for again.
            margin_us = max(margin_us, start.time_us - self.seam_us)
        if name != wire.name:
            margin_us += self._tools.skews.margin_us(name, wire.name)
            return start._replace(seq=None, same_host=False, margin_us=margin_us)
        return start._replace(margin_us=margin_us)

    def _tip(self, wire: Wire, *, bare: bool) -> Start | None:
        """Where to begin without a position: a little before now, where the wire can be asked by time.

        Between its word that we are connected and the first event that it tells, a host may miss some. A
        list is covered by its start cursor alone; everybody is asked for without one if it leads nowhere.
        """
        if self.wanted.dids is None and (bare or wire.wire == "relay"):
            return None
        return Start(None, self._tools.clock.now_us(), same_host=False, seen=False)

    def _wire(self) -> Wire:
        if self._at not in self._wires:
            self._wires[self._at] = self._hosts[self._at].make(self.wanted)
        return self._wires[self._at]

    def _listen_for_canaries(self, chunk: Chunk) -> None:
        for event in chunk.events:
            if event.did in self.wanted.canaries:
                self.canary_s = self._tools.clock.monotonic_s()


def _is_news(chunk: Chunk, reached: Start) -> bool:
    """Whether the chunk lies beyond what was reached before this connection."""
    if chunk.seq is not None:
        return True
    if chunk.note is not None or chunk.time_us is None:
        return False
    return reached.time_us is None or chunk.time_us > reached.time_us


def _asked(wire: WireName, start: Start | None) -> tuple[int | None, int | None]:
    """The cursor that a connection begins with, as number and as upstream time."""
    if start is None:
        return None, None
    if start.seq is not None and start.same_host and wire != "jetstream-v1":
        return start.seq, start.time_us
    return None, cursor_us(start, jetstream_v1.REWIND_US if wire == "jetstream-v1" else 0)


def position_of(name: str, seq: int | None, time_us: int | None, events: int) -> tuple[str, Start]:
    """A stored position as a line takes it."""
    return host_of(name), Start(seq, time_us, same_host=True, seen=events > 0)
