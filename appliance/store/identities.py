"""What is known of DID documents and handles, in the rows of actors."""

from __future__ import annotations

from typing import NamedTuple

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


def due(reader: Reader, limit: int) -> list[str]:
    """Accounts that show up in answers and whose document was never read, or may have changed."""
    return [
        did
        for (did,) in reader.all(
            "SELECT did FROM actor WHERE known = 1 AND resolved_us IS NULL ORDER BY id LIMIT ?", (limit,)
        )
    ]


def save(
    tx: Transaction,
    actor: int,
    *,
    handle: str | None,
    pds: str | None,
    signing_key: str | None,
    resolved_us: int,
) -> None:
    """Keep what a document said. Whoever held the handle before holds it no more."""
    if handle is not None:
        tx.run("UPDATE actor SET handle = NULL WHERE handle = ? AND id <> ?", (handle, actor))
    tx.run(
        "UPDATE actor SET handle = ?, pds = ?, signing_key = ?, resolved_us = ? WHERE id = ?",
        (handle, pds, signing_key, resolved_us, actor),
    )


def put_off(tx: Transaction, actor: int, resolved_us: int) -> None:
    """It could not be read: what is known stays, and the next try waits for its age."""
    tx.run("UPDATE actor SET resolved_us = ? WHERE id = ? AND resolved_us IS NULL", (resolved_us, actor))
