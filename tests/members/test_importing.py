"""What a member kept at another AppView comes along, page by page, whatever is wrong with some of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from appliance.errors import BadInput, NotFound
from appliance.members.importing import LIMITS, OFFICIAL, Importing
from appliance.protocol import lexicons
from appliance.store import member_data
from appliance.timeline.asker import Asker
from appliance.xrpc import importing as calls
from appliance.xrpc.methods import Call
from tests.auth.house import ALICE, BOB
from tests.auth.small_pds import Asked, Reply
from tests.writes.desk import Desk

LIST = f"at://{BOB}/app.bsky.graph.list/3jzfcijpj2z2a"
CID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
DEFAULT = {"include": "all", "list": True, "push": True}


def somebody(number: int) -> str:
    return f"did:plc:{number:024}".replace("0", "z").replace("1", "y").replace("8", "w").replace("9", "v")


def post(number: int) -> dict[str, str]:
    return {"uri": f"at://{BOB}/app.bsky.feed.post/3jzfcijpj{number:04}", "cid": CID}


class OldAppView:
    """Behind Alice's PDS. ``broken`` is the place of a mute that it can't give."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.mutes: list[Any] = [{"did": somebody(number), "handle": "x.test"} for number in range(250)]
        self.broken: int | None = None
        self.down: set[str] = set()
        names: dict[str, Any] = {
            name: {"list": True, "push": True} for name in ("starterpackJoined", "subscribedPost")
        }
        names |= {name: {"list": True, "push": False} for name in ("unverified", "verified")}
        names |= {"chat": {"include": "all", "push": True}}
        each = ("follow", "like", "likeViaRepost", "mention", "quote", "reply", "repost", "repostViaRepost")
        self.preferences = (
            names
            | {name: dict(DEFAULT) for name in each}
            | {"like": {"include": "follows", "list": True, "push": False}}
        )
        told = {"post": True, "reply": False}
        self.pages: dict[str, tuple[str, list[Any]]] = {
            "app.bsky.graph.getListMutes": ("lists", [{"uri": LIST}, {"uri": "at://x/y/z"}]),
            "app.bsky.graph.getListBlocks": ("lists", [{"uri": LIST}]),
            "app.bsky.bookmark.getBookmarks": (
                "bookmarks",
                [
                    {"subject": post(2), "createdAt": "2025-02-02T00:00:00Z", "item": {}},
                    {"subject": {"uri": 5}, "createdAt": "2025-02-02T00:00:00Z"},
                    "nonsense",
                    {"subject": post(1), "createdAt": "2025-01-01T00:00:00Z", "item": {}},
                ],
            ),
            "app.bsky.notification.listActivitySubscriptions": (
                "subscriptions",
                [{"did": somebody(n), "viewer": {"activitySubscription": told}} for n in (7, 3)],
            ),
        }
        pds = desk.pds
        pds.instead["app.bsky.graph.getMutes"] = self._mutes
        pds.instead["app.bsky.notification.getPreferences"] = self._preferences
        for nsid in self.pages:
            pds.instead[nsid] = self._page

    async def _mutes(self, asked: Asked) -> Reply:
        query = parse_qs(asked.query)
        begin, limit = int(query.get("cursor", ["0"])[0]), int(query["limit"][0])
        end = begin + limit
        if self.broken is not None and begin <= self.broken < end:
            return 500, {"error": "InternalServerError"}
        more = {"cursor": str(end)} if end < len(self.mutes) else {}
        return 200, {"mutes": self.mutes[begin:end]} | more

    async def _preferences(self, _: Asked) -> Reply:
        return 200, {"preferences": self.preferences}

    async def _page(self, asked: Asked) -> Reply:
        if asked.nsid in self.down:
            return 502, {"error": "UpstreamFailure"}
        name, entries = self.pages[asked.nsid]
        return 200, {name: entries}


class Place(Desk):
    async def open(self, stack: AsyncExitStack) -> None:
        await super().open(stack)
        self.old = OldAppView(self)
        self.importing = Importing(self.database, self.auth.pds_sessions, self.clock)

    async def told(self) -> dict[str, tuple[int, int, int, int, bool]]:
        report = await self.importing.everything(ALICE)
        return {t.kind: (t.read, t.added, t.kept, t.skipped, bool(t.error)) for t in report}

    async def tables(self) -> dict[str, list[dict[str, Any]]]:
        def read(reader: Any) -> dict[str, list[dict[str, Any]]]:
            return member_data.told(reader, reader.value("SELECT id FROM actor WHERE did = ?", (ALICE,)))

        return await self.database.read(read)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        made = Place(tmp_path)
        await made.open(stack)
        yield made


