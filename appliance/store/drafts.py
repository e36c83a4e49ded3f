"""Posts that members have begun and not sent."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Draft(NamedTuple):
    """One draft; ``key`` is its place in the list."""

    key: str
    body: bytes
    created_us: int
    updated_us: int


def create(tx: Transaction, viewer: int, key: str, body: bytes, now_us: int, at_most: int) -> bool:
    """False where the viewer has as many as may be kept."""
    return (
        tx.run(
            "INSERT INTO draft (viewer, key, body, created_us, updated_us) SELECT ?1, ?2, ?3, ?4, ?4"
            " WHERE (SELECT count(*) FROM draft WHERE viewer = ?1) < ?5",
            (viewer, key, body, now_us, at_most),
        )
        > 0
    )


def update(tx: Transaction, viewer: int, key: str, body: bytes, now_us: int) -> None:
    """Replace it, if it is there."""
    tx.run(
        "UPDATE draft SET body = ?, updated_us = ? WHERE viewer = ? AND key = ?", (body, now_us, viewer, key)
    )


def delete(tx: Transaction, viewer: int, key: str) -> None:
    """Whether or not it is there."""
    tx.run("DELETE FROM draft WHERE viewer = ? AND key = ?", (viewer, key))


def page(reader: Reader, did: str, before: str, limit: int) -> list[Draft]:
    """Those of this viewer below that key, the latest first."""
    rows = reader.all(
        "SELECT d.key, d.body, d.created_us, d.updated_us FROM actor a JOIN draft d ON d.viewer = a.id"
        " WHERE a.did = ?1 AND (?2 = '' OR d.key < ?2) ORDER BY d.key DESC LIMIT ?3",
        (did, before, limit),
    )
    return list(map(Draft._make, rows))
