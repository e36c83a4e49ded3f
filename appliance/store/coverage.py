"""What the streams carry: the mode in force, a row for each connection, and whose coverage is proved.

In FULL everybody's events are read, and an account is covered from the writer's position on at which it
became wanted. In the other modes the upstream was given a list: an account is covered once a connection
that asked for it from its start cursor on is known to deliver (``prove``). ``repo.cover_us`` is NULL
until then, and whoever has it is carried by the connections in force, up to their stored positions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, NamedTuple, TypeAlias

import orjson

from appliance.store.database import Reader, Transaction

Mode: TypeAlias = Literal["FULL", "DIDS", "DIDS-V2"]
MODES: Final[tuple[Mode, ...]] = ("FULL", "DIDS", "DIDS-V2")

_LIVE_MARGIN_US: Final = 60_000_000
_KEPT_US: Final = 30 * 86_400_000_000


class Connection(NamedTuple):
    """A row of ``coverage``. ``live_us`` and ``sealed_us`` are None while that is not proved."""

    id: int
    upstream: str
    mode: Mode
    filter: str
    accounts: int | None
    opened_us: int
    from_seq: int | None
    from_us: int | None
    live_us: int | None
    sealed_us: int | None
    to_us: int | None
    closed_us: int | None
    why: str


_COLUMNS = ", ".join(Connection._fields)


# ---------------------------------------------------------------- the mode in force


def mode(reader: Reader) -> Mode:
    """Whether everybody is asked for, or a list."""
    found = reader.value("SELECT value FROM meta WHERE name = 'coverage'")
    return found if found in MODES else "FULL"


def set_mode(tx: Transaction, chosen: Mode) -> None:
    """From this transaction on accounts are covered by that mode's rule."""
    tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('coverage', ?)", (chosen,))


def crowded_us(reader: Reader) -> int | None:
    """When the list was last too long or too restless to be one; None: never."""
    found = reader.value("SELECT value FROM meta WHERE name = 'coverage_crowded'")
    return None if found is None else int(found)


def note_crowded(tx: Transaction, now_us: int | None) -> None:
    """The list is too much now; None: it is no longer."""
    if now_us is None:
        tx.run("DELETE FROM meta WHERE name = 'coverage_crowded'")
    else:
        tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('coverage_crowded', ?)", (str(now_us),))


def skews(reader: Reader) -> dict[str, int]:
    """How far each host's clock was ahead of ours, in microseconds."""
    rows = reader.all("SELECT substr(name, 6), value FROM meta WHERE name LIKE 'skew %'")
    return {name: int(value) for name, value in rows}


def note_skew(tx: Transaction, host: str, skew_us: int) -> None:
    """Keep what was measured: the next time without this host it decides from where another is read."""
    tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('skew ' || ?, ?)", (host, str(skew_us)))


# ---------------------------------------------------------------- connections


def opened(
    tx: Transaction,
    upstream: str,
    chosen: Mode,
    filter_hash: str,
    accounts: int | None,
    from_seq: int | None,
    from_us: int | None,
    now_us: int,
) -> int:
    """A connection stands; the id of its row. ``from_…`` is the cursor that it was opened with."""
    tx.run("DELETE FROM coverage WHERE closed_us < ?", (now_us - _KEPT_US,))
    return tx.insert(
        "INSERT INTO coverage (upstream, mode, filter, accounts, opened_us, from_seq, from_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (upstream, chosen, filter_hash, accounts, now_us, from_seq, from_us),
    )


def live(tx: Transaction, connection: int, now_us: int) -> None:
    """It has caught up."""
    tx.run(
        "UPDATE coverage SET live_us = ?2 WHERE id = ?1 AND live_us IS NULL AND closed_us IS NULL",
        (connection, now_us),
    )


