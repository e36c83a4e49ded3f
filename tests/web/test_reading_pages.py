"""The pages for reading, through a real socket."""

from __future__ import annotations

import gzip
from typing import Any

import httpx
import orjson
import pytest

from appliance.errors import BadInput, NotFound, Unavailable
from appliance.timeline.completeness import Report, Wait
from tests.shared import shared
from tests.web.reading_html import Document
from tests.web.samples import ME, NOW_US, World, answering, did_of, row
from tests.web.site_rig import RECORDED_ORIGIN, Site

ANON_URI = "at://did:plc:44ybard66vv44zksje25o7dz/app.bsky.feed.post/3kq0000000001"


async def page(client: httpx.AsyncClient, path: str, status: int = 200, *, unique: bool = True) -> Document:
    answer = await client.get(path)
    assert answer.status_code == status, (path, answer.status_code, answer.headers.get("location"))
    document = Document(answer.text)
    assert len(document.all("h1")) == 1
    assert not unique or len(document.ids()) == len(set(document.ids()))
    return document


def rows_of(document: Document) -> list[str]:
    return [article["id"] for article in document.all("article")]


async def test_a_guest_at_the_start_learns_what_this_is(site: Site, guest: httpx.AsyncClient) -> None:
    document = await page(guest, "/")

    assert document.one("h1").words.startswith("Everyone you follow")
    assert not document.all("article")
    assert document.all("a", href="/login")


