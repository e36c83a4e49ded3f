"""The forms without script, and the same addresses for programs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from appliance.errors import BadInput, Refused, Unavailable
from tests.web.reading_html import Document, Element
from tests.web.samples import ME, World, did_of, reposted
from tests.web.site_rig import APP_PASSWORD, Site

JSON = {"Accept": "application/json"}


async def read(client: httpx.AsyncClient, path: str) -> Document:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return Document(answer.text)


async def press(client: httpx.AsyncClient, document: Document, button: Element) -> httpx.Response:
    """Send what a browser sends for a button that belongs to the page's hidden form."""
    assert button["form"] == "act"
    [back] = [f["value"] for f in document.all("input", name="return")][-1:]
    fields = {"token": document.token, "return": back, button["name"]: button["value"]}
    return await client.post(button["formaction"], data=fields)


async def sign_in(client: httpx.AsyncClient, **changed: str) -> httpx.Response:
    document = await read(client, "/login")
    fields = {
        "token": document.token,
        "identifier": ME.handle,
        "password": APP_PASSWORD,
        "return": "/profile/ivo.example.net",
    }
    return await client.post("/api/auth/login", data=fields | changed)


async def test_signing_in_leads_back_and_signing_out_ends_it(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    profile = await read(guest, "/profile/ivo.example.net")
    entry = await read(guest, profile.all("a", href="/login?return=/profile/ivo.example.net")[0]["href"])
    assert entry.one("input", name="return")["value"] == "/profile/ivo.example.net"

    answer = await sign_in(guest)

    assert (answer.status_code, answer.headers["location"]) == (303, "/profile/ivo.example.net")
    assert site.door.asked[0]["client"] == "127.0.0.1"
    assert site.door.asked[0]["about"].startswith("python-httpx")
    home = await read(guest, "/")
    assert home.all("article")

    answer = await guest.post("/api/auth/logout", data={"token": home.token})

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert answer.headers["clear-site-data"] == '"cache"'
    assert not site.door.inside
    assert not (await read(guest, "/")).all("article")


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"password": "wrong-word-here-now1"}, 422, "does not look like an app password"),
        ({"password": "aaaa-bbbb-cccc-dddd"}, 401, "Handle or password is wrong"),
        ({"token": ""}, 403, "open for too long"),
        ({"token": "x" * 54}, 403, "open for too long"),
    ],
)
async def test_a_refused_sign_in_says_why_beside_the_fields(
    site: Site, guest: httpx.AsyncClient, changed: dict[str, str], status: int, words: str
) -> None:
    answer = await sign_in(guest, **changed)
    document = Document(answer.text)

    assert answer.status_code == status
    assert words in document.one("p", role="alert").words
    assert document.one("input", name="password")["aria-describedby"] == "problem"
    assert document.one("input", name="password").get("value") == ""
    assert not site.door.inside


async def test_a_main_password_is_used_only_after_it_was_confirmed(
    site: Site, guest: httpx.AsyncClient
) -> None:
    first = await sign_in(guest, password="main password")
    assert Document(first.text).one("input", name="confirm")
    assert site.door.asked == []

    second = await sign_in(guest, password="main password", confirm="yes")

    assert second.status_code == 303


@pytest.mark.parametrize(
    ("name", "field"), [("AuthFactorTokenRequired", "factor"), ("InvalidInviteCode", "invite")]
)
async def test_what_else_is_needed_is_asked_for(
    site: Site, guest: httpx.AsyncClient, name: str, field: str
) -> None:
    site.door.failure = Refused("One thing more is needed.", name=name)
    assert Document((await sign_in(guest)).text).one("input", name=field)

    site.door.failure = None
    answer = await sign_in(guest, **{field: "abc-def"})

    assert answer.status_code == 303
    assert site.door.asked[-1][field] == "abc-def"


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb: c"],
)
async def test_signing_in_never_leads_away(site: Site, guest: httpx.AsyncClient, target: str) -> None:
    assert (await sign_in(guest, **{"return": target})).headers["location"] == "/"


async def test_an_own_server_that_is_silent_is_said_to_be(site: Site, guest: httpx.AsyncClient) -> None:
    site.door.failure = Unavailable("Your server does not answer.")

    answer = await sign_in(guest)

    assert answer.status_code == 503
    assert "does not answer" in Document(answer.text).one("p", role="alert").words