def sealed(tx: Transaction, connection: int, now_us: int) -> None:
    """Nothing can have been lost where its replay ended, or it speaks a wire that loses nothing there."""
    tx.run(
        "UPDATE coverage SET sealed_us = ?2 WHERE id = ?1 AND sealed_us IS NULL AND closed_us IS NULL",
        (connection, now_us),
    )


def closed(tx: Transaction, connection: int, to_us: int | None, why: str, now_us: int) -> None:
    """It has ended; ``to_us`` is the upstream's time of the last event committed from it."""
    tx.run(
        "UPDATE coverage SET closed_us = ?2, to_us = ?3, why = ?4 WHERE id = ?1 AND closed_us IS NULL",
        (connection, now_us, to_us, why),
    )


def close_left(tx: Transaction, now_us: int) -> int:
    """Close what a process that was killed left open, at the stored position."""
    return tx.run(
        "UPDATE coverage SET closed_us = ?, why = 'the process ended',"
        " to_us = (SELECT max(time_us) FROM upstream u WHERE u.name = coverage.upstream"
        " OR u.name LIKE coverage.upstream || ' dids %') WHERE closed_us IS NULL",
        (now_us,),
    )


def seam_us(reader: Reader, upstream: str) -> int | None:
    """Upstream time from which on connections to this host may have lost something where their replay ended,
    with a margin for clocks; None when that is sealed. A later connection that caught up has covered earlier
    ones, unless those still stood when the process ended."""
    found = reader.value(
        "SELECT min(live_us) FROM coverage WHERE upstream = ?1 AND live_us IS NOT NULL AND sealed_us IS NULL"
        " AND (closed_us IS NULL OR id = (SELECT max(id) FROM coverage WHERE upstream = ?1"
        " AND live_us IS NOT NULL))",
        (upstream,),
    )
    return None if found is None else int(found) - _LIVE_MARGIN_US


def now(reader: Reader) -> list[Connection]:
    """The connections that stand, oldest first."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM coverage WHERE closed_us IS NULL ORDER BY id")
    return [Connection(*row) for row in rows]


def recent(reader: Reader, rows_max: int) -> list[Connection]:
    """The newest connections, those that have ended too."""
    rows = reader.all(f"SELECT {_COLUMNS} FROM coverage ORDER BY id DESC LIMIT ?", (rows_max,))
    return [Connection(*row) for row in rows]


# ---------------------------------------------------------------- whose coverage is proved


def wanted(reader: Reader) -> dict[str, bool]:
    """Every account that a list has to name, and whether its coverage is proved.

    One that nobody follows any more stays for as long as its rows do: to follow it again costs nothing then.
    """
    rows = reader.all(
        "SELECT a.did, r.cover_us IS NOT NULL FROM repo r JOIN actor a ON a.id = r.actor"
        " WHERE r.state <> 'PRUNING'"
    )
    return {did: bool(proved) for did, proved in rows}


def any_proved(reader: Reader) -> bool:
    """Is there anybody whose coverage could have been broken?"""
    return reader.value("SELECT 1 FROM repo WHERE cover_us IS NOT NULL LIMIT 1") is not None


def prove(tx: Transaction, from_us: int, dids: Collection[str] | None) -> int:
    """These accounts, or all, are covered from that upstream time on unless they were before; how many."""
    if dids is None:
        return tx.run("UPDATE repo SET cover_us = ? WHERE cover_us IS NULL", (from_us,))
    return tx.run(
        "UPDATE repo SET cover_us = ?1 WHERE cover_us IS NULL AND state <> 'PRUNING'"
        " AND (SELECT did FROM actor WHERE id = repo.actor) IN (SELECT value FROM json_each(?2))",
        (from_us, orjson.dumps(sorted(dids)).decode()),
    )


def unprove_leaving(tx: Transaction) -> None:
    """Whoever is being removed is on no list: wanted again, it has to be proved anew."""
    tx.run("UPDATE repo SET cover_us = NULL WHERE state = 'PRUNING' AND cover_us IS NOT NULL")
