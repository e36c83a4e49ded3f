"""Cookies, forged requests, headers (AUTH §6)."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest

from appliance.clock import ManualClock
from appliance.web.security import Guard, StaleForm, safe_return
from tests.web import samples
from tests.web.reading_html import Document
from tests.web.samples import ME, NOW_US, World
from tests.web.site_rig import APP_PASSWORD, KEY, Site, running

PUBLIC = "https://timeline.example"
LIKE = "/api/actions/like"


async def token_of(client: httpx.AsyncClient) -> str:
    return Document((await client.get("/")).text).token


def cookies_of(answer: httpx.Response) -> SimpleCookie:
    jar = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        jar.load(header)
    return jar


async def test_over_https_cookies_are_bound_to_the_host_and_closed_to_scripts(tmp_path: Path) -> None:
    async with running(ME, tmp_path, clock=ManualClock(NOW_US), public=PUBLIC) as site:
        async with httpx.AsyncClient(
            base_url=site.origin, headers={"Origin": PUBLIC}, trust_env=False
        ) as browser:
            page = await browser.get("/login")
            guest = cookies_of(page)["__Host-guest"]
            answer = await browser.post(
                "/api/auth/login",
                data={"token": Document(page.text).token, "identifier": ME.handle, "password": APP_PASSWORD},
                headers={"Cookie": f"__Host-guest={guest.value}"},
            )

        session = cookies_of(answer)["__Host-session"]
        for cookie in (guest, session):
            assert cookie["secure"]
            assert cookie["httponly"]
            assert cookie["samesite"] == "Lax"
            assert cookie["path"] == "/"
            assert cookie["domain"] == ""
        assert cookies_of(answer)["__Host-guest"]["max-age"] == "0"
        # A plain cookie of that name, set from elsewhere, counts for nothing.
        assert "article" not in (await browser_get(site, f"session={session.value}"))
        assert await browser_get(site, f"__Host-session={session.value}")


async def browser_get(site: Site, cookie: str) -> str:
    async with httpx.AsyncClient(base_url=site.origin, trust_env=False) as browser:
        return (await browser.get("/", headers={"Cookie": cookie})).text


async def test_a_session_that_was_planted_before_the_sign_in_is_not_taken_over(
    site: Site, guest: httpx.AsyncClient
) -> None:
    guest.cookies.set("session", "planted")
    token = Document((await guest.get("/login")).text).token
    answer = await guest.post(
        "/api/auth/login", data={"token": token, "identifier": ME.handle, "password": APP_PASSWORD}
    )

    assert cookies_of(answer)["session"].value != "planted"
    assert "planted" not in site.door.inside


async def test_a_cookie_that_is_a_day_old_is_changed_and_open_pages_stay_good(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    open_page = await token_of(member)
    site.door.inside["cookie-of-the-member"] = ME._replace(due=True)

    answer = await member.get("/")

    assert cookies_of(answer)["session"].value == "cookie-of-the-member-renewed"
    member.cookies.delete("session")
    member.cookies.set("session", "cookie-of-the-member-renewed")
    uri = site.shelf.timelines[ME.did][1]["post"]["uri"]
    assert (await member.post(LIKE, data={"token": open_page, "uri": uri})).status_code == 303


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Origin": "OURS"}, True),
        ({"Origin": "OURS", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Referer": "OURS/profile/x"}, True),
        ({}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "OURS.evil.example"}, False),
        ({"Origin": "http://localhost"}, False),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Referer": "https://evil.example/?OURS"}, False),
        ({"Referer": "not an address"}, False),
    ],
)
@pytest.mark.parametrize("path", [LIKE, "/api/actions/post", "/api/auth/login", "/api/auth/logout"])
async def test_only_our_own_pages_may_send_forms(
    site: Site, world: World, headers: dict[str, str], allowed: bool, path: str
) -> None:
    sent = {name: value.replace("OURS", site.origin) for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=site.origin, trust_env=False) as browser:
        if path != "/api/auth/login":
            site.sign_in(browser)
        fields = {
            "token": await token_of(browser)
            if path != "/api/auth/login"
            else Document((await browser.get("/login")).text).token,
            "uri": site.shelf.timelines[ME.did][1]["post"]["uri"],
            "text": "hello",
            "identifier": ME.handle,
            "password": APP_PASSWORD,
        }
        answer = await browser.post(path, data=fields, headers=sent)

    assert answer.status_code == (303 if allowed else 403), answer.text
    if not allowed:
        assert site.pen.done == []
        assert "cookie-1" not in site.door.inside


@pytest.mark.parametrize("kind", ["none", "other", "guest", "half"])
async def test_a_token_of_somebody_else_is_refused(site: Site, world: World, kind: str) -> None:
    other = ME._replace(session=8)
    async with site.client() as browser, site.client() as stranger:
        site.sign_in(browser)
        site.door.inside["cookie-of-another"] = other
        tokens = {"none": "", "half": (await token_of(browser))[:30], "guest": ""}
        tokens["guest"] = Document((await stranger.get("/login")).text).token
        stranger.cookies.set("session", "cookie-of-another")
        tokens["other"] = await token_of(stranger)
        uri = site.shelf.timelines[ME.did][1]["post"]["uri"]

        answer = await browser.post(LIKE, data={"token": tokens[kind], "uri": uri})

    assert answer.status_code == 403
    assert site.pen.done == []


async def test_json_is_taken_only_with_the_token_in_the_header(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    token = await token_of(member)
    uri = site.shelf.timelines[ME.did][1]["post"]["uri"]

    inside = await member.post(LIKE, json={"uri": uri, "token": token})
    disguised = await member.post(
        LIKE, content=f'{{"uri":"{uri}"}}', headers={"Content-Type": "text/plain", "X-Form-Token": token}
    )
    broken = await member.post(
        LIKE, content="[1", headers={"Content-Type": "application/json", "X-Form-Token": token}
    )

    assert (inside.status_code, disguised.status_code, broken.status_code) == (403, 415, 400)
    assert inside.json()["error"] == "StaleForm"
    assert site.pen.done == []


async def test_a_form_that_is_too_large_is_refused(site: Site, member: httpx.AsyncClient) -> None:
    token = await token_of(member)
    wide = await member.post("/api/actions/post", data={"token": token, "text": "x" * 70_000})
    many = await member.post(LIKE, data={"token": token, **{f"f{n}": "" for n in range(60)}})

    assert (wide.status_code, many.status_code) == (413, 400)


@pytest.mark.parametrize(
    "path",
    ["login", "logout"],
)
async def test_signing_in_and_out_is_not_done_by_a_link(guest: httpx.AsyncClient, path: str) -> None:
    assert (await guest.get(f"/api/auth/{path}")).status_code == 405


@pytest.mark.parametrize("name", ["like", "repost", "follow", "post", "delete"])
async def test_nothing_is_done_by_a_link(site: Site, member: httpx.AsyncClient, name: str) -> None:
    assert (await member.get(f"/api/actions/{name}?uri=at://x")).status_code == 405


@pytest.mark.parametrize("path", ["/", "/login", "/nowhere", "/api/auth/session", "/profile/x.example"])
async def test_every_answer_carries_the_headers_that_keep_it_shut(
    guest: httpx.AsyncClient, path: str
) -> None:
    headers = (await guest.get(path)).headers

    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["img-src"] == "'self' data:"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "private, no-cache"
    assert "server" not in headers
    assert "Cookie" in headers["vary"]


async def test_pictures_from_outside_are_allowed_by_name_alone() -> None:
    from quart import Response

    policy = (
        Guard(KEY, PUBLIC, "https://cdn.example").protect(Response("")).headers["Content-Security-Policy"]
    )

    assert "img-src 'self' data: https://cdn.example;" in policy


def test_tokens_differ_each_time_and_count_for_their_holder_alone() -> None:
    guard = Guard(KEY, PUBLIC)
    tokens = {guard.form_token("session 1 did:plc:a") for _ in range(50)}

    assert len(tokens) == 50
    for token in tokens:
        guard.check_token("session 1 did:plc:a", token)
        for holder in ("session 2 did:plc:a", "guest x", ""):
            with pytest.raises(StaleForm):
                guard.check_token(holder, token)
    for bad in ("", "x", "é" * 54, "A" * 54, "A" * 53, " " * 54, next(iter(tokens)) + "AAAA"):
        with pytest.raises(StaleForm):
            guard.check_token("session 1 did:plc:a", bad)
    with pytest.raises(StaleForm):
        Guard(b"other", PUBLIC).check_token("session 1 did:plc:a", next(iter(tokens)))


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("/", "/"),
        ("/profile/x?a=b", "/profile/x?a=b"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a b", "/"),
        ("/a\nSet-Cookie: x", "/"),
        ("/é", "/"),
        ("", "/"),
        ("/" + "a" * 3000, "/"),
    ],
)
def test_only_paths_of_ours_are_gone_back_to(path: str, safe: str) -> None:
    assert safe_return(path) == safe


async def test_pictures_are_served_as_what_they_are_and_can_run_nothing(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    cid = next(iter(site.album.pictures))
    path = f"/img/feed_thumbnail/plain/{samples.did_of('ivo')}/{cid}@jpeg"
    answer = await guest.get(path)

    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await guest.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for preset in ("avatar", "avatar_thumbnail", "banner", "feed_thumbnail", "feed_fullsize"):
        assert (await guest.get(path.replace("feed_thumbnail", preset))).status_code == 200
    assert len(site.album.asked) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/img/huge/plain/DID/CID@jpeg",
        "/img/AVATAR/plain/DID/CID@jpeg",
        "/img/avatar/plain/DID/CID@svg",
        "/img/avatar/plain/DID/CID@",
        "/img/avatar/plain/DID/CID@jpeg@webp",
        "/img/avatar/plain/did:plc:x/CID",
        "/img/avatar/plain/DID/CIDD",
        "/img/avatar/plain/DID/nonsense",
        "/img/avatar/plain/DID/bafyreiaeki573syzdczxwf472maqz2v3scvl7rqcvy6im7ti4w4ghsj6uy",
        "/img/avatar/plain/DID/" + "b" * 5000,
        "/img/avatar/fancy/DID/CID",
        "/img/..%2Favatar/plain/DID/CID",
    ],
)
async def test_addresses_that_name_no_picture_cause_no_fetch(
    site: Site, world: World, guest: httpx.AsyncClient, path: str
) -> None:
    cid = next(iter(site.album.pictures))
    path = path.replace("DID", samples.did_of("ivo")).replace("CID", cid)

    answer = await guest.get(path)

    assert answer.status_code == 404
    assert site.album.asked == []


async def test_a_picture_that_its_owner_lacks_is_asked_for_once_in_a_while(
    site: Site, guest: httpx.AsyncClient
) -> None:
    path = f"/img/avatar/plain/{ME.did}/bafkreic4abe4tfoboiilzyknv7gy77v2mbeyj777gqotics6bnmxrc6bam"
    answers = [await guest.get(path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert answers[0].headers["cache-control"] == "public, max-age=300"
    assert len(answers[0].content) < 200
    assert len(site.album.asked) == 1
