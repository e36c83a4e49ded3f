"""Events that could not be applied, kept raw."""

from __future__ import annotations

from appliance.store.database import Reader, Transaction


def add(
    tx: Transaction, upstream: str, position: int | None, did: str | None, raw: bytes, error: str, now_us: int
) -> None:
    """Keep it for a person to look at."""
    tx.run(
        "INSERT INTO dead_letter (upstream, position, did, raw, error, at_us) VALUES (?, ?, ?, ?, ?, ?)",
        (upstream, position, did, raw, error, now_us),
    )


def count(reader: Reader) -> int:
    """How many there are; more than none is an alarm."""
    found: int = reader.value("SELECT count(*) FROM dead_letter")
    return found
