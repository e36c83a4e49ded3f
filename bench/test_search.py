"""Searches over a filled index: posts by words and scope, people by the beginnings of their names.

What the index costs each post that is kept is measured by test_apply.py, with and without this.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.store import search
from appliance.store.database import Database, Reader, Transaction
from appliance.timeline.answering import Answering
from appliance.timeline.asker import Asker
from appliance.timeline.search_query import Filters
from appliance.timeline.search_views import SearchViews

PEOPLE = 50_000
POSTS = int(os.environ.get("BENCH_POSTS", "200000"))
FOLLOWED = 400
NOW_MS = 1_767_225_600_000
ROUNDS = 40
BATCH = 5_000
ADDED = 20_000
NAMES = [
    "alex",
    "anna",
    "ben",
    "bea",
    "carl",
    "carla",
    "dan",
    "dora",
    "emil",
    "eva",
    "finn",
    "fay",
    "gus",
    "gina",
    "hugo",
    "hana",
    "ivan",
    "ida",
    "jon",
    "julia",
    "kai",
    "kim",
    "leo",
    "lena",
    "max",
    "mia",
    "nils",
    "nora",
    "otto",
    "olga",
    "paul",
    "pia",
    "rob",
    "rosa",
    "sam",
    "sara",
    "tom",
    "tina",
    "udo",
    "ute",
]
VOCABULARY = [
    f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "ll", "nd", "sk")
]


def did(number: int) -> str:
    return f"did:plc:{number:024d}"


def fill(tx: Transaction, posts: list[tuple[int, int, int, bytes]]) -> None:
    tx.many(
        "INSERT INTO record (id, actor, collection, rkey, state, epoch, rev, n, cid, body, sort_ms, tie,"
        " arrival, indexed_us) VALUES (?, ?, 1, ?, 1, 0, '3k', 0, 'bafyrei', ?, ?, 0, ?, ?)",
        [(i, actor, f"r{i}", body, ms, i, ms * 1000) for i, actor, ms, body in posts],
    )
    tx.many(
        "INSERT INTO post (id, actor, sort_ms, tie, flags) VALUES (?, ?, ?, 0, 0)",
        [(i, actor, ms) for i, actor, ms, _ in posts],
    )


def index(tx: Transaction, posts: list[tuple[int, int, int, bytes]]) -> None:
    for i, actor, ms, body in posts:
        search.add(tx, i, actor, 1, body, ms, 0)


def people(tx: Transaction) -> None:
    chance = random.Random(3)
    for number in range(1, PEOPLE + 1):
        first = chance.choice(NAMES)
        tx.run(
            "INSERT INTO actor (id, did, known, handle, indexed_ms) VALUES (?, ?, 1, ?, 0)",
            (number, did(number), f"{first}{number}.{chance.choice(('bsky.social', 'test'))}"),
        )
        body = orjson.dumps({"displayName": f"{first} {chance.choice(VOCABULARY)}", "description": "writes"})
        tx.run(
            "INSERT INTO record (id, actor, collection, rkey, state, epoch, rev, n, cid, body, sort_ms, tie,"
            " indexed_us) VALUES (?, ?, 5, 'self', 1, 0, '3k', 0, 'bafyrei', ?, 0, 0, 0)",
            (10_000_000 + number, number, body),
        )
        tx.run(
            "INSERT INTO actor_count (actor, followers) VALUES (?, ?)",
            (number, int(chance.paretovariate(0.6))),
        )
        search.person(tx, number)
    for number in range(FOLLOWED):
        tx.run(
            "INSERT INTO record (id, actor, collection, rkey, state) VALUES (?, 1, 4, ?, 1)",
            (20_000_000 + number, str(number)),
        )
        tx.run(
            "INSERT INTO link (id, kind, actor, subject, sort_ms, tie) VALUES (?, 3, 1, ?, 0, 0)",
            (20_000_000 + number, 2 + number * 100),
        )


def made(first: int, count: int) -> list[tuple[int, int, int, bytes]]:
    chance = random.Random(first)
    rows = []
    weights = [1 / (rank + 1) for rank in range(len(VOCABULARY))]
    for i in range(first, first + count):
        text = " ".join(chance.choices(VOCABULARY, weights=weights, k=chance.randrange(4, 30)))
        body = orjson.dumps({"text": text, "langs": ["en"], "createdAt": "2025-01-01T00:00:00Z"})
        rows.append((i, chance.randrange(1, PEOPLE + 1), NOW_MS - (POSTS - i) * 997, body))
    return rows


async def measure(path: Path) -> dict[str, tuple[float, float]]:
    database = await Database.open(path, readers=1)
    await database.write(people)
    spent = 0.0
    for first in range(1, POSTS + 1, BATCH):
        rows = made(first, BATCH)
        await database.write(lambda tx, rows=rows: fill(tx, rows))  # type: ignore[misc]
        started = time.perf_counter()
        await database.write(lambda tx, rows=rows: index(tx, rows))  # type: ignore[misc]
        spent += time.perf_counter() - started
    print(f"\nindex: {spent / POSTS * 1e6:.1f} µs a post, committed")
    pages = await database.read(_sizes)
    print(f"index: {pages / POSTS:.0f} bytes a post")
    views = SearchViews(
        Answering(database, Settings(appview_hostname="bench.test"), SystemClock()), "tracked"
    )
    asker = Asker(did=did(1), member=True, labelers=())
    common, rare = VOCABULARY[0], VOCABULARY[-1]
    queries: dict[str, Callable[[], Any]] = {
        "posts, a common word": lambda: posts(views, asker, common),
        "posts, a rare word": lambda: posts(views, asker, rare),
        "posts, three words and a negation": lambda: posts(views, asker, f"{common} {VOCABULARY[1]} -{rare}"),
        "posts, a phrase": lambda: posts(views, asker, f'"{common} {VOCABULARY[1]}"'),
        "posts of one account": lambda: posts(views, asker, "from:me"),
        "posts, in:following": lambda: posts(views, asker, f"{common} in:following"),
        "posts, in:timeline": lambda: posts(views, asker, f"{common} in:timeline"),
        "posts, in:following, not there": lambda: posts(
            views, asker, f"{common} in:following since:2030-01-01"
        ),
        "posts, top": lambda: posts(views, asker, common, top=True),
        "typeahead, one letter": lambda: views.typeahead(asker, "a", limit=10),
        "typeahead, two letters": lambda: views.typeahead(asker, "jo", limit=10),
        "typeahead, everybody": lambda: views.typeahead(asker, "b", limit=10),
        "typeahead, a name": lambda: views.typeahead(asker, "julia", limit=10),
        "people": lambda: views.people(asker, "julia", cursor=None, limit=25),
    }
    found = {}
    for name, ask in queries.items():
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            await ask()
            times.append((time.perf_counter() - started) * 1000)
        times.sort()
        found[name] = (times[ROUNDS // 2], times[int(ROUNDS * 0.95)])
        print(f"{name:<40} p50 {found[name][0]:7.2f} ms  p95 {found[name][1]:7.2f} ms")
    await database.close()
    return found


async def posts(views: SearchViews, asker: Asker, query: str, *, top: bool = False) -> Any:
    return await views.posts(asker, query, Filters(), top=top, cursor=None, limit=25)


def _sizes(reader: Reader) -> int:
    pages: int = reader.value("SELECT sum(length(block)) FROM search_data")
    return pages + 16 * int(reader.value("SELECT count(*) FROM searched"))


def test_searches_keep_their_time(tmp_path: Path) -> None:
    found = asyncio.run(measure(tmp_path / "search.sqlite"))

    assert max(p50 for name, (p50, _) in found.items() if name.startswith("typeahead")) < 20
    assert max(p50 for p50, _ in found.values()) < 150
