"""Verifications are read from the verifiers' own servers, whoever was here when they were made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from appliance.backfill.fetcher import Fetcher
from appliance.backfill.vouching import Vouching
from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.protocol.cid import cid_of, to_text
from appliance.protocol.events import CommitEvent
from appliance.protocol.tid import tid_of
from appliance.store import actor_reads, actors
from appliance.store.database import Database, Reader
from tests.devnet.devnets import small

VERIFICATION = "app.bsky.graph.verification"
NOW_US = 1_767_225_600_000_000


async def test_the_whole_list_is_read_for_those_who_are_here_and_what_is_gone_goes(tmp_path: Path) -> None:
    async with small(pds=1) as network:
        vera, ann, bob = (network.create_account(f"{name}.test") for name in ("vera", "ann", "bob"))
        uris = {}
        for who in (ann, bob):
            record = {"subject": who.did, "handle": who.handle, "displayName": "X"}
            uris[who.did] = network.put(
                vera.did, VERIFICATION, record | {"createdAt": "2026-01-01T00:00:00Z"}
            )
        clock = SystemClock()
        settings = Settings(data_dir=str(tmp_path), plc_url=network.info["plc"], allow_loopback=True)
        rules = Rules(partial(lexicons.validate_record, published=True), "tracked", frozenset({vera.did}))
        database = await Database.open(tmp_path / "appliance.db")
        outbound = Outbound(settings, clock)
        identities = Identities(database, outbound, settings, clock)
        fetcher = Fetcher(database, outbound, identities, settings, clock, rules)
        reading = Vouching(database, fetcher, (vera.did,), rules, clock)

        async def vouched() -> set[int]:
            def find(reader: Reader) -> set[int]:
                issuer = actors.find_id(reader, vera.did)
                assert issuer is not None
                found = actor_reads.verifications(reader, range(50), [issuer])
                return {each.subject for each in found}

            return await database.read(find)

        try:
            number = await database.write(lambda tx: actors.ensure(tx, ann.did))
            await reading.read(vera.did)
            assert await vouched() == {number}
            other = await database.write(lambda tx: actors.ensure(tx, bob.did))
            network.delete(uris[ann.did])
            await reading.read(vera.did)
            assert await vouched() == {other}
        finally:
            await outbound.close()
            await database.close()


async def test_the_stream_brings_verifications_of_trusted_strangers_only(tmp_path: Path) -> None:
    vera, mallory, ann = (f"did:plc:{letter * 24}" for letter in "vma")
    applier = Applier(Rules(partial(lexicons.validate_record, published=True), "tracked", frozenset({vera})))
    database = await Database.open(tmp_path / "appliance.db")
    body = (
        f'{{"$type":"{VERIFICATION}","subject":"{ann}","handle":"ann.test","displayName":"X",'
        '"createdAt":"2026-01-01T00:00:00Z"}'
    ).encode()
    rev = tid_of(NOW_US, 1)
    events = [
        CommitEvent(who, rev, 0, "create", VERIFICATION, rev, to_text(cid_of(body)), body, NOW_US)
        for who in (vera, mallory)
    ]
    try:
        batch = Batch("test", "jetstream-v2", 1, NOW_US, list(events))
        tally = await database.write(lambda tx: applier.apply_batch(tx, batch, now_us=NOW_US))
        assert tally.strangers == 1
        kept = await database.read(
            lambda r: r.all("SELECT a.did FROM link l JOIN actor a ON a.id = l.actor WHERE l.kind = 8")
        )
        assert kept == [(vera,)]
    finally:
        await database.close()
