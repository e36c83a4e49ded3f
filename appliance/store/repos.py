"""The state machine of each tracked repository.

Every change of state is a function here, named by its transition, that compares before it sets and
returns whether it happened. ``ALLOWED`` is the whole table.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from appliance import crash_points
from appliance.store import coverage, upstreams
from appliance.store.database import Reader, Transaction

State: TypeAlias = Literal["QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT", "INACTIVE", "GONE", "PRUNING"]
STATES: Final = ("QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT", "INACTIVE", "GONE", "PRUNING")

# Transition -> (states that it leaves, states that it may reach). UNKNOWN is having no row.
ALLOWED: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "want": (frozenset({"UNKNOWN", "PRUNING"}), frozenset({"QUEUED"})),
    "start": (frozenset({"QUEUED"}), frozenset({"SCANNING"})),
    "finalise": (frozenset({"SCANNING"}), frozenset({"LIVE", "SUSPECT"})),
    "wait": (frozenset({"QUEUED", "SCANNING"}), frozenset({"WAIT"})),
    "retry": (frozenset({"WAIT"}), frozenset({"QUEUED"})),
    "restart": (frozenset({"SCANNING"}), frozenset({"QUEUED"})),
    "suspect": (frozenset({"LIVE"}), frozenset({"SUSPECT"})),
    "confirm": (frozenset({"LIVE", "SUSPECT"}), frozenset({"LIVE"})),
    "confirm_rev": (frozenset({"LIVE", "SUSPECT"}), frozenset({"LIVE"})),
    "resync": (frozenset({"LIVE", "SUSPECT"}), frozenset({"QUEUED"})),
    "raise_epoch": (frozenset({"QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT"}), frozenset({"QUEUED"})),
    "deactivate": (
        frozenset({"QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT", "INACTIVE"}),
        frozenset({"INACTIVE"}),
    ),
    "reactivate": (frozenset({"INACTIVE", "GONE"}), frozenset({"QUEUED"})),
    "bury": (frozenset({"INACTIVE"}), frozenset({"GONE"})),
    "prune": (
        frozenset({"QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT", "INACTIVE", "GONE"}),
        frozenset({"PRUNING"}),
    ),
    "forget": (frozenset({"PRUNING"}), frozenset({"UNKNOWN"})),
}


class Repo(NamedTuple):
    """A row, as the state machine sees it."""

    actor: int
    state: State
    reason: str
    since_us: int
    refs: int
    unwanted_us: int | None
    priority: int
    attempts: int
    next_at_us: int
    epoch: int
    base_rev: str
    seen_rev: str
    doubt: str
    cover_us: int | None
    cert_rev: str | None
    cert_us: int | None
    cert_method: str | None
    cert_digest: bytes | None
    doubt_us: int | None


class Certificate(NamedTuple):
    """Our rows equalled the repository at ``rev``; ``digest`` is that of records.digest.

    Without a digest the account wrote while it was read: our rows follow the merge rule, but what was read
    is the repository at no single rev, and an equal rev later proves nothing. ``shown`` is what
    records.digest makes of the collections that are read of everybody: the others tell who is a member.
    """

    rev: str
    method: Literal["listing", "signed"]
    digest: bytes | None
    records: int | None
    shown: tuple[bytes, int] | None = None

    def values(self) -> tuple[object, ...]:
        """For the columns of ``_CERTIFICATE``."""
        return (*self[:4], *(self.shown or (None, None)))


_COLUMNS = ", ".join(Repo._fields)
_CERTIFICATE = ("cert_rev", "cert_method", "cert_digest", "cert_count", "shown_digest", "shown_count")
_NO_CERTIFICATE = ", ".join(f"{column} = NULL" for column in ("cert_us", *_CERTIFICATE))


def find(reader: Reader, actor: int) -> Repo | None:
    """The actor's row; None when nobody wants it."""
    row = reader.one(f"SELECT {_COLUMNS} FROM repo WHERE actor = ?", (actor,))
    return None if row is None else Repo(*row)


