"""Whether an account may ask as itself."""

from __future__ import annotations

from appliance.errors import Refused

OUT = frozenset({"takendown", "suspended", "deactivated", "deleted"})


def check(status: str | None, takedown: str | None) -> None:
    """Raises Refused for an account that its host or we have taken out of service."""
    if takedown is not None:
        raise inactive("takendown")
    if status in OUT:
        raise inactive(status)


def inactive(status: str | None) -> Refused:
    """The refusal of an account that is not active."""
    match status:
        case "takendown":
            return Refused("This account has been taken down", name="AccountTakedown")
        case "suspended":
            return Refused("This account is suspended", name="AccountSuspended")
        case "deactivated":
            return Refused("This account is deactivated at its server", name="AccountDeactivated")
        case "deleted":
            return Refused("This account has been deleted", name="AccountDeleted")
        case _:
            return Refused("This account is not active at its server", name="AccountInactive")
