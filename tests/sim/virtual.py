"""An event loop whose time stands still while anything happens, and leaps when nothing does.

Sockets are real, threads are real; only waiting is not. The loop leaps to the next timer when no callback is
ready, no socket has anything to say and no thread owes an answer: then everybody only waits for time to
pass. So days pass in seconds, and a timeout means what it means to a person, however slow the machine is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import queue
import random
import select
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar
from unittest import mock

import aiosqlite.core

T = TypeVar("T")

START_US = 1_767_225_600_000_000
# A loop that waits for nothing but a miracle: no timer, no thread, no word on any socket.
STUCK_S = 20.0
# The kernel hands over what was sent on loopback at once, but for rare moments under load.
GRACE_S = 0.001
# So many rounds of the loop without a leap: somebody runs in circles, and time would stand still for ever.
ROUNDS_MAX = 1_000_000


class Stuck(AssertionError):
    """Nothing will ever happen again."""


class _Selector(selectors.EpollSelector):
    """Tells the loop what sockets have to say, and lets time leap in place of blocking."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop
        self._talked = True
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._rounds += 1
        if self._rounds > ROUNDS_MAX:
            raise Stuck(f"time stands still; next are {self.loop.next_callbacks()}")
        ready = super().select(0)
        if any(key.fileobj is not self.loop.own_socket for key, _ in ready):
            self._talked = True
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._talked:
            self._talked = False
            ready = super().select(GRACE_S)
            if ready:
                self._talked = True
                return ready
        if self.loop.owed:
            # Real time: a thread is at work, and its word wakes the loop.
            return super().select(STUCK_S)
        if timeout is None:
            ready = super().select(STUCK_S)
            if not ready:
                raise Stuck("no timer, no thread, nothing on any socket")
            return ready
        self.loop.leap(timeout)
        self._rounds = 0
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Made for one ``run``. ``owed`` counts the answers of threads that are still out."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self.owed = 0
        self.leaps = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        # What is due within it counts as due: sums of floats may fall short of the timer by a hair.
        self._clock_resolution = 1e-6

    @property
    def own_socket(self) -> Any:
        """Where threads wake the loop: nobody else talks there."""
        return self._ssock  # type: ignore[attr-defined] # asyncio's own, not told to the stubs

    def time(self) -> float:
        return self._now_s

    def next_callbacks(self) -> list[str]:
        """Who is about to run, in words: of a task, which coroutine it is in."""
        return [_where(handle) for handle in list(self._ready)[:8]]  # type: ignore[attr-defined] # asyncio's own

    def leap(self, seconds: float) -> None:
        """Nothing else can happen before."""
        self._now_s = max(self._now_s + seconds, math.nextafter(self._now_s, math.inf))
        self.leaps += 1

    def owe(self, future: asyncio.Future[Any]) -> None:
        """A thread will answer this."""
        self.owed += 1
        future.add_done_callback(self._paid)

    def _paid(self, _: asyncio.Future[Any]) -> None:
        self.owed -= 1

    def run_in_executor(  # type: ignore[override] # the stubs want a TypeVarTuple
        self, executor: concurrent.futures.Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self.owe(future)
        return future


class VirtualClock:
    """The loop's time as everybody's; ``skew_us`` is how wrong this one's wall clock is."""

    def __init__(self, start_us: int = START_US, skew_us: int = 0) -> None:
        self.start_us = start_us
        self.skew_us = skew_us

    def now_us(self) -> int:
        return self.start_us + self.skew_us + round(self.monotonic_s() * 1_000_000)

    def monotonic_s(self) -> float:
        loop = _running()
        return 0.0 if loop is None else loop.time()

    async def sleep(self, seconds: float) -> None:
        """Time really has passed after it: a timer counts as due a hair before its time."""
        loop = _running()
        until_s = 0.0
        if loop is not None and seconds > 0:
            until_s = max(loop.time() + seconds, math.nextafter(loop.time(), math.inf))
        await asyncio.sleep(seconds)
        if loop is not None and loop.time() < until_s:
            loop.leap(until_s - loop.time())


_current: list[VirtualLoop] = []


def _running() -> VirtualLoop | None:
    # Writers ask for the time from their threads, where no loop runs.
    return _current[-1] if _current else None


class _Counted(queue.SimpleQueue[Any]):
    """What aiosqlite hands its threads work through; the loop learns what they owe."""

    def put_nowait(self, item: Any) -> None:
        future = item[0]
        if future is not None and isinstance(loop := future.get_loop(), VirtualLoop):
            loop.owe(future)
        super().put_nowait(item)


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Whoever asks for randomness without a seed gets the next one of a row."""
    seeds = random.Random(f"{seed}/unseeded")
    kind = random.Random

    class Seeded(kind):  # type: ignore[valid-type, misc] # a class of the module that is patched
        def __init__(self, x: Any = None) -> None:
            super().__init__(seeds.random() if x is None else x)

    with mock.patch.object(random, "Random", Seeded):
        yield


class Passed:
    """How a run went: virtual hours, real seconds, leaps."""

    def __init__(self, virtual_s: float, real_s: float, leaps: int) -> None:
        self.virtual_s = virtual_s
        self.real_s = real_s
        self.leaps = leaps

    def __str__(self) -> str:
        hours = self.virtual_s / 3600
        return f"{hours:.1f} virtual h in {self.real_s:.1f} s ({hours / max(self.real_s, 0.001):.2f} h/s)"


def run(main: Callable[[], Coroutine[Any, Any, T]], seed: int) -> tuple[T, Passed]:
    """Run it to its end on a loop of its own."""
    began_s = time.perf_counter()
    loop = VirtualLoop()
    _current.append(loop)
    try:
        with (
            mock.patch.object(aiosqlite.core, "SimpleQueue", _Counted),
            _repeatable(seed),
            asyncio.Runner(loop_factory=lambda: loop) as runner,
        ):
            result = runner.run(main())
            return result, Passed(loop.time(), time.perf_counter() - began_s, loop.leaps)
    finally:
        _current.remove(loop)


assert hasattr(select, "epoll"), "loopback sockets are watched by epoll here"


def _where(handle: asyncio.Handle) -> str:
    """A task's chain of awaits by place; of anything else, what asyncio says of it."""
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined] # asyncio's own
    if not isinstance(task, asyncio.Task):
        return repr(handle)[:300]
    inner: Any = task.get_coro()
    places: list[str] = []
    while inner is not None and len(places) < 40:
        # Of a coroutine, a generator, and one of both kinds.
        frame, awaited = next(
            (
                (getattr(inner, f"{kind}_frame"), getattr(inner, below))
                for kind, below in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await"))
                if hasattr(inner, f"{kind}_frame")
            ),
            (None, None),
        )
        if frame is not None:
            places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        if awaited is None:
            break
        inner = awaited
    return f"{task.get_name()}: {' > '.join(places)} {inner!r}"[:1500]
