"""Each list, walked page by page while rows come and go: what stays is there exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.protocol import lexicons
from appliance.timeline import labelers
from appliance.timeline.completeness import Completeness, Stream
from appliance.timeline.graph_views import GraphViews
from appliance.timeline.notification_views import NotificationViews
from appliance.timeline.own_views import OwnViews
from appliance.timeline.search_views import SearchViews
from appliance.xrpc import completeness, drafts, graph, notifications, own, plain, private, reads, search
from appliance.xrpc.asgi import Front
from tests.tidy import generated
from tests.timeline.village import Village, did, village
from tests.xrpc.test_front import authenticate

LIMITS = (1, 2, 7, 50, 100)
STEADY, DYING = 14, 8
LIST, ITEM = "app.bsky.graph.list", "app.bsky.graph.listitem"
PACK, GENERATOR = "app.bsky.graph.starterpack", "app.bsky.feed.generator"

F, G = "app.bsky.feed.", "app.bsky.graph."

# Their cursors are somebody else's.
OF_OTHERS = {
    F + "getFeed": "the generator's own; tests/feeds",
    F + "getFeedSkeleton": "the timeline's own; tests/feeds",
    G + "getKnownFollowers": "all on one page, as the official server does",
    "com.atproto.label.queryLabels": "those of named records, on one page",
    "com.atproto.repo.listMissingBlobs": "the member's server",
    "com.atproto.repo.listRecords": "the member's server",
}

Undo = Callable[[], Awaitable[None]]


@dataclass
class Place:
    """A village, its public door, and what lists need that are to be there before."""

    village: Village
    http: httpx.AsyncClient
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    names: int = 0

    async def get(self, nsid: str, **params: Any) -> Any:
        answer = await self.http.get(f"/xrpc/{nsid}", params=params, headers={"authorization": "Bearer ann"})
        assert answer.status_code == 200, answer.text
        assert lexicons.validate_output(nsid, answer.json()) is None
        return answer.json()

    async def post(self, nsid: str, body: Any) -> Any:
        answer = await self.http.post(f"/xrpc/{nsid}", json=body, headers={"authorization": "Bearer ann"})
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    async def newcomer(self) -> str:
        """Another account, which is there but does nothing."""
        self.names += 1
        name = "w" + "".join("abcdefghij"[int(digit)] for digit in str(self.names))
        await self.village.join(name)
        return name

    def undo(self, ref: dict[str, str]) -> Undo:
        return lambda: self.village.delete(ref)


Make = Callable[[Place], Awaitable[tuple[str, Undo]]]


@dataclass(frozen=True)
class Walk:
    """How a row comes into this list and out of it, and where in an answer it stands."""

    nsid: str
    make: Make
    key: str
    name: Callable[[Any], str]
    params: Callable[[Place], dict[str, Any]] = lambda _place: {}


async def bob_posts(place: Place) -> tuple[str, Undo]:
    ref = await place.village.post("bob", f"walk {place.names}")
    return ref["uri"], place.undo(ref)


async def ann_likes(place: Place) -> tuple[str, Undo]:
    post = await place.village.post("bob", "to be liked")
    return post["uri"], place.undo(await place.village.like("ann", post))


async def somebody_likes(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    return did(name), place.undo(await place.village.like(name, place.refs["post"]))


async def somebody_likes_and_ann_is_told(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    ref = await place.village.like(name, place.refs["own"])
    return ref["uri"], place.undo(ref)


async def somebody_reposts(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    return did(name), place.undo(await place.village.repost(name, place.refs["post"]))


async def somebody_quotes(place: Place) -> tuple[str, Undo]:
    embed = {"$type": "app.bsky.embed.record", "record": place.refs["post"]}
    ref = await place.village.post("cid", "look", embed=embed)
    return ref["uri"], place.undo(ref)


async def somebody_follows_bob(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    follow = {"subject": did("bob")}
    return did(name), place.undo(await place.village.write(name, "app.bsky.graph.follow", follow))


async def bob_follows(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    follow = {"subject": did(name)}
    return did(name), place.undo(await place.village.write("bob", "app.bsky.graph.follow", follow))


async def ann_blocks(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    return did(name), place.undo(await place.village.block("ann", name))


async def ann_mutes(place: Place) -> tuple[str, Undo]:
    body = {"actor": did(await place.newcomer())}
    await place.post("app.bsky.graph.muteActor", body)
    return body["actor"], lambda: place.post("app.bsky.graph.unmuteActor", body)


async def bob_makes_a_list(place: Place) -> tuple[str, Undo]:
    ref = await a_list(place, "bob")
    return ref["uri"], place.undo(ref)


async def ann_makes_a_list(place: Place) -> tuple[str, Undo]:
    ref = await a_list(place, "ann")
    return ref["uri"], place.undo(ref)


async def ann_blocks_a_list(place: Place) -> tuple[str, Undo]:
    made = await a_list(place, "bob")
    block = {"subject": made["uri"]}
    return made["uri"], place.undo(await place.village.write("ann", "app.bsky.graph.listblock", block))


async def ann_mutes_a_list(place: Place) -> tuple[str, Undo]:
    body = {"list": (await a_list(place, "bob"))["uri"]}
    await place.post("app.bsky.graph.muteActorList", body)
    return body["list"], lambda: place.post("app.bsky.graph.unmuteActorList", body)


async def somebody_is_listed(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    ref = await place.village.write("ann", ITEM, {"list": place.refs["list"]["uri"], "subject": did(name)})
    return did(name), place.undo(ref)


async def ann_makes_a_pack(place: Place) -> tuple[str, Undo]:
    ref = await place.village.write("ann", PACK, {"name": "walk", "list": place.refs["list"]["uri"]})
    return ref["uri"], place.undo(ref)


async def bob_makes_a_feed(place: Place) -> tuple[str, Undo]:
    ref = await place.village.write("bob", GENERATOR, {"did": did("bob"), "displayName": "walk"})
    for _ in range(place.names % 3):
        await place.village.like(await place.newcomer(), ref)
    place.names += 1
    return ref["uri"], place.undo(ref)


async def ann_bookmarks(place: Place) -> tuple[str, Undo]:
    ref = await place.village.post("bob", "to be kept")
    await place.post("app.bsky.bookmark.createBookmark", ref)
    return ref["uri"], lambda: place.post("app.bsky.bookmark.deleteBookmark", {"uri": ref["uri"]})


async def ann_drafts(place: Place) -> tuple[str, Undo]:
    made = await place.post("app.bsky.draft.createDraft", {"draft": {"posts": [{"text": "walk"}]}})
    body = {"id": made["id"]}
    return made["id"], lambda: place.post("app.bsky.draft.deleteDraft", body)


async def ann_subscribes(place: Place) -> tuple[str, Undo]:
    subject = did(await place.newcomer())

    async def put(*, on: bool) -> None:
        body = {"subject": subject, "activitySubscription": {"post": on, "reply": False}}
        await place.post("app.bsky.notification.putActivitySubscription", body)

    await put(on=True)
    return subject, lambda: put(on=False)


async def somebody_is_called_walk(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    profile = {"displayName": "Walk Walk"}
    await place.village.write(name, "app.bsky.actor.profile", profile, rkey="self", operation="update")
    return did(name), lambda: place.village.status(name, "deactivated")


async def bob_follows_somebody_new_to_ann(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    for friend in ("bob", "cid")[: 1 + place.names % 2]:
        await place.village.follow(friend, name)
    return did(name), lambda: place.village.status(name, "deactivated")


async def ann_follows(place: Place) -> tuple[str, Undo]:
    name = await place.newcomer()
    follow = await place.village.write("ann", "app.bsky.graph.follow", {"subject": did(name)})
    return did(name), place.undo(follow)


async def a_list(place: Place, who: str) -> dict[str, str]:
    return await place.village.write(who, LIST, {"name": "walk", "purpose": "app.bsky.graph.defs#curatelist"})


def uri_of(item: Any) -> str:
    return str(item["uri"])


def did_of(item: Any) -> str:
    return str(item["did"])


def bob(_place: Place) -> dict[str, Any]:
    return {"actor": did("bob")}


def ann(_place: Place) -> dict[str, Any]:
    return {"actor": did("ann")}


def of_post(place: Place) -> dict[str, Any]:
    return {"uri": place.refs["post"]["uri"]}


def of_list(place: Place) -> dict[str, Any]:
    return {"list": place.refs["list"]["uri"]}


def asking(**words: Any) -> Callable[[Place], dict[str, Any]]:
    return lambda _place: words


def posts(item: Any) -> str:
    return str(item["post"]["uri"])


WALKS = [
    Walk(F + "getTimeline", bob_posts, "feed", posts),
    Walk(F + "getAuthorFeed", bob_posts, "feed", posts, bob),
    Walk(F + "getListFeed", bob_posts, "feed", posts, of_list),
    Walk(F + "getActorLikes", ann_likes, "feed", posts, ann),
    Walk(F + "getLikes", somebody_likes, "likes", lambda item: did_of(item["actor"]), of_post),
    Walk(F + "getRepostedBy", somebody_reposts, "repostedBy", did_of, of_post),
    Walk(F + "getQuotes", somebody_quotes, "posts", uri_of, of_post),
    Walk(F + "getActorFeeds", bob_makes_a_feed, "feeds", uri_of, bob),
    Walk(F + "getSuggestedFeeds", bob_makes_a_feed, "feeds", uri_of),
    Walk(F + "searchPosts", bob_posts, "posts", uri_of, asking(q="walk", sort="latest")),
    Walk(F + "searchPostsV2", bob_posts, "posts", uri_of, asking(query="walk", sort="recent")),
    Walk("app.bsky.unspecced.getPopularFeedGenerators", bob_makes_a_feed, "feeds", uri_of),
    Walk(G + "getFollowers", somebody_follows_bob, "followers", did_of, bob),
    Walk(G + "getFollows", bob_follows, "follows", did_of, bob),
    Walk(G + "getBlocks", ann_blocks, "blocks", did_of),
    Walk(G + "getMutes", ann_mutes, "mutes", did_of),
    Walk(G + "getLists", bob_makes_a_list, "lists", uri_of, bob),
    Walk(
        G + "getListsWithMembership",
        ann_makes_a_list,
        "listsWithMembership",
        lambda item: uri_of(item["list"]),
        bob,
    ),
    Walk(G + "getListBlocks", ann_blocks_a_list, "lists", uri_of),
    Walk(G + "getListMutes", ann_mutes_a_list, "lists", uri_of),
    Walk(G + "getList", somebody_is_listed, "items", lambda item: did_of(item["subject"]), of_list),
    Walk(G + "getActorStarterPacks", ann_makes_a_pack, "starterPacks", uri_of, ann),
    Walk(
        G + "getStarterPacksWithMembership",
        ann_makes_a_pack,
        "starterPacksWithMembership",
        lambda item: uri_of(item["starterPack"]),
        bob,
    ),
    Walk(G + "searchStarterPacks", ann_makes_a_pack, "starterPacks", uri_of, asking(q="walk")),
    Walk(G + "searchStarterPacksV2", ann_makes_a_pack, "starterPacks", uri_of, asking(q="walk")),
    Walk("app.bsky.actor.searchActors", somebody_is_called_walk, "actors", did_of, asking(q="walk")),
    Walk("app.bsky.actor.getSuggestions", bob_follows_somebody_new_to_ann, "actors", did_of),
    Walk("app.bsky.bookmark.getBookmarks", ann_bookmarks, "bookmarks", lambda item: uri_of(item["subject"])),
    Walk("app.bsky.draft.getDrafts", ann_drafts, "drafts", lambda item: str(item["id"])),
    Walk("app.bsky.notification.listNotifications", somebody_likes_and_ann_is_told, "notifications", uri_of),
    Walk("app.bsky.notification.listActivitySubscriptions", ann_subscribes, "subscriptions", did_of),
    Walk("computer.aesthetic.appliance.listAccounts", ann_follows, "accounts", did_of),
]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Place]:
    async with village(path) as made:
        views, database, clock = made.views, made.database, made.clock
        front = Front(
            [
                *reads.methods(views, made.settings, "1.2.3"),
                *graph.methods(GraphViews(views.answering)),
                *own.methods(OwnViews(views.answering)),
                *search.methods(SearchViews(views.answering, "network")),
                *notifications.methods(
                    NotificationViews(views.answering), database, clock, lambda _address: True
                ),
                *plain.methods(views.answering),
                *completeness.methods(Completeness(database, lambda: Stream(None, 0.0)), clock),
                *private.methods(database, clock),
                *drafts.methods(database, clock),
            ],
            authenticate,
            default_labelers=labelers.default(made.settings.labelers),
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://us.test") as http:
            place = Place(made, http)
            await made.join("ann", "bob", "cid")
            await made.mark(
                "INSERT INTO member (actor, via, admitted_us) SELECT id, 'open', 0 FROM actor WHERE did = ?",
                did("ann"),
            )
            await made.follow("ann", "bob", "cid")
            place.refs["post"] = await made.post("cid", "the one")
            place.refs["own"] = await made.post("ann", "my own")
            place.refs["list"] = await a_list(place, "ann")
            item = {"list": place.refs["list"]["uri"], "subject": did("bob")}
            await made.write("ann", ITEM, item)
            yield place


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.nsid)
async def test_what_stays_in_a_list_is_there_exactly_once_while_rows_come_and_go(
    tmp_path: Path, walk: Walk
) -> None:
    async with opened(tmp_path) as place:
        rows = [await walk.make(place) for _ in range(STEADY + DYING)]
        going = rows[1::3]
        steady = {name for name, _ in rows} - {name for name, _ in going}
        for limit in LIMITS:
            found: list[str] = []
            cursor, empty = "", 0
            while True:
                more = {"cursor": cursor} if cursor else {}
                page = await place.get(walk.nsid, limit=limit, **walk.params(place), **more)
                found += [walk.name(item) for item in page[walk.key]]
                assert len(page[walk.key]) <= limit
                cursor = page.get("cursor", "")
                if not cursor:
                    break
                empty += not page[walk.key]
                assert empty <= 1, "empty pages with a cursor"
                assert len(found) < 500, "the list has no end"
                if going:
                    await going.pop(len(going) // 2)[1]()
                if len(found) % 3 == 0:
                    await walk.make(place)
            assert [name for name in found if found.count(name) > 1] == [], f"twice, with limit {limit}"
            assert steady - set(found) == set(), f"lost, with limit {limit}"


def test_no_list_is_left_out() -> None:
    listing = {
        method.nsid
        for method in generated.xrpc_methods()
        if method.status != "501"
        and method.kind == "query"
        and not method.nsid.startswith("chat.")
        and any(parameter.name == "cursor" for parameter in lexicons.query_parameters(method.nsid))
    }
    assert {walk.nsid for walk in WALKS} | set(OF_OTHERS) == listing
