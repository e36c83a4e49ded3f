"""Bulk history out of the archive: the same tables as without it, whatever happens on the way."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from appliance import telemetry
from appliance.devnet.faults import Faults
from appliance.devnet.http import Answer, Handler, Request
from appliance.devnet.network import Network
from appliance.devnet.options import Options
from appliance.devnet.pds import Pds
from appliance.errors import Refused
from appliance.store import archives, repos
from appliance.store.database import Transaction
from tests.backfill.archive_rig import TOKEN, Parts, parts, same
from tests.devnet.devnets import QUIET, small

T = TypeVar("T")
POST = "app.bsky.feed.post"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
async def big() -> AsyncIterator[Network]:
    """Sixty people with a past that the archive holds."""
    options = Options(accounts=60, posts=6, rate=0, archive=True, archive_token=TOKEN, dialects=QUIET)
    async with Network(options) as network:
        network.archive.segment_events, network.archive.block_events = 300, 30
        network.archive.seal(all_of_it=True)
        yield network


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """A few people, by hand."""
    async with small(archive_token=TOKEN) as made:
        made.archive.segment_events, made.archive.block_events = 30, 5
        yield made


def people(network: Network, number: int = 6, posts: int = 12) -> list[str]:
    """Accounts that post, change their minds and repost each other; all of it sealed."""
    dids = [network.create_account(f"p{i}.test", i % 2).did for i in range(number)]
    for turn in range(posts):
        for at, did in enumerate(dids):
            uri = network.post(did, f"{turn} of {at}")
            network.repost(dids[at - 1], uri)
            if turn % 4 == 1:
                network.delete(uri)
            if turn % 3 == 0:
                network.put(did, "app.bsky.actor.profile", {"displayName": f"{turn}"}, "self")
    network.archive.seal(all_of_it=True)
    return dids


async def certified(network: Network, folder: Path, dids: list[str], **settings: Any) -> dict[str, list[Any]]:
    """The tables of an appliance that lists these accounts and has no archive."""
    async with parts(network, folder, archive_url="", archive_token="", **settings) as plain:
        await plain.stream()
        await plain.want(dids)
        plain.start("backfill")
        await plain.settled()
        return await plain.tables()


async def bring(here: Parts) -> archives.Run:
    """One whole run by hand."""
    run = await here.archive._next()
    assert run is not None
    await here.archive.bring(run)
    return run


async def test_with_the_archive_the_tables_of_sixty_accounts_end_up_as_without_it(
    big: Network, tmp_path: Path
) -> None:
    dids = list(big.state.accounts)
    expected = await certified(big, tmp_path / "plain", dids)
    async with parts(big, tmp_path / "here", archive_accounts_min=50) as here:
        await here.stream()
        await here.want(dids)
        await bring(here)
        filled = await here.all(
            "SELECT count(*) FROM repo p WHERE EXISTS"
            " (SELECT 1 FROM record r WHERE r.actor = p.actor AND r.state = 1)"
        )
        # Everything is there to be read, and nothing is proved.
        assert filled[0][0] >= 50
        assert await here.all("SELECT DISTINCT state FROM repo") == [("QUEUED",)]
        assert await here.all("SELECT * FROM floor") == []
        assert await here.all("SELECT actor FROM repo WHERE cert_us IS NOT NULL") == []
        early = await here.all("SELECT count(*) FROM item")
        here.start("backfill")
        await here.settled()
        found = await here.tables()

    same(found, expected)
    assert len(found["records"]) > 300
    assert early[0][0] >= len(found["items"])
    live = [row for row in found["repos"] if row[1] == "LIVE"]
    assert len(live) >= 50
    assert all(row[5] == "listing" and row[6] is not None for row in live)


async def test_while_the_world_goes_on_archive_and_listing_and_stream_agree(
    big: Network, tmp_path: Path
) -> None:
    dids = list(big.state.accounts)
    async with parts(big, tmp_path / "here", archive_accounts_min=50) as here:
        await here.stream()
        await here.want(dids)
        here.start("archive", "backfill")
        for _ in range(150):
            big.world.act()
            await asyncio.sleep(0.004)
        await here.settled()
        await here.until(
            lambda: here.has("SELECT 1 FROM archive_run WHERE outcome = 'done'"), "the run's end"
        )
        found = await here.tables()
    expected = await certified(big, tmp_path / "plain", dids)

    # A scan during which the account wrote has the same rows and no digest.
    for tables in (found, expected):
        tables["repos"] = [row[:3] for row in tables["repos"]]
    same(found, expected)


async def test_the_archive_changes_nothing_about_the_requests_that_certify(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dids = people(network)
    asked: list[tuple[str, str]] = []
    real = network.pds[0].around

    async def around(pds: Pds, request: Request, handler: Handler) -> Answer:
        asked.append((request.path, repr(sorted(request.query))))
        return await real.__func__(pds, request, handler)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr(Pds, "around", around)
    served = []
    for name, with_archive in (("plain", False), ("here", True)):
        asked.clear()
        async with parts(network, tmp_path / name) as here:
            await here.stream()
            await here.want(dids)
            if with_archive:
                await bring(here)
            here.start("backfill")
            await here.settled()
        served.append(sorted(asked))

    assert served[0] == served[1]
    assert len(served[0]) >= 5 * len(dids)


async def test_too_few_accounts_a_member_and_what_was_read_before_are_left_to_their_pds(
    network: Network, tmp_path: Path
) -> None:
    dids = people(network)
    async with parts(network, tmp_path, archive_accounts_min=4) as here:
        await here.stream()
        await here.want(dids[:3])
        assert await here.archive._next() is None
        here.start("backfill")
        await here.settled()
        await here.want(dids[3:5])
        await here.join(dids[5])
        # Three are LIVE, one is a member: two are left.
        assert await here.archive._next() is None
        rows = await here.database.read(lambda reader: archives.waiting(reader, 10))

    assert {row.did for row in rows} <= set(dids[3:5])


async def test_nobody_is_brought_twice_and_a_run_ends_with_its_accounts(
    network: Network, tmp_path: Path
) -> None:
    dids = people(network)
    async with parts(network, tmp_path) as here:
        await here.stream()
        await here.want(dids)
        run = await bring(here)
        assert await here.archive._next() is None
        (ended,) = await here.all("SELECT outcome, rows, tip_seq, after_seq FROM archive_run")
        assert ended[0] == "done"
        assert ended[1] > 100
        assert ended[2] == ended[3] == network.archive.seal()

        def forget(tx: Transaction) -> None:
            tx.run("DELETE FROM repo WHERE actor = (SELECT min(actor) FROM repo)")

        await here.database.write(forget)
        left = await here.database.read(lambda reader: archives.epochs(reader, run.id))

    assert len(left) == len(dids) - 1


# ---------------------------------------------------------------- killed


async def killed_at(here: Parts, write: int, *, after: bool) -> bool:
    """Bring history until that write of the run, counted from 1; False when there were fewer."""
    count = 0
    real = here.database.write

    async def counted(work: Callable[[Transaction], T], *, durable: bool = False) -> T:
        nonlocal count
        count += 1
        if count == write and not after:
            raise Killed
        result = await real(work, durable=durable)
        if count == write:
            raise Killed
        return result

    run = await here.archive._next()
    assert run is not None
    here.database.write = counted  # type: ignore[method-assign]
    try:
        await here.archive.bring(run)
    except Killed:
        return True
    finally:
        here.database.write = real  # type: ignore[method-assign]
    return False


@pytest.mark.invariant("position-with-rows")
async def test_1_67_a_run_that_is_killed_at_any_write_goes_on_and_ends_the_same(
    network: Network, tmp_path: Path
) -> None:
    dids = people(network, number=3, posts=5)
    async with parts(network, tmp_path / "whole") as whole:
        await whole.stream()
        await whole.want(dids)
        await bring(whole)
        expected = await whole.tables()
    write, more = 1, True
    resumed = 0
    while more:
        for after in (False, True):
            folder = tmp_path / f"{write} {after}"
            async with parts(network, folder) as here:
                await here.database.write(_covered)
                await here.want(dids)
                more = await killed_at(here, write, after=after)
            async with parts(network, folder) as here:
                run = await here.archive._next()
                if run is not None:
                    resumed += run.after_seq > 0
                    await here.archive.bring(run)
                same(await here.tables(), expected)
        write += 1

    assert write > 8
    assert resumed > 4


def _covered(tx: Transaction) -> None:
    tx.run("INSERT INTO upstream (name, wire, time_us, updated_us) VALUES ('x', 'jetstream-v2', 1, 1)")


async def test_67_a_run_in_the_middle_of_a_segment_goes_on_behind_its_last_row_unless_the_file_has_changed(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dids = people(network)
    monkeypatch.setattr("appliance.backfill.archive_walk.ROWS_AT_ONCE", 3)
    taken: list[int] = []
    real = archives.moved

    def noted(tx: Transaction, run: int, segment: str, checksum: str, seq: int, rows: int) -> None:
        taken.append(seq)
        real(tx, run, segment, checksum, seq, rows)

    monkeypatch.setattr(archives, "moved", noted)
    for compacted in (False, True):
        async with parts(network, tmp_path / str(compacted)) as here:
            await here.database.write(_covered)
            await here.want(dids)
            assert await killed_at(here, 5, after=True)
            run = await here.archive._next()
            assert run is not None
            assert run.segment
            assert run.seq == taken[-1]
            if compacted:
                network.archive.compact()
            taken.clear()
            await here.archive.bring(run)
            # Of a new generation everything counts anew; of the same one nothing comes twice.
            assert (min(taken) <= run.seq) is compacted
            taken.clear()


# ---------------------------------------------------------------- lied to


@pytest.mark.parametrize(
    ("fault", "fired"),
    [
        ({"limit_every": 5}, "limit"),
        ({"fail_every": 4}, "fail"),
        ({"cut_every": 4}, "cut"),
        ({"flip_every": 7}, "flip"),
        ({"compact_after": 9}, "compact"),
        ({"promise_too_much": True}, "promise"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_64_26_a_lying_archive_costs_time_and_no_row(
    network: Network, tmp_path: Path, fault: dict[str, Any], fired: str
) -> None:
    dids = people(network)
    expected = await certified(network, tmp_path / "plain", dids)
    faults: Faults = network.faults["archive"]
    faults.switch(fault)
    async with parts(network, tmp_path / "here") as here:
        await here.stream()
        await here.want(dids)
        await bring(here)
        assert faults.fired[fired] > 0
        assert await here.has("SELECT 1 FROM item")
        here.start("backfill")
        await here.settled()
        same(await here.tables(), expected)


async def test_a_segment_that_is_gone_needs_a_new_plan_and_after_five_it_is_given_up(
    network: Network, tmp_path: Path
) -> None:
    dids = people(network)
    network.faults["archive"].switch({"lose": ["seg_0000000001.jss"]})
    async with parts(network, tmp_path) as here:
        await here.stream()
        await here.want(dids)
        here.start("archive")
        await here.until(lambda: here.has("SELECT 1 FROM archive_run WHERE outcome = 'gave up'"), "giving up")
        # What came before it is in; the rest is found by the listings.
        assert await here.has("SELECT 1 FROM archive_run WHERE after_seq > 0 AND rows > 0")
    # Once after the progress that the first segment was, then five times without any.
    assert network.faults["archive"].fired["lose"] == 6


async def test_a_plan_that_stands_still_is_given_up(network: Network, tmp_path: Path) -> None:
    dids = people(network)
    network.faults["archive"].switch({"stand_still": True})
    async with parts(network, tmp_path) as here:
        await here.stream()
        await here.want(dids)
        here.start("archive")
        await here.until(lambda: here.has("SELECT 1 FROM archive_run WHERE outcome = 'gave up'"), "giving up")
    assert network.faults["archive"].fired["stand-still"] == 5


async def test_another_archive_does_not_go_on_with_numbers_of_this_one(
    network: Network, tmp_path: Path
) -> None:
    dids = people(network)
    async with parts(network, tmp_path) as here:
        await here.database.write(_covered)
        await here.want(dids)
        assert await here.archive._next() is not None
    async with parts(network, tmp_path, archive_url="http://localhost:9") as here:
        assert await here.archive._next() is None
        assert await here.all("SELECT outcome FROM archive_run") == [("another archive",)]


# ---------------------------------------------------------------- the token


@pytest.mark.invariant("secrets-stay-in")
async def test_the_token_goes_to_the_archive_alone_and_into_no_log(network: Network, tmp_path: Path) -> None:
    dids = people(network)
    written = io.StringIO()
    before = (logging.getLogger().handlers[:], logging.getLogger().level)
    telemetry.configure("debug", "json", written)
    network.faults["archive"].switch({"limit_every": 6, "flip_every": 9})
    try:
        async with parts(network, tmp_path / "right") as here:
            await here.stream()
            await here.want(dids)
            await bring(here)
        async with parts(network, tmp_path / "wrong", archive_token="not-the-right-token") as here:
            await here.stream()
            await here.want(dids)
            run = await here.archive._next()
            assert run is not None
            with pytest.raises(Refused) as refused:
                await here.archive.bring(run)
            here.start("archive")
            await here.until(lambda: _said(written, "archive_refused"), "the refusal")
            assert await here.has("SELECT 1 FROM archive_run WHERE ended_us IS NULL")
    finally:
        root = logging.getLogger()
        root.handlers[:], root.level = before[0], before[1]
    text = written.getvalue()

    assert "archive_restarts" in text
    for token in (TOKEN, "not-the-right-token"):
        assert token not in text
        assert token not in str(refused.value)
        for database in tmp_path.rglob("appliance.db*"):
            assert token.encode() not in database.read_bytes()


async def _said(written: io.StringIO, event: str) -> bool:
    return event in written.getvalue()


async def test_without_token_and_address_there_is_no_archive(network: Network, tmp_path: Path) -> None:
    async with parts(network, tmp_path / "off", archive_url="", archive_token="") as off:
        assert not off.archive.usable
    async with parts(network, tmp_path / "address", archive_token="") as address:
        assert address.archive.usable
    async with parts(network, tmp_path / "token", archive_url="") as token:
        assert token.archive.usable
        assert token.settings.archive_origin == network.info["jetstream_v2"].replace("ws:", "http:").replace(
            "/xrpc/network.bsky.jetstream.subscribeEvents", ""
        )
    async with parts(network, tmp_path / "window", backfill_days=30) as window:
        assert not window.archive.usable


def test_no_transition_of_the_state_machine_belongs_to_the_archive() -> None:
    assert not any("archive" in transition for transition in repos.ALLOWED)
