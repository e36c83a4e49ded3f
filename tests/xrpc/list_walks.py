"""Every list that is given in pages: how its rows come and go, and which rows a page shows."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from appliance.protocol.events import CommitEvent
from appliance.store import own_feeds
from appliance.store.own_feeds import OwnFeed
from tests.timeline.village import FOLLOW, LIKE, POST, PROFILE, REPOST, did
from tests.xrpc.town import SERVICE, Town

LIST = "app.bsky.graph.list"
ITEM = "app.bsky.graph.listitem"
LIST_BLOCK = "app.bsky.graph.listblock"
BLOCK = "app.bsky.graph.block"
PACK = "app.bsky.graph.starterpack"
GENERATOR = "app.bsky.feed.generator"
CURATE = "app.bsky.graph.defs#curatelist"
MODERATION = "app.bsky.graph.defs#modlist"
# Rows of the same moment are the hard ones.
MOMENTS = [f"2025-12-31T00:00:0{second}.000Z" for second in range(3)]
# Lists that have a cursor in their schema and are never told in parts.
WHOLE = {
    "app.bsky.graph.getKnownFollowers": "the official server, too, answers the first of them and no cursor",
}


@dataclass
class Listing:
    """One list. ``put`` brings rows of these numbers and tells what they are called in ``shown``."""

    nsid: str
    key: str
    shown: Callable[[Any], str]
    put: Callable[[list[int]], Awaitable[list[str]]]
    take: Callable[[str], Awaitable[None]]
    viewer: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    # Others are in the list as well; those count that begin so.
    prefix: str = ""


def person(number: int) -> str:
    """The name of one of many accounts."""
    return f"p{chr(97 + number // 26)}{chr(97 + number % 26)}"


def uri_of(event: CommitEvent) -> str:
    return f"at://{event.did}/{event.collection}/{event.rkey}"


def _uri(item: Any) -> str:
    return str(item["uri"])


def _post(item: Any) -> str:
    return str(item["post"]["uri"])


def _did(item: Any) -> str:
    return str(item["did"])


class Maker:
    """Makes the lists of one town, each with accounts of its own."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.place = town.place
        self.dice = random.Random(4)
        self._count = 0
        self._events: dict[tuple[int, str], CommitEvent] = {}

    def name(self) -> str:
        """One that was not used."""
        self._count += 1
        return f"w{chr(97 + self._count // 26)}{chr(97 + self._count % 26)}"

    async def member(self) -> str:
        found = self.name()
        await self.town.member(found)
        return found

    async def list_of(self, who: str, purpose: str = CURATE) -> str:
        ref = await self.place.write(who, LIST, {"name": "some", "purpose": purpose})
        return ref["uri"]

    def records(
        self,
        make: Callable[[int], tuple[str, str, dict[str, Any]]],
        key: Callable[[int], str] | None = None,
    ) -> dict[str, Any]:
        """``put`` and ``take`` for rows that are records: by whom, of what kind, and what they say."""
        mine = self._count

        async def put(numbers: list[int]) -> list[str]:
            events, names = [], []
            for number in numbers:
                who, collection, record = make(number)
                created = self.dice.choice(MOMENTS) if self.dice.random() < 0.5 else ""
                event = self.place.event(who, collection, record, created=created)
                name = uri_of(event) if key is None else key(number)
                self._events[mine, name] = event
                events.append(event)
                names.append(name)
            await self.place.apply(*events)
            return names

        async def take(name: str) -> None:
            event = self._events[mine, name]
            gone = self.place.event(
                event.did.removeprefix("did:plc:").rstrip("2"), event.collection, None, rkey=event.rkey
            )
            await self.place.apply(gone)

        return {"put": put, "take": take}

    def calls(
        self,
        viewer: str,
        put: tuple[str, Callable[[int], Any]],
        take: tuple[str, Callable[[int], Any]],
        key: Callable[[int], str],
    ) -> dict[str, Any]:
        """The same for rows that a procedure brings and another takes away."""
        numbers_of: dict[str, int] = {}

        async def bring(numbers: list[int]) -> list[str]:
            for number in numbers:
                numbers_of[key(number)] = number
                await self.town.done(put[0], viewer, put[1](number))
            return [key(number) for number in numbers]

        async def remove(name: str) -> None:
            await self.town.done(take[0], viewer, take[1](numbers_of[name]))

        return {"put": bring, "take": remove}


def _account(number: int) -> str:
    return did(person(number))


