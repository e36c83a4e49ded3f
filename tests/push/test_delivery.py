"""What members are told of reaches their browsers, through a push service that checks everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from appliance.config import Settings
from appliance.outbound.client import Outbound
from appliance.push.delivery import FAILURES_MAX, Delivery
from appliance.push.vapid import Vapid
from appliance.store import actors, notifications, pushes
from appliance.store.database import Reader, Transaction
from appliance.timeline import notification_preferences as preferences
from appliance.timeline.notification_views import NotificationViews
from tests.push.browser import Browser, check_vapid
from tests.scripted import Server, reply, scripted_server
from tests.timeline.village import Village, did, village


class Post:
    """Ann's browser waits at a push service; others do things to her."""

    def __init__(self, place: Village, server: Server, outbound: Outbound) -> None:
        self.place, self.server, self.outbound = place, server, outbound
        self.browser = Browser(f"{server.url}/push/1")
        self.vapid = Vapid(b"\x07" * 32, "https://us.example")
        self.begin()

    def begin(self) -> None:
        """As after a start of the process."""
        views = NotificationViews(self.place.views.answering)
        self.delivery = Delivery(self.place.database, self.outbound, views, self.vapid, self.place.clock)

    async def write(self, change: Any) -> None:
        def work(tx: Transaction) -> None:
            change(tx, actors.ensure(tx, did("ann")))

        await self.place.database.write(work)

    async def subscribe(self) -> None:
        b = self.browser
        now_us = self.place.clock.now_us()
        await self.write(
            lambda tx, ann: pushes.subscribe(tx, ann, b.endpoint, b.point, b.secret, "a browser", now_us)
        )

    async def rounds(self) -> int:
        """Until there is nothing to do; how many messages were sent."""
        before = len(self.server.bodies)
        while await self.delivery.step():
            pass
        return len(self.server.bodies) - before

    def messages(self) -> list[Any]:
        return [self.browser.read(body) for body in self.server.bodies]

    async def left(self) -> tuple[int, int]:
        """(subscriptions, what is due)."""

        def count(reader: Reader) -> tuple[int, int]:
            subscriptions = reader.value("SELECT count(*) FROM push_subscription")
            return int(subscriptions), int(reader.value("SELECT count(*) FROM push_due"))

        return await self.place.database.read(count)


@asynccontextmanager
async def post(path: Path) -> AsyncIterator[Post]:
    async with village(path) as place, scripted_server() as server:
        await place.join("ann", "bob", "cid")
        await place.mark(
            "INSERT INTO member (actor, via, admitted_us) SELECT id, 'open', 0 FROM actor WHERE did = ?",
            did("ann"),
        )
        outbound = Outbound(Settings(data_dir=str(path), allow_loopback=True), place.clock)
        server.says(reply(201))
        made = Post(place, server, outbound)
        await made.subscribe()
        yield made
        await outbound.close()


