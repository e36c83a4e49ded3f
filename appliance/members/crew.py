"""What the operator's pages need beside the database."""

from __future__ import annotations

from appliance.clock import Clock
from appliance.members import commands
from appliance.members.commands import EndSessions
from appliance.store import actors
from appliance.store.database import Database


class Crew:
    """Ends sessions, also at members' servers, and makes invite codes."""

    def __init__(self, database: Database, end_all: EndSessions, clock: Clock) -> None:
        self._database = database
        self._end_all = end_all
        self._clock = clock

    async def end_sessions(self, did: str) -> None:
        """Everything that the account is signed in with."""
        actor = await self._database.read(lambda r: actors.find_id(r, did))
        if actor is not None:
            await self._end_all(actor)

    async def invite(self, uses: int) -> str:
        """A new code for so many people. Raises BadInput."""
        return await commands.invite(self._database, self._clock, uses)
