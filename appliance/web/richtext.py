"""A post's text and facets as segments that a template can print without trusting them.

Facets are byte ranges of the UTF-8 text (app.bsky.richtext.facet). One that is out of range, cuts
a character, overlaps an earlier one or leads somewhere unsafe is dropped; the text stays.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import idna

from appliance.protocol.syntax import is_did

LINK_LENGTH_MAX = 2048
TEXT_LENGTH_MAX = 10_000
NAME_LENGTH_MAX = 640
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_LOOKS_LIKE_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://)?[\w.+@-]*[\w-]+\.[a-z]{2,}(?:[/:?#@].*)?", re.IGNORECASE
)
_CONTROLS: dict[int, None] = dict.fromkeys(
    c
    for c in (
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0xD800, 0xE000),
        *range(0xE0000, 0xE0020),
        0x202D,
        0x202E,
    )
    if c not in (9, 10)
)
_BIDI: dict[int, None] = dict.fromkeys(
    (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x61C)
)
_COMBINING_RUN = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{3})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_EMPTY_LINES = re.compile(r"[ \t]*\n(?:[ \t]*\n){2,}")
# Letters by their class, but with nothing to see: Hangul fillers and the empty Braille cell.
_INVISIBLE_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


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
    data = text[:TEXT_LENGTH_MAX].encode("utf-8", "surrogatepass")
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
    """Text without controls and overrides, with stacked marks cut to three and one empty line at a time."""
    return _EMPTY_LINES.sub("\n\n", _COMBINING_RUN.sub(r"\1", text[:TEXT_LENGTH_MAX].translate(_CONTROLS)))


def name(text: str) -> str:
    """A name on one line, without direction marks that would reorder what stands beside it.

    '' for a name of which nothing would be seen.
    """
    shown = " ".join(plain(text[:NAME_LENGTH_MAX]).translate(_BIDI).split())
    return shown if any(_is_visible(c) for c in shown) else ""


def safe_link(uri: Any) -> str:
    """The address if a browser may be sent there, else ''. Its host is spelled in ASCII."""
    if not isinstance(uri, str) or len(uri) > LINK_LENGTH_MAX:
        return ""
    uri = uri.strip(" ")
    if "\\" in uri or any(unicodedata.category(c) in _UNSEEN for c in uri):
        return ""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        port = parts.port
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
    except (ValueError, UnicodeError):
        return ""
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return ""
    place = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(place):
        return ""
    rest = uri.partition("//")[2].removeprefix(parts.netloc)
    port_text = "" if port is None else f":{port}"
    link: str = f"{parts.scheme}://{place}{port_text}" + quote(
        rest, safe="!#$%&'()*+,/:;=?@[]~-._", errors="replace"
    )
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
        # What a link shows is what it may be judged by: nothing in it may turn round or hide.
        text = plain(data[start:end].decode("utf-8")).translate(_BIDI)
    except UnicodeDecodeError:
        return None
    if not any(_is_visible(c) for c in text):
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
    shown = unicodedata.normalize("NFKC", text.replace("…", "\0"))
    shown = "".join(c for c in shown if c == "\0" or unicodedata.category(c) not in _UNSEEN).strip().lower()
    cut = shown.endswith("\0")
    shown = shown.rstrip(".\0")
    whole = _LOOKS_LIKE_ADDRESS.fullmatch(shown)
    named = [shown] if whole else [part.strip("()[]<>\"'") for part in shown.split() if "://" in part]
    return all(_names(part, host, cut=cut) for part in named)


def _names(address: str, host: str, *, cut: bool) -> bool:
    if "@" in address:
        return False
    named = re.split(r"[/:?#]", address.split("://", 1)[-1], maxsplit=1)[0].removeprefix("www.")
    if not named.isascii():
        try:
            named = idna.encode(named, uts46=True).decode("ascii")
        except UnicodeError:
            return False
    return named == host or (cut and host.startswith(named))


def _is_visible(character: str) -> bool:
    if character in _INVISIBLE_LETTERS:
        return False
    return unicodedata.category(character)[0] in "LNPS"
