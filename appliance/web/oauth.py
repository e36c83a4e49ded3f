"""Signing in by OAuth: our documents for servers, the way out to the member's server, and the way back."""

from __future__ import annotations

from typing import Any

import orjson
from quart import Blueprint, Response, g, redirect, request

from appliance import errors
from appliance.auth.oauth_client import CALLBACK_PATH, JWKS_PATH, METADATA_PATH, OAuthClient
from appliance.auth.oauth_sign_in import Away
from appliance.auth.web_sessions import WebSessions
from appliance.web.bodies import wants_json
from appliance.web.failures import status_of
from appliance.web.frame import Frame, json_answer
from appliance.web.security import GUEST_COOKIE, SESSION_COOKIE, StaleForm, safe_return

QUERY_BYTES_MAX = 8192


def oauth_ways(frame: Frame, sessions: WebSessions, client: OAuthClient) -> Blueprint:
    """The documents, the form's target and the address that servers send people back to."""
    blueprint = Blueprint("oauth", __name__)
    guard = frame.guard
    metadata, jwks = orjson.dumps(client.metadata()), orjson.dumps(client.jwks())

    @blueprint.get(METADATA_PATH)
    async def client_metadata() -> Any:
        """Who we are as a client."""
        return _document(metadata)

    @blueprint.get(JWKS_PATH)
    async def client_keys() -> Any:
        """With which keys we prove that it is us."""
        return _document(jwks)

    def _document(data: bytes) -> Response:
        if not client.usable:
            raise errors.NotFound("OAuth is not offered here")
        response = Response(data, content_type="application/json")
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    @blueprint.post("/oauth/start")
    async def start() -> Any:
        """Begin for `identifier`: a handle, a DID or a server's address; `invite` and `return` come along."""
        try:
            body = await frame.checked()
        except StaleForm:
            if wants_json(request):
                raise
            return await failed("This page was open for too long. Please repeat.", 403)
        if await frame.viewer():
            return redirect("/", 303)
        try:
            away = await sessions.begin_oauth(
                body.get("identifier").strip().removeprefix("@"),
                browser=guard.read_cookie(request, GUEST_COOKIE),
                back=safe_return(body.get("return") or "/"),
                invite=body.get("invite").strip(),
                address=request.remote_addr or "",
            )
        except errors.ApplianceError as error:
            if wants_json(request):
                raise
            return await failed(
                error.message or "Signing in did not work.",
                _status(error),
                identifier=body.get("identifier"),
                back=body.get("return"),
            )
        if wants_json(request):
            return json_answer({"url": away.url, "host": away.host})
        return await gone(away)

    @blueprint.get(CALLBACK_PATH)
    async def callback() -> Any:
        """Where servers send people back to."""
        try:
            if len(request.query_string) > QUERY_BYTES_MAX:
                raise errors.BadInput("That is not how a server sends somebody back.")
            finished = await sessions.finish_oauth(
                list(request.args.items(multi=True)),
                browser=guard.read_cookie(request, GUEST_COOKIE),
                about=request.headers.get("User-Agent", "")[:200],
            )
        except errors.ApplianceError as error:
            return _closed(await failed(error.message or "Signing in did not work.", _status(error)))
        if isinstance(finished, Away):
            return _closed(await gone(finished))
        cookie, returned = finished
        g.viewer = None
        if returned.missing:
            response = await frame.render(
                "allowed.html", missing=returned.missing, onward=safe_return(returned.back)
            )
        else:
            response = redirect(safe_return(returned.back), 303)  # type: ignore[assignment]
        guard.set_cookie(response, SESSION_COOKIE, cookie)
        guard.drop_cookie(response, GUEST_COOKIE)
        return _closed(response)

    async def gone(away: Away) -> Response:
        """A page of ours that leads there: a form's answer may not itself lead to another site."""
        response = await frame.render("away.html", url=away.url, host=away.host, broad=away.broad)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def failed(problem: str, status: int, *, identifier: str = "", back: str = "/") -> Response:
        return await frame.render(
            "login.html",
            status=status,
            here="login",
            problem=problem,
            asks=frozenset(),
            identifier=identifier,
            invite="",
            back=safe_return(back or "/"),
        )

    return blueprint


def _closed(response: Any) -> Any:
    """Nothing of the address with the code in it goes on to anybody, nor stays."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _status(error: errors.ApplianceError) -> int:
    return 403 if isinstance(error, errors.Refused) else status_of(error)
