"""Our own takedowns: marks on actors and records. What is marked stays stored, for the operator to see."""

from __future__ import annotations

from appliance.store.database import Reader, Transaction


def mark_actor(tx: Transaction, actor: int, reference: str | None) -> None:
    """Set or lift (None)."""
    tx.run("UPDATE actor SET takedown = ? WHERE id = ?", (reference, actor))


def mark_record(tx: Transaction, record: int, reference: str | None) -> None:
    """Set or lift (None)."""
    tx.run("UPDATE record SET takedown = ? WHERE id = ?", (reference, record))


def of_actor(reader: Reader, actor: int) -> str | None:
    """The reference of the takedown in force."""
    found: str | None = reader.value("SELECT takedown FROM actor WHERE id = ?", (actor,))
    return found


def of_record(reader: Reader, record: int) -> str | None:
    """The reference of the takedown in force."""
    found: str | None = reader.value("SELECT takedown FROM record WHERE id = ?", (record,))
    return found


def mark_blob(tx: Transaction, actor: int, cid: str, reference: str | None) -> None:
    """Set or lift (None) that of one owner's picture or video."""
    tx.run("DELETE FROM blob_takedown WHERE actor = ? AND cid = ?", (actor, cid))
    if reference is not None:
        tx.run("INSERT INTO blob_takedown (actor, cid, reference) VALUES (?, ?, ?)", (actor, cid, reference))


def of_blob(reader: Reader, did: str, cid: str) -> str | None:
    """The reference of the takedown in force."""
    found: str | None = reader.value(
        "SELECT b.reference FROM actor a JOIN blob_takedown b ON b.actor = a.id"
        " WHERE a.did = ? AND b.cid = ?",
        (did, cid),
    )
    return found
