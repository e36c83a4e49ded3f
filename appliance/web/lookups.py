"""Pages of lists: notifications, search, bookmarks, lists, people, who is muted or blocked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from quart import Blueprint, redirect, request

from appliance import errors
from appliance.auth.web_sessions import Member
from appliance.protocol.syntax import is_at_uri, is_did
from appliance.web import present, richtext
from appliance.web.actions import way_back
from appliance.web.bodies import Body, wants_json
from appliance.web.doors import Asking, Json
from appliance.web.frame import Frame, json_answer
from appliance.web.present import Look

ROWS: Final = "50"

# What each reason says, and whether it is of a post of its own.
REASONS: Final = {
    "like": ("liked your post", False),
    "repost": ("reposted your post", False),
    "follow": ("followed you", False),
    "mention": ("mentioned you", True),
    "reply": ("replied to you", True),
    "quote": ("quoted you", True),
    "starterpack-joined": ("joined by your starter pack", False),
    "verified": ("verified you", False),
    "unverified": ("does not verify you any more", False),
    "like-via-repost": ("liked a post that you reposted", False),
    "repost-via-repost": ("reposted a post that you reposted", False),
    "subscribed-post": ("posted", True),
}
NOTIFICATION_TABS: Final = (
    ("", "All", ()),
    ("talk", "Replies and mentions", ("reply", "mention", "quote")),
    ("marks", "Likes and reposts", ("like", "repost", "like-via-repost", "repost-via-repost")),
    ("follows", "Follows", ("follow", "starterpack-joined")),
)
OPERATORS: Final = (
    ("from:handle", "posts of one account; from:me are yours"),
    ("mentions:handle", "posts that mention somebody"),
    ("since:2026-01-31, until:2026-02-28", "posts of a time"),
    ("lang:de", "posts in a language"),
    ("#tag", "posts with a tag"),
    ("“two words”", "these words one after the other"),
    ("-word", "posts without it"),
    ("one OR other", "posts with either"),
)


class Told(NamedTuple):
    """One line of notifications: several of a kind about the same thing on one day are one line."""

    words: str
    people: list[present.Person]
    more: int
    when: present.When
    text: str
    path: str
    unread: bool


class Group(NamedTuple):
    """A list or somebody's starter pack, to follow up."""

    name: str
    about: str
    path: str
    members: str
    by: present.Person
    size: int