async def test_a_like_comes_back_to_its_post_and_is_taken_back_by_the_same_button(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    article = home.all("article")[1]
    [button] = [b for b in home.all("button", class_="like") if article["id"] in b["value"]]
    uri, cid, _ = button["value"].split(" ")
    assert button["aria-pressed"] == "false"
    assert button["aria-label"] == "Like post by Ivo Berger, 41 likes"

    answer = await press(member, home, button)

    assert answer.status_code == 303
    assert answer.headers["location"] == f"/?before=0#{article['id']}"
    assert site.pen.done == [("like", uri, cid, True)]
    again = await read(member, answer.headers["location"])
    [button] = [b for b in again.all("button", class_="like") if article["id"] in b["value"]]
    assert button["aria-pressed"] == "true"
    assert article["id"] in again.ids()

    await press(member, again, button)

    assert site.pen.done[1] == ("like", uri, cid, False)


async def test_an_action_on_a_reposted_row_comes_back_to_that_row(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    [article] = [a for a in home.all("article") if "reposted" in a.words and "Hebrew" in a.words]
    [button] = [b for b in home.all("button", class_="repost") if b["value"].endswith(article["id"])]

    answer = await press(member, home, button)

    assert answer.headers["location"].endswith(f"#{article['id']}")
    assert site.pen.done[0][0] == "repost"


async def test_the_same_post_twice_on_a_page_has_a_place_of_its_own_each_time(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    rows = site.shelf.timelines[ME.did]
    rows.insert(0, reposted(rows[1]["post"], world.person("Other", "other.example"), minutes=1))

    ids = (await read(member, "/")).ids()

    assert len(ids) == len(set(ids))


async def test_follow_and_unfollow_come_back_to_the_button(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    document = await read(member, "/profile/ivo.example.net")
    button = document.one("button", id="follow")
    assert button["aria-label"] == "Follow Ivo Berger"

    answer = await press(member, document, button)

    assert answer.headers["location"] == "/profile/ivo.example.net#follow"
    again = await read(member, "/profile/ivo.example.net")
    assert again.one("button", id="follow").words == "Unfollow"
    await press(member, again, again.one("button", id="follow"))
    assert site.pen.done == [("follow", did_of("ivo"), True), ("follow", did_of("ivo"), False)]


async def test_a_post_is_written_and_the_page_comes_back_to_it(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    fields = {f["name"]: f["value"] for f in home.all("input") if f["name"] in ("token", "once")}

    answer = await member.post(
        "/api/actions/post", data={**fields, "return": "/", "text": " Hello,\r\nworld "}
    )

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/?done=posted#")
    assert site.pen.done == [("post", "Hello,\nworld", "", [])]
    assert (await read(member, answer.headers["location"])).one("p", role="status").words == "Posted."
    # Sent twice by an impatient finger: it is the same post.
    await member.post("/api/actions/post", data={**fields, "return": "/", "text": " Hello,\r\nworld "})
    assert len(site.pen.done) == 1


async def test_a_reply_is_sent_from_the_thread_and_comes_back_to_it(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    thread = await read(member, f"/post/{world.focus}")
    form = {f["name"]: f["value"] for f in thread.all("input") if f["name"] in ("token", "reply", "once")}

    answer = await member.post(
        "/api/actions/post", data={**form, "return": f"/post/{world.focus}", "text": "Kiel it is."}
    )

    assert form["reply"] == world.focus
    assert site.pen.done == [("post", "Kiel it is.", world.focus, [])]
    assert answer.headers["location"].startswith(f"/post/{world.focus}?done=posted#")


async def test_own_posts_alone_can_be_deleted_and_the_next_one_takes_the_place(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    buttons = home.all("button", formaction="/api/actions/delete")
    articles = [article["id"] for article in home.all("article")]
    own = [a["id"] for a in home.all("article") if a.words.startswith("Mara")]
    assert len(buttons) == len(own) == 2

    answer = await press(member, home, buttons[0])

    assert site.pen.done == [("delete", buttons[0]["value"].split(" ")[0])]
    assert answer.headers["location"] == f"/?before=0&done=deleted#{articles[articles.index(own[0]) + 1]}"
    assert own[0] not in (await read(member, "/")).ids()


async def test_deleting_a_post_on_its_own_page_leads_home(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    thread = await read(member, f"/post/{world.focus}")

    answer = await press(member, thread, thread.one("button", formaction="/api/actions/delete"))

    assert answer.headers["location"].startswith("/?done=deleted")


@pytest.mark.parametrize(
    ("failure", "status", "words"),
    [
        (BadInput("A post has at most 300 characters."), 422, "at most 300"),
        (Unavailable("Your server can't do this at the moment"), 503, "at the moment"),
        (Refused("Its author has limited who can reply", name="ReplyNotAllowed"), 403, "limited"),
    ],
)
async def test_a_post_that_was_not_taken_keeps_its_text(
    site: Site, world: World, member: httpx.AsyncClient, failure: Any, status: int, words: str
) -> None:
    home = await read(member, "/")
    site.pen.failure = failure
    fields = {"token": home.token, "text": "<b>my words</b>", "once": "abc", "return": "/?before=5"}

    answer = await member.post("/api/actions/post", data=fields)
    document = Document(answer.text)

    assert answer.status_code == status
    assert words in document.one("p", role="alert").words
    assert document.one("textarea").words == "<b>my words</b>"
    assert document.one("textarea")["aria-describedby"] == "problem"
    assert document.one("input", name="once")["value"] == "abc"
    site.pen.failure = None
    again = {**fields, "token": document.token, "return": document.all("input", name="return")[0]["value"]}
    assert (await member.post("/api/actions/post", data=again)).headers["location"].startswith("/?before=5&")


async def test_an_unknown_outcome_is_said_and_sending_again_makes_no_second_post(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    site.pen.confirmed = False

    answer = await member.post("/api/actions/post", data={"token": home.token, "text": "once", "once": "k"})
    document = Document(answer.text)

    assert answer.status_code == 202
    assert "did not say" in document.one("p", role="alert").words
    assert document.one("button", class_="go").words == "Send again"
    site.pen.confirmed = True
    await member.post("/api/actions/post", data={"token": document.token, "text": "once", "once": "k"})
    assert len(site.pen.done) == 1


async def test_a_like_that_nobody_confirmed_is_said_to_be_so(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    site.pen.confirmed = False

    answer = await press(member, home, home.all("button", class_="like")[0])

    assert "done=unknown" in answer.headers["location"]
    notice = (await read(member, answer.headers["location"])).one("p", role="status").words
    assert notice.startswith("Not confirmed")


async def test_text_survives_a_session_that_has_ended(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    home = await read(member, "/")
    site.door.inside.clear()

    answer = await member.post("/api/actions/post", data={"token": home.token, "text": "long thoughts"})
    document = Document(answer.text)

    assert answer.status_code == 403
    assert document.one("textarea").words == "long thoughts"
    assert "signed out" in document.one("p", role="alert").words
    assert site.pen.done == []


async def test_text_survives_a_form_that_has_grown_old(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    answer = await member.post(
        "/api/actions/post", data={"token": "old", "text": "long thoughts", "once": "k"}
    )
    document = Document(answer.text)

    assert answer.status_code == 403
    assert document.one("textarea").words == "long thoughts"
    assert site.pen.done == []
    fields = {"token": document.token, "text": "long thoughts", "once": "k"}
    assert (await member.post("/api/actions/post", data=fields)).status_code == 303


async def test_actions_of_a_guest_lead_to_the_sign_in(site: Site, guest: httpx.AsyncClient) -> None:
    answer = await guest.post("/api/actions/like", data={"post": "at://x"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/actions/like", {"post": "nonsense"}),
        ("/api/actions/like", {"post": ""}),
        ("/api/actions/repost", {"uri": "https://example.org"}),
        ("/api/actions/follow", {"actor": "did:plc:../x"}),
        ("/api/actions/delete", {}),
    ],
)
async def test_actions_on_nothing_are_refused(
    site: Site, member: httpx.AsyncClient, path: str, fields: dict[str, str]
) -> None:
    token = (await read(member, "/")).token

    answer = await member.post(path, data={"token": token, **fields})

    assert answer.status_code == 400
    assert site.pen.done == []


async def test_programs_sign_in_act_and_sign_out_by_json(
    site: Site, world: World, guest: httpx.AsyncClient
) -> None:
    async def send(path: str, **body: Any) -> httpx.Response:
        token = (await guest.get("/api/auth/session")).json()["token"]
        return await guest.post(path, json=body, headers={"X-Form-Token": token, **JSON})

    refused = await send("/api/auth/login", identifier=ME.handle, password="aaaa-bbbb-cccc-dddd")
    assert (refused.status_code, refused.json()["error"]) == (401, "AuthenticationRequired")
    unsafe = await send("/api/auth/login", identifier=ME.handle, password="main password")
    assert (unsafe.status_code, unsafe.json()["error"]) == (422, "NoAppPassword")
    inside = await send("/api/auth/login", identifier=ME.handle, password=APP_PASSWORD)
    assert inside.json() == {"did": ME.did, "handle": ME.handle}
    assert (await guest.get("/api/auth/session")).json()["did"] == ME.did

    post = (await guest.get("/api/timeline")).json()["feed"][1]["post"]
    assert (await send("/api/actions/like", uri=post["uri"], cid=post["cid"])).json() == {"confirmed": True}
    await send("/api/actions/like", uri=post["uri"], undo=True)
    await send("/api/actions/repost", uri=post["uri"], cid=post["cid"])
    await send("/api/actions/follow", did=did_of("ivo"))
    written = (await send("/api/actions/post", text="by program", langs=["en", "de"])).json()
    assert site.pen.done == [
        ("like", post["uri"], post["cid"], True),
        ("like", post["uri"], "", False),
        ("repost", post["uri"], post["cid"], True),
        ("follow", did_of("ivo"), True),
        ("post", "by program", "", ["en", "de"]),
    ]
    assert written["uri"].startswith(f"at://{ME.did}/")
    too_long = await send("/api/actions/post", text="x" * 301)
    assert (too_long.status_code, too_long.json()["error"]) == (400, "InvalidRequest")
    site.pen.confirmed = False
    unknown = await send("/api/actions/repost", uri=post["uri"])
    assert (unknown.status_code, unknown.json()) == (202, {"confirmed": False})

    assert (await send("/api/auth/logout")).json() == {}
    over = await send("/api/actions/like", uri=post["uri"])
    assert (over.status_code, over.json()["error"]) == (401, "AuthenticationRequired")
