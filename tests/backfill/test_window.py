"""BACKFILL_DAYS bounds what is fetched, and what is said never goes beyond what was read."""

from __future__ import annotations

from pathlib import Path

from appliance.ingest import index
from appliance.members import admission
from appliance.store import actors, collections, completeness, pruning, repos
from appliance.store.audits import LEVELS
from appliance.store.database import Reader, Transaction
from tests.backfill.rig import Rig, rig, shown
from tests.backfill.scripted_network import START_US, Account, Answer, Network, Request
from tests.backfill.test_audit import report
from tests.backfill.test_backfill import POST, assert_complete

DAY_US = 86_400_000_000


def history(network: Network, name: str, days: int = 100) -> Account:
    """Somebody who has written ten posts a day for so long."""
    account = network.add_account(name)
    for day in range(days, 0, -1):
        for _ in range(10):
            network.now_us = max(network.now_us, START_US - day * DAY_US)
            account.post(f"day {day}")
    return account


def early(name_us: int = 100) -> int:
    return START_US - name_us * DAY_US


async def since(here: Rig, account: Account) -> tuple[str, str]:
    def look(reader: Reader) -> tuple[str, str]:
        actor = actors.find_id(reader, account.did)
        assert actor is not None
        found = completeness.of_actor(reader, actor)
        assert found is not None
        said = max((share.since for share in completeness.of_viewer(reader, actor)), default="")
        return (found.history_since if found.shown == "complete" else ""), said

    return await here.database.read(look)


async def until_since(here: Rig, account: Account, date: str) -> repos.Repo:
    async def told() -> bool:
        return await since(here, account) == (date, date)

    await here.until(told)
    return await here.until_state(account, "LIVE")


def lose(tx: Transaction, rkey: str) -> None:
    """One post is not here any more, as if it had never come."""
    record: int = tx.value("SELECT id FROM record WHERE rkey = ?", (rkey,))
    index.vanish(tx, record, collections.POST, 0, forgotten=True)
    pruning.forget_record(tx, record)


async def live_again(here: Rig, account: Account) -> repos.Repo:
    """LIVE, with nothing left to do."""
    await here.until_state(account, "LIVE")
    await here.pass_s(20)
    return await here.until_state(account, "LIVE")


async def test_a_setting_that_is_raised_or_removed_brings_the_rest(network: Network, tmp_path: Path) -> None:
    """Catalogue 60: what was left out is read as soon as it is wanted."""
    network.now_us = early()
    bob = history(network, "bob")
    async with rig(network, tmp_path, backfill_days=20) as here:
        await here.track(bob)
        await live_again(here, bob)
        assert await since(here, bob) == ("2025-12-12", "2025-12-12")
        few = len(await here.held(bob, POST))
        assert 200 <= few < 400

    async with rig(network, tmp_path, covered=False, backfill_days=20) as here:
        asked = len(bob.host.requests)
        await here.pass_s(20)
        assert len(bob.host.requests) == asked, "nothing has changed"

    async with rig(network, tmp_path, covered=False, backfill_days=60) as here:
        repo = await until_since(here, bob, "2025-11-02")
        assert repo.cert_rev is None
        assert 600 <= len(await here.held(bob, POST)) < 800

    async with rig(network, tmp_path, covered=False, backfill_days=10) as here:
        await here.pass_s(20)
        assert await since(here, bob) == ("2025-11-02", "2025-11-02"), "what is here stays"

    async with rig(network, tmp_path, covered=False) as here:

        async def whole() -> bool:
            return await since(here, bob) == ("", "") and (await here.repo(bob)).state == "LIVE"  # type: ignore[union-attr]

        await here.until(whole)
        await assert_complete(here, bob)


