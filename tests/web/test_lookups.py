"""The pages of lists, over a real database: each shows what is there, to whom it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.store import actors, members
from appliance.store.database import Transaction
from tests.timeline.village import did
from tests.web.reading_html import Document
from tests.web.reading_rig import House, Screen, house, opened

OWN_PAGES = (
    "/notifications",
    "/bookmarks",
    "/lists",
    "/muted",
    "/muted?show=blocked",
    "/reading",
    "/late",
    "/compose",
)


async def admit(place: House, name: str) -> None:
    """A member is told of what concerns him."""

    def change(tx: Transaction) -> None:
        members.add(tx, actors.ensure(tx, did(name)), "operator", 0)

    await place.village.database.write(change)


async def act(page: Screen, path: str, **fields: str) -> Screen:
    data = {"token": page.document.token, "return": "/", **fields}
    return Screen(page.client, await page.client.post(path, data=data))


@pytest.mark.parametrize("path", OWN_PAGES)
async def test_pages_of_one_s_own_lead_a_guest_to_the_door(tmp_path: Path, path: str) -> None:
    async with house(tmp_path) as place, place.site.client() as guest, place.device() as phone:
        answer = await guest.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?return=")
        assert len((await opened(phone, path)).document.all("h1")) == 1


async def test_notifications_are_grouped_and_stay_new_till_they_are_marked(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await admit(place, "alice")
        mine = await place.village.post("alice", "mine")
        page = await opened(phone, "/notifications")
        await act(page, "/api/notifications/seen", at="2026-01-01T00:00:00.000Z")
        for name in ("bob", "carol"):
            await place.village.write(name, "app.bsky.feed.like", {"subject": mine})
        await place.village.reply("bob", mine)
        for _ in range(2):
            page = await opened(phone, "/notifications")
            assert len(page.document.all("article", class_="new")) == 2
        lines = [line.words for line in page.document.all("article", class_="told")]
        assert "Bob replied to you" in lines[0]
        assert "Carol, Bob liked your post" in lines[1]
        talk = await opened(phone, "/notifications?show=talk")
        assert len(talk.document.all("article", class_="told")) == 1
        await act(page, "/api/notifications/seen", at="2026-02-01T00:00:00.000Z")
        seen = await opened(phone, "/notifications")
        assert len(seen.document.all("article", class_="told")) == 2
        assert not seen.document.all("article", class_="new")


async def test_search_finds_posts_and_people_and_explains_itself(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await place.village.post("bob", "tide tables by hand")
        await place.village.post("carol", "no tables at all")
        assert "from:handle" in (await opened(phone, "/search")).html
        assert (await opened(phone, "/search?q=tables")).texts == ["no tables at all", "tide tables by hand"]
        assert (await opened(phone, "/search?q=tables+from%3Abob.test")).texts == ["tide tables by hand"]
        people = await opened(phone, "/search?q=carol&show=people")
        assert people.document.all("a", href="/profile/carol.test")
        assert "Nothing is known here." in (await opened(phone, "/search?q=nowhere")).html
        hostile = await opened(phone, "/search?q=%22%3E%3Cscript%3Ex%3C%2Fscript%3E+from%3A")
        assert "<script>x" not in hostile.html


async def test_a_post_is_kept_and_let_go(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        post = await place.village.post("bob", "worth keeping")
        thread = await opened(phone, f"/post/{post['uri']}")
        await act(thread, "/api/actions/bookmark", post=f"{post['uri']} {post['cid']} x")
        assert (await opened(phone, "/bookmarks")).texts == ["worth keeping"]
        thread = await opened(phone, f"/post/{post['uri']}")
        assert thread.document.one("button", class_="bookmark").words == "Bookmarked"
        await act(thread, "/api/actions/bookmark?undo=1", post=f"{post['uri']} {post['cid']} x")
        assert (await opened(phone, "/bookmarks")).texts == []


async def test_who_is_muted_is_listed_and_heard_again(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await place.village.post("bob", "loud")
        profile = await opened(phone, "/profile/bob.test")
        await act(profile, "/api/actions/mute", actor=did("bob"))
        assert (await opened(phone)).texts == []
        assert (await opened(phone, "/muted")).document.all("a", href="/profile/bob.test")
        await act(profile, "/api/actions/mute?undo=1", actor=did("bob"))
        assert (await opened(phone)).texts == ["loud"]


async def test_what_is_left_out_of_an_account_is_chosen_on_its_profile(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        first = await place.village.post("bob", "first")
        await place.village.reply("bob", first)
        profile = await opened(phone, "/profile/bob.test")
        await act(profile, "/api/reading/account", did=did("bob"), replies="1")
        box = (await opened(phone, "/profile/bob.test")).document.all("input", name="replies")[0]
        assert "checked" in box.attributes
        assert (await opened(phone)).texts == ["first"]


async def test_lists_people_and_the_pages_of_a_post(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone, place.site.client() as guest:
        post = await place.village.post("bob", "known")
        await place.village.write("carol", "app.bsky.feed.like", {"subject": post})
        await place.village.repost("alice", post)
        made = await place.village.write(
            "alice", "app.bsky.graph.list", {"name": "Maps", "purpose": "app.bsky.graph.defs#curatelist"}
        )
        await place.village.write(
            "alice", "app.bsky.graph.listitem", {"list": made["uri"], "subject": did("bob")}
        )
        lists = await opened(phone, "/lists")
        [of_it] = [a for a in lists.document.all("a") if a.words == "1 member"]
        inside = await opened(phone, of_it["href"])
        assert inside.document.all("a", href="/profile/bob.test")

        async def people(path: str) -> Document:
            return Document((await guest.get(path)).text)

        assert (await people("/profile/alice.test/follows")).all("a", href="/profile/carol.test")
        assert (await people("/profile/bob.test/followers")).all("a", href="/profile/alice.test")
        assert (await people(f"/about-post/likes/{post['uri']}")).all("a", href="/profile/carol.test")
        assert (await people(f"/about-post/reposts/{post['uri']}")).all("a", href="/profile/alice.test")
        assert (await guest.get("/lists/nobody/x")).status_code == 404
        assert (await guest.get("/profile/nobody.test/follows")).status_code == 404


async def test_only_oneself_sees_what_one_likes(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        post = await place.village.post("bob", "liked")
        await place.village.write("alice", "app.bsky.feed.like", {"subject": post})
        mine = await opened(phone, "/profile/alice.test?show=likes")
        assert mine.texts == ["liked"]
        other = await opened(phone, "/profile/bob.test?show=likes")
        assert "Likes" not in [a.words for a in other.document.all("a")]


async def test_actions_of_a_guest_change_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.site.client() as guest:
        for path in (
            "/api/actions/bookmark",
            "/api/actions/mute",
            "/api/notifications/seen",
            "/api/reading/mark",
            "/api/reading/undo",
            "/api/reading/options",
            "/api/reading/account",
            "/api/reading/late",
        ):
            answer = await guest.post(path, data={"actor": did("bob"), "at": "1"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
            told = await guest.post(path, headers={"Accept": "application/json"}, data={})
            assert told.status_code == 401
            foreign = await guest.post(path, headers={"Origin": "https://evil.test"}, data={})
            assert foreign.status_code == 403
