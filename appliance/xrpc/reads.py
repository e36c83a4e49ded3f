"""The read methods: parameters in, views out."""

from __future__ import annotations

import orjson

from appliance.config import Settings
from appliance.errors import BadInput
from appliance.timeline.answering import Answer
from appliance.timeline.views import Views
from appliance.xrpc.methods import Access, Call, Method


def methods(views: Views, settings: Settings, version: str) -> list[Method]:
    """Every query that is answered here."""

    async def get_timeline(call: Call) -> Answer:
        p = call.parameters
        return await views.timeline(call.asker, cursor=p.get("cursor"), limit=p["limit"])

    async def get_author_feed(call: Call) -> Answer:
        p = call.parameters
        return await views.author_feed(
            call.asker,
            p["actor"],
            only=p["filter"],
            cursor=p.get("cursor"),
            limit=p["limit"],
            pins=p["includePins"],
        )

    async def get_posts(call: Call) -> Answer:
        return await views.posts(call.asker, call.parameters["uris"])

    async def get_post_thread(call: Call) -> Answer:
        p = call.parameters
        return await views.thread(call.asker, p["uri"], depth=p["depth"], height=p["parentHeight"])

    async def get_profile(call: Call) -> Answer:
        return await views.profile(call.asker, call.parameters["actor"])

    async def get_profiles(call: Call) -> Answer:
        return await views.profiles(call.asker, call.parameters["actors"])

    async def get_follows(call: Call) -> Answer:
        p = call.parameters
        return await views.follows(call.asker, p["actor"], cursor=p.get("cursor"), limit=p["limit"])

    async def get_followers(call: Call) -> Answer:
        p = call.parameters
        return await views.followers(call.asker, p["actor"], cursor=p.get("cursor"), limit=p["limit"])

    async def get_likes(call: Call) -> Answer:
        p = call.parameters
        cursor = p.get("cursor")
        return await views.likes(call.asker, p["uri"], cid=p.get("cid"), cursor=cursor, limit=p["limit"])

    async def get_reposted_by(call: Call) -> Answer:
        p = call.parameters
        cursor = p.get("cursor")
        return await views.reposters(call.asker, p["uri"], cid=p.get("cid"), cursor=cursor, limit=p["limit"])

    async def resolve_handle(call: Call) -> Answer:
        did = await views.did_of(call.parameters["handle"])
        if did is None:
            raise BadInput("Unable to resolve handle")
        return Answer(orjson.dumps({"did": did}))

    async def describe_server(_: Call) -> Answer:
        return Answer(
            orjson.dumps(
                {
                    "did": settings.service_did,
                    # Accounts live elsewhere: there is no domain to choose from, and nothing to invite to.
                    "availableUserDomains": [],
                    "inviteCodeRequired": True,
                }
            )
        )

    async def health(_: Call) -> Answer:
        return Answer(orjson.dumps({"version": version}))

    optional, required, public = Access.OPTIONAL, Access.REQUIRED, Access.PUBLIC
    return [
        Method("app.bsky.feed.getTimeline", required, get_timeline),
        Method("app.bsky.feed.getAuthorFeed", optional, get_author_feed, operator_reads=True),
        Method("app.bsky.feed.getPosts", optional, get_posts),
        Method("app.bsky.feed.getPostThread", optional, get_post_thread, operator_reads=True),
        Method("app.bsky.actor.getProfile", optional, get_profile, operator_reads=True),
        Method("app.bsky.actor.getProfiles", optional, get_profiles),
        Method("app.bsky.graph.getFollows", optional, get_follows, operator_reads=True),
        Method("app.bsky.graph.getFollowers", optional, get_followers, operator_reads=True),
        Method("app.bsky.feed.getLikes", optional, get_likes),
        Method("app.bsky.feed.getRepostedBy", optional, get_reposted_by),
        Method("com.atproto.identity.resolveHandle", public, resolve_handle),
        Method("com.atproto.server.describeServer", public, describe_server),
        Method("_health", public, health),
    ]
