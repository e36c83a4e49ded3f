"""The pages for reading: home, profile, thread; and the frame around every page."""

from __future__ import annotations

import hashlib
import secrets
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from quart import Blueprint, Response, g, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound as NoSuchPage

from appliance import errors
from appliance.clock import Clock
from appliance.web import present, richtext
from appliance.web.doors import Member, Progress, Reading, SigningIn
from appliance.web.security import GUEST_COOKIE, SESSION_COOKIE, Guard

PAGE_ROWS = 50
TABS = (
    ("posts_and_author_threads", "Posts"),
    ("posts_with_replies", "With replies"),
    ("posts_with_media", "Media"),
)
STATIC_TYPES = {"css": "text/css", "svg": "image/svg+xml", "js": "text/javascript"}
ASSET_AGE_S = 31_536_000


class Frame:
    """Renders templates with what every page shows, and knows who is looking."""

    def __init__(self, guard: Guard, sessions: SigningIn, clock: Clock, origin: str) -> None:
        self.guard = guard
        self.sessions = sessions
        self.clock = clock
        self.origin = origin
        self.assets = {
            entry.name: entry.read_bytes()
            for entry in files("appliance.web").joinpath("static").iterdir()
            if entry.is_file()
        }
        self._marks = {name: hashlib.sha256(data).hexdigest()[:10] for name, data in self.assets.items()}
        self._templates = Environment(
            loader=PackageLoader("appliance.web"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["asset"] = self.asset

    def asset(self, name: str) -> str:
        """The address of a static file; it changes with the content."""
        return f"/static/{self._marks[name]}/{name}"

    async def viewer(self) -> Member | None:
        """Who is signed in, asked once a request."""
        if "viewer" not in g:
            cookie = self.guard.read_cookie(request, SESSION_COOKIE)
            g.viewer = await self.sessions.who(cookie) if cookie else None
        viewer: Member | None = g.viewer
        return viewer

    async def render(self, template: str, *, status: int = 200, here: str = "", **values: Any) -> Response:
        """An HTML answer. A guest gets a cookie so that forms can be told from forged ones."""
        viewer = await self.viewer()
        holder = self.guard.read_cookie(request, SESSION_COOKIE if viewer else GUEST_COOKIE)
        fresh = "" if holder else self.guard.new_guest()
        token = self.guard.form_token(holder or fresh)
        field = Markup('<input type="hidden" name="token" value="{}">').format(token)
        here_path = request.full_path.rstrip("?") if request.method == "GET" else "/"
        html = self._templates.get_template(template).render(
            viewer=present.person({"did": viewer.did, "handle": viewer.handle}) if viewer else None,
            csrf=lambda: field,
            here=here,
            here_path=here_path,
            origin=self.origin,
            notice=NOTICES.get(request.args.get("done", ""), ""),
            **values,
        )
        response = Response(html, status=status, content_type="text/html; charset=utf-8")
        if fresh:
            self.guard.set_cookie(response, GUEST_COOKIE, fresh)
        return response

    async def error(self, status: int, message: str) -> Response:
        """A page that says what is wrong, in words for the reader."""
        return await self.render(
            "error.html", status=status, title=ERROR_TITLES.get(status, "That did not work"), message=message
        )


NOTICES = {
    "posted": "Posted.",
    "deleted": "Deleted.",
    "unknown": "Your server did not answer in time, so we do not know whether it was done."
    " Look before you repeat.",
}
ERROR_TITLES = {
    400: "That request makes no sense here",
    403: "Not allowed",
    404: "Not found",
    410: "Gone",
    429: "Too many requests",
    500: "Something broke on our side",
    502: "The other server did not answer well",
    503: "Not available right now",
}


def pages(frame: Frame, reading: Reading) -> Blueprint:
    """The reading pages and the static files."""
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/")
    async def home() -> Response:
        viewer = await frame.viewer()
        if viewer is None:
            return await frame.render("welcome.html", here="home", name=frame.origin.split("://")[-1])
        before, after = request.args.get("before", ""), request.args.get("after", "")
        page = await reading.timeline(viewer.did, limit=PAGE_ROWS, before=before, after=after)
        now_us = frame.clock.now_us()
        first = not before and not page.newer
        return await frame.render(
            "home.html",
            here="home",
            state=completeness(await reading.progress(viewer.did)),
            first_page=first,
            once=secrets.token_urlsafe(12),
            entries=[present.entry(item, now_us) for item in page.feed],
            older=f"/?{urlencode({'before': page.older})}" if page.older else "",
            newer=f"/?{urlencode({'after': page.newer})}" if page.newer else "",
        )

    @blueprint.get("/profile/<actor>")
    async def profile(actor: str) -> Response:
        viewer = await frame.viewer()
        did = viewer.did if viewer else None
        view = await reading.profile(did, actor)
        who = present.person(view)
        chosen = request.args.get("show", TABS[0][0])
        before = request.args.get("before", "")
        state = _relation(view)
        now_us = frame.clock.now_us()
        feed, older = [], ""
        if not state["blocked"]:
            page = await reading.author_feed(did, who.did, limit=PAGE_ROWS, before=before, kinds=chosen)
            feed, older = page.feed, page.older
        progress = await reading.progress_of(who.did)
        about = richtext.plain(view.get("description") or "")
        return await frame.render(
            "profile.html",
            here="me" if did == who.did else "",
            who=who,
            banner=richtext.safe_link(view.get("banner")),
            about=about,
            about_line=" ".join(about.split())[:200] or f"Posts by @{who.handle}",
            state=state,
            counts={name: view.get(f"{name}Count", 0) for name in ("follows", "followers", "posts")},
            history=_history(progress) if progress else None,
            tabs=[
                {"name": name, "current": key == chosen, "href": f"{who.path}?{urlencode({'show': key})}"}
                for key, name in TABS
            ],
            entries=[present.entry(item, now_us) for item in feed],
            older=f"{who.path}?{urlencode({'show': chosen, 'before': older})}" if older else "",
        )

    @blueprint.get("/post/<path:uri>")
    async def thread(uri: str) -> Response:
        viewer = await frame.viewer()
        uri = uri if uri.startswith("at://") else "at://" + uri.removeprefix("at:").lstrip("/")
        answer = await reading.thread(viewer.did if viewer else None, uri)
        now_us = frame.clock.now_us()
        above, post, below = _flatten(answer.get("thread"), now_us)
        text = " ".join("".join(part.text for part in post.text).split())
        return await frame.render(
            "thread.html",
            above=above,
            post=post,
            below=below,
            excerpt=(text[:120] + "…") if len(text) > 120 else text,
            once=secrets.token_urlsafe(12),
        )

    @blueprint.get("/@<actor>")
    async def short_profile(actor: str) -> Any:
        return redirect(f"/profile/{actor}", 301)

    @blueprint.get("/@<actor>/<rkey>")
    async def short_post(actor: str, rkey: str) -> Any:
        return redirect(f"/post/at://{actor}/app.bsky.feed.post/{rkey}", 301)

    @blueprint.get("/static/<mark>/<name>")
    async def static(mark: str, name: str) -> Response:
        if name not in frame.assets:
            raise NoSuchPage
        kind = STATIC_TYPES[name.rsplit(".", 1)[-1]]
        response = Response(frame.assets[name], content_type=f"{kind}; charset=utf-8")
        fresh = frame.asset(name) == f"/static/{mark}/{name}"
        response.headers["Cache-Control"] = (
            f"public, max-age={ASSET_AGE_S}, immutable" if fresh else "no-cache"
        )
        return response

    return blueprint


def completeness(progress: Progress) -> dict[str, Any]:
    """One honest line about the timeline as a whole."""
    accounts = "1 account" if progress.total == 1 else f"{progress.total} accounts"
    if progress.stream_lag_s is not None and progress.stream_lag_s > 60:
        minutes = max(1, round(progress.stream_lag_s / 60))
        return {"busy": True, "title": "Not live", "detail": f"New posts are {minutes} min behind."}
    if progress.loading:
        return {
            "busy": True,
            "title": "Catching up",
            "detail": f"Loading the history of {progress.loading} of {accounts}."
            " Older posts may still appear.",
        }
    if progress.waiting or progress.doubtful:
        return {
            "busy": True,
            "title": "Nearly complete",
            "detail": f"{progress.waiting + progress.doubtful} of {accounts} are being checked again.",
        }
    return {"busy": False, "title": "Complete", "detail": f"Every post of {accounts}, as they come."}


def _history(progress: Progress) -> dict[str, Any] | None:
    if progress.live or not progress.total:
        return None
    if progress.loading:
        return {"busy": True, "title": "Loading history.", "detail": "Older posts may still appear."}
    return {"busy": True, "title": "Being checked.", "detail": "Some posts may be missing until then."}


def _relation(view: dict[str, Any]) -> dict[str, Any]:
    state = view.get("viewer")
    state = state if isinstance(state, dict) else {}
    blocked = ""
    if state.get("blocking") or state.get("blockingByList"):
        blocked = "You block this account."
    elif state.get("blockedBy"):
        blocked = "This account blocks you."
    return {
        "following": state.get("following"),
        "followed_by": state.get("followedBy"),
        "muted": state.get("muted"),
        "blocked": blocked,
    }


def _flatten(thread: Any, now_us: int) -> tuple[list[present.Card], present.Card, list[dict[str, Any]]]:
    """Ancestors from the top, the post, and its answers depth first with their depth."""
    node = thread if isinstance(thread, dict) else {}
    above: list[present.Card] = []
    parent = node.get("parent")
    while isinstance(parent, dict):
        above.append(_node_card(parent, now_us))
        parent = parent.get("parent")
    below: list[dict[str, Any]] = []
    stack = [(reply, 1) for reply in reversed(node.get("replies") or [])]
    while stack:
        reply, depth = stack.pop()
        below.append({"card": _node_card(reply, now_us), "depth": min(depth, 6)})
        stack += [(deeper, depth + 1) for deeper in reversed(reply.get("replies") or [])]
    return above[::-1], _node_card(node, now_us), below


def _node_card(node: dict[str, Any], now_us: int) -> present.Card:
    return present.card(node["post"] if isinstance(node.get("post"), dict) else node, now_us)


STATUS_OF = {
    errors.BadInput: 400,
    errors.NotFound: 404,
    errors.Refused: 403,
    errors.Unavailable: 503,
}


def status_of(error: errors.ApplianceError) -> int:
    """The HTTP status that says the same."""
    for kind, status in STATUS_OF.items():
        if isinstance(error, kind):
            return status
    return 500


def http_message(error: HTTPException) -> str:
    """Words for the reader, from an exception of the web framework."""
    if error.code == 404:
        return "There is no such page."
    return error.description or "The request could not be handled."
