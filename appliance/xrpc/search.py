"""Searches: for posts, people and starter packs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from appliance.errors import BadInput
from appliance.timeline.answering import Answer
from appliance.timeline.search_query import Filters
from appliance.timeline.search_views import SearchViews
from appliance.xrpc.methods import Access, Call, Method

# The wire's names of lists, and ours.
_LISTS = {
    "authors": "authors",
    "mentions": "mentions",
    "domains": "domains",
    "urls": "urls",
    "hashtags": "tags",
    "languages": "languages",
    "embeddedAtUris": "embeds",
    "excludeAuthors": "without_authors",
    "excludeMentions": "without_mentions",
    "excludeDomains": "without_domains",
    "excludeUrls": "without_urls",
    "excludeHashtags": "without_tags",
    "excludeLanguages": "without_languages",
    "excludeEmbeddedAtUris": "without_embeds",
}


def methods(views: SearchViews) -> list[Method]:
    """Every search."""

    async def search_posts(call: Call) -> Answer:
        p = call.parameters
        filters = Filters(since=p.get("since"), until=p.get("until"), tags_all=p.get("tag") or [])
        for name, field in (
            ("author", "authors"),
            ("mentions", "mentions"),
            ("lang", "languages"),
            ("domain", "domains"),
            ("url", "urls"),
        ):
            if p.get(name):
                setattr(filters, field, [p[name]])
        return await views.posts(
            call.asker,
            p["q"],
            filters,
            top=p["sort"] == "top",
            cursor=p.get("cursor"),
            limit=p["limit"],
        )

    async def search_posts_v2(call: Call) -> Answer:
        p = call.parameters
        filters = _filters(p)
        query = p.get("query", "")
        if not query and filters == Filters():
            raise BadInput("A query or a filter is needed", name="BadQueryString")
        return await views.posts(
            call.asker,
            query,
            filters,
            top=p.get("sort") == "top",
            cursor=p.get("cursor"),
            limit=p["limit"],
            detects=True,
        )

    async def search_actors(call: Call) -> Answer:
        p = call.parameters
        return await views.people(call.asker, _named(p), cursor=p.get("cursor"), limit=p["limit"])

    async def search_actors_typeahead(call: Call) -> Answer:
        p = call.parameters
        return await views.typeahead(call.asker, _named(p), limit=p["limit"])

    def packs(*, whole: bool) -> Callable[[Call], Awaitable[Answer]]:
        async def run(call: Call) -> Answer:
            p = call.parameters
            return await views.packs(
                call.asker, p["q"], cursor=p.get("cursor"), limit=p["limit"], whole=whole
            )

        return run

    optional = Access.OPTIONAL
    return [
        Method("app.bsky.feed.searchPosts", optional, search_posts, counts="search"),
        Method("app.bsky.feed.searchPostsV2", optional, search_posts_v2, counts="search"),
        Method("app.bsky.actor.searchActors", optional, search_actors, counts="search"),
        Method("app.bsky.actor.searchActorsTypeahead", optional, search_actors_typeahead, counts="search"),
        Method("app.bsky.graph.searchStarterPacks", optional, packs(whole=False), counts="search"),
        Method("app.bsky.graph.searchStarterPacksV2", optional, packs(whole=True), counts="search"),
    ]


def _named(parameters: dict[str, Any]) -> str:
    found: str = parameters.get("q") or parameters.get("term") or ""
    return found


def _filters(p: dict[str, Any]) -> Filters:
    replies = True if p.get("repliesOnly") else False if p.get("excludeReplies") else None
    filters = Filters(
        since=p.get("since"),
        until=p.get("until"),
        media=p.get("hasMedia"),
        video=p.get("hasVideo"),
        replies=replies,
        following=bool(p.get("following")),
        parent=p.get("replyParentUri"),
        root=p.get("threadRootUri"),
    )
    for name, field in _LISTS.items():
        setattr(filters, field, p.get(name) or [])
    return filters
