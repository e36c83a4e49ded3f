"""Bringing an older database file to the schema of this version.

``schema.sql`` is what a new file gets. ``migrations/NNNN_title.sql`` leads from schema NNNN - 1 to NNNN;
a file that is several behind takes all its steps in one transaction, or none.
"""

from __future__ import annotations

import importlib.resources
import re
import sqlite3
from collections.abc import Iterator, Mapping

from appliance import crash_points
from appliance.errors import Corrupt

SCHEMA_VERSION = 2


def schema_text() -> str:
    """The text of schema.sql."""
    return importlib.resources.files("appliance.store").joinpath("schema.sql").read_text("utf-8")


def steps() -> dict[int, str]:
    """The script that leads to each version."""
    found: dict[int, str] = {}
    folder = importlib.resources.files("appliance.store").joinpath("migrations")
    if folder.is_dir():
        for file in folder.iterdir():
            if match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name):
                found[int(match[1])] = file.read_text("utf-8")
    return found


def create(connection: sqlite3.Connection) -> None:
    """Give an empty file the schema."""
    _in_one_transaction(connection, [schema_text()], SCHEMA_VERSION)


def upgrade(connection: sqlite3.Connection, version: int, to: int, scripts: Mapping[int, str]) -> None:
    """Lead a file of schema ``version`` to ``to``. Raises Corrupt, having changed nothing, if that fails."""
    missing = [number for number in range(version + 1, to + 1) if number not in scripts]
    if missing:
        raise Corrupt(f"there is no way from schema {version} to {to}: step {missing[0]} is missing")
    # A step may rebuild a table that others refer to; what must hold is checked before the commit.
    connection.execute("PRAGMA foreign_keys=OFF")
    try:
        _in_one_transaction(connection, [scripts[number] for number in range(version + 1, to + 1)], to)
    finally:
        connection.execute("PRAGMA foreign_keys=ON")


def _in_one_transaction(connection: sqlite3.Connection, scripts: list[str], version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in scripts:
            for statement in statements(script):
                connection.execute(statement)
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise Corrupt(f"schema {version}: a row of {broken[0]} refers to nothing in {broken[2]}")
        connection.execute(f"PRAGMA user_version={version}")
        crash_points.reach("migration-before-commit")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise Corrupt(f"the database can't be brought to schema {version}: {error}") from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def statements(script: str) -> Iterator[str]:
    """The script cut into statements; triggers with their inner semicolons stay whole."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if re.sub(r"--[^\n]*", "", pending).strip():
        raise ValueError(f"the script ends within a statement: {pending.strip()[:60]}")
