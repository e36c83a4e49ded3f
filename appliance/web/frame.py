"""The frame around every page: who is looking, the templates, the static files."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from quart import Response, g, request

from appliance.auth.web_sessions import Member
from appliance.clock import Clock
from appliance.web import bodies, present
from appliance.web.bodies import Body
from appliance.web.doors import SigningIn
from appliance.web.present import Look
from appliance.web.security import GUEST_COOKIE, SESSION_COOKIE, Guard

NOTICES = {
    "posted": "Posted.",
    "deleted": "Deleted.",
    "marked": "Read up to here.",
    "undone": "The marker is back where it was.",
    "not-marked": "The marker stays: it is further, or it was moved elsewhere since this page was opened.",
    "bookmarked": "Your bookmarks are changed.",
    "saved": "Saved.",
    "ended": "Signed out there.",
    "unknown": "Not confirmed: your server did not say whether this was done. Look before you repeat it.",
}


class Asset(NamedTuple):
    """A static file as it is sent. ``mark`` changes with the content."""

    data: bytes
    packed: bytes
    mark: str


class Frame:
    """Renders templates with what every page shows, and knows who is looking."""

    def __init__(
        self, guard: Guard, sessions: SigningIn, clock: Clock, origin: str, *, oauth: bool = False
    ) -> None:
        self.guard = guard
        self.clock = clock
        self.origin = origin
        self._sessions = sessions
        self.assets = {
            entry.name: _asset(entry.read_bytes())
            for entry in files("appliance.web").joinpath("static").iterdir()
            if entry.is_file()
        }
        self._templates = Environment(
            loader=PackageLoader("appliance.web"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            undefined=StrictUndefined,
        )
        self._templates.globals["asset"] = self.asset
        self._templates.globals["oauth"] = oauth
        self._templates.filters["short"] = present.short
        self._templates.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]

    def asset(self, name: str) -> str:
        """The address of a static file; it changes with the content."""
        return f"/static/{self.assets[name].mark}/{name}"

    async def viewer(self) -> Member | None:
        """Who is signed in, asked once a request."""
        if "viewer" not in g:
            cookie = self.cookie()
            g.viewer = await self._sessions.who(cookie) if cookie else None
        viewer: Member | None = g.viewer
        return viewer

    def cookie(self) -> str:
        """The session cookie that came along, or ''."""
        return self.guard.read_cookie(request, SESSION_COOKIE)

    async def look(self) -> Look:
        """With which eyes views are turned into what templates print."""
        viewer = await self.viewer()
        return Look(self.clock.now_us(), self.origin, viewer.did if viewer else "")

    async def checked(self) -> Body:
        """What was sent, once it is sure that a page of ours sent it for whoever holds the cookie.

        Raises ForeignForm, and StaleForm whose sender may repeat it knowingly.
        """
        self.guard.check_origin(request)
        body = await bodies.read(request)
        g.body = body
        self.guard.check_token(_holder(await self.viewer(), self._guest()), body.token)
        return body

    async def token(self) -> str:
        """The token for forms of this page; a guest gets the cookie that it belongs to."""
        if "token" not in g:
            viewer = await self.viewer()
            if viewer is None and not self._guest():
                g.guest = self.guard.new_guest()
            g.token = self.guard.form_token(_holder(viewer, self._guest()))
        token: str = g.token
        return token

    async def render(self, template: str, *, status: int = 200, here: str = "", **values: Any) -> Response:
        """An HTML answer."""
        viewer = await self.viewer()
        field = Markup('<input type="hidden" name="token" value="{}">').format(await self.token())
        html = self._templates.get_template(template).render(
            viewer=present.person({"did": viewer.did, "handle": viewer.handle}, await self.look())
            if viewer
            else None,
            csrf=field,
            here=here,
            back=values.pop("back", None) or _address(),
            origin=self.origin,
            notice=NOTICES.get(request.args.get("done", ""), ""),
            **values,
        )
        return Response(html, status=status, content_type="text/html; charset=utf-8")

    async def error(self, status: int, title: str, message: str, *, name: str = "") -> Response:
        """Says what is wrong: a page for a reader, JSON for a program. ``name`` is the protocol's."""
        if bodies.wants_json(request):
            body = {"error": name or title.title().replace(" ", ""), "message": message}
            return json_answer(body, status=status)
        return await self.render(
            "error.html",
            status=status,
            code=status,
            title=title,
            message=message,
            way_back=_way_back(self.origin),
        )

    async def finish(self, response: Response) -> Response:
        """Cookies that this request has made necessary, and the headers of every answer."""
        if "guest" in g:
            self.guard.set_cookie(response, GUEST_COOKIE, g.guest)
        viewer: Member | None = g.get("viewer")
        if viewer is not None and viewer.due and request.method == "GET":
            fresh = await self._sessions.renew(self.cookie())
            if fresh is not None:
                self.guard.set_cookie(response, SESSION_COOKIE, fresh)
        return self.guard.protect(response)

    def _guest(self) -> str:
        fresh: str = g.get("guest", "")
        return fresh or self.guard.read_cookie(request, GUEST_COOKIE)


def json_answer(value: Any, *, status: int = 200) -> Response:
    """An answer for programs; private like the pages."""
    response = Response(orjson.dumps(value), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.add("Cookie")
    return response


def _holder(viewer: Member | None, guest: str) -> str:
    if viewer is not None:
        return f"session {viewer.session} {viewer.did}"
    return f"guest {guest}" if guest else ""


def _address() -> str:
    """Where the reader is, without what was said about the last action."""
    if request.method not in ("GET", "HEAD"):
        return "/"
    query = [pair for pair in parse_qsl(request.query_string.decode("ascii", "replace")) if pair[0] != "done"]
    return quote(request.path, safe="/:@-._~") + (f"?{urlencode(query)}" if query else "")


def _way_back(origin: str) -> str:
    """The page that led here, if it is one of ours, to go on from."""
    parts = urlsplit(request.headers.get("Referer", ""))
    return parts.path if f"{parts.scheme}://{parts.netloc}" == origin else ""


def _asset(data: bytes) -> Asset:
    return Asset(data, gzip.compress(data, 9, mtime=0), hashlib.sha256(data).hexdigest()[:10])
