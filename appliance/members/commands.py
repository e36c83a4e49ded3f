"""What an operator does about members: add, remove, ban, list, invite."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput, NotFound
from appliance.identity.identities import Identities
from appliance.members import admission, moderation
from appliance.protocol import syntax
from appliance.store import actors, bans, member_data, members
from appliance.store.acts import By
from appliance.store.database import Database, Reader, Transaction

INVITE_USES_MAX = 10_000
BY_COMMAND = By("command")
# Without the letters and digits that people confuse.
_CODE_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_CODE_GROUPS = 3
_CODE_GROUP_CHARS = 5


async def add(
    database: Database, identities: Identities, settings: Settings, clock: Clock, who: str
) -> tuple[str, bool]:
    """Admit this DID or handle whatever the admission mode; the DID, and whether they are new.

    Raises NotFound for a handle that leads nowhere, Refused when the house is full.
    """
    did = await _did_of(identities, who)
    # Whoever doesn't exist can't be a member: raises NotFound.
    await identities.get(did)
    now_us = clock.now_us()

    def work(tx: Transaction) -> bool:
        return admission.admit(tx, settings, actors.ensure(tx, did, now_us), "operator", now_us)

    return did, await database.write(work, durable=True)


EndSessions = Callable[[int], Awaitable[None]]


async def remove(
    database: Database,
    identities: Identities,
    clock: Clock,
    who: str,
    end_sessions: EndSessions | None = None,
    by: By = BY_COMMAND,
) -> str:
    """End a membership; the DID. Raises NotFound when they are no member.

    ``end_sessions`` ends what the actor is signed in with, also at the server.
    """
    did = who if syntax.is_did(who) else await _member_by_handle(database, who)
    if did is None:
        did = await _did_of(identities, who)
    await _end_sessions(database, did, end_sessions)
    now_us = clock.now_us()
    try:
        await database.write(partial(moderation.remove, did=did, by=by, now_us=now_us), durable=True)
    except NotFound:
        raise NotFound(f"{who} is not a member") from None
    return did


async def did_of(database: Database, who: str) -> str:
    """The DID of a member, by DID or handle. Raises NotFound for others."""
    did = who if syntax.is_did(who) else await _member_by_handle(database, who)
    if did is None:
        raise NotFound(f"{who} is not a member")
    return did


async def ban(
    database: Database,
    identities: Identities,
    clock: Clock,
    who: str,
    reason: str,
    end_sessions: EndSessions | None = None,
    by: By = BY_COMMAND,
) -> str:
    """Remove, and let nobody of that name in again; the DID. Raises BadInput without a reason."""
    moderation.checked(reason)
    did = who if syntax.is_did(who) else await _member_by_handle(database, who)
    if did is None:
        did = await _did_of(identities, who)
    await _end_sessions(database, did, end_sessions)
    now_us = clock.now_us()
    await database.write(partial(moderation.ban, did=did, reason=reason, by=by, now_us=now_us), durable=True)
    return did


async def unban(
    database: Database, identities: Identities, clock: Clock, who: str, by: By = BY_COMMAND
) -> str:
    """Lift a ban; the DID. Raises NotFound for who is not banned."""
    handle = who.removeprefix("@").lower()
    banned = [each.did for each in await database.read(bans.listing) if each.handle == handle]
    did = banned[0] if banned else await _did_of(identities, who)
    await database.write(partial(moderation.lift_ban, did=did, by=by, now_us=clock.now_us()), durable=True)
    return did


async def _end_sessions(database: Database, did: str, end: EndSessions | None) -> None:
    actor = await database.read(lambda r: actors.find_id(r, did))
    if end is not None and actor is not None:
        await end(actor)


async def export(database: Database, clock: Clock, who: str) -> dict[str, Any]:
    """Everything that is kept here about this member and nowhere else. Raises NotFound for others."""
    did = who if syntax.is_did(who) else await _member_by_handle(database, who)

    def work(reader: Reader) -> dict[str, list[dict[str, Any]]] | None:
        actor = None if did is None else actors.find_id(reader, did)
        if actor is None or not members.is_member(reader, actor):
            return None
        return member_data.told(reader, actor)

    tables = await database.read(work)
    if tables is None:
        raise NotFound(f"{who} is not a member")
    moment = datetime.fromtimestamp(clock.now_us() // 1_000_000, UTC)
    return {"did": did, "exportedAt": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "tables": tables}


async def listing(database: Database) -> list[members.Member]:
    """Every member, longest here first."""
    return await database.read(members.listing)


async def invite(database: Database, clock: Clock, uses: int = 1) -> str:
    """A new code that admits so many people, when admission is by invite."""
    if not 1 <= uses <= INVITE_USES_MAX:
        raise BadInput(f"an invite code admits 1 to {INVITE_USES_MAX} people")
    code = "-".join(
        "".join(secrets.choice(_CODE_ALPHABET) for _ in range(_CODE_GROUP_CHARS)) for _ in range(_CODE_GROUPS)
    )
    now_us = clock.now_us()
    await database.write(lambda tx: members.add_invite(tx, code, uses, now_us), durable=True)
    return code


async def invites(database: Database) -> list[members.Invite]:
    """Every code that still admits."""
    return await database.read(members.invites)


async def _did_of(identities: Identities, who: str) -> str:
    if who.startswith("did:"):
        return syntax.normalise_did(who)
    did = await identities.resolve_handle(syntax.normalise_handle(who.removeprefix("@")))
    if did is None:
        raise NotFound(f"the handle {who} leads to no account")
    return did


async def _member_by_handle(database: Database, who: str) -> str | None:
    """Found without the network, so that a member whose handle no longer resolves can be removed."""
    handle = who.removeprefix("@").lower()
    found = [member.did for member in await database.read(members.listing) if member.handle == handle]
    return found[0] if found else None
