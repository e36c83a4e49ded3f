"""The long tasks of the process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from appliance.clock import ManualClock
from appliance.errors import Corrupt, Unavailable
from appliance.supervisor import Supervisor


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(supervisor.run())
    for _ in range(10):  # each task's first step
        await asyncio.sleep(0)
    try:
        yield task
    finally:
        supervisor.stop()
        await asyncio.wait([task])


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_raises_is_run_again_after_a_growing_pause() -> None:
    clock = ManualClock()
    supervisor = Supervisor(clock)
    starts: list[float] = []

    async def fails() -> None:
        starts.append(clock.monotonic_s())
        raise Unavailable("not now") if len(starts) % 2 else ValueError("nobody foresaw this")

    supervisor.start("reader", fails)
    async with running(supervisor):
        for _ in range(400):
            await clock.advance(0.25)
        pauses = [b - a for a, b in itertools.pairwise(starts)]
        assert len(starts) > 5
        assert all(pause <= 60.5 for pause in pauses)
        assert pauses[-1] > 4 * pauses[0]
        assert supervisor.tasks()[0].failures == len(starts)


async def test_one_failing_task_does_not_disturb_another() -> None:
    clock = ManualClock()
    supervisor = Supervisor(clock)
    cancelled = asyncio.Event()

    async def steady() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def fails() -> None:
        raise RuntimeError

    supervisor.start("steady", steady)
    supervisor.start("fails", fails)
    async with running(supervisor):
        await clock.advance(10)
        assert not cancelled.is_set()
        assert [task.state for task in supervisor.tasks()] == ["running", "pausing"]
    assert cancelled.is_set()


@pytest.mark.parametrize("wrapped", [False, True])
async def test_damage_to_our_own_data_ends_the_process(wrapped: bool) -> None:
    supervisor = Supervisor(ManualClock())

    async def finds_damage() -> None:
        error = Corrupt("page 7")
        if wrapped:
            raise ExceptionGroup("both", [ValueError(), error])
        raise error

    supervisor.start("other", forever)
    supervisor.start("store", finds_damage)
    with pytest.raises((Corrupt, ExceptionGroup)) as caught:
        await supervisor.run()
    assert "page 7" in repr(caught.value)
    assert [task.state for task in supervisor.tasks()] == ["ended", "ended"]


async def test_a_task_that_may_not_be_restarted_ends_the_process() -> None:
    supervisor = Supervisor(ManualClock())

    async def cannot_bind() -> None:
        raise OSError("the port is taken")

    supervisor.start("server", cannot_bind, restart=False)
    with pytest.raises(OSError, match="taken"):
        await supervisor.run()


async def test_tasks_end_in_reverse_order_and_each_may_finish_what_it_holds() -> None:
    supervisor = Supervisor(ManualClock())
    order: list[str] = []

    def add(name: str) -> None:
        asked = asyncio.Event()

        async def work() -> None:
            await asked.wait()
            await asyncio.sleep(0.01)
            order.append(name)

        supervisor.start(name, work, ask_to_stop=asked.set)

    for name in ("writer", "reader", "server"):
        add(name)
    async with running(supervisor):
        pass
    assert order == ["server", "reader", "writer"]


async def test_a_task_that_does_not_end_in_time_is_cut_off() -> None:
    supervisor = Supervisor(ManualClock())
    supervisor.start("deaf", forever, ask_to_stop=lambda: None, grace_s=0.01)
    async with running(supervisor) as task:
        supervisor.stop()
        await asyncio.wait_for(asyncio.shield(task), 2)


async def test_a_task_may_be_started_while_the_others_run() -> None:
    supervisor = Supervisor(ManualClock())
    ran = asyncio.Event()

    async def late() -> None:
        ran.set()

    async with running(supervisor):
        supervisor.start("late", late)
        await asyncio.wait_for(ran.wait(), 2)
