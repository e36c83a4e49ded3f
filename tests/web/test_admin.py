"""The operator's pages: who finds them, who may act, and that all of it is written down."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from appliance.auth.admin_door import AdminDoor
from appliance.auth.budgets import Budgets
from appliance.media.images import Images
from appliance.media.renderer import Renderer
from appliance.members.crew import Crew
from appliance.store import actors, acts, bans, members, reports, takedowns
from appliance.store.acts import Act
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views
from appliance.web.admin import admin
from appliance.web.frame import Frame
from appliance.web.security import Guard
from appliance.web.site import site
from tests.auth.house import ALICE, BOB, PASSWORD
from tests.web.reading_html import Document
from tests.web.samples import ME
from tests.web.site_rig import KEY, Album, Door, Marks, Pen, Shelf, silent
from tests.writes.desk import Desk

ORIGIN = "http://us.test"
FORMS = ("takedown", "ban", "remove", "invite", "settle", "leave")


class House(Desk):
    """Alice is on the list of operators, and signed in; Bob is somebody."""

    async def open(self, stack: AsyncExitStack) -> None:
        self.settings = msgspec.structs.replace(self.settings, admins=(ALICE,), public_url=ORIGIN)
        await super().open(stack)
        frame = Frame(Guard(KEY, ORIGIN), self.auth.web_sessions, self.clock, ORIGIN)
        self.door = AdminDoor(self.auth.web_sessions, self.settings, self.clock)
        crew = Crew(self.database, self.auth.pds_sessions.end_all, self.clock)
        budgets = Budgets(self.settings, self.clock)
        shelf, album = Shelf(), Album()
        images = Images(self.settings.data_path, album.fetch, Renderer().render, album.has, cache_bytes=1)
        self.app = site(
            frame, shelf, Marks(), silent, shelf, self.auth.web_sessions, Pen(Door(ME), shelf), images,
            [admin(frame, self.door, self.database, crew, self.clock, budgets)],
        )  # fmt: skip

    def browser(self, cookie: str = "") -> httpx.AsyncClient:
        browser = httpx.AsyncClient(
            transport=httpx.ASGITransport(cast(Any, self.app)), base_url=ORIGIN, headers={"Origin": ORIGIN}
        )
        if cookie:
            browser.cookies.set("session", cookie)
        return browser

    async def acts(self) -> list[Act]:
        return await self.database.read(lambda r: acts.latest(r, 100))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        made = House(tmp_path)
        await made.open(stack)
        yield made
        await made.auth.close()


async def token_of(browser: httpx.AsyncClient, path: str = "/admin") -> str:
    return Document((await browser.get(path)).text).token


@asynccontextmanager
async def entered(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has followed a link made on the machine."""
    link = urlsplit(house.door.link())
    async with house.browser() as browser:
        page = await browser.get(f"{link.path}?{link.query}")
        fields = {"token": Document(page.text).token, "link": link.query.partition("=")[2]}
        assert (await browser.post("/admin/enter", data=fields)).headers["location"] == "/admin"
        yield browser


async def test_t124_nobody_else_finds_the_operators_pages(house: House) -> None:
    house.welcome.add(BOB)
    bobs, _ = await house.auth.web_sessions.sign_in(BOB, PASSWORD)
    for cookie in ("", bobs, "x" * 43):
        async with house.browser(cookie) as browser:
            token = await token_of(browser, "/login" if cookie != bobs else "/")
            for path in ("/admin", "/admin/acts.json"):
                answer = await browser.get(path)
                assert answer.status_code == 404
                assert answer.headers["cache-control"] == "no-store"
            for form in FORMS:
                data = {"token": token, "subject": ALICE, "reason": "x", "typed": "us.test", "number": "1"}
                assert (await browser.post(f"/admin/{form}", data=data)).status_code == 404
                assert (await browser.get(f"/admin/{form}")).status_code in (404, 405)
    assert await house.acts() == []
    assert house.door._opened == {}


async def test_an_operator_whose_sign_in_is_old_may_look_and_not_act(house: House) -> None:
    async with house.browser(house.cookie) as browser:
        data = {"token": await token_of(browser), "subject": BOB, "reason": "spam"}
        assert (await browser.post("/admin/takedown", data=data)).status_code == 303
        assert (await browser.post("/admin/takedown", data={**data, "token": "x"})).status_code == 403
        foreign = {"Origin": "http://evil.test"}
        assert (await browser.post("/admin/takedown", data=data, headers=foreign)).status_code == 403
        await house.clock.advance(901)
        assert (await browser.get("/admin")).status_code == 200
        refused = await browser.post("/admin/takedown", data={**data, "undo": "1"})
        assert refused.status_code == 403
        found = await house.acts()
        assert [(act.who, act.name) for act in found] == [(ALICE, "refused"), (ALICE, "take down")]
        assert (
            await house.database.read(lambda r: takedowns.of_actor(r, actors.find_id(r, BOB) or 0)) == "spam"
        )