def lookups(frame: Frame, ask: Asking) -> Blueprint:
    """The pages, and the forms that belong to them."""
    blueprint = Blueprint("lookups", __name__)

    async def member() -> Member | None:
        return await frame.viewer()

    def sign_in() -> Any:
        return redirect(f"/login?{urlencode({'return': request.path})}", 303)

    @blueprint.get("/notifications")
    async def notifications() -> Any:
        """What happened; `show` chooses, `before` pages. Looking does not mark as seen."""
        viewer = await member()
        if viewer is None:
            return sign_in()
        shown = request.args.get("show", "")
        reasons = next((list(names) for key, _, names in NOTIFICATION_TABS if key == shown), [])
        answer = await ask(
            viewer.did,
            "app.bsky.notification.listNotifications",
            {"limit": ROWS, "cursor": request.args.get("before", ""), "reasons": reasons},
        )
        look = await frame.look()
        return await frame.render(
            "notifications.html",
            here="notifications",
            told=_grouped(answer["notifications"], look),
            seen_at=_iso(look.now_us),
            tabs=_tabs("/notifications", shown, [(key, name) for key, name, _ in NOTIFICATION_TABS]),
            unread=any(not row.get("isRead") for row in answer["notifications"]),
            older=_further("/notifications", answer, show=shown),
        )

    @blueprint.get("/search")
    async def search() -> Any:
        """Posts or people (`show`) for `q`; `sort` is latest or top, `before` pages."""
        viewer = await frame.viewer()
        did = viewer.did if viewer else None
        q, shown = request.args.get("q", "").strip(), request.args.get("show", "")
        sort = "top" if request.args.get("sort") == "top" else "latest"
        look = await frame.look()
        entries: list[present.Entry] = []
        people: list[tuple[present.Person, str]] = []
        older = problem = ""
        before = request.args.get("before", "")
        try:
            if q and shown == "people":
                answer = await ask(
                    did, "app.bsky.actor.searchActors", {"q": q, "limit": ROWS, "cursor": before}
                )
                people = _people(answer["actors"], look)
                older = _further("/search", answer, q=q, show=shown)
            elif q:
                answer = await ask(
                    did,
                    "app.bsky.feed.searchPosts",
                    {"q": q, "limit": ROWS, "cursor": before, "sort": sort},
                )
                entries = [present.entry({"post": post}, look) for post in answer["posts"]]
                older = _further("/search", answer, q=q, sort=sort)
        except errors.BadInput as error:
            problem = error.message or "This search can’t be read."
        return await frame.render(
            "search.html",
            here="search",
            q=q,
            show=shown,
            sort=sort,
            problem=problem,
            entries=entries,
            people=people,
            older=older,
            operators=OPERATORS,
            tabs=[
                {"name": name, "current": current, "href": f"/search?{urlencode({'q': q, **more})}"}
                for name, current, more in (
                    ("Latest", shown != "people" and sort == "latest", {}),
                    ("Most liked", shown != "people" and sort == "top", {"sort": "top"}),
                    ("People", shown == "people", {"show": "people"}),
                )
            ]
            if q
            else [],
        )

    @blueprint.get("/bookmarks")
    async def bookmarks() -> Any:
        """Posts that were kept; only their keeper sees them."""
        viewer = await member()
        if viewer is None:
            return sign_in()
        answer = await ask(
            viewer.did,
            "app.bsky.bookmark.getBookmarks",
            {"limit": ROWS, "cursor": request.args.get("before", "")},
        )
        look = await frame.look()
        return await frame.render(
            "rows.html",
            here="menu",
            heading="Bookmarks",
            about="Kept here and on no other server; nobody else sees them.",
            tabs=[],
            entries=[present.entry({"post": row["item"]}, look) for row in answer["bookmarks"]],
            people=[],
            nothing="No bookmarks yet.",
            older=_further("/bookmarks", answer),
        )

    @blueprint.get("/lists")
    async def lists() -> Any:
        """The reader's own lists, each a timeline with a marker of its own."""
        viewer = await member()
        if viewer is None:
            return sign_in()
        answer = await ask(
            viewer.did,
            "app.bsky.graph.getLists",
            {"actor": viewer.did, "limit": ROWS, "cursor": request.args.get("before", "")},
        )
        look = await frame.look()
        return await frame.render(
            "lists.html",
            here="lists",
            heading="Lists",
            groups=[_group(view, look) for view in answer["lists"]],
            older=_further("/lists", answer),
        )

    @blueprint.get("/lists/<did>/<rkey>")
    async def list_members(did: str, rkey: str) -> Any:
        """Who is on a list."""
        viewer = await frame.viewer()
        uri = f"at://{did}/app.bsky.graph.list/{rkey}"
        if not is_at_uri(uri):
            raise errors.NotFound("That is no list.")
        answer = await ask(
            viewer.did if viewer else None,
            "app.bsky.graph.getList",
            {"list": uri, "limit": ROWS, "cursor": request.args.get("before", "")},
        )
        look = await frame.look()
        group = _group(answer["list"], look)
        return await frame.render(
            "rows.html",
            here="lists",
            heading=group.name,
            about=group.about,
            tabs=[{"name": "Posts", "current": False, "href": group.path}, _here("Members")],
            entries=[],
            people=_people([item["subject"] for item in answer["items"]], look),
            nothing="Nobody is on this list.",
            older=_further(request.path, answer),
        )

    @blueprint.get("/muted")
    async def muted() -> Any:
        """Accounts and lists that the reader mutes, and whom he blocks (`show=blocked`)."""
        viewer = await member()
        if viewer is None:
            return sign_in()
        blocked = request.args.get("show") == "blocked"
        nsid, key = ("getBlocks", "blocks") if blocked else ("getMutes", "mutes")
        parameters = {"limit": ROWS, "cursor": request.args.get("before", "")}
        answer = await ask(viewer.did, f"app.bsky.graph.{nsid}", parameters)
        look = await frame.look()
        return await frame.render(
            "rows.html",
            here="menu",
            heading="Blocked" if blocked else "Muted",
            about="Blocks are public records of yours." if blocked else "Nobody is told of it.",
            tabs=_tabs("/muted", "blocked" if blocked else "", [("", "Muted"), ("blocked", "Blocked")]),
            entries=[],
            people=_people(answer[key], look),
            nothing="There is nobody.",
            older=_further("/muted", answer, show="blocked" if blocked else ""),
        )

    @blueprint.get("/profile/<actor>/<any(follows, followers):which>")
    async def follows(actor: str, which: str) -> Any:
        """Whom an account follows, or who follows it, as far as known here."""
        viewer = await frame.viewer()
        try:
            answer = await ask(
                viewer.did if viewer else None,
                "app.bsky.graph.getFollows" if which == "follows" else "app.bsky.graph.getFollowers",
                {"actor": actor, "limit": ROWS, "cursor": request.args.get("before", "")},
            )
        except errors.BadInput as error:
            raise errors.NotFound(error.message) from error
        look = await frame.look()
        who = present.person(answer["subject"], look)
        if who.members_only and viewer is None:
            raise errors.Refused("Sign in first.")
        base = f"{who.path}/{which}"
        return await frame.render(
            "rows.html",
            here="",
            heading=who.name,
            about="",
            tabs=[
                {"name": "Profile", "current": False, "href": who.path},
                {"name": "Follows", "current": which == "follows", "href": f"{who.path}/follows"},
                {"name": "Followers", "current": which == "followers", "href": f"{who.path}/followers"},
            ],
            entries=[],
            people=_people(answer[which], look),
            nothing="Nobody is known here.",
            older=_further(base, answer),
        )

    @blueprint.get("/about-post/<any(likes, reposts, quotes):which>/<path:uri>")
    async def about_post(which: str, uri: str) -> Any:
        """Who liked, reposted or quoted a post."""
        viewer = await frame.viewer()
        uri = "at://" + uri.removeprefix("at:").lstrip("/")
        nsid, key = {
            "likes": ("app.bsky.feed.getLikes", "likes"),
            "reposts": ("app.bsky.feed.getRepostedBy", "repostedBy"),
            "quotes": ("app.bsky.feed.getQuotes", "posts"),
        }[which]
        answer = await ask(
            viewer.did if viewer else None,
            nsid,
            {"uri": uri, "limit": ROWS, "cursor": request.args.get("before", "")},
        )
        look = await frame.look()
        found = answer[key]
        people = [row["actor"] for row in found] if which == "likes" else found
        base = quote(uri, safe=":/.-_~")
        return await frame.render(
            "rows.html",
            here="",
            heading={"likes": "Liked by", "reposts": "Reposted by", "quotes": "Quotes"}[which],
            about="As far as known here.",
            tabs=[
                {"name": "Post", "current": False, "href": f"/post/{base}"},
                *(
                    {"name": key.capitalize(), "current": key == which, "href": f"/about-post/{key}/{base}"}
                    for key in ("likes", "reposts", "quotes")
                ),
            ],
            entries=[present.entry({"post": post}, look) for post in found] if which == "quotes" else [],
            people=_people(people, look) if which != "quotes" else [],
            nothing="There is none.",
            older=_further(f"/about-post/{which}/{base}", answer),
        )

    async def act(nsid: str, body_of: Callable[[Body], Json], notice: str = "") -> Any:
        viewer = await member()
        if viewer is None:
            frame.guard.check_origin(request)
            if wants_json(request):
                raise errors.Refused("Sign in first.")
            return redirect("/login", 303)
        body = await frame.checked()
        undo = body.flag("undo") or request.args.get("undo") == "1"
        did, undid = nsid.split(" ")
        made = body_of(body)
        await ask(viewer.did, undid if undo else did, body=made)
        if wants_json(request):
            return json_answer({})
        anchor = body.get("post").rpartition(" ")[2] if body.get("post") else ""
        return redirect(way_back(body.get("return"), anchor, notice), 303)

    @blueprint.post("/api/actions/bookmark")
    async def bookmark() -> Any:
        """Keep a post (`post`: address, cid); with `undo`, no longer."""

        def made(body: Body) -> Json:
            uri, cid, *_ = [*body.get("post").split(" "), "", ""]
            return {"uri": body.get("uri") or uri, "cid": body.get("cid") or cid}

        return await act(
            "app.bsky.bookmark.createBookmark app.bsky.bookmark.deleteBookmark", made, "bookmarked"
        )

    @blueprint.post("/api/actions/mute")
    async def mute() -> Any:
        """Mute an account (`actor`), perhaps only its `reposts` or `quotes`; with `undo`, no longer."""

        def made(body: Body) -> Json:
            if not is_did(body.get("actor")):
                raise errors.BadInput("No account was named.")
            return {
                "actor": body.get("actor"),
                "onlyReposts": body.flag("reposts"),
                "onlyQuoteposts": body.flag("quotes"),
            }

        return await act("app.bsky.graph.muteActor app.bsky.graph.unmuteActor", made, "saved")

    @blueprint.post("/api/notifications/seen")
    async def seen() -> Any:
        """Everything up to `at` was seen."""
        return await act(
            "app.bsky.notification.updateSeen app.bsky.notification.updateSeen",
            lambda body: {"seenAt": body.get("at")},
        )

    @blueprint.get("/keyboard")
    async def keyboard() -> Any:
        """The keys."""
        return await frame.render("keyboard.html", here="menu")

    @blueprint.get("/about")
    async def about() -> Any:
        """What this is, and what it keeps."""
        return await frame.render("about.html", here="menu", name=frame.origin.split("://")[-1])

    return blueprint


