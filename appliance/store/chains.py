"""The chain of commits of each tracked repository: which one is the newest that was checked, and its tree."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Head(NamedTuple):
    """The newest commit of the chain; ``rev`` empty before the first. ``data_cid`` is the root of its
    tree, None where nobody told it. ``seen_rev`` is the newest that anybody has shown."""

    rev: str
    data_cid: str | None
    seen_rev: str
    cert_rev: str | None
    cert_us: int | None


def head(reader: Reader, actor: int) -> Head:
    """Of an account that has a row in ``repo``."""
    row = reader.one(
        "SELECT head_rev, data_cid, seen_rev, cert_rev, cert_us FROM repo WHERE actor = ?", (actor,)
    )
    assert row is not None
    return Head(*row)


def advance(tx: Transaction, actor: int, rev: str, data_cid: str) -> None:
    """The chain has reached this commit; belongs in the transaction of its rows."""
    tx.run(
        "UPDATE repo SET head_rev = ?2, data_cid = ?3, seen_rev = max(seen_rev, ?2)"
        " WHERE actor = ?1 AND head_rev <= ?2",
        (actor, rev, data_cid),
    )
