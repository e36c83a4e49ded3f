"""The website as one application: pages, forms, pictures, errors, headers."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Quart, Response, request
from quart.wrappers import Request
from werkzeug.exceptions import HTTPException

from appliance import errors, telemetry
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

    @app.after_request
    async def finish(response: Response) -> Response:
        return await pack(request, await frame.finish(response))

    async def answer(failure: Failure) -> Response:
        return await frame.error(failure.status, failure.title, failure.message, name=failure.name)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Any:
        if error.response is not None or (error.code or 500) < 400:
            return error.get_response()
        return await answer(of_http(error))

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