async def test_a_scan_cut_by_a_narrower_setting_is_not_taken_for_a_wider_one(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = early()
    bob = history(network, "bob")
    first = next(f"at://{bob.did}/{path}" for path in bob.paths if path.startswith(POST))
    for _ in range(150):
        bob.repost(first, bob.cid(first))

    def hang(request: Request) -> Answer | None:
        # The posts are cut by the window; the rest of the reposts can't be had, so the scan stays under way.
        of_reposts = "repost" in str(request.params.get("collection"))
        if request.nsid.endswith("listRecords") and of_reposts and request.params.get("cursor"):
            return Answer(status=503)
        return None

    async with rig(network, tmp_path, backfill_days=20) as here:
        bob.host.script = hang
        await here.track(bob)
        await here.until_state(bob, "WAIT")
        await here.pass_s(600)
        assert await here.all("SELECT partial FROM scan") == [(1,)], "the window has cut it"
    bob.host.script = None
    async with rig(network, tmp_path, covered=False, backfill_days=60) as here:
        await here.pass_s(7200, 60)
        await until_since(here, bob, "2025-11-02")
        assert len(await here.held(bob, POST)) >= 600


async def test_an_audit_that_finds_nothing_wrong_does_not_widen_what_is_said(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = early()
    bob = history(network, "bob")
    async with rig(network, tmp_path, backfill_days=20) as here:
        await here.track(bob)
        repo = await live_again(here, bob)

        def confirmed(tx: Transaction) -> bool:
            repos.suspect(tx, repo.actor, f"{repos.STREAM_GAP}: tested", here.clock.now_us())
            made = repos.Certificate(bob.rev, "listing", b"x", 1)
            return repos.confirm(tx, repo.actor, repo.epoch, "SUSPECT", made, here.clock.now_us())

        await here.stop()
        assert await here.database.write(confirmed)
        assert await since(here, bob) == ("2025-12-12", "2025-12-12")


async def test_audits_of_a_windowed_history_compare_no_more_than_was_wanted(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = early()
    bob = history(network, "bob")
    async with rig(network, tmp_path, backfill_days=20) as here:
        await here.track(bob)
        await live_again(here, bob)
        held = set(await here.held(bob, POST))
        for level in LEVELS:
            told = await report(here, bob, repair=True, level=level)
            assert (told.missing, told.extra, told.differing) == (0, 0, 0), told
            # Without a certificate of the whole, its rev alone proves nothing.
            assert told.error.startswith("undecided") if level == "rev" else not told.error, told
            await live_again(here, bob)

        # What lies inside is missed as anywhere.
        inside = sorted(held)[-5].partition("/")[2]
        await here.database.write(lambda tx: lose(tx, inside))
        told = await report(here, bob, repair=True)

        assert told.missing == 1
        await live_again(here, bob)
        assert set(await here.held(bob, POST)) == held
        assert await here.all("SELECT rkey, kind FROM finding") == [(inside, "missing")]
        # However often it was compared: what is said begins where it was read from.
        assert await since(here, bob) == ("2025-12-12", "2025-12-12")


async def test_a_doubt_about_a_windowed_history_is_settled_by_reading_the_window_again(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = early()
    bob = history(network, "bob")
    async with rig(network, tmp_path, backfill_days=20) as here:
        await here.track(bob)
        before = await live_again(here, bob)
        bob.post("missed")
        await here.database.write(
            lambda tx: repos.suspect_all(tx, f"{repos.STREAM_GAP}: tested", here.clock.now_us())
        )
        repo = await live_again(here, bob)

        assert (before.cert_rev, repo.cert_rev) == (None, None)
        assert len(await here.held(bob, POST)) <= 400
        assert set(sorted(shown(bob, POST))[-201:]) <= set(await here.held(bob, POST))
        assert (await since(here, bob))[0] == "2025-12-12"


async def test_a_long_window_is_listed_and_not_fetched_with_all_that_lies_before_it(
    network: Network, tmp_path: Path
) -> None:
    network.now_us = early(230)
    bob = history(network, "bob", days=230)
    async with rig(network, tmp_path, backfill_days=205) as here:
        await here.track(bob)
        await live_again(here, bob)

        assert len(await here.held(bob, POST)) > 2000
        assert not [request for request in bob.host.requests if request.nsid.endswith("getRepo")]
        assert (await since(here, bob))[0] == "2025-06-10"


async def test_a_member_s_own_repository_is_read_whole(network: Network, tmp_path: Path) -> None:
    network.now_us = early()
    alice = history(network, "alice")
    async with rig(network, tmp_path, backfill_days=20) as here:
        now_us = here.clock.now_us()
        await here.database.write(
            lambda tx: admission.admit(
                tx, here.settings, actors.ensure(tx, alice.did, now_us), "operator", now_us
            )
        )
        here.backfill.wake()
        repo = await live_again(here, alice)

        assert await here.held(alice) == shown(alice)
        assert await since(here, alice) == ("", "")
        assert repo.cert_rev is not None
