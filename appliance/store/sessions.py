"""Sign-ins at members' PDSs, and our own sessions that rest on them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from appliance.store.database import Reader, Transaction

Kind = Literal["web", "xrpc"]

_SESSION = (
    "SELECT s.id, s.kind, s.token, s.previous, s.rotated_us, s.actor, s.pds_session, s.about,"
    " s.created_us, s.seen_us, s.expires_us, a.did, a.handle, a.status, a.takedown, p.pds, p.dead,"
    " p.refreshed_us"
    " FROM session s JOIN actor a ON a.id = s.actor JOIN pds_session p ON p.id = s.pds_session"
)


class Session(NamedTuple):
    """One of our sessions with what is known of its account. ``token`` and ``previous`` are hashes."""

    id: int
    kind: Kind
    token: bytes
    previous: bytes | None
    rotated_us: int
    actor: int
    pds_session: int
    about: str
    created_us: int
    seen_us: int
    expires_us: int
    did: str
    handle: str | None
    status: str | None
    takedown: str | None
    pds: str
    dead: str | None
    pds_refreshed_us: int


class PdsSession(NamedTuple):
    """A sign-in at a PDS. ``sealed`` holds its tokens; ``dead`` says why they are of no more use.
    ``pds`` is where they are good, ``pds_now`` where the account lives by its DID document."""

    id: int
    actor: int
    did: str
    pds: str
    sealed: bytes
    created_us: int
    refreshed_us: int
    dead: str | None
    pds_now: str | None


class SignedIn(NamedTuple):
    """A usable sign-in of a member."""

    actor: int
    pds_session: int


class Standing(NamedTuple):
    """What decides whether an account may ask as itself. A ban counts as a takedown."""

    actor: int
    status: str | None
    takedown: str | None
    member: bool


def find(reader: Reader, session: int) -> Session | None:
    """One of our sessions by its number."""
    row = reader.one(f"{_SESSION} WHERE s.id = ?", (session,))
    return None if row is None else Session(*row)


def find_by_token(reader: Reader, kind: Kind, token: bytes) -> Session | None:
    """One of our sessions by the hash of its current or former token."""
    row = reader.one(f"{_SESSION} WHERE s.token = ? AND s.kind = ?", (token, kind))
    if row is None:
        row = reader.one(f"{_SESSION} WHERE s.previous = ? AND s.kind = ?", (token, kind))
    return None if row is None else Session(*row)


def listing(reader: Reader, actor: int, now_us: int) -> list[Session]:
    """The actor's sessions that still run, the last used first."""
    rows = reader.all(
        f"{_SESSION} WHERE s.actor = ? AND s.expires_us > ? ORDER BY s.seen_us DESC, s.id", (actor, now_us)
    )
    return [Session(*row) for row in rows]


def add(
    tx: Transaction,
    kind: Kind,
    *,
    token: bytes,
    actor: int,
    pds_session: int,
    about: str,
    now_us: int,
    expires_us: int,
) -> int:
    """A new session of ours; its number."""
    return tx.insert(
        "INSERT INTO session"
        " (kind, token, rotated_us, actor, pds_session, about, created_us, seen_us, expires_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (kind, token, now_us, actor, pds_session, about, now_us, now_us, expires_us),
    )


def rotate(tx: Transaction, session: int, *, old: bytes, new: bytes, now_us: int, expires_us: int) -> bool:
    """Put a new token in the old one's place; False when somebody else was quicker."""
    return (
        tx.run(
            "UPDATE session SET token = ?, previous = token, rotated_us = ?, seen_us = ?, expires_us = ?"
            " WHERE id = ? AND token = ?",
            (new, now_us, now_us, expires_us, session, old),
        )
        > 0
    )


def touch(tx: Transaction, session: int, now_us: int, expires_us: int) -> None:
    """The session was used."""
    tx.run("UPDATE session SET seen_us = ?, expires_us = ? WHERE id = ?", (now_us, expires_us, session))


def add_pds_session(
    tx: Transaction, actor: int, pds: str, now_us: int, *, issuer: str = "", kid: str = "", scope: str = ""
) -> int:
    """A new sign-in at a PDS, its tokens still to come; its number. ``issuer``: by OAuth, from there."""
    return tx.insert(
        "INSERT INTO pds_session (actor, pds, sealed, created_us, refreshed_us, issuer, kid, scope)"
        " VALUES (?, ?, X'', ?, ?, ?, ?, ?)",
        (actor, pds, now_us, now_us, issuer or None, kid or None, scope or None),
    )


