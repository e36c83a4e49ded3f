"""The addresses of pictures, as clients know them: /img/<preset>/plain/<did>/<cid>, with or without @jpeg."""

from __future__ import annotations

from quart import Blueprint, Request, Response, request

from appliance.errors import ApplianceError, BadInput, NotFound
from appliance.media.images import Images

IMAGE_AGE_S = 31_536_000
FAILURE_AGE_S = 300
SUFFIXES = {"": "", "jpeg": "jpeg", "jpg": "jpeg", "png": "png", "webp": "webp"}


def pictures(images: Images) -> Blueprint:
    """The picture route. Its failures are one line: nobody reads a page in place of a picture."""
    blueprint = Blueprint("pictures", __name__)

    @blueprint.get("/img/<preset>/plain/<did>/<name>")
    async def picture(preset: str, did: str, name: str) -> Response:
        """A picture from its owner’s server, checked against its name."""
        cid, at, suffix = name.partition("@")
        if suffix not in SUFFIXES or (at and not suffix):
            return failed(404, "no such picture")
        form = SUFFIXES[suffix] or ("webp" if "image/webp" in request.headers.get("Accept", "") else "jpeg")
        tag = f'"{cid}.{preset}.{form}"'
        try:
            found = await images.get(preset, did, cid, form)
        except (BadInput, NotFound) as error:
            return failed(404, error.message)
        except ApplianceError as error:
            return failed(502, error.message)
        # The name is the hash of what it names: it can't have changed.
        unchanged = tag in (each.strip().removeprefix("W/") for each in _tags(request))
        response = Response(
            b"" if unchanged else found.data, status=304 if unchanged else 200, content_type=found.mime
        )
        response.headers["ETag"] = tag
        response.headers["Cache-Control"] = f"public, max-age={IMAGE_AGE_S}, immutable"
        if not suffix:
            response.vary.add("Accept")
        return harmless(response)

    return blueprint


def _tags(asked: Request) -> list[str]:
    return asked.headers.get("If-None-Match", "").split(",")


def failed(status: int, message: str) -> Response:
    """A refusal in one line."""
    response = Response(message, status=status, content_type="text/plain; charset=utf-8")
    response.headers["Cache-Control"] = f"public, max-age={FAILURE_AGE_S}" if status == 404 else "no-store"
    return harmless(response)


def harmless(response: Response) -> Response:
    """Somebody else's bytes under our name: nothing in them may run; others may show them."""
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
