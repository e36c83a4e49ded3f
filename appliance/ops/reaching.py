"""How a command on this machine speaks with the running process, by the way that its lock file names."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput, Refused, Unavailable
from appliance.ops import control
from appliance.ops.control import Done

# Between two lines of a long command, heartbeats included.
SILENCE_MAX_S = 60.0


async def ask(folder: Path, key: bytes, clock: Clock, command: str, arguments: list[str]) -> Any:
    """The result of a short command. Raises what the command raised, or Unavailable."""
    async with _posted(folder, key, clock, command, arguments) as answer:
        body = json.loads(await answer.aread())
    if answer.status_code != 200:
        raise _refusal(body)
    return body["result"]


async def follow(
    folder: Path, key: bytes, clock: Clock, command: str, arguments: list[str]
) -> AsyncGenerator[Any, None]:
    """What a long command tells as it goes, and ``Done`` last. Leaving early ends the command."""
    async with _posted(folder, key, clock, command, arguments) as answer:
        if answer.status_code != 200:
            raise _refusal(json.loads(await answer.aread()))
        async for text in answer.aiter_lines():
            line = json.loads(text) if text.strip() else {}
            if "error" in line:
                raise _refusal(line)
            if "result" in line:
                yield Done(line["result"])
                return
            if "progress" in line:
                yield line["progress"]
    raise Unavailable("the running appliance ended in the middle of it")


@contextlib.asynccontextmanager
async def _posted(
    folder: Path, key: bytes, clock: Clock, command: str, arguments: list[str]
) -> AsyncIterator[httpx.Response]:
    told = (folder / "lock").read_text("utf-8")
    if not told:
        raise Unavailable("the appliance is just starting: try again in a moment")
    # Our own listener, named by our own lock file: the guarded way out is for strangers.
    async with httpx.AsyncClient(trust_env=False, timeout=SILENCE_MAX_S) as client:
        try:
            async with client.stream(
                "POST",
                f"http://127.0.0.1:{json.loads(told)['port']}{control.PATH}",
                headers={"Authorization": f"Bearer {control.token(key, clock.now_us())}"},
                json={"command": command, "arguments": arguments},
            ) as answer:
                yield answer
        except httpx.HTTPError as error:
            raise Unavailable("the running appliance does not answer") from error


def _refusal(body: dict[str, Any]) -> ApplianceError:
    return (BadInput if body.get("misused") else Refused)(body["error"])
