"""CIDs: what a block's bytes hash to. Inside the appliance a CID is 36 raw bytes."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import libipld

from appliance.errors import BadInput

# https://atproto.com/specs/data-model: CIDv1, dag-cbor or raw, sha-256 of 32 bytes
DATA_PREFIX: Final = b"\x01\x71\x12\x20"
BLOB_PREFIX: Final = b"\x01\x55\x12\x20"
LENGTH: Final = 36
TEXT_LENGTH: Final = 59

# base32 puts letters before digits, text order the other way round.
_TEXT_ORDER = str.maketrans("234567abcdefghijklmnopqrstuvwxyz", "0123456789abcdefghijklmnopqrstuv")


def cid_of(block: bytes) -> bytes:
    """Of a DAG-CBOR block."""
    return DATA_PREFIX + sha256(block).digest()


def blob_cid_of(data: bytes) -> bytes:
    """Of a blob's bytes."""
    return BLOB_PREFIX + sha256(data).digest()


def is_raw(data: bytes) -> bool:
    """Whether these bytes are a CID as this network makes them."""
    return len(data) == LENGTH and data[:4] in (DATA_PREFIX, BLOB_PREFIX)


def to_text(cid: bytes) -> str:
    """Base32 with the leading ``b``."""
    text: str = libipld.encode_cid(cid)
    return text


def from_text(text: str) -> bytes:
    """Raises BadInput unless it is the one right spelling of a data or blob CID."""
    if len(text) == TEXT_LENGTH and text[0] == "b":
        try:
            raw: bytes = libipld.decode_multibase(text)[1]
        except ValueError:
            raise BadInput("not a CID") from None
        if is_raw(raw) and libipld.encode_cid(raw) == text:
            return raw
    raise BadInput("not a CID")


def order_key(cid_text: str) -> int:
    """A number below 2**60 that sorts as the texts of data CIDs do (to one in 2**58)."""
    try:
        part = cid_text[7:19]
        # ``int`` alone would take other scripts' digits, signs and underscores.
        if len(part) != 12 or not part.isascii() or not part.isalnum():
            raise ValueError
        return int(part.translate(_TEXT_ORDER), 32)
    except ValueError:
        raise BadInput("not a CID") from None
