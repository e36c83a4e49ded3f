"""The feeds that we serve as a feed generator: rows of those that were published."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from appliance.store.database import Reader, Transaction

Kind: TypeAlias = Literal["all", "no_reposts", "no_replies", "media", "list"]


class OwnFeed(NamedTuple):
    """``uri`` is that of the generator record; ``list`` the list's where ``kind`` is list."""

    uri: str
    publisher: str
    kind: Kind
    list: str


_COLUMNS = "SELECT uri, publisher, kind, list FROM own_feed"


def find(reader: Reader, uri: str) -> OwnFeed | None:
    """One of them by its address."""
    row = reader.one(f"{_COLUMNS} WHERE uri = ?", (uri,))
    return None if row is None else OwnFeed(*row)


def listing(reader: Reader) -> list[OwnFeed]:
    """All, by address."""
    return [OwnFeed(*row) for row in reader.all(f"{_COLUMNS} ORDER BY uri")]


def of_publisher(reader: Reader, did: str) -> list[OwnFeed]:
    """Those in this account's repository."""
    return [OwnFeed(*row) for row in reader.all(f"{_COLUMNS} WHERE publisher = ? ORDER BY uri", (did,))]


def add(tx: Transaction, feed: OwnFeed, now_us: int) -> None:
    """It is published, perhaps anew."""
    tx.run(
        "INSERT INTO own_feed (uri, publisher, kind, list, published_us) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (uri) DO UPDATE SET kind = excluded.kind, list = excluded.list",
        (*feed, now_us),
    )


def remove(tx: Transaction, uris: Iterable[str]) -> None:
    """They are published no more."""
    tx.many("DELETE FROM own_feed WHERE uri = ?", [(uri,) for uri in uris])
