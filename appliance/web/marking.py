"""What readers change about their own reading: markers, filters, options. Nothing of it leaves this house."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from appliance.clock import Clock
from appliance.errors import NotFound
from appliance.store import actors, feed_keys, reading
from appliance.store.database import Database, Reader, Transaction
from appliance.store.timeline import Place
from appliance.timeline import cursors

T = TypeVar("T")

DEVICE_CHARS_MAX = 80


class Marking:
    """doors.Marking over the database. A mark is on the disk before it is confirmed."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def mark(
        self,
        viewer: str,
        timeline: str,
        cursor: str,
        *,
        version: int,
        arrival: int,
        exactly: bool,
        device: str,
    ) -> bool:
        """Read up to the row of this cursor. Whether the marker moved."""
        place = cursors.parse(cursor)
        return await self._change(
            viewer,
            lambda tx, actor: reading.move(
                tx,
                actor,
                timeline,
                place,
                version=version,
                arrival=arrival,
                exactly=exactly,
                device=device[:DEVICE_CHARS_MAX],
                now_us=self._clock.now_us(),
            ),
        )

    async def mark_time(
        self, viewer: str, timeline: str, at_ms: int, *, version: int, arrival: int, device: str
    ) -> bool:
        """Everything older than this moment is read."""
        cursor = cursors.text_of(Place(at_ms, 0, 0), ambiguous=True)
        return await self.mark(
            viewer, timeline, cursor, version=version, arrival=arrival, exactly=False, device=device
        )

    async def undo(self, viewer: str, timeline: str, *, device: str) -> bool:
        """Take the last move back. Whether there was one."""
        return await self._change(
            viewer,
            lambda tx, actor: reading.undo(
                tx, actor, timeline, device=device[:DEVICE_CHARS_MAX], now_us=self._clock.now_us()
            ),
        )

    async def choose(self, viewer: str, timeline: str, *, hide: int, oldest_first: bool) -> None:
        """How a timeline is shown."""
        await self._change(
            viewer,
            lambda tx, actor: reading.choose(tx, actor, timeline, hide=hide, oldest_first=oldest_first),
        )

    async def filter_account(self, viewer: str, did: str, hide: int) -> None:
        """What of one account is left out of every timeline. Raises NotFound for who is not known here."""

        def change(tx: Transaction, actor: int) -> None:
            subject = actors.find_id(tx, did)
            if subject is None:
                raise NotFound("This account is not known here.")
            reading.filter_account(tx, actor, subject, hide)

        await self._change(viewer, change)

    async def late_seen(self, viewer: str, arrival: int) -> None:
        """What came late up to that number was looked at."""
        await self._change(viewer, lambda tx, actor: reading.late_seen(tx, actor, arrival))

    async def _change(self, viewer: str, change: Callable[[Transaction, int], T]) -> T:
        return await self._database.write(lambda tx: change(tx, actors.ensure(tx, viewer)), durable=True)


class Keys:
    """doors.FeedKeys over the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find(self, key: str) -> tuple[str, str] | None:
        """Whose timeline an address leads to, and which."""
        return await self._database.read(lambda reader: feed_keys.find(reader, key))

    async def add(self, viewer: str, key: str) -> None:
        """One more address for the home timeline."""
        now_us = self._clock.now_us()
        await self._database.write(
            lambda tx: feed_keys.add(tx, actors.ensure(tx, viewer), key, "", now_us), durable=True
        )

    async def listing(self, viewer: str) -> list[tuple[int, int]]:
        """Number and time of each address."""

        def look(reader: Reader) -> list[tuple[int, int]]:
            found = actors.find_id(reader, viewer)
            return [] if found is None else feed_keys.listing(reader, found)

        return await self._database.read(look)

    async def revoke(self, viewer: str, number: int) -> None:
        """That address leads nowhere from now on."""
        await self._database.write(
            lambda tx: feed_keys.revoke(tx, actors.ensure(tx, viewer), number), durable=True
        )
