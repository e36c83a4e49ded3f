"""What a member has written, looked up before writing more."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store import links
from appliance.store.collections import NSIDS
from appliance.store.database import Reader


class Subject(NamedTuple):
    """A record to point at or to answer."""

    id: int
    actor: int
    did: str
    uri: str
    cid: str
    body: bytes


def keys_of_links(reader: Reader, kind: int, actor: int, subject: int) -> list[tuple[str, str]]:
    """(collection, record key) of every living record by which the actor points at the subject."""
    rows = reader.all(
        "SELECT r.collection, r.rkey FROM link l JOIN record r ON r.id = l.id"
        " WHERE l.kind = ?1 AND l.actor = ?2 AND l.subject = ?3 AND l.waiting = 0"
        " UNION ALL SELECT r.collection, r.rkey FROM link l JOIN record r ON r.id = l.id"
        " WHERE l.kind = ?1 AND l.actor = ?2 AND l.subject = ?3 AND l.waiting = 1",
        (kind, actor, subject),
    )
    return [(NSIDS[collection], rkey) for collection, rkey in rows]


def find_subject(reader: Reader, did: str, collection: int, rkey: str) -> Subject | None:
    """A living record by the parts of its address."""
    row = reader.one(
        "SELECT r.id, r.actor, r.cid, r.body FROM record r JOIN actor a ON a.id = r.actor"
        " WHERE a.did = ? AND r.collection = ? AND r.rkey = ? AND r.state = 1 AND r.takedown IS NULL",
        (did, collection, rkey),
    )
    if row is None:
        return None
    record, actor, cid, body = row
    return Subject(record, actor, did, f"at://{did}/{NSIDS[collection]}/{rkey}", cid, body)


def blocks_between(reader: Reader, one: int, other: int) -> bool:
    """Has either of them blocked the other?"""
    return links.exists(reader, links.BLOCK, one, other) or links.exists(reader, links.BLOCK, other, one)