async def posts_of(maker: Maker, nsid: str) -> Listing:
    """Timelines and feeds of one author, and of a list on which he is."""
    me, author = await maker.member(), await maker.member()
    rows = maker.records(lambda n: (author, POST, {"text": f"number {n}"}))
    if nsid == "app.bsky.feed.getAuthorFeed":
        return Listing(nsid, "feed", _post, **rows, params={"actor": did(author)})
    if nsid == "app.bsky.feed.getListFeed":
        uri = await maker.list_of(me)
        await maker.place.write(me, ITEM, {"subject": did(author), "list": uri})
        return Listing(nsid, "feed", _post, **rows, viewer=me, params={"list": uri})
    await maker.place.follow(me, author)
    if nsid == "app.bsky.feed.getTimeline":
        return Listing(nsid, "feed", _post, **rows, viewer=me)
    told = {"did": SERVICE, "displayName": "Timeline"}
    feed = (await maker.place.write(author, GENERATOR, told))["uri"]
    await maker.place.database.write(lambda tx: own_feeds.add(tx, OwnFeed(feed, did(author), "all", ""), 0))
    shown = _post if nsid == "app.bsky.feed.getFeed" else lambda item: str(item["post"])
    return Listing(nsid, "feed", shown, **rows, viewer=me, params={"feed": feed})


async def about_a_post(maker: Maker, nsid: str) -> Listing:
    """What many do with one post."""
    author = await maker.member()
    post = await maker.place.post(author)
    params = {"uri": post["uri"]}
    match nsid:
        case "app.bsky.feed.getLikes":
            rows = maker.records(lambda n: (person(n), LIKE, {"subject": post}), _account)
            return Listing(nsid, "likes", lambda item: str(item["actor"]["did"]), **rows, params=params)
        case "app.bsky.feed.getRepostedBy":
            rows = maker.records(lambda n: (person(n), REPOST, {"subject": post}), _account)
            return Listing(nsid, "repostedBy", _did, **rows, params=params)
        case "app.bsky.notification.listNotifications":
            rows = maker.records(lambda n: (person(n), LIKE, {"subject": post}), _account)
            shown = lambda item: str(item["author"]["did"])  # noqa: E731 - as the others
            return Listing(nsid, "notifications", shown, **rows, viewer=author)
    quote = {"$type": "app.bsky.embed.record", "record": post}
    rows = maker.records(lambda n: (person(n), POST, {"text": f"see {n}", "embed": quote}))
    return Listing(nsid, "posts", _uri, **rows, params=params)


async def likes_of(maker: Maker, nsid: str) -> Listing:
    me, author = await maker.member(), await maker.member()
    posts = [await maker.place.post(author, f"liked {n}") for n in range(8)]
    more: dict[int, dict[str, str]] = dict(enumerate(posts))

    def make(number: int) -> tuple[str, str, dict[str, Any]]:
        return me, LIKE, {"subject": more[number]}

    rows = maker.records(make, lambda n: more[n]["uri"])
    put = rows["put"]

    async def post_and_like(numbers: list[int]) -> list[str]:
        for number in numbers:
            if number not in more:
                more[number] = await maker.place.post(author, f"liked {number}")
        names: list[str] = await put(numbers)
        return names

    rows["put"] = post_and_like
    return Listing(nsid, "feed", _post, **rows, viewer=me, params={"actor": did(me)})


async def people_about(maker: Maker, nsid: str) -> Listing:
    """Who follows whom, who is on a list, who is blocked."""
    me = await maker.member()
    match nsid:
        case "app.bsky.graph.getFollows":
            rows = maker.records(lambda n: (me, FOLLOW, {"subject": _account(n)}), _account)
            return Listing(nsid, "follows", _did, **rows, params={"actor": did(me)})
        case "app.bsky.graph.getFollowers":
            rows = maker.records(lambda n: (person(n), FOLLOW, {"subject": did(me)}), _account)
            return Listing(nsid, "followers", _did, **rows, params={"actor": did(me)})
        case "computer.aesthetic.appliance.listAccounts":
            rows = maker.records(lambda n: (me, FOLLOW, {"subject": _account(n)}), _account)
            return Listing(nsid, "accounts", _did, **rows, viewer=me, prefix="did:plc:p")
        case "app.bsky.graph.getBlocks":
            rows = maker.records(lambda n: (me, BLOCK, {"subject": _account(n)}), _account)
            return Listing(nsid, "blocks", _did, **rows, viewer=me)
        case "app.bsky.actor.getSuggestions":
            hub = await maker.member()
            await maker.place.follow(me, hub)
            rows = maker.records(lambda n: (hub, FOLLOW, {"subject": _account(n)}), _account)
            return Listing(nsid, "actors", _did, **rows, viewer=me)
    uri = await maker.list_of(me)
    rows = maker.records(lambda n: (me, ITEM, {"subject": _account(n), "list": uri}), _account)
    shown = lambda item: str(item["subject"]["did"])  # noqa: E731 - as the others
    return Listing(nsid, "items", shown, **rows, params={"list": uri})


