"""A browser with a push subscription, and the push service that it trusts, as the RFCs have it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def based(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbased(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Browser:
    """Written from RFC 8188 and RFC 8291 alone, with HMAC and nothing of the code under test."""

    def __init__(self, endpoint: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secret = b"sixteen bytes..."
        self.endpoint = endpoint

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def token(self) -> str:
        keys = {"p256dh": based(self.point), "auth": based(self.secret)}
        return orjson.dumps({"endpoint": self.endpoint, "expirationTime": None, "keys": keys}).decode()

    def read(self, body: bytes) -> Any:
        return orjson.loads(decrypt(body, self.key, self.secret))


def decrypt(body: bytes, key: ec.EllipticCurvePrivateKey, secret: bytes) -> bytes:
    salt, size, length = body[:16], *struct.unpack(">IB", body[16:21])
    sender, sealed = body[21 : 21 + length], body[21 + length :]
    assert len(sealed) <= size, "one record"
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
    ours = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = _hmac(secret, key.exchange(ec.ECDH(), theirs))
    material = _hmac(shared, b"WebPush: info\x00" + ours + sender + b"\x01")
    random = _hmac(salt, material)
    content_key = _hmac(random, b"Content-Encoding: aes128gcm\x00\x01")[:16]
    nonce = _hmac(random, b"Content-Encoding: nonce\x00\x01")[:12]
    padded = AESGCM(content_key).decrypt(nonce, sealed, None).rstrip(b"\x00")
    assert padded[-1:] == b"\x02", "the last record"
    return padded[:-1]


def check_vapid(header: str, origin: str, now_s: int) -> str:
    """The sender's key, after its signature was verified as RFC 8292 has it."""
    scheme, _, rest = header.partition(" ")
    assert scheme == "vapid"
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    head, payload, signature = parts["t"].split(".")
    assert orjson.loads(unbased(head)) == {"typ": "JWT", "alg": "ES256"}
    claims = orjson.loads(unbased(payload))
    assert claims["aud"] == origin
    assert now_s < claims["exp"] <= now_s + 24 * 3600
    assert claims["sub"].startswith(("https://", "http://localhost", "mailto:"))
    raw = unbased(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unbased(parts["k"]))
    key.verify(encode_dss_signature(r, s), f"{head}.{payload}".encode(), ec.ECDSA(SHA256()))
    return parts["k"]


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()
