"""From the timeline's views to what a template prints: names, times, media, quotes.

Views are the JSON of app.bsky.feed.defs; records inside are other people's data, so every field is
read as if it could hold anything.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple
from urllib.parse import quote

from appliance.errors import BadInput
from appliance.protocol.syntax import is_language, parse_at_uri, parse_datetime_us
from appliance.web import richtext

View = dict[str, Any]

DAY_US = 86_400_000_000
IMAGES_MAX = 20


class When(NamedTuple):
    """A moment for a <time> element: machine form, short form, full form."""

    iso: str
    short: str
    full: str


class Person(NamedTuple):
    """Somebody, ready to print. ``name`` falls back to the handle."""

    did: str
    handle: str
    name: str
    avatar: str
    path: str


class Image(NamedTuple):
    """A picture with its description; width and height are 0 where the record names none."""

    thumb: str
    full: str
    alt: str
    width: int
    height: int


class Card(NamedTuple):
    """A post, in whatever state it is. ``state`` is '', missing, blocked or detached."""

    state: str
    uri: str = ""
    cid: str = ""
    anchor: str = ""
    path: str = ""
    author: Person | None = None
    when: When | None = None
    text: list[richtext.Segment] = []  # noqa: RUF012 - a NamedTuple's default, never changed
    lang: str = ""
    images: list[Image] = []  # noqa: RUF012
    link: dict[str, str] | None = None
    video: dict[str, str] | None = None
    quoted: Card | None = None
    other: dict[str, str] | None = None
    counts: dict[str, int] = {}  # noqa: RUF012
    viewer: dict[str, Any] = {}  # noqa: RUF012
    labels: list[str] = []  # noqa: RUF012


class Entry(NamedTuple):
    """A row of a timeline: a post with why it is here and what it answers."""

    post: Card
    anchor: str
    reposted_by: Person | None
    reposted_when: When | None
    pinned: bool
    answers: Person | None
    answers_state: str
    parent_path: str


def when(text: Any, now_us: int) -> When:
    """A moment as readers like it: minutes and hours for a day, then the date."""
    try:
        at_us = parse_datetime_us(text) if isinstance(text, str) else 0
    except BadInput:
        at_us = 0
    at_us = min(max(at_us, 0), 253_402_300_799_000_000)
    moment = dt.datetime.fromtimestamp(at_us / 1e6, dt.UTC)
    age_us = max(0, now_us - at_us)
    now = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC)
    if age_us < 60_000_000:
        short = "now"
    elif age_us < 3_600_000_000:
        short = f"{age_us // 60_000_000} min"
    elif age_us < DAY_US:
        short = f"{age_us // 3_600_000_000} h"
    elif age_us < 7 * DAY_US:
        short = f"{age_us // DAY_US} d"
    else:
        short = f"{moment.day} {moment:%b}" + ("" if moment.year == now.year else f" {moment.year}")
    full = f"{moment.day} {moment:%B} {moment.year}, {moment:%H:%M} UTC"
    return When(moment.isoformat(timespec="seconds").replace("+00:00", "Z"), short, full)


def person(view: Any) -> Person:
    """A profile view of any size."""
    view = view if isinstance(view, dict) else {}
    did = _text(view.get("did"))
    handle = richtext.name(_text(view.get("handle"))) or "handle.invalid"
    return Person(
        did=did,
        handle=handle,
        name=richtext.name(_text(view.get("displayName"))) or handle,
        avatar=richtext.safe_link(view.get("avatar")),
        path="/profile/" + quote(handle if handle != "handle.invalid" else did, safe=":."),
    )


def entry(item: View, now_us: int) -> Entry:
    """A feedViewPost."""
    post = card(item.get("post"), now_us)
    reason = item.get("reason")
    reason = reason if isinstance(reason, dict) else {}
    kind = _text(reason.get("$type"))
    reposted = kind.endswith("#reasonRepost")
    reply = item.get("reply")
    answers, answers_state, parent_path = None, "", ""
    if isinstance(reply, dict) and isinstance(reply.get("parent"), dict):
        parent = reply["parent"]
        if isinstance(parent.get("author"), dict) and "handle" in parent["author"]:
            answers = person(parent["author"])
        else:
            answers_state = "blocked" if parent.get("blocked") else "missing"
        parent_path = post_path(_text(parent.get("uri")))
    return Entry(
        post=post,
        anchor=anchor(_text(reason.get("uri")) if reposted else post.uri),
        reposted_by=person(reason.get("by")) if reposted else None,
        reposted_when=when(reason.get("indexedAt"), now_us) if reposted else None,
        pinned=kind.endswith("#reasonPin"),
        answers=answers,
        answers_state=answers_state,
        parent_path=parent_path,
    )


def card(view: Any, now_us: int, *, depth: int = 0) -> Card:
    """A postView, a quoted viewRecord, or what stands in its place."""
    view = view if isinstance(view, dict) else {}
    uri = _text(view.get("uri"))
    kind = _text(view.get("$type"))
    if view.get("notFound") or kind.endswith("#viewNotFound"):
        return Card("missing", uri)
    if view.get("blocked") or kind.endswith("#viewBlocked"):
        return Card("blocked", uri)
    if view.get("detached") or kind.endswith("#viewDetached"):
        return Card("detached", uri)
    record = view.get("record", view.get("value"))
    record = record if isinstance(record, dict) else {}
    embeds = [view.get("embed")] if depth == 0 else view.get("embeds")
    media = _media(embeds if isinstance(embeds, list) else [], now_us, depth)
    langs = record.get("langs")
    lang = langs[0] if isinstance(langs, list) and langs and isinstance(langs[0], str) else ""
    return Card(
        "",
        uri=uri,
        cid=_text(view.get("cid")),
        anchor=anchor(uri),
        path=post_path(uri),
        author=person(view.get("author")),
        when=when(view.get("indexedAt"), now_us),
        text=richtext.segments(_text(record.get("text")), record.get("facets")),
        lang=lang if is_language(lang) else "",
        images=media["images"],
        link=media["link"],
        video=media["video"],
        quoted=media["quoted"],
        other=media["other"],
        counts={
            name: view[f"{name}Count"]
            for name in ("reply", "repost", "like", "quote")
            if isinstance(view.get(f"{name}Count"), int)
        },
        viewer=view["viewer"] if isinstance(view.get("viewer"), dict) else {},
        labels=[
            richtext.name(_text(label.get("val")))
            for label in view.get("labels") or []
            if isinstance(label, dict)
        ],
    )


def anchor(uri: str) -> str:
    """A name for the row on its page, the same on every page that shows it."""
    try:
        parsed = parse_at_uri(uri)
    except BadInput:
        return "row"
    return f"{parsed.authority[-6:]}-{parsed.rkey}"


def post_path(uri: str) -> str:
    """The address of a post's thread page."""
    return "/post/" + quote(uri, safe=":/.-_~") if uri else ""


