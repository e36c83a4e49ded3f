"""A list by which a member mutes is brought here with whoever is on it, and follows its owner's changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from appliance.backfill.fetcher import Fetcher
from appliance.backfill.lists_in_force import READ_AGAIN_S, ListsInForce
from appliance.clock import ManualClock, SystemClock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.members import admission
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.protocol.cid import cid_of, to_text
from appliance.protocol.events import CommitEvent
from appliance.protocol.tid import tid_of
from appliance.store import actors, private, records
from appliance.store.database import Database, Transaction
from tests.devnet.devnets import small

ITEM = "app.bsky.graph.listitem"
MEMBER = "did:plc:" + "m" * 24
CREATED = "2026-01-01T00:00:00Z"


async def test_who_is_on_it_comes_and_goes_with_the_owners_listing_and_with_the_stream(
    tmp_path: Path,
) -> None:
    async with small(pds=1) as network:
        owner, ann, bob, cid = (network.create_account(f"{name}.test") for name in ("owner", "a", "b", "c"))
        lists = [
            network.put(
                owner.did,
                "app.bsky.graph.list",
                {"purpose": "app.bsky.graph.defs#modlist", "name": name, "createdAt": CREATED},
            )
            for name in ("muted", "other")
        ]

        def put(subject: str, uri: str) -> str:
            return network.put(owner.did, ITEM, {"subject": subject, "list": uri, "createdAt": CREATED})

        first = put(ann.did, lists[0])
        put(bob.did, lists[0])
        put(cid.did, lists[1])
        settings = Settings(data_dir=str(tmp_path), plc_url=network.info["plc"], allow_loopback=True)
        rules = Rules(partial(lexicons.validate_record, published=True), "tracked")
        database = await Database.open(tmp_path / "appliance.db")
        real, clock = SystemClock(), ManualClock()
        outbound = Outbound(settings, real)
        identities = Identities(database, outbound, settings, real)
        fetcher = Fetcher(database, outbound, identities, settings, real, rules)
        reading = ListsInForce(database, fetcher, rules, clock)
        applier = Applier(rules)

        async def on_it() -> set[str]:
            rows = await database.read(
                lambda r: r.all("SELECT a.did FROM link l JOIN actor a ON a.id = l.subject WHERE l.kind = 6")
            )
            return {row[0] for row in rows}

        def mute(tx: Transaction) -> None:
            viewer = actors.ensure(tx, MEMBER, real.now_us())
            admission.admit(tx, settings, viewer, "open", real.now_us())
            found = records.mention(tx, lists[0])
            assert found is not None
            private.mute_list(tx, viewer, found, real.now_us())

        async def told(seq: int, *bodies: bytes) -> int:
            now_us = real.now_us()
            events = [
                CommitEvent(owner.did, rev, 0, "create", ITEM, rev, to_text(cid_of(body)), body, now_us)
                for number, body in enumerate(bodies)
                for rev in [tid_of(now_us, number)]
            ]
            batch = Batch("test", "jetstream-v2", seq, now_us, list(events))
            return (await database.write(lambda tx: applier.apply_batch(tx, batch, now_us=now_us))).strangers

        try:
            await reading.look()
            assert await on_it() == set()
            await database.write(mute)
            await reading.look()
            assert await on_it() == {ann.did, bob.did}

            network.delete(first)
            await reading.look()
            assert await on_it() == {ann.did, bob.did}
            await clock.advance(READ_AGAIN_S + 1)
            await reading.look()
            assert await on_it() == {bob.did}

            bodies = [
                f'{{"$type":"{ITEM}","subject":"{who}","list":"{uri}","createdAt":"{CREATED}"}}'.encode()
                for who, uri in ((ann.did, lists[0]), (cid.did, lists[1]))
            ]
            assert await told(1, *bodies) == 1
            assert await on_it() == {ann.did, bob.did}
        finally:
            await outbound.close()
            await database.close()
