"""DAG-CBOR against two other implementations, and against what must not pass."""

from __future__ import annotations

import base64
import json
from typing import Any

import dag_cbor
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multiformats import CID

from appliance.errors import BadInput
from appliance.protocol import cbor, cbor_exact, cid, datamodel
from appliance.protocol.datamodel import Link

LOOKS_LIKE_A_CID = [cid.cid_of(b"x"), cid.blob_cid_of(b"y"), b"\x01\x55\x00\x00", b"\x12\x20" + bytes(32)]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain_bytes = st.binary(max_size=40) | st.sampled_from(LOOKS_LIKE_A_CID)
links = st.binary(max_size=4).map(lambda data: Link(cid.cid_of(data)))
integers = st.integers(-(2**53) + 1, 2**53 - 1)
leaves = st.none() | st.booleans() | integers | texts | plain_bytes | links
# Names that begin with $ have meanings of their own, tried below.
names = texts.filter(lambda text: not text.startswith("$"))
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)


def for_dag_cbor(value: Any) -> Any:
    if isinstance(value, Link):
        return CID.decode(bytes(value))
    if isinstance(value, dict):
        return {key: for_dag_cbor(item) for key, item in value.items()}
    return [for_dag_cbor(item) for item in value] if isinstance(value, list) else value


def types(value: Any) -> Any:
    """The value with its types told, since a Link equals its bytes."""
    if isinstance(value, dict):
        return {key: types(item) for key, item in value.items()}
    return [types(item) for item in value] if isinstance(value, list) else (type(value), value)


@settings(max_examples=300, deadline=None)
@given(values)
@example({"b": LOOKS_LIKE_A_CID[0]})
@example({"b": LOOKS_LIKE_A_CID[0], "l": Link(LOOKS_LIKE_A_CID[0])})
def test_all_encoders_agree_and_all_decoders_undo_them(value: Any) -> None:
    block = cbor.encode(value)

    assert block == cbor_exact.encode(value)
    for back in (
        cbor.decode(block),
        cbor.decode_strict(block),
        cbor_exact.decode(block, strict=True),
        datamodel.from_json(datamodel.to_json(value)),
        datamodel.from_json(cbor.to_json(block)),
        datamodel.from_parsed(datamodel.to_parsed(value)),
    ):
        assert types(back) == types(value)


@settings(max_examples=300, deadline=None)
@given(values)
@example({"b": LOOKS_LIKE_A_CID[0], "l": Link(LOOKS_LIKE_A_CID[0])})
def test_the_slow_reference_agrees_too(value: Any) -> None:
    assert cbor.encode(value) == dag_cbor.encode(for_dag_cbor(value))


def test_bytes_that_look_like_a_link_stay_bytes() -> None:
    # The reference server's record has this CID; the quick codec alone makes another.
    for data in LOOKS_LIKE_A_CID:
        block = cbor.encode({"b": data})
        assert b"\xd8\x2a" not in block
        assert types(cbor.decode_strict(block)) == {"b": (bytes, data)}
        both = {"b": data, "l": Link(LOOKS_LIKE_A_CID[0])}
        assert json.loads(cbor.to_json(cbor.encode(both)))["b"] == {
            "$bytes": base64.b64encode(data).rstrip(b"=").decode()
        }


BAD: dict[str, str] = {
    "empty": "",
    "cut map": "a161",
    "cut text": "6261",
    "cut number": "19",
    "cut bytes": "4401",
    "two items": "a0a0",
    "trailing byte": "a000",
    "repeated key": "a2616101616102",
    "unsorted keys": "a2616201616102",
    "longer key first": "a262616101616202",
    "integer key": "a10102",
    "bytes key": "a1416101",
    "indefinite array": "9f01ff",
    "indefinite map": "bf616101ff",
    "indefinite text": "7f6161ff",
    "undefined": "f7",
    "simple value": "e0",
    "long simple value": "f8ff",
    "half float": "f93c00",
    "not a number": "fb7ff8000000000000",
    "infinity": "fb7ff0000000000000",
    "tag 1": "c101",
    "tag 42 on text": "d82a6161",
    "tag 42 without zero": "d82a430171aa",
    "tag 42 on nothing": "d82a",
    "tag 42 empty": "d82a40",
    "bad text": "62c328",
    "lone surrogate": "63eda080",
    "reserved length": "1c",
    "huge array": "9bffffffffffffffff",
    "huge map": "bbffffffffffffffff",
    "huge text": "7bffffffffffffffff",
    "array in array in map, cut": "a1616182820101",
}
SLOPPY: dict[str, str] = {
    "long number": "a161611801",
    "long negative number": "a161613800",
    "long text length": "a16161780161",
    "long key length": "a17801" + "6101",
    "long array length": "a161619800",
    "long map length": "b800",
    "single float": "a16161fa3fc00000",
    "double float": "a16161fb3ff8000000000000",
    "long tag": "a16161d9002a582500" + "01711220" + "00" * 32,
    "long link length": "a16161d82a59002500" + "01711220" + "00" * 32,
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_dag_cbor_is_refused(name: str) -> None:
    block = bytes.fromhex(BAD[name])

    for read in (cbor.decode, cbor.decode_strict, cbor.to_json, cbor.decode_loosely):
        with pytest.raises(BadInput):
            read(block)
    for strict in (True, False):
        with pytest.raises(BadInput):
            cbor_exact.decode(block, strict=strict)


@pytest.mark.parametrize("name", SLOPPY)
def test_sloppy_encodings_are_read_and_not_taken_for_canonical(name: str) -> None:
    block = bytes.fromhex(SLOPPY[name])

    with pytest.raises(BadInput):
        cbor.decode_strict(block)
    with pytest.raises(BadInput):
        cbor_exact.decode(block, strict=True)
    try:
        value = cbor.decode(block)
    except BadInput:
        # The quick codec is stricter in some cases; then both ways must be.
        with pytest.raises(BadInput):
            cbor.to_json(block)
    else:
        assert datamodel.to_json(value) == cbor.to_json(block)


def test_a_real_float_in_a_record_becomes_json() -> None:
    assert cbor.to_json(bytes.fromhex("a16161fb3ff8000000000000")) == b'{"a":1.5}'


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ("a161611bffffffffffffffff", b'{"a":18446744073709551615}'),
        ("a161613bffffffffffffffff", b'{"a":-18446744073709551616}'),
        ("a161613b8000000000000000", b'{"a":-9223372036854775809}'),
    ],
)
def test_integers_of_others_pass_to_json_and_are_refused_in_records(block: str, text: bytes) -> None:
    assert cbor.to_json(bytes.fromhex(block)) == text
    with pytest.raises(BadInput):
        cbor.decode_strict(bytes.fromhex(block))


