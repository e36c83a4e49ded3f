"""What monitors ask: is it alive, is it ready, how does it fare in numbers.

Everybody may know the verdict. The facts behind it, and the numbers, are for callers on this machine and for
whoever has the operator's password.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from quart import Blueprint, Response, request

from appliance.auth.budgets import Budgets, of_address
from appliance.ops.watch import Verdict

LOCAL = ("127.0.0.1", "::1")


class Watching(Protocol):
    """Who judges: ``Watch``."""

    def verdict(self) -> Verdict: ...
    def facts(self) -> dict[str, Any]: ...


def probes(
    watch: Watching,
    refresh: Callable[[], Awaitable[None]],
    registry: CollectorRegistry,
    admin_password: str,
    budgets: Budgets | None = None,
) -> Blueprint:
    """``refresh`` brings the registry up to date before it is told; ``budgets`` count wrong passwords."""
    blueprint = Blueprint("probes", __name__)

    @blueprint.get("/health")
    async def health() -> Response:
        """Whether the process does its work: 503 while it is stalled, or the database refuses."""
        wrong = watch.verdict().dead
        return _told({"alive": not wrong}, wrong)

    @blueprint.get("/ready")
    async def ready() -> Response:
        """Whether readers get what they were promised: 503 while the stream is not live or a doubt is old."""
        wrong = watch.verdict().unready
        return _told({"ready": not wrong}, wrong)

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        """Every metric in Prometheus' text format (docs/metrics.md)."""
        if not _trusted():
            answer = _json(
                {"error": "Not allowed", "message": "From here with the admin password only."}, 401
            )
            answer.headers["WWW-Authenticate"] = 'Basic realm="appliance"'
            return answer
        await refresh()
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    def _told(verdict: dict[str, Any], wrong: list[str]) -> Response:
        facts = {**watch.facts(), "wrong": wrong} if _trusted() else {}
        return _json({**verdict, **facts}, 503 if wrong else 200)

    def _trusted() -> bool:
        if request.remote_addr in LOCAL:
            return True
        shown = request.authorization
        if not admin_password or shown is None or shown.type != "basic" or shown.username != "admin":
            return False
        client = of_address(request.remote_addr or "")
        if budgets is not None:
            budgets.check("admin", client)
        right = hmac.compare_digest((shown.password or "").encode(), admin_password.encode())
        if budgets is not None and not right:
            budgets.take("admin", client)
        return right

    return blueprint


def _json(value: dict[str, Any], status: int = 200) -> Response:
    response = Response(orjson.dumps(value), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