def keep_tokens(tx: Transaction, pds_session: int, sealed: bytes, now_us: int) -> bool:
    """Replace the sealed tokens; False when the sign-in has ended meanwhile."""
    changed = tx.run(
        "UPDATE pds_session SET sealed = ?, refreshed_us = ? WHERE id = ?", (sealed, now_us, pds_session)
    )
    return changed > 0


def kill(tx: Transaction, pds_session: int, why: str) -> None:
    """The tokens are of no more use: forget them and keep the reason."""
    tx.run("UPDATE pds_session SET sealed = X'', dead = ? WHERE id = ?", (why, pds_session))


def kill_all(tx: Transaction, why: str) -> None:
    """As ``kill``, every one that is of use."""
    tx.run("UPDATE pds_session SET sealed = X'', dead = ? WHERE dead IS NULL", (why,))


def kill_by_oauth(tx: Transaction, why: str, *, but: frozenset[str] = frozenset()) -> int:
    """Forget the tokens of sign-ins by OAuth, but those bound to these keys of ours; how many."""
    marks = ", ".join("?" * len(but))
    return tx.run(
        "UPDATE pds_session SET sealed = X'', dead = ?"
        f" WHERE issuer IS NOT NULL AND dead IS NULL AND kid NOT IN ({marks})",
        (why, *sorted(but)),
    )


def keys_in_use(reader: Reader) -> dict[str, int]:
    """How many living sign-ins by OAuth are bound to each of our keys."""
    rows = reader.all(
        "SELECT kid, count(*) FROM pds_session WHERE issuer IS NOT NULL AND dead IS NULL GROUP BY kid"
    )
    return dict(rows)


def find_pds_session(reader: Reader, pds_session: int) -> PdsSession | None:
    """A sign-in at a PDS."""
    row = reader.one(
        "SELECT p.id, p.actor, a.did, p.pds, p.sealed, p.created_us, p.refreshed_us, p.dead, a.pds"
        " FROM pds_session p JOIN actor a ON a.id = p.actor WHERE p.id = ?",
        (pds_session,),
    )
    return None if row is None else PdsSession(*row)


def newest_of(reader: Reader, did: str) -> SignedIn | None:
    """The member's latest sign-in at his PDS that is of use; None where there is none."""
    row = reader.one(
        "SELECT p.actor, p.id FROM pds_session p JOIN actor a ON a.id = p.actor"
        " JOIN member m ON m.actor = a.id"
        " WHERE a.did = ? AND p.dead IS NULL ORDER BY p.refreshed_us DESC, p.id DESC LIMIT 1",
        (did,),
    )
    return None if row is None else SignedIn(*row)


def remove_pds_session(tx: Transaction, pds_session: int) -> None:
    """End a sign-in and every session of ours that rests on it."""
    tx.run("DELETE FROM pds_session WHERE id = ?", (pds_session,))


def of_actor(reader: Reader, actor: int) -> list[int]:
    """The numbers of the actor's sign-ins."""
    return [row[0] for row in reader.all("SELECT id FROM pds_session WHERE actor = ?", (actor,))]


def remove_of_actor(tx: Transaction, actor: int) -> None:
    """End every sign-in of the actor."""
    tx.run("DELETE FROM pds_session WHERE actor = ?", (actor,))


def remove_expired(tx: Transaction, now_us: int) -> int:
    """Drop sign-ins on which only sessions past their end rest; how many."""
    return tx.run(
        "DELETE FROM pds_session WHERE id IN (SELECT pds_session FROM session WHERE expires_us <= ?)"
        " AND NOT EXISTS"
        " (SELECT 1 FROM session s WHERE s.pds_session = pds_session.id AND s.expires_us > ?)",
        (now_us, now_us),
    )


def standing(reader: Reader, did: str) -> Standing | None:
    """How an account stands here, None for one never heard of."""
    row = reader.one(
        "SELECT a.id, a.status, coalesce(a.takedown, b.reason), m.actor IS NOT NULL"
        " FROM actor a LEFT JOIN member m ON m.actor = a.id LEFT JOIN ban b ON b.actor = a.id"
        " WHERE a.did = ?",
        (did,),
    )
    return None if row is None else Standing(row[0], row[1], row[2], bool(row[3]))
