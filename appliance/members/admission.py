"""Who may become a member, and what that sets in motion."""

from __future__ import annotations

from appliance import telemetry
from appliance.config import Settings
from appliance.errors import Refused
from appliance.store import actors, bans, links, member_data, members, notifications, repos
from appliance.store.database import Transaction

log = telemetry.Log("members")

# A member's own repository goes before those of the accounts that members follow.
OWN_REPO_PRIORITY = 10
ANYBODY = "*"


def join(tx: Transaction, settings: Settings, did: str, handle: str | None, invite: str, now_us: int) -> bool:
    """Let this proven DID in if the rules allow it; True when that made a new member.

    ``handle`` is one that was confirmed both ways, or None. Raises Refused with the reason for the
    person; then nothing has changed, the invite code included.
    """
    actor = actors.ensure(tx, did, now_us)
    if members.is_member(tx, actor):
        return False
    _check_ban(tx, actor)
    if _listed(settings, did, handle):
        return admit(tx, settings, actor, "allow-list", now_us)
    if settings.admission == "open":
        return admit(tx, settings, actor, "open", now_us)
    if settings.admission == "invite":
        if not members.use_invite(tx, invite.strip().lower()):
            raise Refused(
                "This server needs an invite code." if not invite else "This invite code is not valid.",
                name="InvalidInviteCode",
            )
        return admit(tx, settings, actor, "invite", now_us)
    raise Refused("This server is for its members only.", name="NotAdmitted")


def admits(settings: Settings, did: str, handle: str | None) -> bool:
    """Whether ``join`` would let this DID in without an invite code, as far as there is room."""
    return settings.admission == "open" or _listed(settings, did, handle)


def admit(tx: Transaction, settings: Settings, actor: int, via: str, now_us: int) -> bool:
    """Make the actor a member; False when they were one. Raises Refused when the house is full.

    In this transaction their own repository and everybody whom they are known to follow get one
    reference more, so that nothing is lost if the process ends right after. The single
    writer makes the count exact: two who come at once can't both take the last place.
    """
    if members.is_member(tx, actor):
        return False
    _check_ban(tx, actor)
    if members.count(tx) >= settings.members_max:
        raise Refused("This server has as many members as it can take.", name="MembersFull")
    members.add(tx, actor, via, now_us)
    repos.want(tx, actor, now_us, priority=OWN_REPO_PRIORITY)
    # The repository may have been tracked as somebody's followee, with fewer collections.
    repos.suspect(tx, actor, "became a member", now_us)
    for followee in links.subjects(tx, links.FOLLOW, actor):
        repos.want(tx, followee, now_us)
    tx.announce(lambda: log.info("member_admitted", actor=actor, via=via))
    return True


def leave(tx: Transaction, actor: int, now_us: int) -> bool:
    """End the membership; False when there was none. What is kept of theirs alone is erased, what only they
    read is pruned after the grace time."""
    if not members.remove(tx, actor):
        return False
    member_data.erase(tx, actor)
    notifications.forget_member(tx, actor)
    repos.unwant(tx, actor, now_us)
    for followee in links.subjects(tx, links.FOLLOW, actor):
        repos.unwant(tx, followee, now_us)
    tx.announce(lambda: log.info("member_left", actor=actor))
    return True


def _check_ban(tx: Transaction, actor: int) -> None:
    if bans.reason(tx, actor) is not None:
        raise Refused("This account can't become a member here.", name="AccountTakedown")


def _listed(settings: Settings, did: str, handle: str | None) -> bool:
    """Whether the allow-list names them. It counts in every mode: the operator wrote it."""
    named = {
        entry if entry.startswith("did:") else entry.removeprefix("@").lower() for entry in settings.members
    }
    return ANYBODY in named or did in named or (handle is not None and handle.lower() in named)
