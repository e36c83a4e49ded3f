"""Which labelers our members' clients ask for: by the header of each call, and by their preferences."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from cachetools import TTLCache

from appliance.clock import Clock
from appliance.store import actors, labels, records
from appliance.store.database import Database, Transaction

# A subscription that no client asks for any more ends after that time.
KEPT_S = 30 * 86_400.0
NOTED_AGAIN_S = 86_400.0
PER_MEMBER_MAX = 20
NOTES_MAX = 20_000
WAITING_MAX = 2_000
SERVICE = "app.bsky.labeler.service/self"
LABELERS_PREFERENCE = "app.bsky.actor.defs#labelersPref"


class Subscriptions:
    """Hears what members ask for, and writes it down once a day. ``want`` fetches records and people."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        want: Callable[[Collection[int], Collection[int]], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._want = want
        self._noted: TTLCache[tuple[str, str], None] = TTLCache(
            NOTES_MAX, NOTED_AGAIN_S, timer=clock.monotonic_s
        )
        self._waiting: dict[str, set[str]] = {}
        self._wake = asyncio.Event()
        self.changed = asyncio.Event()

    def heard(self, member: str, labelers: Collection[str]) -> None:
        """A member's client named these DIDs. Returns at once."""
        for did in list(labelers)[:PER_MEMBER_MAX]:
            if (member, did) in self._noted or len(self._waiting) >= WAITING_MAX:
                continue
            self._noted[member, did] = None
            self._waiting.setdefault(member, set()).add(did)
            self._wake.set()

    def preferences(self, member: str, preferences: Any) -> None:
        """The member's preferences passed by, as a PDS keeps them."""
        if not isinstance(preferences, list):
            return
        for each in preferences:
            if isinstance(each, dict) and each.get("$type") == LABELERS_PREFERENCE:
                named = each.get("labelers")
                entries = named if isinstance(named, list) else []
                dids = [entry.get("did") for entry in entries if isinstance(entry, dict)]
                self.heard(member, [did for did in dids if isinstance(did, str) and did.startswith("did:")])

    async def run(self) -> None:
        """Write down what was heard, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.write()

    async def write(self) -> None:
        """Write down what was heard until now."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return

        def note(tx: Transaction) -> tuple[set[int], set[int]]:
            now_us = self._clock.now_us()
            services: set[int] = set()
            people: set[int] = set()
            for member, dids in waiting.items():
                labels.subscribe(tx, actors.ensure(tx, member), sorted(dids), now_us, PER_MEMBER_MAX)
                for did in dids:
                    service, person = show(tx, did)
                    people.add(person)
                    services |= {service} if service is not None else set()
            labels.forget_subscriptions(tx, now_us - round(KEPT_S * 1e6))
            return services, people

        services, people = await self._database.write(note)
        self._want(services, people)
        self.changed.set()

    def show_later(self, service: int | None, person: int) -> None:
        """Fetch what a labeler is shown by (see ``show``), if it is not here."""
        self._want([] if service is None else [service], [person])


def show(tx: Transaction, did: str) -> tuple[int | None, int]:
    """Ids of what a labeler is shown by: its service record, where one may be kept, and itself."""
    return records.mention(tx, f"at://{did}/{SERVICE}"), actors.ensure(tx, did)
