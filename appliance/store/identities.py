"""What is known of DID documents and handles, in the rows of actors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from appliance.store.database import Reader, Transaction


class Known(NamedTuple):
    """The last document that was read. ``handle`` is confirmed both ways."""

    actor: int
    did: str
    handle: str | None
    pds: str | None
    signing_key: str | None
    resolved_us: int | None


_COLUMNS = "SELECT id, did, handle, pds, signing_key, resolved_us FROM actor"


def find(reader: Reader, did: str) -> Known | None:
    """What is known of this DID; None for one never heard of."""
    row = reader.one(f"{_COLUMNS} WHERE did = ?", (did,))
    return None if row is None else Known(*row)


def due(reader: Reader, now_us: int, limit: int) -> list[str]:
    """Accounts that show up in answers and whose document was never read, or may have changed.

    ``resolved_us`` NULL: due at once; negative: put off until that many microseconds since 1970.
    """
    rows = reader.all(
        "SELECT did FROM actor WHERE known = 1 AND resolved_us IS NULL ORDER BY id LIMIT ?", (limit,)
    )
    rows += reader.all(
        "SELECT did FROM actor WHERE resolved_us < 0 AND resolved_us >= ? ORDER BY resolved_us DESC LIMIT ?",
        (-now_us, limit),
    )
    return [did for (did,) in rows[:limit]]


def stale(reader: Reader, before_us: int, without: Iterable[str], limit: int) -> list[str]:
    """Tracked accounts whose document was last read before then, the oldest first; leaving these out."""
    rows = reader.all(
        "SELECT a.did FROM repo r JOIN actor a ON a.id = r.actor WHERE a.resolved_us > 0"
        " AND a.resolved_us < ?1 AND a.did NOT IN (SELECT value FROM json_each(?2))"
        " ORDER BY a.resolved_us LIMIT ?3",
        (before_us, orjson.dumps(list(without)).decode(), limit),
    )
    return [did for (did,) in rows]


def claim(tx: Transaction, did: str, until_us: int) -> None:
    """It is being read now. What is made due from here on stays due when the reading ends."""
    tx.run(
        "UPDATE actor SET resolved_us = ? WHERE did = ? AND (resolved_us IS NULL OR resolved_us < 0)",
        (-until_us, did),
    )


def save(
    tx: Transaction,
    actor: int,
    *,
    handle: str | None,
    pds: str | None,
    signing_key: str | None,
    resolved_us: int,
    claimed: bool = False,
) -> None:
    """Keep what a document said. Whoever held the handle before holds it no more.

    With ``claimed`` an account made due since then stays due: the document may be older than that.
    """
    if handle is not None:
        tx.run("UPDATE actor SET handle = NULL WHERE handle = ? AND id <> ?", (handle, actor))
    tx.run(
        "UPDATE actor SET handle = ?, pds = ?, signing_key = ?,"
        " resolved_us = iif(? AND resolved_us IS NULL, NULL, ?) WHERE id = ?",
        (handle, pds, signing_key, claimed, resolved_us, actor),
    )


def put_off(tx: Transaction, did: str, until_us: int) -> None:
    """It could not be read: what is known stays, and the next try is then."""
    tx.run(
        "UPDATE actor SET resolved_us = ? WHERE did = ? AND (resolved_us IS NULL OR resolved_us < 0)",
        (-until_us, did),
    )