async def test_everything_comes_along_once_and_in_order(place: Place) -> None:
    assert await place.told() == {
        "mutes": (250, 250, 0, 0, False),
        "listMutes": (2, 1, 0, 1, False),
        "listBlocks": (1, 0, 1, 0, False),
        "bookmarks": (4, 2, 0, 2, False),
        "activitySubscriptions": (2, 2, 0, 0, False),
        "notificationPreferences": (1, 1, 0, 0, False),
    }
    assert {asked.headers["atproto-proxy"] for asked in place.pds.of("app.bsky.graph.getMutes")} == {OFFICIAL}
    tables = await place.tables()
    newest_first = sorted(tables["mute"], key=lambda row: -int(row["created_us"]))
    assert [row["did"] for row in newest_first] == [somebody(number) for number in range(250)]
    assert [row["uri"] for row in tables["list_mute"]] == [LIST]
    kept = sorted(tables["bookmark"], key=lambda row: -int(row["created_us"]))
    assert [row["uri"] for row in kept] == [post(2)["uri"], post(1)["uri"]]
    subscribed = sorted(tables["activity_subscription"], key=lambda row: str(row["key"]), reverse=True)
    assert [(row["did"], row["post"], row["reply"]) for row in subscribed] == [
        (somebody(7), 1, 0),
        (somebody(3), 1, 0),
    ]
    assert tables["notification_state"][0]["preferences"]["like"]["include"] == "follows"

    again = await place.told()
    assert [(kind, numbers[1]) for kind, numbers in again.items() if numbers[1]] == []
    assert again["mutes"] == (250, 0, 250, 0, False)
    assert await place.tables() == tables


async def test_what_the_member_has_set_here_since_stays(place: Place) -> None:
    await place.told()
    await place.database.write(
        lambda tx: (
            tx.run("UPDATE mute SET only = 1"),
            tx.run("UPDATE activity_subscription SET reply = 1"),
            tx.run('UPDATE notification_state SET preferences = \'{"like":{"list":false}}\''),
        )
    )
    before = await place.tables()
    await place.told()
    assert await place.tables() == before


async def test_a_page_that_can_not_be_had_loses_nothing_before_it_and_no_other_kind(place: Place) -> None:
    place.old.broken = 137
    place.old.down = {"app.bsky.bookmark.getBookmarks"}
    found = await place.told()
    assert found["mutes"] == (137, 137, 0, 0, True)
    assert found["bookmarks"] == (0, 0, 0, 0, True)
    assert found["activitySubscriptions"][1] == 2
    assert len(place.pds.of("app.bsky.bookmark.getBookmarks")) == len(LIMITS)
    place.old.broken = None
    place.old.down = set()
    found = await place.told()
    assert found["mutes"] == (250, 113, 137, 0, False)
    assert found["bookmarks"][1] == 2


async def test_the_method_reads_for_a_while_and_goes_on_where_it_was(place: Place) -> None:
    (method,) = calls.methods(place.importing)

    async def call(**body: Any) -> Any:
        assert lexicons.validate_input(method.nsid, body) is None
        answer = (await method.run(Call(Asker(did=ALICE, member=True), {}, body))).parsed()
        assert lexicons.validate_output(method.nsid, answer) is None
        return answer

    async def slowly(asked: Asked) -> Reply:
        await place.clock.advance(calls.WITHIN_S)
        return await place.old._mutes(asked)

    place.pds.instead["app.bsky.graph.getMutes"] = slowly
    answer = await call()
    assert [each["read"] for each in answer["kinds"]] == [100]
    answer = await call(cursor=answer["cursor"])
    assert [each["read"] for each in answer["kinds"]] == [100]
    answer = await call(cursor=answer["cursor"])
    while "cursor" in answer:
        answer = await call(cursor=answer["cursor"])
    assert answer["kinds"][-1]["kind"] == "notificationPreferences"
    assert len((await place.tables())["mute"]) == 250
    for wrong in ({"cursor": "x"}, {"cursor": "[99,0]"}, {"service": "did:web:x"}):
        with pytest.raises(BadInput):
            await call(**wrong)


async def test_who_has_no_sign_in_here_can_not_be_vouched_for(place: Place) -> None:
    with pytest.raises(NotFound, match="Sign in"):
        await place.importing.everything(BOB)
