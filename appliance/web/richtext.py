"""A post's text and facets as segments that a template can print without trusting them.

Facets are byte ranges of the UTF-8 text (app.bsky.richtext.facet). One that is out of range, cuts
a character, overlaps an earlier one or leads somewhere unsafe is dropped; the text stays.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from appliance.protocol.syntax import is_did

LINK_LENGTH_MAX = 2048
_PRINTABLE = re.compile(r"[!-~]+")
_LOOKS_LIKE_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://)?[\w.+@-]*[\w-]+\.[a-z]{2,}(?:[/:?#@].*)?", re.IGNORECASE
)
_CONTROLS = {c: None for c in (*range(0x20), *range(0x7F, 0xA0)) if c not in (0x09, 0x0A)}
_BIDI = dict.fromkeys((*range(8234, 8239), *range(8294, 8298), 8206, 8207, 1564))
_COMBINING_RUN = re.compile(r"([̀-ͯ᪰-᫿᷀-᷿⃐-⃿︠-︯]{4})[̀-ͯ᪰-᫿᷀-᷿⃐-⃿︠-︯]+")


class Segment(NamedTuple):
    """A run of text. ``href`` is our own path or a checked outside address.

    ``beware`` is the host that a link really leads to, when its text names another one.
    """

    kind: Literal["text", "link", "mention", "tag"]
    text: str
    href: str = ""
    beware: str = ""


def segments(text: str, facets: Any) -> list[Segment]:
    """The text cut at its facets. Never raises, whatever the record holds."""
    data = text.encode("utf-8", "surrogatepass")
    found: list[tuple[int, int, Segment]] = []
    for facet in facets if isinstance(facets, list) else []:
        placed = _placed(data, facet)
        if placed is not None:
            found.append(placed)
    found.sort(key=lambda placed: placed[0])
    parts: list[Segment] = []
    at = 0
    for start, end, segment in found:
        if start < at:
            continue
        if start > at:
            parts.append(Segment("text", plain(data[at:start].decode("utf-8", "replace"))))
        parts.append(segment)
        at = end
    if at < len(data):
        parts.append(Segment("text", plain(data[at:].decode("utf-8", "replace"))))
    return parts


def plain(text: str) -> str:
    """Text without controls, with stacked marks cut to four."""
    return _COMBINING_RUN.sub(r"\1", text.translate(_CONTROLS))


def name(text: str) -> str:
    """A name on one line, without direction marks that would reorder what stands beside it."""
    return " ".join(plain(text).translate(_BIDI).split())


def safe_link(uri: Any) -> str:
    """The address if a browser may be sent there, else ''."""
    if not isinstance(uri, str) or len(uri) > LINK_LENGTH_MAX:
        return ""
    link: str = quote(uri, safe="!#$%&'()*+,/:;=?@[]~-._")
    if not _PRINTABLE.fullmatch(link) or "\\" in link:
        return ""
    try:
        parts = urlsplit(link)
        host = parts.hostname
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        return ""
    return link


def host_of(uri: str) -> str:
    """The host of a checked address, without www."""
    return (urlsplit(uri).hostname or "").removeprefix("www.")


def _placed(data: bytes, facet: Any) -> tuple[int, int, Segment] | None:
    if not isinstance(facet, dict):
        return None
    index, features = facet.get("index"), facet.get("features")
    if not isinstance(index, dict) or not isinstance(features, list):
        return None
    start, end = index.get("byteStart"), index.get("byteEnd")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(data):
        return None
    try:
        text = plain(data[start:end].decode("utf-8"))
    except UnicodeDecodeError:
        return None
    for feature in features:
        if isinstance(feature, dict):
            segment = _feature(feature, text)
            if segment is not None:
                return start, end, segment
    return None


def _feature(feature: dict[str, Any], text: str) -> Segment | None:
    kind = feature.get("$type")
    if kind == "app.bsky.richtext.facet#link":
        href = safe_link(feature.get("uri"))
        if not href:
            return None
        host = host_of(href)
        beware = "" if _honest(text, host) else host
        return Segment("link", text, href, beware)
    if kind == "app.bsky.richtext.facet#mention":
        did = feature.get("did")
        if isinstance(did, str) and is_did(did):
            return Segment("mention", text, f"/profile/{did}")
    if kind == "app.bsky.richtext.facet#tag":
        tag = feature.get("tag")
        if isinstance(tag, str) and tag:
            return Segment("tag", text)
    return None


def _honest(text: str, host: str) -> bool:
    """Whether the visible text names no other host than the one the link leads to."""
    shown = text.strip().rstrip("….").lower()
    if not _LOOKS_LIKE_ADDRESS.fullmatch(shown):
        return True
    if "@" in shown:
        return False
    shown = shown.split("://", 1)[-1]
    named = re.split(r"[/:?#]", shown, maxsplit=1)[0].removeprefix("www.")
    return named == host or (host.startswith(named) and text.strip().endswith("…"))