async def test_the_pages_of_home_are_the_whole_timeline_once_downwards_and_upwards(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    rows = site.shelf.timelines[ME.did]
    person = world.person("Filler", "filler.example")
    rows += [row(world.post(person, f"filler {n}", minutes=600_000 + n)) for n in range(130 - len(rows))]
    down: list[str] = []
    path = "/"
    while path:
        document = await page(member, path)
        down += rows_of(document)
        [*_, path] = ["", *(a["href"] for a in document.all("a", rel="next"))]

    assert len(down) == len(set(down)) == 130

    up: list[str] = []
    document = await page(member, "/?before=130")
    while links := document.all("a", rel="prev"):
        document = await page(member, links[0]["href"])
        up = rows_of(document) + up

    assert up == down


async def test_a_page_address_shows_the_same_rows_whenever_it_is_opened(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    first = await page(member, "/")
    [marking, _, back] = [field["value"] for field in first.all("input", name="return")]

    assert back.startswith("/?before=")
    assert marking == back
    assert rows_of(await page(member, back)) == rows_of(first)


async def test_newer_posts_than_the_newest_lead_to_the_start(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    answer = await member.get("/?after=0")

    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_only_the_newest_page_has_the_form_for_a_new_post(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    assert (await page(member, "/")).all("textarea")
    assert not (await page(member, "/?before=5")).all("textarea")


async def test_a_cursor_that_is_none_is_refused(site: Site, world: World, member: httpx.AsyncClient) -> None:
    await page(member, "/?before=%00%27", 400)


HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report("complete", lag_s=0.5, total=5, complete=5), "✓ Complete Every post of 5 accounts, live."),
        (
            Report(
                "complete",
                lag_s=0.5,
                total=5,
                complete=4,
                inactive=1,
                oldest_check_us=NOW_US - 5 * HOUR_US,
            ),
            "✓ Complete Every post of 4 accounts, live. Oldest check 5 h ago. 1 account deactivated or gone.",
        ),
        (
            Report("complete", lag_s=0.5, total=5, complete=5, history_since="2025-12-02"),
            "✓ Complete since 2025-12-02",
        ),
        (
            Report("not-live", down_since_us=NOW_US - 240_000_000, total=5, complete=5),
            "! Not live Live updates stopped 4 min ago.",
        ),
        (
            Report("complete-until", until_us=NOW_US - 61_000_000, lag_s=61.0, total=5, complete=5),
            "! Complete until 06:55 UTC New posts are 1 min behind.",
        ),
        (
            Report(
                "complete-until", until_us=NOW_US - 25 * HOUR_US, lag_s=0.4, total=5, complete=3, doubtful=2
            ),
            "! Complete until 20 Nov, 05:56 UTC 2 of 5 accounts being checked again.",
        ),
        (Report("complete-until", total=5, complete=5), "! Being checked"),
        (
            Report("catching-up", lag_s=0.5, total=5, complete=4, catching_up=1),
            "… Catching up Loading the history of 1 of 5 accounts.",
        ),
        (
            Report("waiting", lag_s=0.5, total=5, complete=4, waiting=1, waits=(Wait("host", 1, NOW_US),)),
            "… Waiting 1 of 5 accounts can’t be read just now: their server is not reachable.",
        ),
        (
            Report(
                "waiting",
                lag_s=0.5,
                total=9,
                complete=6,
                waiting=3,
                waits=(Wait("rate", 2, None), Wait("data", 1, None)),
            ),
            "their server asks to wait (2), what their server gives can’t be read (1).",
        ),
    ],
)
async def test_home_says_complete_only_when_nothing_is_open(
    site: Site, member: httpx.AsyncClient, report: Report, words: str
) -> None:
    site.shelf.report = report

    home = await page(member, "/")

    assert words in home.one("p", class_="state").words
    assert "Details" in [link.words for link in home.all("a", href="/completeness")]


async def test_the_timeline_is_there_for_programs_too(
    site: Site, world: World, member: httpx.AsyncClient, guest: httpx.AsyncClient
) -> None:
    answer = await member.get("/api/timeline?limit=7")
    following = await member.get(f"/api/timeline?limit=7&cursor={answer.json()['cursor']}")
    rows = site.shelf.timelines[ME.did]

    assert answer.json()["feed"] == rows[:7]
    assert following.json()["feed"] == rows[7:14]
    assert answer.headers["cache-control"] == "private, no-cache"
    refused = await guest.get("/api/timeline", headers={"Accept": "application/json"})
    assert (refused.status_code, refused.json()["error"]) == (401, "AuthenticationRequired")
    for limit in ("0", "101", "-1", "x", "1e9"):
        assert (await member.get(f"/api/timeline?limit={limit}")).status_code == 400


async def test_a_profile_carries_what_link_previews_need(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    did = did_of("ivo")
    document = await page(guest, "/profile/ivo.example.net")

    assert document.one("title").words == "Ivo Berger (@ivo.example.net)"
    assert document.meta("og:title") == "Ivo Berger (@ivo.example.net)"
    assert document.meta("og:description") == "Walks early. Pictures of fog. https://ivo.example.net"
    assert document.meta("og:image").startswith(f"{site.origin}/img/avatar/")
    assert document.meta("og:url") == f"{site.origin}/profile/{did}"
    assert document.one("link", rel="canonical")["href"] == f"{site.origin}/profile/{did}"
    assert (await guest.get(document.meta("og:image"))).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("/profile/IVO.example.NET", "/profile/ivo.example.net"),
        ("/profile/@ivo.example.net", "/profile/ivo.example.net"),
        ("/profile/old.example.net?show=posts_with_media", "/profile/ivo.example.net?show=posts_with_media"),
        ("/@ivo.example.net", "/profile/ivo.example.net"),
        ("/@ivo.example.net/3kq1", "/post/at://ivo.example.net/app.bsky.feed.post/3kq1"),
    ],
)
async def test_other_spellings_and_earlier_handles_lead_to_the_one_of_today(
    site: Site, world: World, guest: httpx.AsyncClient, asked: str, leads_to: str
) -> None:
    site.shelf.profiles[did_of("ivo")]["formerly"] = ["old.example.net"]

    answer = await guest.get(asked)

    assert answer.status_code in (301, 302)
    assert answer.headers["location"] == leads_to


