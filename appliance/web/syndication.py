"""Feeds for readers of feeds: an account's posts, and one's own timeline behind a secret address.

Atom, RSS and JSON Feed, with pictures' descriptions, marks of replies and reposts, ETag and 304.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any, Final, NamedTuple

from markupsafe import escape
from quart import Blueprint, Response, redirect, request

from appliance import errors
from appliance.protocol.syntax import is_at_identifier
from appliance.timeline.reading_views import Wanted
from appliance.web import present
from appliance.web.actions import way_back
from appliance.web.doors import FeedKeys, Json, Reading
from appliance.web.frame import Frame
from appliance.web.present import Look

ROWS: Final = 50
# https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TYPES: Final = {
    "atom": "application/atom+xml",
    "rss": "application/rss+xml",
    "json": "application/feed+json",
}


class Item(NamedTuple):
    """One entry of a feed. ``html`` is finished."""

    id: str
    link: str
    title: str
    author: str
    html: str
    at: dt.datetime


def syndication(frame: Frame, reading: Reading, keys: FeedKeys) -> Blueprint:
    """The feeds, and the page where private addresses are made and revoked."""
    blueprint = Blueprint("syndication", __name__)

    @blueprint.get("/feeds/profile/<actor>.<any(atom, rss, json):form>")
    async def of_account(actor: str, form: str) -> Response:
        """An account's posts, for everybody."""
        if not is_at_identifier(actor):
            raise errors.NotFound("That is neither a handle nor a DID.")
        look = Look(frame.clock.now_us(), frame.origin)
        who = present.person(await reading.profile(None, actor), look)
        if who.members_only:
            raise errors.NotFound("This account shows its posts to people who are signed in.")
        page = await reading.author_feed(
            None, who.did, limit=ROWS, before="", kinds="posts_and_author_threads"
        )
        return answer(form, f"{who.name} (@{who.handle})", who.path, items(page.feed, look))

    @blueprint.get("/feeds/private/<key>.<any(atom, rss, json):form>")
    async def of_timeline(key: str, form: str) -> Response:
        """A member's own timeline, for who knows its address; 404 once it is revoked."""
        found = await keys.find(key)
        if found is None:
            raise errors.NotFound("This feed does not exist, or not any more.")
        viewer, timeline = found
        look = Look(frame.clock.now_us(), frame.origin, viewer)
        part = await reading.part(viewer, timeline, Wanted(newest=True), ROWS)
        response = answer(form, part.title or "Timeline", "/", items(part.feed, look))
        response.headers["X-Robots-Tag"] = "noindex"
        return response

    @blueprint.get("/feeds")
    async def mine() -> Any:
        """The private addresses that there are."""
        viewer = await frame.viewer()
        if viewer is None:
            return redirect("/login?return=/feeds", 303)
        return await frame.render(
            "feeds.html",
            here="menu",
            made=[
                (number, present.when(_iso(us), frame.clock.now_us()))
                for number, us in await keys.listing(viewer.did)
            ],
            fresh="",
        )

    @blueprint.post("/api/feeds/make")
    async def make() -> Any:
        """A new private address. It is shown this once and kept only as a hash."""
        viewer = await frame.viewer()
        if viewer is None:
            frame.guard.check_origin(request)
            return redirect("/login", 303)
        await frame.checked()
        key = secrets.token_urlsafe(24)
        await keys.add(viewer.did, key)
        return await frame.render(
            "feeds.html",
            here="menu",
            made=[
                (number, present.when(_iso(us), frame.clock.now_us()))
                for number, us in await keys.listing(viewer.did)
            ],
            fresh=f"{frame.origin}/feeds/private/{key}",
        )

    @blueprint.post("/api/feeds/revoke")
    async def revoke() -> Any:
        """A private address (`number`) leads nowhere from now on."""
        viewer = await frame.viewer()
        if viewer is None:
            frame.guard.check_origin(request)
            return redirect("/login", 303)
        body = await frame.checked()
        number = body.get("number")
        if not number.isascii() or not number.isdecimal() or len(number) > 15:
            raise errors.BadInput("No feed was named.")
        await keys.revoke(viewer.did, int(number))
        return redirect(way_back("/feeds", "", "saved"), 303)

    def answer(form: str, title: str, path: str, entries: Sequence[Item]) -> Response:
        here = frame.origin + request.path
        home = frame.origin + path
        if form == "json":
            data = _json_feed(title, home, here, entries)
        elif form == "atom":
            data = _atom(title, home, here, entries)
        else:
            data = _rss(title, home, here, entries)
        response = Response(data, content_type=f"{TYPES[form]}; charset=utf-8")
        tag = hashlib.sha256(data.encode()).hexdigest()[:20]
        response.set_etag(tag)
        response.headers["Cache-Control"] = "private, max-age=60"
        if request.if_none_match.contains(tag):
            response.status_code = 304
            response.set_data(b"")
        return response

    def items(feed: list[Json], look: Look) -> list[Item]:
        return [
            item(entry, frame.origin) for row in feed if not (entry := present.entry(row, look)).post.state
        ]

    return blueprint


