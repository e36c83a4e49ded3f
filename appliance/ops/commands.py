"""The operator's commands by name, whether they come from the command line or to the running process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput, Unavailable
from appliance.feeds.publishing import Publishing
from appliance.identity.identities import Identities
from appliance.members import commands as members
from appliance.members.importing import OFFICIAL, Importing
from appliance.ops.control import Command
from appliance.ops.status import Status
from appliance.store import acts, progress
from appliance.store.database import Database

ACTS_MAX = 1000


def commands(
    database: Database,
    identities: Identities,
    publishing: Publishing,
    importing: Importing,
    settings: Settings,
    clock: Clock,
    status: Status,
    end_sessions: members.EndSessions | None = None,
    admin_link: Callable[[], str] | None = None,
) -> dict[str, Command]:
    """Each takes the words after its name and gives something that JSON can hold.

    ``end_sessions`` and ``admin_link`` are there while the appliance runs.
    """

    async def add(arguments: list[str]) -> Any:
        did, new = await members.add(database, identities, settings, clock, _one(arguments))
        return {"did": did, "new": new}

    async def remove(arguments: list[str]) -> Any:
        return {"did": await members.remove(database, identities, clock, _one(arguments), end_sessions)}

    async def ban(arguments: list[str]) -> Any:
        if len(arguments) != 2:
            raise BadInput("an account and a reason are expected here")
        who, reason = arguments
        return {"did": await members.ban(database, identities, clock, who, reason, end_sessions)}

    async def unban(arguments: list[str]) -> Any:
        return {"did": await members.unban(database, identities, clock, _one(arguments))}

    async def link(_arguments: list[str]) -> Any:
        if admin_link is None:
            raise Unavailable("the appliance does not run: start it first")
        return {"link": admin_link()}

    async def log(_arguments: list[str]) -> Any:
        return [act._asdict() for act in await database.read(lambda r: acts.latest(r, ACTS_MAX))]

    async def listing(_arguments: list[str]) -> Any:
        return [
            {"did": m.did, "handle": m.handle, "via": m.via, "admitted_us": m.admitted_us}
            for m in await members.listing(database)
        ]

    async def invite(arguments: list[str]) -> Any:
        try:
            uses = int(_one(arguments))
        except ValueError as error:
            raise BadInput("how many people shall the code admit?") from error
        return {"code": await members.invite(database, clock, uses), "uses": uses}

    async def export(arguments: list[str]) -> Any:
        return await members.export(database, clock, _one(arguments))

    async def take_over(arguments: list[str]) -> Any:
        who, service = arguments if len(arguments) == 2 else (_one(arguments), OFFICIAL)
        did = await members.did_of(database, who)
        return {
            "did": did,
            "kinds": [msgspec.to_builtins(each) for each in await importing.everything(did, service)],
        }

    async def accounts(_arguments: list[str]) -> Any:
        return await database.read(progress.overall)

    async def feed_publish(arguments: list[str]) -> Any:
        return msgspec.to_builtins(await publishing.publish(*_two(arguments)))

    async def feed_unpublish(arguments: list[str]) -> Any:
        return msgspec.to_builtins(await publishing.unpublish(*_two(arguments)))

    async def told(_arguments: list[str]) -> Any:
        return await status.told()

    return {
        "feed publish": feed_publish,
        "feed unpublish": feed_unpublish,
        "accounts": accounts,
        "status": told,
        "member add": add,
        "member remove": remove,
        "member list": listing,
        "member invite": invite,
        "member export": export,
        "member import": take_over,
        "member ban": ban,
        "member unban": unban,
        "member admin-link": link,
        "member log": log,
    }


def _two(arguments: list[str]) -> tuple[str, str]:
    if len(arguments) != 2:
        raise BadInput("an account and its app password are expected here")
    return arguments[0], arguments[1]


def _one(arguments: list[str]) -> str:
    if len(arguments) != 1:
        raise BadInput("exactly one word is expected here")
    return arguments[0]
