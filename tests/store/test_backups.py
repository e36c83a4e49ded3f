"""A backup is whole or not there; a database that went back in time is noticed, and doubted."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from appliance.errors import BadInput, Corrupt, Unavailable
from appliance.store import actors, backups, checks, generation, repos, upstreams
from appliance.store.database import Database, Reader, Transaction
from appliance.store.migrations import SCHEMA_VERSION

NOW_US = 1_767_225_600_000_000
UPSTREAM = "jetstream-v2 wss://upstream.test"
STATES = ("QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT", "INACTIVE", "GONE", "PRUNING")


def did(number: int) -> str:
    return f"did:plc:{number:024}"


def fill(tx: Transaction) -> None:
    """An account in each state, and a stream that was read to NOW_US."""
    for number, state in enumerate(STATES):
        actor = actors.ensure(tx, did(number), NOW_US)
        repos.want(tx, actor, NOW_US)
        tx.run("UPDATE repo SET state = ? WHERE actor = ?", (state, actor))
    upstreams.save(tx, UPSTREAM, "jetstream-v2", 7, NOW_US, 7, NOW_US)


async def noted(path: Path, *names: str) -> None:
    database = await Database.open(path)
    for name in names:
        await database.write(lambda tx, name=name: tx.run("INSERT INTO meta VALUES (?, 'x')", (name,)))  # type: ignore[misc]
    await database.close()


async def seeded(path: Path) -> None:
    database = await Database.open(path)
    await database.write(fill)
    await database.close()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def doubts(path: Path) -> dict[object, tuple[object, ...]]:
    """State -> (reason, doubt, doubt_us), by the state that each account began in."""
    found = rows(path, "SELECT state, reason, doubt, doubt_us FROM repo ORDER BY actor")
    return dict(zip(STATES, found, strict=True))


async def run_once(path: Path) -> str:
    """What a process does at its start and, a little later, at its first beat; why it was in doubt."""
    generation.expect(path)
    told = generation.told(path)
    database = await Database.open(path)
    beat, why = await database.write(lambda tx: generation.begin(tx, told, NOW_US + 9), durable=True)
    generation.tell(path, beat)
    beat = await database.write(generation.beat, durable=True)
    generation.tell(path, beat)
    await database.close()
    return why


# ---------------------------------------------------------------- copies


async def test_a_backup_is_made_while_the_database_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = await Database.open(path)
    await database.write(fill)
    stop = asyncio.Event()

    async def write() -> int:
        number = 0
        while not stop.is_set():
            number += 1
            await database.write(
                lambda tx, number=number: tx.run(
                    "INSERT INTO meta VALUES (?, ?)", (f"n{number:09}", "x" * 900)
                )  # type: ignore[misc]
            )
        return number

    writing = asyncio.create_task(write())
    copied = [await asyncio.to_thread(backups.back_up, path, tmp_path / f"copy{n}") for n in range(5)]
    stop.set()
    written = await writing

    assert written > 5
    assert [(one.accounts, one.position_us) for one in copied] == [(len(STATES), NOW_US)] * 5
    for n in range(5):
        # One moment: without any hole in what was written one after the other.
        (count, last) = rows(
            tmp_path / f"copy{n}", "SELECT count(*), max(name) FROM meta WHERE name LIKE 'n0%'"
        )[0]
        assert last in (None, f"n{count:09}")
        assert not (tmp_path / f"copy{n}-wal").exists()
        assert (tmp_path / f"copy{n}").stat().st_mode & 0o077 == 0, "nobody else's business"
    assert sorted(p.name for p in tmp_path.glob("*.part*")) == []
    await database.close()


async def test_a_backup_takes_nobody_s_name_and_needs_a_sound_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await seeded(path)
    (tmp_path / "mine").write_text("diary")

    with pytest.raises(BadInput, match="exists already"):
        backups.back_up(path, tmp_path / "mine")
    with pytest.raises(BadInput, match="there is no database"):
        backups.back_up(tmp_path / "b.db", tmp_path / "copy")
    with pytest.raises(Unavailable, match="can't be written"):
        backups.back_up(path, tmp_path / "nowhere" / "copy")
    damage(path)
    with pytest.raises(Corrupt):
        backups.back_up(path, tmp_path / "copy")

    assert (tmp_path / "mine").read_text() == "diary"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.db", "mine"]


def damage(path: Path) -> None:
    """Bytes flip in the middle of a table."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'repo'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    spoiled = bytearray(path.read_bytes())
    at = (root - 1) * size
    spoiled[at : at + 64] = bytes(255 - byte for byte in spoiled[at : at + 64])
    path.write_bytes(spoiled)


async def test_a_damaged_table_is_named_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await seeded(path)
    connection = checks.connect(path)
    tables, found = checks.look(connection)
    connection.close()
    assert (found, tables > 20) == ("ok", True)

    damage(path)
    connection = checks.connect(path)
    _, found = checks.look(connection)
    connection.close()
    assert found != "ok"


# ---------------------------------------------------------------- restoring


