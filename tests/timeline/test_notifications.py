"""What a member's list of notifications shows, and what its count counts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import BadInput
from appliance.protocol import lexicons
from appliance.store import actors, notifications, private, takedowns
from appliance.store.database import Transaction
from appliance.timeline import notification_preferences as preferences
from appliance.timeline.notification_views import NotificationViews
from tests.timeline.village import LABELER, Village, asker, checked, did, village

LIST_ALL = "app.bsky.notification.listNotifications"
COUNT = "app.bsky.notification.getUnreadCount"


class House:
    """Ann is a member; others do things to her."""

    def __init__(self, place: Village) -> None:
        self.place = place
        self.views = NotificationViews(place.views.answering)

    async def page(self, who: str = "ann", **how: Any) -> Any:
        options = {"reasons": None, "priority": None, "cursor": None, "limit": 50} | how
        return checked(LIST_ALL, await self.views.listing(asker(who), **options))

    async def told(self, who: str = "ann", **how: Any) -> list[str]:
        page = await self.page(who, **how)
        return [f"{each['reason']} {each['author']['handle']}" for each in page["notifications"]]

    async def count(self, who: str = "ann") -> int:
        number: int = checked(COUNT, await self.views.unread(asker(who)))["count"]
        return number

    async def write(self, change: Any) -> None:
        def work(tx: Transaction) -> None:
            change(tx, actors.ensure(tx, did("ann")))

        await self.place.database.write(work)


@asynccontextmanager
async def house(path: Path) -> AsyncIterator[House]:
    async with village(path) as place:
        await place.join("ann", "bob", "cid", "dot")
        await place.mark(
            "INSERT INTO member (actor, via, admitted_us) SELECT id, 'open', 0 FROM actor WHERE did = ?",
            did("ann"),
        )
        yield House(place)


async def test_the_newest_comes_first_and_alone_is_unread_until_something_was_seen(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("ann")
        await home.place.like("bob", root)
        await home.place.reply("cid", root)

        page = await home.page()
        assert [each["reason"] for each in page["notifications"]] == ["reply", "like"]
        assert [each["isRead"] for each in page["notifications"]] == [False, True]
        assert page["notifications"][0]["reasonSubject"] == root["uri"]
        assert page["seenAt"] == page["notifications"][0]["indexedAt"]
        assert await home.count() == 2

        like_ms = await home.place.database.read(
            lambda r: r.value("SELECT sort_ms FROM notification WHERE reason = 4")
        )
        await home.write(lambda tx, ann: notifications.seen(tx, ann, like_ms))
        assert await home.count() == 1
        assert [each["isRead"] for each in (await home.page())["notifications"]] == [False, False]
        await home.write(lambda tx, ann: notifications.seen(tx, ann, like_ms + 10**9))
        await home.write(lambda tx, ann: notifications.seen(tx, ann, like_ms))
        assert await home.count() == 0


async def test_blocks_mutes_and_lists_hide_but_do_not_lower_the_count(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("ann")
        for name in ("bob", "cid", "dot"):
            await home.place.like(name, root)
        assert len(await home.told()) == 3

        await home.place.mute("ann", "bob")
        assert await home.told() == ["like dot.test", "like cid.test"]
        block = await home.place.block("cid", "ann")
        assert await home.told() == ["like dot.test"]
        await home.place.block("ann", "dot")
        assert await home.told() == []
        assert await home.count() == 3

        await home.place.delete(block)
        assert await home.told() == ["like cid.test"]


async def test_who_is_deactivated_or_taken_down_is_not_shown_and_who_is_deleted_not_counted(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("ann")
        for name in ("bob", "cid", "dot"):
            await home.place.like(name, root)

        await home.place.status("bob", "deactivated")
        assert await home.told() == ["like dot.test", "like cid.test"]
        await home.place.status("bob", None)
        await home.write(lambda tx, _: takedowns.mark_actor(tx, actors.ensure(tx, did("cid")), "x"))
        assert await home.told() == ["like dot.test", "like bob.test"]
        assert await home.count() == 3
        await home.place.status("dot", "deleted")
        assert await home.told() == ["like bob.test"]
        assert await home.count() == 2


async def test_a_record_taken_down_or_labelled_away_is_not_shown(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("ann")
        like = await home.place.like("bob", root)
        reply = await home.place.reply("cid", root)
        assert len(await home.told()) == 2

        await home.place.label(like["uri"], "!takedown")
        assert await home.told() == ["reply cid.test"]
        await home.place.label(reply["uri"], "spam")
        labels = (await home.page())["notifications"][0]["labels"]
        assert [(each["src"], each["val"]) for each in labels] == [(LABELER, "spam")]
        await home.place.label(did("cid"), "needs-review")
        assert await home.told() == []
        await home.place.follow("ann", "cid")
        assert await home.told() == ["reply cid.test"]


async def test_what_hangs_on_a_deleted_post_is_not_shown_and_what_a_gate_hides_neither(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as home:
        first, second = await home.place.post("ann"), await home.place.post("ann")
        await home.place.like("bob", first)
        reply = await home.place.reply("cid", second)
        await home.place.delete(first)
        assert await home.told() == ["reply cid.test"]

        gate = {"post": second["uri"], "hiddenReplies": [reply["uri"]]}
        rkey = second["uri"].rpartition("/")[2]
        await home.place.write("ann", "app.bsky.feed.threadgate", gate, rkey=rkey)
        assert await home.told() == []


async def test_an_undone_follow_is_gone_from_list_and_count(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        follow = await home.place.write("bob", "app.bsky.graph.follow", {"subject": did("ann")})
        assert (await home.told(), await home.count()) == (["follow bob.test"], 1)

        await home.place.delete(follow)

        assert (await home.told(), await home.count()) == ([], 0)


async def test_reasons_and_priority_choose_and_pages_are_full_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("ann")
        for _ in range(3):
            await home.place.reply("bob", root)
            await home.place.reply("cid", root)
        for name in ("bob", "cid", "dot"):
            await home.place.like(name, root)
        await home.place.follow("ann", "cid")

        assert await home.told(reasons=["like"], limit=3) == [f"like {n}.test" for n in ("dot", "cid", "bob")]
        assert await home.told(reasons=["nonsense"]) == []
        assert await home.told(priority=True) == ["like cid.test", *["reply cid.test"] * 3]
        await home.write(lambda tx, ann: notifications.set_priority(tx, ann, priority=True))
        assert (await home.page())["priority"] is True
        assert len(await home.told()) == 4
        assert len(await home.told(priority=False)) == 9
        assert await home.told(priority=True, reasons=["reply"], limit=2) == ["reply cid.test"] * 2


async def test_preferences_hold_in_list_and_count(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("ann")
        await home.place.follow("ann", "cid")
        for name in ("bob", "cid"):
            await home.place.like(name, root)
            await home.place.repost(name, root)
        wanted = {
            "like": {"include": "follows", "list": True, "push": True},
            "repost": {"include": "all", "list": False, "push": True},
            "chat": {"include": "accepted", "push": False},
            "bogus": 7,
        }
        stored = preferences.changed("{}", wanted)
        await home.write(lambda tx, ann: notifications.set_preferences(tx, ann, stored))

        assert await home.told() == ["like cid.test"]
        assert await home.count() == 1
        shown = checked("app.bsky.notification.getPreferences", await home.views.preferences(asker("ann")))
        assert shown["preferences"]["like"] == wanted["like"]
        assert shown["preferences"]["chat"] == {"include": "all", "push": True}
        assert len(shown["preferences"]) == 13
        nothing = {name: {"include": "all", "list": False, "push": False} for name in preferences.REASONS}
        stored = preferences.changed(stored, nothing)
        await home.write(lambda tx, ann: notifications.set_preferences(tx, ann, stored))
        assert (await home.told(), await home.told(priority=True), await home.count()) == ([], [], 0)


async def test_each_stable_row_is_on_one_page_whatever_comes_and_goes(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        at_us = home.place.clock.now_us()
        root = await home.place.post("ann", at_us=at_us)
        # All at three moments: the time alone does not tell them apart.
        for number in range(21):
            body = {"text": str(number), "reply": {"root": root, "parent": root}}
            await home.place.write("bob", "app.bsky.feed.post", body, at_us=at_us + number % 3 * 1_000_000)
        everything = [each["uri"] for each in (await home.page())["notifications"]]
        assert len(set(everything)) == 21

        for limit in (1, 2, 7, 50, 100):
            seen: list[str] = []
            cursor = None
            while True:
                page = await home.page(limit=limit, cursor=cursor)
                seen += [each["uri"] for each in page["notifications"]]
                extra = await home.place.like("cid", root)
                if limit == 2:
                    await home.place.delete(extra)
                cursor = page.get("cursor")
                if cursor is None:
                    break
            assert [each for each in seen if each in everything] == everything
            assert len(seen) == len(set(seen))
            await home.place.mark("DELETE FROM notification WHERE reason = 4")


@pytest.mark.parametrize(
    "cursor",
    ["x", "2026", "a::b", "1__2__3", "2026-13-41T00:00:00.000Z", "2026-01-01T00:00:00.000Z__", "9" * 30],
)
async def test_a_cursor_that_is_none_is_refused(tmp_path: Path, cursor: str) -> None:
    async with house(tmp_path) as home:
        with pytest.raises(BadInput):
            await home.page(cursor=cursor)


async def test_who_is_no_member_or_unheard_of_has_none(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("bob")
        await home.place.like("ann", root)
        for who in ("bob", "nobody"):
            assert await home.page(who) == {"notifications": [], "priority": False} or who == "bob"
            assert await home.told(who) == []
            assert await home.count(who) == 0


async def test_an_ended_verification_is_told_by_a_record_that_is_gone(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        body = {"subject": did("ann"), "handle": "ann.test", "displayName": "Ann"}
        ref = await home.place.write("bob", "app.bsky.graph.verification", body)
        assert await home.told() == ["verified bob.test"]
        await home.place.delete(ref)

        (only,) = (await home.page())["notifications"]
        assert (only["reason"], only["uri"]) == ("unverified", ref["uri"])
        assert only["record"] == {"$type": "app.bsky.notification.defs#recordDeleted"}


async def test_a_follow_out_of_a_starter_pack_shows_the_pack(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        list_body = {"name": "l", "purpose": "app.bsky.graph.defs#referencelist"}
        the_list = await home.place.write("cid", "app.bsky.graph.list", list_body)
        pack = await home.place.write(
            "cid", "app.bsky.graph.starterpack", {"name": "p", "list": the_list["uri"]}
        )
        await home.place.write("bob", "app.bsky.graph.follow", {"subject": did("ann"), "via": pack})

        (only,) = (await home.page())["notifications"]

        assert only["starterPack"]["uri"] == pack["uri"]


async def test_a_muted_thread_is_muted_by_its_first_post(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        root = await home.place.post("bob")
        answer = await home.place.reply("ann", root)
        await home.place.reply("cid", answer, root)
        assert await home.told() == ["reply cid.test"]

        def mute(tx: Transaction, ann: int) -> None:
            first = tx.value("SELECT id FROM record WHERE rkey = ?", (root["uri"].rpartition("/")[2],))
            private.mute_thread(tx, ann, first, 0)

        await home.write(mute)
        await home.place.reply("dot", answer, root)
        assert await home.told() == ["reply cid.test"]


def test_the_shape_of_every_preference_is_the_lexicon_s() -> None:
    shown = {"preferences": preferences.all_of("{}")}
    assert lexicons.validate_output("app.bsky.notification.getPreferences", shown) is None
