"""Rows that decide whether a reply or quote is welcome."""

from __future__ import annotations

from typing import NamedTuple

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_at_uri
from appliance.store.collections import LIST, NUMBERS
from appliance.store.database import Reader


class Gate(NamedTuple):
    """A living gate: whose it is, its body, and the body of its post unless we never saw that."""

    owner: int
    body: bytes
    post: bytes | None


class ListAt(NamedTuple):
    """A list's record and its owner."""

    record: int
    owner: int


_GATE = (
    "SELECT p.actor, g.body, iif(p.state = 1, p.body, NULL) FROM record p"
    " JOIN record g ON g.actor = p.actor AND g.collection = {} AND g.rkey = p.rkey AND g.state = 1"
    " WHERE p.id = ?"
)
_THREAD_GATE = _GATE.format(7)
_POST_GATE = _GATE.format(8)


def thread_gate(reader: Reader, root: int) -> Gate | None:
    """The gate of the thread that begins with this post."""
    row = reader.one(_THREAD_GATE, (root,))
    return None if row is None else Gate(*row)


def post_gate(reader: Reader, post: int) -> Gate | None:
    """The gate of this post against quotes."""
    row = reader.one(_POST_GATE, (post,))
    return None if row is None else Gate(*row)


def list_at(reader: Reader, uri: str) -> ListAt | None:
    """The living list of that address."""
    try:
        at_uri = parse_at_uri(uri)
    except BadInput:
        return None
    if NUMBERS.get(at_uri.collection) != LIST:
        return None
    row = reader.one(
        "SELECT r.id, r.actor FROM record r JOIN actor a ON a.id = r.actor"
        " WHERE a.did = ? AND r.collection = ? AND r.rkey = ? AND r.state = 1",
        (at_uri.authority, LIST, at_uri.rkey),
    )
    return None if row is None else ListAt(*row)


def is_complete(reader: Reader, actor: int, collection: int) -> bool:
    """Has a scan read this collection of theirs to its end?"""
    return (
        reader.value("SELECT 1 FROM floor WHERE actor = ? AND collection = ?", (actor, collection))
        is not None
    )
