"""Who we are to a push service: https://www.rfc-editor.org/rfc/rfc8292"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from appliance.auth import jwt
from appliance.protocol.keys import PrivateKey
from appliance.push.encryption import point_of

LIFE_S: Final = 12 * 3600
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Vapid:
    """Our key as a sender. It follows from the key file, so subscriptions outlive a restart."""

    def __init__(self, subkey: bytes, about: str) -> None:
        number = int.from_bytes(subkey, "big") % (_ORDER - 1) + 1
        self._key = PrivateKey.from_hex(f"{number:064x}", "p256")
        self._about = about
        public = ec.derive_private_key(number, ec.SECP256R1()).public_key()
        # What a browser wants as applicationServerKey.
        self.public = base64.urlsafe_b64encode(point_of(public)).rstrip(b"=").decode()

    def authorization(self, endpoint: str, now_us: int) -> str:
        """The header with which a message to that endpoint is ours."""
        parts = urlsplit(endpoint)
        payload = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": now_us // 1_000_000 + LIFE_S,
            "sub": self._about,
        }
        signed = jwt.encode({"typ": "JWT", "alg": "ES256"}, payload)
        return f"vapid t={jwt.join(signed, self._key.sign(signed))}, k={self.public}"
