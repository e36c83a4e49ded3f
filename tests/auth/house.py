"""A whole auth over a real database and a real, small PDS."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from appliance.auth.parts import Auth, build
from appliance.auth.secrets import open_secrets
from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import NotFound, Refused, Unavailable
from appliance.outbound.client import Outbound
from appliance.store.database import Database, Transaction
from tests.auth.small_pds import SmallPds

ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
BOB = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
PASSWORD = "abcd-efgh-2345-6789"


class Known(NamedTuple):
    did: str
    handle: str | None
    pds: str | None


class Book:
    """Who is who outside."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.handles: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.down = False
        self.ages: list[float] = []

    async def get(self, did: str, *, max_age_s: float) -> Known:
        self.ages.append(max_age_s)
        if self.down:
            raise Unavailable("the directory does not answer")
        if did not in self.known:
            raise NotFound("no such DID")
        return self.known[did]

    def forget(self, did: str) -> None:
        self.ages.append(-1.0)

    async def resolve_handle(self, handle: str) -> str | None:
        return self.handles.get(handle)

    async def key_of(self, did: str, key_id: str, fresh: bool) -> str | None:
        return self.keys.get(did)


class House:
    """The appliance's side of signing in."""

    def __init__(self, path: Path, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.book = Book()
        self.settings = Settings(
            data_dir=str(path), appview_did="did:web:localhost%3A2580", allow_loopback=True
        )
        self.pds = SmallPds(self.clock)
        self.welcome = {ALICE}
        self.joined: list[tuple[str, str | None, str]] = []

    async def open(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.pds)
        self.outbound = Outbound(self.settings, self.clock)
        stack.push_async_callback(self.outbound.close)
        self.database = await Database.open(self.settings.data_path / "test.db")
        stack.push_async_callback(self.database.close)
        self.auth = self.build()
        for did, handle in ((ALICE, "alice.test"), (BOB, "bob.test")):
            self.pds.add(did, handle, PASSWORD)
            self.book.known[did] = Known(did, handle, self.pds.origin)
            self.book.handles[handle] = did

    def build(self) -> Auth:
        """As a start of the process does."""
        keys = open_secrets(self.settings)
        return build(self.database, self.book, self.outbound, keys, self.join, self.settings, self.clock)

    def join(self, tx: Transaction, did: str, handle: str | None, invite: str, now_us: int) -> bool:
        self.joined.append((did, handle, invite))
        actor = tx.value("SELECT id FROM actor WHERE did = ?", (did,))
        if actor is None:
            actor = tx.insert(
                "INSERT INTO actor (did, handle, pds) VALUES (?, ?, ?)",
                (did, handle, self.book.known[did].pds),
            )
        if did not in self.welcome:
            raise Refused("This server is for its members only.", name="NotAdmitted")
        tx.run(
            "INSERT OR IGNORE INTO member (actor, via, admitted_us) VALUES (?, 'open', ?)", (actor, now_us)
        )
        return True

    async def rows(self, table: str) -> int:
        return await self.database.read(lambda r: int(r.value(f"SELECT count(*) FROM {table}")))

    async def run(self, sql: str, *params: object) -> None:
        await self.database.write(lambda tx: tx.run(sql, params))
