"""The forms: signing in and out, posting, liking, reposting, following, deleting.

Each works without script: do it, then go back to where the reader was. Programs that ask for JSON get
JSON from the same addresses.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from quart import Blueprint, Response, g, redirect, request

from appliance import errors
from appliance.protocol.syntax import is_did, parse_at_uri
from appliance.web import present
from appliance.web.bodies import Body, wants_json
from appliance.web.doors import Outcome, SigningIn, Writing
from appliance.web.failures import status_of
from appliance.web.frame import Frame, json_answer
from appliance.web.security import GUEST_COOKIE, SESSION_COOKIE, StaleForm, safe_return

APP_PASSWORD = re.compile(r"[a-z0-9]{4}(-[a-z0-9]{4}){3}", re.IGNORECASE)
POST_BYTES_MAX = 30_000
LANGS_MAX = 3
NOT_CONFIRMED = (
    "Your server did not say whether it has this post. It may be there already: look at your profile."
    " Sending it again from here can't make a second one."
)


def signing(frame: Frame, sessions: SigningIn) -> Blueprint:
    """Signing in and out."""
    blueprint = Blueprint("signing", __name__)
    guard = frame.guard

    @blueprint.get("/login")
    async def login() -> Any:
        """The form for signing in; `return` is where it leads."""
        if await frame.viewer():
            return redirect("/", 303)
        return await form(invite=request.args.get("invite", ""), back=request.args.get("return", "/"))

    async def form(
        *, status: int = 200, problem: str = "", asks: frozenset[str] = frozenset(), **values: str
    ) -> Response:
        return await frame.render(
            "login.html",
            status=status,
            here="login",
            problem=problem,
            asks=asks,
            identifier=values.get("identifier", ""),
            invite=values.get("invite", ""),
            back=safe_return(values.get("back", "/")),
        )

    @blueprint.post("/api/auth/login")
    async def do_login() -> Any:
        """Sign in: `identifier`, `password`, and `factor`, `invite` or `confirm` when asked."""
        try:
            body = await frame.checked()
        except StaleForm:
            if wants_json(request):
                raise
            return await form(status=403, problem="This page was open for too long. Please repeat.")
        identifier = body.get("identifier").strip().removeprefix("@")
        password = body.get("password").strip()
        values = {"identifier": identifier, "invite": body.get("invite").strip(), "back": body.get("return")}
        asks = {"confirm"} if body.flag("confirm") else set()
        if not APP_PASSWORD.fullmatch(password) and not body.flag("confirm"):
            problem = "That does not look like an app password."
            if wants_json(request):
                return json_answer({"error": "NoAppPassword", "message": problem}, status=422)
            return await form(status=422, problem=problem, asks=frozenset({"confirm"}), **values)
        try:
            cookie, member = await sessions.sign_in(
                identifier,
                password,
                factor=body.get("factor").strip(),
                invite=values["invite"],
                client=request.remote_addr or "",
                about=request.headers.get("User-Agent", "")[:200],
            )
        except errors.ApplianceError as error:
            status = 401 if isinstance(error, errors.Refused) else status_of(error)
            problem = error.message or "Signing in did not work."
            if wants_json(request):
                return json_answer({"error": error.name, "message": problem}, status=status)
            if error.name == "AuthFactorTokenRequired":
                asks.add("factor")
            if error.name == "InvalidInviteCode":
                asks.add("invite")
            return await form(status=status, problem=problem, asks=frozenset(asks), **values)
        if wants_json(request):
            response = json_answer({"did": member.did, "handle": member.handle})
        else:
            response = redirect(safe_return(body.get("return") or "/"), 303)  # type: ignore[assignment]
        guard.set_cookie(response, SESSION_COOKIE, cookie)
        guard.drop_cookie(response, GUEST_COOKIE)
        return response

    @blueprint.post("/api/auth/logout")
    async def logout() -> Any:
        """Sign out."""
        await frame.checked()
        await sessions.sign_out(frame.cookie())
        g.viewer = None
        response: Any = json_answer({}) if wants_json(request) else redirect("/", 303)
        guard.drop_cookie(response, SESSION_COOKIE)
        # Pages that going back would show again.
        response.headers["Clear-Site-Data"] = '"cache"'
        return response

    @blueprint.get("/api/auth/session")
    async def session() -> Response:
        """Who is signed in, and the token that actions by JSON carry in X-Form-Token."""
        viewer = await frame.viewer()
        answer: dict[str, Any] = {"token": await frame.token()}
        if viewer is not None:
            answer |= {"did": viewer.did, "handle": viewer.handle}
        return json_answer(answer)

    return blueprint


def actions(frame: Frame, writing: Writing) -> Blueprint:
    """What somebody who is signed in can do."""
    blueprint = Blueprint("actions", __name__)

    async def act(do: Callable[[str, Body], Awaitable[tuple[Outcome, str, str]]]) -> Any:
        """Run one action; ``do`` gives its outcome, the row to go back to, and what to say of it."""
        if await frame.viewer() is None:
            frame.guard.check_origin(request)
            if wants_json(request):
                raise errors.Refused("Sign in first.")
            return redirect("/login", 303)
        body = await frame.checked()
        outcome, anchor, notice = await do(frame.cookie(), body)
        if wants_json(request):
            return _told(outcome)
        notice = notice if outcome.confirmed else "unknown"
        return redirect(way_back(body.get("return"), anchor, notice), 303)

    @blueprint.post("/api/actions/like")
    async def like() -> Any:
        """Like a post (`uri`, `cid`); with `undo`, take it back."""

        async def do(cookie: str, body: Body) -> tuple[Outcome, str, str]:
            uri, cid, anchor = _post_of(body)
            return await writing.like(cookie, uri, cid, wanted=not _undo(body)), anchor, ""

        return await act(do)

    @blueprint.post("/api/actions/repost")
    async def repost() -> Any:
        """Repost a post (`uri`, `cid`); with `undo`, take it back."""

        async def do(cookie: str, body: Body) -> tuple[Outcome, str, str]:
            uri, cid, anchor = _post_of(body)
            return await writing.repost(cookie, uri, cid, wanted=not _undo(body)), anchor, ""

        return await act(do)

    @blueprint.post("/api/actions/follow")
    async def follow() -> Any:
        """Follow an account (`did`); with `undo`, unfollow."""

        async def do(cookie: str, body: Body) -> tuple[Outcome, str, str]:
            did = body.get("actor") or body.get("did")
            if not is_did(did):
                raise errors.BadInput("No account was named.")
            return await writing.follow(cookie, did, wanted=not _undo(body)), "follow", ""

        return await act(do)

    @blueprint.post("/api/actions/delete")
    async def delete() -> Any:
        """Delete a record of one’s own (`uri`)."""

        async def do(cookie: str, body: Body) -> tuple[Outcome, str, str]:
            uri, _, anchor = _post_of(body)
            outcome = await writing.delete(cookie, uri)
            if body.get("return").partition("?")[0] == present.post_path(uri):
                # Its own page is no more.
                body.fields["return"] = "/"
            return outcome, anchor, "deleted"

        return await act(do)

    @blueprint.post("/api/actions/post")
    async def post() -> Any:
        """Post `text`, perhaps as a `reply` to an address, in `langs`; `once` makes repeating harmless."""
        viewer = await frame.viewer()
        frame.guard.check_origin(request)
        try:
            body = await frame.checked()
        except StaleForm:
            if wants_json(request):
                raise
            problem = "This page was open for too long. Nothing was sent; your text is here."
            if viewer is None:
                problem = "You are signed out. Nothing was sent; copy your text, sign in, and send it then."
            return await kept(g.body, problem, 403)
        if viewer is None:
            if wants_json(request):
                raise errors.Refused("Sign in first.")
            return await kept(
                body, "You are signed out. Nothing was sent; copy your text, sign in, and send it then.", 401
            )
        text = body.get("text").replace("\r\n", "\n").strip()
        langs = [lang for lang in body.get("langs").split(",") if lang][: LANGS_MAX + 1]
        try:
            if len(text.encode("utf-8", "replace")) > POST_BYTES_MAX:
                raise errors.BadInput("A post has at most 300 characters.")
            outcome = await writing.post(
                frame.cookie(), text, reply=body.get("reply"), langs=langs, once=body.get("once")
            )
        except errors.ApplianceError as error:
            if wants_json(request):
                raise
            status = status_of(error)
            return await kept(body, error.message or "That did not work.", 422 if status == 400 else status)
        if wants_json(request):
            return _told(outcome)
        if not outcome.confirmed:
            return await kept(body, NOT_CONFIRMED, 202, again=True)
        return redirect(way_back(body.get("return"), present.anchor(outcome.uri), "posted"), 303)

    @blueprint.get("/compose")
    async def compose() -> Any:
        """The form for a post, perhaps as a `reply` to an address; `text` is what it begins with."""
        if await frame.viewer() is None:
            return redirect("/login?return=/compose", 303)
        reply = request.args.get("reply", "")
        if reply:
            parse_at_uri(reply)
        fields = {"reply": reply, "text": request.args.get("text", ""), "return": safe_return("/")}
        return await kept(Body(fields, ""), "", 200)

    async def kept(body: Body, problem: str, status: int, *, again: bool = False) -> Response:
        """The form once more, with what was written, so that nothing typed is lost."""
        reply = body.get("reply")
        return await frame.render(
            "compose.html",
            status=status,
            problem=problem,
            again=again,
            text=body.get("text"),
            reply=reply,
            reply_path=present.post_path(reply) if reply.startswith("at://") else "",
            once=body.get("once") or secrets.token_urlsafe(12),
            back=safe_return(body.get("return") or "/"),
        )

    return blueprint


def _post_of(body: Body) -> tuple[str, str, str]:
    """(uri, cid, row): of a button, all in its value; of a program, apart."""
    uri, cid, anchor = body.get("uri"), body.get("cid"), ""
    if not uri:
        uri, cid, anchor = [*body.get("post").split(" "), "", "", ""][:3]
    parse_at_uri(uri)
    return uri, cid, anchor or present.anchor(uri)


def _undo(body: Body) -> bool:
    return body.flag("undo") or request.args.get("undo") == "1"


def _told(outcome: Outcome) -> Response:
    answer: dict[str, Any] = {"confirmed": outcome.confirmed}
    if outcome.uri:
        answer["uri"] = outcome.uri
    return json_answer(answer, status=200 if outcome.confirmed else 202)


def way_back(path: str, anchor: str, notice: str) -> str:
    """The page to go on from, at that row, saying that."""
    parts = urlsplit(safe_return(path or "/"))
    query = "&".join(part for part in parts.query.split("&") if part and not part.startswith("done="))
    if notice:
        query = f"{query}&done={notice}" if query else f"done={notice}"
    return urlunsplit(("", "", parts.path, query, quote(anchor[:200], safe="-._~:")))
