"""The long task that sends members' browsers what they are told of.

Quiet by default: one message at a time and none within a pause after it, about the newest of what came
meanwhile; what is old, hidden, unwanted or seen already is not sent at all.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import orjson

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import BadInput, Unavailable
from appliance.outbound.client import Outbound
from appliance.outbound.limits import PUSH
from appliance.push.encryption import encrypt
from appliance.push.vapid import Vapid
from appliance.store import pushes
from appliance.store.database import Database
from appliance.store.pushes import Subscription
from appliance.timeline.notification_views import News, NotificationViews

log = telemetry.Log("push")
SENT = telemetry.counter("pushes", "Messages to browsers, by what became of them.", ["outcome"])

AT_ONCE: Final = 20
ROWS_PER_MESSAGE: Final = 100
IDLE_S: Final = 2.0
# After a message to a browser the next one waits so long, and says what came meanwhile.
PAUSE_US: Final = 30_000_000
# Older than that is no news.
FRESH_US: Final = 3600_000_000
# How long a push service keeps a message for a browser that sleeps.
TTL_S: Final = 3600
RETRY_FIRST_US: Final = 30_000_000
RETRY_MAX_US: Final = 3600_000_000
FAILURES_MAX: Final = 20
_GONE: Final = (404, 410)


class Delivery:
    """Takes what the writer put down in ``push_due``: what a crash leaves there is sent after it."""

    def __init__(
        self, database: Database, outbound: Outbound, views: NotificationViews, vapid: Vapid, clock: Clock
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._views = views
        self._vapid = vapid
        self._clock = clock

    async def run(self) -> None:
        """Round after round; pauses when nothing is to be sent."""
        while True:
            if not await self.step():
                await self._clock.sleep(IDLE_S)

    async def step(self) -> bool:
        """One message to each browser for which there is one; False when there was none."""
        now_us = self._clock.now_us()
        found = await self._database.read(lambda reader: pushes.waiting(reader, now_us, AT_ONCE))
        for subscription in found:
            await self._serve(subscription, now_us)
        return bool(found)

    async def _serve(self, subscription: Subscription, now_us: int) -> None:
        due = await self._database.read(lambda r: pushes.due(r, subscription.id, ROWS_PER_MESSAGE))
        news = await self._views.news(subscription.did, due, (now_us - FRESH_US) // 1000)
        if news is None:
            # Nothing was sent, so nothing has to pause.
            await self._database.write(
                partial(pushes.done, subscription=subscription.id, causes=due, next_us=now_us)
            )
            SENT.labels("unneeded").inc()
            return
        status, wait_us = await self._send(subscription, news, now_us)
        if 200 <= status < 300:
            await self._database.write(
                partial(pushes.done, subscription=subscription.id, causes=due, next_us=now_us + PAUSE_US)
            )
            SENT.labels("taken").inc()
        elif status in _GONE or subscription.failures + 1 >= FAILURES_MAX:
            await self._database.write(lambda tx: pushes.remove(tx, subscription.id))
            SENT.labels("gone").inc()
            log.info("subscription_gone", actor=subscription.viewer, status=status)
        else:
            delay_us = min(RETRY_FIRST_US * 2**subscription.failures, RETRY_MAX_US)
            next_us = now_us + max(delay_us, min(wait_us, RETRY_MAX_US))
            await self._database.write(lambda tx: pushes.failed(tx, subscription.id, next_us))
            SENT.labels("failed").inc()

    async def _send(self, subscription: Subscription, news: News, now_us: int) -> tuple[int, int]:
        """The push service's status, 0 for none, and how long it asks us to wait."""
        body = encrypt(message(news), subscription.receiver, subscription.secret)
        try:
            answer = await self._outbound.post(
                subscription.endpoint,
                limits=PUSH,
                content=body,
                headers={
                    "content-encoding": "aes128gcm",
                    "content-type": "application/octet-stream",
                    "authorization": self._vapid.authorization(subscription.endpoint, now_us),
                    "ttl": str(TTL_S),
                    "urgency": "normal",
                    # Of what a sleeping browser has not taken yet, the last one is enough.
                    "topic": "notifications",
                },
            )
        except BadInput:
            # An address that may not be connected to will not be allowed later, either.
            return _GONE[0], 0
        except Unavailable as error:
            return 0, round((error.retry_after_s or 0) * 1_000_000)
        return answer.status, 0


def message(news: News) -> bytes:
    """What the browser gets: JSON with the newest notification in short, how many more, and the count."""
    shown = {
        "reason": news.reason,
        "uri": news.uri,
        "reasonSubject": news.subject,
        "author": {"did": news.did, "handle": news.handle, "displayName": news.display_name[:100]},
        "text": news.text[:200],
        "more": news.more,
        "unread": news.unread,
    }
    return orjson.dumps(shown)
