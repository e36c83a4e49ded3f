"""CAR files: whole, in chunks, and damaged in every way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BadInput
from appliance.protocol import car, cbor, cid
from appliance.protocol.datamodel import Link
from tests.shared import shared

BLOCKS = {
    cid.cid_of(block): block for block in (cbor.encode({"n": n, "t": "x" * n}) for n in range(0, 400, 7))
}
ROOT = next(iter(BLOCKS))
GOOD = car.write(ROOT, BLOCKS)


def in_chunks(data: bytes, size: int) -> car.Car:
    reader = car.Reader()
    found = [pair for at in range(0, len(data), size) for pair in reader.feed(data[at : at + size])]
    reader.close()
    return car.Car(reader.roots, dict(found))


def readers() -> list[Callable[[bytes], car.Car]]:
    return [
        car.read,
        lambda data: in_chunks(data, 1),
        lambda data: in_chunks(data, 64),
        lambda data: in_chunks(data, 10**6),
    ]


def test_what_is_written_is_read() -> None:
    for read in readers():
        archive = read(GOOD)
        assert archive.root == ROOT
        assert archive.blocks == BLOCKS


def test_the_root_comes_first() -> None:
    last = list(BLOCKS)[-1]

    assert next(iter(car.read(car.write(last, BLOCKS)).blocks)) == last
    assert car.read(car.write(ROOT, [])).blocks == {}
    assert car.read(car.write(ROOT, iter(BLOCKS.items()))).blocks == BLOCKS


def test_a_real_export_reads_the_same_whole_and_in_chunks() -> None:
    data = shared("data/jetstream/corpus/repo.car").read_bytes()

    whole = car.read(data)

    assert len(whole.blocks) == 29
    assert [read(data) for read in readers()] == [whole] * 4
    assert car.read(car.write(whole.root, whole.blocks)) == whole


def test_repeated_blocks_are_tolerated() -> None:
    again = GOOD + car.frame(ROOT, BLOCKS[ROOT])

    for read in readers():
        assert read(again).blocks == BLOCKS


def test_every_cut_but_those_between_blocks_is_seen() -> None:
    borders = [len(car.header([ROOT]))]
    for name, block in BLOCKS.items():
        borders.append(borders[-1] + len(car.frame(name, block)))

    for read in (car.read, lambda data: in_chunks(data, 100)):
        for end in range(0, len(GOOD), 3):
            if end in borders:
                assert len(read(GOOD[:end]).blocks) == borders.index(end)
            else:
                with pytest.raises(BadInput):
                    read(GOOD[:end])


def test_a_changed_byte_anywhere_is_seen() -> None:
    for at in range(0, len(GOOD), 11):
        damaged = GOOD[:at] + bytes([GOOD[at] ^ 0x10]) + GOOD[at + 1 :]
        for read in (car.read, lambda data: in_chunks(data, 100)):
            try:
                archive = read(damaged)
            except BadInput:
                continue
            # A changed root in the header is seen by whoever looks for its block.
            assert archive.root not in BLOCKS
    assert len(GOOD) > 10_000


def header(value: object) -> bytes:
    block = cbor.encode(value)
    return bytes([len(block)]) + block


PREFIX = car.header([ROOT])
BAD: dict[str, bytes] = {
    "nothing": b"",
    "no header": b"\0",
    "header too large": b"\xff\xff\x7f" + bytes(3_000_000),
    "header of another kind": header([1]),
    "version 2": header({"version": 2, "roots": [Link(ROOT)]}),
    "roots missing": header({"version": 1}),
    "root is bytes": header({"version": 1, "roots": [b"x"]}),
    "empty block": PREFIX + b"\0",
    "block shorter than a CID": PREFIX + b"\x05hello",
    "number never ends": PREFIX + b"\xff" * 20,
    "number out of range": PREFIX + b"\xff\xff\xff\xff\x7f",
    "number longer than needed": PREFIX + b"\xa5\x00" + ROOT + b"x",
    "length past the end": PREFIX + b"\xff\xff\xff\x7f" + ROOT,
    "another hash": PREFIX + b"\x26" + b"\x01\x71\x13\x20" + bytes(32) + b"ab",
    "another codec": PREFIX + car.frame(b"\x01\x70" + ROOT[2:], BLOCKS[ROOT]),
    "CID of version 0": PREFIX + b"\x26" + b"\x12\x20" + bytes(36),
    "identity CID": PREFIX + b"\x26" + b"\x01\x55\x00\x02hi" + bytes(32),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_car_is_refused(name: str) -> None:
    for read in readers():
        with pytest.raises(BadInput):
            read(BAD[name])


def test_a_car_may_name_no_root_or_more_but_has_none_then() -> None:
    none = car.read(header({"version": 1, "roots": []}))
    two = car.read(header({"version": 1, "roots": [Link(ROOT), Link(ROOT)]}))

    assert (none.roots, two.roots) == ((), (ROOT, ROOT))
    with pytest.raises(BadInput):
        _ = none.root
    assert two.root == ROOT


def test_the_reader_holds_no_more_than_a_block() -> None:
    reader = car.Reader(block_max=1000)
    with pytest.raises(BadInput):
        _ = reader.root
    reader.feed(car.header([ROOT]))
    assert reader.root == ROOT

    large = cbor.encode({"t": "x" * 1100})
    with pytest.raises(BadInput):
        reader.feed(car.frame(cid.cid_of(large), large)[:60])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_random_bytes_never_break_the_readers(data: bytes, size: int) -> None:
    for read in (car.read, lambda data: in_chunks(data, size)):
        try:
            read(data)
        except BadInput:
            pass
        try:
            read(PREFIX + data)
        except BadInput:
            pass
