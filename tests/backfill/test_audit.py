"""Comparing accounts with their own PDSs: what is found, named, repaired and certified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from appliance.backfill.audit import Auditor, Report
from appliance.protocol import car
from appliance.protocol.events import AccountEvent
from appliance.protocol.keys import PrivateKey
from appliance.store import audits, repos, takedowns
from appliance.store.audits import Level
from appliance.store.database import Transaction
from tests.backfill.rig import Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Answer, Cursors, Network, Order, Request
from tests.backfill.test_backfill import POST, fill

DAY_US = 86_400_000_000


async def report(here: Rig, account: Account, *, repair: bool, level: Level = "listing") -> Report:
    """One account's report, repairs done by the rig's own worker."""
    auditor = Auditor(here.backfill.tools, wake=here.backfill.wake)
    found: list[Report] = []

    async def ask() -> None:
        found.extend([one async for one in auditor.audit([account.did], repair=repair, level=level)])

    await here.while_time_passes(ask())
    (only,) = found
    return only


async def findings(here: Rig) -> list[Any]:
    return await here.all(
        "SELECT c.nsid || '/' || f.rkey, f.kind, f.level, f.door, f.outcome FROM finding f"
        " JOIN collection c ON c.id = f.collection ORDER BY f.id"
    )


async def live(here: Rig, network: Network, posts: int = 3) -> Account:
    """bob, tracked and complete; his last commit lies a day back."""
    network.now_us = START_US - DAY_US
    bob = network.add_account("bob")
    fill(bob, posts)
    await here.track(bob)
    await here.until_state(bob, "LIVE")
    return bob


async def test_a_report_of_an_account_that_is_complete_says_so_and_changes_nothing(
    network: Network, tmp_path: Path
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        before = await here.all("SELECT * FROM repo")

        told = await report(here, bob, repair=False)

        count = len(shown(bob))
        assert (told.here, told.there, told.missing, told.extra, told.differing) == (count, count, 0, 0, 0)
        assert (told.state, told.rev, told.method, told.exact, told.error) == (
            "LIVE",
            bob.rev,
            "listing",
            True,
            "",
        )
        assert await here.all("SELECT * FROM repo") == before
        assert await here.all("SELECT level, outcome, rev FROM audit WHERE level = 'listing'") == [
            ("listing", "equal", bob.rev)
        ]


@pytest.mark.parametrize("level", ["tail", "listing", "signed"])
async def test_a_swallowed_create_update_and_delete_are_named_and_repaired_33(
    network: Network, tmp_path: Path, level: Level
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        gone, edited = sorted(path for path in bob.paths if path.startswith(POST))[:2]
        old_cid = bob.paths[edited]
        added = bob.post("never told").split("/", 3)[3]
        bob.commit([("delete", gone, None)])
        bob.commit([("update", edited, {"text": "edited", "createdAt": "2025-01-01T00:00:00Z"})])

        told = await report(here, bob, repair=False, level=level)
        assert (told.missing, told.extra, told.differing, told.repaired) == (1, 1, 1, 0)
        assert await findings(here) == []
        assert (await here.held(bob))[edited] == old_cid

        told = await report(here, bob, repair=True, level=level)
        assert (told.missing, told.extra, told.differing, told.repaired, told.state) == (1, 1, 1, 3, "LIVE")
        assert await here.held(bob) == shown(bob)
        door = "jetstream-v2 wss://stream.test"
        assert sorted(await findings(here)) == sorted(
            [
                (added, "missing", level, door, "repaired"),
                (gone, "extra", level, door, "repaired"),
                (edited, "differs", level, door, "repaired"),
            ]
        )


async def test_an_account_that_nobody_follows_or_that_is_away_is_told_as_such(
    network: Network, tmp_path: Path
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        eve = network.add_account("eve")
        assert (await report(here, eve, repair=True)).error == "nobody here follows this account"

        bob.status = "deactivated"
        assert "deactivated" in (await report(here, bob, repair=False)).error
        repo = await here.repo(bob)
        assert repo is not None
        assert repo.state == "LIVE"

        await here.database.write(
            lambda tx: repos.deactivate(tx, repo.actor, "deactivated", here.clock.now_us())
        )
        away = await report(here, bob, repair=False)
        assert (away.state, away.method, away.error) == ("INACTIVE", "", "")


async def hide(account: Account, path: str) -> None:
    """The PDS takes this one record down: its tree holds it, and no read shows it."""

    def script(request: Request) -> Answer | None:
        if request.nsid.endswith("getRecord") and path.endswith("/" + request.params["rkey"]):
            return Answer(400, b'{"error":"RecordNotFound","message":""}')
        if not request.nsid.endswith("listRecords"):
            return None
        body = orjson.loads(account.host.honest(request).body)
        body["records"] = [row for row in body["records"] if not row["uri"].endswith(path)]
        return Answer(body=orjson.dumps(body))

    account.host.script = script


async def test_what_we_took_down_ourselves_is_no_difference_to_any_audit_98(
    network: Network, tmp_path: Path
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        held = await here.held(bob)
        (one, *_) = await here.all("SELECT id, actor FROM record WHERE state = 1 ORDER BY id")

        def take_down(tx: Transaction) -> None:
            takedowns.mark_record(tx, one[0], "case 1")
            takedowns.mark_actor(tx, one[1], "case 2")

        await here.database.write(take_down)
        levels: tuple[Level, ...] = ("rev", "tail", "listing", "signed")
        for level in levels:
            told = await report(here, bob, repair=True, level=level)
            assert (told.missing, told.extra, told.differing, told.error) == (0, 0, 0, ""), level

        assert await findings(here) == []
        assert await here.held(bob) == held
        assert await here.database.read(lambda r: takedowns.of_record(r, one[0])) == "case 1"
        assert await here.database.read(lambda r: takedowns.of_actor(r, one[1])) == "case 2"


async def test_a_record_that_its_pds_hides_is_accepted_and_nobody_is_alarmed_again_98(
    network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network.now_us = START_US - DAY_US
    async with rig(network, tmp_path) as here:
        bob = network.add_account("bob")
        fill(bob, 3)
        hidden = bob.post("taken down").split("/", 3)[3]
        await hide(bob, hidden)
        await here.track(bob)
        await here.until_state(bob, "LIVE")
        assert hidden not in await here.held(bob)

        levels: tuple[Level, ...] = ("signed", "listing", "signed", "tail")
        for level in levels:
            told = await report(here, bob, repair=True, level=level)
            assert (told.missing, told.extra, told.differing, told.error) == (0, 0, 0, "")
        assert [row[1:] for row in await findings(here)] == [("missing", "signed", "scan", "accepted")]
        assert await here.all("SELECT note FROM finding") == [("the PDS does not show it",)]
        assert not any(record.message == "audit_difference" for record in caplog.records)


@pytest.mark.parametrize("lie", ["cut", "another's", "old"])
async def test_a_signed_file_that_is_cut_or_anothers_or_old_proves_nothing_61_63(
    network: Network, tmp_path: Path, lie: str
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network, posts=20)
        eve = network.add_account("eve")
        old = bob.export()
        bob.post("told")
        await here.deliver(bob.events[-1:])
        # On the border of its last block: nothing but the tree shows that it is missing.
        whole = bob.export()
        blocks = car.read(whole)
        cid, block = list(blocks.blocks.items())[-1]
        cut = whole[: len(whole) - len(car.frame(cid, block))]
        answer = {"cut": cut, "another's": eve.export(), "old": old}[lie]
        bob.host.script = lambda request: Answer(body=answer) if request.nsid.endswith("getRepo") else None
        before = await here.all("SELECT cert_rev, cert_us, cert_method FROM repo")

        told = await report(here, bob, repair=True, level="signed")

        assert told.error.startswith("data: ")
        assert await here.all("SELECT cert_rev, cert_us, cert_method FROM repo") == before
        assert await findings(here) == []


async def test_a_key_that_was_rotated_is_asked_for_once_more_82(network: Network, tmp_path: Path) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        doubted_us = here.clock.now_us()
        bob.key = PrivateKey.generate("k256")

        told = await report(here, bob, repair=True, level="signed")

        assert (told.error, told.method, told.exact) == ("", "signed", True)
        # A new key is a doubt of its own, which a scan answers: the file was asked for before that doubt.
        repo = await here.repo(bob)
        assert repo is not None
        assert (repo.state, repo.cert_method) == ("LIVE", "listing")
        assert repo.cert_us is not None
        assert repo.cert_us >= doubted_us

        # From then on the new key is the known one, and the same audit certifies.
        told = await report(here, bob, repair=True, level="signed")

        assert (told.error, told.method, told.exact) == ("", "signed", True)
        repo = await here.repo(bob)
        assert repo is not None
        assert (repo.state, repo.cert_method) == ("LIVE", "signed")


@pytest.mark.parametrize("order", ["ascending", "ascending always"])
@pytest.mark.parametrize("cursors", ["full pages", "only when more", "always"])
async def test_the_newest_page_is_found_whichever_way_round_a_host_lists_58_59(
    network: Network, tmp_path: Path, order: Order, cursors: Cursors
) -> None:
    async with rig(network, tmp_path) as here:
        network.hosts[0].order, network.hosts[0].cursors = order, cursors
        bob = await live(here, network, posts=130)
        bob.post("never told")

        told = await report(here, bob, repair=True, level="tail")

        assert (told.missing, told.extra, told.repaired, told.error) == (1, 0, 1, "")
        assert await here.held(bob) == shown(bob)


@pytest.mark.parametrize("missing", ["getLatestCommit", "getRepoStatus", "listRecords"])
async def test_a_host_without_one_of_the_calls_is_audited_by_the_others_69(
    network: Network, tmp_path: Path, missing: str
) -> None:
    async with rig(network, tmp_path) as here:
        network.hosts[0].missing.add(missing)
        bob = await live(here, network)
        bob.post("never told")

        told = await report(here, bob, repair=True)

        assert (told.missing, told.repaired, told.error) == (1, 1, "")


async def test_without_a_worker_the_auditor_repairs_by_itself(network: Network, tmp_path: Path) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        bob.post("never told")
        await here.stop()
        auditor = Auditor(here.backfill.tools)

        (told,) = [one async for one in auditor.audit(None, repair=True)]

        assert (told.missing, told.repaired, told.state) == (1, 1, "LIVE")
        assert await here.held(bob) == shown(bob)


async def test_the_rev_alone_is_told_where_it_decides_and_where_it_does_not(
    network: Network, tmp_path: Path
) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        told = await report(here, bob, repair=True, level="rev")
        assert (told.exact, told.error, told.here) == (True, "", told.there)

        bob.post("told")
        await here.deliver(bob.events[-1:])
        told = await report(here, bob, repair=True, level="rev")
        assert (told.exact, told.error) == (False, "undecided: written to since its certificate")


async def test_a_page_that_is_short_is_not_the_end_59(network: Network, tmp_path: Path) -> None:
    """Some hosts filter a page after cutting it: only a missing cursor, or an empty page, ends a list."""
    async with rig(network, tmp_path) as here:
        bob = await live(here, network, posts=230)

        def shorten(request: Request) -> Answer | None:
            if not request.nsid.endswith("listRecords"):
                return None
            return bob.host.honest(Request(request.nsid, {**request.params, "limit": "60"}))

        bob.host.script = shorten
        told = await report(here, bob, repair=True)
        assert (told.missing, told.extra, told.here, told.there) == (0, 0, len(shown(bob)), len(shown(bob)))


async def test_a_refusal_for_an_unknown_reason_is_not_a_deletion_66(network: Network, tmp_path: Path) -> None:
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        bob.host.script = lambda _: Answer(400, b'{"error":"InvalidRequest","message":"not now"}')
        await here.start_audits()
        await here.database.write(lambda tx: audits.hasten_dids(tx, [bob.did], "rev", 0))

        async def failed() -> bool:
            return await here.all("SELECT outcome FROM audit WHERE level = 'rev'") == [("failed",)]

        await here.until(failed, step_s=1)
        repo = await here.repo(bob)
        assert repo is not None
        assert repo.state == "LIVE"


async def test_an_account_that_is_inactive_at_its_pds_is_hidden_though_no_event_came_35(
    network: Network, tmp_path: Path
) -> None:
    """The status of the account's own server wins over what a relay believes, either way."""
    async with rig(network, tmp_path) as here:
        bob = await live(here, network)
        bob.status = "takendown"
        await here.start_audits()
        await here.database.write(lambda tx: audits.hasten_dids(tx, [bob.did], "rev", 0))
        repo = await here.until_state(bob, "INACTIVE", step_s=1)
        assert repo.reason == "takendown"

        # A relay says the same of somebody whom their own server shows.
        bob.status = None
        await here.deliver([AccountEvent(bob.did, False, "deactivated", here.clock.now_us(), 7)])
        await here.until_state(bob, "LIVE", step_s=1800)