def test_links_of_other_kinds_are_shown_and_not_written() -> None:
    other = b"\x01\x70\x12\x20" + bytes(32)
    block = bytes.fromhex("a1616cd82a582500") + other

    assert json.loads(cbor.to_json(block))["l"]["$link"].startswith("bafybei")
    with pytest.raises(BadInput):
        cbor.decode_strict(block)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**64,
        -(2**64) - 1,
        {1: 2},
        "\ud800",
        {"\ud800": 1},
        {"a": {1, 2}},
        object(),
    ],
)
def test_what_has_no_encoding_is_refused(value: Any) -> None:
    with pytest.raises(BadInput):
        cbor.encode(value)


def test_depth_is_bounded_everywhere() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"a": deep}
    block = cbor.encode(deep)
    with pytest.raises(BadInput):
        cbor.decode_strict(block)
    with pytest.raises(BadInput):
        datamodel.from_json(json.dumps(deep))
    assert json.loads(cbor.to_json(block)) == deep
    link = b"\xd8\x2a\x58\x25\x00" + LOOKS_LIKE_A_CID[0]
    for depth in (500, 5000, 100_000):
        for hostile in (b"\x81" * depth + b"\x80", b"\x81" * depth + link, b"\xa1aa" * depth + b"\xa0"):
            for read in (cbor.decode_strict, cbor.to_json):
                try:
                    read(hostile)
                except BadInput:
                    continue
                assert depth == 500
    nested: Any = []
    for _ in range(2000):
        nested = [nested]
    for write in (datamodel.check, datamodel.to_json, datamodel.from_parsed, datamodel.to_parsed):
        with pytest.raises(BadInput):
            write(nested)
    with pytest.raises(BadInput):
        cbor_exact.encode(nested)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60))
@example(bytes.fromhex("a1616cd82a4500") + b"\x01\x55\x00\x00")
def test_random_bytes_never_break_the_readers(block: bytes) -> None:
    try:
        value = cbor.decode_strict(block)
    except BadInput:
        pass
    else:
        assert cbor.encode(value) == block
    for read in (cbor.decode, cbor.to_json, cbor.decode_sequence):
        try:
            read(block)
        except BadInput:
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1.5}', "floating point is not allowed"),
        ('{"a": 9007199254740992}', "integer out of range"),
        ('{"a": -9007199254740992}', "integer out of range"),
        ('{"a": 1e300}', "integer out of range"),
        ('{"a": {"$link": "Qm"}}', "not a CID"),
        ('{"a": {"$link": null}}', "malformed $link"),
        ('{"a": {"$bytes": "a"}}', "malformed $bytes"),
        ('{"a": {"$bytes": "ab-_"}}', "malformed $bytes"),
        ('{"a": {"$bytes": "é"}}', "malformed $bytes"),
        ('{"a": {"$type": ""}}', "malformed $type"),
        ('{"a": {"$type": "blob"}}', "malformed blob"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": "\\ud800"}', "not JSON"),
        ("", "not JSON"),
        ("[" * 5000, "not JSON"),
    ],
)
def test_json_that_is_no_data_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        datamodel.from_json(text)
    assert caught.value.message == message


def test_whole_floats_are_integers() -> None:
    assert types(datamodel.from_json('{"a": 123.0, "b": -0.0}')) == {"a": (int, 123), "b": (int, 0)}


def test_a_record_is_an_object_with_a_type() -> None:
    datamodel.check_record({"$type": "a.b.c", "x": [Link(cid.cid_of(b""))]})
    value: Any
    for value in (
        {},
        [],
        "x",
        {"$type": 1},
        {"$type": "a.b.c", "x": 1.0},
        {"$type": "a.b.c", "x": {"$type": None}},
    ):
        with pytest.raises(BadInput):
            datamodel.check_record(value)
    for value in (Link(b"\x01\x70\x12\x20" + bytes(32)), {1: 2}, {"a": object()}, "\ud800", 2**53):
        with pytest.raises(BadInput):
            datamodel.check(value)
