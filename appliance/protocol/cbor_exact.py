"""DAG-CBOR in Python, to the letter: for the few values that the quick codec gets wrong.

The quick one takes byte strings that look like a CID for links. This one is 25 times slower.
Format: https://ipld.io/specs/codecs/dag-cbor/spec/
"""

from __future__ import annotations

import math
import struct
from typing import Any, Final

from appliance.errors import BadInput
from appliance.protocol.datamodel import Link

# Beyond any honest record, well within the interpreter's stack.
DEPTH_MAX: Final = 128
_LINK_TAG = b"\xd8\x2a"


def encode(value: Any) -> bytes:
    """The one canonical form; raises BadInput for what has none."""
    out: list[bytes] = []
    _write(value, out, 0)
    return b"".join(out)


def head(major: int, argument: int) -> bytes:
    """The first bytes of an item: its kind (0 to 7) and length or number, as short as can be."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    if argument < 0x100:
        return bytes((major << 5 | 24, argument))
    if argument < 0x10000:
        return struct.pack(">BH", major << 5 | 25, argument)
    if argument < 0x1_0000_0000:
        return struct.pack(">BI", major << 5 | 26, argument)
    if argument < 0x1_0000_0000_0000_0000:
        return struct.pack(">BQ", major << 5 | 27, argument)
    raise BadInput("integer out of range")


def decode(block: bytes, *, strict: bool) -> Any:
    """One item and nothing after it.

    Strict: the canonical form and no floats. Otherwise numbers and lengths may be longer than
    needed, and floats of 32 and 64 bits pass. Raises BadInput.
    """
    value, end = _read(block, 0, strict, 0)
    if end != len(block):
        raise BadInput("bytes after the end of CBOR")
    return value


def _write(value: Any, out: list[bytes], depth: int) -> None:
    if isinstance(value, str):
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise BadInput("text is not Unicode") from None
        out.append(head(3, len(data)) + data)
    elif value is None:
        out.append(b"\xf6")
    elif isinstance(value, bool):
        out.append(b"\xf5" if value else b"\xf4")
    elif isinstance(value, int):
        out.append(head(0, value) if value >= 0 else head(1, -1 - value))
    elif isinstance(value, Link):
        out.append(_LINK_TAG + head(2, len(value) + 1) + b"\x00" + value)
    elif isinstance(value, bytes):
        out.append(head(2, len(value)) + value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput("not a finite number")
        out.append(b"\xfb" + struct.pack(">d", value))
    elif isinstance(value, dict | list):
        if depth >= DEPTH_MAX:
            raise BadInput("nested too deeply")
        if isinstance(value, list):
            out.append(head(4, len(value)))
            for item in value:
                _write(item, out, depth + 1)
            return
        out.append(head(5, len(value)))
        for key in sorted(value, key=_key_order):
            _write(key, out, depth)
            _write(value[key], out, depth + 1)
    else:
        raise BadInput(f"{type(value).__name__} is not a value")


def _key_order(key: object) -> tuple[int, bytes]:
    if not isinstance(key, str):
        raise BadInput("a key is text")
    try:
        data = key.encode()
    except UnicodeEncodeError:
        raise BadInput("text is not Unicode") from None
    return len(data), data


def _read(block: bytes, at: int, strict: bool, depth: int) -> tuple[Any, int]:
    major, argument, start = _read_head(block, at, strict)
    if major == 0:
        return argument, start
    if major == 1:
        return -1 - argument, start
    if major in (2, 3):
        end = start + argument
        if end > len(block):
            raise BadInput("CBOR is cut short")
        data = block[start:end]
        return (data if major == 2 else _text(data)), end
    if major == 6:
        return _read_link(block, start, argument, strict)
    if major == 7:
        return _read_simple(block, at, start, strict)
    if depth >= DEPTH_MAX:
        raise BadInput("nested too deeply")
    # Each item takes a byte at least: no container is larger than the rest.
    if argument > len(block) - start:
        raise BadInput("CBOR is cut short")
    at = start
    if major == 4:
        items = []
        for _ in range(argument):
            item, at = _read(block, at, strict, depth + 1)
            items.append(item)
        return items, at
    found: dict[str, Any] = {}
    last: tuple[int, bytes] | None = None
    for _ in range(argument):
        key, at = _read(block, at, strict, depth)
        order = _key_order(key)
        if last is not None and order <= last:
            raise BadInput("CBOR keys are repeated or out of order")
        last = order
        found[key], at = _read(block, at, strict, depth + 1)
    return found, at


def _read_head(block: bytes, at: int, strict: bool) -> tuple[int, int, int]:
    if at >= len(block):
        raise BadInput("CBOR is cut short")
    first = block[at]
    major, low = first >> 5, first & 31
    if low < 24:
        return major, low, at + 1
    if low > 27:
        raise BadInput("CBOR of indefinite length")
    width = 1 << (low - 24)
    end = at + 1 + width
    if end > len(block):
        raise BadInput("CBOR is cut short")
    argument = int.from_bytes(block[at + 1 : end], "big")
    if strict and major != 7 and head(major, argument) != block[at:end]:
        raise BadInput("CBOR number longer than needed")
    return major, argument, end


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadInput("text is not Unicode") from None


def _read_link(block: bytes, start: int, tag: int, strict: bool) -> tuple[Link, int]:
    if tag != 42:
        raise BadInput("unknown CBOR tag")
    major, length, begin = _read_head(block, start, strict)
    end = begin + length
    if major != 2 or length < 5 or end > len(block) or block[begin] != 0:
        raise BadInput("malformed link")
    return Link(block[begin + 1 : end]), end


def _read_simple(block: bytes, at: int, end: int, strict: bool) -> tuple[Any, int]:
    first = block[at]
    if first in (0xF4, 0xF5):
        return first == 0xF5, end
    if first == 0xF6:
        return None, end
    if first in (0xFA, 0xFB):
        if strict:
            raise BadInput("floating point is not allowed")
        number: float = struct.unpack(">f" if first == 0xFA else ">d", block[at + 1 : end])[0]
        if math.isfinite(number):
            return number, end
    raise BadInput("CBOR value of no kind that is allowed")
