"""Which lines are in force, and how others take over: always make before break.

A candidate is opened some way behind what the lines in force have committed, and takes over in one
transaction once it is proved. Before that nothing that it does counts: after a crash what was in force
still is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from appliance import crash_points, telemetry
from appliance.errors import ApplianceError
from appliance.ingest.doors import Host, Tools
from appliance.ingest.line import Line, position_of
from appliance.ingest.lists import CONNECTIONS_MAX, EVERYBODY, PER_CONNECTION_MAX, Wanted, divided
from appliance.ingest.modes import Chooser
from appliance.ingest.upstream import Start
from appliance.store import coverage, repos, upstreams
from appliance.store.coverage import Mode
from appliance.store.database import Reader, Transaction

log = telemetry.Log("ingest")
SWITCHES = telemetry.counter("ingest_switches", "Lines that took over from others.", ["mode", "end"])
LISTED = telemetry.gauge(
    "ingest_listed_accounts", "Accounts on the lists in force; 0 while everybody is read."
)
CHANGES = telemetry.gauge("ingest_list_changes_per_minute", "Accounts that came or went in the last minute.")
MODE = telemetry.gauge("ingest_mode", "1 for the mode in force.", ["mode"])

LOOK_S: Final = 0.5
QUIET_S: Final = 2.0
AT_MOST_S: Final = 10.0
BEHIND_US: Final = 30_000_000
RETRY_S: Final = 15.0


class Lines:
    """The lines in force. ``hosts`` are those that can speak in each mode."""

    def __init__(
        self,
        hosts: Mapping[Mode, Sequence[Host]],
        tools: Tools,
        chooser: Chooser,
        canaries: Sequence[str] = (),
        per_connection: int = PER_CONNECTION_MAX,
    ) -> None:
        self.in_force: list[Line] = []
        self.mode: Mode = "FULL"
        self._hosts = hosts
        self._tools = tools
        self._chooser = chooser
        self._canaries = canaries
        self._per_connection = per_connection
        self._tasks: dict[Line, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup
        self._known: dict[str, bool] = {}
        self._stirred = asyncio.Event()
        self._refused = False
        self._crowded: bool | None = None

    # ---------------------------------------------------------------- at the start

    async def begin(self, group: asyncio.TaskGroup) -> None:
        """Go on from the stored positions, in the mode that is right now. Nothing runs yet."""
        self._group, self._tasks = group, {}
        self.in_force = await self._tools.write(self._begin)
        self._show()
        for line in self.in_force:
            self._run(line)

    def _begin(self, tx: Transaction) -> list[Line]:
        clock = self._tools.clock
        now_us, now_s = clock.now_us(), clock.monotonic_s()
        self._tools.skews.load(coverage.skews(tx))
        before = coverage.mode(tx)
        self._known = wanted = coverage.wanted(tx)
        crowded_us = coverage.crowded_us(tx)
        if crowded_us is not None:
            self._chooser.crowded_before(now_s, (now_us - crowded_us) / 1e6)
        self.mode = self._chooser.choose(now_s, len(wanted), before)
        position = _stored(tx, before)
        seam_us = None if position is None else coverage.seam_us(tx, position[0])
        coverage.close_left(tx, now_us)
        if self.mode != before:
            coverage.set_mode(tx, self.mode)
            log.info("coverage_mode", mode=self.mode, before=before, accounts=len(wanted))
        if self.mode == "FULL":
            filters = [EVERYBODY]
        else:
            coverage.unprove_leaving(tx)
            filters = self._filters(self.mode, wanted, [])
        if position is not None and (self.mode != "FULL" or before != "FULL"):
            # Each list goes on from where the slowest of the former was. Whoever is on it and not proved yet
            # is covered from its start cursor on, once that is proved.
            name, start = position
            for one in filters:
                _save(tx, one, name, start, now_us)
            upstreams.keep_only(tx, [one.name(name) for one in filters])
        first = "" if position is None else position[0]
        crash_points.reach("switch-begin")
        return [
            Line(
                self._hosts[self.mode],
                one,
                self._tools,
                position,
                in_force=True,
                first=first,
                seam_us=seam_us,
            )
            for one in filters
        ]

    # ---------------------------------------------------------------- while it runs

    async def keep(self) -> None:
        """Keep the lists equal to whom we want, and the mode to what suits their number."""
        clock = self._tools.clock
        version: str | None = ""
        first_s = last_s = None
        again_s = 0.0
        while True:
            await clock.sleep(LOOK_S)
            now_s = clock.monotonic_s()
            found = await self._tools.database.read(repos.tracked_version)
            if found != version:
                version = found
                wanted = await self._tools.database.read(coverage.wanted)
                self._chooser.changed(now_s, len(wanted.keys() ^ self._known.keys()))
                self._known = wanted
                last_s, first_s = now_s, now_s if first_s is None else first_s
            CHANGES.set(self._chooser.per_minute(now_s))
            if any(line.refused in (413, 414, 431, 502) for line in self.in_force):
                self._too_long()
            target = self._chooser.choose(now_s, len(self._known), self.mode)
            await self._note_crowded(target, now_s)
            due = first_s is not None and last_s is not None
            due = due and (now_s - last_s >= QUIET_S or now_s - first_s >= AT_MOST_S)  # type: ignore[operator]
            if (target != self.mode or (due and self.mode != "FULL")) and now_s >= again_s:
                first_s = None
                if not await self.adjust(target):
                    # What is in force stays so; the accounts that wait for it wait on.
                    first_s, again_s = now_s, now_s + RETRY_S

    async def adjust(self, target: Mode) -> bool:
        """Bring the lines to that mode and the present list; whether they are there now."""
        wanted = await self._tools.database.read(coverage.wanted)
        self._known = wanted
        held = self.in_force if target == self.mode and target != "FULL" else []
        filters = [EVERYBODY] if target == "FULL" else self._filters(target, wanted, held)
        kept = [line for line in held if any(line.wanted.dids == one.dids for one in filters)]
        new = [one for one in filters if all(one.dids != line.wanted.dids for line in kept)]
        if not new and len(kept) == len(self.in_force):
            await self._prove_carried()
            return True
        position = _slowest([line.committed for line in self.in_force])
        if position is None and any(line.committed is not None for line in self.in_force):
            return False  # one of them has yet to be connected: there is no point to open behind
        first = "" if position is None else position[0]
        candidates = [
            Line(
                self._hosts[target],
                one,
                self._tools,
                position,
                in_force=False,
                first=first,
                behind_us=None if position is None else BEHIND_US,
            )
            for one in new
        ]
        # Where nothing was ever connected there is nothing to break.
        if position is not None and candidates:
            log.info("lines_opening", mode=target, lists=[line.wanted.hash[:12] for line in candidates])
            for line in candidates:
                self._run(line)
            if not await self._all_proved(candidates):
                await self._end(candidates)
                SWITCHES.labels(target, "failed").inc()
                return False
        return await self._hand_over(target, kept, candidates)

    async def _hand_over(self, target: Mode, kept: list[Line], new: list[Line]) -> bool:
        """One transaction: these are in force, the others are not. False when somebody would be left out."""
        old = [line for line in self.in_force if line not in kept]
        for line in old:
            # What it still has in the queue is applied; its position no longer counts.
            line.in_force = False
        done = await self._tools.write(lambda tx: self._handed_over(tx, target, kept, old, new))
        crash_points.reach("switch-after-commit")
        if not done:
            for line in old:
                line.in_force = True
                self._run(line)
            await self._end(new)
            SWITCHES.labels(target, "left somebody out").inc()
            return False
        before, self.mode = self.mode, target
        self.in_force = [*kept, *new]
        for line in new:
            line.in_force = True
            self._run(line)
        await self._end(old)
        SWITCHES.labels(target, "done").inc()
        log.info(
            "lines_changed",
            mode=target,
            before=before,
            lists=[line.wanted.hash[:12] for line in self.in_force],
            accounts=sum(len(line.wanted.dids or ()) for line in self.in_force),
        )
        self._show()
        return True

    def _handed_over(
        self, tx: Transaction, target: Mode, kept: list[Line], old: list[Line], new: list[Line]
    ) -> bool:
        now_us = self._tools.clock.now_us()
        if target != "FULL":
            carried = frozenset[str]().union(*(line.wanted.dids or () for line in [*kept, *new]))
            # Everybody was read until now: who was wanted meanwhile is covered, and may not lose that.
            if any(proved and did not in carried for did, proved in coverage.wanted(tx).items()):
                return False
            coverage.unprove_leaving(tx)
        names = [line.wanted.name(line.committed[0]) for line in kept if line.committed is not None]
        for line in new:
            if line.committed is None:
                continue  # the first list of all: in force from its first connection on
            name, start = line.committed
            _save(tx, line.wanted, name, start, now_us)
            names.append(line.wanted.name(name))
            from_us = start.time_us if line.wanted.dids is None else line.from_us
            assert from_us is not None
            number = coverage.prove(tx, from_us, line.wanted.dids)
            if number:
                tx.announce(partial(log.info, "coverage_proved", accounts=number, from_us=from_us))
        upstreams.keep_only(tx, names)
        coverage.set_mode(tx, target)
        for line in old:
            if line.row is not None:
                to_us = line.committed[1].time_us if line.committed is not None else None
                coverage.closed(tx, line.row, to_us, "another took over", now_us)
        crash_points.reach("switch-before-commit")
        return True

    async def _all_proved(self, candidates: list[Line]) -> bool:
        """Wait until all are; False as soon as one has ended."""
        while not all(line.proved.is_set() for line in candidates):
            if any(self._tasks[line].done() for line in candidates):
                return False
            waits = [asyncio.ensure_future(line.proved.wait()) for line in candidates]
            tasks = [self._tasks[line] for line in candidates]
            open_ = [w for w, line in zip(waits, candidates, strict=True) if not line.proved.is_set()]
            await asyncio.wait([*open_, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return True

    async def _prove_carried(self) -> None:
        """Who left and came back while the list still names them is covered from now on."""
        for line in self.in_force:
            dids = line.wanted.dids
            if dids is None or not line.proved.is_set() or line.committed is None:
                continue
            time_us = line.committed[1].time_us
            waiting = [did for did, proved in self._known.items() if not proved and did in dids]
            if waiting and time_us is not None:
                number = await self._tools.write(partial(coverage.prove, from_us=time_us, dids=waiting))
                log.info("coverage_proved", accounts=number, from_us=time_us)

    async def _note_crowded(self, target: Mode, now_s: float) -> None:
        """Keep over a restart since when a list is too much."""
        if not self._chooser.list_modes:
            return
        crowded = self._chooser.crowded(now_s, len(self._known), self.mode)
        if target != "FULL":
            crowded_us = None
        elif crowded:
            crowded_us = self._tools.clock.now_us()
        else:
            self._crowded = crowded
            return
        if crowded != self._crowded or (target != "FULL") != (self.mode != "FULL"):
            self._crowded = crowded
            await self._tools.write(lambda tx: coverage.note_crowded(tx, crowded_us))

    def _too_long(self) -> None:
        """A proxy before the host takes no address of that length."""
        if not self._refused:
            self._refused = True
            log.warning("list_refused", mode=self.mode, accounts=len(self._known))
            self._chooser.list_modes -= {"DIDS-V2"}

    def _filters(self, mode: Mode, wanted: Mapping[str, bool], held: Sequence[Line]) -> list[Wanted]:
        most = PER_CONNECTION_MAX if mode == "DIDS" else self._chooser.limits.v2_up
        most = min(most, self._per_connection)
        lists = divided(
            wanted.keys(),
            [line.wanted.dids or frozenset() for line in held],
            most,
            CONNECTIONS_MAX if mode == "DIDS" else 1,
        )
        return [Wanted(mode, dids, self._canaries) for dids in lists]

    def _run(self, line: Line) -> None:
        """Start its task unless it runs; one that ended as a candidate goes on from where it was."""
        task = self._tasks.get(line)
        if task is None or task.done():
            self._tasks[line] = self._group.create_task(self._guarded(line), name="ingest line")

    async def _guarded(self, line: Line) -> None:
        try:
            await line.run()
        except ApplianceError as error:
            if line.in_force:
                raise
            log.info("candidate_lost", mode=line.wanted.mode, error=error)

    async def _end(self, lines: list[Line]) -> None:
        for line in lines:
            task = self._tasks.pop(line, None)
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
            row = line.row
            if row is not None and not line.in_force:
                now_us = self._tools.clock.now_us()
                close = partial(coverage.closed, connection=row, to_us=None, why="not taken", now_us=now_us)
                await self._tools.write(close)

    def _show(self) -> None:
        LISTED.set(sum(len(line.wanted.dids or ()) for line in self.in_force))
        for mode in coverage.MODES:
            MODE.labels(mode).set(mode == self.mode)


def _stored(reader: Reader, before: Mode) -> tuple[str, Start] | None:
    """Where to go on: of several lists the slowest, for whoever moves between them."""
    if before == "FULL":
        found = upstreams.newest(reader)
        return None if found is None else position_of(found[0], *found[1])
    lists = [position_of(name, *position) for name, position in upstreams.of_lists(reader)]
    return _slowest(lists)


def _slowest(positions: Sequence[tuple[str, Start] | None]) -> tuple[str, Start] | None:
    known = [one for one in positions if one is not None and one[1].time_us is not None]
    if len(known) < len(positions) or not known:
        return None
    return min(known, key=lambda one: one[1].time_us or 0)


def _save(tx: Transaction, wanted: Wanted, name: str, start: Start, now_us: int) -> None:
    events = 1 if start.seen else 0
    wire = name.partition(" ")[0]
    upstreams.save(tx, wanted.name(name), wire, start.seq, start.time_us, events, now_us)
