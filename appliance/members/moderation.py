"""What an operator decides about accounts and records, each with the row that tells of it."""

from __future__ import annotations

from appliance.errors import BadInput, NotFound
from appliance.members import admission
from appliance.protocol import syntax
from appliance.store import actors, acts, bans, members, records, reports, takedowns
from appliance.store.acts import By
from appliance.store.database import Transaction

REASON_CHARS_MAX = 300


def take_down(tx: Transaction, subject: str, reason: str, by: By, now_us: int) -> None:
    """Show this account (a DID) or record (an address) to nobody. Raises NotFound, BadInput."""
    _mark(tx, subject, checked(reason), by, "take down", now_us)


def put_back(tx: Transaction, subject: str, by: By, now_us: int) -> None:
    """Take a takedown back. Raises NotFound, BadInput."""
    _mark(tx, subject, None, by, "put back", now_us)


def ban(tx: Transaction, did: str, reason: str, by: By, now_us: int) -> int:
    """End the membership, erase what was kept of it, and let nobody of that name in; the actor."""
    actor = actors.ensure(tx, did, now_us)
    before = "member" if members.is_member(tx, actor) else bans.reason(tx, actor) or ""
    bans.set_(tx, actor, checked(reason), now_us)
    admission.leave(tx, actor, now_us)
    acts.add(tx, by, "ban", did, before, reason, now_us)
    return actor


def lift_ban(tx: Transaction, did: str, by: By, now_us: int) -> None:
    """They may come in again, as the admission setting says. Raises NotFound for who might anyway."""
    actor = actors.find_id(tx, did)
    before = None if actor is None else bans.reason(tx, actor)
    if actor is None or before is None:
        raise NotFound(f"{did} is not banned")
    bans.lift(tx, actor)
    acts.add(tx, by, "lift ban", did, before, "", now_us)


def remove(tx: Transaction, did: str, by: By, now_us: int) -> None:
    """End a membership and erase what was kept of it. Raises NotFound for who is no member."""
    actor = actors.find_id(tx, did)
    if actor is None or not admission.leave(tx, actor, now_us):
        raise NotFound(f"{did} is not a member")
    acts.add(tx, by, "remove", did, "member", "", now_us)


def settle(tx: Transaction, report: int, by: By, now_us: int) -> None:
    """Somebody has looked at that report. Raises NotFound."""
    if not reports.settle(tx, report, now_us):
        raise NotFound("That report is settled already")
    acts.add(tx, by, "settle report", str(report), "open", "settled", now_us)


def checked(reason: str) -> str:
    """A reason as it is kept. Raises BadInput where there is none."""
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= REASON_CHARS_MAX:
        raise BadInput(f"Give a reason of 1 to {REASON_CHARS_MAX} characters")
    return reason


def _mark(tx: Transaction, subject: str, reason: str | None, by: By, name: str, now_us: int) -> None:
    if syntax.is_did(subject):
        actor = actors.find_id(tx, subject)
        if actor is None:
            raise NotFound("That account is not known here")
        before = takedowns.of_actor(tx, actor)
        takedowns.mark_actor(tx, actor, reason)
    else:
        found = records.find(tx, str(syntax.parse_at_uri(subject)))
        if found is None:
            raise NotFound("That record is not known here")
        before = takedowns.of_record(tx, found.id)
        takedowns.mark_record(tx, found.id, reason)
    acts.add(tx, by, name, subject, before or "", reason or "", now_us)
