"""Segment files of the Jetstream v2 archive: real ones row by row, damaged ones refused, devnet's read."""

from __future__ import annotations

import csv
import random
import struct
from collections.abc import Iterator

import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from appliance.devnet import segments as written
from appliance.devnet.segments import Line
from appliance.errors import BadInput
from appliance.protocol import car, cbor, cid, mst, segments
from appliance.protocol.segments import Row, Segment
from tests.shared import shared

FOLDER = "data/jetstream/segments"
FILES = ("golden_corpus_segment.jss", "golden_seal.bin", "legacy_fixed4096_blooms.jss", "native.jss")
POST = "app.bsky.feed.post"


def golden(name: str) -> bytes:
    return shared(f"{FOLDER}/{name}").read_bytes()


def rows_of(segment: Segment) -> list[Row]:
    return [row for number in range(len(segment.blocks)) for row in segment.block(number).chosen()]


def everything(data: bytes) -> tuple[list[Row], list[segments.Indexed]]:
    """All that a file says."""
    segment = Segment(data)
    return rows_of(segment), segment.collections


def test_the_corpus_segment_holds_the_records_of_the_repository_that_it_was_made_from() -> None:
    segment = Segment(golden("golden_corpus_segment.jss"))
    rows = rows_of(segment)
    with shared("data/jetstream/corpus/car_expected_records.tsv").open() as file:
        expected = dict(csv.reader(file, delimiter="\t"))

    assert segment.checksum == "8ac51e3e2c8fb641"
    assert {f"{row.collection}/{row.rkey}": cid.to_text(cid.cid_of(row.payload)) for row in rows} == expected
    assert [row.seq for row in rows] == list(range(1, 24))
    assert [row.time_us for row in rows] == list(range(1750000000000001, 1750000000000024))
    assert {(row.kind, row.did, row.rev) for row in rows} == {
        (segments.CREATE, "did:plc:53iucmf5ldftgqyf2ac7hmhd", "3migo7fijwi2k")
    }
    found = car.read(shared("data/jetstream/corpus/repo.car").read_bytes())
    root = cbor.decode(found.blocks[found.root])
    assert isinstance(root, dict)
    data = root["data"]
    assert isinstance(data, bytes)
    tree = mst.Tree(found.blocks.get, bytes(data))
    blocks = {path: found.blocks[record] for path, record in tree.items()}
    assert {f"{row.collection}/{row.rkey}": row.payload for row in rows} == blocks


def test_the_collection_index_of_the_corpus_segment_says_what_its_blocks_hold() -> None:
    segment = Segment(golden("golden_corpus_segment.jss"))

    assert [(each.name, each.events, each.blocks) for each in segment.collections] == [
        ("app.bsky.actor.profile", 1, (0,)),
        ("app.bsky.feed.like", 10, (0, 1)),
        (POST, 6, (1, 2)),
        ("app.bsky.feed.repost", 3, (2,)),
        ("app.bsky.graph.follow", 3, (2,)),
    ]
    for number in range(3):
        held = {row.collection for row in segment.block(number).chosen()}
        assert held == {each.name for each in segment.collections if number in each.blocks}


def test_a_file_of_the_official_writer_has_create_update_and_delete_of_one_key() -> None:
    hello = cbor.encode({"text": "hello"})
    assert rows_of(Segment(golden("native.jss"))) == [
        Row(seq, 1700000000000000, kind, POST, "did:plc:fixture", "one", "rev", payload)
        for seq, kind, payload in ((1, 1, hello), (2, 2, hello), (3, 3, b""))
    ]


def test_a_small_sealed_file_tells_the_indexed_time_where_it_has_one() -> None:
    assert rows_of(Segment(golden("golden_seal.bin"))) == [
        Row(1, 100, 1, POST, "did:plc:a", "k1", "v1", b"p1"),
        Row(2, 250, 1, "app.bsky.feed.like", "did:plc:b", "k2", "v2", b"p2"),
    ]


def test_a_file_with_filters_of_the_older_size_is_read_as_well() -> None:
    rows = rows_of(Segment(golden("legacy_fixed4096_blooms.jss")))

    assert rows == [
        Row(
            n,
            n,
            1,
            POST,
            f"did:plc:legacy-b0-u{(n - 1) % 2}" if n < 7 else "did:plc:legacy-b1-u0",
            f"k{n}",
            f"v{n}",
            b"payload",
        )
        for n in range(1, 13)
    ]


