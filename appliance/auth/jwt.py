"""JSON Web Tokens, read strictly: whatever two readers could understand differently is refused."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

import orjson
from msgspec import Struct

from appliance.errors import Refused

TOKEN_BYTES_MAX = 8 * 1024
_BRACKETS_MAX = 64
_PART = re.compile(r"[A-Za-z0-9_-]+")
# Each of these changes what the signature covers or whose key is meant (RFC 7515 §4.1, RFC 7797).
_HEADERS_REFUSED = frozenset({"crit", "jwk", "jku", "x5u", "x5c", "b64"})


class Token(Struct, frozen=True):
    """A token taken apart. Nothing in it is believed yet: the signature has not been looked at."""

    header: dict[str, Any]
    payload: dict[str, Any]
    signed: bytes
    signature: bytes

    @property
    def type(self) -> str:
        """The ``typ`` in lower case, "jwt" when absent."""
        return str(self.header.get("typ", "jwt")).lower()


def bad(reason: str, name: str = "BadJwt") -> Refused:
    """The refusal of a token."""
    return Refused(reason, name=name)


def bearer(authorization: str) -> str:
    """The token of an Authorization header. Raises Refused for another scheme."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise bad("Authorization must be of the form: Bearer <token>", "AuthMissing")
    return token


def parse(text: str) -> Token:
    """Take a compact token apart. Raises Refused, BadJwt."""
    if len(text) > TOKEN_BYTES_MAX:
        raise bad("the token is too long")
    parts = text.split(".")
    if len(parts) != 3:
        raise bad("the token has not three parts")
    header = _object(_decode(parts[0]))
    payload = _object(_decode(parts[1]))
    signature = _decode(parts[2])
    if not _HEADERS_REFUSED.isdisjoint(header):
        raise bad("the token's header asks for what is not supported here")
    if not isinstance(header.get("typ", ""), str) or not isinstance(header.get("alg"), str):
        raise bad("the token's header is not understood")
    return Token(header, payload, f"{parts[0]}.{parts[1]}".encode(), signature)


def encode(header: dict[str, Any], payload: dict[str, Any]) -> bytes:
    """The part of a new token that gets signed."""
    return b".".join(_encode(orjson.dumps(part)) for part in (header, payload))


def join(signed: bytes, signature: bytes) -> str:
    """The finished token."""
    return (signed + b"." + _encode(signature)).decode()


def seconds(payload: dict[str, Any], name: str) -> int | None:
    """A time claim in whole seconds, None when absent. Raises Refused for anything but an integer."""
    value = payload.get(name)
    if value is None and name not in payload:
        return None
    # bool is an int, and comparisons with NaN are false: only a real integer is a time.
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise bad(f"{name} is not a time")
    return value


def text_of(data: bytes) -> str:
    """Bytes as base64url without padding."""
    return _encode(data).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(part: str) -> bytes:
    if _PART.fullmatch(part) is None:
        raise bad("the token is not base64url")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise bad("the token is not base64url") from error
    if _encode(data) != part.encode():
        raise bad("the token is not base64url")
    return data


def _object(data: bytes) -> dict[str, Any]:
    if data.count(b"[") + data.count(b"{") > _BRACKETS_MAX:
        raise bad("the token is too deep")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_no_constant)
    except ValueError as error:
        raise bad("the token is not JSON") from error
    if not isinstance(value, dict):
        raise bad("the token is not a JSON object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
