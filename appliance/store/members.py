"""Rows of members and of the invite codes that admit them."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction


class Member(NamedTuple):
    """One member, for listings. ``handle`` is None until it is confirmed both ways."""

    actor: int
    did: str
    handle: str | None
    via: str
    admitted_us: int


class Invite(NamedTuple):
    """One invite code and how often it still admits."""

    code: str
    uses_left: int
    created_us: int


def is_member(reader: Reader, actor: int) -> bool:
    """Does this actor belong here?"""
    return reader.value("SELECT 1 FROM member WHERE actor = ?", (actor,)) is not None


def is_member_did(reader: Reader, did: str) -> bool:
    """Does this DID belong here? False for one never heard of."""
    found = reader.value(
        "SELECT 1 FROM actor JOIN member ON member.actor = actor.id WHERE actor.did = ?", (did,)
    )
    return found is not None


def version(reader: Reader) -> str | None:
    """A name that changes whenever ``dids`` would answer differently, also after a rollback."""
    found: str | None = reader.value("SELECT value FROM meta WHERE name = 'members'")
    return found


def dids(reader: Reader) -> list[str]:
    """Of every member."""
    return [row[0] for row in reader.all("SELECT a.did FROM member m JOIN actor a ON a.id = m.actor")]


def count(reader: Reader) -> int:
    """How many members there are."""
    return int(reader.value("SELECT count(*) FROM member"))


def listing(reader: Reader) -> list[Member]:
    """Every member, longest here first."""
    rows = reader.all(
        "SELECT m.actor, a.did, a.handle, m.via, m.admitted_us"
        " FROM member m JOIN actor a ON a.id = m.actor ORDER BY m.admitted_us, m.actor"
    )
    return [Member(*row) for row in rows]


def add(tx: Transaction, actor: int, via: str, now_us: int) -> bool:
    """Insert the row; False when it was there. What is here already is still to be looked through for him."""
    return (
        tx.run(
            "INSERT INTO member (actor, via, admitted_us, behind)"
            " VALUES (?, ?, ?, (SELECT coalesce(max(id), 0) FROM record)) ON CONFLICT (actor) DO NOTHING",
            (actor, via, now_us),
        )
        > 0
    )


def remove(tx: Transaction, actor: int) -> bool:
    """Delete the row; False when there was none."""
    return tx.run("DELETE FROM member WHERE actor = ?", (actor,)) > 0


def add_invite(tx: Transaction, code: str, uses: int, now_us: int) -> None:
    """A new code that admits so many times."""
    tx.run("INSERT INTO invite (code, uses_left, created_us) VALUES (?, ?, ?)", (code, uses, now_us))


def use_invite(tx: Transaction, code: str) -> bool:
    """Take one use of the code; False when it has none left or isn't known."""
    return tx.run("UPDATE invite SET uses_left = uses_left - 1 WHERE code = ? AND uses_left > 0", (code,)) > 0


def remove_invite(tx: Transaction, code: str) -> bool:
    """Withdraw a code; False when it isn't known."""
    return tx.run("DELETE FROM invite WHERE code = ?", (code,)) > 0


def invites(reader: Reader) -> list[Invite]:
    """Every code that still admits, oldest first."""
    rows = reader.all(
        "SELECT code, uses_left, created_us FROM invite WHERE uses_left > 0 ORDER BY created_us, code"
    )
    return [Invite(*row) for row in rows]
