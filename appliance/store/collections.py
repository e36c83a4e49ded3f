"""The record types that are kept, and their numbers in the database."""

from __future__ import annotations

from typing import Final

POST: Final = 1
REPOST: Final = 2
LIKE: Final = 3
FOLLOW: Final = 4
PROFILE: Final = 5
BLOCK: Final = 6
THREAD_GATE: Final = 7
POST_GATE: Final = 8
LIST: Final = 9
LIST_ITEM: Final = 10
LIST_BLOCK: Final = 11
GENERATOR: Final = 12
STARTER_PACK: Final = 13
LABELER: Final = 14
NOTIFICATION_DECLARATION: Final = 15
CHAT_DECLARATION: Final = 16
GERM_DECLARATION: Final = 17
VERIFICATION: Final = 18
STATUS: Final = 19
CONTENT_VISIBILITY: Final = 20

# The same rows stand in schema.sql; a test compares them.
NUMBERS: Final[dict[str, int]] = {
    "app.bsky.feed.post": POST,
    "app.bsky.feed.repost": REPOST,
    "app.bsky.feed.like": LIKE,
    "app.bsky.graph.follow": FOLLOW,
    "app.bsky.actor.profile": PROFILE,
    "app.bsky.graph.block": BLOCK,
    "app.bsky.feed.threadgate": THREAD_GATE,
    "app.bsky.feed.postgate": POST_GATE,
    "app.bsky.graph.list": LIST,
    "app.bsky.graph.listitem": LIST_ITEM,
    "app.bsky.graph.listblock": LIST_BLOCK,
    "app.bsky.feed.generator": GENERATOR,
    "app.bsky.graph.starterpack": STARTER_PACK,
    "app.bsky.labeler.service": LABELER,
    "app.bsky.notification.declaration": NOTIFICATION_DECLARATION,
    "chat.bsky.actor.declaration": CHAT_DECLARATION,
    "com.germnetwork.declaration": GERM_DECLARATION,
    "app.bsky.graph.verification": VERIFICATION,
    "app.bsky.actor.status": STATUS,
    "app.bsky.actor.contentVisibilityDeclaration": CONTENT_VISIBILITY,
}
NSIDS: Final[dict[int, str]] = {number: nsid for nsid, number in NUMBERS.items()}

# What is read of everybody who is tracked; of members all the others as well.
OF_EVERYBODY: Final = (POST, REPOST, PROFILE)

# Their lexicons fix the record key to the literal "self".
ONLY_SELF: Final = frozenset(
    {
        PROFILE,
        LABELER,
        NOTIFICATION_DECLARATION,
        CHAT_DECLARATION,
        GERM_DECLARATION,
        STATUS,
        CONTENT_VISIBILITY,
    }
)
