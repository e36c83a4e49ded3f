"""Where the stream has forgotten what we lack, the archive of its host brings us back to it without a gap."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.backfill import catch_up
from appliance.devnet.network import Network
from appliance.ingest.lists import EVERYBODY
from appliance.ingest.upstream import Start, TooOld
from tests.backfill.archive_rig import TOKEN, Parts, parts, same
from tests.devnet.devnets import small

PROFILE = "app.bsky.actor.profile"
FOLLOW = "app.bsky.graph.follow"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with small(archive_token=TOKEN) as made:
        made.archive.segment_events, made.archive.block_events = 25, 5
        yield made


class Village:
    """A member, whom it follows, and somebody whom it will follow while we are away."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.member = network.create_account("member.test").did
        self.friends = [network.create_account(f"friend{i}.test", i % 2).did for i in range(5)]
        self.late = network.create_account("late.test").did
        self.gone = [network.post(did, "soon gone") for did in self.friends]
        for did in self.friends:
            network.follow(self.member, did)

    def live_on(self, turns: int = 14) -> None:
        """What happens while nobody listens: more than the stream will remember."""
        network = self.network
        for turn in range(turns):
            for did in self.friends:
                uri = network.post(did, f"missed {turn}")
                network.like(self.friends[0], uri)
                network.repost(self.friends[turn % 5], uri)
            network.put(self.friends[1], PROFILE, {"displayName": str(turn)}, "self")
        for uri in self.gone:
            network.delete(uri)
        network.follow(self.member, self.late)
        network.post(self.late, "right after the follow")
        network.deactivate(self.friends[3])
        network.deactivate(self.friends[4])
        network.activate(self.friends[4])
        network.change_handle(self.friends[2], "renamed.test")
        network.archive.seal(all_of_it=True)
        network.post(self.friends[0], "behind the archive")
        # The stream keeps no more than the last few events: less than what the archive has sealed.
        network.faults["jetstream_v2"].switch({"keep_events": 3})


async def grown(network: Network, folder: Path, village: Village) -> int:
    """An appliance that had everything, and stopped; the last number whose rows it has."""
    async with parts(network, folder) as here:
        await here.stream()
        await here.join(village.member)
        here.start("backfill")
        await here.until(
            lambda: here.has("SELECT 1 WHERE (SELECT count(*) FROM repo) = 6"), "six repositories"
        )
        network.post(village.friends[0], "the last that was heard")
        await here.settled()
        position = await here.position()
    assert position is not None
    return position


async def too_old(here: Parts, seq: int) -> bool:
    """Does the stream refuse to go on from there?"""
    wire = here.pipeline.hosts["FULL"][0].make(EVERYBODY)
    try:
        connection = await wire.open(Start(seq, None, same_host=True))
    except TooOld:
        return True
    await connection.close()
    return False


@pytest.mark.invariant("position-with-rows")
async def test_5_14_a_position_too_old_for_the_stream_is_caught_up_out_of_the_archive_without_a_doubt(
    network: Network, tmp_path: Path
) -> None:
    village = Village(network)
    from_seq = await grown(network, tmp_path / "here", village)
    # Another one that never stopped listening shows what is right.
    async with parts(network, tmp_path / "always") as always:
        await always.stream()
        await always.join(village.member)
        always.start("backfill")
        await always.until(
            lambda: always.has("SELECT 1 WHERE (SELECT count(*) FROM repo) = 6"), "six repositories"
        )
        await always.settled()
        village.live_on()
        await always.until(
            lambda: always.has("SELECT 1 WHERE (SELECT count(*) FROM repo) = 7"), "the late one"
        )
        await always.settled()
        expected = await always.tables()

    async with parts(network, tmp_path / "here") as here:
        assert await too_old(here, from_seq)
        reached = await here.catching_up.catch_up(here.upstream, from_seq)
        assert reached == network.archive.seal()
        assert await here.position() == reached
        assert not await too_old(here, reached)
        # Nobody is in doubt, the inactive one is hidden, the renamed one will be asked for its document.
        states = dict(await here.all("SELECT a.did, r.state FROM repo r JOIN actor a ON a.id = r.actor"))
        assert states.pop(village.friends[3]) == "INACTIVE"
        assert states.pop(village.late) == "QUEUED"
        assert states.pop(village.friends[4]) == "QUEUED"
        assert set(states.values()) == {"LIVE"}
        due = await here.all("SELECT did FROM actor WHERE known = 1 AND resolved_us IS NULL")
        assert (village.friends[2],) in due
        # The late one is covered from the catching up on: what followed the follow was not asked for.
        ((cover_us, followed_us),) = await here.all(
            "SELECT r.cover_us, f.indexed_us FROM repo r JOIN actor a ON a.id = r.actor, record f"
            " JOIN link l ON l.id = f.id AND l.subject = r.actor WHERE a.did = ? AND l.kind = 3",
            village.late,
        )
        assert cover_us > followed_us
        await here.stream()
        here.start("backfill")
        await here.settled()
        found = await here.tables()
        assert await here.all("SELECT * FROM gap") == []

    for tables in (found, expected):
        # Who was scanned when differs; what is shown does not.
        tables["repos"] = [row[:3] for row in tables["repos"]]
    same(found, expected)
    assert sum("missed" in str(row[5]) for row in found["records"]) >= 40


