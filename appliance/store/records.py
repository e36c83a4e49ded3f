"""Rows of records: one a key for ever, living, deleted, or only mentioned by others.

A version is (epoch, rev, n); versions of one key are ordered and never compared with another key's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from appliance.errors import BadInput
from appliance.protocol.syntax import normalise_did, parse_at_uri
from appliance.store import actors
from appliance.store.collections import NSIDS, NUMBERS, OF_EVERYBODY
from appliance.store.database import Reader, Row, Transaction

MENTIONED: Final = 0
LIVING: Final = 1
DELETED: Final = 2
INVALID: Final = 3

# The n of rows that a snapshot showed: later than any operation of a commit at the same rev.
SNAPSHOT: Final = 2_147_483_647

Version = tuple[int, str, int]


class Order(NamedTuple):
    """Where a record stands in every list; assigned when its key first lives, then kept."""

    sort_ms: int
    tie: int
    arrival: int | None


class Found(NamedTuple):
    """A record as others see it. ``cid`` and ``body`` are None unless it lives."""

    id: int
    actor: int
    state: int
    version: Version | None
    cid: str | None
    body: bytes | None


def at(tx: Transaction, actor: int, collection: int, rkey: str) -> Row | None:
    """(id, state, epoch, rev, n, cid, sort_ms, tie, arrival, scan) of a key that has a row."""
    return tx.one(
        "SELECT id, state, epoch, rev, n, cid, sort_ms, tie, arrival, scan FROM record"
        " WHERE actor = ? AND collection = ? AND rkey = ?",
        (actor, collection, rkey),
    )


def floor(reader: Reader, actor: int, collection: int) -> Version | None:
    """What every key of the collection without a version is older than, or at; None: no scan said."""
    row = reader.one("SELECT epoch, rev FROM floor WHERE actor = ? AND collection = ?", (actor, collection))
    return None if row is None else (row[0], row[1], SNAPSHOT)


def living_keys(reader: Reader, actor: int, collection: int, rows_max: int) -> list[str]:
    """The highest keys of living records."""
    rows = reader.all(
        "SELECT rkey FROM record WHERE actor = ? AND collection = ? AND state = 1 ORDER BY rkey DESC LIMIT ?",
        (actor, collection, rows_max),
    )
    return [row[0] for row in rows]


def insert(
    tx: Transaction,
    actor: int,
    collection: int,
    rkey: str,
    state: int,
    version: Version,
    cid: str | None,
    body: bytes | None,
    order: tuple[int | None, int | None, int | None],
    indexed_us: int,
    scan: int | None,
) -> int:
    """A key's first row."""
    if rkey == "self":
        tx.changed.actors.add(actor)
    return tx.insert(
        "INSERT INTO record (actor, collection, rkey, state, epoch, rev, n, cid, body, sort_ms, tie, arrival,"
        " indexed_us, scan) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (actor, collection, rkey, state, *version, cid, body, *order, indexed_us, scan),
    )


def update(
    tx: Transaction,
    record: int,
    state: int,
    version: Version,
    cid: str | None,
    body: bytes | None,
    order: tuple[int | None, int | None, int | None],
    indexed_us: int,
    scan: int | None,
) -> None:
    """Another version of a key."""
    changes(tx, record)
    tx.run(
        "UPDATE record SET state = ?, epoch = ?, rev = ?, n = ?, cid = ?, body = ?, sort_ms = ?, tie = ?,"
        " arrival = ?, indexed_us = ?, scan = ? WHERE id = ?",
        (state, *version, cid, body, *order, indexed_us, scan, record),
    )


def confirm(tx: Transaction, record: int, version: Version, scan: int | None) -> None:
    """The same value at another version."""
    tx.run(
        "UPDATE record SET epoch = ?, rev = ?, n = ?, scan = ? WHERE id = ?",
        (*version, scan, record),
    )


def next_arrival(tx: Transaction) -> int:
    """A number above all that were ever given."""
    rows = tx.all("UPDATE meta SET value = value + 1 WHERE name = 'arrival' RETURNING CAST(value AS INTEGER)")
    if rows:
        number: int = rows[0][0]
        return number
    tx.run("INSERT INTO meta (name, value) VALUES ('arrival', '1')")
    return 1


def mention(tx: Transaction, uri: str) -> int | None:
    """The id of a record that another one points at, whether or not we ever saw it.

    None for what isn't kept here: an address without DID, or of an unknown type.
    """
    try:
        at_uri = parse_at_uri(uri)
        collection = NUMBERS.get(at_uri.collection)
        if collection is None or not at_uri.rkey:
            return None
        did = normalise_did(at_uri.authority)
    except BadInput:
        return None
    row = tx.one(
        "SELECT a.id, r.id FROM actor a LEFT JOIN record r"
        " ON r.actor = a.id AND r.collection = ? AND r.rkey = ? WHERE a.did = ?",
        (collection, at_uri.rkey, did),
    )
    if row is not None and row[1] is not None:
        found: int = row[1]
        return found
    return tx.insert(
        "INSERT INTO record (actor, collection, rkey, state) VALUES (?, ?, ?, 0)",
        (actors.ensure(tx, did) if row is None else row[0], collection, at_uri.rkey),
    )


