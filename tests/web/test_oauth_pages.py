"""The website's side of OAuth, and the list of devices (AUTH §2, §6)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import orjson
import pytest

from appliance.auth.oauth_client import check_published
from appliance.media.images import Images
from appliance.media.renderer import Renderer
from appliance.web.devices import devices, named
from appliance.web.frame import Frame
from appliance.web.oauth import oauth_ways
from appliance.web.security import Guard
from appliance.web.site import site
from tests.auth.oauth_house import PUBLIC, OAuthHouse
from tests.web.reading_html import Document
from tests.web.samples import ME
from tests.web.site_rig import KEY, Album, Door, Marks, Pen, Shelf, silent

START = "/oauth/start"


class Rig(NamedTuple):
    house: OAuthHouse
    transport: httpx.ASGITransport

    def browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=self.transport, base_url=PUBLIC, headers={"Origin": PUBLIC, "Accept": "text/html"}
        )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        house = OAuthHouse(tmp_path)
        await house.open(stack)
        sessions = house.auth.web_sessions
        client = house.auth.oauth.client
        frame = Frame(Guard(KEY, PUBLIC), sessions, house.clock, PUBLIC, oauth=client.usable)
        shelf, album = Shelf(), Album()
        images = Images(tmp_path / "pictures", album.fetch, Renderer().render, album.has, cache_bytes=1)
        app = site(
            frame,
            shelf,
            Marks(),
            silent,
            shelf,
            sessions,
            Pen(Door(ME), shelf),
            images,
            [oauth_ways(frame, sessions, client), devices(frame, sessions)],
        )
        yield Rig(house, httpx.ASGITransport(app))  # type: ignore[arg-type]
        await house.auth.close()


async def leave(browser: httpx.AsyncClient, back: str = "/settings/sessions", who: str = "alice.test") -> str:
    """Where the page that follows the form leads."""
    token = Document((await browser.get("/login")).text).token
    answer = await browser.post(START, data={"token": token, "identifier": who, "return": back})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    links = re.findall(r'href="([^"]+)"[^>]* id="away"', answer.text)
    refresh = re.findall(r'http-equiv="refresh" content="0;url=([^"]+)"', answer.text)
    assert links == refresh
    address: str = links[0].replace("&amp;", "&")
    return address


async def sign_in(rig: Rig, browser: httpx.AsyncClient, back: str = "/settings/sessions") -> httpx.Response:
    url = await leave(browser, back)
    return await browser.get("/oauth/callback", params=dict(rig.house.server.agreed(url)))


async def test_our_documents_are_served_as_servers_want_them(rig: Rig) -> None:
    async with rig.browser() as browser:
        answers = [await browser.get(f"/oauth/{name}.json") for name in ("client-metadata", "jwks")]

    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "set-cookie" not in answer.headers
    metadata, jwks = (orjson.loads(answer.content) for answer in answers)
    check_published(metadata, jwks, PUBLIC)
    assert metadata["client_id"] == f"{PUBLIC}/oauth/client-metadata.json"
    assert metadata["jwks_uri"] == f"{PUBLIC}/oauth/jwks.json"


async def test_out_and_back_makes_a_new_session_and_leaves_nothing_of_the_code(rig: Rig) -> None:
    async with rig.browser() as browser:
        browser.cookies.set("__Host-session", "planted", domain="timeline.our-own.dev")
        answer = await sign_in(rig, browser, back="/settings/sessions")

        assert (answer.status_code, answer.headers["location"]) == (303, "/settings/sessions")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        made = [header for header in answer.headers.get_list("set-cookie") if "session=" in header]
        assert len(made) == 1
        assert "planted" not in made[0]
        assert all(part in made[0] for part in ("__Host-session=", "Secure", "HttpOnly", "SameSite=Lax"))
        assert any("__Host-guest=;" in header for header in answer.headers.get_list("set-cookie"))


@pytest.mark.parametrize(
    "back", ["//evil.dev", "/\\evil.dev", "https:evil.dev", "/%2f%2fevil.dev", "/x\nSet-Cookie: a=b", ""]
)
async def test_t54_the_way_back_stays_on_our_pages(rig: Rig, back: str) -> None:
    async with rig.browser() as browser:
        answer = await sign_in(rig, browser, back)
        onward = await browser.get(answer.headers["location"])

    # Escaped slashes are a path of ours, and none that leads away.
    assert answer.headers["location"] in ("/", "/%2f%2fevil.dev")
    assert str(onward.url).startswith(f"{PUBLIC}/")


async def test_t32_t96_begin_and_end_belong_to_one_browser_and_a_form_of_ours(rig: Rig) -> None:
    async with rig.browser() as browser, rig.browser() as other:
        assert (await browser.post(START, data={"identifier": "alice.test"})).status_code == 403
        token = Document((await browser.get("/login")).text).token
        foreign = await browser.post(
            START, data={"token": token, "identifier": "alice.test"}, headers={"Origin": "https://evil.dev"}
        )
        assert foreign.status_code == 403
        assert (await browser.get(START)).status_code == 405
        assert rig.house.server.forms("par") == []

        url = await leave(browser)
        await other.get("/login")
        stolen = await other.get("/oauth/callback", params=dict(rig.house.server.agreed(url)))
        assert stolen.status_code == 403
        assert "another browser" in stolen.text
        assert "__Host-session" not in other.cookies
        assert rig.house.server.forms("token") == []


async def test_t56_words_of_a_server_are_shown_as_words(rig: Rig) -> None:
    async with rig.browser() as browser:
        url = await leave(browser)
        said = {"error": "access_denied", "error_description": "<script>alert(1)</script>", "code": "-"}
        answer = await browser.get("/oauth/callback", params=dict(rig.house.server.agreed(url, **said)))
        flood = await browser.get("/oauth/callback?error_description=" + "x" * 9_000)

    assert answer.status_code == 403
    assert "did not agree" in answer.text
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert flood.status_code == 400


async def test_t57_after_signing_out_no_page_of_before_comes_back(rig: Rig) -> None:
    async with rig.browser() as browser:
        await sign_in(rig, browser)
        page = await browser.get("/settings/sessions")
        assert "this browser" in page.text
        answer = await browser.post("/api/auth/logout", data={"token": Document(page.text).token})
        assert answer.headers["clear-site-data"] == '"cache"'
        again = await browser.get("/settings/sessions")

    assert page.headers["cache-control"] == "private, no-cache"
    assert again.status_code == 401
    assert "this browser" not in again.text


async def test_whoever_allows_less_is_told_before_going_on(rig: Rig) -> None:
    rig.house.server.token_lies = {"scope": "atproto repo:app.bsky.feed.post"}
    async with rig.browser() as browser:
        answer = await sign_in(rig, browser)
        assert answer.status_code == 200
        assert "did not allow everything" in answer.text
        assert "<li>liking</li>" in answer.text
        assert (await browser.get("/settings/sessions")).status_code == 200


async def test_an_unknown_handle_brings_the_form_back_with_what_was_typed(rig: Rig) -> None:
    async with rig.browser() as browser:
        token = Document((await browser.get("/login")).text).token
        answer = await browser.post(START, data={"token": token, "identifier": "nobody.test"})

    assert answer.status_code == 403
    assert 'value="nobody.test"' in answer.text
    assert "No account of that name" in answer.text


async def test_devices_are_listed_and_each_is_ended_by_its_owner_alone(rig: Rig) -> None:
    async with rig.browser() as first, rig.browser() as second, rig.browser() as third:
        for browser, about in ((first, "Firefox/1 (Windows"), (second, "Chrome/1 (Android"), (third, "x")):
            browser.headers["User-Agent"] = about
            await sign_in(rig, browser)
        page = await first.get("/settings/sessions")
        assert "Firefox on Windows" in page.text
        assert "Chrome on Android" in page.text
        token = Document(page.text).token
        listed = (await first.get("/settings/sessions", headers={"Accept": "application/json"})).json()
        numbers = {one["name"]: one["id"] for one in listed["sessions"]}

        own = await first.post(
            "/api/auth/sessions/end", data={"token": token, "session": numbers["Firefox on Windows"]}
        )
        stranger = await first.post("/api/auth/sessions/end", data={"token": token, "session": "999"})
        odd = await first.post("/api/auth/sessions/end", data={"token": token, "session": "1 OR 1"})
        no_token = await first.post("/api/auth/sessions/end", data={"session": str(numbers["A browser"])})
        assert [a.status_code for a in (own, stranger, odd, no_token)] == [400, 404, 400, 403]

        ended = await first.post(
            "/api/auth/sessions/end", data={"token": token, "session": numbers["Chrome on Android"]}
        )
        assert ended.headers["location"] == "/settings/sessions?done=ended"
        codes = [(await browser.get("/settings/sessions")).status_code for browser in (first, second, third)]
        assert codes == [200, 401, 200]

        await first.post("/api/auth/sessions/end", data={"token": token, "others": "yes"})
        codes = [(await browser.get("/settings/sessions")).status_code for browser in (first, second, third)]
        assert codes == [200, 401, 401]


@pytest.mark.parametrize(
    ("about", "kind", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", "web", "Firefox on Linux"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X) Version/18 Safari/605", "web", "Safari on macOS"),
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140 Safari/537 Edg/140", "web", "Edge on Windows"),
        ("<b>my client</b>\u0000", "xrpc", "<b>my client</b>"),
        ("", "xrpc", "An app"),
        ("", "web", "A browser"),
    ],
)
def test_a_device_has_a_name_that_its_owner_knows(about: str, kind: str, name: str) -> None:
    assert named(about, kind) == name
