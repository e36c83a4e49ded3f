"""Lists by which members mute or block, and who is on them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from appliance.store import records
from appliance.store.database import Reader, Transaction

# ?1 is the record id of a list.
_HOLDS = """
(EXISTS (SELECT 1 FROM list_mute WHERE list = ?1)
 OR EXISTS (SELECT 1 FROM link b JOIN member m ON m.actor = b.actor
  WHERE b.kind = 5 AND b.subject = ?1 AND b.waiting = 0))
"""


class InForce(NamedTuple):
    """A list: its record id, its owner's DID, and its address."""

    record: int
    owner: str
    uri: str


def of_strangers(reader: Reader) -> list[InForce]:
    """Those of owners whose repositories are not read whole."""
    rows = reader.all(
        "SELECT r.id, a.did, 'at://' || a.did || '/app.bsky.graph.list/' || r.rkey FROM"
        " (SELECT list FROM list_mute UNION"
        "  SELECT b.subject FROM member m JOIN link b INDEXED BY link_by_actor"
        "   ON b.kind = 5 AND b.actor = m.actor AND b.waiting = 0) AS lists"
        " JOIN record r ON r.id = lists.list AND r.collection = 9 JOIN actor a ON a.id = r.actor"
        " WHERE NOT EXISTS (SELECT 1 FROM member o WHERE o.actor = r.actor) ORDER BY r.id"
    )
    return [InForce(*row) for row in rows]


def items(reader: Reader, uris: Collection[str]) -> list[str]:
    """Record keys of the living items of these lists."""
    found: list[str] = []
    for uri in uris:
        row = records.find(reader, uri)
        if row is not None:
            rows = reader.all(
                "SELECT r.rkey FROM link l JOIN record r ON r.id = l.id WHERE l.kind = 6 AND l.actor = ?",
                (row.id,),
            )
            found.extend(rkey for (rkey,) in rows)
    return found


def holds(tx: Transaction, uri: str) -> bool:
    """Whether any member mutes or blocks by this list."""
    found = records.find(tx, uri)
    return found is not None and bool(tx.value(f"SELECT {_HOLDS}", (found.id,)))
