"""The words that searches compare, kept in the transaction of the rows that have them."""

from __future__ import annotations

from appliance.protocol import searchable, words
from appliance.protocol.searchable import Searchable
from appliance.store.collections import POST, PROFILE, STARTER_PACK
from appliance.store.database import Reader, Transaction

SEARCHED = frozenset({POST, STARTER_PACK})

_ADD = "INSERT INTO search (rowid, words, facts, pack) VALUES (?, ?, ?, ?)"
_PLACE = "INSERT INTO searched (place, record) VALUES (?, ?) ON CONFLICT (place) DO NOTHING"
_REMOVE = "INSERT INTO search (search, rowid, words, facts, pack) VALUES ('delete', ?, ?, ?, ?)"


def add(
    tx: Transaction, record: int, actor: int, collection: int, body: bytes, sort_ms: int, tie: int
) -> None:
    """A post or starter pack can be found from now on."""
    place = (max(0, sort_ms) << 20) + (tie >> 40)
    while not tx.run(_PLACE, (place, record)):
        place += 1
    tx.run(_ADD, (place, *_columns(collection, body, actor)))


def remove(tx: Transaction, record: int) -> None:
    """It can't be found any more. Has to come before its body goes."""
    row = tx.one(
        "SELECT s.place, r.collection, r.body, r.actor FROM searched s JOIN record r ON r.id = s.record"
        " WHERE s.record = ?",
        (record,),
    )
    if row is not None:
        place, *what = row
        tx.run(_REMOVE, (place, *_columns(*what)))
        tx.run("DELETE FROM searched WHERE place = ?", (place,))


def _columns(collection: int, body: bytes, actor: int) -> tuple[str, str, str]:
    if collection == STARTER_PACK:
        return "", "", " ".join(searchable.named(body))
    found: Searchable = searchable.post(body, actor)
    return found.words, found.facts, ""


def person(tx: Transaction, actor: int, *, without_profile: bool = False) -> None:
    """Handle or profile changed: find the account by what it shows now."""
    handle, body = _shown(tx, actor)
    name, about = searchable.named(body) if body is not None and not without_profile else ("", "")
    now = (words.fold(handle or ""), name, about)
    old = tx.one("SELECT handle, name, about FROM person WHERE actor = ?", (actor,))
    if old == now:
        return
    if old is not None:
        tx.run(
            "INSERT INTO person_search (person_search, rowid, handle, name, about)"
            " VALUES ('delete', ?, ?, ?, ?)",
            (actor, *old),
        )
    if not any(now):
        tx.run("DELETE FROM person WHERE actor = ?", (actor,))
        return
    tx.run("INSERT OR REPLACE INTO person (actor, handle, name, about) VALUES (?, ?, ?, ?)", (actor, *now))
    tx.run("INSERT INTO person_search (rowid, handle, name, about) VALUES (?, ?, ?, ?)", (actor, *now))


def profile_ends(tx: Transaction, record: int) -> None:
    """The account with this profile shows none any more."""
    person(tx, tx.value("SELECT actor FROM record WHERE id = ?", (record,)), without_profile=True)


def _shown(reader: Reader, actor: int) -> tuple[str | None, bytes | None]:
    row = reader.one(
        "SELECT a.handle, r.body FROM actor a LEFT JOIN record r ON r.actor = a.id AND r.collection = ?"
        " AND r.rkey = 'self' AND r.state = 1 WHERE a.id = ?",
        (PROFILE, actor),
    )
    return (None, None) if row is None else (row[0], row[1])
