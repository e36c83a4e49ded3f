"""Places, positions, limits and the queue."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from appliance.errors import BadInput
from appliance.ingest.upstream import (
    Chunk,
    Gap,
    Inflater,
    Places,
    Poisoned,
    Start,
    check_depth,
    cursor_us,
    origin_of,
    parsed,
)
from appliance.ingest.waiting import Waiting
from appliance.protocol import dictionaries
from appliance.protocol.events import SyncEvent
from tests.ingest.hosts import squeezed


def test_operations_of_one_commit_are_counted_through_those_of_others() -> None:
    places = Places()
    assert [places.next("a", "1"), places.next("b", "1"), places.next("a", "1"), places.next("a", "2")] == [
        0,
        0,
        1,
        0,
    ]
    for n in range(70_000):
        places.next(f"did{n}", "1")
    assert places.next("did69999", "1") == 1
    assert len(places._last) <= 65_536


@pytest.mark.parametrize("text", [b"[" * 65 + b"]" * 65, b'{"a":' * 65 + b"1" + b"}" * 65, b"[" * 10**6])
def test_deep_nesting_is_refused(text: bytes) -> None:
    with pytest.raises(BadInput):
        check_depth(text)


@pytest.mark.parametrize(
    "text",
    [b'{"text":"' + b"[{" * 1000 + b'"}', b"[" + b"[]," * 500 + b"1]", b'{"a":"\\"' + b"[" * 100 + b'"}'],
)
def test_many_brackets_are_not_deep_nesting(text: bytes) -> None:
    check_depth(text)


def test_an_envelope_that_makes_no_sense_is_bad_input() -> None:
    class Small(msgspec.Struct):
        a: int

    decode = msgspec.json.Decoder(Small).decode
    assert parsed(decode, b'{"a":1}').a == 1
    for text in (b"", b"{", b'{"a":"x"}', b"\xff", b"x" * 9_000_000):
        with pytest.raises(BadInput):
            parsed(decode, text)


@pytest.mark.parametrize("wire", ["v1", "v2"])
def test_frames_are_inflated_within_limits(wire: str) -> None:
    dictionary = dictionaries.legacy() if wire == "v1" else dictionaries.current()[1]
    inflater = Inflater(dictionary)
    assert inflater.text(squeezed(b'{"did":"x"}', wire)) == b'{"did":"x"}'
    assert inflater.text(b'{"plain":1}') == b'{"plain":1}'
    with pytest.raises(BadInput):
        inflater.text(squeezed(bytes(20_000_000), wire))
    for frame in (squeezed(b"x" * 500, wire)[:-5], squeezed(b"x", wire) + b"more", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(Poisoned):
            inflater.text(frame)
    with pytest.raises(Poisoned):
        Inflater(None).text(squeezed(b'{"did":"did:plc:abc","kind":"commit"}' * 3, wire))


def test_a_cursor_is_microseconds_or_nothing() -> None:
    now_us = 1_783_200_000_000_000
    assert cursor_us(Start(5, now_us, same_host=True), 5_000_000) == now_us - 5_000_000
    assert cursor_us(Start(None, now_us, same_host=False), 5_000_000) == now_us - 60_000_000
    assert cursor_us(Start(5, None, same_host=True), 0) is None
    for wrong in (now_us // 1000, now_us // 10**6, now_us * 1000):
        with pytest.raises(AssertionError):
            cursor_us(Start(None, wrong, same_host=True), 0)


def test_the_origin_of_a_stream_is_its_http_side() -> None:
    assert origin_of("wss://a.net/xrpc/x") == "https://a.net"
    assert origin_of("ws://localhost:99/x?y") == "http://localhost:99"


def chunk(size: int, events: int = 1) -> Chunk:
    return Chunk([SyncEvent("did:plc:a", "r", 1)] * events, 1, 1, size)


@pytest.mark.parametrize(("size", "most"), [(100, 10), (1, 500)])
async def test_a_full_queue_keeps_the_reader_waiting(size: int, most: int) -> None:
    waiting: Waiting[str] = Waiting(bytes_max=1000, events_max=500)
    put = 0

    async def fill() -> None:
        nonlocal put
        for _ in range(2000):
            await waiting.put("a", chunk(size))
            put += 1

    task = asyncio.create_task(fill())
    for _ in range(20):
        await asyncio.sleep(0)
    assert put == most
    taken = 0
    while taken < 2000:
        await waiting.some()
        chunks = waiting.take(7)
        assert list(chunks) == ["a"]
        assert 1 <= len(chunks["a"]) <= 7
        taken += len(chunks["a"])
    await task
    assert (waiting.events, waiting.bytes, len(waiting)) == (0, 0, 0)


async def test_a_batch_keeps_the_order_of_each_source_and_begins_with_its_gap() -> None:
    waiting: Waiting[str] = Waiting(10**6, 10**6)
    for at, (name, gap) in enumerate(
        [("a", None), ("b", None), ("a", None), ("a", Gap(1, 2, "x")), ("a", None), ("b", None)]
    ):
        await waiting.put(name, chunk(1)._replace(gap=gap, seq=at))
    batches = []
    while len(waiting):
        taken = waiting.take(100)
        batches.append({name: [(c.seq, c.gap is not None) for c in chunks] for name, chunks in taken.items()})
    assert batches == [
        {"a": [(0, False), (2, False)], "b": [(1, False)]},
        {"a": [(3, True), (4, False)], "b": [(5, False)]},
    ]


async def test_enough_is_waited_for() -> None:
    waiting: Waiting[str] = Waiting(10**6, 10**6)
    task = asyncio.create_task(waiting.enough(3))
    for expected in (False, False, True):
        await waiting.put("a", chunk(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task.done() is expected