async def found_people(maker: Maker, nsid: str) -> Listing:
    async def named(numbers: list[int]) -> list[str]:
        names: list[str] = []
        for number in numbers:
            event = maker.place.event(
                f"zz{person(number)}", PROFILE, {"displayName": f"Zorkmid {number}"}, rkey="self"
            )
            await maker.place.apply(event)
            await maker.place.named(f"zz{person(number)}", f"zz{person(number)}.test")
            names.append(event.did)
        return names

    async def nameless(name: str) -> None:
        who = name.removeprefix("did:plc:").rstrip("2")
        await maker.place.apply(maker.place.event(who, PROFILE, None, rkey="self"))

    return Listing(nsid, "actors", _did, named, nameless, params={"q": "zorkmid"})


async def things_of(maker: Maker, nsid: str) -> Listing:
    """Lists, starter packs and feeds of one owner."""
    me = await maker.member()
    params = {"actor": did(me)}
    people = await maker.list_of(me, "app.bsky.graph.defs#referencelist")
    feeds = maker.records(lambda n: (me, GENERATOR, {"did": "did:web:feeds.test", "displayName": f"f {n}"}))
    lists = maker.records(lambda n: (me, LIST, {"name": f"list {n}", "purpose": CURATE}))
    packs = maker.records(lambda n: (me, PACK, {"name": f"zymurgy{me} {n}", "list": people}))
    match nsid:
        case "app.bsky.graph.getLists":
            return Listing(nsid, "lists", _uri, **lists, params=params)
        case "app.bsky.graph.getListsWithMembership":
            shown = lambda item: str(item["list"]["uri"])  # noqa: E731 - as the others
            about = {"actor": _account(0)}
            return Listing(nsid, "listsWithMembership", shown, **lists, viewer=me, params=about)
        case "app.bsky.graph.getActorStarterPacks":
            return Listing(nsid, "starterPacks", _uri, **packs, params=params)
        case "app.bsky.graph.getStarterPacksWithMembership":
            shown = lambda item: str(item["starterPack"]["uri"])  # noqa: E731 - as the others
            about, key = {"actor": _account(0)}, "starterPacksWithMembership"
            return Listing(nsid, key, shown, **packs, viewer=me, params=about)
        case "app.bsky.feed.getActorFeeds":
            return Listing(nsid, "feeds", _uri, **feeds, params=params)
        case "app.bsky.graph.searchStarterPacks" | "app.bsky.graph.searchStarterPacksV2":
            return Listing(nsid, "starterPacks", _uri, **packs, params={"q": f"zymurgy{me}"})
    return Listing(nsid, "feeds", _uri, **feeds, prefix=f"at://{did(me)}/")


async def found_posts(maker: Maker, nsid: str, sort: str) -> Listing:
    author = await maker.member()
    word = f"xylo{author}"
    rows = maker.records(lambda n: (author, POST, {"text": f"{word} {n}"}))
    name = "query" if nsid.endswith("V2") else "q"
    return Listing(nsid, "posts", _uri, **rows, params={name: word, "sort": sort})


async def kept_by_a_member(maker: Maker, nsid: str) -> Listing:
    """What procedures bring."""
    me, other = await maker.member(), await maker.member()
    match nsid:
        case "app.bsky.graph.getMutes":
            rows = maker.calls(
                me,
                ("app.bsky.graph.muteActor", lambda n: {"actor": _account(n)}),
                ("app.bsky.graph.unmuteActor", lambda n: {"actor": _account(n)}),
                _account,
            )
            return Listing(nsid, "mutes", _did, **rows, viewer=me)
        case "app.bsky.notification.listActivitySubscriptions":
            rows = maker.calls(
                me,
                ("app.bsky.notification.putActivitySubscription", partial(_subscription, True)),
                ("app.bsky.notification.putActivitySubscription", partial(_subscription, False)),
                _account,
            )
            return Listing(nsid, "subscriptions", _did, **rows, viewer=me)
        case "app.bsky.bookmark.getBookmarks":
            posts = [await maker.place.post(other, f"kept {n}") for n in range(160)]
            rows = maker.calls(
                me,
                ("app.bsky.bookmark.createBookmark", lambda n: posts[n]),
                ("app.bsky.bookmark.deleteBookmark", lambda n: {"uri": posts[n]["uri"]}),
                lambda n: posts[n]["uri"],
            )
            shown = lambda item: str(item["subject"]["uri"])  # noqa: E731 - as the others
            return Listing(nsid, "bookmarks", shown, **rows, viewer=me)
        case "app.bsky.graph.getListMutes":
            lists = [await maker.list_of(other, MODERATION) for _ in range(160)]
            rows = maker.calls(
                me,
                ("app.bsky.graph.muteActorList", lambda n: {"list": lists[n]}),
                ("app.bsky.graph.unmuteActorList", lambda n: {"list": lists[n]}),
                lambda n: lists[n],
            )
            return Listing(nsid, "lists", _uri, **rows, viewer=me)
        case "app.bsky.graph.getListBlocks":
            lists = [await maker.list_of(other, MODERATION) for _ in range(160)]
            rows = maker.records(lambda n: (me, LIST_BLOCK, {"subject": lists[n]}), lambda n: lists[n])
            return Listing(nsid, "lists", _uri, **rows, viewer=me)

    async def draft(numbers: list[int]) -> list[str]:
        create = "app.bsky.draft.createDraft"
        bodies = [{"draft": {"posts": [{"text": f"draft {n}"}]}} for n in numbers]
        return [(await maker.town.done(create, me, body))["id"] for body in bodies]

    async def throw_away(name: str) -> None:
        await maker.town.done("app.bsky.draft.deleteDraft", me, {"id": name})

    return Listing(nsid, "drafts", lambda item: str(item["id"]), draft, throw_away, viewer=me)


