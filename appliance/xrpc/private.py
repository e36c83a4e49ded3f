"""What viewers change here for themselves alone: mutes, subscriptions and bookmarks."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from appliance.clock import Clock
from appliance.errors import BadInput, Refused
from appliance.protocol.syntax import parse_at_uri
from appliance.protocol.tid import TidGenerator
from appliance.store import actor_reads, actors, private, records
from appliance.store.database import Database, Transaction
from appliance.timeline.answering import Answer
from appliance.xrpc.methods import Access, Call, Method

POST = "app.bsky.feed.post"
LIST = "app.bsky.graph.list"
_DONE = Answer(b"")


def methods(database: Database, clock: Clock) -> list[Method]:
    """Every procedure of a viewer's own that is answered here."""

    keys = TidGenerator(clock.now_us, clock_id=0)

    async def write(call: Call, change: Callable[[Transaction, int], None]) -> Answer:
        did = call.asker.did
        assert did is not None
        if not call.asker.member:
            raise Refused("Only members keep anything here", name="NotAMember")
        await database.write(lambda tx: change(tx, actors.ensure(tx, did)), durable=True)
        return _DONE

    async def mute_actor(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> None:
            subject = _actor(tx, call.body["actor"])
            if subject == viewer:
                raise BadInput("Cannot mute oneself")
            only = bool(call.body.get("onlyReposts")) * private.ONLY_REPOSTS
            only |= bool(call.body.get("onlyQuoteposts")) * private.ONLY_QUOTES
            private.mute(tx, viewer, subject, only, clock.now_us())

        return await write(call, change)

    async def unmute_actor(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> None:
            private.unmute(tx, viewer, _actor(tx, call.body["actor"]))

        return await write(call, change)

    async def mute_actor_list(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> None:
            private.mute_list(tx, viewer, _list(tx, call.body["list"]), clock.now_us())

        return await write(call, change)

    async def unmute_actor_list(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> None:
            private.unmute_list(tx, viewer, _list(tx, call.body["list"]))

        return await write(call, change)

    async def mute_thread(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> None:
            private.mute_thread(tx, viewer, _root(tx, call.body["root"]), clock.now_us())

        return await write(call, change)

    async def unmute_thread(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> None:
            private.unmute_thread(tx, viewer, _root(tx, call.body["root"]))

        return await write(call, change)

    async def put_activity_subscription(call: Call) -> Answer:
        subject, wanted = call.body["subject"], call.body["activitySubscription"]
        post, reply = bool(wanted["post"]), bool(wanted["reply"])

        def change(tx: Transaction, viewer: int) -> None:
            whom = actors.ensure(tx, subject)
            if whom == viewer:
                raise BadInput("Cannot subscribe to oneself")
            private.subscribe(tx, viewer, whom, keys.next(), post=post, reply=reply)

        await write(call, change)
        told = {"subject": subject} | ({"activitySubscription": wanted} if post or reply else {})
        return Answer(orjson.dumps(told))

    async def create_bookmark(call: Call) -> Answer:
        uri, cid = call.body["uri"], call.body["cid"]

        def change(tx: Transaction, viewer: int) -> None:
            private.bookmark(tx, viewer, _post(tx, uri), cid, clock.now_us())

        return await write(call, change)

    async def delete_bookmark(call: Call) -> Answer:
        uri = call.body["uri"]

        def change(tx: Transaction, viewer: int) -> None:
            private.remove_bookmark(tx, viewer, _post(tx, uri))

        return await write(call, change)

    def own(nsid: str, run: Callable[[Call], object]) -> Method:
        return Method(nsid, Access.REQUIRED, run, procedure=True)  # type: ignore[arg-type]

    return [
        own("app.bsky.graph.muteActor", mute_actor),
        own("app.bsky.graph.unmuteActor", unmute_actor),
        own("app.bsky.graph.muteActorList", mute_actor_list),
        own("app.bsky.graph.unmuteActorList", unmute_actor_list),
        own("app.bsky.graph.muteThread", mute_thread),
        own("app.bsky.graph.unmuteThread", unmute_thread),
        own("app.bsky.notification.putActivitySubscription", put_activity_subscription),
        own("app.bsky.bookmark.createBookmark", create_bookmark),
        own("app.bsky.bookmark.deleteBookmark", delete_bookmark),
    ]


def _actor(tx: Transaction, did_or_handle: str) -> int:
    found = actor_reads.find_actor(tx, did_or_handle)
    if found is None:
        raise BadInput("Actor not found")
    return found


def _list(tx: Transaction, uri: str) -> int:
    if parse_at_uri(uri).collection != LIST:
        raise BadInput("That is no list")
    found = records.mention(tx, uri)
    if found is None:
        raise BadInput("A list is named by an address with a DID")
    return found


def _root(tx: Transaction, uri: str) -> int:
    found = records.mention(tx, uri) if parse_at_uri(uri).collection == POST else None
    if found is None:
        raise BadInput("A thread is named by the address of its first post, with a DID")
    return found


def _post(tx: Transaction, uri: str) -> int:
    if parse_at_uri(uri).collection != POST:
        raise BadInput("Only posts can be kept", name="UnsupportedCollection")
    found = records.mention(tx, uri)
    if found is None:
        raise BadInput("Only posts with a DID in their address can be kept")
    return found
