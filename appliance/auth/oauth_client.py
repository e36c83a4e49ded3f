"""Who we are to authorization servers: our metadata, our keys, and assertions signed with them.

The keys follow from the installation's secrets: a new line on top of the key file is a new key, for the
sign-ins to come; the older ones stay published until their line goes, since a sign-in is bound for life to
the key that it began with. https://atproto.com/specs/oauth
"""

from __future__ import annotations

import hashlib
import secrets as random
from typing import Any
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.auth import jwt, oauth_scopes
from appliance.auth.secrets import Secrets
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput, Refused
from appliance.protocol import keys
from appliance.protocol.keys import PrivateKey

METADATA_PATH = "/oauth/client-metadata.json"
JWKS_PATH = "/oauth/jwks.json"
CALLBACK_PATH = "/oauth/callback"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_S = 60
_NO_NAMES = ("localhost", "local", "test", "example", "invalid", "internal")


def public_jwk(key: PrivateKey) -> dict[str, str]:
    """The public half of a P-256 key as a JSON Web Key."""
    numbers = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.public_bytes).public_numbers()
    x, y = (jwt.text_of(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def thumbprint(jwk: dict[str, str]) -> str:
    """The name that follows from a key (RFC 7638)."""
    exact = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    return jwt.text_of(hashlib.sha256(orjson.dumps(exact, option=orjson.OPT_SORT_KEYS)).digest())


class OAuthClient:
    """Our side of every sign-in by OAuth. ``usable``: others can reach our metadata at a name of ours."""

    def __init__(self, settings: Settings, secrets: Secrets, clock: Clock) -> None:
        self._clock = clock
        self._origin = settings.origin
        self.id = settings.origin + METADATA_PATH
        self.redirect_uri = settings.origin + CALLBACK_PATH
        self.usable = settings.oauth and _is_public(settings.origin)
        self._keys = {
            thumbprint(public_jwk(key)): key for key in map(_key_from, secrets.subkeys("oauth client"))
        }

    @property
    def newest_key(self) -> str:
        """The id of the key for sign-ins that begin now."""
        return next(iter(self._keys))

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys that are published."""
        return frozenset(self._keys)

    def metadata(self) -> dict[str, Any]:
        """The document whose address is our name as a client."""
        return {
            "client_id": self.id,
            "application_type": "web",
            "client_name": f"Timeline at {urlsplit(self._origin).netloc}",
            "client_uri": self._origin,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "redirect_uris": [self.redirect_uri],
            "scope": oauth_scopes.EVERYTHING,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "dpop_bound_access_tokens": True,
            "jwks_uri": self._origin + JWKS_PATH,
        }

    def jwks(self) -> dict[str, Any]:
        """The public halves of our keys."""
        return {
            "keys": [
                {**public_jwk(key), "kid": kid, "alg": "ES256", "use": "sig"}
                for kid, key in self._keys.items()
            ]
        }

    def credentials(self, kid: str, issuer: str) -> dict[str, str]:
        """The form fields that prove to a server that we are asking; new ones for each request.

        Raises Refused when the key is no longer in the ring.
        """
        key = self._keys.get(kid)
        if key is None:
            raise Refused("The key of this sign-in is gone: sign in again", name="ExpiredToken")
        now_s = self._clock.now_us() // 1_000_000
        payload = {
            "iss": self.id,
            "sub": self.id,
            "aud": issuer,
            "jti": random.token_urlsafe(24),
            "iat": now_s,
            "exp": now_s + ASSERTION_S,
        }
        signed = jwt.encode({"alg": "ES256", "kid": kid}, payload)
        assertion = jwt.join(signed, key.sign(signed))
        return {
            "client_id": self.id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }


def check_published(metadata: dict[str, Any], jwks: dict[str, Any], origin: str) -> None:
    """Raises BadInput for documents that no authorization server would take, or that tell a secret."""
    parts = urlsplit(str(metadata.get("client_id", "")))
    if parts.scheme != "https" or parts.port is not None or parts.path in ("", "/") or parts.path[-1] == "/":
        raise BadInput("the client id is not an https address of a file")
    scopes = str(metadata.get("scope", "")).split(" ")
    if len(scopes) != len(set(scopes)) or "atproto" not in scopes:
        raise BadInput("the client metadata has a scope twice, or lacks atproto")
    addresses = [*metadata.get("redirect_uris", []), metadata.get("jwks_uri"), metadata.get("client_uri")]
    if not all(isinstance(url, str) and f"{url}/".startswith(f"{origin}/") for url in addresses):
        raise BadInput("the client metadata names an address that is not ours")
    found = jwks.get("keys", [])
    ids = {key.get("kid") for key in found}
    if not found or len(ids) != len(found) or any("d" in key or key.get("crv") != "P-256" for key in found):
        raise BadInput("the published keys are not public P-256 keys with an id each")


def _key_from(seed: bytes) -> PrivateKey:
    # One seed in four thousand million is no number of the curve.
    while True:
        try:
            return keys.PrivateKey("p256", seed)
        except BadInput:
            seed = hashlib.sha256(seed).digest()


def _is_public(origin: str) -> bool:
    parts = urlsplit(origin)
    host = parts.hostname or ""
    last = host.rpartition(".")[2]
    named = "." in host and last not in _NO_NAMES and not last.isdecimal()
    return parts.scheme == "https" and parts.port is None and named
