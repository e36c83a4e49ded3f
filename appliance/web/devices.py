"""Where a member is signed in: the list, and ending one of them or all others."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response, redirect, request

from appliance import errors
from appliance.auth.web_sessions import WebSessions
from appliance.store.sessions import Session
from appliance.web.bodies import wants_json
from appliance.web.completeness import moment
from appliance.web.frame import Frame, json_answer

_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def devices(frame: Frame, sessions: WebSessions) -> Blueprint:
    """The page and its two buttons."""
    blueprint = Blueprint("devices", __name__)

    @blueprint.get("/settings/sessions")
    async def listing() -> Response:
        """Every place where the member is signed in."""
        here = await current()
        now_us = frame.clock.now_us()
        rows = [
            {
                "id": one.id,
                "name": named(one.about, one.kind),
                "about": one.about,
                "kind": one.kind,
                "here": one.id == here.id,
                "began": moment(one.created_us, now_us),
                "seen": moment(one.seen_us, now_us),
                "host": one.pds.partition("://")[2],
                "dead": one.dead is not None,
            }
            for one in await sessions.listing(here.actor)
        ]
        if wants_json(request):
            return json_answer({"sessions": [{k: row[k] for k in ("id", "name", "here")} for row in rows]})
        return await frame.render("devices.html", rows=rows, here="devices")

    @blueprint.post("/api/auth/sessions/end")
    async def end() -> Any:
        """End one of them (`session`), or `others`: all but this one."""
        body = await frame.checked()
        here = await current()
        if body.flag("others"):
            await sessions.end_others(here.actor, here.id)
        else:
            number = body.get("session")
            if not number.isdecimal() or len(number) > 15:
                raise errors.BadInput("No session was named.")
            if int(number) == here.id:
                raise errors.BadInput("That is this browser: sign out instead.")
            if not await sessions.end(here.actor, int(number)):
                raise errors.NotFound("That session has ended already.")
        return json_answer({}) if wants_json(request) else redirect("/settings/sessions?done=ended", 303)

    async def current() -> Session:
        return await sessions.get(frame.cookie())

    return blueprint


def named(about: str, kind: str) -> str:
    """A program's description of itself, as a person would say it."""
    if kind == "xrpc" and not about.startswith("Mozilla/"):
        return "".join(c for c in about if c.isprintable())[:60].strip() or "An app"
    browser = next((name for mark, name in _BROWSERS if mark in about), "")
    if not browser:
        browser = "Safari" if "Safari/" in about else "A browser"
    system = next((name for mark, name in _SYSTEMS if mark in about), "")
    return f"{browser} on {system}" if system else browser
