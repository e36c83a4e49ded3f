"""The website as one application: pages, forms, pictures, errors, headers."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Quart, Response, request
from quart.wrappers import Request
from werkzeug.exceptions import HTTPException

from appliance import errors, telemetry
from appliance.media.images import Images
from appliance.web.actions import actions
from appliance.web.doors import Reading, SigningIn, Writing
from appliance.web.pages import Frame, http_message, pages, status_of

log = telemetry.Log("web")

FORM_MAX_BYTES = 64 * 1024
BODY_TIMEOUT_S = 20
IMAGE_AGE_S = 31_536_000


class _Request(Request):
    """Forms are small; pictures and exports have doors of their own."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        named["max_content_length"] = FORM_MAX_BYTES
        super().__init__(*parts, **named)


def site(
    frame: Frame,
    reading: Reading,
    sessions: SigningIn,
    writing: Writing,
    images: Images,
    more: list[Blueprint],
) -> Quart:
    """The application. ``more`` are blueprints of others that live under the same roof."""
    app = Quart("appliance", static_folder=None)
    app.request_class = _Request
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.register_blueprint(pages(frame, reading))
    app.register_blueprint(actions(frame, sessions, writing))
    app.register_blueprint(_pictures(images))
    for blueprint in more:
        app.register_blueprint(blueprint)

    @app.after_request
    async def protect(response: Response) -> Response:
        return frame.guard.protect(response)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Any:
        if error.response is not None or (error.code or 500) < 400:
            return error.get_response()
        return await frame.error(error.code or 500, http_message(error))

    @app.errorhandler(errors.ApplianceError)
    async def foreseen(error: errors.ApplianceError) -> Response:
        status = status_of(error)
        if status >= 500:
            log.warning("page_failed", path=request.path, error=error.name)
        return await frame.error(status, error.message or "That did not work.")

    @app.errorhandler(Exception)
    async def unforeseen(error: Exception) -> Response:
        log.error("page_broke", path=request.path, trace=error)
        return await frame.error(500, "It was written down. Going back and trying again may help.")

    return app


def _pictures(images: Images) -> Blueprint:
    blueprint = Blueprint("pictures", __name__)

    @blueprint.get("/img/<preset>/plain/<did>/<name>")
    async def picture(preset: str, did: str, name: str) -> Response:
        found = await images.get(preset, did, name.partition("@")[0])
        response = Response(found.data, content_type=found.mime)
        response.headers["Cache-Control"] = f"public, max-age={IMAGE_AGE_S}, immutable"
        # Somebody else's bytes under our name: nothing in them may run.
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    return blueprint
