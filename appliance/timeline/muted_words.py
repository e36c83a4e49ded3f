"""Does a post hold a word that its reader has muted? As the official app judges, letter for letter.

Muted words are a preference that the reader's PDS keeps; clients apply it themselves, and our pages by this.
https://github.com/bluesky-social/atproto/blob/main/packages/api/src/moderation/mutewords.ts
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_datetime_us

PREFERENCE: Final = "app.bsky.actor.defs#mutedWordsPref"
WORDS_MAX: Final = 2_000
# Languages that don't put spaces between words: there a word is looked for anywhere.
UNSPACED: Final = frozenset({"ja", "zh", "ko", "th", "vi"})
_TAG: Final = "app.bsky.richtext.facet#tag"
_SPACE: Final = re.compile(r"\s")


class MutedWord(msgspec.Struct, frozen=True):
    """One entry of the preference. ``value`` is in lower case."""

    value: str
    in_content: bool
    not_of_followed: bool
    expires_us: int | None


class Said(msgspec.Struct, frozen=True):
    """Something that is judged as one: a post's text with its tags, a description of a picture, a card."""

    text: str
    tags: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


def words(preferences: object) -> tuple[MutedWord, ...]:
    """The muted words in an account's preferences; entries that make no sense are left out."""
    found: list[MutedWord] = []
    for preference in preferences if isinstance(preferences, list) else ():
        if isinstance(preference, dict) and preference.get("$type") == PREFERENCE:
            items = preference.get("items")
            found.extend(filter(None, map(_word, items if isinstance(items, list) else ())))
    return tuple(found[:WORDS_MAX])


def hides(post: dict[str, Any], muted: Sequence[MutedWord], viewer: str | None, now_us: int) -> bool:
    """Whether this postView, or what it quotes, says any of them. One's own posts are never hidden."""
    author = _dict(post.get("author"))
    if not muted or author.get("did") == viewer:
        return False
    followed = bool(_dict(author.get("viewer")).get("following"))
    return any(is_muted(said, muted, followed=followed, now_us=now_us) for said in said_in(post))


def said_in(post: dict[str, Any]) -> Iterator[Said]:
    """What a postView says: its text, what its pictures and card say, and the same of the post it quotes."""
    record = _dict(post.get("record"))
    languages = _texts(record.get("langs"))
    yield _said(record, languages)
    yield from _said_by_embed(_dict(post.get("embed")), languages)


def is_muted(said: Said, muted: Iterable[MutedWord], *, followed: bool, now_us: int) -> bool:
    """Whether any of the words is in it. ``followed``: the reader follows who says it."""
    text = said.text.lower()
    tags = {tag.lower() for tag in said.tags}
    anywhere = bool(said.languages) and said.languages[0] in UNSPACED
    for word in muted:
        if word.expires_us is not None and word.expires_us < now_us:
            continue
        if word.not_of_followed and followed:
            continue
        if word.value in tags or (word.in_content and _is_in(word.value, text, anywhere=anywhere)):
            return True
    return False


def _is_in(word: str, text: str, *, anywhere: bool) -> bool:
    if word in text and (anywhere or _length(word) == 1 or word == text):
        return True
    if len(word) > len(text):
        return False
    # A phrase, or a word with punctuation in it.
    if any(_is_punctuation(sign) or sign.isspace() for sign in word) and word in text:
        return True
    for group in _SPACE.split(text):
        found = _is_group(word, group)
        if found is not None:
            return found
    return False


def _is_group(word: str, group: str) -> bool | None:
    """Whether this run of signs without a space is the word; None where the next one is to be looked at."""
    if group == word:
        return True
    core = _trimmed(group)
    if core == word:
        return True
    if len(word) > len(core) or not any(map(_is_punctuation, core)):
        return None
    if "/" in core:
        # Alternatives such as "and/or" are no word, and the official app looks no further after them.
        return False
    parts = _split(core)
    if word in (" ".join(parts), "".join(parts)) or word in parts:
        return True
    return None


def _split(core: str) -> list[str]:
    """The parts between punctuation."""
    parts = [""]
    before = False
    for sign in core:
        mark = _is_punctuation(sign)
        if mark and not before:
            parts.append("")
        elif not mark:
            parts[-1] += sign
        before = mark
    return parts


def _trimmed(group: str) -> str:
    begin, end = 0, len(group)
    while begin < end and _is_punctuation(group[begin]):
        begin += 1
    while end > begin and _is_punctuation(group[end - 1]):
        end -= 1
    return group[begin:end]


def _is_punctuation(sign: str) -> bool:
    return unicodedata.category(sign)[0] == "P"


def _length(word: str) -> int:
    """In the units by which the official app counts: most emoji are two."""
    return len(word.encode("utf-16-le", "surrogatepass")) // 2


def _word(item: object) -> MutedWord | None:
    if not isinstance(item, dict) or not isinstance(item.get("value"), str) or not item["value"]:
        return None
    expires_us = None
    if isinstance(item.get("expiresAt"), str):
        try:
            expires_us = parse_datetime_us(item["expiresAt"])
        except BadInput:
            return None
    return MutedWord(
        item["value"].lower(),
        "content" in _texts(item.get("targets")),
        item.get("actorTarget") == "exclude-following",
        expires_us,
    )


def _said_by_embed(embed: dict[str, Any], languages: tuple[str, ...], depth: int = 0) -> Iterator[Said]:
    kind = str(embed.get("$type", "")).partition("#")[0]
    if kind == "app.bsky.embed.images":
        for image in _list(embed.get("images")):
            yield Said(_text(_dict(image).get("alt")), (), languages)
    elif kind == "app.bsky.embed.external":
        card = _dict(embed.get("external"))
        yield Said(f"{_text(card.get('title'))} {_text(card.get('description'))}")
    elif kind == "app.bsky.embed.recordWithMedia" and depth == 0:
        yield from _said_by_embed(_dict(embed.get("media")), languages, depth)
        yield from _said_by_quoted(_dict(_dict(embed.get("record")).get("record")))
    elif kind == "app.bsky.embed.record" and depth == 0:
        yield from _said_by_quoted(_dict(embed.get("record")))


def _said_by_quoted(quoted: dict[str, Any]) -> Iterator[Said]:
    record = _dict(quoted.get("value"))
    if record.get("$type") != "app.bsky.feed.post":
        return
    languages = _texts(record.get("langs"))
    yield _said(record, languages)
    for embed in _list(quoted.get("embeds")):
        media = _dict(embed)
        if str(media.get("$type", "")).startswith("app.bsky.embed.recordWithMedia"):
            media = _dict(media.get("media"))
        yield from _said_by_embed(media, languages, depth=1)


def _said(record: dict[str, Any], languages: tuple[str, ...]) -> Said:
    tags = list(_texts(record.get("tags")))
    for facet in _list(record.get("facets")):
        for feature in _list(_dict(facet).get("features")):
            of = _dict(feature)
            tags.extend([_text(of.get("tag"))] if of.get("$type") == _TAG else ())
    return Said(_text(record.get("text")), tuple(tags), languages)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in _list(value) if isinstance(each, str))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