def test_a_block_alone_is_its_frame_without_a_length() -> None:
    block = segments.decode_block(golden("golden_block.bin"))

    assert [row[:7] for row in block.chosen()] == [
        (1, 1700000000000000, 1, POST, "did:plc:abcdefghijklmnopqrstuvwx", "3l3qo2vuowo2b", "3l3qo2vutsw2b"),
        (2, 1700000000500000, 4, "", "did:web:example.com", "", ""),
        (
            3,
            1700000002000000,
            3,
            "app.bsky.feed.like",
            "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz",
            "3l3qo2vuowo2c",
            "3l3qo2vutsw2c",
        ),
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_or_longer_than_it_says_is_refused(name: str) -> None:
    data = golden(name)
    # Each cut of the long one is like its neighbours: its footer is 17 kB of filters.
    cuts = range(len(data)) if len(data) < 5000 else range(0, len(data), 7)
    for end in cuts:
        with pytest.raises(BadInput):
            everything(data[:end])
    with pytest.raises(BadInput):
        everything(data + b"\0")


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_byte_of_a_file_is_ever_read_as_other_rows(name: str) -> None:
    data = golden(name)
    right = everything(data)
    footer = int.from_bytes(data[58:66], "little")
    places = range(len(data)) if len(data) < 5000 else [*range(footer), *range(footer, len(data), 13)]
    accepted = 0
    for at in places:
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            try:
                found = everything(bytes(damaged))
            except BadInput:
                continue
            # Bits that a decompressor has no use for, such as the size of its window.
            assert found == right, f"byte {at} flipped by {flip:#x}"
            assert 256 <= at < footer
            accepted += 1
    assert accepted < len(places) * 3 / 100


def test_no_flipped_byte_of_a_block_alone_is_ever_read_as_other_rows() -> None:
    data = golden("golden_block.bin")
    right = list(segments.decode_block(data).chosen())
    refused = 0
    for end in range(len(data)):
        with pytest.raises(BadInput):
            segments.decode_block(data[:end])
    for at in range(len(data)):
        for flip in range(1, 256):
            damaged = bytearray(data)
            damaged[at] ^= flip
            try:
                assert list(segments.decode_block(bytes(damaged)).chosen()) == right
            except BadInput:
                refused += 1
    assert refused > len(data) * 250


def test_a_checksum_that_was_made_to_fit_does_not_help_a_footer_that_makes_no_sense() -> None:
    data = golden("golden_corpus_segment.jss")
    footer = int.from_bytes(data[58:66], "little")
    right = everything(data)
    chance = random.Random(1)
    for at in [*range(12, 256), *range(footer, len(data))]:
        damaged = bytearray(data)
        damaged[at] ^= chance.randrange(1, 256)
        _reseal(damaged, footer)
        try:
            rows, _ = everything(bytes(damaged))
        except BadInput:
            continue
        assert rows == right[0]


def _reseal(data: bytearray, footer: int) -> None:
    hashed = xxhash.xxh3_64(data[12:256])
    hashed.update(data[footer:])
    data[4:12] = hashed.intdigest().to_bytes(8, "little")


def test_a_file_that_is_still_being_written_is_refused() -> None:
    data = bytearray(golden("native.jss"))
    data[4:12] = bytes(8)

    with pytest.raises(BadInput, match="still being written"):
        Segment(bytes(data))


def test_a_frame_without_a_checksum_is_refused() -> None:
    text = written.body([Line(1, 1, 1, "did:plc:a", POST, "k", "v", b"p")])

    assert len(segments.decode_block(zstandard.ZstdCompressor(write_checksum=True).compress(text))) == 1
    with pytest.raises(BadInput, match="without a checksum"):
        segments.decode_block(zstandard.ZstdCompressor(write_checksum=False).compress(text))


def test_two_frames_in_place_of_one_are_refused() -> None:
    frame = written.frame([Line(1, 1, 1, "did:plc:a", POST, "k", "v", b"p")])

    with pytest.raises(BadInput, match="after a frame"):
        segments.decode_block(frame + frame)


def test_a_frame_that_says_it_is_huge_allocates_nothing() -> None:
    # Magic; a single segment with a checksum and a size of eight bytes; an empty last block.
    liar = (
        b"\x28\xb5\x2f\xfd" + bytes([0b11100100]) + (1 << 40).to_bytes(8, "little") + b"\x01\0\0" + b"\0" * 4
    )

    with pytest.raises(BadInput, match="larger than allowed"):
        segments.decode_block(liar)


def test_a_frame_that_unpacks_to_more_than_allowed_is_refused_before_it_is_unpacked() -> None:
    small = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(50_000_000))
    assert len(small) < 10_000

    with pytest.raises(BadInput, match="larger than allowed"):
        segments.inflate(small, 1_000_000)


