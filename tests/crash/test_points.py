"""The crash points themselves: where they lie, when they may be armed, and that a schema step is whole."""

from __future__ import annotations

import ast
import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import crash_points
from appliance.errors import BadInput
from tests.crash.killing import Mortal
from tests.crash.looks import Looks
from tests.journeys.harness import ROOT, Client
from tests.serving import serving
from tests.store.test_migrations import FORMER
from tests.tidy.sources import modules, trees

POINT = "migration-before-commit"


def test_each_crash_point_lies_in_the_code_and_nothing_else_is_reached() -> None:
    reached = [
        ast.literal_eval(node.args[0])
        for _, module in trees(modules())
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "crash_points.reach"
    ]

    assert set(reached) == set(crash_points.POINTS)
    assert len(set(crash_points.POINTS)) == len(crash_points.POINTS)


@pytest.mark.parametrize("text", ["nowhere", "batch-after-commit:0", "batch-after-commit:often"])
def test_a_crash_point_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="CRASH_AT"):
        crash_points.arm(text, allowed=True)


def test_nothing_dies_where_a_public_host_name_could_be() -> None:
    with pytest.raises(BadInput, match="ALLOW_LOOPBACK"):
        crash_points.arm("batch-after-commit", allowed=False)

    crash_points.arm("", allowed=False)
    for point in crash_points.POINTS:
        crash_points.reach(point)


def test_a_process_dies_at_the_time_and_the_point_that_it_was_told() -> None:
    program = (
        "from appliance import crash_points as c; c.arm('page-before-commit:2', allowed=True);"
        "[(print(p, flush=True), c.reach(p)) for p in ('page-before-commit', 'page-after-commit') * 2]"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)

    assert done.returncode == -9
    assert done.stdout.split() == [b"page-before-commit", b"page-after-commit", b"page-before-commit"]
    assert done.stderr == b"crash point page-before-commit\n"


async def test_number_13_a_schema_step_that_is_killed_leaves_the_file_as_it_was_and_is_taken_again(
    tmp_path: Path,
) -> None:
    data = tmp_path / "appliance"
    data.mkdir()
    old = sqlite3.connect(data / "appliance.db", isolation_level=None)
    old.executescript("PRAGMA journal_mode=WAL;" + (FORMER / "1.sql").read_text() + "PRAGMA user_version=1;")
    old.execute("INSERT INTO actor (id, did, known) VALUES (1, 'did:plc:one', 1)")
    for n in range(500):
        old.execute(
            "INSERT INTO record (actor, collection, rkey, state, epoch, rev, n, cid, body)"
            " VALUES (1, 1, ?, 1, 0, 'rev', 0, ?, x'7b7d')",
            (f"key{n}", f"cid{n}"),
        )
    before = _rows(data)
    old.close()
    # A stream and a directory that nobody serves: only the file matters here.
    settings = {"JETSTREAM_URLS": "ws://localhost:9/subscribe", "PLC_URL": "http://localhost:9"}
    process = Mortal(data, settings)

    async def nothing() -> None:
        await asyncio.sleep(0)

    await process.live(POINT, 1, 20, nothing)
    assert process.deaths == {POINT: 1}
    assert _version(data) == 1
    assert _rows(data) == before

    await process.start()
    await process.stop()
    assert _version(data) > 1
    assert _rows(data) == before


def _version(data: Path) -> int:
    with sqlite3.connect(data / "appliance.db") as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


def _rows(data: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(data / "appliance.db") as connection:
        found = connection.execute(
            # Steps may note whom else they want to know about; what was known stays.
            "SELECT actor, collection, rkey, rev, cid, body FROM record WHERE actor = 1"
        ).fetchall()
    connection.close()
    return sorted(found)


class _Shown(Client):
    """An appliance that shows what a test tells it to."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__("", http)
        self.did = "did:plc:reader"
        self.uris: list[str] = []

    async def call(self, nsid: str, body: Any = None, **params: Any) -> Any:
        posts = [{"uri": uri, "cid": "cid", "indexedAt": uri[-1]} for uri in self.uris]
        return {"feed": [{"post": post} for post in posts]}


async def test_a_deleted_post_that_is_shown_again_is_noticed_at_the_first_look() -> None:
    posts = [f"at://did:plc:author/app.bsky.feed.post/{n}" for n in (3, 2, 1)]
    there = set(posts)

    async def pds(scope: Any, receive: Any, send: Any) -> None:
        query = dict(httpx.QueryParams(scope["query_string"]))
        uri = f"at://{query['repo']}/{query['collection']}/{query['rkey']}"
        status, text = (200, b"{}") if uri in there else (400, b'{"error": "RecordNotFound"}')
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": text})

    async with httpx.AsyncClient(trust_env=False) as http, serving(pds) as origin:
        client = _Shown(http)
        looks = Looks(client, http, ["did:plc:author"])
        client.uris = list(posts)
        await looks.look([origin])

        # The first is hidden and exists: no matter. The last is deleted.
        client.uris = posts[1:2]
        there.remove(posts[2])
        await looks.look([origin])
        assert looks.gone == {posts[2]}
        client.uris = posts[:2]
        await looks.look([origin])

        client.uris = list(posts)
        with pytest.raises(AssertionError, match="again after it was deleted"):
            await looks.look([origin])

        # One that began anew shows what it had until it has been read.
        looks.begins_anew("did:plc:author")
        await looks.look([origin])
        assert not looks.gone
