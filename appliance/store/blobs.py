"""Which blobs the living records of an account mention: what may be asked of its server for others."""

from __future__ import annotations

import re
from typing import Final

from appliance.store import collections
from appliance.store.database import Reader, Transaction

# Records that can show pictures or videos; likes, follows and gates can't.
COLLECTIONS: Final = frozenset(
    {
        collections.POST,
        collections.PROFILE,
        collections.LIST,
        collections.GENERATOR,
        collections.STARTER_PACK,
        collections.LABELER,
        collections.STATUS,
    }
)
# How blobs are named, also in the spelling of old records. CIDs of anything but bytes begin otherwise.
_MARK: Final = b'"bafkrei'
_NAMED: Final = re.compile(rb'"(?:\$link|cid)"\s*:\s*"(bafkrei[a-z2-7]{52})"')


def mention(tx: Transaction, record: int, actor: int, body: bytes) -> None:
    """The record lives, and this is what it says."""
    if _MARK not in body:
        return
    for cid in {match.decode() for match in _NAMED.findall(body)}:
        tx.run("INSERT OR IGNORE INTO blob (actor, cid, record) VALUES (?, ?, ?)", (actor, cid, record))


def forget(tx: Transaction, record: int) -> None:
    """It lives no more, or is about to say something else."""
    tx.run("DELETE FROM blob WHERE record = ?", (record,))


def is_shown(reader: Reader, did: str, cid: str) -> bool:
    """Whether some living record of an active account shows this blob, and nothing of it was taken down."""
    return (
        reader.value(
            "SELECT 1 FROM actor a JOIN blob b ON b.actor = a.id JOIN record r ON r.id = b.record"
            " WHERE a.did = ? AND b.cid = ? AND a.status IS NULL AND a.takedown IS NULL"
            " AND r.takedown IS NULL LIMIT 1",
            (did, cid),
        )
        is not None
    )
