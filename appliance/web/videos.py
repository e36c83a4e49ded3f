"""The addresses of videos: /vid/<did>/<cid>/playlist.m3u8 and what it names, and the file itself."""

from __future__ import annotations

from quart import Blueprint, Response, request, send_file

from appliance.errors import ApplianceError, BadInput, NotFound
from appliance.media.videos import Videos
from appliance.web.pictures import IMAGE_AGE_S, failed, harmless

PLAYLIST = "application/vnd.apple.mpegurl"


def videos(source: Videos) -> Blueprint:
    """The routes of videos; like pictures, they fail in one line."""
    blueprint = Blueprint("videos", __name__)

    @blueprint.get("/vid/<did>/<cid>/playlist.m3u8")
    async def playlist(did: str, cid: str) -> Response:
        """A video as an HLS stream, made of the owner’s file."""
        try:
            return _kept(Response(await source.playlist(did, cid), content_type=PLAYLIST), cid)
        except ApplianceError as error:
            return _failure(error)

    @blueprint.get("/vid/<did>/<cid>/<name>.mp4")
    async def whole(did: str, cid: str, name: str) -> Response:
        """`video.mp4`: the owner’s file, also in parts; `init.mp4`: the beginning of the stream."""
        try:
            if name == "init":
                return _kept(Response(await source.initialisation(did, cid), content_type="video/mp4"), cid)
            if name != "video":
                return failed(404, "no such video")
            file = await source.file(did, cid)
        except ApplianceError as error:
            return _failure(error)
        response = await send_file(file.path, mimetype="video/mp4", conditional=True, add_etags=False)
        return _kept(response, cid)

    @blueprint.get("/vid/<did>/<cid>/<int:number>.m4s")
    async def segment(did: str, cid: str, number: int) -> Response:
        """A few seconds of the stream."""
        try:
            data = await source.segment(did, cid, number)
        except ApplianceError as error:
            return _failure(error)
        return _kept(Response(data, content_type="video/iso.segment"), cid)

    return blueprint


def _failure(error: ApplianceError) -> Response:
    return failed(404 if isinstance(error, BadInput | NotFound) else 502, error.message)


def _kept(response: Response, cid: str) -> Response:
    """The address names the bytes: they can't change."""
    response.headers["Cache-Control"] = f"public, max-age={IMAGE_AGE_S}, immutable"
    response.headers["ETag"] = f'"{cid}.{request.path.rpartition("/")[2]}"'
    response.headers["Access-Control-Expose-Headers"] = "content-length, content-range, accept-ranges"
    return harmless(response)
