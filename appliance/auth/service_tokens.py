"""Service tokens: proof from a PDS that one of its accounts is asking.

https://atproto.com/specs/xrpc#inter-service-authentication-jwt. The order of the checks matters:
every cheap one comes before the key is looked up, so junk causes no traffic.
"""

from __future__ import annotations

import hashlib
import heapq
import re

from appliance.auth import jwt
from appliance.auth.jwt import Token, bad
from appliance.auth.mint import algorithm
from appliance.auth.signing_keys import Keys, SigningKeys
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput, Refused
from appliance.protocol import keys

# The longest life that a PDS's getServiceAuth grants, and the clock skew that we forgive.
LIFE_MAX_S = 3600
SKEW_S = 60
SIGNATURE_BYTES = 64
REPLAYS_MAX = 200_000

_ISSUER = re.compile(
    r"did:plc:[a-z2-7]{24}|did:web:(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]+"
)
_LOCAL_ISSUER = re.compile(r"did:web:localhost(%3A[0-9]{1,5})?")
_ALGORITHMS = frozenset({"ES256", "ES256K"})


class ServiceTokens:
    """Verifies service tokens that are addressed to us."""

    def __init__(self, identities: Keys, settings: Settings, clock: Clock) -> None:
        self._keys = SigningKeys(identities, clock)
        self._audiences = settings.service_audiences
        self._local = settings.allow_loopback
        self._clock = clock
        self._seen: dict[bytes, int] = {}
        self._seen_by_end: list[tuple[int, bytes]] = []

    async def verify(self, authorization: str | None, nsid: str, *, procedure: bool = False) -> str:
        """The DID on whose behalf ``nsid`` is called.

        A token for a procedure is good once; for a query as often as its PDS resends it.
        Raises Refused with the name of what is wrong (for status 401), Unavailable when the
        issuer's key could not be looked up.
        """
        if not authorization:
            raise bad("This method needs authentication", "AuthMissing")
        return await self.verify_token(jwt.parse(jwt.bearer(authorization)), nsid, procedure=procedure)

    async def verify_token(
        self, token: Token, nsid: str, *, procedure: bool = False, audiences: frozenset[str] | None = None
    ) -> str:
        """As ``verify``, for a token that is taken apart already.

        ``audiences`` stands in for ours where a token is meant for somebody else, or for another part of us.
        """
        if token.type != "jwt":
            raise bad("this kind of token is not taken here", "BadJwtType")
        if token.header["alg"] not in _ALGORITHMS:
            raise bad("the token's algorithm is not supported")
        issuer = self._issuer(token)
        if token.header.get("kid", "#atproto") not in ("#atproto", f"{issuer}#atproto"):
            raise bad("the token names an unknown key")
        audience = token.payload.get("aud")
        if not isinstance(audience, str) or audience not in (audiences or self._audiences):
            raise bad("the token is not addressed to this service", "BadJwtAudience")
        if token.payload.get("lxm") != nsid:
            raise bad(f"the token is not made for {nsid}", "BadJwtLexiconMethod")
        end_s = self._check_times(token)
        digest = hashlib.sha256(token.signed).digest()
        if procedure and digest in self._seen:
            raise bad("the token was used before")
        await self._check_signature(token, issuer)
        if procedure:
            self._use_up(digest, end_s)
        return issuer

    def forget(self, did: str) -> None:
        """The DID's document changed: its key is looked up anew."""
        self._keys.forget(did)

    def _issuer(self, token: Token) -> str:
        issuer = token.payload.get("iss")
        if isinstance(issuer, str):
            if _ISSUER.fullmatch(issuer):
                return issuer
            if self._local and _LOCAL_ISSUER.fullmatch(issuer):
                return issuer
        raise bad("the token's issuer is not an account", "BadJwtIss")

    def _check_times(self, token: Token) -> int:
        now_us = self._clock.now_us()
        end_s = jwt.seconds(token.payload, "exp")
        if end_s is None:
            raise bad("the token has no end")
        if end_s * 1_000_000 <= now_us:
            raise bad("the token has expired", "JwtExpired")
        if end_s * 1_000_000 > now_us + (LIFE_MAX_S + SKEW_S) * 1_000_000:
            raise bad("the token lives too long")
        for name in ("iat", "nbf"):
            start_s = jwt.seconds(token.payload, name)
            if start_s is not None and start_s * 1_000_000 > now_us + SKEW_S * 1_000_000:
                raise bad("the token is from the future")
        return end_s

    async def _check_signature(self, token: Token, issuer: str) -> None:
        if len(token.signature) != SIGNATURE_BYTES:
            raise bad("the token's signature does not fit", "BadJwtSignature")
        key = await self._keys.get(issuer, "#atproto")
        if key is None:
            raise Refused("the token's issuer has no signing key that we can find")
        if _fits(token, key):
            return
        key = await self._keys.get_again(issuer, "#atproto", key)
        if key is None or not _fits(token, key):
            raise bad("the token's signature does not fit", "BadJwtSignature")

    def _use_up(self, digest: bytes, end_s: int) -> None:
        """Take note that the token is spent. No await between the look and the note: one caller wins."""
        if digest in self._seen:
            raise bad("the token was used before")
        now_s = self._clock.now_us() // 1_000_000
        while self._seen_by_end and (self._seen_by_end[0][0] < now_s or len(self._seen) >= REPLAYS_MAX):
            _, old = heapq.heappop(self._seen_by_end)
            del self._seen[old]
        self._seen[digest] = end_s
        heapq.heappush(self._seen_by_end, (end_s, digest))


def _fits(token: Token, key: str) -> bool:
    if token.header["alg"] != algorithm(key):
        return False
    try:
        # High-S is allowed here: the reference allows it, and the signature identifies nothing.
        return keys.verify(key, token.signed, token.signature, allow_high_s=True)
    except BadInput:
        return False
