"""Plays recordings of the official AppView to our server and compares every answer.

    python -m tests.conformance.runner FOLDER…

Exit code 0 only when nothing differs that the list in differences.py does not explain. Methods that
the server does not have yet are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from appliance.protocol import lexicons
from tests.conformance.comparing import differences, plain
from tests.conformance.differences import OURS
from tests.conformance.scenario import Query, Scenario
from tests.conformance.stage import stage

KNOWN_FOLLOWERS = "app.bsky.graph.getKnownFollowers"
DESCRIBE = "app.bsky.feed.describeFeedGenerator"
SUGGESTED_FEEDS = "app.bsky.unspecced.getSuggestedFeeds"
BOOKMARKS = "app.bsky.bookmark.getBookmarks"
METHODS = (
    "app.bsky.feed.getTimeline",
    "app.bsky.feed.getAuthorFeed",
    "app.bsky.feed.getPosts",
    "app.bsky.feed.getPostThread",
    "app.bsky.actor.getProfile",
    "app.bsky.actor.getProfiles",
    "app.bsky.graph.getFollows",
    "app.bsky.graph.getFollowers",
    "app.bsky.feed.getLikes",
    "app.bsky.feed.getRepostedBy",
    "app.bsky.feed.getActorFeeds",
    "app.bsky.feed.getActorLikes",
    "app.bsky.feed.getFeed",
    "app.bsky.feed.getFeedGenerator",
    "app.bsky.feed.getFeedGenerators",
    "app.bsky.feed.getListFeed",
    "app.bsky.feed.getQuotes",
    "app.bsky.graph.getActorStarterPacks",
    "app.bsky.graph.getBlocks",
    "app.bsky.graph.getKnownFollowers",
    "app.bsky.graph.getList",
    "app.bsky.graph.getListBlocks",
    "app.bsky.graph.getListMutes",
    "app.bsky.graph.getLists",
    "app.bsky.graph.getListsWithMembership",
    "app.bsky.graph.getMutes",
    "app.bsky.graph.getRelationships",
    "app.bsky.graph.getStarterPack",
    "app.bsky.graph.getStarterPacks",
    "app.bsky.graph.getStarterPacksWithMembership",
    "app.bsky.labeler.getServices",
    "app.bsky.actor.getPreferences",
    "app.bsky.actor.getSuggestions",
    "app.bsky.bookmark.getBookmarks",
    "app.bsky.feed.describeFeedGenerator",
    "app.bsky.feed.getSuggestedFeeds",
    "app.bsky.graph.getSuggestedFollowsByActor",
    "app.bsky.nope.getNothing",
    "app.bsky.notification.listActivitySubscriptions",
    "app.bsky.notification.listNotifications",
    "app.bsky.notification.getUnreadCount",
    "app.bsky.notification.getPreferences",
    "app.bsky.unspecced.getConfig",
    "app.bsky.unspecced.getPopularFeedGenerators",
    "app.bsky.unspecced.getSuggestedFeeds",
    "app.bsky.unspecced.getTrendingTopics",
    "com.atproto.admin.getAccountInfos",
    "com.atproto.admin.getSubjectStatus",
    "com.atproto.label.queryLabels",
    "com.atproto.repo.getRecord",
    "app.bsky.actor.searchActors",
    "app.bsky.actor.searchActorsTypeahead",
    "app.bsky.feed.searchPosts",
    "app.bsky.graph.searchStarterPacks",
    "app.bsky.unspecced.getPostThreadOtherV2",
    "app.bsky.unspecced.getPostThreadV2",
    "com.atproto.identity.resolveHandle",
    "com.atproto.server.describeServer",
)


class Difference(msgspec.Struct):
    """One query that we answer otherwise."""

    scenario: str
    query: Query
    lines: list[str]

    def __str__(self) -> str:
        q = self.query
        head = f"{self.scenario} #{q.id} {q.phase} {q.nsid} {q.viewer or '-'} {q.auth or ''} {q.params}"
        return "\n    ".join([head, *self.lines[:12], *(["…"] if len(self.lines) > 12 else [])])


class Report(msgspec.Struct):
    """What came of it, by method."""

    compared: Counter[str] = msgspec.field(default_factory=Counter)
    equal: Counter[str] = msgspec.field(default_factory=Counter)
    ours: Counter[str] = msgspec.field(default_factory=Counter)
    not_yet: Counter[str] = msgspec.field(default_factory=Counter)
    differing: list[Difference] = msgspec.field(default_factory=list)
    invalid: list[str] = msgspec.field(default_factory=list)

    def add(self, other: Report) -> None:
        self.compared += other.compared
        self.equal += other.equal
        self.ours += other.ours
        self.not_yet += other.not_yet
        self.differing += other.differing
        self.invalid += other.invalid

    @property
    def is_clean(self) -> bool:
        return not self.differing and not self.invalid and bool(self.compared)

    def table(self) -> str:
        rows = [f"{'method':<45}{'compared':>9}{'equal':>7}{'ours':>6}"]
        for nsid in METHODS:
            if self.compared[nsid]:
                ours = sum(n for key, n in self.ours.items() if key.startswith(f"{nsid} "))
                rows.append(f"{nsid:<45}{self.compared[nsid]:>9}{self.equal[nsid]:>7}{ours:>6}")
        total = f"{'together':<45}{self.compared.total():>9}{self.equal.total():>7}{self.ours.total():>6}"
        rows.append(total)
        by_case = Counter[str]()
        for key, count in self.ours.items():
            by_case[key.split(" ")[1]] += count
        rows += [f"  {case.id} {by_case[case.id]:>4}  {case.why}" for case in OURS if by_case[case.id]]
        if self.not_yet:
            rows.append(f"not yet: {self.not_yet.total()} queries of {len(self.not_yet)} methods")
        return "\n".join(rows)


async def run(folder: Path, heard: Callable[[str, Any], None] = lambda _nsid, _body: None) -> Report:
    """One scenario. ``heard`` is told each of our answers that is no error."""
    scenario = Scenario(folder)
    report = Report()
    cursors: dict[str | None, Any] = {}
    queries: dict[str, list[Query]] = {}
    for query in scenario.queries():
        queries.setdefault(query.phase, []).append(query)
    with tempfile.TemporaryDirectory() as place:
        async with stage(scenario, Path(place)) as playing:
            for step in scenario.steps():
                match step.kind:
                    case "event":
                        pass
                    case "action":
                        await playing.stream_to(step.seq)
                        await playing.act(step.what)
                    case "phase":
                        await playing.stream_to(step.seq)
                        for query in queries.pop(step.what):
                            if query.nsid not in METHODS:
                                report.not_yet[query.nsid] += 1
                                continue
                            if query.nsid == BOOKMARKS and "cursor" in query.params:  # C-8 of differences.py
                                query.params["cursor"] = cursors[query.viewer]
                            answer = await playing.ask(query)
                            if query.nsid == BOOKMARKS and answer.status_code == 200:
                                cursors[query.viewer] = answer.json().get("cursor")
                            if answer.status_code == 200:
                                heard(query.nsid, answer.json())
                            _compare(scenario, query, answer, report)
    assert not queries, f"never asked: {queries.keys()}"
    return report


def _compare(scenario: Scenario, query: Query, answer: httpx.Response, report: Report) -> None:
    report.compared[query.nsid] += 1
    body = answer.json() if answer.content else None
    lines = list(_differences(query, answer, body))
    if answer.status_code == 200:
        failure = lexicons.validate_output(query.nsid, body)
        if failure is not None:
            report.invalid.append(f"{scenario.name} #{query.id} {query.nsid}: {failure}")
    if not lines:
        report.equal[query.nsid] += 1
        return
    case = None
    if answer.status_code == query.status == 200:
        case = next((case for case in OURS if case.holds(scenario, query, body, query.body)), None)
    if case is not None:
        report.ours[f"{query.nsid} {case.id}"] += 1
    else:
        report.differing.append(Difference(scenario.name, query, lines))


def _differences(query: Query, answer: httpx.Response, body: Any) -> list[str]:
    if query.status == 500:
        return [] if answer.status_code >= 400 else [f"status: {answer.status_code}, theirs failed with 500"]
    if query.nsid == SUGGESTED_FEEDS and query.status == 501:
        return []  # C-7 of differences.py
    if query.nsid == DESCRIBE and query.status == 501:
        # C-9 of differences.py
        return [] if answer.status_code == 200 else [f"status: {answer.status_code}"]
    if query.nsid == KNOWN_FOLLOWERS and query.status == 200 and "subject" not in query.body:
        # C-5 of differences.py
        return [] if answer.status_code == 400 else [f"status: {answer.status_code}, theirs isn't valid"]
    if answer.status_code == 401 and body.get("error") == "AccountDeactivated" and query.status == 200:
        return []  # C-6 of differences.py
    if answer.status_code != query.status:
        return [
            f"status: {answer.status_code} {str(body)[:200]} where they have {query.status} {query.error}"
        ]
    lines = []
    for name, theirs in (("atproto-content-labelers", query.labelers), ("atproto-repo-rev", query.rev)):
        ours = answer.headers.get(name)
        if ours != theirs:
            lines.append(f"header {name}: {ours} where they have {theirs}")
    if query.status >= 400:
        if body.get("error") != query.error:
            lines.append(f"error: {body.get('error')} where they have {query.error}")
        return lines
    ours, theirs = plain(body), plain(query.body)
    if query.nsid == KNOWN_FOLLOWERS:  # C-4 of differences.py
        for side in (ours, theirs):
            side["followers"].sort(key=lambda person: person["did"])
    return [*lines, *differences(ours, theirs)]


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--quiet", action="store_true", help="figures only")
    parser.add_argument("--most", type=int, default=1000, help="differences shown at most")
    options = parser.parse_args(arguments)
    whole = Report()
    for folder in options.folders:
        report = asyncio.run(run(folder))
        explained = report.equal.total() + report.ours.total()
        print(f"{folder.name}: {report.compared.total()} compared, {explained} equal or ours")
        whole.add(report)
    if not options.quiet:
        for difference in whole.differing[: options.most]:
            print(difference)
        for line in whole.invalid[: options.most]:
            print("not valid by its schema:", line)
    print(whole.table())
    if whole.differing or whole.invalid:
        print(f"{len(whole.differing)} differ, {len(whole.invalid)} are not valid by their schema")
    return 0 if whole.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