def _grouped(rows: list[Json], look: Look) -> list[Told]:
    found: list[Told] = []
    last: tuple[str, ...] = ()
    for row in rows:
        words, has_post = REASONS.get(str(row.get("reason")), ("did something", False))
        who = present.person(row.get("author"), look)
        when = present.when(row.get("indexedAt"), look.now_us)
        subject = row.get("reasonSubject")
        subject = subject if isinstance(subject, str) else ""
        key = (words, subject, when.iso[:10], str(row.get("isRead")))
        if key == last and not has_post:
            line = found[-1]
            people = line.people if len(line.people) >= 5 else [*line.people, who]
            more = line.more + (len(line.people) >= 5)
            found[-1] = line._replace(people=people, more=more)
            continue
        last = key
        uri = str(row.get("uri")) if has_post else subject
        record = row.get("record")
        text = record.get("text") if has_post and isinstance(record, dict) else ""
        found.append(
            Told(
                words=words,
                people=[who],
                more=0,
                when=when,
                text=richtext.plain(text)[:300] if isinstance(text, str) else "",
                path=present.post_path(uri) if "/app.bsky.feed.post/" in uri else who.path,
                unread=not row.get("isRead"),
            )
        )
    return found


def _people(views: list[Json], look: Look) -> list[tuple[present.Person, str]]:
    """Each with what he says of himself, in one line."""
    found = []
    for view in views:
        about = view.get("description")
        about = " ".join(richtext.plain(about).split()) if isinstance(about, str) else ""
        found.append((present.person(view, look), about[:200]))
    return found


def _group(view: Json, look: Look) -> Group:
    uri = str(view.get("uri"))
    did, _, rkey = [*uri.removeprefix("at://").split("/"), "", ""][:3]
    name, about = view.get("name"), view.get("description")
    rest = f"{quote(did, safe=':.')}/{quote(rkey)}"
    return Group(
        name=richtext.name(name) if isinstance(name, str) else "List",
        about=richtext.plain(about)[:300] if isinstance(about, str) else "",
        path=f"/l/{rest}",
        members=f"/lists/{rest}",
        by=present.person(view.get("creator"), look),
        size=present.count(view.get("listItemCount")),
    )


def _here(name: str) -> dict[str, Any]:
    return {"name": name, "current": True, "href": request.path}


def _tabs(base: str, shown: str, all_: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "current": key == shown, "href": f"{base}?{urlencode({'show': key})}" if key else base}
        for key, name in all_
    ]


def _further(base: str, answer: Json, **keep: str) -> str:
    cursor = answer.get("cursor")
    if not cursor:
        return ""
    return f"{base}?{urlencode({**{k: v for k, v in keep.items() if v}, 'before': cursor})}"


def _iso(us: int) -> str:
    moment = dt.datetime.fromtimestamp(us / 1e6, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