def find(reader: Reader, uri: str) -> Found | None:
    """The record at this address, in any state; None where there is no row, or it is no address."""
    try:
        at_uri = parse_at_uri(uri)
    except BadInput:
        return None
    row = reader.one(
        "SELECT r.id, r.actor, r.state, r.epoch, r.rev, r.n, r.cid, r.body FROM record r"
        " JOIN actor a ON a.id = r.actor WHERE a.did = ? AND r.collection = ? AND r.rkey = ?",
        (at_uri.authority, NUMBERS.get(at_uri.collection), at_uri.rkey),
    )
    if row is None:
        return None
    record, actor, state, epoch, rev, n, cid, body = row
    return Found(record, actor, state, None if epoch is None else (epoch, rev, n), cid, body)


def uri(reader: Reader, record: int) -> str:
    """The address of a record that has a row."""
    row = reader.one(
        "SELECT a.did, r.collection, r.rkey FROM record r JOIN actor a ON a.id = r.actor WHERE r.id = ?",
        (record,),
    )
    assert row is not None
    return f"at://{row[0]}/{NSIDS[row[1]]}/{row[2]}"


def is_held(reader: Reader, actor: int, collection: int, rkey: str) -> bool:
    """Do we have a version of this record, not just its name?"""
    return (
        reader.value(
            "SELECT 1 FROM record WHERE actor = ? AND collection = ? AND rkey = ? AND state <> 0",
            (actor, collection, rkey),
        )
        is not None
    )


def state_of(reader: Reader, record: int) -> int:
    """MENTIONED, LIVING, DELETED or INVALID."""
    found: int = reader.value("SELECT state FROM record WHERE id = ?", (record,))
    return found


def body_at(reader: Reader, actor: int, collection: int, rkey: str) -> bytes | None:
    """The body of a living record."""
    found: bytes | None = reader.value(
        "SELECT body FROM record WHERE actor = ? AND collection = ? AND rkey = ? AND state = 1",
        (actor, collection, rkey),
    )
    return found


def unseen(
    tx: Transaction, actor: int, collection: int, version: Version, scan: int
) -> list[tuple[int, int, str, str | None]]:
    """(id, state, rkey, cid) of what a finished scan did not show, though nothing newer is known of it.

    Rows that a later scan saw at the same version stay.
    """
    rows: list[tuple[int, int, str, str | None]] = tx.all(
        "SELECT id, state, rkey, cid FROM record WHERE actor = ?1 AND collection = ?2"
        " AND (epoch IS NULL OR (epoch, rev, n) <= (?3, ?4, ?5)) AND coalesce(scan, 0) < ?6",
        (actor, collection, *version, scan),
    )
    return rows


def bury(tx: Transaction, record: int, version: Version, indexed_us: int) -> None:
    """Make a tombstone of it; its place in the order stays for the day it lives again."""
    changes(tx, record)
    tx.run(
        "UPDATE record SET state = 2, epoch = ?, rev = ?, n = ?, cid = NULL, body = NULL, indexed_us"
        " = ? WHERE id = ?",
        (*version, indexed_us, record),
    )


def changes(tx: Transaction, record: int) -> None:
    """Tell that it changes; what has the key self is part of what its actor shows."""
    tx.changed.records.add(record)
    actor = tx.value("SELECT actor FROM record WHERE id = ? AND rkey || '' = 'self'", (record,))
    if actor is not None:
        tx.changed.actors.add(actor)


def digest(reader: Reader, actor: int, collections: list[int]) -> tuple[bytes, int]:
    """SHA-256 over the sorted lines ``collection/rkey cid`` of what lives, and how many there are.

    Records that aren't valid for their lexicon count: the repository has them.
    """
    return digest_of(
        (NSIDS[collection], rkey, cid)
        for collection in collections
        for rkey, cid in reader.all(
            "SELECT rkey, cid FROM record WHERE actor = ? AND collection = ? AND state IN (1, 3)",
            (actor, collection),
        )
    )


def digest_for_anybody(
    reader: Reader, actor: int, read: Collection[int], of_all: tuple[bytes, int]
) -> tuple[bytes, int] | None:
    """The same of the collections that are read of everybody; None where some were not read. ``of_all`` is
    that of those that were."""
    if set(read) == set(OF_EVERYBODY):
        return of_all
    return digest(reader, actor, list(OF_EVERYBODY)) if set(OF_EVERYBODY) <= set(read) else None


def digest_of(entries: Iterable[tuple[str, str, str]]) -> tuple[bytes, int]:
    """The same of (collection, rkey, cid) that somebody else names."""
    lines = sorted(f"{nsid}/{rkey} {cid}\n".encode() for nsid, rkey, cid in entries)
    return sha256(b"".join(lines)).digest(), len(lines)


class Held(NamedTuple):
    """What is here of a key."""

    state: int
    epoch: int
    rev: str
    n: int
    cid: str | None


def held(reader: Reader, actor: int, collection: int, from_rkey: str = "") -> dict[str, Held]:
    """Every key of that collection with a version, from that key upwards."""
    return {
        rkey: Held(*row)
        for rkey, *row in reader.all(
            "SELECT rkey, state, epoch, rev, n, cid FROM record WHERE actor = ? AND collection = ?"
            " AND rkey >= ? AND state <> 0",
            (actor, collection, from_rkey),
        )
    }


def living_count(reader: Reader, actor: int, collections: list[int]) -> int:
    """How many records live in these collections, valid or not."""
    return sum(
        reader.value(
            "SELECT count(*) FROM record WHERE actor = ? AND collection = ? AND state IN (1, 3)",
            (actor, collection),
        )
        for collection in collections
    )