def find_due(reader: Reader, now_us: int, rows_max: int) -> list[Repo]:
    """What there is to do, most urgent first: new scans, retries and doubts."""
    rows = reader.all(
        f"SELECT {_COLUMNS} FROM repo WHERE state IN ('QUEUED', 'WAIT', 'SUSPECT') AND next_at_us <= ?"
        " ORDER BY priority DESC, since_us LIMIT ?",
        (now_us, rows_max),
    )
    return [Repo(*row) for row in rows]


def next_due_us(reader: Reader) -> int | None:
    """When there is something to do next; None when nothing is open."""
    found: int | None = reader.value(
        "SELECT min(next_at_us) FROM repo WHERE state IN ('QUEUED', 'WAIT', 'SUSPECT')"
    )
    return found


def any_begun(reader: Reader) -> bool:
    """Has any snapshot ever begun? Before that nothing can have been missed."""
    return reader.value("SELECT 1 FROM repo WHERE state <> 'QUEUED' LIMIT 1") is not None


def counts(reader: Reader) -> dict[str, int]:
    """How many rows are in each state that has any."""
    return dict(reader.all("SELECT state, count(*) FROM repo GROUP BY state"))


def tracked(reader: Reader) -> list[tuple[str, int, int]]:
    """(DID, actor, epoch) of every row."""
    rows: list[tuple[str, int, int]] = reader.all(
        "SELECT a.did, r.actor, r.epoch FROM repo r JOIN actor a ON a.id = r.actor"
    )
    return rows


def tracked_version(reader: Reader) -> str | None:
    """A name that changes whenever ``tracked`` would answer differently, also after a rollback."""
    found: str | None = reader.value("SELECT value FROM meta WHERE name = 'tracked'")
    return found


# ---------------------------------------------------------------- who is wanted


def want(tx: Transaction, actor: int, now_us: int, *, priority: int = 0, cover_us: int | None = None) -> bool:
    """One reference more; True when that made a job.

    Everything of this account that the writer meets after this transaction is kept, so coverage
    begins at the upstream's time now: ``cover_us``, or where the newest upstream stands. Where the
    upstreams were given lists nothing is covered before a connection has proved it.
    """
    row = tx.one("SELECT state FROM repo WHERE actor = ?", (actor,))
    if row is not None and row[0] != "PRUNING":
        tx.run(
            "UPDATE repo SET refs = refs + 1, unwanted_us = NULL, priority = max(priority, ?)"
            " WHERE actor = ?",
            (priority, actor),
        )
        return False
    if coverage.mode(tx) != "FULL":
        cover_us = None
    elif cover_us is None:
        cover_us = upstreams.newest_time_us(tx)
    if row is None:
        # Rows from before, if any, are judged by the same epoch; the scan decides about them.
        tx.run(
            "INSERT INTO repo (actor, state, reason, since_us, refs, priority, next_at_us, epoch, cover_us)"
            " SELECT ?1, 'QUEUED', 'new', ?2, 1, ?3, ?2, coalesce(max(epoch), 0), ?4"
            " FROM record WHERE actor = ?1",
            (actor, now_us, priority, cover_us),
        )
    else:
        # Tombstones may be gone already: only a snapshot of a higher epoch beats what is left.
        tx.run(
            "UPDATE repo SET state = 'QUEUED', reason = 'wanted again', since_us = ?2, refs = 1,"
            " unwanted_us = NULL,"
            " priority = ?3, attempts = 0, next_at_us = ?2, epoch = epoch + 1, base_rev = '', seen_rev = '',"
            " head_rev = '', data_cid = NULL,"
            f" doubt = '', doubt_us = NULL, cover_us = ?4, {_NO_CERTIFICATE} WHERE actor = ?1",
            (actor, now_us, priority, cover_us),
        )
        crash_points.reach("epoch-before-commit")
    crash_points.reach("want-before-commit")
    return True


def unwant(tx: Transaction, actor: int, now_us: int) -> None:
    """One reference less. Without any the rows stay for a grace time, kept up to date."""
    tx.run(
        "UPDATE repo SET refs = refs - 1, unwanted_us = iif(refs = 1, ?, unwanted_us) WHERE actor = ?",
        (now_us, actor),
    )
    crash_points.reach("unwant-before-commit")


