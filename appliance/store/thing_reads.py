"""Lists, feeds, labelers, starter packs and gates as pages show them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_at_uri
from appliance.store.batches import batches
from appliance.store.collections import NUMBERS
from appliance.store.database import Reader


class ThingRow(NamedTuple):
    """A living record that has a view of its own and is no post."""

    id: int
    actor: int
    collection: int
    rkey: str
    cid: str
    takedown: str | None
    likes: int | None


def things(reader: Reader, ids: Collection[int]) -> list[ThingRow]:
    """Those of these records that live and are lists, feeds, starter packs or labelers."""
    rows: list[ThingRow] = []
    for marks, part in batches(ids):
        found = reader.all(
            "SELECT r.id, r.actor, r.collection, r.rkey, r.cid, r.takedown, c.likes"
            " FROM record r LEFT JOIN post_count c ON c.id = r.id"
            f" WHERE r.id IN ({marks}) AND r.state = 1 AND r.collection IN (9, 12, 13, 14)",
            part,
        )
        rows.extend(map(ThingRow._make, found))
    return rows


class GateRow(NamedTuple):
    """A gate that stands beside a post."""

    post: int
    id: int
    collection: int
    rkey: str
    cid: str
    takedown: str | None


def gates(reader: Reader, posts: Collection[int]) -> list[GateRow]:
    """The gates of these posts."""
    rows: list[GateRow] = []
    for marks, part in batches(posts):
        found = reader.all(
            "SELECT p.id, g.id, g.collection, g.rkey, g.cid, g.takedown FROM record p"
            " CROSS JOIN record g ON g.actor = p.actor AND g.collection IN (7, 8) AND g.rkey = p.rkey"
            f" WHERE p.id IN ({marks}) AND g.state = 1",
            part,
        )
        rows.extend(map(GateRow._make, found))
    return rows


def muted_threads(reader: Reader, viewer: int, roots: Collection[int]) -> set[int]:
    """Those of these threads that the viewer muted."""
    found: set[int] = set()
    if reader.value("SELECT 1 FROM thread_mute WHERE viewer = ? LIMIT 1", (viewer,)) is None:
        return found
    for marks, part in batches(roots):
        rows = reader.all(
            f"SELECT root FROM thread_mute WHERE viewer = ? AND root IN ({marks})", [viewer, *part]
        )
        found.update(row[0] for row in rows)
    return found


class Subscription(NamedTuple):
    """What of an account a viewer wants to be told."""

    subject: int
    post: bool
    reply: bool


def subscriptions(reader: Reader, viewer: int, people: Collection[int]) -> list[Subscription]:
    """Those of the viewer to these people."""
    found: list[Subscription] = []
    if reader.value("SELECT 1 FROM activity_subscription WHERE viewer = ? LIMIT 1", (viewer,)) is None:
        return found
    for marks, part in batches(people):
        rows = reader.all(
            "SELECT subject, post, reply FROM activity_subscription"
            f" WHERE viewer = ? AND subject IN ({marks})",
            [viewer, *part],
        )
        found.extend(Subscription(row[0], bool(row[1]), bool(row[2])) for row in rows)
    return found


def find(reader: Reader, uri: str) -> int | None:
    """The record at this address, living or not."""
    try:
        at = parse_at_uri(uri)
    except BadInput:
        return None
    found: int | None = reader.value(
        "SELECT r.id FROM actor a CROSS JOIN record r ON r.actor = a.id AND r.collection = ? AND r.rkey = ?"
        " WHERE a.did = ?",
        (NUMBERS.get(at.collection), at.rkey, at.authority),
    )
    return found


def find_feed(reader: Reader, uri: str) -> int | None:
    """The living, not taken down record of a feed at this address, which may name its owner by handle."""
    try:
        at = parse_at_uri(uri)
    except BadInput:
        return None
    owner = "did" if at.authority.startswith("did:") else "handle"
    found: int | None = reader.value(
        f"SELECT r.id FROM actor a CROSS JOIN record r ON r.actor = a.id AND r.collection = ? AND r.rkey = ?"
        f" WHERE a.{owner} = ? AND r.collection = 12 AND r.state = 1 AND r.takedown IS NULL"
        " AND a.takedown IS NULL AND a.status IS NULL",
        (NUMBERS.get(at.collection), at.rkey, at.authority),
    )
    return found


def is_on(reader: Reader, list_record: int, person: int) -> bool:
    """Whether somebody is on a list."""
    return (
        reader.value(
            "SELECT 1 FROM link INDEXED BY link_pair"
            " WHERE kind = 6 AND actor = ? AND subject = ? AND waiting = 0",
            (list_record, person),
        )
        is not None
    )


def joined(reader: Reader, packs: Collection[int], since_ms: int) -> dict[int, tuple[int, int]]:
    """By starter pack: how many came by it, and how many of them since then."""
    found: dict[int, tuple[int, int]] = {}
    for marks, part in batches(packs):
        for pack, ever, lately in reader.all(
            "SELECT subject, count(*), sum(sort_ms >= ?) FROM link INDEXED BY link_by_subject"
            f" WHERE kind = 7 AND subject IN ({marks}) AND waiting = 0 GROUP BY subject",
            [since_ms, *part],
        ):
            found[pack] = (ever, lately)
    return found