@pytest.mark.invariant("position-with-rows")
async def test_5_14_a_stream_that_has_forgotten_is_caught_up_by_itself_and_nobody_is_in_doubt(
    network: Network, tmp_path: Path
) -> None:
    village = Village(network)
    from_seq = await grown(network, tmp_path, village)
    village.live_on()
    async with parts(network, tmp_path) as here:
        assert await too_old(here, from_seq)
        started_us = here.clock.now_us()
        await here.stream()
        here.start("backfill")
        await here.until(lambda: here.has("SELECT 1 WHERE (SELECT count(*) FROM repo) = 7"), "the late one")
        await here.settled()
        assert await here.all("SELECT * FROM gap") == []
        assert await here.all("SELECT from_seq, why FROM coverage WHERE why LIKE '%archive'") == [
            (from_seq, "read out of the archive")
        ]
        texts = [bytes(body) for (body,) in await here.all("SELECT body FROM record WHERE body IS NOT NULL")]
        assert sum(b'"missed ' in body for body in texts) == 14 * 5
        assert any(b"behind the archive" in body for body in texts)
        assert not any(b"soon gone" in body for body in texts)
        # The repository of somebody to whom nothing special happened was not read again.
        ((certified_us,),) = await here.all(
            "SELECT r.cert_us FROM repo r JOIN actor a ON a.id = r.actor WHERE a.did = ?", village.friends[0]
        )
        assert certified_us < started_us


async def test_another_host_counts_otherwise_so_its_position_is_none_for_this_archive(
    network: Network, tmp_path: Path
) -> None:
    village = Village(network)
    from_seq = await grown(network, tmp_path, village)
    village.live_on(2)
    async with parts(network, tmp_path) as here:
        before = await here.tables()
        for name in (
            "jetstream-v2 wss://other.test/xrpc/network.bsky.jetstream.subscribeEvents",
            "jetstream-v1 ws://localhost:1/subscribe",
            "relay wss://localhost",
        ):
            assert await here.catching_up.catch_up(name, from_seq) is None
        same(await here.tables(), before)
        assert network.archive.downloads == 0
    async with parts(network, tmp_path, archive_url="", archive_token="") as off:
        assert await off.catching_up.catch_up(off.upstream, from_seq) is None


async def test_a_refused_token_leaves_the_position_where_it_was(network: Network, tmp_path: Path) -> None:
    village = Village(network)
    from_seq = await grown(network, tmp_path, village)
    village.live_on(2)
    async with parts(network, tmp_path, archive_token="wrong") as here:
        assert await here.catching_up.catch_up(here.upstream, from_seq) is None
        assert await here.position() == from_seq


async def test_five_times_without_progress_are_enough(
    network: Network, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    village = Village(network)
    from_seq = await grown(network, tmp_path, village)
    async with parts(network, tmp_path) as here:
        # The archive ends before the position: the stream is ahead of it and has forgotten.
        answers = [await here.catching_up.catch_up(here.upstream, from_seq) for _ in range(5)]

        assert answers == [from_seq] * 4 + [None]
        assert "archive_gave_up" in caplog.text
        # Progress between makes it count anew.
        village.live_on(2)
        assert await here.catching_up.catch_up(here.upstream, from_seq) == network.archive.seal()


@pytest.mark.invariant("position-with-rows")
async def test_1_catching_up_that_is_killed_at_any_write_goes_on_from_its_position(
    network: Network, tmp_path: Path
) -> None:
    village = Village(network)
    from_seq = await grown(network, tmp_path / "base", village)
    village.live_on(3)
    base = (tmp_path / "base" / "appliance.db").read_bytes()
    expected: dict[str, list[Any]] = {}
    write = 0
    while True:
        folder = tmp_path / str(write)
        folder.mkdir()
        (folder / "appliance.db").write_bytes(base)
        async with parts(network, folder) as here:
            killed = await _killed_at(here, from_seq, write)
        async with parts(network, folder) as here:
            position = await here.position()
            assert position is not None
            assert position >= from_seq
            reached = await here.catching_up.catch_up(here.upstream, position)
            assert reached == network.archive.seal()
            tables = await here.tables()
            expected = expected or tables
            same(tables, expected)
        if write and not killed:
            break
        write += 3
    assert write > 9


async def _killed_at(here: Parts, from_seq: int, write: int) -> bool:
    """Catch up until right after that write; 0 lets it finish."""
    count = 0
    real = here.database.write

    async def counted(work: Any, *, durable: bool = False) -> Any:
        nonlocal count
        result = await real(work, durable=durable)
        count += 1
        if count == write:
            raise Killed
        return result

    here.database.write = counted  # type: ignore[method-assign]
    try:
        await here.catching_up.catch_up(here.upstream, from_seq)
    except Killed:
        return True
    finally:
        here.database.write = real  # type: ignore[method-assign]
    return False


@pytest.mark.parametrize("at_once", [10_000, 2], ids=["asked by accounts", "asked for everybody"])
async def test_catching_up_goes_through_a_lying_archive(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(catch_up, "DIDS_MAX", at_once)
    village = Village(network)
    from_seq = await grown(network, tmp_path, village)
    village.live_on(4)
    network.faults["archive"].switch({"limit_every": 7, "compact_after": 2})
    async with parts(network, tmp_path) as here:
        assert await here.catching_up.catch_up(here.upstream, from_seq) == network.archive.seal()
        missed = await here.all(
            "SELECT count(*) FROM record WHERE state = 1 AND CAST(body AS TEXT) LIKE '%missed%'"
        )
        assert missed == [(20,)]
        assert await here.all(
            "SELECT count(*) FROM record WHERE state = 1 AND CAST(body AS TEXT) LIKE '%soon gone%'"
        ) == [(0,)]
    fired = network.faults["archive"].fired
    assert fired["limit"] > 0
    assert fired["compact"] == 1
