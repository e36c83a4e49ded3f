"""Queries about what viewers keep, suggestions, and what clients ask at their start."""

from __future__ import annotations

import orjson

from appliance.timeline.answering import Answer
from appliance.timeline.own_views import OwnViews
from appliance.xrpc.methods import Access, Call, Method


def methods(views: OwnViews) -> list[Method]:
    """Every query that these views answer, and fixed answers to what clients ask at their start."""

    async def get_bookmarks(call: Call) -> Answer:
        p = call.parameters
        return await views.bookmarks(call.asker, cursor=p.get("cursor"), limit=p["limit"])

    async def list_activity_subscriptions(call: Call) -> Answer:
        p = call.parameters
        return await views.subscriptions(call.asker, cursor=p.get("cursor"), limit=p["limit"])

    async def get_suggestions(call: Call) -> Answer:
        p = call.parameters
        return await views.suggestions(call.asker, cursor=p.get("cursor"), limit=p["limit"])

    async def get_suggested_users(call: Call) -> Answer:
        return await views.suggestions(call.asker, cursor=None, limit=call.parameters["limit"])

    async def get_suggested_follows(call: Call) -> Answer:
        return await views.suggestions_beside(call.asker, call.parameters["actor"])

    async def get_popular_feeds(call: Call) -> Answer:
        p = call.parameters
        return await views.popular_feeds(
            call.asker, words=p.get("query", ""), cursor=p.get("cursor"), limit=p["limit"]
        )

    async def get_suggested_feeds(call: Call) -> Answer:
        p = call.parameters
        return await views.popular_feeds(call.asker, words="", cursor=p.get("cursor"), limit=p["limit"])

    def fixed(value: object) -> Answer:
        return Answer(orjson.dumps(value))

    async def nothing(_: Call) -> Answer:
        return fixed({})

    async def no_packs(_: Call) -> Answer:
        return fixed({"starterPacks": []})

    async def ageassurance_config(_: Call) -> Answer:
        return fixed({"regions": []})

    async def ageassurance_state(_: Call) -> Answer:
        return fixed({"state": {"status": "unknown", "access": "full"}, "metadata": {}})

    async def age_assurance(_: Call) -> Answer:
        return fixed({"status": "unknown"})

    optional, required, public = Access.OPTIONAL, Access.REQUIRED, Access.PUBLIC
    return [
        Method("app.bsky.bookmark.getBookmarks", required, get_bookmarks),
        Method("app.bsky.notification.listActivitySubscriptions", required, list_activity_subscriptions),
        Method("app.bsky.actor.getSuggestions", optional, get_suggestions),
        Method("app.bsky.graph.getSuggestedFollowsByActor", optional, get_suggested_follows),
        Method("app.bsky.unspecced.getSuggestedUsers", optional, get_suggested_users),
        Method("app.bsky.unspecced.getSuggestedOnboardingUsers", optional, get_suggested_users),
        Method("app.bsky.unspecced.getPopularFeedGenerators", optional, get_popular_feeds),
        Method("app.bsky.feed.getSuggestedFeeds", optional, get_suggested_feeds),
        Method("app.bsky.unspecced.getSuggestedFeeds", optional, get_suggested_feeds),
        Method("app.bsky.unspecced.getSuggestedStarterPacks", optional, no_packs),
        Method("app.bsky.unspecced.getOnboardingSuggestedStarterPacks", optional, no_packs),
        Method("app.bsky.unspecced.getConfig", public, nothing),
        Method("app.bsky.unspecced.getAgeAssuranceState", required, age_assurance),
        Method("app.bsky.ageassurance.getConfig", public, ageassurance_config),
        Method("app.bsky.ageassurance.getState", required, ageassurance_state),
    ]
