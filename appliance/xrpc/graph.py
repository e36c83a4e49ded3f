"""Queries about lists, starter packs, feeds, labelers, and how accounts stand to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appliance.timeline.answering import Answer
from appliance.timeline.graph_views import GraphViews
from appliance.timeline.threads_v2 import Options
from appliance.xrpc.methods import Access, Call, Method


def methods(views: GraphViews) -> list[Method]:
    """Every query that these views answer."""

    def own(query: Callable[..., Awaitable[Answer]]) -> Callable[[Call], Awaitable[Answer]]:
        async def run(call: Call) -> Answer:
            p = call.parameters
            return await query(call.asker, cursor=p.get("cursor"), limit=p["limit"])

        return run

    def of(name: str, query: Callable[..., Awaitable[Answer]]) -> Callable[[Call], Awaitable[Answer]]:
        async def run(call: Call) -> Answer:
            p = call.parameters
            return await query(call.asker, p[name], cursor=p.get("cursor"), limit=p["limit"])

        return run

    def by_purpose(query: Callable[..., Awaitable[Answer]]) -> Callable[[Call], Awaitable[Answer]]:
        async def run(call: Call) -> Answer:
            p = call.parameters
            return await query(
                call.asker,
                p["actor"],
                purposes=p.get("purposes") or (),
                cursor=p.get("cursor"),
                limit=p["limit"],
            )

        return run

    async def get_known_followers(call: Call) -> Answer:
        return await views.known_followers(call.asker, call.parameters["actor"])

    async def get_relationships(call: Call) -> Answer:
        p = call.parameters
        return await views.relationships(call.asker, p["actor"], p.get("others") or ())

    async def get_starter_pack(call: Call) -> Answer:
        return await views.starter_pack(call.asker, call.parameters["starterPack"])

    async def get_starter_packs(call: Call) -> Answer:
        return await views.starter_packs(call.asker, call.parameters["uris"])

    async def get_feed_generators(call: Call) -> Answer:
        return await views.generators(call.asker, call.parameters["feeds"])

    async def get_services(call: Call) -> Answer:
        p = call.parameters
        return await views.labelers(call.asker, p["dids"], detailed=p["detailed"])

    async def get_quotes(call: Call) -> Answer:
        p = call.parameters
        return await views.quotes(
            call.asker, p["uri"], cid=p.get("cid"), cursor=p.get("cursor"), limit=p["limit"]
        )

    async def get_post_thread_v2(call: Call) -> Answer:
        p = call.parameters
        options = Options(p["above"], p["below"], p["branchingFactor"], p["sort"])
        return await views.thread_v2(call.asker, p["anchor"], options)

    async def get_post_thread_other_v2(call: Call) -> Answer:
        return await views.other_replies(call.asker, call.parameters["anchor"])

    optional, required, public = Access.OPTIONAL, Access.REQUIRED, Access.PUBLIC
    return [
        Method("app.bsky.graph.getKnownFollowers", required, get_known_followers),
        Method("app.bsky.graph.getRelationships", public, get_relationships),
        Method("app.bsky.graph.getMutes", required, own(views.mutes)),
        Method("app.bsky.graph.getBlocks", required, own(views.blocks)),
        Method("app.bsky.graph.getListMutes", required, own(views.list_mutes)),
        Method("app.bsky.graph.getListBlocks", required, own(views.list_blocks)),
        Method("app.bsky.graph.getList", optional, of("list", views.list_members)),
        Method("app.bsky.graph.getLists", optional, by_purpose(views.actors_lists), operator_reads=True),
        Method("app.bsky.graph.getListsWithMembership", required, by_purpose(views.lists_with_membership)),
        Method("app.bsky.graph.getStarterPack", optional, get_starter_pack),
        Method("app.bsky.graph.getStarterPacks", optional, get_starter_packs),
        Method("app.bsky.graph.getActorStarterPacks", optional, of("actor", views.actors_starter_packs)),
        Method(
            "app.bsky.graph.getStarterPacksWithMembership",
            required,
            of("actor", views.starter_packs_with_membership),
        ),
        Method("app.bsky.feed.getListFeed", optional, of("list", views.list_feed)),
        Method("app.bsky.feed.getActorFeeds", optional, of("actor", views.actors_feeds)),
        Method("app.bsky.feed.getActorLikes", optional, of("actor", views.likes_of)),
        Method("app.bsky.feed.getFeedGenerators", optional, get_feed_generators),
        Method("app.bsky.feed.getQuotes", optional, get_quotes),
        Method("app.bsky.unspecced.getPostThreadV2", optional, get_post_thread_v2, operator_reads=True),
        Method("app.bsky.unspecced.getPostThreadOtherV2", optional, get_post_thread_other_v2),
        Method("app.bsky.labeler.getServices", optional, get_services),
    ]
