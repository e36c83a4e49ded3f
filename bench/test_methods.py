"""Each method that clients call, over a full appliance: the real server process through one connection.

``BENCH_SMALLER=10`` takes a tenth of the data, ``BENCH_ROUNDS`` and ``BENCH_ASKED`` set how often. Each
request has a service token of its own, as a member's server makes them. Rounds go through all methods, so
that noise meets all alike; a method's figures are those of its best third of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from appliance.auth.mint import service_token
from bench.big_world import KEY, Named, Size, kept
from bench.test_timeline import Client
from tests.journeys.harness import Process

SMALLER = int(os.environ.get("BENCH_SMALLER", "1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
ASKED = int(os.environ.get("BENCH_ASKED", "20"))  # times a round
BUDGET_MS, SEARCH_MS, TYPEAHEAD_MS = 50.0, 150.0, 20.0
# Whole threads of 5,000 replies in one answer of seven megabytes, as their methods have no pages.
WHOLE_THREAD_MS = 1000.0
# The viewer never looked at 293,000 notifications.
UNREAD_MS = 100.0
SERVICE = "did:web:bench.test"


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A method with what it is asked; several are asked in turn."""

    name: str
    nsid: str
    queries: list[str]
    budget_ms: float = BUDGET_MS


def asked(named: Named) -> list[Asked]:
    """Everything that is measured."""
    chance = random.Random(5)
    posts, people = named.some, named.people

    def each(name: str, values: list[str], more: str = "") -> list[str]:
        return [f"{name}={quote(value, safe=':/')}{more}" for value in values]

    def batch(name: str, values: list[str], size: int = 25) -> list[str]:
        return ["&".join(each(name, chance.sample(values, min(size, len(values))))) for _ in range(8)]

    actor = "app.bsky.actor."
    feed = "app.bsky.feed."
    graph = "app.bsky.graph."
    odd = "app.bsky.unspecced."
    told = "app.bsky.notification."
    star, viral = f"actor={named.celebrity}&limit=100", f"uri={named.viral}&limit=100"
    anybody = each("actor", people[:40])
    rows: list[tuple[str, str, list[str]]] = [
        ("", f"{actor}getProfile", anybody),
        ("", f"{actor}getProfiles", batch("actors", people)),
        ("", f"{actor}getSuggestions", ["limit=50"]),
        ("limit=50", f"{feed}getTimeline", ["limit=50"]),
        ("limit=100", f"{feed}getTimeline", ["limit=100"]),
        ("", f"{feed}getAuthorFeed", each("actor", people[:40], "&limit=50")),
        ("media", f"{feed}getAuthorFeed", each("actor", people[:40], "&limit=50&filter=posts_with_media")),
        ("", f"{feed}getPosts", batch("uris", posts)),
        ("", f"{feed}getPostThread", each("uri", posts[:60])),
        ("viral", f"{feed}getPostThread", [f"uri={named.viral}"]),
        ("deep", f"{feed}getPostThread", [f"uri={named.deep}"]),
        ("viral", f"{feed}getLikes", [viral]),
        ("viral", f"{feed}getRepostedBy", [viral]),
        ("viral", f"{feed}getQuotes", [viral]),
        ("", f"{feed}getActorLikes", [f"actor={named.viewer}&limit=50"]),
        ("", f"{feed}getFeedGenerators", batch("feeds", named.generators)),
        ("", f"{feed}getActorFeeds", anybody),
        ("60 on it", f"{feed}getListFeed", each("list", named.lists[:20], "&limit=50")),
        ("thousands on it", f"{feed}getListFeed", [f"list={named.big_list}&limit=50"]),
        ("", f"{feed}getSuggestedFeeds", ["limit=50"]),
        ("common word", f"{feed}searchPosts", [f"q={named.common}&limit=25"]),
        ("rare word", f"{feed}searchPosts", [f"q={named.rare}&limit=25"]),
        ("top", f"{feed}searchPosts", [f"q={named.common}&limit=25&sort=top"]),
        ("two words, from", f"{feed}searchPosts", [f"q={named.common}%20ban%20from%3A{named.people[0]}"]),
        ("in:timeline", f"{feed}searchPosts", [f"q={named.common}%20in%3Atimeline"]),
        ("in:following, rare", f"{feed}searchPosts", [f"q={named.rare}%20in%3Afollowing"]),
        ("", f"{feed}searchPostsV2", [f"query={named.common}&limit=25"]),
        ("", f"{actor}searchActors", ["q=ban&limit=25", "q=bar%20ban"]),
        ("", f"{actor}searchActorsTypeahead", ["q=b", "q=ba", "q=ban", "q=gul"]),
        ("", f"{graph}getFollows", [f"actor={named.viewer}&limit=100"]),
        ("celebrity", f"{graph}getFollowers", [star]),
        ("celebrity", f"{graph}getKnownFollowers", [star]),
        ("somebody", f"{graph}getKnownFollowers", anybody),
        ("", f"{graph}getRelationships", [f"actor={named.viewer}&{q}" for q in batch("others", people, 30)]),
        ("", f"{graph}getList", each("list", named.lists[:20], "&limit=100")),
        ("thousands on it", f"{graph}getList", [f"list={named.big_list}&limit=100"]),
        ("", f"{graph}getLists", [f"actor={named.viewer}&limit=100"]),
        ("", f"{graph}getListsWithMembership", anybody),
        ("", f"{graph}getMutes", ["limit=100"]),
        ("", f"{graph}getBlocks", ["limit=100"]),
        ("", f"{graph}getListMutes", ["limit=100"]),
        ("", f"{graph}getListBlocks", ["limit=100"]),
        ("celebrity", f"{graph}getSuggestedFollowsByActor", [f"actor={named.celebrity}"]),
        ("somebody", f"{graph}getSuggestedFollowsByActor", anybody),
        ("", f"{graph}getStarterPack", each("starterPack", named.packs[:25])),
        ("", f"{graph}getStarterPacks", batch("uris", named.packs)),
        ("", f"{graph}getActorStarterPacks", anybody),
        ("", f"{graph}searchStarterPacks", [f"q={named.common}"]),
        ("", f"{told}listNotifications", ["limit=40", "limit=100"]),
        ("", f"{told}getUnreadCount", [""]),
        ("", f"{told}getPreferences", [""]),
        ("", f"{told}listActivitySubscriptions", ["limit=100"]),
        ("", "app.bsky.labeler.getServices", [f"dids={named.labeler}&detailed=true"]),
        ("", "app.bsky.bookmark.getBookmarks", ["limit=100"]),
        ("", "app.bsky.draft.getDrafts", ["limit=50"]),
        ("", f"{odd}getConfig", [""]),
        ("", f"{odd}getPostThreadV2", each("anchor", posts[:60])),
        (
            "viral, top",
            f"{odd}getPostThreadV2",
            [f"anchor={named.viral}&below=20&branchingFactor=100&sort=top"],
        ),
        ("viral, newest", f"{odd}getPostThreadV2", [f"anchor={named.viral}&sort=newest"]),
        ("deep", f"{odd}getPostThreadV2", [f"anchor={named.deep}"]),
        ("viral", f"{odd}getPostThreadOtherV2", [f"anchor={named.viral}"]),
        ("", f"{odd}getPopularFeedGenerators", ["limit=50"]),
        ("", f"{odd}getSuggestedUsers", ["limit=25"]),
        ("", f"{odd}getSuggestedFeeds", ["limit=25"]),
        ("", f"{odd}getSuggestedStarterPacks", ["limit=25"]),
        ("", "app.bsky.ageassurance.getConfig", [""]),
        ("", "app.bsky.ageassurance.getState", ["countryCode=DE"]),
        ("", "com.atproto.identity.resolveHandle", ["handle=bar1.test"]),
        ("", "com.atproto.repo.getRecord", _records(posts)),
        (
            "",
            "com.atproto.label.queryLabels",
            [f"sources={named.labeler}&{q}" for q in batch("uriPatterns", posts)],
        ),
    ]
    return [
        Asked(name, nsid, queries, _budget(name, nsid))
        for name, nsid, queries in [("from memory", "_health", [""]), *rows]
    ]