def followed(tx: Transaction, follower: int, followee: int, now_us: int, cover_us: int | None) -> bool:
    """A follow began to count. A member's makes the followee wanted; True when that made a job."""
    if tx.one("SELECT 1 FROM member WHERE actor = ?", (follower,)) is None:
        return False
    return want(tx, followee, now_us, cover_us=cover_us)


def unfollowed(tx: Transaction, follower: int, followee: int, now_us: int) -> None:
    """A follow counts no more."""
    if tx.one("SELECT 1 FROM member WHERE actor = ?", (follower,)) is not None:
        unwant(tx, followee, now_us)


def wrong_refs(reader: Reader) -> list[tuple[int, int, int]]:
    """(actor, stored, right) where the reference count isn't members + members' follows; never any."""
    rows: list[tuple[int, int, int]] = reader.all(
        "SELECT a.id, coalesce(r.refs, 0),"
        " (SELECT count(*) FROM member m WHERE m.actor = a.id) +"
        " (SELECT count(*) FROM link l JOIN member m ON m.actor = l.actor"
        "  WHERE l.kind = 3 AND l.subject = a.id AND l.waiting = 0) AS wanted"
        " FROM actor a LEFT JOIN repo r ON r.actor = a.id WHERE coalesce(r.refs, 0) <> wanted"
    )
    return rows


# ---------------------------------------------------------------- a snapshot and how it ends


def start(tx: Transaction, actor: int, epoch: int, now_us: int) -> bool:
    """QUEUED -> SCANNING, before the base rev of a new scan is read.

    A doubt met earlier is answered by a scan that begins after it, not by one that is resumed.
    """
    resumed = "EXISTS (SELECT 1 FROM scan WHERE scan.actor = repo.actor)"
    return _move(
        tx,
        "start",
        actor,
        epoch,
        now_us,
        "SCANNING",
        f"reason = '', doubt = iif({resumed}, doubt, ''), doubt_us = iif({resumed}, doubt_us, NULL)",
    )


def finalise(
    tx: Transaction,
    actor: int,
    epoch: int,
    base_rev: str,
    certificate: Certificate | None,
    now_us: int,
    *,
    data_cid: str | None = None,
) -> bool:
    """SCANNING -> LIVE with the certificate; -> SUSPECT, without it, when doubt came up on the way.

    ``data_cid`` is the root of the tree at ``base_rev``, where the scan read it. The chain of commits
    goes on from there, unless a newer one has been seen meanwhile.
    """
    columns = ", ".join(
        f"{column} = iif(doubt = '', ?{number}, {column})" for number, column in enumerate(_CERTIFICATE, 5)
    )
    values = (None,) * len(_CERTIFICATE) if certificate is None else certificate.values()
    return (
        tx.run(
            "UPDATE repo SET state = iif(doubt = '', 'LIVE', 'SUSPECT'), reason = doubt, since_us ="
            " ?3, attempts = 0,"
            " next_at_us = ?3, base_rev = max(base_rev, ?4), seen_rev = max(seen_rev, ?4),"
            " cert_us = iif(doubt = '' AND ?5 IS NOT NULL, ?3, cert_us),"
            f" {columns},"
            f" priority = iif(priority = {READ_PRIORITY}, 0, priority),"
            " doubt_us = iif(doubt = '', NULL, doubt_us), doubt = '',"
            " data_cid = iif(head_rev < ?4 OR (head_rev = ?4 AND ?11 IS NOT NULL), ?11, data_cid),"
            " head_rev = max(head_rev, ?4)"
            " WHERE actor = ?1 AND epoch = ?2 AND state = 'SCANNING'",
            (actor, epoch, now_us, base_rev, *values, data_cid),
        )
        > 0
    )


def wait(
    tx: Transaction, actor: int, epoch: int, reason: str, attempts: int, next_at_us: int, now_us: int
) -> bool:
    """SCANNING or QUEUED -> WAIT: an attempt failed; a running scan may be resumed."""
    return _move(
        tx,
        "wait",
        actor,
        epoch,
        now_us,
        "WAIT",
        "reason = ?, attempts = ?, next_at_us = ?",
        (reason, attempts, next_at_us),
    )