def _media(embeds: list[Any], now_us: int, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"images": [], "link": None, "video": None, "quoted": None, "other": None}
    queue = [embed for embed in embeds if isinstance(embed, dict)]
    while queue:
        embed = queue.pop(0)
        kind = _text(embed.get("$type"))
        if kind == "app.bsky.embed.recordWithMedia#view":
            queue += [part for part in (embed.get("media"), embed.get("record")) if isinstance(part, dict)]
        elif kind in ("app.bsky.embed.images#view", "app.bsky.embed.gallery#view"):
            pictures = embed.get("images", embed.get("items"))
            found["images"] = [
                _image(picture)
                for picture in (pictures if isinstance(pictures, list) else [])[:IMAGES_MAX]
                if isinstance(picture, dict)
            ]
        elif kind == "app.bsky.embed.external#view":
            found["link"] = _link(embed.get("external"))
        elif kind == "app.bsky.embed.video#view":
            found["video"] = {
                "poster": richtext.safe_link(embed.get("thumbnail")),
                "playlist": richtext.safe_link(embed.get("playlist")),
                "alt": richtext.plain(_text(embed.get("alt"))),
            }
        elif kind == "app.bsky.embed.record#view":
            record = embed.get("record")
            if isinstance(record, dict) and isinstance(record.get("record"), dict):
                record = record["record"]
            if isinstance(record, dict):
                if "displayName" in record or "name" in record or "policies" in record:
                    title = _text(record.get("displayName")) or _text(record.get("name")) or "a labeler"
                    found["other"] = {"title": richtext.name(title)}
                elif depth < 2:
                    found["quoted"] = card(record, now_us, depth=depth + 1)
    return found


def _image(picture: View) -> Image:
    ratio = picture.get("aspectRatio")
    width, height = 0, 0
    if isinstance(ratio, dict) and type(ratio.get("width")) is int and type(ratio.get("height")) is int:
        width, height = min(max(ratio["width"], 0), 20_000), min(max(ratio["height"], 0), 20_000)
    return Image(
        thumb=richtext.safe_link(picture.get("thumb", picture.get("thumbnail"))),
        full=richtext.safe_link(picture.get("fullsize")),
        alt=richtext.plain(_text(picture.get("alt"))),
        width=width,
        height=height,
    )


def _link(external: Any) -> dict[str, str] | None:
    if not isinstance(external, dict):
        return None
    href = richtext.safe_link(external.get("uri"))
    if not href:
        return None
    return {
        "href": href,
        "host": richtext.host_of(href),
        "title": richtext.name(_text(external.get("title"))) or richtext.host_of(href),
        "about": richtext.name(_text(external.get("description"))),
        "thumb": richtext.safe_link(external.get("thumb")),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
