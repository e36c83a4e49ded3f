"""DAG-CBOR of data-model values: the reference's bytes, quickly.

The quick codec hands links out as bare bytes and takes byte strings that look like a CID for links;
blocks where that could matter go through ``cbor_exact``.
"""

from __future__ import annotations

from typing import Any

import libipld
import orjson

from appliance.errors import BadInput
from appliance.protocol import cbor_exact, cid, datamodel
from appliance.protocol.datamodel import Link, Value

# Opens every link. 0xD8 never stands before 0x2A inside text, so a block without it has no links.
_LINK_TAG = b"\xd8\x2a"


def encode(value: Value) -> bytes:
    """The canonical block; raises BadInput for what has none."""
    try:
        block: bytes = libipld.encode_dag_cbor(value)
    except (ValueError, TypeError, RecursionError, OverflowError):
        return cbor_exact.encode(value)
    if _LINK_TAG in block and not _only_links(value):
        return cbor_exact.encode(value)
    return block


def decode(block: bytes) -> Value:
    """Tolerant where others' encoders are sloppy: long numbers and floats pass. Raises BadInput."""
    if _LINK_TAG in block:
        return cbor_exact.decode(block, strict=False)
    return _decode_quickly(block)


def decode_strict(block: bytes) -> Value:
    """Only the canonical form of what a record may hold (see ``datamodel.check``); else BadInput."""
    if _LINK_TAG in block:
        value = cbor_exact.decode(block, strict=True)
    else:
        value = _decode_quickly(block)
        if libipld.encode_dag_cbor(value) != block:
            value = cbor_exact.decode(block, strict=True)
    datamodel.check(value)
    return value


def to_json(block: bytes) -> bytes:
    """The block's value as JSON bytes with ``$link`` and ``$bytes``, keys in the block's order.

    Tolerant as ``decode``; raises BadInput where no JSON can be had from it.
    """
    value = _decode_quickly(block)
    if _LINK_TAG not in block:
        return datamodel.to_json(value)
    try:
        text = orjson.dumps(value, default=_link_json)
    except TypeError:
        return datamodel.to_json(cbor_exact.decode(block, strict=False))
    if libipld.encode_dag_cbor(value) != block:
        return datamodel.to_json(cbor_exact.decode(block, strict=False))
    return text


def decode_loosely(block: bytes) -> Any:
    """Links come as bare bytes: for messages whose fields tell which is which. Raises BadInput."""
    return _decode_quickly(block)


def decode_sequence(data: bytes) -> list[Any]:
    """Several items one after another, links as bare bytes. Raises BadInput."""
    try:
        items: list[Any] = libipld.decode_dag_cbor_multi(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(_reason(error)) from None
    return items


def _decode_quickly(block: bytes) -> Any:
    try:
        return libipld.decode_dag_cbor(block)
    except (ValueError, RecursionError) as error:
        raise BadInput(_reason(error)) from None


def _reason(error: Exception) -> str:
    return f"not DAG-CBOR: {str(error).removeprefix('Failed to decode DAG-CBOR. ')[:100]}"


def _only_links(value: Value) -> bool:
    if isinstance(value, dict):
        return all(map(_only_links, value.values()))
    if isinstance(value, list):
        return all(map(_only_links, value))
    return not isinstance(value, bytes) or isinstance(value, Link)


def _link_json(value: object) -> dict[str, str]:
    if isinstance(value, bytes) and cid.is_raw(value):
        return {"$link": cid.to_text(value)}
    raise TypeError("a byte string in a block with links")