async def test_a_restored_backup_casts_doubt_on_everybody_from_its_position_on(tmp_path: Path) -> None:
    """Catalogue 9: a day-old copy. Doubt and copy take the database's name together."""
    path, copy = tmp_path / "a.db", tmp_path / "copy"
    await seeded(path)
    assert await run_once(path) == ""
    backups.back_up(path, copy)
    await noted(path, "later")
    assert await run_once(path) == ""

    copied, kept = backups.restore(copy, path, NOW_US + 5)

    assert copied.position_us == NOW_US
    assert rows(path, "SELECT name FROM meta WHERE name = 'later'") == []
    found = doubts(path)
    assert found["LIVE"] == ("SUSPECT", generation.RESTORED, "", NOW_US)
    # It was in doubt since ever already; no audit that began before may lift that.
    assert found["SUSPECT"] == ("SUSPECT", "new", generation.RESTORED, None)
    for state in ("QUEUED", "SCANNING", "WAIT"):
        assert found[state][2:] == (generation.RESTORED, NOW_US)
    for state in ("INACTIVE", "GONE", "PRUNING"):
        assert found[state][0::2] == (state, "")
    assert kept is not None
    assert rows(kept, "SELECT name FROM meta WHERE name = 'later'") == [("later",)]
    assert await run_once(path) == "", "it is told once"


async def test_an_earlier_doubt_of_a_restored_backup_reaches_further_back(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "copy"
    database = await Database.open(path)
    await database.write(fill)
    await database.write(lambda tx: tx.run("UPDATE repo SET doubt_us = 5 WHERE state = 'SUSPECT'"))
    await database.close()
    backups.back_up(path, copy)

    backups.restore(copy, path, NOW_US)

    assert doubts(path)["SUSPECT"][3] == 5


async def test_what_is_no_sound_backup_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await seeded(path)
    before = path.read_bytes()
    other, empty, newer, spoiled = (tmp_path / name for name in ("other", "empty", "newer", "spoiled"))
    other.write_bytes(b"my diary" * 1000)
    empty.write_bytes(b"")
    shutil.copy(path, newer)
    connection = sqlite3.connect(newer)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    shutil.copy(path, spoiled)
    damage(spoiled)

    with pytest.raises(BadInput, match="there is no backup"):
        backups.restore(tmp_path / "nothing", path, NOW_US)
    for source in (other, empty, newer, spoiled):
        with pytest.raises(Corrupt):
            backups.restore(source, path, NOW_US)
        assert path.read_bytes() == before
        assert not list(tmp_path.glob("*.restored*"))
        assert not list(tmp_path.glob("*.before-restore*"))


async def test_a_backup_replaces_a_damaged_database_whose_log_is_kept_with_it(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.db", tmp_path / "copy"
    await seeded(path)
    backups.back_up(path, copy)
    path.write_bytes(b"\xff" * 50_000)
    (tmp_path / "a.db-wal").write_bytes(b"left behind")

    _, kept = backups.restore(copy, path, NOW_US)

    assert kept is not None
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"left behind"
    assert not (tmp_path / "a.db-wal").exists(), "it would be read into the new file"
    assert doubts(path)["LIVE"][0] == "SUSPECT"


# ---------------------------------------------------------------- noticed without being told


async def test_an_old_copy_put_back_by_hand_is_noticed_and_doubted(tmp_path: Path) -> None:
    """Catalogue 9, without the command: cp while nothing runs."""
    path = tmp_path / "a.db"
    await seeded(path)
    assert await run_once(path) == ""
    shutil.copy(path, tmp_path / "old")
    assert await run_once(path) == ""

    shutil.copy(tmp_path / "old", path)

    assert await run_once(path) == "an older copy of the database lies here"
    assert doubts(path)["LIVE"] == ("SUSPECT", generation.RESTORED, "", NOW_US)
    assert await run_once(path) == ""


async def test_another_database_put_there_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "a.db", tmp_path / "other.db"
    for one in (path, other):
        await seeded(one)
        await run_once(one)
        await run_once(one)

    shutil.copy(other, path)

    assert await run_once(path) == "another database lies here"
    assert doubts(path)["LIVE"][0] == "SUSPECT"


async def test_a_copy_from_before_beats_were_counted_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await seeded(path)
    shutil.copy(path, tmp_path / "old")
    await run_once(path)
    shutil.copy(tmp_path / "old", path)

    assert "before beats" in await run_once(path)


async def test_a_database_that_vanished_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await seeded(path)
    await run_once(path)
    path.unlink()

    with pytest.raises(Corrupt, match="is gone"):
        generation.expect(path)

    generation.beside(path).unlink()
    generation.expect(path)


async def test_a_crash_between_the_beat_and_its_telling_is_no_restore(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await seeded(path)
    await run_once(path)
    database = await Database.open(path)
    await database.write(generation.beat, durable=True)
    await database.close()

    assert await run_once(path) == ""
    generation.beside(path).write_bytes(b"{torn")
    assert await run_once(path) == ""
    assert generation.told(path) == await beat_of(path)


async def beat_of(path: Path) -> generation.Beat | None:
    database = await Database.open(path)
    found = await database.read(generation.current)
    await database.close()
    return found


def test_reading_needs_no_beat() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")
    assert generation.current(Reader(connection)) is None
    connection.close()
