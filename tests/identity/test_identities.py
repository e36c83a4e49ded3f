"""Who DIDs and handles are, asked of a directory and of domains that answer as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, NotFound, Unavailable
from appliance.identity import handles
from appliance.identity import identities as identities_module
from appliance.identity.identities import Identities
from appliance.outbound.client import Answer, NotSent, Outbound
from appliance.protocol import keys
from appliance.store import actors, repos
from appliance.store.database import Database
from tests.scripted import Names, Server, reply, scripted_server

ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
BOB = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
KEY = keys.PrivateKey.generate()
OTHER_KEY = keys.PrivateKey.generate("p256")


def document(did: str, handle: str = "alice.test", pds: str = "https://pds.net", key: Any = KEY) -> bytes:
    return orjson.dumps(
        {
            "id": did,
            "alsoKnownAs": [f"at://{handle}"],
            "verificationMethod": [
                {"id": f"{did}#atproto", "type": "Multikey", "controller": did,
                 "publicKeyMultibase": key.multibase}
            ],
            "service": [
                {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds},
            ],
        }
    )  # fmt: skip


class Rig:
    """A directory that is also the resolver of handles, as devnet has it."""

    def __init__(self, database: Database, server: Server, clock: ManualClock) -> None:
        self.database = database
        self.server = server
        self.clock = clock
        self.documents: dict[str, bytes] = {}
        self.handles: dict[str, str] = {}
        self.status = 200
        self.moved: list[int] = []
        self.before_answer: Callable[[], Any] | None = None
        settings = Settings(
            allow_loopback=True,
            plc_url=server.url,
            handle_resolvers=(server.url,),
            outbound_rate_per_host=1e6,
        )
        self.outbound = Outbound(settings, clock)
        self.identities = Identities(
            database, self.outbound, settings, clock, moved=lambda tx, actor: self.moved.append(actor)
        )
        server.handler = self._answer

    async def _answer(self, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if self.before_answer is not None:
            await self.before_answer()
        if self.status != 200:
            writer.write(reply(self.status, b"{}"))
        elif "resolveHandle?handle=" in path:
            did = self.handles.get(path.split("=")[1])
            writer.write(reply(400) if did is None else reply(200, orjson.dumps({"did": did})))
        else:
            found = self.documents.get(path[1:])
            writer.write(reply(404, b"{}") if found is None else reply(200, found))

    def asked(self, part: str) -> int:
        return sum(part in first for first, _ in self.server.requests)

    async def row(self, did: str) -> Any:
        return await self.database.read(
            lambda r: r.one("SELECT handle, pds, signing_key, resolved_us FROM actor WHERE did = ?", (did,))
        )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    database = await Database.open(tmp_path / "test.db")
    async with scripted_server() as server:
        made = Rig(database, server, ManualClock())
        yield made
        await made.outbound.close()
    await database.close()


async def know(rig: Rig, did: str) -> None:
    await rig.database.write(lambda tx: actors.ensure(tx, did, 1))


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not await reached():
            await asyncio.sleep(0.005)


async def test_a_document_is_fetched_once_and_its_handle_confirmed_both_ways(rig: Rig) -> None:
    rig.documents[ALICE] = document(ALICE)
    rig.handles["alice.test"] = ALICE
    found = await asyncio.gather(*(rig.identities.get(ALICE) for _ in range(20)))
    assert {(f.did, f.handle, f.pds, f.signing_key) for f in found} == {
        (ALICE, "alice.test", "https://pds.net", KEY.did_key)
    }
    assert rig.asked(ALICE) == 1
    await rig.clock.advance(23 * 3600)
    await rig.identities.get(ALICE)
    assert rig.asked(ALICE) == 1
    await rig.clock.advance(2 * 3600)
    await rig.identities.get(ALICE)
    assert rig.asked(ALICE) == 2


@pytest.mark.parametrize("points_to", [None, BOB])
async def test_a_handle_that_does_not_point_back_is_none(rig: Rig, points_to: str | None) -> None:
    rig.documents[ALICE] = document(ALICE)
    if points_to is not None:
        rig.handles["alice.test"] = points_to
    assert (await rig.identities.get(ALICE)).handle is None


async def test_a_handle_moves_to_whom_it_points_at(rig: Rig) -> None:
    rig.documents |= {ALICE: document(ALICE), BOB: document(BOB)}
    rig.handles["alice.test"] = ALICE
    assert (await rig.identities.get(ALICE)).handle == "alice.test"
    rig.handles["alice.test"] = BOB
    assert (await rig.identities.get(BOB)).handle == "alice.test"
    assert (await rig.row(ALICE))[0] is None


async def test_a_forced_refresh_asks_at_most_once_a_minute(rig: Rig) -> None:
    rig.documents[ALICE] = document(ALICE)
    await rig.identities.get(ALICE)
    for _ in range(5):
        await rig.identities.refresh(ALICE)
    assert rig.asked(ALICE) == 1
    await rig.clock.advance(61)
    await rig.identities.refresh(ALICE)
    assert rig.asked(ALICE) == 2


async def test_not_there_and_could_not_find_out_differ(rig: Rig) -> None:
    with pytest.raises(NotFound):
        await rig.identities.get(ALICE)
    with pytest.raises(NotFound):
        await rig.identities.get(ALICE)
    assert rig.asked(ALICE) == 1, "a no is remembered for a while"
    await rig.clock.advance(31)
    rig.status = 503
    with pytest.raises(Unavailable):
        await rig.identities.get(ALICE)
    rig.status = 200
    rig.documents[ALICE] = document(ALICE)
    assert (await rig.identities.get(ALICE)).pds == "https://pds.net"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", document(BOB), b"{" * 5000, b"x" * 70_000])
async def test_what_is_no_document_is_refused_and_nothing_kept(rig: Rig, body: bytes) -> None:
    rig.documents[ALICE] = body
    with pytest.raises(BadInput):
        await rig.identities.get(ALICE)
    assert await rig.row(ALICE) is None


@pytest.mark.parametrize(
    "did",
    ["did:key:zabc", "did:web:10.0.0.1", "did:web:a.local", "did:web:a.net:path", "did:web:a.net%3A25", "x"],
)
async def test_dids_that_lead_nowhere_public_are_refused(rig: Rig, did: str) -> None:
    with pytest.raises(BadInput):
        await rig.identities.get(did)
    assert not rig.server.requests


async def test_a_did_of_this_machine_is_read_from_it_in_devnet(rig: Rig) -> None:
    did = f"did:web:localhost%3A{rig.server.port}"
    rig.documents[".well-known/did.json"] = document(did)
    assert (await rig.identities.get(did)).pds == "https://pds.net"


@pytest.mark.parametrize(
    ("changed", "moves"),
    [({}, 0), ({"pds": "https://new.net"}, 1), ({"key": OTHER_KEY}, 1), ({"handle": "other.test"}, 0)],
)
async def test_another_server_or_key_is_told(rig: Rig, changed: dict[str, Any], moves: int) -> None:
    rig.documents[ALICE] = document(ALICE)
    await rig.identities.get(ALICE)
    rig.documents[ALICE] = document(ALICE, **changed)
    await rig.clock.advance(61)
    await rig.identities.refresh(ALICE)
    assert len(rig.moved) == moves


async def test_accounts_that_are_due_are_read_in_the_background(rig: Rig) -> None:
    rig.documents |= {ALICE: document(ALICE), BOB: document(BOB, "bob.test")}
    rig.handles |= {"alice.test": ALICE, "bob.test": BOB}
    for did in (ALICE, BOB):
        await know(rig, did)
    only_mentioned = "did:plc:cccccccccccccccccccccccc"
    await rig.database.write(lambda tx: actors.ensure(tx, only_mentioned))
    task = asyncio.create_task(rig.identities.run())

    async def handled() -> bool:
        return [(await rig.row(did))[0] for did in (ALICE, BOB)] == ["alice.test", "bob.test"]

    await until(handled)
    assert rig.asked(only_mentioned) == 0
    # An identity event makes it due again, at once.
    rig.documents[ALICE] = document(ALICE, "new.test")
    rig.handles["new.test"] = ALICE
    await rig.database.write(lambda tx: actors.identity_due(tx, 1))
    rig.identities.wake()

    async def renamed() -> bool:
        return bool((await rig.row(ALICE))[0] == "new.test")

    await until(renamed)
    task.cancel()
    await asyncio.wait([task])


async def test_an_account_that_cannot_be_read_is_tried_again_later(rig: Rig) -> None:
    await know(rig, ALICE)
    rig.status = 503
    task = asyncio.create_task(rig.identities.run())

    async def put_off() -> bool:
        resolved_us = (await rig.row(ALICE))[3]
        return resolved_us is not None and -resolved_us > rig.clock.now_us() + 200_000_000

    await until(put_off)
    rig.status = 200
    rig.documents[ALICE] = document(ALICE)
    assert rig.asked(ALICE) == 1
    await rig.clock.advance(301)

    async def read() -> bool:
        await rig.clock.advance(1)
        return bool((await rig.row(ALICE))[1] == "https://pds.net")

    await until(read)
    task.cancel()
    await asyncio.wait([task])


async def test_an_event_that_comes_while_the_document_is_read_is_not_lost(rig: Rig) -> None:
    rig.documents[ALICE] = document(ALICE)
    await know(rig, ALICE)

    async def another_event() -> None:
        rig.before_answer = None
        await rig.database.write(lambda tx: actors.identity_due(tx, 1))

    rig.before_answer = another_event
    await rig.identities.refresh(ALICE)
    _, pds, _, resolved_us = await rig.row(ALICE)
    assert pds == "https://pds.net"
    assert resolved_us is None, "still due: what was read may be older than the event"


async def test_a_confirmed_handle_stays_while_nobody_answers_for_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.documents[ALICE] = document(ALICE)
    rig.handles["alice.test"] = ALICE
    assert (await rig.identities.get(ALICE)).handle == "alice.test"

    async def silent(*args: object) -> str:
        raise Unavailable("nobody answers")

    monkeypatch.setattr(handles, "resolve", silent)
    await rig.clock.advance(61)
    assert (await rig.identities.refresh(ALICE)).handle == "alice.test"


async def test_keys_are_found_by_their_id(rig: Rig) -> None:
    rig.documents[ALICE] = document(ALICE)
    assert await rig.identities.key_of(ALICE, "#atproto", False) == KEY.did_key
    assert await rig.identities.key_of(ALICE, "#atproto", True) == KEY.did_key
    assert await rig.identities.key_of(ALICE, "#other", False) is None
    assert await rig.identities.key_of(BOB, "#atproto", False) is None


async def test_either_kind_of_name_is_looked_up(rig: Rig) -> None:
    rig.documents[ALICE] = document(ALICE)
    rig.handles["alice.test"] = ALICE
    assert (await rig.identities.lookup("Alice.Test")).did == ALICE
    assert (await rig.identities.lookup(ALICE)).handle == "alice.test"
    with pytest.raises(NotFound):
        await rig.identities.lookup("nobody.test")


class Domains(Names):
    """Domains that answer for handles: TXT records, and what stands at the well-known address."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, list[str] | ApplianceError] = {}
        self.pages: dict[str, tuple[int, bytes] | ApplianceError] = {}

    async def texts(self, name: str) -> list[str]:
        found = self.records.get(name, [])
        if isinstance(found, ApplianceError):
            raise found
        return found


