"""Turns phrases into records: text, facets with right byte offsets, languages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

from appliance.devnet import phrases
from appliance.devnet.people import Person

_GAP = re.compile(r"\{([a-z0-9]+)(_c)?\}")
GRAPHEMES_MAX = 300


@dataclass(slots=True)
class Draft:
    """A text in the making; features point at bytes, as the protocol wants."""

    text: str = ""
    facets: list[dict[str, Any]] = field(default_factory=list)
    language: str = "en"

    def add(self, text: str, feature: dict[str, Any] | None = None) -> Draft:
        """Append, with a feature over what is appended."""
        start = len(self.text.encode())
        self.text += text
        if feature is not None:
            index = {"byteStart": start, "byteEnd": len(self.text.encode())}
            self.facets.append({"index": index, "features": [feature]})
        return self


@dataclass(frozen=True, slots=True)
class Card:
    """An external link and what its preview says."""

    uri: str
    title: str
    description: str


def post(random: Random, person: Person, topic: str) -> Draft:
    """An ordinary post about a topic, or in the person's other language."""
    language = random.choice(person.languages)
    if language != "en":
        return Draft(random.choice(phrases.LANGUAGES[language][0]), language=language)
    templates, fillings = phrases.TOPICS[topic]
    draft = Draft(fill(random, random.choice(templates), fillings))
    if random.random() < 0.16:
        draft.add(" ")
        tag = random.choice(phrases.TAGS[topic])
        draft.add(f"#{tag}", {"$type": "app.bsky.richtext.facet#tag", "tag": tag})
    return draft


def mention(random: Random, handle: str, did: str) -> Draft:
    """A post that names somebody."""
    before, _, after = random.choice(phrases.MENTIONS).partition("{at}")
    draft = Draft(fill(random, before, {}, whole=False))
    draft.add(f"@{handle}", {"$type": "app.bsky.richtext.facet#mention", "did": did})
    return draft.add(fill(random, after, {}, whole=False))


def link(random: Random, topic: str) -> tuple[Draft, Card]:
    """A post with an address in its text, and the card that goes with it."""
    fillings: phrases.Fillings = {"thing": (phrases.SUBJECTS[topic],)}
    host, title, description = random.choice(phrases.LINKS)
    slug = phrases.SUBJECTS[topic].lower().replace(" ", "-")
    uri = f"https://{host}/{random.randint(2021, 2026)}/{slug}"
    draft = Draft(fill(random, random.choice(phrases.LINK_TEXTS), fillings))
    if random.random() < 0.7:
        draft.add(" ")
        draft.add(f"{host}/{slug[:12]}…", {"$type": "app.bsky.richtext.facet#link", "uri": uri})
    return draft, Card(uri, fill(random, title, fillings), fill(random, description, fillings))


def reply(random: Random, person: Person, language: str) -> Draft:
    """An answer; in the language of what it answers, if the person has that."""
    if language != "en" and language in person.languages:
        return Draft(random.choice(phrases.LANGUAGES[language][1]), language=language)
    return Draft(fill(random, random.choice(phrases.REPLIES), {}))


def follow_up(random: Random) -> Draft:
    """An answer to oneself."""
    return Draft(fill(random, random.choice(phrases.FOLLOW_UPS), {}))


def quote(random: Random) -> Draft:
    """What stands above somebody else's post."""
    return Draft(fill(random, random.choice(phrases.QUOTES), {}))


def fill(random: Random, template: str, fillings: phrases.Fillings, *, whole: bool = True) -> str:
    """The template with its gaps filled; ``{name_c}`` begins with a capital."""

    def choose(gap: re.Match[str]) -> str:
        options = fillings.get(gap[0][1:-1]) or fillings.get(gap[1]) or phrases.COMMON[gap[1]]
        text = random.choice(options)
        return text[:1].upper() + text[1:] if gap[2] else text

    text = _GAP.sub(choose, template)
    if not whole:
        return text
    text = text.strip()
    return text[:1].upper() + text[1:]
