"""Differences between our rows and a repository: what was lost, by which door, and what became of it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from appliance.protocol.tid import tid_of
from appliance.store import upstreams
from appliance.store.database import Reader, Transaction

Kind: TypeAlias = Literal["missing", "extra", "differs"]
Settled: TypeAlias = Literal["repaired", "late", "accepted"]

# The door of what no stream could have delivered.
BY_SCAN: Final = "scan"
# The stream may still bring it by itself: nobody is told before it had the time to.
IN_FLIGHT: Final = "in flight"
_SNAPSHOT: Final = 2_147_483_647


class Difference(NamedTuple):
    """One key. ``ours`` and ``theirs`` are CIDs, None where there is no living record."""

    collection: int
    rkey: str
    ours: str | None
    theirs: str | None

    @property
    def kind(self) -> Kind:
        """What is wrong with our side."""
        if self.ours is None:
            return "missing"
        return "extra" if self.theirs is None else "differs"


class Finding(NamedTuple):
    """A row."""

    id: int
    actor: int
    collection: int
    rkey: str
    kind: Kind
    ours: str | None
    theirs: str | None
    level: str
    rev: str
    door: str
    from_us: int | None
    to_us: int | None
    found_us: int
    outcome: str
    settled_us: int | None
    note: str


_COLUMNS: Final = ", ".join(Finding._fields)


def door_at(reader: Reader, time_us: int) -> str:
    """The upstream that was read at that upstream time, else the newest; BY_SCAN where there is none."""
    name = reader.value(
        "SELECT upstream FROM coverage WHERE coalesce(from_us, opened_us) <= ?1"
        " AND coalesce(to_us, ?1) >= ?1 ORDER BY id DESC LIMIT 1",
        (time_us,),
    )
    if name is not None:
        return str(name)
    found = upstreams.newest(reader)
    return BY_SCAN if found is None else found[0]


def add(
    tx: Transaction,
    actor: int,
    difference: Difference,
    *,
    level: str,
    rev: str,
    door: str,
    from_us: int | None,
    to_us: int,
    now_us: int,
    outcome: Literal["open", "repaired", "accepted"] = "open",
    note: str = "",
) -> Finding | None:
    """Note one; None where it is noted already and still open, or accepted."""
    known = tx.value(
        "SELECT 1 FROM finding WHERE actor = ?1 AND collection = ?2 AND rkey = ?3"
        " AND (outcome = 'open' OR (outcome = 'accepted' AND coalesce(ours, theirs) = coalesce(?4, ?5)))",
        (actor, difference.collection, difference.rkey, difference.ours, difference.theirs),
    )
    if known is not None:
        return None
    number = tx.insert(
        "INSERT INTO finding (actor, collection, rkey, kind, ours, theirs, level, rev, door, from_us, to_us,"
        " found_us, outcome, settled_us, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            actor,
            difference.collection,
            difference.rkey,
            difference.kind,
            difference.ours,
            difference.theirs,
            level,
            rev,
            door,
            from_us,
            to_us,
            now_us,
            outcome,
            None if outcome == "open" else now_us,
            note,
        ),
    )
    return _get(tx, number)


def settle(tx: Transaction, actor: int, now_us: int, *, whole: bool) -> list[Finding]:
    """Close what is right by now: repaired by a snapshot, or brought late by a stream; which they are.

    A key that has moved on since, so that what was found says nothing of it any more, counts as repaired too.
    ``whole``: everything is as it is at the PDS, by a look that began after these were found. Then nothing
    stays open, whatever has become of a key: the PDS may have gone back to an older rev, or have lost again
    what was missing here.
    """
    rows = tx.all(
        "SELECT f.id, f.theirs, f.rev, r.state, r.rev, r.n, r.cid FROM finding f LEFT JOIN record r"
        " ON r.actor = f.actor AND r.collection = f.collection AND r.rkey = f.rkey"
        " WHERE f.actor = ? AND f.outcome = 'open'",
        (actor,),
    )
    closed = []
    for number, theirs, found_rev, state, rev, n, cid in rows:
        here = cid if state in (1, 3) else None
        outcome: Settled = "repaired" if n is None or n == _SNAPSHOT else "late"
        note = ""
        if here != theirs:
            if not whole and (rev is None or rev <= found_rev):
                continue
            note = "the key has changed since"
        tx.run(
            "UPDATE finding SET outcome = ?, settled_us = ?, note = iif(? = '', note, ?) WHERE id = ?",
            (outcome, now_us, note, note, number),
        )
        closed.append(_get(tx, number))
    return closed


def any_in_flight(reader: Reader) -> bool:
    """Is there anything that a stream may still bring?"""
    return reader.value(f"SELECT 1 FROM finding WHERE note = '{IN_FLIGHT}' LIMIT 1") is not None


def came_late(tx: Transaction, actor: int, collection: int, rkey: str, cid: str | None, now_us: int) -> int:
    """The stream brought it after all, within its lag: then nothing was lost."""
    return tx.run(
        "UPDATE finding SET outcome = 'late', settled_us = ?5, note = '' WHERE actor = ?1"
        f" AND collection = ?2 AND rkey = ?3 AND theirs IS ?4 AND note = '{IN_FLIGHT}'",
        (actor, collection, rkey, cid, now_us),
    )


def no_more_in_flight(tx: Transaction, before_us: int) -> list[Finding]:
    """What was found before then and that no stream has brought: it is lost, and is to be told."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM finding WHERE note = '{IN_FLIGHT}' AND found_us <= ?", (before_us,)
    )
    tx.run(f"UPDATE finding SET note = '' WHERE note = '{IN_FLIGHT}' AND found_us <= ?", (before_us,))
    return [Finding(*row)._replace(note="") for row in rows]


