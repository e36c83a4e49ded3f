"""What monitors ask: is it alive, is it ready, how does it fare in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from quart import Blueprint, Response

Facts = Callable[[], dict[str, Any]]


def probes(facts: Facts, ready: Callable[[], bool], registry: CollectorRegistry) -> Blueprint:
    """``facts`` are shown as they are; ``ready`` says whether readers can be served."""
    blueprint = Blueprint("probes", __name__)

    @blueprint.get("/health")
    async def health() -> Response:
        return _json({"alive": True, **facts()})

    @blueprint.get("/ready")
    async def readiness() -> Response:
        good = ready()
        return _json({"ready": good, **facts()}, 200 if good else 503)

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _json(value: dict[str, Any], status: int = 200) -> Response:
    response = Response(orjson.dumps(value), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
