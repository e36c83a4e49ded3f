"""Actors as pages show them: batches by id, look-ups by name, and how a viewer relates to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store.batches import batches, pair_batches
from appliance.store.database import Reader

FOLLOW = 3
BLOCK = 4
VERIFICATION = 8


class ActorRow(NamedTuple):
    """Who somebody is. ``known`` is false for those only mentioned by others."""

    id: int
    did: str
    known: int
    handle: str | None
    status: str | None
    takedown: str | None


class SelfRecord(NamedTuple):
    """A living record with the key ``self``: profile, declarations, labeler service."""

    actor: int
    collection: int
    id: int
    cid: str
    takedown: str | None


def actors(reader: Reader, ids: Collection[int]) -> list[ActorRow]:
    """These actors, in no order."""
    rows: list[ActorRow] = []
    for marks, part in batches(ids):
        found = reader.all(
            f"SELECT id, did, known, handle, status, takedown FROM actor WHERE id IN ({marks})", part
        )
        rows.extend(map(ActorRow._make, found))
    return rows


def self_records(reader: Reader, ids: Collection[int]) -> list[SelfRecord]:
    """Their ``self`` records, in the order of collections."""
    rows: list[SelfRecord] = []
    for marks, part in batches(ids):
        found = reader.all(
            "SELECT actor, collection, id, cid, takedown FROM record INDEXED BY record_self"
            f" WHERE actor IN ({marks}) AND rkey || '' = 'self' AND state = 1 ORDER BY actor, collection",
            part,
        )
        rows.extend(map(SelfRecord._make, found))
    return rows


class Verification(NamedTuple):
    """What somebody vouches for: that the subject went by this name and handle."""

    subject: int
    issuer: int
    rkey: str
    takedown: str | None
    body: bytes


def verifications(reader: Reader, ids: Collection[int], issuers: Collection[int]) -> list[Verification]:
    """The living verifications of these actors by those issuers; of each issuer the first that counts."""
    rows: list[Verification] = []
    for issuer in issuers:
        for marks, part in batches(ids):
            found = reader.all(
                "SELECT l.subject, l.actor, r.rkey, r.takedown, r.body FROM link AS l INDEXED BY link_pair"
                " CROSS JOIN record AS r ON r.id = l.id"
                f" WHERE l.kind = {VERIFICATION} AND l.actor = ? AND l.waiting = 0"
                f" AND l.subject IN ({marks})",
                [issuer, *part],
            )
            rows.extend(map(Verification._make, found))
    return rows


def find_actor(reader: Reader, did_or_handle: str) -> int | None:
    """The id of a DID or handle; None when nobody here has it."""
    column = "did" if did_or_handle.startswith("did:") else "handle"
    found: int | None = reader.value(
        f"SELECT id FROM actor WHERE {column} = ?",
        (did_or_handle if column == "did" else did_or_handle.lower(),),
    )
    return found


def did_of(reader: Reader, actor: int) -> str:
    """The DID of an actor that has a row."""
    found: str = reader.value("SELECT did FROM actor WHERE id = ?", (actor,))
    return found


def rev(reader: Reader, actor: int) -> str | None:
    """The newest revision of the actor's repository that is applied here."""
    found: str | None = reader.value("SELECT rev FROM actor WHERE id = ?", (actor,))
    return found


def first_seen_ms(reader: Reader, actor: int) -> int | None:
    """When the account first showed up here."""
    found: int | None = reader.value("SELECT indexed_ms FROM actor WHERE id = ?", (actor,))
    return found


class Counts(NamedTuple):
    """The numbers of a profile."""

    follows: int
    followers: int
    posts: int


def counts(reader: Reader, ids: Collection[int]) -> dict[int, Counts]:
    """By actor; nobody without numbers is in it."""
    found: dict[int, Counts] = {}
    for marks, part in batches(ids):
        rows = reader.all(
            f"SELECT actor, follows, followers, posts FROM actor_count WHERE actor IN ({marks})", part
        )
        found.update((row[0], Counts(*row[1:])) for row in rows)
    return found


def owned(reader: Reader, actor: int, collection: int) -> int:
    """How many living records the actor has in a collection."""
    found: int = reader.value(
        "SELECT count(*) FROM record WHERE actor = ? AND collection = ? AND state = 1 AND takedown IS NULL",
        (actor, collection),
    )
    return found


def from_viewer(reader: Reader, viewer: int, ids: Collection[int]) -> list[tuple[int, int, str]]:
    """(kind, actor, record key): the viewer's follows and blocks of these."""
    found: list[tuple[int, int, str]] = []
    for marks, part in batches(ids):
        found.extend(
            reader.all(
                "SELECT l.kind, l.subject, r.rkey FROM link AS l INDEXED BY link_pair"
                " CROSS JOIN record AS r ON r.id = l.id"
                f" WHERE l.kind IN ({FOLLOW}, {BLOCK}) AND l.actor = ? AND l.waiting = 0"
                f" AND l.subject IN ({marks})",
                [viewer, *part],
            )
        )
    return found


def to_viewer(reader: Reader, viewer: int, ids: Collection[int]) -> list[tuple[int, int, str]]:
    """(kind, actor, record key): these actors' follows and blocks of the viewer."""
    found: list[tuple[int, int, str]] = []
    for marks, part in batches(ids):
        found.extend(
            reader.all(
                "SELECT l.kind, l.actor, r.rkey FROM link AS l INDEXED BY link_pair"
                " CROSS JOIN record AS r ON r.id = l.id"
                f" WHERE l.kind IN ({FOLLOW}, {BLOCK}) AND l.subject = ? AND l.waiting = 0"
                f" AND l.actor IN ({marks})",
                [viewer, *part],
            )
        )
    return found


def muted(reader: Reader, viewer: int, ids: Collection[int]) -> dict[int, int]:
    """Those of them whom the viewer muted, and of what: 0 everything, else bits of schema.sql."""
    found: dict[int, int] = {}
    if reader.value("SELECT 1 FROM mute WHERE viewer = ? LIMIT 1", (viewer,)) is None:
        return found
    for marks, part in batches(ids):
        rows = reader.all(
            f"SELECT subject, only FROM mute WHERE viewer = ? AND subject IN ({marks})", [viewer, *part]
        )
        found.update(rows)
    return found


def blocking_pairs(reader: Reader, pairs: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those (blocker, blocked) pairs among ``pairs`` that are so."""
    found: set[tuple[int, int]] = set()
    for marks, part in pair_batches(pairs):
        rows = reader.all(
            f"WITH pair (a, b) AS (VALUES {marks}) SELECT pair.a, pair.b FROM pair"
            " CROSS JOIN link AS l INDEXED BY link_pair"
            f" ON l.kind = {BLOCK} AND l.actor = pair.a AND l.subject = pair.b AND l.waiting = 0",
            part,
        )
        found.update((row[0], row[1]) for row in rows)
    return found


def has_blocks(reader: Reader) -> bool:
    """Whether anybody blocks anybody."""
    return reader.value(f"SELECT 1 FROM link WHERE kind = {BLOCK} AND waiting = 0 LIMIT 1") is not None
