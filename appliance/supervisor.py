"""The long tasks of the process: started by name, restarted when they fail, stopped in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import ApplianceError, Corrupt

log = telemetry.Log("supervisor")
FAILURES = telemetry.counter("task_failures", "Long tasks that raised and were restarted.", ["task"])

RESTART_MIN_S = 0.25
RESTART_MAX_S = 60.0
HEALTHY_AFTER_S = 120.0
GRACE_S = 10.0

Work = Callable[[], Awaitable[None]]


@dataclass
class Task:
    """One long task and how it fares."""

    name: str
    work: Work
    restart: bool
    ask_to_stop: Callable[[], None] | None
    grace_s: float
    state: str = "waiting"  # waiting, running, pausing, ended
    failures: int = 0
    last_error: str = ""
    handle: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Owns the long tasks. ``run`` lasts until ``stop`` is called or one of them is beyond help."""

    def __init__(self, clock: Clock) -> None:
        self.stopping = asyncio.Event()
        self._clock = clock
        self._tasks: list[Task] = []
        self._group: asyncio.TaskGroup | None = None
        self._fatal: BaseException | None = None
        # Only spreads restarts; nothing depends on it being unguessable.
        self._random = random.Random()  # noqa: S311

    def start(
        self,
        name: str,
        work: Work,
        *,
        restart: bool = True,
        ask_to_stop: Callable[[], None] | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        """Run this beside the others; the last started is the first stopped.

        A task that raises is logged and run again after a pause that grows; with ``restart=False``
        its failure ends the process, as ``Corrupt`` always does. One that returns has ended.
        At the end ``ask_to_stop`` is called and the task has ``grace_s`` to return; without it,
        or after that time, it is cancelled.
        """
        task = Task(name, work, restart, ask_to_stop, grace_s)
        self._tasks.append(task)
        if self._group is not None and not self.stopping.is_set():
            self._launch(task)

    def stop(self) -> None:
        """Ask for an orderly end. May be called from a signal handler, and more than once."""
        self.stopping.set()

    def tasks(self) -> list[Task]:
        """Every task that was started, for the status page."""
        return list(self._tasks)

    async def run(self) -> None:
        """Keep the tasks going until ``stop``. Raises what a task died of that must not be survived."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for task in self._tasks:
                self._launch(task)
            try:
                await self.stopping.wait()
            finally:
                self.stopping.set()
                for task in reversed(self._tasks):
                    await self._end(task)
        if self._fatal is not None:
            raise self._fatal

    def _launch(self, task: Task) -> None:
        assert self._group is not None
        task.handle = self._group.create_task(self._keep(task), name=task.name)

    async def _keep(self, task: Task) -> None:
        pause_s = RESTART_MIN_S
        while not self.stopping.is_set():
            started_s = self._clock.monotonic_s()
            task.state = "running"
            try:
                await task.work()
            except Exception as error:  # noqa: BLE001 - one task: its failure is counted and must not end the others
                task.failures += 1
                task.last_error = f"{type(error).__name__}: {error}"
                FAILURES.labels(task.name).inc()
                foreseen = isinstance(error, ApplianceError)
                log.error("task_failed", task=task.name, error=error, trace=None if foreseen else error)
                if fatal := _fatal_part(error, task):
                    self._fatal = self._fatal or fatal
                    task.state = "ended"
                    self.stop()
                    return
            else:
                task.state = "ended"
                if not self.stopping.is_set():
                    log.info("task_ended", task=task.name)
                return
            if self._clock.monotonic_s() - started_s >= HEALTHY_AFTER_S:
                pause_s = RESTART_MIN_S
            task.state = "pausing"
            await self._clock.sleep(pause_s * self._random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, RESTART_MAX_S)
        task.state = "ended"

    async def _end(self, task: Task) -> None:
        handle = task.handle
        if handle is None or handle.done():
            return
        if task.ask_to_stop is not None and task.state == "running":
            task.ask_to_stop()
            # Real time: the end must come even where the clock stands still.
            await asyncio.wait([handle], timeout=task.grace_s)
        if not handle.done():
            if task.ask_to_stop is not None:
                log.warning("task_cut_off", task=task.name)
            handle.cancel()
            await asyncio.wait([handle])
        task.state = "ended"


def _fatal_part(error: Exception, task: Task) -> BaseException | None:
    """What must end the process, if this failure holds such a thing."""
    if isinstance(error, Corrupt):
        return error
    if isinstance(error, ExceptionGroup):
        corrupt: BaseException | None = error.subgroup(Corrupt)
        while isinstance(corrupt, BaseExceptionGroup):
            # One sentence for the operator, not the tree of tasks that it came through.
            corrupt = corrupt.exceptions[0]
        if corrupt is not None:
            return corrupt
    return None if task.restart else error