def item(entry: present.Entry, origin: str) -> Item:
    """What a reader of feeds is told of one row."""
    post = entry.post
    assert post.author is not None
    assert post.when is not None
    text = "".join(part.text for part in post.text)
    lines: list[str] = []
    if entry.reposted_by:
        lines.append(f"<p>↻ reposted by {escape(entry.reposted_by.name)}</p>")
    if entry.answers:
        lines.append(f"<p>in reply to {escape(entry.answers.name)}</p>")
    lines.append("<p>" + str(escape(text)).replace("\n", "<br>") + "</p>")
    for image in post.images:
        source = image.thumb if image.thumb.startswith("http") else origin + image.thumb
        if not post.cover:
            lines.append(f'<p><img src="{escape(source)}" alt="{escape(image.alt)}"></p>')
        else:
            lines.append(f"<p>[{escape(post.cover)}: {escape(image.alt)}]</p>")
    if post.video:
        lines.append(f"<p>Video: {escape(post.video['alt'] or 'no description by the author')}</p>")
    if post.link:
        lines.append(f'<p><a href="{escape(post.link["href"])}">{escape(post.link["title"])}</a></p>')
    if post.quoted and post.quoted.author:
        quoted = "".join(part.text for part in post.quoted.text)
        lines.append(f"<blockquote>{escape(post.quoted.author.name)}: {escape(quoted)}</blockquote>")
    when = entry.reposted_when or post.when
    mark = "↻ " if entry.reposted_by else "↪ " if entry.answers or entry.answers_state else ""
    short = " ".join(text.split())
    title = f"{mark}{post.author.name}: {short[:100]}{'…' if len(short) > 100 else ''}"
    identity = f"{post.uri}#{entry.anchor}" if entry.reposted_by else post.uri
    return Item(
        id=identity,
        link=origin + post.path,
        title=title,
        author=f"{post.author.name} (@{post.author.handle})",
        html="".join(lines),
        at=dt.datetime.fromisoformat(when.iso),
    )


def _xml(text: str) -> str:
    return str(escape(_NOT_XML.sub("", text)))


def _atom(title: str, home: str, here: str, entries: Sequence[Item]) -> str:
    newest = max((entry.at for entry in entries), default=dt.datetime.fromtimestamp(0, dt.UTC))
    parts = [
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">',
        f"<title>{_xml(title)}</title><id>{_xml(here)}</id><updated>{newest.isoformat()}</updated>",
        f'<link rel="self" href="{_xml(here)}"/><link href="{_xml(home)}"/>',
    ]
    parts += [
        f"<entry><id>{_xml(entry.id)}</id><title>{_xml(entry.title)}</title>"
        f'<link href="{_xml(entry.link)}"/><updated>{entry.at.isoformat()}</updated>'
        f"<author><name>{_xml(entry.author)}</name></author>"
        f'<content type="html">{_xml(entry.html)}</content></entry>'
        for entry in entries
    ]
    return "".join([*parts, "</feed>\n"])


def _rss(title: str, home: str, here: str, entries: Sequence[Item]) -> str:
    parts = [
        '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom">',
        f"<channel><title>{_xml(title)}</title><link>{_xml(home)}</link>",
        f'<description>{_xml(title)}</description><atom:link rel="self" href="{_xml(here)}"/>',
    ]
    parts += [
        f'<item><guid isPermaLink="false">{_xml(entry.id)}</guid><title>{_xml(entry.title)}</title>'
        f"<link>{_xml(entry.link)}</link><pubDate>{format_datetime(entry.at)}</pubDate>"
        f"<description>{_xml(entry.html)}</description></item>"
        for entry in entries
    ]
    return "".join([*parts, "</channel></rss>\n"])


def _json_feed(title: str, home: str, here: str, entries: Sequence[Item]) -> str:
    return json.dumps(
        {
            "version": "https://jsonfeed.org/version/1.1",
            "title": title,
            "home_page_url": home,
            "feed_url": here,
            "items": [
                {
                    "id": entry.id,
                    "url": entry.link,
                    "title": entry.title,
                    "authors": [{"name": entry.author}],
                    "content_html": entry.html,
                    "date_published": entry.at.isoformat(),
                }
                for entry in entries
            ],
        },
        ensure_ascii=False,
    )


def _iso(us: int) -> str:
    return (
        dt.datetime.fromtimestamp(us / 1e6, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