def retry(tx: Transaction, actor: int, epoch: int, now_us: int) -> bool:
    """WAIT -> QUEUED: it is due again."""
    return _move(tx, "retry", actor, epoch, now_us, "QUEUED")


def restart(tx: Transaction, actor: int, epoch: int, reason: str, now_us: int) -> bool:
    """SCANNING -> QUEUED: host or process changed. Whether the scan goes on is the scan row's matter."""
    return _move(
        tx, "restart", actor, epoch, now_us, "QUEUED", "reason = ?, next_at_us = ?", (reason, now_us)
    )


# ---------------------------------------------------------------- doubt


# The priority of what somebody reads now; it ends with the work.
READ_PRIORITY: Final = 5

# How the reason of a doubt begins that says that something may be missing, never that what is here is wrong.
STREAM_GAP: Final = "stream gap"


def suspect(tx: Transaction, actor: int, reason: str, now_us: int, *, from_us: int | None = None) -> bool:
    """LIVE -> SUSPECT, content stays visible. Before LIVE the doubt waits for the scan to end.

    ``from_us`` is the upstream time from which on something may be missing; None: since ever. Met while
    SUSPECT, the doubt keeps the audit under way from lifting it.
    """
    if _suspect(tx, "AND actor = ?4", (actor,), reason, now_us, from_us):
        return True
    _doubt_more(tx, "AND actor = ?5", (actor,), reason, from_us)
    return False


def suspect_all(tx: Transaction, reason: str, now_us: int, *, from_us: int | None = None) -> int:
    """A disturbance that may have touched everybody; how many LIVE rows went into doubt.

    That an account is awake again may be among what was missed: its server is asked at once.
    """
    _doubt_more(tx, "", (), reason, from_us)
    tx.run(
        "UPDATE repo SET attempts = 0, next_at_us = ?1 WHERE state IN ('INACTIVE', 'GONE')"
        " AND next_at_us > ?1",
        (now_us,),
    )
    return _suspect(tx, "", (), reason, now_us, from_us)


def _suspect(
    tx: Transaction, whom: str, more: tuple[int, ...], reason: str, now_us: int, from_us: int | None
) -> int:
    return tx.run(
        "UPDATE repo SET state = 'SUSPECT', reason = ?1, since_us = ?2, attempts = 0, next_at_us = ?2,"
        f" doubt = '', doubt_us = ?3 WHERE state = 'LIVE' {whom}",
        (reason, now_us, from_us, *more),
    )


def _doubt_more(tx: Transaction, whom: str, more: tuple[int, ...], reason: str, from_us: int | None) -> None:
    """Another doubt about what is in doubt, or not read to its end, already.

    Of several the graver one counts: that of a gap can be lifted without a scan.
    """
    graver = not is_gap(reason)
    tx.run(
        "UPDATE repo SET reason = iif(?2 AND substr(reason, 1, length(?4)) = ?4, ?1, reason),"
        " doubt = iif(doubt = '' OR (?2 AND substr(doubt, 1, length(?4)) = ?4), ?1, doubt),"
        f" doubt_us = min(doubt_us, ?3) WHERE state = 'SUSPECT' {whom}",
        (reason, graver, from_us, STREAM_GAP, *more),
    )
    tx.run(
        "UPDATE repo SET doubt_us = iif(doubt = '', ?3, min(doubt_us, ?3)),"
        " doubt = iif(doubt = '' OR (?2 AND substr(doubt, 1, length(?4)) = ?4), ?1, doubt)"
        f" WHERE state IN ('QUEUED', 'SCANNING', 'WAIT') {whom}",
        (reason, graver, from_us, STREAM_GAP, *more),
    )


def is_gap(reason: str) -> bool:
    """Whether the doubt says only that something may be missing."""
    return reason.startswith(STREAM_GAP)


def examine(tx: Transaction, actor: int, epoch: int) -> bool:
    """An audit of a SUSPECT repository begins: a doubt met from now on outlives it. No change of state."""
    return (
        tx.run(
            "UPDATE repo SET doubt = '' WHERE actor = ? AND epoch = ? AND state = 'SUSPECT'", (actor, epoch)
        )
        > 0
    )