async def test_a_reply_reaches_the_browser_which_alone_can_read_it(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        root = await house.place.post("ann")
        answer = await house.place.reply("bob", root)

        assert await house.rounds() == 1

        (first, headers), (message,) = house.server.requests[0], house.messages()
        assert first.startswith("POST /push/1 ")
        assert headers["content-encoding"] == "aes128gcm"
        assert (headers["ttl"], headers["urgency"], headers["topic"]) == ("3600", "normal", "notifications")
        parts = urlsplit(house.browser.endpoint)
        now_s = house.place.clock.now_us() // 1_000_000
        assert (
            check_vapid(headers["authorization"], f"{parts.scheme}://{parts.netloc}", now_s)
            == house.vapid.public
        )
        assert message == {
            "reason": "reply",
            "uri": answer["uri"],
            "reasonSubject": root["uri"],
            "author": {"did": did("bob"), "handle": "bob.test", "displayName": "Bob"},
            "text": "bob replies",
            "more": 0,
            "unread": 1,
        }
        assert b"bob" not in house.server.bodies[0]
        assert await house.left() == (1, 0)
        assert await house.rounds() == 0


async def test_a_burst_is_one_message_and_the_next_one_waits(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        root = await house.place.post("ann")
        for _ in range(4):
            await house.place.reply("bob", root)
        assert await house.rounds() == 1
        assert house.messages()[0]["more"] == 3

        for _ in range(3):
            await house.place.reply("cid", root)
        assert await house.rounds() == 0
        await house.place.clock.advance(31)
        assert await house.rounds() == 1
        assert (house.messages()[1]["more"], house.messages()[1]["unread"]) == (2, 7)


async def test_what_is_hidden_unwanted_seen_undone_or_old_is_not_sent(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        root = await house.place.post("ann")
        await house.place.mute("ann", "cid")
        await house.place.like("cid", root)
        assert await house.rounds() == 0

        quiet = preferences.changed("{}", {"repost": {"include": "all", "list": True, "push": False}})
        await house.write(lambda tx, ann: notifications.set_preferences(tx, ann, quiet))
        await house.place.repost("bob", root)
        assert await house.rounds() == 0

        await house.place.delete(await house.place.like("bob", root))
        assert await house.rounds() == 0

        await house.place.reply("bob", root)
        await house.write(lambda tx, ann: notifications.seen(tx, ann, 2**50))
        assert await house.rounds() == 0
        assert await house.left() == (1, 0)


async def test_news_that_could_not_be_sent_for_an_hour_is_no_news(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        root = await house.place.post("ann")
        await house.place.reply("bob", root)
        await house.place.clock.advance(2 * 3600)

        assert await house.rounds() == 0
        assert await house.left() == (1, 0)


async def test_what_is_older_than_the_subscription_is_never_due(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        root = await house.place.post("ann")
        body = {"text": "", "reply": {"root": root, "parent": root}}
        await house.place.write("bob", "app.bsky.feed.post", body, created="2020-01-01T00:00:00.000Z")

        assert await house.left() == (1, 0)


async def test_who_does_not_answer_is_asked_again_later_also_after_a_restart(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        root = await house.place.post("ann")
        await house.place.reply("bob", root)
        house.server.says(reply(503), reply(429, retry_after="200"), reply(201))

        assert await house.rounds() == 1
        assert await house.left() == (1, 1)
        house.begin()
        assert await house.rounds() == 0
        await house.place.clock.advance(31)
        assert await house.rounds() == 1
        await house.place.clock.advance(100)
        assert await house.rounds() == 0
        await house.place.clock.advance(110)
        assert await house.rounds() == 1
        assert await house.left() == (1, 0)
        assert [message["reason"] for message in house.messages()] == ["reply"] * 3


async def test_a_browser_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    for status in (404, 410):
        folder = tmp_path / str(status)
        folder.mkdir()
        async with post(folder) as house:
            root = await house.place.post("ann")
            await house.place.reply("bob", root)
            house.server.says(reply(status))

            assert await house.rounds() == 1
            assert await house.left() == (0, 0)


async def test_one_that_fails_for_long_is_forgotten_too(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        house.server.says(reply(500))
        root = await house.place.post("ann")
        sent = 0
        for _ in range(FAILURES_MAX):
            await house.place.clock.advance(3601)
            await house.place.mark("DELETE FROM push_due")
            at_us = house.place.clock.now_us()
            body = {"text": "", "reply": {"root": root, "parent": root}}
            await house.place.write("bob", "app.bsky.feed.post", body, at_us=at_us)
            sent += await house.rounds()

        assert sent == FAILURES_MAX
        assert await house.left() == (0, 0)


async def test_an_endpoint_belongs_to_who_named_it_last_and_old_browsers_make_room(tmp_path: Path) -> None:
    async with post(tmp_path) as house:
        b = house.browser
        for number in range(pushes.SUBSCRIPTIONS_MAX + 3):
            end = f"{b.endpoint}/{number}"
            await house.write(
                lambda tx, ann, end=end: pushes.subscribe(tx, ann, end, b.point, b.secret, "", 10**18)
            )
        assert (await house.left())[0] == pushes.SUBSCRIPTIONS_MAX

        def taken(tx: Transaction) -> None:
            pushes.subscribe(tx, actors.ensure(tx, did("bob")), f"{b.endpoint}/5", b.point, b.secret, "", 1)

        await house.place.database.write(taken)
        assert (await house.left())[0] == pushes.SUBSCRIPTIONS_MAX
        await house.write(lambda tx, ann: pushes.unsubscribe(tx, ann, f"{b.endpoint}/5"))
        assert (await house.left())[0] == pushes.SUBSCRIPTIONS_MAX
        await house.write(lambda tx, ann: notifications.forget_member(tx, ann))
        assert (await house.left())[0] == 1
