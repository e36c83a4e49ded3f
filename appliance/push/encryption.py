"""Bodies that only the browser can read: https://www.rfc-editor.org/rfc/rfc8291"""

from __future__ import annotations

import secrets
import struct
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import BadInput

SECRET_BYTES: Final = 16
# What every push service has to take, https://www.rfc-editor.org/rfc/rfc8030#section-7.2, less what we add.
PLAIN_MAX: Final = 3993
_POINT_BYTES: Final = 65
_RECORD_SIZE: Final = 4096
# The one record is the last one.
_END: Final = b"\x02"


def encrypt(plain: bytes, receiver: bytes, secret: bytes) -> bytes:
    """The body of one message, in the coding aes128gcm. Raises BadInput for keys that are none."""
    return encrypt_with(
        plain, receiver, secret, ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(16)
    )


def encrypt_with(
    plain: bytes, receiver: bytes, secret: bytes, sender: ec.EllipticCurvePrivateKey, salt: bytes
) -> bytes:
    """The same with a sender's key and a salt, which may serve once only."""
    if len(plain) > PLAIN_MAX:
        raise BadInput("that is too long for one message")
    theirs, ours = public_key(receiver), point_of(sender.public_key())
    shared = sender.exchange(ec.ECDH(), theirs)
    material = _derived(shared, secret, b"WebPush: info\x00" + receiver + ours, 32)
    key = _derived(material, salt, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _derived(material, salt, b"Content-Encoding: nonce\x00", 12)
    head = salt + struct.pack(">IB", _RECORD_SIZE, len(ours)) + ours
    return head + AESGCM(key).encrypt(nonce, plain + _END, None)


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """The key of an uncompressed point. Raises BadInput for anything else."""
    if len(point) != _POINT_BYTES:
        raise BadInput("not a key of a push subscription")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise BadInput("not a key of a push subscription") from error


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """The key as an uncompressed point."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _derived(material: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(material)
