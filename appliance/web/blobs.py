"""com.atproto.sync.getBlob for what records here mention: the way to the owner's own server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from quart import Blueprint, Response, request

from appliance.errors import ApplianceError, BadInput, NotFound

PATH = "/xrpc/com.atproto.sync.getBlob"
NSID = PATH.rpartition("/")[2]
AGE_S = 300

Locate = Callable[[str, str], Awaitable[str]]


def blobs(locate: Locate) -> Blueprint:
    """The route. ``locate(did, cid)`` gives the address of the bytes, or raises.

    They are not passed through: bytes of strangers under our name could be anything.
    """
    blueprint = Blueprint("blobs", __name__)

    @blueprint.get(PATH)
    async def get_blob() -> Response:
        """Leads to a blob at its owner’s server, where a record here shows it."""
        try:
            where = await locate(request.args.get("did", ""), request.args.get("cid", ""))
        except (BadInput, NotFound) as error:
            return _failed(400, error)
        except ApplianceError as error:
            return _failed(502, error)
        response = Response(status=302)
        response.headers["Location"] = where
        response.headers["Cache-Control"] = f"public, max-age={AGE_S}"
        return response

    return blueprint


def _failed(status: int, error: ApplianceError) -> Response:
    body = orjson.dumps({"error": error.name, "message": error.message})
    return Response(body, status=status, content_type="application/json")
