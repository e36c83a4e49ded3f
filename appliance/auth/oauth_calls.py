"""The calls to an authorization server: announce a sign-in, exchange its code, renew tokens, end them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from appliance.auth import dpop
from appliance.auth.dpop import Proofs
from appliance.auth.oauth_client import OAuthClient
from appliance.auth.oauth_servers import Server
from appliance.clock import Clock
from appliance.errors import BadInput, Refused, Unavailable
from appliance.outbound.client import Answer, Outbound
from appliance.outbound.limits import OAUTH_TOKEN, Limits
from appliance.protocol.keys import PrivateKey
from appliance.protocol.syntax import is_did

# Access tokens whose server does not say how long they live.
SHORT_S = 300
LIFE_S_MAX = 10_000_000
_TOKEN_CHARS_MAX = 8192
_NOT_UNDERSTOOD = "Your server gave an answer that is not understood"
_CLOCK_ERRORS = frozenset({"invalid_dpop_proof", "invalid_client"})


class Granted(Struct, frozen=True):
    """Tokens as a server gave them, checked as far as they can be without asking anybody else."""

    access: str
    refresh: str
    did: str
    scope: str
    life_s: int

    def __repr__(self) -> str:
        return f"Granted({self.did})"


class _TokenAnswer(Struct):
    access_token: str
    token_type: str
    refresh_token: str
    sub: str
    scope: str
    expires_in: int | None = None
    id_token: msgspec.Raw | None = None


class _Pushed(Struct):
    request_uri: str


class OAuthCalls:
    """Makes these calls, each proven by our key and by the sign-in's, and with the server's nonce."""

    def __init__(self, outbound: Outbound, client: OAuthClient, proofs: Proofs, clock: Clock) -> None:
        self._outbound = outbound
        self._client = client
        self._proofs = proofs
        self._clock = clock

    async def push(self, server: Server, key: PrivateKey, kid: str, fields: Mapping[str, str]) -> str:
        """Announce a sign-in; under which address it goes on. Raises Refused with the server's own
        name of its reason, Unavailable."""
        answer = await self._post(server, server.push, key, kid, fields)
        if answer.status not in (200, 201):
            self._raise(answer)
        try:
            uri = msgspec.json.decode(answer.body, type=_Pushed).request_uri
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Unavailable(_NOT_UNDERSTOOD) from None
        if not 0 < len(uri) <= 2048 or not uri.isascii() or not uri.isprintable():
            raise Unavailable(_NOT_UNDERSTOOD)
        return uri

    async def exchange(
        self, server: Server, key: PrivateKey, kid: str, *, code: str, verifier: str
    ) -> Granted:
        """Tokens for the code of a sign-in. Raises Refused, Unavailable."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": self._client.redirect_uri,
        }
        return self._granted(await self._post(server, server.token, key, kid, fields))

    async def renew(self, server: Server, key: PrivateKey, kid: str, refresh: str) -> Granted:
        """New tokens for old ones. Raises Refused when the sign-in is over, Unavailable when that is
        unknown: NotSent when the old ones surely are good still."""
        fields = {"grant_type": "refresh_token", "refresh_token": refresh}
        return self._granted(await self._post(server, server.token, key, kid, fields))

    async def revoke(
        self, server: Server, key: PrivateKey, kid: str, token: str, *, limits: Limits = OAUTH_TOKEN
    ) -> bool:
        """End a token and all that belong to it; whether the server confirmed it."""
        if server.revoke is None:
            return False
        answer = await self._post(server, server.revoke, key, kid, {"token": token}, limits=limits)
        return answer.ok

    async def _post(
        self,
        server: Server,
        url: str,
        key: PrivateKey,
        kid: str,
        fields: Mapping[str, str],
        *,
        limits: Limits = OAUTH_TOKEN,
    ) -> Answer:
        for again in (False, True):
            # Proof and assertion are good once: the second try has new ones.
            body = urlencode({**fields, **self._client.credentials(kid, server.issuer)})
            headers = {
                "content-type": "application/x-www-form-urlencoded",
                "accept": "application/json",
                "dpop": self._proofs.proof(key, "POST", url),
            }
            try:
                answer = await self._outbound.post(url, limits=limits, content=body.encode(), headers=headers)
            except BadInput as error:
                raise Unavailable(
                    "Your server can't be used: its address or its answer is not right"
                ) from error
            fresh = self._proofs.heard(key, url, answer.headers)
            if again or not fresh or not dpop.wants_nonce(answer):
                break
        return answer

    def _granted(self, answer: Answer) -> Granted:
        if answer.status != 200:
            self._raise(answer)
        try:
            found = msgspec.json.decode(answer.body, type=_TokenAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Without the cause: it quotes the answer, and the answer holds tokens.
            raise Unavailable(_NOT_UNDERSTOOD) from None
        life_s = SHORT_S if found.expires_in is None else found.expires_in
        fits = (
            found.token_type.lower() == "dpop"
            and is_did(found.sub)
            and "atproto" in found.scope.split()
            and found.id_token is None
            and 0 < life_s <= LIFE_S_MAX
            and all(_is_token(token) for token in (found.access_token, found.refresh_token))
        )
        if not fits:
            raise Unavailable(_NOT_UNDERSTOOD)
        return Granted(found.access_token, found.refresh_token, found.sub, found.scope, life_s)

    def _raise(self, answer: Answer) -> None:
        name = answer.error_name()
        skew_s = dpop.skew_s(answer, self._clock.now_us())
        if name in _CLOCK_ERRORS and skew_s is not None and abs(skew_s) > dpop.SKEW_S:
            raise Unavailable(
                f"The clock of this server is {abs(round(skew_s))} s"
                f" {'ahead of' if skew_s > 0 else 'behind'} that of yours: tell its operator",
                name="ClockSkew",
            )
        if answer.status in (400, 401, 403) and name and name != dpop.WANTS_NONCE:
            raise Refused("Your server does not accept this sign-in", name=name)
        raise Unavailable("Your server can't sign you in at the moment")


def _is_token(token: str) -> bool:
    return 0 < len(token) <= _TOKEN_CHARS_MAX and token.isascii() and token.isprintable() and " " not in token
