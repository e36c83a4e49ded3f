"""Commands to the running process over a real socket: answers, lines as they come, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from quart import Quart

from appliance.clock import SystemClock
from appliance.errors import BadInput, Refused, Unavailable
from appliance.ops import control, reaching
from appliance.ops.control import Done
from tests.serving import serving

KEY = b"k" * 32


class House:
    """A process with a few commands, and its lock file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = ""
        self.goes_on = asyncio.Event()
        self.ended = asyncio.Event()

    async def slow(self, arguments: list[str]) -> AsyncGenerator[Any, None]:
        try:
            yield {"done": 1}
            await self.goes_on.wait()
            if arguments == ["refuse"]:
                raise BadInput("not so")
            if arguments == ["break"]:
                raise RuntimeError("a mistake of ours")
            yield {"done": 2}
            yield Done({"all": arguments})
        finally:
            self.ended.set()

    async def quick(self, arguments: list[str]) -> Any:
        if not arguments:
            raise BadInput("say what")
        return arguments

    async def follow(self, *arguments: str, key: bytes = KEY) -> list[Any]:
        steps = reaching.follow(self.folder, key, SystemClock(), "slow", list(arguments))
        return [step async for step in steps]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    app = Quart(__name__)
    app.register_blueprint(control.control(KEY, SystemClock(), {"quick": found.quick}, {"slow": found.slow}))
    async with serving(app) as origin:
        found.origin = origin
        (tmp_path / "lock").write_text(f'{{"port": {urlsplit(origin).port}}}')
        yield found


async def test_a_long_command_tells_how_it_goes_while_it_goes(house: House) -> None:
    steps = reaching.follow(house.folder, KEY, SystemClock(), "slow", ["a"])

    assert await anext(steps) == {"done": 1}
    assert not house.ended.is_set()
    house.goes_on.set()
    assert [step async for step in steps] == [{"done": 2}, Done({"all": ["a"]})]


async def test_a_command_that_is_silent_shows_that_it_lives(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "HEARTBEAT_S", 0.01)
    headers = {"Authorization": f"Bearer {control.token(KEY, SystemClock().now_us())}"}
    lines: list[str] = []
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        body = {"command": "slow", "arguments": []}
        async with client.stream("POST", house.origin + control.PATH, headers=headers, json=body) as answer:
            async for line in answer.aiter_lines():
                lines.append(line)
                if lines.count("{}") == 3:
                    house.goes_on.set()

    assert lines[0] == '{"progress":{"done":1}}'
    assert lines.count("{}") >= 3
    assert lines[-1] == '{"result":{"all":[]}}'


async def test_a_command_ends_when_its_caller_goes_away(house: House) -> None:
    steps = reaching.follow(house.folder, KEY, SystemClock(), "slow", [])
    assert await anext(steps) == {"done": 1}

    await steps.aclose()

    await asyncio.wait_for(house.ended.wait(), 20)
    assert not house.goes_on.is_set()


async def test_failures_reach_the_caller_as_what_they_are(house: House) -> None:
    house.goes_on.set()

    with pytest.raises(BadInput, match="not so"):
        await house.follow("refuse")
    with pytest.raises(Refused, match="it broke"):
        await house.follow("break")
    with pytest.raises(Refused, match="Not allowed"):
        await house.follow(key=b"x" * 32)
    with pytest.raises(BadInput, match="say what"):
        await reaching.ask(house.folder, KEY, SystemClock(), "quick", [])
    with pytest.raises(BadInput, match="there is no command"):
        await reaching.ask(house.folder, KEY, SystemClock(), "dance", [])
    assert await reaching.ask(house.folder, KEY, SystemClock(), "quick", ["x"]) == ["x"]


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    with pytest.raises(Unavailable, match="just starting"):
        await reaching.ask(tmp_path, KEY, SystemClock(), "quick", [])
    (tmp_path / "lock").write_text('{"port": 1}')
    with pytest.raises(Unavailable, match="does not answer"):
        await reaching.ask(tmp_path, KEY, SystemClock(), "quick", [])
