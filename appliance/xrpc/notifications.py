"""What members are told of: lists, counts, what they have seen, and what they want to be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from appliance.clock import Clock
from appliance.errors import BadInput, Refused
from appliance.protocol.syntax import parse_datetime_us
from appliance.push import subscriptions
from appliance.store import actors, notification_reads, notifications, pushes
from appliance.store.database import Database, Transaction
from appliance.timeline import notification_preferences as preferences
from appliance.timeline.answering import Answer
from appliance.timeline.notification_views import NotificationViews
from appliance.xrpc.methods import Access, Call, Method

_DONE = Answer(b"")


def methods(
    views: NotificationViews, database: Database, clock: Clock, is_allowed: Callable[[str], bool]
) -> list[Method]:
    """The queries and procedures of notifications but those of activity subscriptions.

    ``is_allowed``: whether we may connect to that address at all.
    """

    async def write(call: Call, change: Callable[[Transaction, int], Any]) -> Any:
        did = call.asker.did
        assert did is not None
        if not call.asker.member:
            raise Refused("Only members keep anything here", name="NotAMember")
        return await database.write(lambda tx: change(tx, actors.ensure(tx, did)), durable=True)

    async def list_notifications(call: Call) -> Answer:
        p = call.parameters
        _refuse_seen(p)
        return await views.listing(
            call.asker,
            reasons=p.get("reasons"),
            priority=p.get("priority"),
            cursor=p.get("cursor"),
            limit=p["limit"],
        )

    async def get_unread_count(call: Call) -> Answer:
        _refuse_seen(call.parameters)
        return await views.unread(call.asker)

    async def get_preferences(call: Call) -> Answer:
        return await views.preferences(call.asker)

    async def update_seen(call: Call) -> Answer:
        seen_ms = parse_datetime_us(call.body["seenAt"]) // 1000
        await write(call, lambda tx, viewer: notifications.seen(tx, viewer, seen_ms))
        return _DONE

    async def put_preferences(call: Call) -> Answer:
        wanted = call.body["priority"]
        await write(call, lambda tx, viewer: notifications.set_priority(tx, viewer, priority=wanted))
        return _DONE

    async def put_preferences_v2(call: Call) -> Answer:
        def change(tx: Transaction, viewer: int) -> str:
            stored = notification_reads.state(tx, viewer).preferences
            new = preferences.changed(stored, call.body)
            notifications.set_preferences(tx, viewer, new)
            return new

        stored = await write(call, change)
        return Answer(orjson.dumps({"preferences": preferences.all_of(stored)}))

    async def register_push(call: Call) -> Answer:
        b = call.body
        browser = subscriptions.parse(b["platform"], b["token"])
        if browser is None:
            # A phone's token is for the maker of the app; whoever is no member may ask as well.
            return _DONE
        if not is_allowed(browser.endpoint):
            raise BadInput("The endpoint of a push subscription has a public https address")
        where, about = browser, b["appId"][:200]
        await write(
            call,
            lambda tx, viewer: pushes.subscribe(
                tx, viewer, where.endpoint, where.receiver, where.secret, about, clock.now_us()
            ),
        )
        return _DONE

    async def unregister_push(call: Call) -> Answer:
        browser = subscriptions.parse(call.body["platform"], call.body["token"])
        if browser is not None:
            endpoint = browser.endpoint
            await write(call, lambda tx, viewer: pushes.unsubscribe(tx, viewer, endpoint))
        return _DONE

    required = Access.REQUIRED

    def put(nsid: str, run: Callable[[Call], Any]) -> Method:
        return Method(nsid, required, run, procedure=True)

    return [
        Method("app.bsky.notification.listNotifications", required, list_notifications),
        Method("app.bsky.notification.getUnreadCount", required, get_unread_count),
        Method("app.bsky.notification.getPreferences", required, get_preferences),
        put("app.bsky.notification.updateSeen", update_seen),
        put("app.bsky.notification.putPreferences", put_preferences),
        put("app.bsky.notification.putPreferencesV2", put_preferences_v2),
        put("app.bsky.notification.registerPush", register_push),
        put("app.bsky.notification.unregisterPush", unregister_push),
    ]


def _refuse_seen(parameters: dict[str, Any]) -> None:
    if parameters.get("seenAt"):
        raise BadInput("The seenAt parameter is unsupported")
