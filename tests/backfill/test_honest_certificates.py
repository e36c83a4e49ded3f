"""Nothing counts as complete that may not be."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from appliance.members import admission
from appliance.store import actors, completeness, repos
from appliance.store.database import Transaction
from tests.backfill.rig import Rig, rig
from tests.backfill.scripted_network import START_US, Account, Answer, Network, Request
from tests.backfill.test_backfill import POST, assert_complete, fill

GAP = f"{repos.STREAM_GAP}: tested"


async def doubt_all(here: Rig) -> None:
    await here.database.write(lambda tx: repos.suspect_all(tx, GAP, here.clock.now_us()))


async def live(here: Rig, network: Network) -> tuple[Account, Account]:
    """bob follows carol and is himself followed here: tracked, and read without his follows."""
    bob, carol = network.add_account("bob"), network.add_account("carol")
    fill(bob, 3)
    fill(carol, 3)
    bob.follow(carol.did)
    await here.track(bob)
    await here.until_state(bob, "LIVE")
    return bob, carol


async def test_who_becomes_a_member_while_a_gap_casts_doubt_has_his_follows_read(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = START_US - 86_400_000_000
    async with rig(network, tmp_path) as here:
        bob, carol = await live(here, network)
        await here.stop()
        await doubt_all(here)
        await here.join(bob)
        here.start()
        await here.until_state(carol, "LIVE")
        assert await here.all("SELECT count(*) FROM link WHERE kind = 3") == [(1,)]


async def test_who_becomes_a_member_just_before_the_work_begins_has_his_follows_read(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = START_US - 86_400_000_000
    async with rig(network, tmp_path) as here:
        bob, carol = network.add_account("bob"), network.add_account("carol")
        fill(carol, 3)
        bob.follow(carol.did)
        refresh = here.identities.refresh
        looked_up: list[str] = []

        async def joins_meanwhile(did: str) -> object:
            found = await refresh(did)
            looked_up.append(did)
            if looked_up.count(bob.did) == 2:  # the first look-up only finds the server
                await here.database.write(join)
            return found

        def join(tx: Transaction) -> None:
            admission.admit(tx, here.settings, actors.ensure(tx, bob.did), "operator", here.clock.now_us())

        here.identities.refresh = joins_meanwhile  # type: ignore[method-assign,assignment]
        await here.track(bob)
        await here.until_state(carol, "LIVE")
        await here.until_state(bob, "LIVE")


@pytest.mark.parametrize("state", ["LIVE", "SUSPECT", "QUEUED", "SCANNING", "WAIT"])
async def test_the_graver_doubt_is_remembered_whichever_comes_first(
    network: Network, tmp_path: Path, state: str
) -> None:
    async with rig(network, tmp_path) as here:
        bob, _ = await live(here, network)
        await here.stop()
        grave = "one version with two values"
        for order in ([GAP, grave], [grave, GAP]):

            def doubts(tx: Transaction, order: list[str] = order) -> str:
                tx.run("UPDATE repo SET state = ?, reason = '', doubt = ''", (state,))
                if state == "SUSPECT":
                    tx.run("UPDATE repo SET reason = ?", (order[0],))
                actor = actors.find_id(tx, bob.did)
                assert actor is not None
                for reason in order:
                    repos.suspect(tx, actor, reason, here.clock.now_us())
                column = "reason" if state in ("LIVE", "SUSPECT") else "doubt"
                return str(tx.value(f"SELECT {column} FROM repo WHERE actor = ?", (actor,)))

            assert await here.database.write(doubts) == grave


@pytest.mark.parametrize("broken", [b'"cid":"bafy-no-cid"', b'"cid":""'])
async def test_a_list_with_unreadable_rows_proves_nothing(
    network: Network, tmp_path: Path, broken: bytes
) -> None:
    """Rows that can't be read are not rows that are gone: the signed repository tells."""
    network.now_us = START_US - 86_400_000_000
    async with rig(network, tmp_path) as here:
        bob = network.add_account("bob")
        fill(bob, 20)
        await here.track(bob)
        await here.until_state(bob, "LIVE")
        await assert_complete(here, bob)
        held = await here.held(bob, POST)

        def spoil(request: Request) -> Answer | None:
            if not request.nsid.endswith("listRecords"):
                return None
            body = orjson.loads(bob.host.honest(request).body)
            good = body["records"]
            for row in good:
                row["cid"] = orjson.loads(b"{" + broken + b"}")["cid"]
            return Answer(body=orjson.dumps(body))

        bob.host.script = spoil
        bob.host.missing.add("getRepo")
        bob.post("one more")
        await here.database.write(
            lambda tx: repos.suspect(tx, actors.ensure(tx, bob.did), "asked to look", here.clock.now_us())
        )
        await here.until_state(bob, "WAIT")
        assert await here.held(bob, POST) == held

        bob.host.missing.clear()
        await here.restart()
        await here.until(lambda: _is_live(here, bob))
        await assert_complete(here, bob, "signed")


async def _is_live(here: Rig, account: Account) -> bool:
    await here.clock.advance(30)
    repo = await here.repo(account)
    return repo is not None and repo.state == "LIVE"


async def test_a_windowed_history_is_told_to_its_readers(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 400)
    network.now_us = START_US - 5 * 86_400_000_000
    bob.post("new")
    async with rig(network, tmp_path, backfill_days=30) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "LIVE")
        since = repo.reason.removeprefix("history since ")

        def told(tx: Transaction) -> tuple[str, str]:
            found = actors.find_id(tx, bob.did)
            assert found is not None
            account = completeness.of_actor(tx, found)
            assert account is not None
            return account.shown, max(share.since for share in completeness.of_viewer(tx, found))

        assert await here.database.write(told) == ("complete", since)
        await here.database.write(lambda tx: tx.run("UPDATE repo SET window_us = NULL"))
        # Without that it has neither a certificate nor an excuse.
        assert await here.database.write(told) == ("catching-up", "")
