"""The website as one application: pages, forms, pictures, errors, headers."""

from __future__ import annotations

import math
from typing import Any

from quart import Blueprint, Quart, Response, g, request
from quart.wrappers import Request
from werkzeug.exceptions import HTTPException

from appliance import errors, telemetry
from appliance.auth.budgets import Budgets, Exceeded, Kind, Left, of_address
from appliance.media.images import Images
from appliance.web.actions import actions, signing
from appliance.web.choosing import choosing
from appliance.web.doors import Asking, Marking, Proving, Reading, SigningIn, Writing
from appliance.web.failures import Failure, of_error, of_http, title_of
from appliance.web.frame import Frame
from appliance.web.lookups import lookups
from appliance.web.packing import pack
from appliance.web.pages import pages
from appliance.web.pictures import pictures
from appliance.web.proofs import proofs
from appliance.web.timelines import timelines

log = telemetry.Log("web")

FORM_MAX_BYTES = 64 * 1024
BODY_TIMEOUT_S = 20
# What costs next to nothing, or has a door of its own.
_UNCOUNTED = ("/static/", "/.well-known/", "/control", "/health", "/ready", "/metrics", "/robots.txt")


class _Request(Request):
    """Forms are small; pictures and exports have doors of their own."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        named["max_content_length"] = FORM_MAX_BYTES
        super().__init__(*parts, **named)


def site(
    frame: Frame,
    reading: Reading,
    marking: Marking,
    ask: Asking,
    proving: Proving,
    sessions: SigningIn,
    writing: Writing,
    images: Images,
    more: list[Blueprint],
    budgets: Budgets | None = None,
) -> Quart:
    """The application. ``more`` are blueprints of others that live under the same roof."""
    app = Quart("appliance", static_folder=None)
    app.request_class = _Request
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.url_map.merge_slashes = False  # at:// addresses stand in paths
    for blueprint in (
        timelines(frame, reading, proving),
        choosing(frame, reading, marking),
        pages(frame, reading, proving, ask),
        lookups(frame, ask),
        proofs(frame, proving),
        signing(frame, sessions),
        actions(frame, writing),
        pictures(images),
        *more,
    ):
        app.register_blueprint(blueprint)

    @app.before_request
    async def limit() -> None:
        if budgets is not None and not request.path.startswith(_UNCOUNTED):
            g.left = budgets.take(*await _counted(frame))

    @app.after_request
    async def finish(response: Response) -> Response:
        left: Left | None = g.get("left")
        if left is not None:
            response.headers.update(dict(left.headers))
        return await pack(request, await frame.finish(response))

    async def answer(failure: Failure) -> Response:
        return await frame.error(failure.status, failure.title, failure.message, name=failure.name)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Any:
        if error.response is not None or (error.code or 500) < 400:
            return error.get_response()
        return await answer(of_http(error))

    @app.errorhandler(Exceeded)
    async def exceeded(error: Exceeded) -> Response:
        g.left = error.left
        response = await answer(of_error(error))
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
        return response

    @app.errorhandler(errors.ApplianceError)
    async def foreseen(error: errors.ApplianceError) -> Response:
        failure = of_error(error)
        if failure.status >= 500:
            log.warning("page_failed", path=request.path, error=error.name)
        return await answer(failure)

    @app.errorhandler(Exception)
    async def unforeseen(error: Exception) -> Response:
        log.error("page_broke", path=request.path, trace=error)
        message = "It was written down. Going back and trying again may help."
        return await answer(Failure(500, title_of(500), message, "InternalServerError"))

    return app


async def _counted(frame: Frame) -> tuple[Kind, str]:
    """As what this request counts, and whose it is."""
    client = of_address(request.remote_addr or "")
    if request.path.startswith(("/img/", "/vid/")):
        return "pictures", client
    viewer = await frame.viewer()
    if viewer is None:
        return "guest_pages", client
    if request.method == "POST" and request.path.startswith("/api/actions/"):
        return "writes", viewer.did
    return "pages", f"session {viewer.session}"
