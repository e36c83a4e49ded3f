"""What labelers say, how far each was heard, and which of them members ask for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from appliance.protocol.labels import Label
from appliance.store.batches import text_batches
from appliance.store.database import Reader, Transaction


class Heard(NamedTuple):
    """How far a labeler was heard. ``asked_to`` is an actor's id."""

    did: str
    endpoint: str
    key: str
    seq: int | None
    asked_to: int
    labels: int
    refused: int
    heard_us: int | None
    error: str


_HEARD = "SELECT did, endpoint, key, seq, asked_to, labels, refused, heard_us, error FROM labeler"


def find(reader: Reader, did: str) -> Heard | None:
    """Of one labeler; None for one that was never reached."""
    row = reader.one(f"{_HEARD} WHERE did = ?", (did,))
    return None if row is None else Heard(*row)


def opened(tx: Transaction, did: str, endpoint: str, key: str) -> Heard:
    """The labeler is there, under this key: where to go on.

    At another endpoint its numbers are others; under another key what was refused before may be right.
    """
    tx.run(
        "INSERT INTO labeler (did, endpoint, key) VALUES (?1, ?2, ?3) ON CONFLICT (did) DO UPDATE SET"
        " seq = iif(endpoint = ?2, seq, NULL), asked_to = iif(endpoint = ?2 AND key = ?3, asked_to, 0),"
        " endpoint = ?2, key = ?3, error = ''",
        (did, endpoint, key),
    )
    found = find(tx, did)
    assert found is not None
    return found


def begin_anew(tx: Transaction, did: str, *, keep_position: bool = False) -> None:
    """Something was missed: everything that it says is to be asked for again."""
    tx.run(
        "UPDATE labeler SET asked_to = 0, seq = iif(?2, seq, NULL) WHERE did = ?1", (did, int(keep_position))
    )


def advance(tx: Transaction, did: str, seq: int | None, refused: int, now_us: int) -> None:
    """Everything up to here is in; belongs in the transaction of the labels. A position never goes back."""
    tx.run(
        "UPDATE labeler SET seq = iif(?2 IS NULL, seq, max(coalesce(seq, 0), ?2)), refused = refused + ?3,"
        " heard_us = ?4, error = '' WHERE did = ?1",
        (did, seq, refused, now_us),
    )


def failed(tx: Transaction, did: str, error: str) -> None:
    """Why it is not heard now."""
    tx.run("UPDATE labeler SET error = ? WHERE did = ?", (error, did))


def put(tx: Transaction, labels: Iterable[Label], *, later: bool) -> int:
    """Take these statements; how many changed anything. Older ones than what is known change nothing.

    ``later``: they were said after everything that is known, also where the clock shows the same time.
    """
    changed = 0
    for label in labels:
        known = tx.one(
            "SELECT cts_us FROM label WHERE uri = ? AND src = ? AND val = ? AND cid = ?",
            (label.uri, label.src, label.val, label.cid),
        )
        if known is not None and (known[0] > label.cts_us or (known[0] == label.cts_us and not later)):
            continue
        changed += 1
        tx.run(
            "INSERT INTO label (src, uri, val, cid, neg, cts, exp, sig, cts_us)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            " ON CONFLICT (uri, src, val, cid) DO UPDATE"
            " SET neg = ?5, cts = ?6, exp = ?7, sig = ?8, cts_us = ?9",
            (
                *(label.src, label.uri, label.val, label.cid),
                *(int(label.neg), label.cts, label.exp, label.sig if label.usual else None, label.cts_us),
            ),
        )
        if known is None:
            tx.run("UPDATE labeler SET labels = labels + 1 WHERE did = ?", (label.src,))
    return changed


class Stated(NamedTuple):
    """A label in force, as it was signed."""

    src: str
    uri: str
    val: str
    cid: str
    cts: str
    exp: str | None
    sig: bytes | None


def stated(reader: Reader, uris: Collection[str], sources: Collection[str]) -> list[Stated]:
    """What these labelers say about exactly these addresses and have not taken back."""
    wanted = frozenset(sources)
    found: list[Stated] = []
    for marks, part in text_batches(uris):
        rows = reader.all(
            f"SELECT src, uri, val, cid, cts, exp, sig FROM label WHERE uri IN ({marks}) AND neg = 0", part
        )
        found.extend(Stated(*row) for row in rows if row[0] in wanted)
    return found


# ------------------------------------------------------------ about whom


def known(reader: Reader, dids: Collection[str]) -> frozenset[str]:
    """Those of these accounts that have a row here."""
    found: set[str] = set()
    for marks, part in text_batches(dids):
        found.update(row[0] for row in reader.all(f"SELECT did FROM actor WHERE did IN ({marks})", part))
    return frozenset(found)


def not_asked(reader: Reader, did: str, limit: int) -> tuple[int, list[tuple[int, str]]]:
    """Actors about whom this labeler was not asked: from which id on, and the next of them in order."""
    row = reader.one("SELECT asked_to FROM labeler WHERE did = ?", (did,))
    begin = 0 if row is None else row[0]
    found = reader.all("SELECT id, did FROM actor WHERE id > ? ORDER BY id LIMIT ?", (begin, limit))
    return begin, [(actor, name) for actor, name in found]


def asked(tx: Transaction, did: str, begin: int, end: int) -> None:
    """Those after ``begin`` up to ``end`` were, unless meanwhile all are to be asked about again."""
    tx.run("UPDATE labeler SET asked_to = ?3 WHERE did = ?1 AND asked_to = ?2", (did, begin, end))


# ------------------------------------------------------------ for whom


def subscribe(tx: Transaction, viewer: int, dids: Iterable[str], now_us: int, most: int) -> None:
    """This member's client asked for these labelers; of more than ``most`` the oldest are forgotten."""
    for did in dids:
        tx.run(
            "INSERT INTO labeler_subscription (viewer, did, seen_us) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (viewer, did) DO UPDATE SET seen_us = ?3",
            (viewer, did, now_us),
        )
    tx.run(
        "DELETE FROM labeler_subscription WHERE viewer = ?1 AND did NOT IN"
        " (SELECT did FROM labeler_subscription WHERE viewer = ?1 ORDER BY seen_us DESC, did LIMIT ?2)",
        (viewer, most),
    )


def forget_subscriptions(tx: Transaction, before_us: int) -> None:
    """Those that nobody asked for since then."""
    tx.run("DELETE FROM labeler_subscription WHERE seen_us < ?", (before_us,))


def subscribed(reader: Reader, limit: int) -> list[str]:
    """The labelers that members ask for; those of most members first."""
    rows = reader.all(
        "SELECT did FROM labeler_subscription GROUP BY did ORDER BY count(*) DESC, did LIMIT ?", (limit,)
    )
    return [row[0] for row in rows]


def subscribed_by(reader: Reader, viewer: int) -> list[str]:
    """The labelers that this member asks for."""
    rows = reader.all("SELECT did FROM labeler_subscription WHERE viewer = ? ORDER BY did", (viewer,))
    return [row[0] for row in rows]


def all_heard(reader: Reader) -> list[Heard]:
    """Every labeler that was ever reached."""
    return [Heard(*row) for row in reader.all(f"{_HEARD} ORDER BY did")]
