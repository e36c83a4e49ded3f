"""What somebody asks a search for, as words and operators: read, and made an expression of the index.

``"a phrase"``, ``-without``, ``one OR other``, ``from:``, ``to:`` or ``mentions:``, ``since:``, ``until:``,
``lang:``, ``domain:``, ``url:``, ``#tag`` or ``tag:``, ``in:following``, ``in:timeline``; ``me`` is the
viewer. Whatever is none of these is words: there is no query that can't be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Final

import msgspec

from appliance.errors import BadInput
from appliance.protocol import searchable, words
from appliance.protocol.syntax import is_did, parse_datetime_us
from appliance.store import actor_reads, thing_reads
from appliance.store.database import Reader
from appliance.store.search_reads import Wanted

TERMS_MAX: Final = 48
# Nobody has the number 0.
NOTHING: Final = "facts : a0"

_TERM = re.compile(r'(-?)(?:([a-z]+):)?("[^"]*"?|[^\s"]\S*)')
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SCOPES: Final = frozenset({"following", "timeline"})


class Filters(msgspec.Struct, kw_only=True):
    """What is asked beside the words. Of each list one is enough, but of ``tags_all``."""

    since: str | None = None
    until: str | None = None
    authors: list[str] = []
    mentions: list[str] = []
    domains: list[str] = []
    urls: list[str] = []
    tags: list[str] = []
    tags_all: list[str] = []
    languages: list[str] = []
    embeds: list[str] = []
    without_authors: list[str] = []
    without_mentions: list[str] = []
    without_domains: list[str] = []
    without_urls: list[str] = []
    without_tags: list[str] = []
    without_languages: list[str] = []
    without_embeds: list[str] = []
    media: bool | None = None
    video: bool | None = None
    replies: bool | None = None
    following: bool = False
    parent: str | None = None
    root: str | None = None


class _Reading:
    """One query as it is read, with what names mean to this viewer."""

    def __init__(self, reader: Reader, viewer: int | None) -> None:
        self.reader = reader
        self.viewer = viewer
        self.positive: list[str] = []
        self.negative: list[str] = []
        self.from_ms: int | None = None
        self.to_ms: int | None = None
        self.scopes: set[str] = set()

    def author(self, name: str) -> str:
        if name == "me":
            return NOTHING if self.viewer is None else f"facts : {searchable.by(self.viewer)}"
        found = actor_reads.find_actor(self.reader, name.removeprefix("@"))
        return NOTHING if found is None else f"facts : {searchable.by(found)}"

    def mention(self, name: str) -> str:
        name = name.removeprefix("@")
        if not is_did(name):
            found = self.viewer if name == "me" else actor_reads.find_actor(self.reader, name)
            if found is None:
                return NOTHING
            name = actor_reads.did_of(self.reader, found)
        return f"facts : {searchable.mentioning(name)}"

    def since(self, us: int) -> None:
        self.from_ms = max(self.from_ms or 0, us // 1000)

    def until(self, us: int) -> None:
        self.to_ms = us // 1000 if self.to_ms is None else min(self.to_ms, us // 1000)

    def text(self, text: str) -> bool:
        """Words and operators; whether there was any."""
        terms = _TERM.findall(text)
        if len(terms) > TERMS_MAX:
            raise BadInput("Too many words", name="BadQueryString")
        group: list[str] = []
        one_of = any_read = False
        for minus, operator, value in terms:
            if value == "OR" and not operator and group:
                one_of = True
                continue
            expression = self._term(operator, value.strip('"'), negated=bool(minus))
            any_read = any_read or expression is not None
            if not expression:
                continue
            if minus:
                self.negative.append(expression)
            elif one_of:
                group[-1] = f"{group[-1]} OR {expression}"
            else:
                group.append(expression)
            one_of = False
        self.positive += [f"({each})" for each in group]
        return any_read

    def _term(self, operator: str, value: str, *, negated: bool) -> str | None:
        """The expression; '' for what limits the search otherwise, None for what says nothing."""
        if operator in ("since", "until") and not negated and (us := _instant(value)) is not None:
            (self.since if operator == "since" else self.until)(us)
            return ""
        if operator == "in" and not negated and value in _SCOPES:
            self.scopes.add(value)
            return ""
        made = self._operators().get(operator)
        if made is not None and value:
            return made(value)
        if operator in ("http", "https") and value.startswith("//"):
            return _url(f"{operator}:{value}")
        if not operator and value.startswith("#") and words.fold(value):
            return f"facts : {searchable.tagged(value[1:])}"
        found = words.fold(f"{operator} {value}" if operator else value)
        return f'words : "{found}"' if found else None

    def _operators(self) -> dict[str, Callable[[str], str]]:
        return {
            "from": self.author,
            "author": self.author,
            "to": self.mention,
            "mentions": self.mention,
            "lang": _language,
            "domain": _domain,
            "url": _url,
            "tag": _tag,
        }

    def one_of(self, names: Iterable[str], made: Callable[[str], str]) -> None:
        each = [made(name) for name in names]
        if each:
            self.positive.append(f"({' OR '.join(each)})")

    def none_of(self, names: Iterable[str], made: Callable[[str], str]) -> None:
        self.negative += [made(name) for name in names]

    def match(self) -> str:
        positive = " AND ".join(self.positive) or f"facts : {searchable.POST}"
        return "".join([f"({positive})", *(f" NOT ({each})" for each in self.negative)])


def wanted(reader: Reader, viewer: int | None, text: str, filters: Filters) -> Wanted | None:
    """What to look for; None where nothing can be found. Raises BadInput for a filter that can't be read.

    ``viewer`` None is somebody who has nothing here.
    """
    lists = (getattr(filters, name) for name in filters.__struct_fields__)
    if sum(len(each) for each in lists if isinstance(each, list)) > TERMS_MAX:
        raise BadInput("Too many filters", name="BadQueryString")
    reading = _Reading(reader, viewer)
    says_something = reading.text(text)
    if text.strip() and not says_something:
        return None
    _read_filters(reading, filters)
    if filters.following:
        reading.scopes.add("following")
    if reading.scopes and viewer is None:
        return None
    parent, root = (_record(reader, uri) for uri in (filters.parent, filters.root))
    embeds, without = (
        tuple(i for uri in uris if (i := _record(reader, uri)) is not None)
        for uris in (filters.embeds, filters.without_embeds)
    )
    unknown = (filters.parent and parent is None) or (filters.root and root is None)
    if unknown or (filters.embeds and not embeds):
        return None
    return Wanted(
        reading.match(),
        reading.from_ms,
        reading.to_ms,
        viewer if "following" in reading.scopes else None,
        viewer if "timeline" in reading.scopes else None,
        parent,
        root,
        embeds,
        without,
    )


def _read_filters(reading: _Reading, filters: Filters) -> None:
    for text, limit in ((filters.since, reading.since), (filters.until, reading.until)):
        if text is not None:
            us = _instant(text)
            if us is None:
                raise BadInput("A time is a date or a datetime", name="BadQueryString")
            limit(us)
    reading.one_of(filters.authors, reading.author)
    reading.one_of(filters.mentions, reading.mention)
    reading.one_of(filters.domains, _domain)
    reading.one_of(filters.urls, _url)
    reading.one_of(filters.tags, _tag)
    for tag in filters.tags_all:
        reading.one_of([tag], _tag)
    reading.one_of(filters.languages, _language)
    reading.none_of(filters.without_authors, reading.author)
    reading.none_of(filters.without_mentions, reading.mention)
    reading.none_of(filters.without_domains, _domain)
    reading.none_of(filters.without_urls, _url)
    reading.none_of(filters.without_tags, _tag)
    reading.none_of(filters.without_languages, _language)
    for flag, word in (
        (filters.media, searchable.MEDIA),
        (filters.video, searchable.VIDEO),
        (filters.replies, searchable.REPLY),
    ):
        if flag is not None:
            (reading.positive if flag else reading.negative).append(f"facts : {word}")


def names(text: str, *, about: bool) -> str | None:
    """An expression for people with words that begin so in handle or name, with ``about`` in what they
    say of themselves, too. None where there is no word."""
    found = words.fold(text.lstrip("@")).split()[:TERMS_MAX]
    if not found:
        return None
    every = " AND ".join(f'"{word}" *' for word in found)
    return every if about else f"{{handle name}} : ({every})"


def packs(text: str) -> str | None:
    """An expression for starter packs with all these words, the last of them may go on."""
    found = words.fold(text).split()[:TERMS_MAX]
    return " AND ".join(f'pack : "{word}" *' for word in found) or None


def _language(code: str) -> str:
    return f"facts : {searchable.in_language(code)[0]}"


def _domain(name: str) -> str:
    return f"facts : {searchable.on_host(name)}"


def _url(url: str) -> str:
    return f"facts : {searchable.linking(url if '//' in url else f'https://{url}')}"


def _tag(tag: str) -> str:
    return f"facts : {searchable.tagged(tag.removeprefix('#'))}"


def _record(reader: Reader, uri: str | None) -> int | None:
    return None if uri is None else thing_reads.find(reader, uri)


def _instant(text: str) -> int | None:
    """Microseconds since 1970 of a day's beginning or of a moment."""
    try:
        if _DAY.fullmatch(text):
            date.fromisoformat(text)
            return parse_datetime_us(f"{text}T00:00:00Z")
        return parse_datetime_us(text)
    except (BadInput, ValueError):
        return None
