"""From the timeline's views to what a template prints: names, times, media, quotes.

Views are the JSON of app.bsky.feed.defs; records inside are other people's data, so every field is
read as if it could hold anything.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any, NamedTuple
from urllib.parse import quote

from appliance.errors import BadInput
from appliance.protocol.syntax import is_language, parse_at_uri, parse_datetime_us
from appliance.web import richtext

View = dict[str, Any]

DAY_US = 86_400_000_000
IMAGES_MAX = 20
LABELS_MAX = 10
QUOTES_DEEP_MAX = 2

# The box that a single picture is fitted into, in CSS pixels: the width of the text beside an avatar.
PICTURE_WIDTH, PICTURE_HEIGHT = 552, 480
# Width by height. The style sheet has a class for each, so that nothing moves when a picture arrives
# whatever its record has said; the nearest one cuts off a little at most.
SHAPES = (0.6, 0.667, 0.75, 0.8, 0.9, 1, 1.1, 1.25, 1.333, 1.5, 1.6, 1.778, 2, 2.25, 2.6, 3.2)
SHAPE_UNKNOWN = 9

# https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/label/defs.json
COVERS = {
    "porn": "Adult content",
    "sexual": "Sexually suggestive",
    "nudity": "Nudity",
    "graphic-media": "Graphic media",
    "gore": "Graphic media",
}
MEMBERS_ONLY = "!no-unauthenticated"


class Look(NamedTuple):
    """With which eyes a view is read: when, under which address of ours, and by whom ('' is a guest)."""

    now_us: int
    origin: str
    viewer: str = ""

    def own(self, link: str) -> str:
        """A checked address; one of ours as a path, so that it works under every name we have."""
        return link.removeprefix(self.origin) if link.startswith(self.origin + "/") else link


class When(NamedTuple):
    """A moment for a <time> element: machine form, short form, full form."""

    iso: str
    short: str
    full: str


class Person(NamedTuple):
    """Somebody, ready to print. ``name`` falls back to the handle; ``handle`` may be handle.invalid."""

    did: str
    handle: str
    name: str
    avatar: str
    path: str
    initial: str
    members_only: bool = False


class Image(NamedTuple):
    """A picture with its description, and the box that it has on the page before it has come."""

    thumb: str
    full: str
    alt: str
    shape: int
    width: int
    height: int


class Card(NamedTuple):
    """A post, in whatever state it is: '', missing, blocked, detached or members (for signed-in eyes)."""

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
    liked: bool = False
    reposted: bool = False
    bookmarked: bool = False
    closed: bool = False
    labels: list[str] = []  # noqa: RUF012
    cover: str = ""


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


def person(view: Any, look: Look) -> Person:
    """A profile view of any size."""
    view = view if isinstance(view, dict) else {}
    did = _text(view.get("did"))
    handle = richtext.name(_text(view.get("handle"))) or "handle.invalid"
    name = richtext.name(_text(view.get("displayName"))) or handle
    return Person(
        did=did,
        handle=handle,
        name=name,
        avatar=look.own(richtext.safe_link(view.get("avatar"))),
        path="/profile/" + quote(handle if handle != "handle.invalid" else did, safe=":."),
        initial=next((c.upper() for c in name if c.isalnum()), "•"),
        members_only=MEMBERS_ONLY in _label_values(view),
    )


def entry(item: View, look: Look) -> Entry:
    """A feedViewPost."""
    post = card(item.get("post"), look)
    reason = item.get("reason")
    reason = reason if isinstance(reason, dict) else {}
    kind = _text(reason.get("$type"))
    reposted = kind.endswith("#reasonRepost")
    reply = item.get("reply")
    answers, answers_state, parent_path = None, "", ""
    if isinstance(reply, dict) and isinstance(reply.get("parent"), dict):
        parent = reply["parent"]
        if isinstance(parent.get("author"), dict) and "handle" in parent["author"]:
            answers = person(parent["author"], look)
        else:
            answers_state = "blocked" if parent.get("blocked") else "missing"
        parent_path = post_path(_text(parent.get("uri")))
    return Entry(
        post=post,
        anchor=anchor(_text(reason.get("uri")) if reposted else post.uri),
        reposted_by=person(reason.get("by"), look) if reposted else None,
        reposted_when=when(reason.get("indexedAt"), look.now_us) if reposted else None,
        pinned=kind.endswith("#reasonPin"),
        answers=answers,
        answers_state=answers_state,
        parent_path=parent_path,
    )


def card(view: Any, look: Look, *, depth: int = 0) -> Card:
    """A postView, a quoted viewRecord, or what stands in its place."""
    view = view if isinstance(view, dict) else {}
    uri = _text(view.get("uri"))
    state = _state(view)
    author = person(view.get("author"), look)
    if not state and author.members_only and not look.viewer:
        state = "members"
    if state:
        return Card(state, uri, anchor=anchor(uri))
    record = view.get("record", view.get("value"))
    record = record if isinstance(record, dict) else {}
    embeds = [view.get("embed")] if depth == 0 else view.get("embeds")
    media = _media(embeds if isinstance(embeds, list) else [], look, depth)
    viewer = view["viewer"] if isinstance(view.get("viewer"), dict) else {}
    langs = record.get("langs")
    lang = langs[0] if isinstance(langs, list) and langs and isinstance(langs[0], str) else ""
    labels = [richtext.name(value) for value in _label_values(view) if not value.startswith("!")]
    return Card(
        "",
        uri=uri,
        cid=_text(view.get("cid")),
        anchor=anchor(uri),
        path=post_path(uri),
        author=author,
        when=when(view.get("indexedAt"), look.now_us),
        text=richtext.segments(_text(record.get("text")), record.get("facets")),
        lang=lang if is_language(lang) else "",
        images=media["images"],
        link=media["link"],
        video=media["video"],
        quoted=media["quoted"],
        other=media["other"],
        counts={name: count(view.get(f"{name}Count")) for name in ("reply", "repost", "like", "quote")},
        liked=bool(viewer.get("like")),
        reposted=bool(viewer.get("repost")),
        bookmarked=bool(viewer.get("bookmarked")),
        closed=bool(viewer.get("replyDisabled")),
        labels=[label for label in labels if label and label not in COVERS],
        cover=next((COVERS[label] for label in labels if label in COVERS), ""),
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


def _state(view: View) -> str:
    kind = _text(view.get("$type"))
    if view.get("notFound") or kind.endswith("#viewNotFound"):
        return "missing"
    if view.get("blocked") or kind.endswith("#viewBlocked"):
        return "blocked"
    if view.get("detached") or kind.endswith("#viewDetached"):
        return "detached"
    return "" if isinstance(view.get("author"), dict) else "missing"


def _media(embeds: list[Any], look: Look, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"images": [], "link": None, "video": None, "quoted": None, "other": None}
    queue = [embed for embed in embeds if isinstance(embed, dict)]
    while queue:
        embed = queue.pop(0)
        kind = _text(embed.get("$type"))
        if kind == "app.bsky.embed.recordWithMedia#view":
            queue += [part for part in (embed.get("media"), embed.get("record")) if isinstance(part, dict)]
        elif kind in ("app.bsky.embed.images#view", "app.bsky.embed.gallery#view"):
            found["images"] = _images(embed.get("images", embed.get("items")), look)
        elif kind == "app.bsky.embed.external#view":
            found["link"] = _link(embed.get("external"), look)
        elif kind == "app.bsky.embed.video#view":
            shape, width, height = _fitted(embed.get("aspectRatio"))
            found["video"] = {
                "poster": look.own(richtext.safe_link(embed.get("thumbnail"))),
                "alt": richtext.plain(_text(embed.get("alt"))),
                "shape": shape,
                "width": width,
                "height": height,
            }
        elif kind == "app.bsky.embed.record#view":
            record = embed.get("record")
            if isinstance(record, dict) and isinstance(record.get("record"), dict):
                record = record["record"]
            if isinstance(record, dict):
                found["other"] = _other(record)
                if found["other"] is None and depth < QUOTES_DEEP_MAX:
                    found["quoted"] = card(record, look, depth=depth + 1)
    return found


def _other(record: View) -> dict[str, str] | None:
    """A quoted feed, list, labeler or starter pack: what it is called and who made it."""
    kind = next((label for suffix, label in OTHERS if _text(record.get("$type")).endswith(suffix)), "")
    if not kind:
        return None
    inner = record.get("record")
    title = next(
        (
            text
            for holder in (record, inner if isinstance(inner, dict) else {})
            for key in ("displayName", "name")
            if (text := richtext.name(_text(holder.get(key))))
        ),
        kind,
    )
    creator = record.get("creator")
    handle = richtext.name(_text(creator.get("handle"))) if isinstance(creator, dict) else ""
    return {"kind": kind, "title": title, "by": handle}


OTHERS = (
    ("#generatorView", "Feed"),
    ("#listView", "List"),
    ("#labelerView", "Labeler"),
    ("#starterPackViewBasic", "Starter pack"),
    ("#starterPackView", "Starter pack"),
)


def _images(pictures: Any, look: Look) -> list[Image]:
    pictures = [p for p in pictures if isinstance(p, dict)] if isinstance(pictures, list) else []
    pictures = pictures[:IMAGES_MAX]
    found = []
    for number, picture in enumerate(pictures, 1):
        thumb = look.own(richtext.safe_link(picture.get("thumb", picture.get("thumbnail"))))
        alt = richtext.plain(_text(picture.get("alt"))).strip() or "No description by the author"
        shape, width, height = _fitted(picture.get("aspectRatio"))
        found.append(
            Image(
                thumb=thumb,
                full=look.own(richtext.safe_link(picture.get("fullsize"))) or thumb,
                alt=f"Image {number} of {len(pictures)}: {alt}" if len(pictures) > 1 else alt,
                shape=shape,
                width=width,
                height=height,
            )
        )
    return [image for image in found if image.thumb]


def _fitted(ratio: Any) -> tuple[int, int, int]:
    """The shape nearest to that of a picture, and its size on the page."""
    shape = SHAPE_UNKNOWN
    if isinstance(ratio, dict):
        width, height = ratio.get("width"), ratio.get("height")
        if type(width) is int and type(height) is int and 0 < width < 1 << 53 and 0 < height < 1 << 53:
            wanted = math.log(width / height)
            shape = min(range(len(SHAPES)), key=lambda i: abs(math.log(SHAPES[i]) - wanted))
    shown = min(PICTURE_WIDTH, round(PICTURE_HEIGHT * SHAPES[shape]))
    return shape, shown, round(shown / SHAPES[shape])


def _link(external: Any, look: Look) -> dict[str, str] | None:
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
        "thumb": look.own(richtext.safe_link(external.get("thumb"))),
    }


def _label_values(view: View) -> list[str]:
    labels = view.get("labels")
    return [
        _text(label.get("val"))
        for label in (labels if isinstance(labels, list) else [])[:LABELS_MAX]
        if isinstance(label, dict) and not label.get("neg")
    ]


def short(number: int) -> str:
    """A number as it stands beside an icon; nothing for none."""
    if number < 10_000:
        return str(number) if number else ""
    for unit, name in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if number >= unit:
            shown = f"{number / unit:.1f}" if number < 10 * unit else str(number // unit)
            return shown.removesuffix(".0") + name
    return str(number)


def count(value: Any) -> int:
    """A number of likes or the like; 0 for anything else."""
    return value if type(value) is int and 0 <= value < 1 << 53 else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