def _budget(name: str, nsid: str) -> float:
    if "Thread" in nsid and name.startswith("viral"):
        return WHOLE_THREAD_MS
    if nsid.endswith("Typeahead"):
        return TYPEAHEAD_MS
    if nsid.endswith("getUnreadCount"):
        return UNREAD_MS
    return SEARCH_MS if ".search" in nsid else BUDGET_MS


def _records(posts: list[str]) -> list[str]:
    parts = [post.split("/") for post in posts[:40]]
    return [f"repo={p[2]}&collection={p[3]}&rkey={p[4]}" for p in parts]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Figures(msgspec.Struct):
    """What was seen of one method: by round."""

    p50: list[float] = []
    p95: list[float] = []
    cpu_ms: float = 0.0
    size: int = 0
    first_ms: float = 0.0


async def measure(named: Named, process: Process) -> dict[Asked, Figures]:
    client = await Client.open(process.origin)
    found = {one: Figures() for one in asked(named)}

    def token(nsid: str) -> str:
        now_us = time.time_ns() // 1000
        return service_token(
            KEY, issuer=named.viewer, audience=SERVICE, method=nsid, now_us=now_us, life_s=600
        )

    async def ask(one: Asked, number: int, authorization: str) -> tuple[float, int]:
        query = one.queries[number % len(one.queries)]
        path = "/xrpc/" + one.nsid + (f"?{query}" if query else "")
        began = time.perf_counter()
        body = await client.get(path, authorization)
        return (time.perf_counter() - began) * 1000, len(body)

    for one, figures in found.items():
        figures.first_ms, figures.size = await ask(one, 0, token(one.nsid))
    for _ in range(ROUNDS):
        for one, figures in found.items():
            tokens = [token(one.nsid) for _ in range(ASKED)]
            cpu_s = _cpu_s(process.pid)
            times = sorted([(await ask(one, n, tokens[n]))[0] for n in range(ASKED)])
            figures.cpu_ms += (_cpu_s(process.pid) - cpu_s) * 1000 / ASKED / ROUNDS
            figures.p50.append(times[ASKED // 2])
            figures.p95.append(times[ASKED * 95 // 100])
    await client.close()
    return found


def table(found: dict[Asked, Figures]) -> list[str]:
    """Markdown."""
    memory = best(next(iter(found.values())).p50)
    lines = [
        "| method | p50 ms | p95 ms | × the answer from memory | first ms | processor ms | kB |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, figures in found.items():
        name = one.nsid + (f" ({one.name})" if one.name else "")
        p50, p95 = best(figures.p50), best(figures.p95)
        over = " **over**" if p95 > one.budget_ms else ""
        lines.append(
            f"| {name} | {p50:.1f} | {p95:.1f}{over} | {p50 / memory:.1f} | {figures.first_ms:.0f}"
            f" | {figures.cpu_ms:.1f} | {figures.size / 1000:.0f} |"
        )
    return lines


def best(rounds: list[float]) -> float:
    """The middle of the best third."""
    third = sorted(rounds)[: max(1, len(rounds) // 3)]
    return third[len(third) // 2]


def test_no_method_takes_longer_than_its_budget() -> None:
    folder, named = kept(Size() if SMALLER == 1 else Size().smaller(SMALLER))
    with closing(sqlite3.connect(folder / "appliance.db", isolation_level=None)) as file:
        # Nobody need be looked up: everybody was just now.
        file.execute("UPDATE actor SET resolved_us = ?", (time.time_ns() // 1000,))
        file.execute("UPDATE notification_state SET seen_ms = NULL")

    async def work() -> dict[Asked, Figures]:
        process = Process(
            folder,
            {
                # Nobody answers there, and nobody is needed.
                "JETSTREAM_URLS": "ws://127.0.0.1:9/subscribe",
                "PLC_URL": "http://127.0.0.1:9",
                "APPVIEW_DID": SERVICE,
                "LABELERS": named.labeler,
            },
        )
        await process.start(within_s=120)
        try:
            return await measure(named, process)
        finally:
            await process.stop()

    found = asyncio.run(work())
    print("\n" + "\n".join(table(found)))
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load average {load}; {ROUNDS} rounds of {ASKED}; data {Size().smaller(SMALLER)}")
    # By processor time, because others use the machine: the clock's figures are for whoever reads the table.
    assert [one.nsid for one, figures in found.items() if figures.cpu_ms > one.budget_ms] == []
