"""Tokens from OAuth in use: shown with a proof, renewed once at their own server, and given back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from cachetools import TTLCache

from appliance.auth import dpop
from appliance.auth.accounts import Accounts
from appliance.auth.dpop import Proofs
from appliance.auth.oauth_calls import Granted, OAuthCalls
from appliance.auth.oauth_servers import Servers
from appliance.auth.pds import Tokens
from appliance.clock import Clock
from appliance.errors import BadInput, NotFound, Refused, Unavailable
from appliance.outbound.client import Answer, NotSent
from appliance.protocol.keys import PrivateKey

# Whether the account still lives where this server speaks for it must be known this freshly.
IDENTITY_AGE_S = 600.0
RENEW_BEFORE_S = 70
RENEW_SPREAD_S = 31
# A body that streams can't be sent again with another nonce: then a small call goes first.
NONCE_GOOD_S = 45.0
# When nobody knows whether a renewal arrived, the next may be tried after this.
UNSURE_S = 5.0
_NOT_THE_TOKEN = frozenset({dpop.WANTS_NONCE, "invalid_dpop_proof"})
_OVER = frozenset({"invalid_grant", "ExpiredToken"})

Ask = Callable[[Mapping[str, str]], Awaitable[Answer]]


class Grants:
    """What differs between tokens of OAuth and those of a password."""

    def __init__(
        self, calls: OAuthCalls, servers: Servers, accounts: Accounts, proofs: Proofs, clock: Clock
    ) -> None:
        self._calls = calls
        self._servers = servers
        self._accounts = accounts
        self._proofs = proofs
        self._clock = clock
        self._unsure: TTLCache[str, None] = TTLCache(10_000, UNSURE_S, timer=clock.monotonic_s)

    async def send(self, tokens: Tokens, method: str, url: str, ask: Ask, *, again: bool) -> Answer:
        """One call under the tokens, and once more when the server wants another nonce and it may be.

        Raises NotSent when the server wants yet another: it has done nothing then.
        """
        key = _key(tokens)
        while True:
            proof = self._proofs.proof(key, method, url, tokens.access)
            answer = await ask({"authorization": f"DPoP {tokens.access}", "dpop": proof})
            fresh = self._proofs.heard(key, url, answer.headers)
            if not dpop.wants_nonce(answer):
                return answer
            if not again or not fresh:
                raise NotSent("Your server takes no proof at the moment")
            again = False

    def due(self, pds_session: int, tokens: Tokens) -> bool:
        """Whether the tokens end so soon that they are renewed before use; spread over the sign-ins."""
        before_s = RENEW_BEFORE_S + pds_session % RENEW_SPREAD_S
        return bool(tokens.key) and tokens.expires_us - self._clock.now_us() < before_s * 1_000_000

    def nonce_is_good(self, tokens: Tokens, origin: str) -> bool:
        """Whether the server's nonce is so young that it takes it."""
        age_s = self._proofs.nonce_age_s(_key(tokens), origin)
        return age_s is not None and age_s < NONCE_GOOD_S

    async def renew(self, did: str, tokens: Tokens) -> Tokens:
        """New tokens for old ones, from their own server and only while it still speaks for the account.

        Raises Refused when the sign-in is over (AccountMoved: by a move), Unavailable when that is
        unknown. An old token is then tried again later: if it was used up, its successor is lost
        anyway, and if not, the sign-in lives.
        """
        if tokens.key in self._unsure:
            raise Unavailable("Your server takes long to renew this sign-in")
        try:
            account = await self._accounts.get(did, max_age_s=IDENTITY_AGE_S)
            if account.pds is None:
                raise Unavailable("This account has no server at the moment")
            server = await self._servers.of_pds(account.pds)
        except (NotFound, BadInput, Refused) as error:
            raise NotSent(error.message) from error
        except Unavailable as error:
            raise NotSent(error.message, name=error.name, retry_after_s=error.retry_after_s) from error
        if server.issuer != tokens.issuer:
            # The token must not travel to a server that did not give it.
            raise Refused("Your account has moved to another server: sign in again", name="AccountMoved")
        key = _key(tokens)
        try:
            granted = await self._calls.renew(server, key, tokens.kid, tokens.refresh)
        except Refused as error:
            if error.name in _OVER:
                raise Refused(
                    "Your server has ended this sign-in: sign in again", name="ExpiredToken"
                ) from error
            raise Unavailable("Your server can't renew this sign-in at the moment") from error
        except NotSent:
            raise
        except Unavailable:
            self._unsure[tokens.key] = None
            raise
        renewed = bound(granted, key, tokens.kid, server.issuer, self._clock)
        if granted.did != did:
            await self.revoke(renewed)
            raise Refused("Your server answered for another account", name="ExpiredToken")
        return renewed

    async def revoke(self, tokens: Tokens) -> bool:
        """End the tokens at the server that gave them; whether it confirmed that. Raises Unavailable."""
        try:
            server = await self._servers.of_issuer(tokens.issuer)
            return await self._calls.revoke(server, _key(tokens), tokens.kid, tokens.refresh)
        except Refused:
            return False


def bound(granted: Granted, key: PrivateKey, kid: str, issuer: str, clock: Clock) -> Tokens:
    """Tokens as they are kept."""
    expires_us = clock.now_us() + granted.life_s * 1_000_000
    return Tokens(granted.access, granted.refresh, key.to_hex(), kid, issuer, granted.scope, expires_us)


def token_refused(answer: Answer) -> bool:
    """Whether a PDS says that the access token is of no more use."""
    return answer.status == 401 and not dpop.wants_nonce(answer) and answer.error_name() not in _NOT_THE_TOKEN


def _key(tokens: Tokens) -> PrivateKey:
    return PrivateKey.from_hex(tokens.key, "p256")
