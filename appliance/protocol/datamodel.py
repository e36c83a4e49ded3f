"""The data model: JSON of the protocol to plain values, back, and what a record may hold.

Values are dict, list, str, int, bool, None, ``bytes`` and ``Link``. Floats appear only in what
others wrote and are never made here.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, TypeAlias

import orjson

from appliance.errors import BadInput
from appliance.protocol import cid

Value: TypeAlias = Any

# https://atproto.com/specs/data-model
DEPTH_MAX: Final = 32
INTEGER_MAX: Final = 2**53 - 1

# The writer's own limit.
_JSON_DEPTH_MAX: Final = 254


class Link(bytes):
    """The bytes of a CID where a value points at a block; 36 of them in all that we write."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Link({cid.to_text(self)})"


def from_json(data: bytes | str) -> Value:
    """Read ``$link`` and ``$bytes``, check everything that ``check`` checks; raises BadInput."""
    return from_parsed(parse_json(data))


def parse_json(data: bytes | str) -> Any:
    """Plain JSON, nothing read into it; raises BadInput."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadInput("not JSON") from None


def from_parsed(parsed: Any, *, depth_max: int = DEPTH_MAX) -> Value:
    """The same for JSON that is already parsed. Leaves the argument as it was.

    Answers of servers may nest deeper than records: a thread does at every reply.
    """
    return _read(parsed, depth_max)


def to_json(value: Value) -> bytes:
    """JSON bytes with ``$link`` and ``$bytes``; raises BadInput for what JSON can't hold."""
    try:
        return orjson.dumps(value, default=_to_plain)
    except TypeError as error:
        return _to_json_slowly(value, error)


def to_parsed(value: Value) -> Any:
    """The JSON form as dicts and lists, sharing nothing with the argument's containers."""
    return _to_parsed(value, _JSON_DEPTH_MAX)


def check(value: Value) -> None:
    """Raise BadInput unless a record may hold it: depth, integers, no floats, ``$type``, blobs."""
    _check(value, DEPTH_MAX)


def check_record(value: Value) -> None:
    """``check`` for a whole record: an object with a ``$type``."""
    if not isinstance(value, dict):
        raise BadInput("a record is an object", name="InvalidRecord")
    if "$type" not in value:
        raise BadInput("a record has a $type", name="InvalidRecord")
    _check(value, DEPTH_MAX)


def _check(value: Value, depth_left: int) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadInput("text is not Unicode") from None
    elif value is None or isinstance(value, bool | bytes):
        if isinstance(value, Link) and not cid.is_raw(value):
            raise BadInput("not a CID")
    elif isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise BadInput("integer out of range")
    elif isinstance(value, list):
        _check_depth(depth_left)
        for item in value:
            _check(item, depth_left - 1)
    elif isinstance(value, dict):
        _check_depth(depth_left)
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadInput("a key is text")
            _check(key, depth_left)
            _check(item, depth_left - 1)
        _check_type(value)
    else:
        raise BadInput("floating point is not allowed" if isinstance(value, float) else "not a value")


def _read(parsed: Any, depth_left: int) -> Value:
    if parsed is None or isinstance(parsed, str | bool):
        return parsed
    if isinstance(parsed, int | float):
        return _integer(parsed)
    if isinstance(parsed, list):
        _check_depth(depth_left)
        return [_read(item, depth_left - 1) for item in parsed]
    if isinstance(parsed, dict):
        if "$link" in parsed:
            return _link(parsed)
        if "$bytes" in parsed:
            return _bytes(parsed)
        _check_depth(depth_left)
        value = {key: _read(item, depth_left - 1) for key, item in parsed.items()}
        _check_type(value)
        return value
    raise BadInput("not JSON")


def _integer(number: int | float) -> int:
    if isinstance(number, float):
        if not number.is_integer():
            raise BadInput("floating point is not allowed")
        number = int(number)
    if not -INTEGER_MAX <= number <= INTEGER_MAX:
        raise BadInput("integer out of range")
    return number


def _link(parsed: dict[str, Any]) -> Link:
    text = parsed["$link"]
    if len(parsed) != 1 or not isinstance(text, str):
        raise BadInput("malformed $link")
    return Link(cid.from_text(text))


def _bytes(parsed: dict[str, Any]) -> bytes:
    text = parsed["$bytes"]
    if len(parsed) != 1 or not isinstance(text, str):
        raise BadInput("malformed $bytes")
    try:
        body = text.rstrip("=")
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("malformed $bytes") from None


def _check_depth(depth_left: int) -> None:
    if depth_left <= 0:
        raise BadInput("nested too deeply")


def _check_type(value: dict[str, Value]) -> None:
    if "$type" not in value:
        # The form of 2022, readable in others' records and never written.
        return
    kind = value["$type"]
    if not isinstance(kind, str) or not kind:
        raise BadInput("malformed $type")
    if kind == "blob":
        size, mime = value.get("size"), value.get("mimeType")
        if (
            not isinstance(value.get("ref"), Link)
            or not isinstance(mime, str)
            or not mime
            or not isinstance(size, int)
            or isinstance(size, bool)
            or size < 0
        ):
            raise BadInput("malformed blob")


def _to_parsed(value: Value, depth_left: int) -> Any:
    if isinstance(value, dict):
        _check_depth(depth_left)
        return {key: _to_parsed(item, depth_left - 1) for key, item in value.items()}
    if isinstance(value, list):
        _check_depth(depth_left)
        return [_to_parsed(item, depth_left - 1) for item in value]
    return _to_plain(value) if isinstance(value, bytes) else value


def _to_plain(value: object) -> dict[str, str]:
    if isinstance(value, Link):
        return {"$link": cid.to_text(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).rstrip(b"=").decode()}
    raise TypeError(f"{type(value).__name__} is not a value")


def _to_json_slowly(value: Value, error: TypeError) -> bytes:
    if "Integer" not in str(error):
        raise BadInput(f"not to be written as JSON: {error}") from None
    # orjson has no integers beyond 64 bits, which CBOR's negatives reach.
    try:
        text = json.dumps(
            value, default=_to_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        raise BadInput(f"not to be written as JSON: {error}") from None
