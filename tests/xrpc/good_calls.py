"""One good call of every method that is answered here, in a town where there is something to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appliance.store import own_feeds
from appliance.store.own_feeds import OwnFeed
from tests.timeline.village import did
from tests.xrpc.town import SERVICE, Town

# These need an account at a PDS that answers, or bytes out of one: tests/xrpc/test_member_calls.py,
# tests/writes and tests/media call them.
AT_A_PDS = frozenset(
    {
        "com.atproto.repo.applyWrites",
        "com.atproto.repo.createRecord",
        "com.atproto.repo.deleteRecord",
        "com.atproto.repo.putRecord",
        "com.atproto.server.createSession",
        "com.atproto.server.deleteSession",
        "com.atproto.server.getSession",
        "com.atproto.server.refreshSession",
        "com.atproto.sync.getBlob",
    }
)
# The operator's password, and no member, opens these.
OF_THE_OPERATOR = frozenset(
    {
        "com.atproto.admin.getAccountInfos",
        "com.atproto.admin.getSubjectStatus",
        "com.atproto.admin.updateSubjectStatus",
    }
)


@dataclass
class Calls:
    """By method: the parameters of a query, the body of a procedure."""

    queries: dict[str, dict[str, Any]] = field(default_factory=dict)
    procedures: dict[str, Any] = field(default_factory=dict)


async def good_calls(town: Town) -> Calls:
    """Of ``ann``, a member, in a town where this settles some people first."""
    place = town.place
    await town.member("ann", "bob")
    await town.guest("gus")
    await place.join("cid", "dot", "eva")
    await place.follow("ann", "bob", "cid")
    await place.follow("bob", "ann", "dot")
    await place.follow("cid", "bob", "dot", "eva")
    post = await place.post("ann", "a post about zymurgy")
    answer = await place.reply("bob", post)
    await place.reply("ann", answer, post)
    embed = {"$type": "app.bsky.embed.record", "record": post}
    await place.post("cid", "look at this", embed=embed)
    await place.like("ann", answer)
    await place.like("bob", post)
    await place.repost("cid", post)
    some = "app.bsky.graph.list"
    curated = await place.write("ann", some, {"name": "curated", "purpose": "app.bsky.graph.defs#curatelist"})
    muted = await place.write("bob", some, {"name": "muted", "purpose": "app.bsky.graph.defs#modlist"})
    await place.write("ann", "app.bsky.graph.listitem", {"subject": did("bob"), "list": curated["uri"]})
    await place.write("ann", "app.bsky.graph.listblock", {"subject": muted["uri"]})
    pack = await place.write("ann", "app.bsky.graph.starterpack", {"name": "a pack", "list": curated["uri"]})
    feed = await place.write(
        "ann", "app.bsky.feed.generator", {"did": SERVICE, "displayName": "all of it"}, rkey="timeline"
    )
    await place.database.write(lambda tx: own_feeds.add(tx, OwnFeed(feed["uri"], did("ann"), "all", ""), 0))
    await place.write("dot", "app.bsky.labeler.service", {"policies": {"labelValues": ["spam"]}}, rkey="self")
    await place.block("ann", "eva")
    await place.label(post["uri"], "spam", source=did("dot"))
    by_ann, of_post = {"actor": did("ann")}, {"uri": post["uri"], "limit": 2}
    browser = {
        "serviceDid": SERVICE,
        "platform": "android",
        "token": "of a telephone",
        "appId": "some.app",
    }
    draft = {"posts": [{"text": "not yet"}]}
    kept = await town.done("app.bsky.draft.createDraft", "ann", {"draft": draft})
    preference = {"include": "all", "list": True, "push": False}
    queries: dict[str, dict[str, Any]] = {
        "app.bsky.actor.getProfile": by_ann,
        "app.bsky.actor.getProfiles": {"actors": [did("ann"), "bob.test"]},
        "app.bsky.actor.getSuggestions": {"limit": 1},
        "app.bsky.actor.searchActors": {"q": "ann", "limit": 2},
        "app.bsky.actor.searchActorsTypeahead": {"q": "b", "limit": 2},
        "app.bsky.ageassurance.getConfig": {},
        "app.bsky.ageassurance.getState": {"countryCode": "DE"},
        "app.bsky.bookmark.getBookmarks": {"limit": 1},
        "app.bsky.draft.getDrafts": {"limit": 1},
        "app.bsky.feed.describeFeedGenerator": {},
        "app.bsky.feed.getActorFeeds": by_ann,
        "app.bsky.feed.getActorLikes": by_ann,
        "app.bsky.feed.getAuthorFeed": {**by_ann, "filter": "posts_no_replies", "limit": 1},
        "app.bsky.feed.getFeed": {"feed": feed["uri"], "limit": 1},
        "app.bsky.feed.getFeedGenerator": {"feed": feed["uri"]},
        "app.bsky.feed.getFeedGenerators": {"feeds": [feed["uri"]]},
        "app.bsky.feed.getFeedSkeleton": {"feed": feed["uri"], "limit": 1},
        "app.bsky.feed.getLikes": of_post,
        "app.bsky.feed.getListFeed": {"list": curated["uri"], "limit": 1},
        "app.bsky.feed.getPostThread": {"uri": post["uri"], "depth": 3, "parentHeight": 2},
        "app.bsky.feed.getPosts": {"uris": [post["uri"], answer["uri"]]},
        "app.bsky.feed.getQuotes": of_post,
        "app.bsky.feed.getRepostedBy": of_post,
        "app.bsky.feed.getSuggestedFeeds": {"limit": 1},
        "app.bsky.feed.getTimeline": {"limit": 1},
        "app.bsky.feed.searchPosts": {"q": "zymurgy", "sort": "latest", "limit": 1},
        "app.bsky.feed.searchPostsV2": {"query": "zymurgy", "sort": "recent", "authors": [did("ann")]},
        "app.bsky.graph.getActorStarterPacks": by_ann,
        "app.bsky.graph.getBlocks": {"limit": 1},
        "app.bsky.graph.getFollowers": {"actor": "bob.test", "limit": 1},
        "app.bsky.graph.getFollows": {"actor": "cid.test", "limit": 1},
        "app.bsky.graph.getKnownFollowers": {"actor": did("dot"), "limit": 1},
        "app.bsky.graph.getList": {"list": curated["uri"], "limit": 1},
        "app.bsky.graph.getListBlocks": {"limit": 1},
        "app.bsky.graph.getListMutes": {"limit": 1},
        "app.bsky.graph.getLists": {**by_ann, "purposes": ["curatelist"]},
        "app.bsky.graph.getListsWithMembership": {"actor": did("bob"), "purposes": ["curatelist"]},
        "app.bsky.graph.getMutes": {"limit": 1},
        "app.bsky.graph.getRelationships": {**by_ann, "others": [did("bob"), "eva.test"]},
        "app.bsky.graph.getStarterPack": {"starterPack": pack["uri"]},
        "app.bsky.graph.getStarterPacks": {"uris": [pack["uri"]]},
        "app.bsky.graph.getStarterPacksWithMembership": {"actor": did("bob"), "limit": 1},
        "app.bsky.graph.getSuggestedFollowsByActor": {"actor": did("bob")},
        "app.bsky.graph.searchStarterPacks": {"q": "pack", "limit": 1},
        "app.bsky.graph.searchStarterPacksV2": {"q": "pack", "limit": 1},
        "app.bsky.labeler.getServices": {"dids": [did("dot")], "detailed": True},
        "app.bsky.notification.getPreferences": {},
        "app.bsky.notification.getUnreadCount": {},
        "app.bsky.notification.listActivitySubscriptions": {"limit": 1},
        "app.bsky.notification.listNotifications": {"limit": 1, "reasons": ["like", "reply"]},
        "app.bsky.unspecced.getAgeAssuranceState": {},
        "app.bsky.unspecced.getConfig": {},
        "app.bsky.unspecced.getOnboardingSuggestedStarterPacks": {"limit": 1},
        "app.bsky.unspecced.getPopularFeedGenerators": {"query": "all", "limit": 1},
        "app.bsky.unspecced.getPostThreadOtherV2": {"anchor": post["uri"]},
        "app.bsky.unspecced.getPostThreadV2": {"anchor": answer["uri"], "below": 2, "sort": "newest"},
        "app.bsky.unspecced.getSuggestedFeeds": {"limit": 1},
        "app.bsky.unspecced.getSuggestedOnboardingUsers": {"limit": 1},
        "app.bsky.unspecced.getSuggestedStarterPacks": {"limit": 1},
        "app.bsky.unspecced.getSuggestedUsers": {"limit": 1},
        "com.atproto.identity.resolveHandle": {"handle": "ann.test"},
        "com.atproto.label.queryLabels": {"uriPatterns": [post["uri"]], "sources": [did("dot")]},
        "com.atproto.repo.getRecord": {
            "repo": did("ann"),
            "collection": "app.bsky.feed.post",
            "rkey": post["uri"].rsplit("/", 1)[1],
        },
        "com.atproto.server.describeServer": {},
        "com.atproto.temp.fetchLabels": {"since": 0, "limit": 1},
        "computer.aesthetic.appliance.exportMyData": {},
        "computer.aesthetic.appliance.getCertificate": {"actor": did("bob")},
        "computer.aesthetic.appliance.getCompleteness": {},
        "computer.aesthetic.appliance.listAccounts": {"limit": 1, "only": "all"},
        "computer.aesthetic.appliance.listLateArrivals": {"since": 0, "limit": 1},
    }
    subscription = {"subject": did("bob"), "activitySubscription": {"post": True, "reply": False}}
    procedures: dict[str, Any] = {
        "app.bsky.bookmark.createBookmark": post,
        "app.bsky.bookmark.deleteBookmark": {"uri": answer["uri"]},
        "app.bsky.draft.createDraft": {"draft": draft},
        "app.bsky.draft.updateDraft": {"draft": {"id": kept["id"], "draft": draft}},
        "app.bsky.draft.deleteDraft": {"id": kept["id"]},
        "app.bsky.feed.sendInteractions": {
            "feed": feed["uri"],
            "interactions": [{"item": post["uri"], "event": "app.bsky.feed.defs#requestLess"}],
        },
        "app.bsky.graph.muteActor": {"actor": did("dot")},
        "app.bsky.graph.unmuteActor": {"actor": "bob.test"},
        "app.bsky.graph.muteActorList": {"list": muted["uri"]},
        "app.bsky.graph.unmuteActorList": {"list": curated["uri"]},
        "app.bsky.graph.muteThread": {"root": post["uri"]},
        "app.bsky.graph.unmuteThread": {"root": answer["uri"]},
        "app.bsky.notification.putActivitySubscription": subscription,
        "app.bsky.notification.putPreferences": {"priority": False},
        "app.bsky.notification.putPreferencesV2": {"like": preference, "follow": preference},
        "app.bsky.notification.registerPush": browser,
        "app.bsky.notification.unregisterPush": browser,
        "app.bsky.notification.updateSeen": {"seenAt": "2026-01-01T00:00:00.000Z"},
    }
    return Calls(queries, procedures)
