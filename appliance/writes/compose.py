"""From what a person typed to a post record: pure, but for the handles that it names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from appliance.errors import BadInput
from appliance.protocol import lexicons, syntax
from appliance.protocol.lexicon_rules import graphemes_reach

POST = "app.bsky.feed.post"
# https://github.com/bluesky-social/atproto/blob/main/lexicons/app/bsky/feed/post.json
GRAPHEMES_MAX = 300
BYTES_MAX = 3000
LANGS_MAX = 3
FACETS_MAX = 100
TAG_GRAPHEMES_MAX = 64
LINK_CHARS_MAX = 2048

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LINK = re.compile(
    r"(?<![^\s(\[{<\"'«“‘])(https?://[^\s<>\"]+|(?:[a-z0-9-]+\.)+[a-z]{2,24}(?:[/?#][^\s<>\"]*)?)",
    re.IGNORECASE,
)
_MENTION = re.compile(r"(?<![^\s(\[{\"'«“‘])@([a-z0-9.-]+)", re.IGNORECASE)
_TAG = re.compile(r"(?<!\S)[#＃]([^\s#＃\u00ad\u200b-\u200d\u2060\u20e2]+)")
_TAIL = ".,;:!?'\"»”’"
_PAIRS = {")": "(", "]": "[", "}": "{"}
# A name without https:// is a link only under endings that are hardly ever anything else.
_ENDING_WORDS = (
    "com org net edu gov io dev app social blog info me co uk de fr at ch nl eu us ca jp br se no fi "
    "dk pl it es pt be ie nz au tv fm gg xyz news wiki art studio online site tech cloud world "
    "academy space"
)
_ENDINGS = frozenset(_ENDING_WORDS.split(" "))


class Span(NamedTuple):
    """A stretch of text, in characters, and what it means: a link's address, a handle or a tag."""

    start: int
    end: int
    kind: str
    target: str


class Answered(NamedTuple):
    """The post that is replied to, and the root of its thread: (uri, cid) each."""

    parent: tuple[str, str]
    root: tuple[str, str]


async def post(
    text: str,
    *,
    reply: Answered | None,
    langs: Sequence[str],
    now_us: int,
    resolve: Callable[[str], Awaitable[str | None]],
) -> dict[str, Any]:
    """A post record. ``resolve`` gives the DID of a handle. Raises BadInput for the writer to read."""
    check_text(text)
    if len(langs) > LANGS_MAX or not all(syntax.is_language(lang) for lang in langs):
        raise BadInput(f"Name up to {LANGS_MAX} languages")
    record: dict[str, Any] = {"$type": POST, "text": text, "createdAt": timestamp(now_us)}
    found = await facets(text, resolve)
    if found:
        record["facets"] = found
    if langs:
        record["langs"] = list(langs)
    if reply is not None:
        record["reply"] = {
            "root": {"uri": reply.root[0], "cid": reply.root[1]},
            "parent": {"uri": reply.parent[0], "cid": reply.parent[1]},
        }
    problem = lexicons.validate_record(POST, orjson.dumps(record))
    if problem is not None:
        raise BadInput(f"This post can't be sent: {problem}")
    return record


def check_text(text: str) -> None:
    """Raises BadInput for a text that no post can have."""
    if not text.strip():
        raise BadInput("Write something first")
    if _CONTROL.search(text):
        raise BadInput("The text holds control characters")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadInput("The text holds half characters") from None
    if size > BYTES_MAX or graphemes_reach(text, GRAPHEMES_MAX + 1):
        raise BadInput(f"A post has at most {GRAPHEMES_MAX} characters")


def timestamp(us: int) -> str:
    """A time as records have it, to the millisecond."""
    moment = datetime.fromtimestamp(us // 1000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def facets(text: str, resolve: Callable[[str], Awaitable[str | None]]) -> list[dict[str, Any]]:
    """Links, mentions and tags as facets: UTF-8 byte offsets, in order, disjoint.

    A handle that nobody has stays plain text.
    """
    found: list[dict[str, Any]] = []
    dids: dict[str, str | None] = {}
    for span in spans(text)[:FACETS_MAX]:
        match span.kind:
            case "link":
                feature = {"$type": "app.bsky.richtext.facet#link", "uri": span.target}
            case "tag":
                feature = {"$type": "app.bsky.richtext.facet#tag", "tag": span.target}
            case _:
                if span.target not in dids:
                    dids[span.target] = await resolve(span.target)
                did = dids[span.target]
                if did is None:
                    continue
                feature = {"$type": "app.bsky.richtext.facet#mention", "did": did}
        start = len(text[: span.start].encode())
        end = start + len(text[span.start : span.end].encode())
        found.append({"index": {"byteStart": start, "byteEnd": end}, "features": [feature]})
    return found


def spans(text: str) -> list[Span]:
    """What in a text is a link, a mention or a tag, in order; where two overlap the first counts."""
    candidates = [*_links(text), *_mentions(text), *_tags(text)]
    taken: list[Span] = []
    for span in sorted(candidates):
        if not taken or span.start >= taken[-1].end:
            taken.append(span)
    return taken


def _links(text: str) -> list[Span]:
    found = []
    for match in _LINK.finditer(text):
        shown = _without_tail(match[1])
        bare = not re.match("https?://", shown, re.IGNORECASE)
        host = re.split("[/?#]", shown, maxsplit=1)[0]
        if bare and host.rpartition(".")[2].lower() not in _ENDINGS:
            continue
        address = f"https://{shown}" if bare else shown
        if len(address) <= LINK_CHARS_MAX and syntax.is_uri(address) and "." in address.partition("://")[2]:
            found.append(Span(match.start(1), match.start(1) + len(shown), "link", address))
    return found


def _mentions(text: str) -> list[Span]:
    found = []
    for match in _MENTION.finditer(text):
        handle = match[1].rstrip(".-")
        if syntax.is_handle(handle):
            found.append(Span(match.start(), match.start(1) + len(handle), "mention", handle.lower()))
    return found


def _tags(text: str) -> list[Span]:
    found = []
    for match in _TAG.finditer(text):
        tag = match[1].rstrip(_TAIL + ")]}…")
        if (
            not tag
            or tag.isdigit()
            or tag.startswith("\ufe0f")
            or graphemes_reach(tag, TAG_GRAPHEMES_MAX + 1)
        ):
            continue
        found.append(Span(match.start(), match.start(1) + len(tag), "tag", tag))
    return found


def _without_tail(link: str) -> str:
    """A link without the marks that belong to the sentence around it."""
    while link:
        last = link[-1]
        if last in _TAIL or (last in _PAIRS and link.count(last) > link.count(_PAIRS[last])):
            link = link[:-1]
        else:
            break
    return link