def test_more_rows_than_a_block_may_have_are_refused() -> None:
    with pytest.raises(BadInput, match="number of rows"):
        segments.Block(struct.pack("<I", segments.ROWS_MAX + 1) + bytes(64))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_body_that_does_not_end_with_its_last_row_is_refused(change: int) -> None:
    body = written.body([Line(1, 1, 1, "did:plc:a", POST, "k", "v", b"payload")])
    body = body[:change] if change < 0 else body + b"x"

    with pytest.raises(BadInput, match="end with its last row"):
        segments.Block(body)


def test_numbers_that_do_not_rise_are_refused() -> None:
    with pytest.raises(BadInput, match="rise"):
        segments.Block(written.body([Line(2, 1, 4, "did:plc:a"), Line(2, 1, 4, "did:plc:a")]))


def test_text_that_is_not_utf_8_is_refused_where_it_is_looked_at() -> None:
    body = bytearray(written.body([Line(1, 1, 1, "did:plc:a", POST, "kkk", "v", b"p")]))
    body[body.index(b"kkk")] = 0xFF

    with pytest.raises(BadInput, match="UTF-8"):
        list(segments.Block(bytes(body)).chosen())


def test_an_emptied_block_keeps_its_number_and_has_no_rows() -> None:
    lines = [Line(n, n, 1, "did:plc:a", POST, f"k{n}", "v", b"p") for n in range(1, 7)]
    segment = Segment(written.seal([lines[:2], [], lines[4:]], bounds=(1, 6)).data)

    assert [len(segment.block(number)) for number in range(3)] == [2, 0, 2]
    assert [row.seq for row in rows_of(segment)] == [1, 2, 5, 6]


def test_rows_are_chosen_by_account_and_collection() -> None:
    lines = [
        Line(1, 1, 1, "did:plc:a", POST, "k", "v", b"p"),
        Line(2, 1, 1, "did:plc:b", POST, "k", "v", b"p"),
        Line(3, 1, 1, "did:plc:a", "app.bsky.feed.like", "k", "v", b"p"),
        Line(4, 1, 5, "did:plc:a"),
    ]
    block = segments.Block(written.body(lines))

    assert [row.seq for row in block.chosen({b"did:plc:a"}, {POST.encode()})] == [1]
    assert [row.seq for row in block.chosen({b"did:plc:a"})] == [1, 3, 4]
    assert [row.seq for row in block.chosen(None, {b""})] == [4]


def a_line(draw: st.DrawFn, seq: int) -> Line:
    text = st.text(max_size=20)
    kind = draw(st.integers(1, 255))
    return Line(
        seq,
        draw(st.integers(-(2**63), 2**63 - 1)),
        kind,
        draw(text),
        draw(text),
        draw(text),
        draw(text),
        draw(st.binary(max_size=60)),
        draw(st.integers(-(2**63), 2**63 - 1)),
    )


@st.composite
def some_blocks(draw: st.DrawFn) -> list[list[Line]]:
    seq = draw(st.integers(1, 2**63))
    blocks: list[list[Line]] = []
    for _ in range(draw(st.integers(1, 4))):
        lines: list[Line] = []
        for _ in range(draw(st.integers(0, 5))):
            seq += draw(st.integers(1, 9))
            lines.append(a_line(draw, seq))
        blocks.append(lines)
    return blocks


def told(lines: list[Line]) -> Iterator[Row]:
    for line in lines:
        yield Row(
            line.seq,
            line.indexed_us or line.witnessed_us,
            line.kind,
            line.collection,
            line.did,
            line.rkey,
            line.rev,
            line.payload,
        )


@given(some_blocks())
def test_whatever_devnet_writes_is_read_the_same(blocks: list[list[Line]]) -> None:
    lines = [line for block in blocks for line in block]
    sealed = written.seal(blocks, None if lines else (1, 1))
    segment = Segment(sealed.data)

    assert rows_of(segment) == list(told(lines))
    assert segment.checksum == sealed.checksum
    for number, frame in enumerate(sealed.frames):
        assert list(segments.decode_block(frame).chosen()) == list(told(blocks[number]))


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BadInput):
        segments.decode_block(noise)
    with pytest.raises(BadInput):
        everything(b"jss0" + noise)
    try:
        list(segments.Block(noise).chosen())
    except BadInput:
        pass
