"""What we ask members' servers to allow us, and what is off without it.

Reading needs nothing: it is done from our own index. https://atproto.com/specs/permission
"""

from __future__ import annotations

BASE = "atproto"
COLLECTIONS = (
    "app.bsky.actor.profile",
    "app.bsky.feed.post",
    "app.bsky.feed.postgate",
    "app.bsky.feed.threadgate",
    "app.bsky.feed.like",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
    "app.bsky.graph.block",
    "app.bsky.graph.list",
    "app.bsky.graph.listitem",
    "app.bsky.graph.listblock",
)
METHODS = (
    "app.bsky.actor.getPreferences",
    "app.bsky.actor.putPreferences",
    "com.atproto.moderation.createReport",
    "app.bsky.feed.getFeedSkeleton",
)
_GRANULAR = (
    *(f"repo:{collection}" for collection in COLLECTIONS),
    "blob:image/*",
    *(f"rpc:{method}?aud=*" for method in METHODS),
)
# Of before there were finer ones; servers that know no others are asked for this.
TRANSITIONAL = f"{BASE} transition:generic"
GRANULAR = " ".join((BASE, *_GRANULAR))
EVERYTHING = f"{GRANULAR} transition:generic"

_MEANINGS = (
    ("repo:app.bsky.feed.post", "posting"),
    ("repo:app.bsky.feed.like", "liking"),
    ("repo:app.bsky.feed.repost", "reposting"),
    ("repo:app.bsky.graph.follow", "following"),
    ("repo:app.bsky.graph.block", "blocking"),
    ("blob:image/*", "sending pictures"),
    ("rpc:app.bsky.actor.putPreferences?aud=*", "keeping preferences"),
    ("rpc:app.bsky.feed.getFeedSkeleton?aud=*", "feeds of others"),
)


def missing(granted: str) -> list[str]:
    """What does not work under these scopes, in words for the person."""
    have = set(granted.split())
    if "transition:generic" in have:
        return []
    return [words for scope, words in _MEANINGS if scope not in have]


def too_little(granted: str) -> bool:
    """Whether nothing that we asked for was understood: servers drop scopes that they don't know."""
    have = set(granted.split())
    return not have & {*_GRANULAR, "transition:generic"}
