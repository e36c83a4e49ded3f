"""The pages of accounts and threads, and the static files."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote, urlencode

from quart import Blueprint, Response, redirect, request
from werkzeug.exceptions import NotFound as NoSuchPage

from appliance import errors
from appliance.protocol.syntax import is_did, is_handle, parse_at_uri
from appliance.web import completeness, conversation, present, richtext
from appliance.web.doors import Asking, Page, Proving, Reading
from appliance.web.frame import Frame
from appliance.web.switches import SWITCHES

PAGE_ROWS = 50
PREVIEW_CHARS = 200
TABS = (
    ("posts_and_author_threads", "Posts"),
    ("posts_with_replies", "With replies"),
    ("posts_with_media", "Media"),
)
LIKES = "likes"
STATIC_TYPES = {"css": "text/css", "svg": "image/svg+xml", "js": "text/javascript"}
ASSET_AGE_S = 31_536_000


def pages(frame: Frame, reading: Reading, proving: Proving, ask: Asking) -> Blueprint:
    """Profiles, threads and the static files."""
    blueprint = Blueprint("pages", __name__)

    @blueprint.get("/profile/<actor>")
    async def profile(actor: str) -> Any:
        """An account and its posts; `show` filters, `before` pages."""
        asked = actor.removeprefix("@").lower() if not actor.startswith("did:") else actor
        if not is_did(asked) and not is_handle(asked):
            raise errors.NotFound("That is neither a handle nor a DID.")
        viewer = await frame.viewer()
        did = viewer.did if viewer else None
        look = await frame.look()
        view = await reading.profile(did, asked)
        who = present.person(view, look)
        current = who.handle if is_handle(who.handle) and who.handle != "handle.invalid" else who.did
        if actor not in (who.did, current):
            # Written otherwise, or renamed since. The DID is the address that stays.
            query = request.query_string.decode("ascii", "replace")
            return redirect(f"/profile/{quote(current, safe=':.')}" + (f"?{query}" if query else ""), 302)
        if who.members_only and not did:
            return await frame.render("profile_closed.html", who=who)
        chosen = request.args.get("show", "")
        # Nobody but the account itself is told what it likes.
        tabs = (*TABS, (LIKES, "Likes")) if did == who.did else TABS
        chosen = chosen if chosen in dict(tabs) else TABS[0][0]
        before = request.args.get("before", "")
        state = _relation(view)
        page = None
        if chosen == LIKES:
            liked = await ask(
                did,
                "app.bsky.feed.getActorLikes",
                {"actor": who.did, "limit": str(PAGE_ROWS), "cursor": before},
            )
            page = Page(liked["feed"], liked.get("cursor", ""), "")
        elif not state["blocked"]:
            page = await reading.author_feed(did, who.did, limit=PAGE_ROWS, before=before, kinds=chosen)
        about = richtext.plain(_text(view.get("description"))).strip()
        return await frame.render(
            "profile.html",
            here="me" if did == who.did else "",
            who=who,
            banner=look.own(richtext.safe_link(view.get("banner"))),
            about=about,
            about_line=_shortened(" ".join(about.split())) or f"Posts by @{who.handle}",
            state=state,
            left_out=await reading.account_filter(did, who.did) if did and did != who.did else 0,
            switches=SWITCHES,
            counts={
                name: present.count(view.get(f"{name}Count")) for name in ("follows", "followers", "posts")
            },
            history=completeness.of_account(await proving.of_account(who.did), frame.clock.now_us()),
            tabs=[
                {
                    "name": name,
                    "current": key == chosen,
                    "href": who.path if key == TABS[0][0] else f"{who.path}?{urlencode({'show': key})}",
                }
                for key, name in tabs
            ],
            entries=[present.entry(item, look) for item in page.feed] if page else [],
            older=f"{who.path}?{urlencode({'show': chosen, 'before': page.older})}"
            if page and page.older
            else "",
            first_page=not before,
        )

    @blueprint.get("/post/<path:uri>")
    async def thread(uri: str) -> Response:
        """A post between what it answers and what answers it."""
        viewer = await frame.viewer()
        uri = "at://" + uri.removeprefix("at:").lstrip("/")
        parse_at_uri(uri)
        answer = await reading.thread(viewer.did if viewer else None, uri)
        look = await frame.look()
        shown = conversation.flattened(answer.get("thread"), look)
        text = " ".join("".join(part.text for part in shown.post.text).split())
        return await frame.render(
            "thread.html",
            thread=shown,
            post=shown.post,
            excerpt=_shortened(text) or "A post",
            once=secrets.token_urlsafe(12),
        )

    @blueprint.get("/@<actor>")
    async def short_profile(actor: str) -> Any:
        """Leads to the profile."""
        return redirect(f"/profile/{quote(actor, safe=':.')}", 301)

    @blueprint.get("/@<actor>/<rkey>")
    async def short_post(actor: str, rkey: str) -> Any:
        """Leads to the thread."""
        return redirect(f"/post/at://{quote(actor, safe=':.')}/app.bsky.feed.post/{quote(rkey)}", 301)

    @blueprint.get("/static/<mark>/<name>")
    async def static(mark: str, name: str) -> Response:
        """A static file, kept for a year under the mark of its content."""
        asset = frame.assets.get(name)
        if asset is None:
            raise NoSuchPage
        packed = request.accept_encodings["gzip"] > 0
        kind = STATIC_TYPES[name.rsplit(".", 1)[-1]]
        response = Response(asset.packed if packed else asset.data, content_type=f"{kind}; charset=utf-8")
        if packed:
            response.headers["Content-Encoding"] = "gzip"
        response.vary.add("Accept-Encoding")
        fresh = mark == asset.mark
        response.headers["Cache-Control"] = (
            f"public, max-age={ASSET_AGE_S}, immutable" if fresh else "no-cache"
        )
        return response

    return blueprint


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
        "muted": state.get("muted") or state.get("mutedByList"),
        "blocked": blocked,
    }


def _shortened(text: str) -> str:
    return text if len(text) <= PREVIEW_CHARS else text[: PREVIEW_CHARS - 1].rstrip() + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
