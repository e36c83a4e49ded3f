"""Sign-ins by OAuth under way."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Flow(NamedTuple):
    """One of them; ``browser`` is the hash of the cookie of the browser that left."""

    browser: bytes
    sealed: bytes
    created_us: int


def add(tx: Transaction, state: bytes, browser: bytes, sealed: bytes, now_us: int) -> None:
    """Keep a new one under the hash of its state."""
    tx.run(
        "INSERT INTO oauth_flow (state, browser, sealed, created_us) VALUES (?, ?, ?, ?)",
        (state, browser, sealed, now_us),
    )


def take(tx: Transaction, state: bytes) -> Flow | None:
    """The one of this state, which is good once: of two who come with it one finds it gone."""
    row = tx.one("SELECT browser, sealed, created_us FROM oauth_flow WHERE state = ?", (state,))
    tx.run("DELETE FROM oauth_flow WHERE state = ?", (state,))
    return None if row is None else Flow(*row)


def count(reader: Reader) -> int:
    """How many are under way."""
    return int(reader.value("SELECT count(*) FROM oauth_flow"))


def remove_older(tx: Transaction, than_us: int) -> int:
    """Drop those that nobody came back for; how many."""
    return tx.run("DELETE FROM oauth_flow WHERE created_us < ?", (than_us,))
