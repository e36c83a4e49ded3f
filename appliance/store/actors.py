"""Rows of who somebody is; bare ones for those whom others only mention."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


def find_id(reader: Reader, did: str) -> int | None:
    """The actor's row id, or None for a DID never heard of."""
    found: int | None = reader.value("SELECT id FROM actor WHERE did = ?", (did,))
    return found


def did_of(reader: Reader, actor: int) -> str:
    """The DID of an actor that has a row."""
    found: str = reader.value("SELECT did FROM actor WHERE id = ?", (actor,))
    return found


def ensure(tx: Transaction, did: str, seen_us: int | None = None) -> int:
    """The actor's row id; a bare row is made where there was none.

    With ``seen_us`` the actor itself has shown up then, and exists from now on for those who ask.
    """
    row = tx.one("SELECT id, known FROM actor WHERE did = ?", (did,))
    if row is None:
        if seen_us is None:
            return tx.insert("INSERT INTO actor (did) VALUES (?)", (did,))
        return tx.insert(
            "INSERT INTO actor (did, known, indexed_ms) VALUES (?, 1, ?)", (did, seen_us // 1000)
        )
    actor: int = row[0]
    if seen_us is not None and not row[1]:
        seen(tx, actor, seen_us)
    return actor


def seen(tx: Transaction, actor: int, seen_us: int) -> None:
    """The actor itself has shown up: it exists from now on for those who ask."""
    tx.changed.actors.add(actor)
    tx.run(
        "UPDATE actor SET known = 1, indexed_ms = coalesce(indexed_ms, ?) WHERE id = ? AND known = 0",
        (seen_us // 1000, actor),
    )


def applied_rev(tx: Transaction, actor: int, rev: str, seen_us: int) -> None:
    """Rows of this rev are in: the newest such rev is what Atproto-Repo-Rev says."""
    tx.changed.actors.add(actor)
    tx.run(
        "UPDATE actor SET rev = max(coalesce(rev, ''), ?1), known = 1, indexed_ms = coalesce(indexed_ms, ?2)"
        " WHERE id = ?3 AND (rev IS NULL OR rev < ?1 OR known = 0)",
        (rev, seen_us // 1000, actor),
    )


def set_status(tx: Transaction, actor: int, status: str | None, upstream: str, seq: int) -> bool:
    """Take an upstream's word about the account; False when that upstream has said something newer.

    Numbers of two upstreams don't compare: between them the later arrival wins.
    """
    return (
        tx.run(
            "UPDATE actor SET status = ?1, status_upstream = ?2, status_seq = ?3 WHERE id = ?4"
            " AND (status_upstream IS NOT ?2 OR status_seq <= ?3)",
            (status, upstream, seq, actor),
        )
        > 0
    )


class Word(NamedTuple):
    """The last that was heard about an account as a whole: by whom, and its number there."""

    upstream: str | None
    seq: int


def last_word(reader: Reader, actor: int) -> Word:
    """To be read before a server is asked: when it has changed, the answer may be the older of the two."""
    row = reader.one("SELECT status_upstream, status_seq FROM actor WHERE id = ?", (actor,))
    return Word(None, 0) if row is None else Word(*row)


def confirm_status(tx: Transaction, actor: int, status: str | None) -> None:
    """What the account's own PDS says; what upstreams said before stays outdated."""
    tx.run("UPDATE actor SET status = ? WHERE id = ?", (status, actor))


def identity_due(tx: Transaction, actor: int) -> None:
    """What we know of document and handle may have changed."""
    tx.run("UPDATE actor SET resolved_us = NULL WHERE id = ?", (actor,))
