"""The forms: signing in and out, posting, liking, reposting, following, deleting.

Each works without script: do it, then go back to where the reader was.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from quart import Blueprint, redirect, request
from werkzeug.datastructures import MultiDict

from appliance import errors
from appliance.protocol.syntax import is_did, parse_at_uri
from appliance.web import present
from appliance.web.doors import SigningIn, Writing
from appliance.web.pages import Frame, status_of
from appliance.web.security import GUEST_COOKIE, SESSION_COOKIE, safe_return

APP_PASSWORD = re.compile(r"[a-z0-9]{4}(-[a-z0-9]{4}){3}")


def actions(frame: Frame, sessions: SigningIn, writing: Writing) -> Blueprint:
    """The endpoints that forms are sent to."""
    blueprint = Blueprint("actions", __name__)
    guard = frame.guard

    async def checked_form(cookie: str) -> MultiDict[str, str]:
        form = await request.form
        guard.check_form(request, guard.read_cookie(request, cookie), form.get("token", ""))
        return form

    @blueprint.get("/login")
    async def login() -> Any:
        if await frame.viewer():
            return redirect("/")
        return await frame.render(
            "login.html",
            here="login",
            ask_invite=request.args.get("invite") is not None,
            invite=request.args.get("invite", ""),
        )

    @blueprint.post("/api/auth/login")
    async def do_login() -> Any:
        form = await checked_form(GUEST_COOKIE)
        identifier = form.get("identifier", "").strip().lstrip("@")
        password = form.get("password", "")
        values: dict[str, Any] = {"here": "login", "identifier": identifier, "invite": form.get("invite", "")}
        if not APP_PASSWORD.fullmatch(password) and form.get("confirm") != "yes":
            return await frame.render(
                "login.html",
                status=422,
                ask_confirm=True,
                problem="That does not look like an app password.",
                **values,
            )
        try:
            cookie, _ = await sessions.sign_in(
                identifier, password, factor=form.get("factor", ""), invite=form.get("invite", "")
            )
        except errors.ApplianceError as error:
            return await frame.render(
                "login.html",
                status=401 if isinstance(error, errors.Refused) else status_of(error),
                problem=error.message or "Signing in did not work.",
                ask_factor=error.name == "AuthFactorTokenRequired",
                ask_invite=error.name == "InvalidInviteCode",
                ask_confirm=form.get("confirm") == "yes",
                **values,
            )
        response = redirect("/", 303)
        guard.set_cookie(response, SESSION_COOKIE, cookie)  # type: ignore[arg-type]
        guard.drop_cookie(response, GUEST_COOKIE)  # type: ignore[arg-type]
        return response

    @blueprint.post("/api/auth/logout")
    async def logout() -> Any:
        await checked_form(SESSION_COOKIE)
        await sessions.sign_out(guard.read_cookie(request, SESSION_COOKIE))
        response = redirect("/", 303)
        guard.drop_cookie(response, SESSION_COOKIE)  # type: ignore[arg-type]
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    async def act(do: Callable[[str, MultiDict[str, str]], Awaitable[tuple[str, str]]]) -> Any:
        """Run one action for who is signed in; its answer is (row to return to, notice)."""
        if await frame.viewer() is None:
            return redirect("/login", 303)
        form = await checked_form(SESSION_COOKIE)
        anchor, notice = await do(guard.read_cookie(request, SESSION_COOKIE), form)
        return redirect(_back(form.get("return", "/"), anchor, notice), 303)

    @blueprint.post("/api/actions/like")
    async def like() -> Any:
        async def do(cookie: str, form: MultiDict[str, str]) -> tuple[str, str]:
            uri, cid = _subject(form)
            await writing.toggle_like(cookie, uri, cid)
            return present.anchor(uri), ""

        return await act(do)

    @blueprint.post("/api/actions/repost")
    async def repost() -> Any:
        async def do(cookie: str, form: MultiDict[str, str]) -> tuple[str, str]:
            uri, cid = _subject(form)
            await writing.toggle_repost(cookie, uri, cid)
            return present.anchor(uri), ""

        return await act(do)

    @blueprint.post("/api/actions/delete")
    async def delete() -> Any:
        async def do(cookie: str, form: MultiDict[str, str]) -> tuple[str, str]:
            uri, _ = _subject(form)
            await writing.delete(cookie, uri)
            return "", "deleted"

        return await act(do)

    @blueprint.post("/api/actions/follow")
    async def follow() -> Any:
        async def do(cookie: str, form: MultiDict[str, str]) -> tuple[str, str]:
            did = form.get("actor", "")
            if not is_did(did):
                raise errors.BadInput("No account was named.")
            await writing.toggle_follow(cookie, did)
            return "", ""

        return await act(do)

    @blueprint.post("/api/actions/post")
    async def post() -> Any:
        async def do(cookie: str, form: MultiDict[str, str]) -> tuple[str, str]:
            text = form.get("text", "").replace("\r\n", "\n").strip()
            uri = await writing.post(
                cookie, text, reply=form.get("reply", ""), langs=[], once=form.get("once", "")
            )
            return present.anchor(uri), "posted"

        return await act(do)

    return blueprint


def _subject(form: MultiDict[str, str]) -> tuple[str, str]:
    uri, _, cid = form.get("post", "").partition(" ")
    parse_at_uri(uri)
    return uri, cid


def _back(path: str, anchor: str, notice: str) -> str:
    parts = urlsplit(safe_return(path))
    query = "&".join(p for p in parts.query.split("&") if p and not p.startswith("done="))
    if notice:
        query = f"{query}&done={notice}" if query else f"done={notice}"
    return urlunsplit(("", "", parts.path, query, anchor))
