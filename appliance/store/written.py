"""What members had written at their servers from here: each record's key, kept before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from appliance.store.database import Reader, Transaction

Action = Literal["create", "update", "delete"]
Outcome = Literal["sent", "done", "refused", "unknown"]


class Write(NamedTuple):
    """One record that was to be written or deleted. ``sent``: nobody has heard what became of it."""

    id: int
    form: str
    action: Action
    collection: str
    rkey: str
    at_us: int
    outcome: Outcome

    @property
    def open(self) -> bool:
        """May it have been done without our knowing?"""
        return self.outcome in ("sent", "unknown")


def begin(
    tx: Transaction, actor: int, form: str, what: Sequence[tuple[Action, str, str]], now_us: int
) -> list[int]:
    """These (action, collection, key) are about to be sent; their numbers."""
    return [
        tx.insert(
            "INSERT INTO written (actor, form, action, collection, rkey, at_us) VALUES (?, ?, ?, ?, ?, ?)",
            (actor, form, action, collection, rkey, now_us),
        )
        for action, collection, rkey in what
    ]


def settle(tx: Transaction, numbers: Sequence[int], outcome: Outcome) -> None:
    """It is known what became of them."""
    for number in numbers:
        tx.run("UPDATE written SET outcome = ? WHERE id = ?", (outcome, number))


def last(reader: Reader, actor: int, form: str) -> Write | None:
    """The newest by this form or button that was not surely in vain.

    A second try that was refused says nothing of the first, which may still be done under its key.
    """
    row = reader.one(
        "SELECT id, form, action, collection, rkey, at_us, outcome FROM written"
        " WHERE actor = ? AND form = ? AND outcome <> 'refused' ORDER BY id DESC LIMIT 1",
        (actor, form),
    )
    return None if row is None else Write(*row)


def forget(tx: Transaction, before_us: int) -> int:
    """Drop what is older; how many."""
    return tx.run("DELETE FROM written WHERE at_us < ?", (before_us,))
