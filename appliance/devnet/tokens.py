"""Tokens of a PDS: its own sessions (HS256) and service tokens (signed by the account).

Own tokens: https://atproto.com/specs/xrpc ; service tokens: https://atproto.com/specs/xrpc#inter-service-authentication-jwt
"""

from __future__ import annotations

import base64
import hmac
import os
from hashlib import sha256
from typing import Any

import orjson

from appliance.devnet.entries import Refresh
from appliance.devnet.http import Request, XrpcError, invalid
from appliance.devnet.state import Hosted, State
from appliance.protocol.keys import PrivateKey

ACCESS_S = 120 * 60
REFRESH_S = 90 * 24 * 3600
# A refresh token works this long after its first use, and then gives the same next one.
GRACE_S = 2 * 3600
SERVICE_S = 60
SERVICE_MAX_S = 3600
_ACCESS_SCOPES = ("com.atproto.access", "com.atproto.appPass", "com.atproto.appPassPrivileged")


def service_token(
    key: PrivateKey, *, iss: str, aud: str, lxm: str | None, now_s: int, exp_s: int | None = None
) -> str:
    """What an account shows to another service."""
    claims: dict[str, Any] = {
        "iat": now_s,
        "iss": iss,
        "aud": aud,
        "exp": now_s + SERVICE_S if exp_s is None else exp_s,
        "jti": os.urandom(16).hex(),
    }
    if lxm is not None:
        claims["lxm"] = lxm
    algorithm = "ES256K" if key.curve == "k256" else "ES256"
    body = _part({"typ": "JWT", "alg": algorithm}) + b"." + _part(claims)
    return (body + b"." + _encode(key.sign(body))).decode()


class Sessions:
    """The sessions of one PDS."""

    def __init__(self, state: State, pds: int) -> None:
        self._state = state
        self._pds = pds

    @property
    def server_did(self) -> str:
        return f"did:web:localhost%3A{self._state.ports[f'pds{self._pds}']}"

    def begin(self, account: Hosted) -> dict[str, str]:
        """A new pair of tokens."""
        return self._pair(account.did, os.urandom(24).hex())

    def caller(self, request: Request) -> Hosted:
        """Whose access token came along; raises XrpcError."""
        claims = self._claims(request, "at+jwt")
        if claims.get("scope") not in _ACCESS_SCOPES:
            raise invalid("Bad token scope", "InvalidToken")
        return self._account(claims)

    def refresh(self, request: Request) -> tuple[Hosted, dict[str, str]]:
        """The next pair; a token used twice within two hours gives the same one."""
        claims = self._claims(request, "refresh+jwt")
        account = self._account(claims)
        now_us = self._state.clock.now_us()
        token = self._state.refreshes.get(str(claims.get("jti")))
        if token is None or token.gone or token.expires_us <= now_us:
            raise invalid("Token has expired", "ExpiredToken")
        following = token.next_jti
        if following is None:
            following = os.urandom(24).hex()
            grace = min(token.expires_us, now_us + GRACE_S * 1_000_000)
            self._state.keep_refresh(Refresh(token.jti, token.did, grace, following))
        return account, self._pair(account.did, following)

    def end(self, request: Request) -> None:
        """Give up the refresh token that came along, expired or not."""
        claims = self._claims(request, "refresh+jwt", expired=True)
        token = self._state.refreshes.get(str(claims.get("jti")))
        if token is not None:
            self._state.keep_refresh(Refresh(token.jti, token.did, token.expires_us, gone=True))

    def _pair(self, did: str, jti: str) -> dict[str, str]:
        now_s = self._state.clock.now_us() // 1_000_000
        common = {"aud": self.server_did, "sub": did, "iat": now_s}
        known = self._state.refreshes.get(jti)
        expires_s = now_s + REFRESH_S if known is None else known.expires_us // 1_000_000
        if known is None:
            self._state.keep_refresh(Refresh(jti, did, expires_s * 1_000_000))
        access = common | {"scope": "com.atproto.appPass", "exp": now_s + ACCESS_S}
        refresh = common | {"scope": "com.atproto.refresh", "jti": jti, "exp": expires_s}
        return {"accessJwt": self._sign("at+jwt", access), "refreshJwt": self._sign("refresh+jwt", refresh)}

    def _account(self, claims: dict[str, Any]) -> Hosted:
        account = self._state.accounts.get(claims["sub"])
        if account is None or account.status == "deleted":
            raise invalid("Could not find user info for account", "AccountNotFound")
        if account.status == "takendown":
            raise invalid("Account has been taken down", "AccountTakedown")
        return account

    def _claims(self, request: Request, kind: str, *, expired: bool = False) -> dict[str, Any]:
        head, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            raise XrpcError(401, "AuthMissing", "Authentication Required")
        if head.lower() != "bearer":
            raise invalid("Unexpected authorization type", "InvalidToken")
        parts = token.strip().split(".")
        try:
            header, claims, signature = map(_decode, parts)
            header, claims = orjson.loads(header), orjson.loads(claims)
        except ValueError:
            raise invalid("Token could not be verified", "InvalidToken") from None
        good = hmac.compare_digest(signature, self._mac(".".join(parts[:2]).encode()))
        if not good or header != {"typ": kind, "alg": "HS256"} or claims.get("aud") != self.server_did:
            raise invalid("Token could not be verified", "InvalidToken")
        if not expired and claims["exp"] <= self._state.clock.now_us() // 1_000_000:
            raise invalid("Token has expired", "ExpiredToken")
        found: dict[str, Any] = claims
        return found

    def _sign(self, kind: str, claims: dict[str, Any]) -> str:
        body = _part({"typ": kind, "alg": "HS256"}) + b"." + _part(claims)
        return (body + b"." + _encode(self._mac(body))).decode()

    def _mac(self, body: bytes) -> bytes:
        key = self._state.secret + self._pds.to_bytes(2, "big")
        return hmac.digest(key, body, sha256)


def _part(value: dict[str, Any]) -> bytes:
    return _encode(orjson.dumps(value))


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
