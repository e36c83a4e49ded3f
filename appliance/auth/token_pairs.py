"""Our own access and refresh tokens, for XRPC clients that signed in at our origin.

The names of types, claims and errors are those of a PDS, since clients know them. A refresh token
is good once; its successor follows from it by a key of ours, so that a client whose answer got
lost may ask again for a short while and receives the very same successor.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal

from msgspec import Struct

from appliance.auth import jwt
from appliance.auth.jwt import Token
from appliance.auth.secrets import Secrets
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput

ACCESS_S = 2 * 3600
REFRESH_S = 90 * 86_400
GRACE_S = 600
Kind = Literal["at+jwt", "refresh+jwt"]
_SCOPES = {"at+jwt": "com.atproto.appPass", "refresh+jwt": "com.atproto.refresh"}


class Claims(Struct, frozen=True):
    """What one of our tokens says, its signature checked."""

    did: str
    session: int
    id: str


class Pair(Struct, frozen=True):
    """Both tokens of an answer."""

    access: str
    refresh: str

    def __repr__(self) -> str:
        return "Pair(…)"


class TokenPairs:
    """Makes and reads our tokens."""

    def __init__(self, keys: Secrets, settings: Settings, clock: Clock) -> None:
        self._signing = keys.subkey("token pairs")
        self._succession = keys.subkey("successors of refresh tokens")
        self._us = settings.service_did
        self._clock = clock

    def first_id(self) -> str:
        """The id of the first refresh token of a session."""
        return secrets.token_urlsafe(32)

    def successor(self, refresh_id: str) -> str:
        """The id of the refresh token that follows this one."""
        digest = hmac.digest(self._succession, refresh_id.encode(), "sha256")
        return jwt.text_of(digest)

    def pair(self, did: str, session: int, refresh_id: str, refresh_since_us: int) -> Pair:
        """Tokens for a session; the same refresh token whenever asked for the same id and time."""
        now_s = self._clock.now_us() // 1_000_000
        since_s = refresh_since_us // 1_000_000
        return Pair(
            self._make("at+jwt", did, session, secrets.token_urlsafe(16), now_s, now_s + ACCESS_S),
            self._make("refresh+jwt", did, session, refresh_id, since_s, since_s + REFRESH_S),
        )

    def is_ours(self, token: Token) -> bool:
        """Did we sign it? Says nothing of its type and end."""
        expected = hmac.digest(self._signing, token.signed, "sha256")
        return token.header["alg"] == "HS256" and hmac.compare_digest(expected, token.signature)

    def read(self, token: Token, kind: Kind) -> Claims:
        """The claims of a token of ours. Raises BadInput, ExpiredToken, for one past its end, BadInput,
        InvalidToken, for a refresh token that is none, Refused, BadJwtType, for anything else."""
        if not self.is_ours(token) or token.type != kind or token.payload.get("aud") != self._us:
            if kind == "refresh+jwt":
                raise BadInput("Token could not be verified", name="InvalidToken")
            if token.type == kind and token.payload.get("aud") == self._us:
                # Perhaps one of ours from before our key was lost: this answer makes the client sign in anew.
                raise BadInput("Token has expired", name="ExpiredToken")
            raise jwt.bad("this kind of token is not taken here", "BadJwtType")
        end_s = jwt.seconds(token.payload, "exp")
        if end_s is None or end_s * 1_000_000 <= self._clock.now_us():
            raise BadInput("Token has expired", name="ExpiredToken")
        return Claims(token.payload["sub"], token.payload["sid"], token.payload["jti"])

    def _make(self, kind: Kind, did: str, session: int, token_id: str, since_s: int, end_s: int) -> str:
        payload = {
            "scope": _SCOPES[kind],
            "sub": did,
            "aud": self._us,
            "iat": since_s,
            "exp": end_s,
            "sid": session,
            "jti": token_id,
        }
        signed = jwt.encode({"typ": kind, "alg": "HS256"}, payload)
        return jwt.join(signed, hmac.digest(self._signing, signed, "sha256"))


def hash_of(secret: str) -> bytes:
    """What the database keeps of a cookie or of a refresh token's id."""
    return hashlib.sha256(secret.encode()).digest()
