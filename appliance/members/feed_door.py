"""Somebody who is no member opens one of our feeds: admitted on the spot, or told how to join."""

from __future__ import annotations

from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput, Refused
from appliance.members import admission
from appliance.store import identities
from appliance.store.database import Database, Transaction


class FeedDoor:
    """``admit`` by the admission setting. Whom it does not let in costs no write."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def admit(self, did: str) -> None:
        """Make this proven account a member. Raises BadInput with what it can do instead.

        Not Refused: its status would make clients believe that their session is over.
        """
        known = await self._database.read(lambda reader: identities.find(reader, did))
        handle = None if known is None else known.handle
        if not admission.admits(self._settings, did, handle):
            raise BadInput(self._how_to_join(), name="NotAdmitted")
        now_us = self._clock.now_us()

        def join(tx: Transaction) -> None:
            admission.join(tx, self._settings, did, handle, "", now_us)

        try:
            await self._database.write(join, durable=True)
        except Refused as error:
            raise BadInput(f"{error.message} {self._settings.origin}", name=error.name) from error

    def _how_to_join(self) -> str:
        where = self._settings.origin
        if self._settings.admission == "invite":
            return f"This feed is for members. With an invite code you can join: {where}"
        return f"This feed is for the members of {where}. Ask whoever runs it to let you in."
