"""Records of our feeds in somebody's repository: written once, taken out whole."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.devnet.network import Network
from appliance.errors import NotFound, Refused
from appliance.feeds.publishing import Publishing
from appliance.identity.identities import Identities
from appliance.outbound.client import Outbound
from appliance.protocol import lexicons
from appliance.store import own_feeds
from appliance.store.database import Database
from tests.devnet.devnets import small

GENERATOR = "app.bsky.feed.generator"
US = "did:web:timeline.example.net"
BASIC = {"timeline", "no-reposts", "no-replies", "media"}


class Office:
    """An operator with an account on a real devnet PDS."""

    def __init__(self, net: Network, database: Database, publishing: Publishing) -> None:
        self.net = net
        self.database = database
        self.publishing = publishing
        self.account = net.create_account("cook.test")
        self.did = self.account.did
        self.password = self.account.entry.password

    def records(self) -> dict[str, Any]:
        repository = self.net.state.repository(self.did)
        keys = repository.collections.get(GENERATOR, {})
        return {key: self.net.record(f"at://{self.did}/{GENERATOR}/{key}") for key in keys}

    def rev(self) -> str:
        return self.net.state.repository(self.did).rev

    def list_of(self, name: str, purpose: str) -> str:
        record = {"$type": "app.bsky.graph.list", "name": name, "purpose": f"app.bsky.graph.defs#{purpose}"}
        record["createdAt"] = "2026-01-01T00:00:00Z"
        return self.net.put(self.did, "app.bsky.graph.list", record)

    async def kept(self) -> list[own_feeds.OwnFeed]:
        return await self.database.read(own_feeds.listing)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with small() as net:
        settings = Settings(
            data_dir=str(tmp_path),
            appview_did=US,
            allow_loopback=True,
            outbound_rate_per_host=1000.0,
            plc_url=net.info["plc"],
            handle_resolvers=(net.info["pds"][0],),
        )
        clock = SystemClock()
        database = await Database.open(tmp_path / "appliance.db")
        outbound = Outbound(settings, clock)
        identities = Identities(database, outbound, settings, clock)
        try:
            yield Office(net, database, Publishing(database, identities, outbound, settings, clock))
        finally:
            await outbound.close()
            await database.close()


async def test_publishing_writes_valid_records_and_again_writes_nothing(office: Office) -> None:
    friends = office.list_of("Friends with a name that is much too long", "curatelist")
    office.list_of("Enemies", "modlist")

    done = await office.publishing.publish("cook.test", office.password)

    records = office.records()
    key = "list-" + friends.rpartition("/")[2]
    assert set(records) == BASIC | {key}
    assert len(done.written) == len(done.published) == 5
    for record in records.values():
        assert record["did"] == US
        assert lexicons.validate_record(GENERATOR, orjson.dumps(record)) is None
    assert {(feed.uri.rpartition("/")[2], feed.kind, feed.list) for feed in await office.kept()} == {
        ("timeline", "all", ""),
        ("no-reposts", "no_reposts", ""),
        ("no-replies", "no_replies", ""),
        ("media", "media", ""),
        (key, "list", friends),
    }

    rev = office.rev()
    again = await office.publishing.publish(office.did, office.password)
    assert (again.published, again.written, again.removed) == (done.published, [], [])
    assert office.rev() == rev


async def test_a_list_that_is_gone_takes_its_feed_with_it_and_what_the_owner_changed_stays(
    office: Office,
) -> None:
    friends = office.list_of("Friends", "curatelist")
    await office.publishing.publish("cook.test", office.password)
    mine = {"$type": GENERATOR, "did": "did:web:elsewhere.example", "displayName": "Mine"}
    mine["createdAt"] = "2026-01-01T00:00:00Z"
    office.net.put(office.did, GENERATOR, mine, "mine")
    changed = office.records()["timeline"] | {"displayName": "Changed", "createdAt": "2025-05-05T00:00:00Z"}
    office.net.put(office.did, GENERATOR, changed, "timeline")
    office.net.delete(friends)

    done = await office.publishing.publish("cook.test", office.password)

    assert [uri.rpartition("/")[2] for uri in done.written] == ["timeline"]
    assert [uri.rpartition("/")[2][:5] for uri in done.removed] == ["list-"]
    assert set(office.records()) == BASIC | {"mine"}
    assert office.records()["timeline"]["displayName"] == "Complete timeline"
    assert office.records()["timeline"]["createdAt"] == "2025-05-05T00:00:00Z"
    assert len(await office.kept()) == 4

    undone = await office.publishing.unpublish("cook.test", office.password)
    assert len(undone.removed) == 4
    assert set(office.records()) == {"mine"}
    assert await office.kept() == []
    assert (await office.publishing.unpublish("cook.test", office.password)).removed == []


async def test_a_wrong_password_changes_nothing(office: Office) -> None:
    with pytest.raises(Refused):
        await office.publishing.publish("cook.test", "aaaa-bbbb-cccc-dddd")
    with pytest.raises(NotFound):
        await office.publishing.publish("nobody.test", office.password)
    assert office.records() == {}
    assert await office.kept() == []