def confirm(
    tx: Transaction, actor: int, epoch: int, began: State, certificate: Certificate, now_us: int
) -> bool:
    """LIVE or SUSPECT -> LIVE: an audit that began in the state ``began`` found no difference.

    It doesn't happen when a doubt came up while the audit was under way.
    """
    return _confirm(
        tx,
        actor,
        epoch,
        began,
        now_us,
        "".join(f", {column} = ?" for column in _CERTIFICATE),
        certificate.values(),
    )


def confirm_rev(tx: Transaction, actor: int, epoch: int, began: State, rev: str, now_us: int) -> bool:
    """LIVE or SUSPECT -> LIVE: the repository is still at the rev of its certificate, so nothing has
    changed since. One without a digest belongs to no rev and can't be renewed so, nor one that the stream
    has gone beyond."""
    return _confirm(
        tx,
        actor,
        epoch,
        began,
        now_us,
        "",
        (),
        " AND cert_rev = ? AND cert_digest IS NOT NULL AND max(seen_rev, base_rev) <= cert_rev",
        (rev,),
    )


def _confirm(
    tx: Transaction,
    actor: int,
    epoch: int,
    began: State,
    now_us: int,
    also: str,
    params: tuple[object, ...],
    only: str = "",
    only_params: tuple[object, ...] = (),
) -> bool:
    assert began in ALLOWED["confirm"][0]
    return (
        tx.run(
            "UPDATE repo SET since_us = iif(state = 'LIVE', since_us, ?), reason = iif(state = 'LIVE',"
            " reason, ''), state = 'LIVE', attempts = 0, doubt_us = NULL,"
            f" priority = iif(priority = {READ_PRIORITY}, 0, priority),"
            f" cert_us = ?{also} WHERE actor = ? AND epoch = ? AND state = ? AND doubt = ''{only}",
            (now_us, now_us, *params, actor, epoch, began, *only_params),
        )
        > 0
    )


def resync(tx: Transaction, actor: int, epoch: int, reason: str, priority: int, now_us: int) -> bool:
    """LIVE or SUSPECT -> QUEUED: a difference was found, or can't be ruled out, or more is wanted."""
    return _move(
        tx,
        "resync",
        actor,
        epoch,
        now_us,
        "QUEUED",
        "reason = ?, priority = max(priority, ?), attempts = 0, next_at_us = ?, doubt = '', doubt_us = NULL",
        (reason, priority, now_us),
    )


def put_off(tx: Transaction, actor: int, epoch: int, attempts: int, next_at_us: int) -> bool:
    """The doubt can't be settled now: look again then. No change of state."""
    return (
        tx.run(
            "UPDATE repo SET attempts = ?, next_at_us = ? WHERE actor = ? AND epoch = ?"
            " AND state IN ('SUSPECT', 'WAIT', 'QUEUED', 'INACTIVE', 'GONE')",
            (attempts, next_at_us, actor, epoch),
        )
        > 0
    )


def raise_epoch(tx: Transaction, actor: int, epoch: int, reason: str, now_us: int) -> bool:
    """Revs may have stepped back: a new snapshot beats all rows there are; until then they stay visible."""
    moved = _move(
        tx,
        "raise_epoch",
        actor,
        epoch,
        now_us,
        "QUEUED",
        "reason = ?, epoch = epoch + 1, base_rev = '', seen_rev = '', head_rev = '', data_cid = NULL,"
        " doubt = '', doubt_us = NULL,"
        f" attempts = 0, next_at_us = ?, {_NO_CERTIFICATE}",
        (reason, now_us),
    )
    if moved:
        tx.run("DELETE FROM scan WHERE actor = ?", (actor,))
        crash_points.reach("epoch-before-commit")
    return moved


# ---------------------------------------------------------------- the account itself


def deactivate(tx: Transaction, actor: int, reason: str, now_us: int) -> bool:
    """-> INACTIVE with that status: rows are hidden and kept; a snapshot under way is void."""
    moved = (
        tx.run(
            "UPDATE repo SET since_us = iif(state = 'INACTIVE', since_us, ?3), state = 'INACTIVE',"
            " reason = ?2, doubt = '', doubt_us = NULL,"
            " attempts = 0, next_at_us = ?3 WHERE actor = ?1"
            " AND state IN ('QUEUED', 'SCANNING', 'LIVE', 'SUSPECT', 'WAIT', 'INACTIVE')"
            " AND (state <> 'INACTIVE' OR reason <> ?2)",
            (actor, reason, now_us),
        )
        > 0
    )
    if moved:
        tx.run("DELETE FROM scan WHERE actor = ?", (actor,))
    return moved