NOBODY = NotSent("there is no such host", name="HostNotFound")
SILENT = Unavailable("silence")


@pytest.mark.parametrize(
    ("records", "page", "found"),
    [
        ([f"did={ALICE}"], NOBODY, ALICE),
        ([f"did={ALICE}"], (200, BOB.encode()), ALICE),
        (["v=spf1", f"did={ALICE}"], SILENT, ALICE),
        ([f"did={ALICE}", f"did={ALICE}"], NOBODY, ALICE),
        ([f"did={ALICE}", f"did={BOB}"], (200, ALICE.encode()), None),
        (["did=nonsense"], NOBODY, None),
        ([], (200, f"  {ALICE}\n".encode()), ALICE),
        ([], (200, f"{ALICE}\nand more".encode()), ALICE),
        ([], (200, b"<html>"), None),
        ([], (200, b"\xff\xfe"), None),
        ([], (404, b""), None),
        ([], NOBODY, None),
        (SILENT, (200, ALICE.encode()), ALICE),
        (BadInput("500 records"), (200, ALICE.encode()), ALICE),
        ([], BadInput("not a public address"), None),
        (SILENT, (404, b""), Unavailable),
        ([], SILENT, Unavailable),
        ([], (503, b""), Unavailable),
        (SILENT, SILENT, Unavailable),
    ],
)
async def test_dns_wins_and_silence_is_not_a_no(
    records: Any, page: Any, found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = Domains()
    domains.records["_atproto.alice.net"] = records
    outbound = Outbound(Settings(), ManualClock(), names=domains)

    async def get(url: str, **kwargs: object) -> Answer:
        assert url == "https://alice.net/.well-known/atproto-did"
        if isinstance(page, ApplianceError):
            raise page
        return Answer(page[0], {}, page[1])

    monkeypatch.setattr(outbound, "get", get)
    if found is Unavailable:
        with pytest.raises(Unavailable):
            await handles.resolve(outbound, Settings(), "alice.net")
    else:
        assert await handles.resolve(outbound, Settings(), "alice.net") == found
    await outbound.close()


async def read_again(rig: Rig, changed: Callable[[], Any]) -> None:
    """A day and some minutes pass while the task runs; no event tells of anything."""
    task = asyncio.create_task(rig.identities.run())

    async def reached() -> bool:
        await rig.clock.advance(61)
        return bool(await changed())

    await rig.clock.advance(24 * 3600 + 60)
    await until(reached)
    task.cancel()
    await asyncio.wait([task])


async def tracked(rig: Rig, did: str) -> None:
    await rig.database.write(lambda tx: repos.want(tx, actors.ensure(tx, did, 1), 1))
    await rig.identities.get(did)


async def test_a_handle_that_was_taken_away_is_found_out_within_a_day(rig: Rig) -> None:
    """83. Hijacked: its domain points at somebody else now, whose document does not claim it."""
    rig.documents |= {ALICE: document(ALICE), BOB: document(BOB, "bob.test")}
    rig.handles |= {"alice.test": ALICE, "bob.test": BOB}
    await tracked(rig, ALICE)
    await tracked(rig, BOB)
    rig.handles["alice.test"] = BOB

    async def lost() -> bool:
        return (await rig.row(ALICE))[0] is None

    await read_again(rig, lost)
    assert (await rig.row(BOB))[0] == "bob.test"


async def test_two_accounts_that_swap_their_handles_both_end_with_the_other_s(rig: Rig) -> None:
    """83."""
    rig.documents |= {ALICE: document(ALICE), BOB: document(BOB, "bob.test")}
    rig.handles |= {"alice.test": ALICE, "bob.test": BOB}
    await tracked(rig, ALICE)
    await tracked(rig, BOB)
    rig.documents |= {ALICE: document(ALICE, "bob.test"), BOB: document(BOB, "alice.test")}
    rig.handles |= {"alice.test": BOB, "bob.test": ALICE}

    async def swapped() -> bool:
        return [(await rig.row(did))[0] for did in (ALICE, BOB)] == ["bob.test", "alice.test"]

    await read_again(rig, swapped)


async def test_a_handle_that_two_claim_is_that_of_whom_it_points_at(rig: Rig) -> None:
    """83. Contested: both documents name it."""
    rig.documents |= {ALICE: document(ALICE), BOB: document(BOB)}
    rig.handles["alice.test"] = ALICE
    assert (await rig.identities.get(BOB)).handle is None
    assert (await rig.identities.get(ALICE)).handle == "alice.test"
    await rig.clock.advance(61)
    assert (await rig.identities.refresh(BOB)).handle is None
    assert (await rig.row(ALICE))[0] == "alice.test"


async def test_who_can_not_be_read_again_keeps_nobody_waiting_and_stays_as_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """81, 83."""
    monkeypatch.setattr(identities_module, "RECHECK_AT_ONCE", 1)
    rig.documents |= {ALICE: document(ALICE), BOB: document(BOB, "bob.test")}
    rig.handles |= {"alice.test": ALICE, "bob.test": BOB, "new.test": BOB}
    await tracked(rig, ALICE)
    await rig.clock.advance(1)
    await tracked(rig, BOB)
    rig.documents[ALICE] = b"no document any more"
    rig.documents[BOB] = document(BOB, "new.test")

    async def renamed() -> bool:
        return bool((await rig.row(BOB))[0] == "new.test")

    await read_again(rig, renamed)
    assert (await rig.row(ALICE))[:2] == ("alice.test", "https://pds.net")


async def test_a_did_web_whose_host_is_down_stays_as_last_known(rig: Rig) -> None:
    """81."""
    did = f"did:web:localhost%3A{rig.server.port}"
    rig.documents[".well-known/did.json"] = document(did)
    await rig.identities.get(did)
    await rig.clock.advance(25 * 3600)
    rig.status = 503
    with pytest.raises(Unavailable):
        await rig.identities.get(did)

    known = await rig.identities.last_known(did)

    assert known is not None
    assert (known.pds, known.signing_key) == ("https://pds.net", KEY.did_key)
    assert await rig.identities.last_known(BOB) is None
