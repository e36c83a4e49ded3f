"""Commands on the machine itself reach the running process, which alone may write.

The caller shows that it can read the data folder's key: a token of a minute, by HMAC.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from quart import Blueprint, Response, request

from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput

PATH = "/control"
WINDOW_US = 60_000_000

Command = Callable[[list[str]], Awaitable[Any]]


def token(key: bytes, now_us: int) -> str:
    """What a caller shows; good for this minute and the next."""
    return hmac.new(key, b"control %d" % (now_us // WINDOW_US), hashlib.sha256).hexdigest()


def control(key: bytes, clock: Clock, commands: Mapping[str, Command]) -> Blueprint:
    """``{"command": name, "arguments": [...]}`` in, ``{"result": ...}`` or ``{"error": ...}`` out."""
    blueprint = Blueprint("control", __name__)

    @blueprint.post(PATH)
    async def run() -> Response:
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        now_us = clock.now_us()
        good = (token(key, now_us), token(key, now_us - WINDOW_US))
        if not any(hmac.compare_digest(shown.encode(), one.encode()) for one in good):
            return _json({"error": "Not allowed"}, 403)
        body = orjson.loads(await request.get_data())
        command = commands.get(body["command"])
        try:
            if command is None:
                raise BadInput(f"there is no command {body['command']}")
            return _json({"result": await command(body["arguments"])})
        except ApplianceError as error:
            return _json({"error": error.message, "misused": isinstance(error, BadInput)}, 400)

    return blueprint


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status=status, content_type="application/json")
