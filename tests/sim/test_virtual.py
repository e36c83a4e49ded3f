"""Time that leaps: only when nothing else can happen, and the same way each time."""

import asyncio
import random
import time

import pytest

from tests.sim import virtual


def test_days_pass_in_no_time_and_timers_fire_in_order() -> None:
    async def main() -> list[str]:
        heard: list[str] = []

        async def say(what: str, after_s: float) -> None:
            await asyncio.sleep(after_s)
            heard.append(what)

        await asyncio.gather(say("third", 3 * 86_400), say("first", 1), say("second", 3600))
        return heard

    heard, passed = virtual.run(main, 1)

    assert heard == ["first", "second", "third"]
    assert passed.virtual_s == pytest.approx(3 * 86_400)


def test_time_stands_still_while_a_thread_owes_an_answer() -> None:
    async def main() -> float:
        began_s = asyncio.get_running_loop().time()
        ended = asyncio.Event()
        # Another timer that would be next, were it not for the thread.
        asyncio.get_running_loop().call_later(0.5, ended.set)
        await asyncio.to_thread(lambda: time.perf_counter() + 0.2 > _busy_until(0.2))
        assert not ended.is_set()
        return asyncio.get_running_loop().time() - began_s

    assert virtual.run(main, 1)[0] == 0.0


def _busy_until(seconds: float) -> float:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        pass
    return end_s


def test_time_stands_still_while_bytes_are_on_their_way() -> None:
    async def main() -> float:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for size in [1] * 300 + [3_000_000]:
            async with asyncio.timeout(0.001):
                writer.write(b"x" * size)
                await reader.readexactly(size)
        took_s = loop.time() - began_s
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)
        return took_s

    assert virtual.run(main, 1)[0] == 0.0


def test_a_timeout_means_virtual_seconds() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert virtual.run(main, 1)[0] == pytest.approx(20)


def test_randomness_without_a_seed_follows_from_that_of_the_run() -> None:
    async def main() -> list[float]:
        return [random.Random().random() for _ in range(3)]

    assert virtual.run(main, 7)[0] == virtual.run(main, 7)[0] != virtual.run(main, 8)[0]
    assert len(set(virtual.run(main, 7)[0])) == 3


def test_waiting_for_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "STUCK_S", 0.05)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(virtual.Stuck):
        virtual.run(main, 1)


def test_running_in_circles_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "ROUNDS_MAX", 500)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(virtual.Stuck, match="time stands still"):
        virtual.run(main, 1)