def _subscription(wanted: bool, number: int) -> Any:
    return {"subject": _account(number), "activitySubscription": {"post": wanted, "reply": False}}


async def labels_of(maker: Maker, nsid: str) -> Listing:
    author = await maker.member()
    post = await maker.place.post(author)
    source = did("src" + author)

    async def put(numbers: list[int]) -> list[str]:
        for number in numbers:
            await maker.place.label(post["uri"], f"v-{number}", source=source)
        return [f"v-{number}" for number in numbers]

    async def take(name: str) -> None:
        await maker.place.mark("DELETE FROM label WHERE src = ? AND val = ?", source, name)

    params = {"uriPatterns": post["uri"], "sources": source}
    return Listing(nsid, "labels", lambda item: str(item["val"]), put, take, params=params)


Make = Callable[[Maker, str], Awaitable[Listing]]
_MAKERS: list[tuple[Make, list[str]]] = [
    (
        posts_of,
        [
            "app.bsky.feed.getTimeline",
            "app.bsky.feed.getAuthorFeed",
            "app.bsky.feed.getListFeed",
            "app.bsky.feed.getFeed",
            "app.bsky.feed.getFeedSkeleton",
        ],
    ),
    (
        about_a_post,
        [
            "app.bsky.feed.getLikes",
            "app.bsky.feed.getRepostedBy",
            "app.bsky.feed.getQuotes",
            "app.bsky.notification.listNotifications",
        ],
    ),
    (likes_of, ["app.bsky.feed.getActorLikes"]),
    (
        people_about,
        [
            "app.bsky.graph.getFollows",
            "app.bsky.graph.getFollowers",
            "app.bsky.graph.getBlocks",
            "app.bsky.graph.getList",
            "app.bsky.actor.getSuggestions",
            "computer.aesthetic.appliance.listAccounts",
        ],
    ),
    (found_people, ["app.bsky.actor.searchActors"]),
    (
        things_of,
        [
            "app.bsky.graph.getLists",
            "app.bsky.graph.getListsWithMembership",
            "app.bsky.graph.getActorStarterPacks",
            "app.bsky.graph.getStarterPacksWithMembership",
            "app.bsky.graph.searchStarterPacks",
            "app.bsky.graph.searchStarterPacksV2",
            "app.bsky.feed.getActorFeeds",
            "app.bsky.feed.getSuggestedFeeds",
            "app.bsky.unspecced.getPopularFeedGenerators",
        ],
    ),
    (
        kept_by_a_member,
        [
            "app.bsky.graph.getMutes",
            "app.bsky.graph.getListMutes",
            "app.bsky.graph.getListBlocks",
            "app.bsky.bookmark.getBookmarks",
            "app.bsky.draft.getDrafts",
            "app.bsky.notification.listActivitySubscriptions",
        ],
    ),
    (labels_of, ["com.atproto.label.queryLabels"]),
]
# By what it is called in a test; a method with two orders stands there twice.
LISTINGS: dict[str, tuple[str, Make]] = {nsid: (nsid, make) for make, nsids in _MAKERS for nsid in nsids}
for _nsid in ("app.bsky.feed.searchPosts", "app.bsky.feed.searchPostsV2"):
    for _sort in ("latest" if _nsid.endswith("searchPosts") else "recent", "top"):
        LISTINGS[f"{_nsid} {_sort}"] = (_nsid, partial(found_posts, sort=_sort))
