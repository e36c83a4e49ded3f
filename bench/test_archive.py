"""Rows a second out of archive blocks: decoded whole, chosen by accounts, and applied as history.

The blocks are devnet's, with as many rows as a busy host writes; one account in a hundred is wanted.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.devnet.segments import Line, Sealed, seal
from appliance.ingest.apply import Applier
from appliance.ingest.archived import event_of
from appliance.ingest.merge import Rules
from appliance.ingest.upstream import Places
from appliance.protocol import cbor, lexicons
from appliance.protocol.segments import Segment, decode_block
from appliance.protocol.tid import tid_of
from appliance.store import actors, repos
from appliance.store.database import Transaction
from appliance.store.migrations import create

POST = "app.bsky.feed.post"
ROWS_A_BLOCK = 4096
BLOCKS = 25
ACCOUNTS = 10_000
WANTED = 100
ROUNDS = 3
BEGAN_US = 1_790_000_000_000_000


def did(number: int) -> str:
    return f"did:plc:{number:024d}".replace("0", "a").replace("1", "b").replace("8", "c").replace("9", "d")


def line(seq: int) -> Line:
    at_us = BEGAN_US + seq * 1000
    record = {"$type": POST, "text": f"post {seq} " * 6, "createdAt": "2026-09-01T00:00:00.000Z"}
    rev = tid_of(at_us, seq % 1024)
    return Line(seq, at_us, 1, did(seq % ACCOUNTS), POST, rev, rev, cbor.encode(record))


@pytest.fixture(scope="module")
def sealed() -> Sealed:
    blocks = [
        [line(1 + number * ROWS_A_BLOCK + at) for at in range(ROWS_A_BLOCK)] for number in range(BLOCKS)
    ]
    return seal(blocks)


def best(work: Any) -> float:
    """Seconds of the fastest of some runs."""
    took = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - began_s)
    return min(took)


def test_rows_a_second_of_an_archive(sealed: Sealed, tmp_path: Path, record_property: Any) -> None:
    rows = BLOCKS * ROWS_A_BLOCK
    wanted = {did(number): 0 for number in range(WANTED)}
    names = frozenset(name.encode() for name in wanted)
    collections = frozenset({POST.encode()})

    def whole() -> None:
        segment = Segment(sealed.data)
        assert sum(len(list(segment.block(number).chosen())) for number in range(BLOCKS)) == rows

    def chosen() -> list[Any]:
        return [row for frame in sealed.frames for row in decode_block(frame).chosen(names, collections)]

    def applied(file: Path) -> float:
        connection = sqlite3.connect(file, isolation_level=None)
        create(connection)
        connection.execute("BEGIN IMMEDIATE")
        tx = Transaction(connection)
        for name in wanted:
            repos.want(tx, actors.ensure(tx, name), BEGAN_US)
        applier = Applier(Rules(lambda kind, body: lexicons.validate_record(kind, body, published=True)))
        found, places = chosen(), Places()
        began_s = time.perf_counter()
        for at in range(0, len(found), 500):
            part = found[at : at + 500]
            events = [event for row in part if (event := event_of(row, places)) is not None]
            tally = applier.apply_history(tx, "archive x", part[-1].seq, events, wanted, now_us=2 * BEGAN_US)
            assert tally.applied == len(part)
        connection.execute("COMMIT")
        took_s = time.perf_counter() - began_s
        connection.close()
        return took_s

    kept = len(chosen())
    whole_s, chosen_s = best(whole), best(chosen)
    applied_s = min(applied(tmp_path / f"{number}.db") for number in range(ROUNDS))
    record_property("decoded_per_s", round(rows / whole_s))
    record_property("chosen_per_s", round(rows / chosen_s))
    record_property("applied_per_s", round(kept / applied_s))
    print(
        f"\n{rows} rows, {len(sealed.data) / 1e6:.1f} MB: {rows / whole_s:,.0f} rows/s with checksums,"
        f" {rows / chosen_s:,.0f} rows/s passed over to find {kept} of {WANTED} accounts,"
        f" {kept / applied_s:,.0f} rows/s applied as history"
    )
    assert kept == rows * WANTED // ACCOUNTS or abs(kept - rows * WANTED / ACCOUNTS) < WANTED
