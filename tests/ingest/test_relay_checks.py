"""Commits of tracked accounts from a relay: signatures and the chain of trees are checked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.protocol import cid, keys
from appliance.protocol.tid import tid_of
from appliance.store import actors, identities
from appliance.store.database import Database
from tests.ingest.hosts import BEGIN_US, Host, Line, connected, reading, relay_line, remember, track
from tests.ingest.signed import ALICE, Repo, document, know
from tests.real_frames import frames
from tests.real_frames import identities as real_identities


@pytest.fixture
def key() -> keys.PrivateKey:
    return keys.PrivateKey.generate()


@pytest.fixture
def repo(key: keys.PrivateKey) -> Repo:
    return Repo(key)


async def run(
    folder: Path, repo: Repo, lines: list[Line], doc: bytes | None = None
) -> tuple[int, str, int, Host]:
    """Posts living, state of the repository, dead letters, after these frames."""
    host = Host("relay", lines)
    host.documents = {} if doc is None else {ALICE: doc}
    async with host.running():
        await track(folder, ALICE)
        await remember(folder, host, lines[0].seq - 1, lines[0].time_us)
        async with reading(folder, host, scope="tracked") as at:
            await asyncio.wait_for(at.pipeline.wait_for(seq=lines[-1].seq), 20)
            posts = await at.value("SELECT count(*) FROM record WHERE state = 1")
            state = await at.value("SELECT state FROM repo")
            dead = await at.value("SELECT count(*) FROM dead_letter")
            assert await at.value("SELECT count(*) FROM gap") == 0
    return posts, state, dead, host


async def test_signed_commits_in_a_chain_are_taken(tmp_path: Path, repo: Repo) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post(f"post {n}") for n in range(5)]
    assert (await run(tmp_path, repo, lines))[:3] == (5, "LIVE", 0)


async def test_a_commit_that_another_key_signed_is_refused_after_asking_for_the_key_once(
    tmp_path: Path, repo: Repo
) -> None:
    await know(tmp_path, repo.key.did_key)
    wrong = keys.PrivateKey.generate()
    lines = [repo.post("good"), repo.post("forged", key=wrong), repo.post("forged again", key=wrong)]
    posts, state, dead, host = await run(tmp_path, repo, lines, doc=document(repo.key))
    assert (posts, state, dead) == (1, "SUSPECT", 2)
    assert len(host.fetched) == 1


async def test_a_new_key_is_fetched_and_accepted(tmp_path: Path, repo: Repo) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post("old key")]
    repo.key = keys.PrivateKey.generate("p256")
    lines += [repo.post("new key"), repo.post("still")]
    posts, state, dead, host = await run(tmp_path, repo, lines, doc=document(repo.key))
    assert (posts, state, dead) == (3, "LIVE", 0)
    assert len(host.fetched) == 1


async def test_without_a_key_rows_are_taken_and_doubted(tmp_path: Path, repo: Repo) -> None:
    lines = [repo.post("a"), repo.post("b")]
    posts, state, dead, host = await run(tmp_path, repo, lines)
    assert (posts, state, dead) == (2, "SUSPECT", 0)
    assert len(host.fetched) == 1


async def test_a_missing_commit_breaks_the_chain(tmp_path: Path, repo: Repo) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post("first"), repo.post("lost"), repo.post("third")]
    del lines[1]
    assert (await run(tmp_path, repo, lines))[:3] == (2, "SUSPECT", 0)


async def test_an_older_sender_is_judged_by_since(tmp_path: Path, repo: Repo) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post("a", prevData=None), repo.post("b", prevData=None)]
    assert (await run(tmp_path, repo, lines))[:3] == (2, "LIVE", 0)


async def test_a_commit_sent_twice_is_no_break(tmp_path: Path, repo: Repo) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post("a"), repo.post("b")]
    lines += [repo.again(lines[0]), repo.post("c")]
    assert (await run(tmp_path, repo, lines))[:3] == (3, "LIVE", 0)


@pytest.mark.parametrize(("skips", "state"), [(False, "LIVE"), (True, "SUSPECT")])
async def test_a_sync_to_where_we_stand_is_nothing_and_any_other_is_doubt(
    tmp_path: Path, repo: Repo, skips: bool, state: str
) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post("a")]
    if skips:
        repo.post("never sent")
    lines.append(repo.sync())
    assert (await run(tmp_path, repo, lines))[:3] == (1, state, 0)


@pytest.mark.parametrize(
    "changes",
    [{"ops": []}, {"rev": tid_of(BEGIN_US, 9)}, {"prevData": cid.cid_of(b"x")}, {"commit": cid.cid_of(b"x")}],
)
async def test_a_commit_that_contradicts_itself_is_refused(
    tmp_path: Path, repo: Repo, changes: dict[str, Any]
) -> None:
    await know(tmp_path, repo.key.did_key)
    lines = [repo.post("a"), repo.post("b", **changes)]
    posts, state, dead, _ = await run(tmp_path, repo, lines)
    assert (posts, state, dead) == (1, "SUSPECT", 1)


async def test_real_commits_of_tracked_accounts_all_check(tmp_path: Path) -> None:
    known = real_identities()
    lines = [relay_line(frame) for frame in frames()]
    host = Host("relay", lines)
    await track(tmp_path, *known)
    assert all(identity.signing_key is not None for identity in known.values())
    database = await Database.open(tmp_path / "test.db")

    def work(tx: Any) -> None:
        for who, identity in known.items():
            identities.save(
                tx, actors.ensure(tx, who), handle=None, pds=identity.pds,
                signing_key=identity.signing_key, resolved_us=BEGIN_US - 1_000_000,
            )  # fmt: skip

    await database.write(work)
    await database.close()
    async with host.running():
        await remember(tmp_path, host, lines[0].seq - 1, lines[0].time_us)
        async with reading(tmp_path, host, scope="tracked") as at:
            await connected(host)
            await asyncio.wait_for(at.pipeline.wait_for(seq=lines[-1].seq), 30)
            assert await at.value("SELECT count(*) FROM dead_letter") == 0
            assert await at.value("SELECT count(*) FROM repo WHERE state = 'SUSPECT'") == 0
            assert await at.value("SELECT count(*) FROM record WHERE state > 0") > 100
    assert len(known) == 148