async def test_a_link_opens_once_and_for_a_quarter_of_an_hour(house: House) -> None:
    link = urlsplit(house.door.link())
    async with house.browser() as browser:
        for _ in range(3):  # looking at it does not use it up
            page = await browser.get(f"{link.path}?{link.query}")
            assert page.status_code == 200
        fields = {"token": Document(page.text).token, "link": link.query.partition("=")[2]}
        assert (await browser.post("/admin/enter", data={**fields, "token": "x"})).status_code == 403
        assert (await browser.post("/admin/enter", data=fields)).status_code == 303
        assert (await browser.get("/admin")).status_code == 200
        assert (await browser.post("/admin/enter", data=fields)).status_code == 403
    async with house.browser() as other:
        token = await token_of(other, "/login")
        for wrong in (fields["link"], "", "x" * 5000):
            answer = await other.post("/admin/enter", data={"token": token, "link": wrong})
            assert answer.status_code == 403
        assert (await other.get("/admin")).status_code == 404
    await house.clock.advance(901)
    async with entered(house) as browser:
        await house.clock.advance(901)
        assert (await browser.get("/admin")).status_code == 404
    old = urlsplit(house.door.link()).query.partition("=")[2]
    await house.clock.advance(601)
    assert house.door.enter(old) is None


async def test_what_is_taken_down_is_shown_to_nobody_and_comes_back(house: House) -> None:
    await house.follow_bob()
    views = Views(house.database, house.settings, house.clock)

    async def shown() -> list[str]:
        feed = (await views.timeline(Asker(did=ALICE, member=True), limit=50)).parsed()["feed"]
        return [row["post"]["uri"] for row in feed]

    async with entered(house) as browser:
        token = await token_of(browser)
        for subject in (house.bobs, BOB):
            assert await shown() == [house.bobs]
            data = {"token": token, "subject": subject, "reason": "a <script>alert(1)</script> reason"}
            assert (await browser.post("/admin/takedown", data=data)).status_code == 303
            assert await shown() == []
            assert (await browser.post("/admin/takedown", data={**data, "undo": "1"})).status_code == 303
        assert await shown() == [house.bobs]
        unknown = {"token": token, "subject": "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz", "reason": "x"}
        assert (await browser.post("/admin/takedown", data=unknown)).status_code == 404
        empty = {"token": token, "subject": BOB, "reason": "  "}
        assert (await browser.post("/admin/takedown", data=empty)).status_code == 400
        page = (await browser.get("/admin")).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        listed = (await browser.get("/admin/acts.json")).json()
        assert [act["name"] for act in listed] == [act.name for act in await house.acts()]
    assert [act.name for act in await house.acts()] == [
        *("put back", "take down", "put back", "take down", "enter")
    ]


async def test_members_are_banned_removed_and_invited_and_reports_settled(house: House) -> None:
    alice = (await house.session()).actor
    await house.database.write(lambda tx: reports.add(tx, alice, "spam", "look", BOB, "", 1))
    async with entered(house) as browser:
        token = await token_of(browser)
        page = (await browser.get("/admin")).text
        assert f"reports {BOB}" in page
        assert (await browser.post("/admin/settle", data={"token": token, "number": "1"})).status_code == 303
        assert (await browser.post("/admin/settle", data={"token": token, "number": "1"})).status_code == 404
        code = await browser.post("/admin/invite", data={"token": token, "uses": "3"})
        assert re.fullmatch(r"/admin\?told=[a-z0-9-]{17}", code.headers["location"])
        data = {"token": token, "subject": ALICE, "typed": "elsewhere.test"}
        assert (await browser.post("/admin/remove", data=data)).status_code == 400
        assert await house.database.read(members.count) == 1
        data = {"token": token, "subject": ALICE, "reason": "spam"}
        assert (await browser.post("/admin/ban", data=data)).status_code == 303
        assert await house.database.read(members.count) == 0
        assert await house.rows("session") == 0
        assert [ban.reason for ban in await house.database.read(bans.listing)] == ["spam"]
        assert (await browser.post("/admin/ban", data={**data, "undo": "1"})).status_code == 303
        assert await house.database.read(bans.listing) == []
        left = await browser.post("/admin/leave", data={"token": token})
        assert left.headers["location"] == "/"
        assert (await browser.get("/admin")).status_code == 404


async def test_what_was_done_can_not_be_undone_in_the_log(house: House) -> None:
    await house.database.write(lambda tx: acts.add(tx, acts.By("link"), "enter", "/admin", "", "", 1))
    for sql in ("UPDATE act SET who = 'nobody'", "DELETE FROM act"):
        with pytest.raises(Exception, match="acts"):
            await house.run(sql)
    assert [act.who for act in await house.acts()] == ["link"]