async def test_a_profile_asked_by_did_stays_there_and_a_lost_handle_is_said_to_be_so(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    site.shelf.profiles[did_of("ivo")]["handle"] = "handle.invalid"

    document = await page(guest, f"/profile/{did_of('ivo')}")

    assert "handle not confirmed" in document.one("p", class_="handle").words


@pytest.mark.parametrize(
    ("failure", "status", "title"),
    [
        (BadInput("Account has been suspended", name="AccountTakedown"), 410, "Suspended"),
        (BadInput("Account is deactivated", name="AccountDeactivated"), 410, "Deactivated"),
        (NotFound("not known here"), 404, "Not found"),
        (Unavailable("The other server is silent."), 503, "Not available right now"),
    ],
)
async def test_an_account_that_cannot_be_shown_has_a_page_that_says_why(
    site: Site, guest: httpx.AsyncClient, failure: Any, status: int, title: str
) -> None:
    site.shelf.failures["gone.example"] = failure

    assert (await page(guest, "/profile/gone.example", status)).one("h1").words == title


@pytest.mark.parametrize("actor", ["no handle", "did:plc:x", "<script>", "a" * 3000])
async def test_what_is_no_account_is_not_found(guest: httpx.AsyncClient, actor: str) -> None:
    answer = await guest.get(f"/profile/{actor}")

    assert answer.status_code == 404


async def test_a_blocked_account_shows_no_posts(site: Site, world: World, member: httpx.AsyncClient) -> None:
    site.shelf.profiles[did_of("ivo")]["viewer"] = {"blockedBy": True}

    document = await page(member, "/profile/ivo.example.net")

    assert not document.all("article")
    assert not document.all("button", id="follow")
    assert document.one("p", class_="empty").words == "This account blocks you."


async def test_who_asks_to_be_hidden_from_guests_is(
    site: Site, world: World, guest: httpx.AsyncClient, member: httpx.AsyncClient
) -> None:
    ivo = site.shelf.profiles[did_of("ivo")]
    ivo["labels"].append({"val": "!no-unauthenticated", "src": ivo["did"], "uri": "", "cts": ""})
    for item in site.shelf.feeds[ivo["did"]]:
        item["post"]["author"]["labels"] = ivo["labels"]

    closed = await page(guest, "/profile/ivo.example.net")
    opened = await page(member, "/profile/ivo.example.net")

    assert not closed.all("article")
    assert "Walks early" not in closed.one("html").words
    assert opened.all("article")
    thread = {"post": site.shelf.feeds[ivo["did"]][0]["post"]}
    site.shelf.threads[thread["post"]["uri"]] = thread
    assert "fog" not in (await guest.get(f"/post/{thread['post']['uri']}")).text
    assert "fog" in (await member.get(f"/post/{thread['post']['uri']}")).text


async def test_the_tabs_of_a_profile_filter_and_page(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    document = await page(guest, "/profile/ivo.example.net?show=posts_with_media")

    assert len(document.all("article")) == 3
    assert document.one("a", aria_current="page", href="/profile/ivo.example.net?show=posts_with_media")


async def test_a_thread_stands_at_its_at_address(site: Site, world: World, guest: httpx.AsyncClient) -> None:
    uri = world.focus
    plain = await page(guest, f"/post/{uri}")
    quoted = await page(guest, f"/post/{uri.replace(':', '%3A').replace('/', '%2F')}")
    short = await page(guest, f"/post/{uri.removeprefix('at://')}")

    assert rows_of(plain) == rows_of(quoted) == rows_of(short)
    assert len(plain.all("article", class_="up")) == 2
    assert plain.one("article", class_="focus").words.startswith("Mara Lindqvist")
    assert [place.words.partition(":")[0] for place in plain.all("div", class_="gone")] == [
        "Not available",
        "Hidden",
        "Not available",
    ]
    assert plain.meta("og:description").startswith("The railings say 1912")
    assert "14 more replies" in plain.one("html").words


async def test_a_thread_of_any_depth_is_shown(site: Site, world: World, guest: httpx.AsyncClient) -> None:
    person = world.person("Deep", "deep.example")
    posts = [world.post(person, f"level {n}", minutes=n) for n in range(240)]
    node: dict[str, Any] = {"post": posts[-1], "replies": []}
    for post in reversed(posts[120:-1]):
        node = {"post": post, "replies": [node]}
    parent: dict[str, Any] = {"post": posts[0]}
    for post in posts[1:120]:
        parent = {"post": post, "parent": parent}
    node["parent"] = parent
    site.shelf.threads[posts[120]["uri"]] = node

    document = await page(guest, f"/post/{posts[120]['uri']}")

    assert len(document.all("article")) == 240


async def test_where_a_thread_goes_on_above_a_link_says_so(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    person = world.person("Deep", "deep.example")
    root = world.post(person, "root", minutes=9)
    reply = answering(world.post(person, "reply", minutes=8), root)["post"]
    site.shelf.threads[reply["uri"]] = {"post": reply, "replies": []}

    document = await page(guest, f"/post/{reply['uri']}")

    assert document.one("a", href=f"/post/{root['uri']}").words == "Earlier in this thread ↑"


@pytest.mark.parametrize(
    "path",
    [f"/post/{ANON_URI}", "/post/at://nonsense", "/post/at://did:plc:x/y", "/nowhere", "/static/x/none.css"],
)
async def test_what_is_not_there_has_a_page_in_the_same_layout(guest: httpx.AsyncClient, path: str) -> None:
    answer = await guest.get(path)

    assert answer.status_code in (400, 404)
    assert Document(answer.text).one("header", class_="top")
    assert len(answer.content) <= 8_000


async def test_what_breaks_says_nothing_of_its_inside(site: Site, guest: httpx.AsyncClient) -> None:
    site.shelf.profiles["x"] = {"did": None}  # a KeyError behind the door

    answer = await guest.get("/profile/broken.example")

    assert answer.status_code == 500
    assert "KeyError" not in answer.text
    assert "handle" not in Document(answer.text).one("main").words


async def test_static_files_are_kept_for_a_year_under_the_address_of_their_content(
    guest: httpx.AsyncClient,
) -> None:
    document = await page(guest, "/")
    style = await guest.get(document.one("link", rel="stylesheet")["href"])
    stale = await guest.get("/static/0000000000/style.css")

    assert style.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert style.headers["content-encoding"] == "gzip"
    assert stale.headers["cache-control"] == "no-cache"
    assert stale.text == style.text


async def test_pages_are_sent_compressed_to_whom_takes_it(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    async with member.stream("GET", "/") as answer:
        packed = b"".join([part async for part in answer.aiter_raw()])
    plain = await member.get("/", headers={"Accept-Encoding": "identity"})

    assert "content-encoding" not in plain.headers
    assert answer.headers["content-encoding"] == "gzip"
    assert len(packed) < len(plain.content) / 3
    assert len(gzip.decompress(packed)) == len(plain.content)
    assert {"Cookie", "Accept-Encoding"} <= set(answer.headers["vary"].split(", "))


async def test_every_recorded_answer_makes_a_page(site: Site, member: httpx.AsyncClient) -> None:
    shown = dict.fromkeys(("getTimeline", "getAuthorFeed", "getProfile", "getPostThread"), 0)
    for path in sorted(shared("conformance").glob("*/responses/*.json")):
        kind = path.name.split("-")[1].removesuffix(".json")
        if kind not in shown:
            continue
        text = path.read_text().replace(RECORDED_ORIGIN, site.origin)
        answer = orjson.loads(text)["response"]
        if answer["status"] != 200:
            continue
        body = answer["body"]
        shown[kind] += 1
        if kind == "getTimeline":
            site.shelf.timelines[ME.did] = body["feed"]
            # The official server shows rows twice to who follows himself; ours does not.
            document = await page(member, "/", unique="graph" not in path.parts)
            assert len(document.all("article")) == len(body["feed"])
        elif kind == "getAuthorFeed":
            site.shelf.timelines[ME.did] = body["feed"]
            document = await page(member, "/")
            assert len(document.all("article")) == len(body["feed"])
        elif kind == "getProfile":
            site.shelf.profiles = {body["did"]: body}
            document = await page(member, f"/profile/{body['did']}")
            assert body["handle"] in document.one("title").words
        else:
            uri = body["thread"].get("post", body["thread"])["uri"]
            site.shelf.threads = {uri: body["thread"]}
            await page(member, f"/post/{uri}")
    assert all(number > 20 for number in shown.values()), shown
