"""Older files reach the current schema whole, or stay as they were."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import Corrupt
from appliance.store import migrations, records
from appliance.store.database import Reader
from appliance.store.migrations import SCHEMA_VERSION, create, schema_text, statements, steps, upgrade
from tests.ingest.world import World

# Each version that was ever released, as it was then; a new one is added when SCHEMA_VERSION rises.
FORMER = Path(__file__).parent / "schemas"

TWO = """
-- A comment; with a semicolon.
CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TRIGGER kept AFTER DELETE ON note BEGIN
  INSERT INTO note (text) VALUES ('gone');
  UPDATE note SET text = text || ';';
END;
"""
THREE = "ALTER TABLE note ADD COLUMN about INTEGER REFERENCES actor (id);"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "file.sqlite", isolation_level=None)
    opened.execute("PRAGMA foreign_keys=ON")
    create(opened)
    yield opened
    opened.close()


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """What tables, columns and indexes are, however their SQL was spelled."""
    found: dict[str, object] = {}
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"):
        if kind == "table":
            found[name] = (
                connection.execute(f"PRAGMA table_xinfo({name})").fetchall(),
                sorted(connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()),
                connection.execute("SELECT strict, wr FROM pragma_table_list(?)", (name,)).fetchall(),
            )
        elif kind == "index":
            columns = connection.execute(f"PRAGMA index_xinfo({name})").fetchall()
            where = re.search(r"\bWHERE\b.*", sql or "", re.DOTALL)
            found[name] = (table, columns, " ".join(where[0].split()) if where else "")
        else:
            found[name] = " ".join(sql.split())
    return found


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def test_a_new_file_has_the_schema_and_its_number(connection: sqlite3.Connection) -> None:
    assert version_of(connection) == SCHEMA_VERSION
    assert len(shape(connection)) > 30


def test_there_is_a_step_to_each_version_after_the_first_and_a_copy_of_each_former_one() -> None:
    assert sorted(steps()) == list(range(2, SCHEMA_VERSION + 1))
    former = sorted(int(path.stem) for path in FORMER.glob("*.sql"))
    assert former == list(range(1, SCHEMA_VERSION))


def test_every_former_file_ends_up_exactly_like_a_new_one(
    tmp_path: Path, connection: sqlite3.Connection
) -> None:
    scripts = {version: FORMER / f"{version}.sql" for version in range(1, SCHEMA_VERSION)}
    scripts[SCHEMA_VERSION] = Path(migrations.__file__).with_name("schema.sql")
    for version, script in scripts.items():
        old = sqlite3.connect(tmp_path / f"{version}.sqlite", isolation_level=None)
        old.executescript(script.read_text())

        upgrade(old, version, SCHEMA_VERSION, steps())

        assert shape(old) == shape(connection)
        assert version_of(old) == SCHEMA_VERSION
        old.close()


def test_a_file_takes_all_its_steps(connection: sqlite3.Connection) -> None:
    upgrade(connection, 1, 3, {2: TWO, 3: THREE})

    assert version_of(connection) == 3
    connection.execute("INSERT INTO note (text) VALUES ('first')")
    connection.execute("DELETE FROM note")
    assert connection.execute("SELECT text, about FROM note").fetchall() == [("gone;", None)]
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_step_that_fails_leaves_the_file_as_it_was(connection: sqlite3.Connection) -> None:
    before = shape(connection)

    with pytest.raises(Corrupt, match="can't be brought to schema 3: no such table: nowhere"):
        upgrade(connection, 1, 3, {2: TWO, 3: "ALTER TABLE nowhere ADD COLUMN x;"})

    assert shape(connection) == before
    assert version_of(connection) == SCHEMA_VERSION
    assert not connection.in_transaction
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_step_that_breaks_a_reference_is_undone(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO actor (id, did) VALUES (1, 'did:plc:one')")
    connection.execute("INSERT INTO member (actor, via, admitted_us) VALUES (1, 'operator', 0)")

    with pytest.raises(Corrupt, match="a row of member refers to nothing in actor"):
        upgrade(connection, 1, 2, {2: "DELETE FROM actor;"})

    assert connection.execute("SELECT did FROM actor").fetchall() == [("did:plc:one",)]


def test_a_missing_step_is_named_before_anything_is_done(connection: sqlite3.Connection) -> None:
    with pytest.raises(Corrupt, match="step 3 is missing"):
        upgrade(connection, 1, 4, {2: TWO, 4: THREE})

    assert version_of(connection) == SCHEMA_VERSION


def test_a_script_that_ends_within_a_statement_is_a_mistake_of_ours() -> None:
    assert len(list(statements(TWO))) == 2
    assert len(list(statements(schema_text()))) == len(
        re.findall(r"^(?:CREATE|INSERT) ", schema_text(), re.MULTILINE)
    )
    with pytest.raises(ValueError, match="ends within a statement"):
        list(statements("CREATE TABLE a (b);\nCREATE TABLE c"))


def test_the_steps_of_a_package_are_found_by_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0002_notes.sql").write_text(TWO)
    (folder / "notes.txt").write_text("not a step")
    monkeypatch.setattr("importlib.resources.files", lambda name: tmp_path)

    assert steps() == {2: TWO}


def test_pictures_of_records_that_were_here_before_are_known_afterwards(tmp_path: Path) -> None:
    one = "bafkreieldh4cnxcbr4xjyt6has6wuf3e2aw64usididuesabuvr6jckuku"
    two = "bafkreic4abe4tfoboiilzyknv7gy77v2mbeyj777gqotics6bnmxrc6bam"
    image = {"ref": {"$link": one}}
    post = json.dumps({"text": "bafkrei", "embed": {"images": [{"image": image}]}})
    profile = json.dumps({"avatar": {"cid": two}, "description": f'"cid":"{one}"'})
    old = sqlite3.connect(tmp_path / "1.sqlite", isolation_level=None)
    old.executescript((FORMER / "1.sql").read_text())
    old.execute("INSERT INTO actor (id, did) VALUES (7, 'did:plc:one')")
    for number, collection, state, body in (
        (1, 1, 1, post),
        (2, 5, 1, profile),
        (3, 1, 3, post),
        (4, 1, 2, None),
        (5, 3, 1, post),
        (6, 1, 1, '{"text":"nothing"}'),
    ):
        old.execute(
            "INSERT INTO record (id, actor, collection, rkey, state, body) VALUES (?, 7, ?, ?, ?, ?)",
            (number, collection, str(number), state, None if body is None else body.encode()),
        )

    upgrade(old, 1, SCHEMA_VERSION, steps())

    assert old.execute("SELECT actor, cid, record FROM blob ORDER BY record").fetchall() == [
        (7, one, 1),
        (7, two, 2),
    ]
    old.close()


def test_a_file_of_the_first_schema_keeps_every_row_and_digest(tmp_path: Path) -> None:
    """Catalogue 13: digests of each account before and after, and each column of each table."""
    world = World()
    names = ["alice", "bob", "carol"]
    world.member("alice")
    for number, who in enumerate(names):
        world.track(who)
        posts = [world.post(who, f"{n}") for n in range(20)]
        world.like(who, "l", posts[0])
        world.repost(who, "r", posts[1])
        world.delete(posts[number])
    world.follow("alice", "f", "bob")
    world.tx.run("UPDATE repo SET state = 'LIVE', reason = 'history since 2025-03-04' WHERE actor = 2")
    connection = sqlite3.connect(tmp_path / "old.sqlite", isolation_level=None)
    connection.executescript((FORMER / "1.sql").read_text())
    connection.execute("PRAGMA user_version=1")
    connection.execute("BEGIN")
    for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        rows = world.all(f"SELECT {', '.join(columns)} FROM {table}")
        places = ", ".join("?" * len(columns))
        connection.execute(f"DELETE FROM {table}")
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows)
    connection.execute("COMMIT")
    world.connection.close()

    def contents() -> dict[str, list[tuple[object, ...]]]:
        return {
            table: sorted(
                connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall(), key=repr
            )
            for table, columns in old.items()
        }

    def digests() -> list[tuple[bytes, int]]:
        reader = Reader(connection)
        actors = [row[0] for row in reader.all("SELECT actor FROM repo ORDER BY actor")]
        return [records.digest(reader, actor, [1, 2, 3, 4]) for actor in actors]

    old = {
        table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    }
    before, digested = contents(), digests()
    assert len(before["record"]) > 60
    assert len({digest for digest, _ in digested}) == 3

    upgrade(connection, 1, SCHEMA_VERSION, steps())

    assert contents() == before
    assert digests() == digested
    window = connection.execute(
        "SELECT date(window_us / 1000000, 'unixepoch') FROM repo ORDER BY actor"
    ).fetchall()
    assert sorted(window, key=repr) == [("2025-03-04",), (None,), (None,)]
    connection.close()
