"""The forms of reading: marking, undoing, options of a timeline, filters of an account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from quart import Blueprint, redirect, request

from appliance import errors
from appliance.auth.web_sessions import Member
from appliance.protocol.syntax import is_did
from appliance.web.actions import way_back
from appliance.web.bodies import Body, wants_json
from appliance.web.doors import Marking, Reading
from appliance.web.frame import Frame, json_answer
from appliance.web.switches import SWITCHES
from appliance.web.timelines import path_of, timeline_of


def choosing(frame: Frame, reading: Reading, marking: Marking) -> Blueprint:
    """The forms, and the page of options."""
    blueprint = Blueprint("choosing", __name__)

    async def act(do: Callable[[Member, Body], Awaitable[tuple[dict[str, Any], str, str]]]) -> Any:
        """Run one change; ``do`` gives what programs hear, the row to go back to, and what to say."""
        viewer = await frame.viewer()
        if viewer is None:
            frame.guard.check_origin(request)
            if wants_json(request):
                raise errors.Refused("Sign in first.")
            return redirect("/login", 303)
        body = await frame.checked()
        told, anchor, notice = await do(viewer, body)
        if wants_json(request):
            return json_answer(told)
        return redirect(way_back(body.get("return"), anchor, notice), 303)

    @blueprint.post("/api/reading/mark")
    async def mark() -> Any:
        """Read up to a row (`place`), exactly there (`exactly`), or up to a moment (`at`)."""

        async def do(viewer: Member, body: Body) -> tuple[dict[str, Any], str, str]:
            timeline = timeline_of(body.get("timeline"))
            version, arrival = _number(body, "version"), _number(body, "arrival")
            device = _device()
            if body.get("at"):
                now_ms = frame.clock.now_us() // 1000
                moved = await marking.mark_time(
                    viewer.did,
                    timeline,
                    min(_number(body, "at"), now_ms),
                    version=version,
                    arrival=arrival,
                    device=device,
                )
                anchor = "marker"
            else:
                exactly = bool(body.get("exactly"))
                cursor, _, anchor = (body.get("exactly") or body.get("place")).partition(" ")
                if not cursor:
                    raise errors.BadInput("No row was named.")
                moved = await marking.mark(
                    viewer.did,
                    timeline,
                    cursor,
                    version=version,
                    arrival=arrival,
                    exactly=exactly,
                    device=device,
                )
            return {"moved": moved}, anchor, "marked" if moved else "not-marked"

        return await act(do)

    @blueprint.post("/api/reading/undo")
    async def undo() -> Any:
        """Take the last move of the marker back; again, make it once more."""

        async def do(viewer: Member, body: Body) -> tuple[dict[str, Any], str, str]:
            moved = await marking.undo(viewer.did, timeline_of(body.get("timeline")), device=_device())
            return {"moved": moved}, "marker", "undone" if moved else "not-marked"

        return await act(do)

    @blueprint.post("/api/reading/late")
    async def late() -> Any:
        """What came late, up to `arrival`, was looked at."""

        async def do(viewer: Member, body: Body) -> tuple[dict[str, Any], str, str]:
            await marking.late_seen(viewer.did, _number(body, "arrival"))
            return {}, "", ""

        return await act(do)

    @blueprint.get("/reading")
    async def options() -> Any:
        """How a timeline (`timeline`) is shown."""
        viewer = await frame.viewer()
        if viewer is None:
            return redirect(f"/login?{urlencode({'return': '/reading'})}", 303)
        timeline = timeline_of(request.args.get("timeline", ""))
        return await frame.render(
            "reading.html",
            here="settings",
            timeline=timeline,
            way=path_of(timeline),
            marker=await reading.options(viewer.did, timeline),
            switches=SWITCHES,
        )

    @blueprint.post("/api/reading/options")
    async def choose() -> Any:
        """What a timeline leaves out (`reposts`, `replies`, `quotes`, `no_media` …), and its `order`."""

        async def do(viewer: Member, body: Body) -> tuple[dict[str, Any], str, str]:
            hide, oldest_first = bits_of(body), body.get("order") == "oldest"
            await marking.choose(
                viewer.did, timeline_of(body.get("timeline")), hide=hide, oldest_first=oldest_first
            )
            return {"hide": hide, "oldestFirst": oldest_first}, "", "saved"

        return await act(do)

    @blueprint.post("/api/reading/account")
    async def account() -> Any:
        """What every timeline leaves out of one account (`did`)."""

        async def do(viewer: Member, body: Body) -> tuple[dict[str, Any], str, str]:
            did, hide = body.get("did"), bits_of(body)
            if not is_did(did):
                raise errors.BadInput("No account was named.")
            await marking.filter_account(viewer.did, did, hide)
            return {"hide": hide}, "", "saved"

        return await act(do)

    return blueprint


def bits_of(body: Body) -> int:
    """The switches that are on."""
    return sum(bit for name, bit, _ in SWITCHES if body.flag(name))


def _device() -> str:
    return request.headers.get("User-Agent", "")


def _number(body: Body, name: str) -> int:
    text = body.get(name) or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise errors.BadInput(f"{name} is a number")
    return int(text)
