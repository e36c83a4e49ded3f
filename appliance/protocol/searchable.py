"""What a search finds of a record: the words in it, and the facts that operators ask for.

A fact is one word: a letter for its kind, and a number or a hash of what it names.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from appliance.protocol import words

POST: Final = "fp"  # every post has it: what a search without words begins with
REPLY: Final = "fr"
MEDIA: Final = "fm"
VIDEO: Final = "fv"

FACTS_MAX: Final = 64
_HOST_PARTS_MAX: Final = 4


class Searchable(NamedTuple):
    """Words and facts, each separated by blanks."""

    words: str
    facts: str


class _Feature(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    did: str = ""
    uri: str = ""
    tag: str = ""


class _Facet(msgspec.Struct, gc=False):
    features: list[_Feature] = []


class _Picture(msgspec.Struct, gc=False):
    alt: str = ""


class _External(msgspec.Struct, gc=False):
    uri: str = ""
    title: str = ""


class _Media(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    images: list[_Picture] = []
    items: list[_Picture] = []
    alt: str = ""
    external: _External | None = None
    media: _Media | None = None


class _Post(msgspec.Struct, gc=False):
    text: str = ""
    langs: list[str] = []
    tags: list[str] = []
    facets: list[_Facet] = []
    embed: _Media | None = None
    reply: msgspec.Raw = msgspec.Raw()


class _Named(msgspec.Struct, gc=False):
    name: str = ""
    displayName: str = ""  # noqa: N815 - the lexicon's name
    description: str = ""


_post = msgspec.json.Decoder(_Post).decode
_named = msgspec.json.Decoder(_Named).decode
_EMPTY: Final = Searchable("", "")
_PICTURES: Final = frozenset({"app.bsky.embed.images", "app.bsky.embed.gallery"})


def post(body: bytes, author: int) -> Searchable:
    """Of a post: its text, descriptions of its pictures, the title of its card. ``author`` is a number."""
    try:
        read = _post(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _EMPTY
    texts = [read.text]
    facts = {POST: None, by(author): None}
    if read.reply:
        facts[REPLY] = None
    for language in read.langs:
        facts |= dict.fromkeys(in_language(language, whole=True))
    for tag in read.tags:
        facts[tagged(tag)] = None
    for facet in read.facets:
        for feature in facet.features:
            if feature.did:
                facts[mentioning(feature.did)] = None
            elif feature.tag:
                facts[tagged(feature.tag)] = None
            elif feature.uri:
                facts |= dict.fromkeys(_of_link(feature.uri))
    embed = read.embed
    if embed is not None and embed.media is not None:
        embed = embed.media
    if embed is not None:
        if embed.type in _PICTURES:
            facts[MEDIA] = None
            texts += [picture.alt for picture in (embed.images or embed.items)]
        elif embed.type == "app.bsky.embed.video":
            facts[MEDIA] = facts[VIDEO] = None
            texts.append(embed.alt)
        elif embed.external is not None:
            texts.append(embed.external.title)
            facts |= dict.fromkeys(_of_link(embed.external.uri))
    return Searchable(words.fold("\n".join(filter(None, texts))), " ".join(list(facts)[:FACTS_MAX]))


def named(body: bytes) -> tuple[str, str]:
    """The words of the name, and of the description, of a profile or starter pack."""
    try:
        read = _named(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return "", ""
    return words.fold(read.name or read.displayName), words.fold(read.description)


def by(author: int) -> str:
    """Written by the account with this number."""
    return f"a{author}"


def mentioning(did: str) -> str:
    """Naming this account in a facet."""
    return "m" + _hash(did)


def tagged(tag: str) -> str:
    """With this hashtag, however it is spelled."""
    return "t" + _hash(words.fold(tag) or tag)


def in_language(code: str, *, whole: bool = False) -> list[str]:
    """In this language; with ``whole`` also in the language of which it is a kind."""
    code = code.lower()
    return ["l" + _hash(each) for each in dict.fromkeys([code, code.partition("-")[0]] if whole else [code])]


def linking(url: str) -> str:
    """With a link to exactly this, but for scheme, ``www.``, fragment and a slash at the end."""
    host, rest = _parts(url)
    return "u" + _hash(host + rest)


def on_host(name: str) -> str:
    """With a link to this host or to one below it."""
    host, _ = _parts(name if "//" in name else f"https://{name}")
    return "d" + _hash(host)


def _of_link(url: str) -> list[str]:
    host, _ = _parts(url)
    if not host:
        return []
    labels = host.split(".")
    below = range(max(0, len(labels) - _HOST_PARTS_MAX), max(1, len(labels) - 1))
    names = dict.fromkeys([host, *(".".join(labels[start:]) for start in below)])
    return [linking(url), *("d" + _hash(name) for name in names)]


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").removeprefix("www.").rstrip(".")
    except ValueError:
        return "", url
    return host, parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()
