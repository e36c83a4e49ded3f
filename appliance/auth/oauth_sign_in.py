"""Signing in by OAuth: to the member's own server and back, bound to one browser all the way.

https://atproto.com/specs/oauth
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from appliance import telemetry
from appliance.auth import jwt, oauth_scopes
from appliance.auth.accounts import Account, Accounts
from appliance.auth.attempts import Attempts
from appliance.auth.oauth_calls import Granted, OAuthCalls
from appliance.auth.oauth_client import OAuthClient
from appliance.auth.oauth_grants import bound
from appliance.auth.oauth_servers import Server, Servers
from appliance.auth.pds_sessions import PdsSessions
from appliance.auth.secrets import Secrets
from appliance.auth.sign_in import IDENTITY_AGE_S, Proven, SigningIn, Welcome, parse_identifier
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput, NotFound, Refused, Unavailable
from appliance.outbound.client import Outbound
from appliance.outbound.limits import OAUTH_METADATA
from appliance.protocol import did_document
from appliance.protocol.keys import PrivateKey
from appliance.store import oauth_flows
from appliance.store.database import Database, Transaction

log = telemetry.Log("auth")
T = TypeVar("T")

FLOW_US = 10 * 60 * 1_000_000
FLOWS_MAX = 5_000
RETURN_BYTES_MAX = 4096
REASON_CHARS_MAX = 200
_AGAIN = "Begin again at the sign-in page."
_REASONS = {
    "access_denied": "Your server says that you did not agree. Nothing was changed.",
    "server_error": "Your server could not do it. Try again in a moment.",
    "temporarily_unavailable": "Your server could not do it. Try again in a moment.",
    "login_required": "Your server wants you to sign in there first. Try again.",
    "invalid_request": "Your server did not understand what we asked for.",
    "invalid_scope": "Your server does not know what we asked for.",
}


class _Flow(Struct, frozen=True):
    """What is remembered of a sign-in while the person is at the server. Sealed at rest."""

    issuer: str
    did: str
    pds: str
    key: str
    kid: str
    verifier: str
    scope: str
    back: str
    invite: str
    typed: str

    def __repr__(self) -> str:
        return f"_Flow({self.issuer})"


class Away(NamedTuple):
    """Where the browser goes now, and how that server is called. ``broad``: only the old, wide
    permission is left to ask for."""

    url: str
    host: str
    broad: bool


class Returned(NamedTuple):
    """Somebody who came back and is in. ``missing``: what does not work with what was allowed."""

    welcome: Welcome
    back: str
    missing: list[str]


class OAuthSignIn:
    """Begins sign-ins and ends them."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        outbound: Outbound,
        client: OAuthClient,
        servers: Servers,
        calls: OAuthCalls,
        signing_in: SigningIn,
        pds_sessions: PdsSessions,
        sealing: Secrets,
        clock: Clock,
        *,
        limited: bool,
    ) -> None:
        self.client = client
        self._database = database
        self._accounts = accounts
        self._outbound = outbound
        self._servers = servers
        self._calls = calls
        self._signing_in = signing_in
        self._pds_sessions = pds_sessions
        self._secrets = sealing
        self._clock = clock
        self._attempts = Attempts(clock, on=limited)

    async def begin(
        self, typed: str, *, browser: str, back: str = "/", invite: str = "", address: str = ""
    ) -> Away:
        """Where to send that browser. ``typed`` is a handle, a DID, or the address of a server.

        ``address`` is where the person comes from, for the limits on tries. Raises BadInput, Refused and
        Unavailable with sentences for the person.
        """
        if not self.client.usable:
            raise Refused("Signing in by OAuth is not offered here", name="OAuthUnsupported")
        typed = typed.strip()
        await self._attempts.admit(typed, address)
        try:
            did, pds = await self._find(typed)
            server = await self._servers.of_pds(pds)
        except (BadInput, Refused):
            self._attempts.failed(typed, address)
            raise
        return await self._leave(server, did, pds, oauth_scopes.GRANULAR, browser, back, invite, typed)

    async def finish(
        self,
        answers: Sequence[tuple[str, str]],
        *,
        browser: str,
        begin: Callable[[Transaction, Welcome], T],
    ) -> tuple[Returned, T] | Away:
        """Let in whoever came back with these answers, or send them to their server once more.

        ``begin`` makes the session, in the transaction that keeps the sign-in. Raises as ``begin``.
        """
        given = dict(answers)
        size = sum(len(name) + len(value) for name, value in answers)
        if len(given) != len(answers) or size > RETURN_BYTES_MAX or "response" in given:
            raise BadInput(f"That is not how a server sends somebody back. {_AGAIN}")
        flow = await self._take(given.get("state", ""), browser)
        # Before anything else of it is looked at: an answer of another server is none to this question.
        if given.get("iss") != flow.issuer:
            log.warning("oauth_mixed_up", issuer=flow.issuer)
            raise Refused(f"That answer came from another server than yours. {_AGAIN}", name="MixUp")
        if "error" in given:
            raise Refused(_reason(given, flow.issuer), name="SignInDeclined")
        code = given.get("code", "")
        if not code:
            raise BadInput(f"Your server sent no answer along. {_AGAIN}")
        server = await self._servers.of_issuer(flow.issuer)
        key = PrivateKey.from_hex(flow.key, "p256")
        granted = await self._exchanged(server, key, flow, code)
        try:
            account = await self._confirmed(granted, flow)
            if oauth_scopes.too_little(granted.scope) and flow.scope == oauth_scopes.GRANULAR:
                # Dropped without a word by a server of before there were finer permissions.
                again = await self._leave(
                    server,
                    flow.did,
                    flow.pds,
                    oauth_scopes.TRANSITIONAL,
                    browser,
                    flow.back,
                    flow.invite,
                    flow.typed,
                )
                self._give_back(granted, key, flow)
                return again
        except ApplianceError:
            self._give_back(granted, key, flow)
            raise
        assert account.pds is not None
        tokens = bound(granted, key, flow.kid, flow.issuer, self._clock)
        proven = Proven(account.did, account.handle, account.pds, tokens)
        welcome, begun = await self._signing_in.let_in(proven, flow.invite, begin)
        return Returned(welcome, flow.back, oauth_scopes.missing(granted.scope)), begun

    async def _find(self, typed: str) -> tuple[str, str]:
        """The account's DID, '' where only its server was named, and its PDS."""
        if typed.startswith(("https://", "http://")):
            pds = did_document.origin(typed)
            if pds is None:
                raise BadInput("That is not the address of a server")
            self._outbound.policy.target(pds, OAUTH_METADATA.ports)
            return "", pds
        identifier = parse_identifier(typed)
        did: str | None = identifier
        if not identifier.startswith("did:"):
            did = await self._accounts.resolve_handle(identifier)
        try:
            if did is None:
                raise NotFound("nobody has this handle")
            account = await self._accounts.get(did, max_age_s=IDENTITY_AGE_S)
        except (NotFound, BadInput) as error:
            raise Refused("No account of that name was found", name="AccountNotFound") from error
        if identifier != did and account.handle != identifier:
            raise Refused(
                "This handle points at an account that does not use it: sign in with the account's DID",
                name="InvalidHandle",
            )
        if account.pds is None:
            raise Refused("This account has no server that we could ask", name="OAuthUnsupported")
        return account.did, account.pds

    async def _leave(
        self,
        server: Server,
        did: str,
        pds: str,
        scope: str,
        browser: str,
        back: str,
        invite: str,
        typed: str,
    ) -> Away:
        """Announce the sign-in at the server and remember it; with the old scope where it must be."""
        key, kid = PrivateKey.generate("p256"), self.client.newest_key
        for wanted in dict.fromkeys((scope, oauth_scopes.TRANSITIONAL)):
            state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
            fields = {
                "response_type": "code",
                "redirect_uri": self.client.redirect_uri,
                "scope": wanted,
                "state": state,
                "code_challenge": jwt.text_of(hashlib.sha256(verifier.encode()).digest()),
                "code_challenge_method": "S256",
            }
            if did:
                fields["login_hint"] = typed
            try:
                uri = await self._calls.push(server, key, kid, fields)
                break
            except Refused as error:
                if error.name != "invalid_scope" or wanted == oauth_scopes.TRANSITIONAL:
                    raise Refused(
                        f"Your server does not let us ask: {error.name}", name="SignInDeclined"
                    ) from error
        flow = _Flow(server.issuer, did, pds, key.to_hex(), kid, verifier, wanted, back, invite, typed)
        await self._database.write(lambda tx: self._keep(tx, state, browser, flow), durable=True)
        query = urlencode({"client_id": self.client.id, "request_uri": uri})
        url = f"{server.authorize}{'&' if '?' in server.authorize else '?'}{query}"
        return Away(url, server.issuer.partition("://")[2], wanted != oauth_scopes.GRANULAR)

    def _keep(self, tx: Transaction, state: str, browser: str, flow: _Flow) -> None:
        now_us = self._clock.now_us()
        oauth_flows.remove_older(tx, now_us - FLOW_US)
        if oauth_flows.count(tx) >= FLOWS_MAX:
            raise Unavailable("Too many people are signing in at the moment: try again in some minutes")
        name = _hash(state)
        sealed = self._secrets.seal(msgspec.json.encode(flow), _place(name))
        oauth_flows.add(tx, name, _hash(browser), sealed, now_us)

    async def _take(self, state: str, browser: str) -> _Flow:
        """The sign-in of that state, gone from the moment that anybody came with it."""
        name = _hash(state)
        row = await self._database.write(lambda tx: oauth_flows.take(tx, name), durable=True)
        if row is None or self._clock.now_us() - row.created_us > FLOW_US:
            raise Refused(f"This sign-in took too long, or was finished already. {_AGAIN}", name="StaleFlow")
        if not browser or not hmac.compare_digest(row.browser, _hash(browser)):
            log.warning("oauth_foreign_browser")
            raise Refused(f"This sign-in was begun in another browser. {_AGAIN}", name="StaleFlow")
        try:
            return msgspec.json.decode(self._secrets.unseal(row.sealed, _place(name)), type=_Flow)
        except Refused as error:
            raise Refused(f"This sign-in can't be read any more. {_AGAIN}", name="StaleFlow") from error

    async def _exchanged(self, server: Server, key: PrivateKey, flow: _Flow, code: str) -> Granted:
        try:
            return await self._calls.exchange(server, key, flow.kid, code=code, verifier=flow.verifier)
        except Refused as error:
            raise Refused(
                f"Your server did not confirm this sign-in. {_AGAIN}", name="SignInDeclined"
            ) from error

    async def _confirmed(self, granted: Granted, flow: _Flow) -> Account:
        """The account, if this server may speak for it: by documents that are read now."""
        if flow.did and granted.did != flow.did:
            raise Refused("Your server answered for another account", name="InvalidDid")
        self._accounts.forget(granted.did)
        try:
            account = await self._accounts.get(granted.did, max_age_s=0)
        except (NotFound, BadInput) as error:
            raise Refused("Your server answered for an account that is none", name="InvalidDid") from error
        if account.pds is None:
            raise Refused("This account has no server that we could ask", name="InvalidDid")
        if (await self._servers.of_pds(account.pds, fresh=True)).issuer != flow.issuer:
            log.warning("oauth_server_spoke_for_others", issuer=flow.issuer, did=granted.did)
            raise Refused("That server may not speak for this account", name="InvalidDid")
        return account

    def _give_back(self, granted: Granted, key: PrivateKey, flow: _Flow) -> None:
        self._pds_sessions.say_goodbye(flow.pds, bound(granted, key, flow.kid, flow.issuer, self._clock))


def _reason(given: dict[str, str], issuer: str) -> str:
    known = _REASONS.get(given["error"])
    said = "".join(c for c in given.get("error_description", "") if c.isprintable())[:REASON_CHARS_MAX]
    words = known or f"Your server refused this sign-in. {_AGAIN}"
    return f"{words} {issuer.partition('://')[2]} says: “{said}”" if said else words


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _place(state: bytes) -> str:
    return f"oauth_flow/{state.hex()}/sealed"
