"""Our own method by which a member takes along everything that is kept here and nowhere else."""

from __future__ import annotations

import orjson

from appliance.clock import Clock
from appliance.errors import Refused
from appliance.members import commands
from appliance.store.database import Database
from appliance.timeline.answering import Answer
from appliance.xrpc.methods import Access, Call, Method


def methods(database: Database, clock: Clock) -> list[Method]:
    """exportMyData."""

    async def export_my_data(call: Call) -> Answer:
        did = call.asker.did
        if did is None or not call.asker.member:
            raise Refused("Only members keep anything here", name="NotAMember")
        return Answer(orjson.dumps(await commands.export(database, clock, did)))

    return [
        Method("computer.aesthetic.appliance.exportMyData", Access.REQUIRED, export_my_data, counts="exports")
    ]
