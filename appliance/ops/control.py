"""Commands on the machine itself reach the running process, which alone may write.

The caller shows that it can read the data folder's key: a token of a minute, by HMAC. A short command is
answered at once; a long one tells how it goes, one JSON object a line, and its result last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson
from quart import Blueprint, Response, request

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput

log = telemetry.Log("control")

PATH = "/control"
WINDOW_US = 60_000_000
# A caller that hears nothing for long would take us for dead.
HEARTBEAT_S = 5.0
LINES_WAITING_MAX = 100


class Done(NamedTuple):
    """The result of a long command; what it gives before that is how it goes."""

    result: Any


Command = Callable[[list[str]], Awaitable[Any]]
LongCommand = Callable[[list[str]], AsyncGenerator[Any, None]]


def token(key: bytes, now_us: int) -> str:
    """What a caller shows; good for this minute and the next."""
    return hmac.new(key, b"control %d" % (now_us // WINDOW_US), hashlib.sha256).hexdigest()


def control(
    key: bytes, clock: Clock, commands: Mapping[str, Command], long: Mapping[str, LongCommand]
) -> Blueprint:
    """``{"command": name, "arguments": [...]}`` in, ``{"result": ...}`` or ``{"error": ...}`` out.

    A long command's answer is lines of ``{"progress": ...}`` before that; empty objects mean that it lives.
    """
    blueprint = Blueprint("control", __name__)

    @blueprint.post(PATH)
    async def run() -> Response:
        """A command of the operator, from this machine."""
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        now_us = clock.now_us()
        good = (token(key, now_us), token(key, now_us - WINDOW_US))
        if not any(hmac.compare_digest(shown.encode(), one.encode()) for one in good):
            return _json({"error": "Not allowed"}, 403)
        body = orjson.loads(await request.get_data())
        name, arguments = body["command"], body["arguments"]
        if name in long:
            response = Response(_lines(long[name](arguments)), content_type="application/x-ndjson")
            response.timeout = None  # it takes as long as it takes
            return response
        command = commands.get(name)
        try:
            if command is None:
                raise BadInput(f"there is no command {name}")
            return _json({"result": await command(arguments)})
        except ApplianceError as error:
            return _json(_failure(error), 400)

    return blueprint


async def _lines(steps: AsyncGenerator[Any, None]) -> AsyncIterator[bytes]:
    """The command's lines as they come. When the caller goes away the command ends."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(LINES_WAITING_MAX)
    task = asyncio.create_task(_work(steps, queue), name="long command")
    try:
        while True:
            try:
                line = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
            except TimeoutError:
                line = {}
            if line is None:
                return
            yield orjson.dumps(line) + b"\n"
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _work(steps: AsyncGenerator[Any, None], queue: asyncio.Queue[dict[str, Any] | None]) -> None:
    try:
        async with contextlib.aclosing(steps):
            async for step in steps:
                await queue.put({"result": step.result} if isinstance(step, Done) else {"progress": step})
    except ApplianceError as error:
        await queue.put(_failure(error))
    except Exception as error:  # noqa: BLE001 - one command: its caller is told, the process goes on
        log.error("command_broke", trace=error)
        await queue.put({"error": "it broke: see command_broke in the log", "misused": False})
    await queue.put(None)


def _failure(error: ApplianceError) -> dict[str, Any]:
    return {"error": error.message, "misused": isinstance(error, BadInput)}


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status=status, content_type="application/json")
