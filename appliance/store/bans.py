"""Rows of those who may not come in."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Ban(NamedTuple):
    """Who, why, and since when."""

    did: str
    handle: str | None
    reason: str
    at_us: int


def reason(reader: Reader, actor: int) -> str | None:
    """Why they may not come in; None where they may."""
    found: str | None = reader.value("SELECT reason FROM ban WHERE actor = ?", (actor,))
    return found


def set_(tx: Transaction, actor: int, why: str, now_us: int) -> None:
    """They may not come in from now on."""
    tx.run(
        "INSERT INTO ban (actor, reason, at_us) VALUES (?, ?, ?)"
        " ON CONFLICT (actor) DO UPDATE SET reason = excluded.reason",
        (actor, why, now_us),
    )


def lift(tx: Transaction, actor: int) -> bool:
    """They may; False when they might before."""
    return tx.run("DELETE FROM ban WHERE actor = ?", (actor,)) > 0


def listing(reader: Reader) -> list[Ban]:
    """Everybody who may not, the latest first."""
    rows = reader.all(
        "SELECT a.did, a.handle, b.reason, b.at_us FROM ban b JOIN actor a ON a.id = b.actor"
        " ORDER BY b.at_us DESC, b.actor"
    )
    return list(map(Ban._make, rows))