def reactivate(tx: Transaction, actor: int, now_us: int) -> bool:
    """INACTIVE -> QUEUED; GONE -> QUEUED in a new epoch: another repository may have the name now."""
    reborn = tx.run(
        "UPDATE repo SET epoch = epoch + 1, base_rev = '', seen_rev = '', head_rev = '', data_cid = NULL,"
        " state = 'QUEUED',"
        f" reason = 'active again', since_us = ?2, attempts = 0, next_at_us = ?2, {_NO_CERTIFICATE}"
        " WHERE actor = ?1 AND state = 'GONE'",
        (actor, now_us),
    )
    if reborn:
        # What was complete was another repository: nothing of this one has been lost.
        tx.run("DELETE FROM floor WHERE actor = ?", (actor,))
        crash_points.reach("epoch-before-commit")
    return bool(
        reborn
        or tx.run(
            "UPDATE repo SET state = 'QUEUED', reason = 'active again', since_us = ?2, attempts = 0,"
            " next_at_us = ?2 WHERE actor = ?1 AND state = 'INACTIVE'",
            (actor, now_us),
        )
    )


def bury(tx: Transaction, actor: int, epoch: int, now_us: int) -> bool:
    """INACTIVE -> GONE: the PDS itself confirms the deletion. Rows are removed after a grace time."""
    return _move(tx, "bury", actor, epoch, now_us, "GONE", "reason = 'deleted'")


# ---------------------------------------------------------------- leaving


def find_unwanted(reader: Reader, before_us: int, rows_max: int) -> list[int]:
    """Actors whom nobody has wanted since before then."""
    return [
        row[0]
        for row in reader.all(
            "SELECT actor FROM repo WHERE unwanted_us <= ? AND refs = 0 ORDER BY unwanted_us LIMIT ?",
            (before_us, rows_max),
        )
    ]


def prune(tx: Transaction, actor: int, before_us: int, now_us: int) -> bool:
    """-> PRUNING, if nobody has wanted it since before then."""
    moved = (
        tx.run(
            "UPDATE repo SET state = 'PRUNING', reason = 'nobody follows', since_us = ?3 WHERE actor = ?1"
            " AND refs = 0 AND unwanted_us <= ?2 AND state <> 'PRUNING'",
            (actor, before_us, now_us),
        )
        > 0
    )
    if moved:
        tx.run("DELETE FROM scan WHERE actor = ?", (actor,))
        tx.run("DELETE FROM floor WHERE actor = ?", (actor,))
    return moved


def forget(tx: Transaction, actor: int) -> bool:
    """PRUNING -> no row, once nothing is left but mentions by others."""
    return (
        tx.run(
            "DELETE FROM repo WHERE actor = ?1 AND refs = 0 AND state = 'PRUNING'"
            " AND NOT EXISTS (SELECT 1 FROM record WHERE record.actor = ?1 AND record.state <> 0)",
            (actor,),
        )
        > 0
    )


def seen_rev(tx: Transaction, actor: int, rev: str) -> None:
    """The newest rev that any upstream showed. It filters nothing: lost events come back with
    smaller ones."""
    tx.run("UPDATE repo SET seen_rev = ?2 WHERE actor = ?1 AND seen_rev < ?2", (actor, rev))


def _move(
    tx: Transaction,
    transition: str,
    actor: int,
    epoch: int,
    now_us: int,
    to: State,
    also: str = "reason = ''",
    params: tuple[object, ...] = (),
) -> bool:
    states = "', '".join(sorted(ALLOWED[transition][0]))
    return (
        tx.run(
            f"UPDATE repo SET since_us = iif(state = '{to}', since_us, ?), state = '{to}', {also}"
            f" WHERE actor = ? AND epoch = ? AND state IN ('{states}')",
            (now_us, *params, actor, epoch),
        )
        > 0
    )
