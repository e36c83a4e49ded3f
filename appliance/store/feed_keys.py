"""Private addresses under which members read their timelines as feeds; only their hashes are kept."""

from __future__ import annotations

import hashlib

from appliance.store.database import Reader, Transaction


def hashed(key: str) -> bytes:
    """Under which a key is kept: whoever reads the table can't use it."""
    return hashlib.sha256(b"feed " + key.encode()).digest()


def find(reader: Reader, key: str) -> tuple[str, str] | None:
    """Whose timeline it is, and which; None for a key that is none, or of nobody who still belongs here."""
    row = reader.one(
        "SELECT a.did, k.timeline FROM feed_key AS k JOIN actor AS a ON a.id = k.viewer"
        " JOIN member AS m ON m.actor = k.viewer WHERE k.token = ?",
        (hashed(key),),
    )
    return None if row is None else (row[0], row[1])


def add(tx: Transaction, viewer: int, key: str, timeline: str, now_us: int) -> None:
    """A new one."""
    tx.run(
        "INSERT INTO feed_key (viewer, token, timeline, created_us) VALUES (?, ?, ?, ?)",
        (viewer, hashed(key), timeline, now_us),
    )


def listing(reader: Reader, viewer: int) -> list[tuple[int, int]]:
    """Number and time of each."""
    rows = reader.all("SELECT id, created_us FROM feed_key WHERE viewer = ? ORDER BY id", (viewer,))
    return [(row[0], row[1]) for row in rows]


def revoke(tx: Transaction, viewer: int, number: int) -> None:
    """Whether or not there was one."""
    tx.run("DELETE FROM feed_key WHERE viewer = ? AND id = ?", (viewer, number))
