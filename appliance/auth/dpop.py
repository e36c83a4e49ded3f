"""Proofs that whoever shows a token holds its key, and the nonces that servers want in them (RFC 9449)."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from cachetools import LRUCache

from appliance.auth import jwt
from appliance.auth.oauth_client import public_jwk
from appliance.clock import Clock
from appliance.outbound.client import Answer
from appliance.protocol.keys import PrivateKey

NONCES_MAX = 20_000
WANTS_NONCE = "use_dpop_nonce"
# A proof is good for some seconds only: with a clock that is further off none is.
SKEW_S = 5.0
_NONCE = re.compile(r"[!#-\[\]-~]{1,512}")


class Proofs:
    """Makes proofs. Remembers for each key and server the nonce that the server told last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._nonces: LRUCache[tuple[bytes, str], tuple[str, float]] = LRUCache(NONCES_MAX)

    def proof(self, key: PrivateKey, method: str, url: str, access: str = "") -> str:
        """A proof for one request, with the access token that goes along if there is one."""
        parts = urlsplit(url)
        payload: dict[str, str | int] = {
            "jti": secrets.token_urlsafe(24),
            "htm": method,
            "htu": f"{parts.scheme}://{parts.netloc}{parts.path}",
            "iat": self._clock.now_us() // 1_000_000,
        }
        known = self._nonces.get(_place(key, url))
        if known is not None:
            payload["nonce"] = known[0]
        if access:
            payload["ath"] = jwt.text_of(hashlib.sha256(access.encode()).digest())
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk(key)}
        signed = jwt.encode(header, payload)
        return jwt.join(signed, key.sign(signed))

    def heard(self, key: PrivateKey, url: str, headers: Mapping[str, str]) -> bool:
        """Take the nonce of an answer, whatever else it says; whether it is another one than before."""
        nonce = headers.get("dpop-nonce", "")
        if not _NONCE.fullmatch(nonce):
            return False
        place = _place(key, url)
        known = self._nonces.get(place)
        self._nonces[place] = (nonce, self._clock.monotonic_s())
        return known is None or known[0] != nonce

    def nonce_age_s(self, key: PrivateKey, url: str) -> float | None:
        """Since when the server's nonce is known; None where none is."""
        known = self._nonces.get(_place(key, url))
        return None if known is None else self._clock.monotonic_s() - known[1]


def wants_nonce(answer: Answer) -> bool:
    """Whether the server asks for the same once more, with its nonce."""
    if answer.status not in (400, 401):
        return False
    return answer.error_name() == WANTS_NONCE or WANTS_NONCE in answer.headers.get("www-authenticate", "")


def skew_s(answer: Answer, now_us: int) -> float | None:
    """By how much our clock is before the server's; None when it does not tell the time."""
    try:
        told = parsedate_to_datetime(answer.headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return now_us / 1e6 - told.timestamp()


def _place(key: PrivateKey, url: str) -> tuple[bytes, str]:
    parts = urlsplit(url)
    return key.public_bytes, f"{parts.scheme}://{parts.netloc}"