def open_of(reader: Reader, actor: int) -> list[Finding]:
    """The account's findings that are not settled."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM finding WHERE actor = ? AND outcome = 'open'", (actor,))
    return [Finding(*row) for row in rows]


def accepted(reader: Reader, actor: int) -> set[tuple[int, str, str]]:
    """(collection, rkey, cid) of records that the signed repository holds and its PDS does not show."""
    return {
        (collection, rkey, cid)
        for collection, rkey, cid in reader.all(
            "SELECT collection, rkey, coalesce(theirs, ours) FROM finding"
            " WHERE actor = ? AND outcome = 'accepted'",
            (actor,),
        )
    }


def withdrawn(reader: Reader, actor: int, difference: Difference) -> bool:
    """Was this record, with this CID, found too much in a listing before and removed, and has the signed
    tree brought it back?"""
    return (
        reader.value(
            "SELECT 1 FROM finding f JOIN repo p ON p.actor = f.actor AND p.cert_method = 'signed'"
            " JOIN record r ON r.actor = f.actor AND r.collection = f.collection AND r.rkey = f.rkey"
            " WHERE f.actor = ? AND f.collection = ? AND f.rkey = ? AND f.kind = 'extra' AND f.ours = ?"
            f" AND f.outcome = 'repaired' AND r.cid = f.ours AND r.n = {_SNAPSHOT}",
            (actor, difference.collection, difference.rkey, difference.ours),
        )
        is not None
    )


def repaired_since(reader: Reader, actor: int, found_us: int) -> int:
    """How many of the findings from then on are settled."""
    found: int = reader.value(
        "SELECT count(*) FROM finding WHERE actor = ? AND found_us >= ? AND outcome IN ('repaired', 'late')",
        (actor, found_us),
    )
    return found


def dark_hosts(reader: Reader, since_us: int) -> list[str]:
    """PDSs of which something was lost since then and no stream has shown anything after that."""
    lost = reader.all(
        "SELECT a.pds, max(f.found_us) FROM finding f JOIN actor a ON a.id = f.actor"
        " WHERE f.found_us > ? AND f.kind = 'missing' AND f.outcome IN ('open', 'repaired')"
        " AND f.door <> ? AND a.pds IS NOT NULL GROUP BY a.pds",
        (since_us, BY_SCAN),
    )
    return [
        pds
        for pds, found_us in lost
        if reader.value(
            "SELECT 1 FROM actor a JOIN repo r ON r.actor = a.id WHERE a.pds = ?"
            " AND r.seen_rev > r.base_rev AND r.seen_rev > ? LIMIT 1",
            (pds, tid_of(found_us)),
        )
        is None
    ]


def live_on(reader: Reader, pds: str) -> list[int]:
    """LIVE accounts of that PDS."""
    return [
        row[0]
        for row in reader.all(
            "SELECT r.actor FROM actor a JOIN repo r ON r.actor = a.id"
            " WHERE a.pds = ? AND r.state = 'LIVE' AND r.refs > 0",
            (pds,),
        )
    ]


def _get(reader: Reader, number: int) -> Finding:
    row = reader.one(f"SELECT {_COLUMNS} FROM finding WHERE id = ?", (number,))
    assert row is not None
    return Finding(*row)
