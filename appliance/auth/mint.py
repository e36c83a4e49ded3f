"""Service tokens as a PDS makes them: a short-lived word of one account to one service."""

from __future__ import annotations

import secrets

from appliance.auth import jwt
from appliance.protocol.keys import PrivateKey

# https://atproto.com/specs/xrpc#inter-service-authentication-jwt
LIFE_S = 60


def service_token(
    key: PrivateKey, *, issuer: str, audience: str, method: str, now_us: int, life_s: int = LIFE_S
) -> str:
    """A token with which ``issuer``, whose repository key this is, calls ``method`` at ``audience``."""
    now_s = now_us // 1_000_000
    header = {"typ": "JWT", "alg": algorithm(key.did_key)}
    payload = {
        "iss": issuer,
        "aud": audience,
        "lxm": method,
        "iat": now_s,
        "exp": now_s + life_s,
        "jti": secrets.token_hex(16),
    }
    signed = jwt.encode(header, payload)
    return jwt.join(signed, key.sign(signed))


def algorithm(did_key: str) -> str:
    """The JWS name of the signatures that this key makes."""
    # The multicodec prefix of the curve shows in the first characters of the base58 text.
    return "ES256" if did_key.startswith("did:key:zDn") else "ES256K"
