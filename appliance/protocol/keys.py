"""Signing keys: secp256k1 and P-256, as did:key, with low-S signatures of 64 bytes.

Rules: https://atproto.com/specs/cryptography
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from typing import Any, Final, Literal, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from appliance.errors import BadInput

coincurve: Any
try:
    coincurve = import_module("coincurve")
except ImportError:  # the newest Python may lack it; then secp256k1 costs ten times as much
    coincurve = None

Curve: TypeAlias = Literal["k256", "p256"]

_PREFIX: Final[dict[Curve, bytes]] = {"k256": b"\xe7\x01", "p256": b"\x80\x24"}
_ORDER: Final[dict[Curve, int]] = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
_CURVES: Final[dict[Curve, ec.EllipticCurve]] = {"k256": ec.SECP256K1(), "p256": ec.SECP256R1()}
_HASHED = ec.ECDSA(Prehashed(hashes.SHA256()))
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUES = {character: value for value, character in enumerate(_BASE58)}
_MULTIBASE_MAX = 128


class PrivateKey:
    """Signs messages; what it prints never holds the secret."""

    def __init__(self, curve: Curve, secret: bytes) -> None:
        number = int.from_bytes(secret, "big")
        if len(secret) != 32 or not 0 < number < _ORDER[curve]:
            raise BadInput("not a private key")
        self.curve: Curve = curve
        self._secret = secret
        self._key = ec.derive_private_key(number, _CURVES[curve])
        self._quick = coincurve.PrivateKey(secret) if curve == "k256" and coincurve else None
        self.public_bytes = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )

    def __repr__(self) -> str:
        return f"PrivateKey({self.did_key})"

    @classmethod
    def generate(cls, curve: Curve = "k256") -> PrivateKey:
        number = ec.generate_private_key(_CURVES[curve]).private_numbers().private_value
        return cls(curve, number.to_bytes(32, "big"))

    @classmethod
    def from_hex(cls, text: str, curve: Curve = "k256") -> PrivateKey:
        try:
            return cls(curve, bytes.fromhex(text))
        except ValueError:
            raise BadInput("not a private key") from None

    def to_hex(self) -> str:
        """The secret itself."""
        return self._secret.hex()

    @property
    def multibase(self) -> str:
        """The public key as a DID document's ``publicKeyMultibase`` of type Multikey."""
        return "z" + base58_encode(_PREFIX[self.curve] + self.public_bytes)

    @property
    def did_key(self) -> str:
        return "did:key:" + self.multibase

    def sign(self, message: bytes) -> bytes:
        """Of the message's SHA-256: r and s, 32 bytes each, s in the lower half."""
        if self._quick is not None:
            signature: bytes = self._quick.sign_recoverable(message)
            return signature[:64]
        r, s = decode_dss_signature(self._key.sign(sha256(message).digest(), _HASHED))
        order = _ORDER[self.curve]
        return r.to_bytes(32, "big") + min(s, order - s).to_bytes(32, "big")


def verify(did_key: str, message: bytes, signature: bytes, *, allow_high_s: bool = False) -> bool:
    """Whether that key signed the message's SHA-256. Raises BadInput for a key that is none.

    The upper half of s is a second spelling of the same signature, refused unless allowed.
    """
    key = _public_key(did_key)
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    order = _ORDER[key.curve]
    if not (0 < r < order and 0 < s < order):
        return False
    if s > order // 2:
        if not allow_high_s:
            return False
        s = order - s
    return key.verifies(encode_dss_signature(r, s), message)


def parse_did_key(did_key: str) -> tuple[Curve, bytes]:
    """Curve and compressed point, known to lie on it; raises BadInput."""
    key = _public_key(did_key)
    return key.curve, key.point


def parse_multibase(text: str, kind: str = "Multikey") -> str:
    """The did:key of a verification method's ``publicKeyMultibase``; raises BadInput.

    ``kind`` is the method's type: the types of 2019 hold the bare point.
    """
    if len(text) > _MULTIBASE_MAX or not text.startswith("z"):
        raise BadInput("not a public key")
    data = base58_decode(text[1:])
    if kind == "Multikey":
        curve, point = _split(data)
    elif kind in ("EcdsaSecp256k1VerificationKey2019", "EcdsaSecp256r1VerificationKey2019"):
        curve, point = ("k256" if "256k1" in kind else "p256"), data
    else:
        raise BadInput("unknown type of public key")
    return format_did_key(curve, point)


def format_did_key(curve: Curve, point: bytes) -> str:
    """From a compressed or an uncompressed point; raises BadInput if it isn't on the curve."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], point)
    except ValueError:
        raise BadInput("not a public key") from None
    compressed = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    return "did:key:z" + base58_encode(_PREFIX[curve] + compressed)


def base58_encode(data: bytes) -> str:
    """Bitcoin's alphabet."""
    number = int.from_bytes(data, "big")
    out = []
    while number:
        number, digit = divmod(number, 58)
        out.append(_BASE58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(out))


def base58_decode(text: str) -> bytes:
    """Raises BadInput. Work grows with the square of the length: bound it first."""
    number = 0
    for character in text:
        value = _BASE58_VALUES.get(character)
        if value is None:
            raise BadInput("not base58")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


class _PublicKey(Protocol):
    curve: Curve
    point: bytes

    def verifies(self, der: bytes, message: bytes) -> bool: ...


class _SlowKey:
    def __init__(self, curve: Curve, point: bytes) -> None:
        self.curve: Curve = curve
        self.point = point
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], point)

    def verifies(self, der: bytes, message: bytes) -> bool:
        try:
            self._key.verify(der, sha256(message).digest(), _HASHED)
        except InvalidSignature:
            return False
        return True


class _QuickKey:
    def __init__(self, point: bytes) -> None:
        self.curve: Curve = "k256"
        self.point = point
        self._key = coincurve.PublicKey(point)

    def verifies(self, der: bytes, message: bytes) -> bool:
        good: bool = self._key.verify(der, message)
        return good


@lru_cache(maxsize=4096)
def _public_key(did_key: str) -> _PublicKey:
    if len(did_key) > _MULTIBASE_MAX or not did_key.startswith("did:key:z"):
        raise BadInput("not a did:key")
    curve, point = _split(base58_decode(did_key[9:]))
    try:
        return _QuickKey(point) if curve == "k256" and coincurve else _SlowKey(curve, point)
    except ValueError:
        raise BadInput("not a public key") from None


def _split(data: bytes) -> tuple[Curve, bytes]:
    for curve, prefix in _PREFIX.items():
        if data[:2] == prefix:
            if len(data) != 35 or data[2] not in (2, 3):
                raise BadInput("not a compressed public key")
            return curve, data[2:]
    raise BadInput("public key of an unknown kind")
