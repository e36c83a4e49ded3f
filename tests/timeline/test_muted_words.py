"""Muted words hide what the official app would hide, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.timeline import muted_words
from appliance.timeline.muted_words import MutedWord, Said

NOW_US = 1_767_225_600_000_000
ANN, BOB = "did:plc:ann", "did:plc:bob"


def word(value: str, *targets: str, **more: Any) -> MutedWord:
    item = {"value": value, "targets": list(targets or ("content",)), **more}
    (found,) = muted_words.words([{"$type": muted_words.PREFERENCE, "items": [item]}])
    return found


def muted(value: str, text: str, *targets: str, **said: Any) -> bool:
    return muted_words.is_muted(Said(text, **said), [word(value, *targets)], followed=False, now_us=NOW_US)


@pytest.mark.parametrize(
    ("value", "text", "hidden"),
    [
        # whole words, whatever the case
        ("truth", "The truth is out", True),
        ("TRUTH", "the Truth", True),
        ("truth", "truthful", False),
        ("politics", "this is politics!", True),
        ("politics", "politically", False),
        ("javascript", "This is a post about JavaScript", True),
        # one sign, and emoji
        ("希", "改善希望です", True),
        ("☠︎", "Idk why ☠︎ but maybe", True),
        ("🙂", "well 🙂 then", True),
        ("🙂", "well🙂then", False),
        ("a", "cat", True),
        # longer than the text, and the text itself
        ("long text here", "short", False),
        ("long", "long", True),
        # punctuation within and around
        ("yay!", "We're federating, yay!", True),
        ("yay", "We're federating, yay!", True),
        ("y!ppee", "We're federating, y!ppee!!", True),
        ("y!ppee!", "We're federating, y!ppee!!", True),
        ("yippee", "We're federating, y!ppee!!", False),
        ("s@assy", "Yay, so s@assy", True),
        ("s@assy", "Yay, so s@assy!", True),
        ("sassy", "Yay, so s@assy", True),
        ("new york times", "New York Times", True),
        ("super-bad", "I'm super-bad", True),
        ("super", "I'm super-bad", True),
        ("bad", "I'm super-bad", True),
        ("super bad", "I'm super-bad", True),
        ("superbad", "I'm super-bad", True),
        ("super-bad", "I'm super bad", False),
        ("idontcare", "I don't care", False),
        ("dont", "I don't care", True),
        ("idk_what_this_would_be", "Weird post with idk_what_this_would_be", True),
        ("idkwhatthiswouldbe", "Weird post with idk_what_this_would_be", True),
        ("(parenthetical)", "Post with context(iykyk)", False),
        ("iykyk", "Post with context(iykyk)", True),
        ("🦋", "Post with 🦋", True),
        ("like this", "phrases like this are found", True),
        ("like that", "phrases like this are found", False),
        # alternatives are no word, and end the search
        ("andor", "Tomatoes are fruits and/or vegetables", False),
        ("and/or", "Tomatoes are fruits and/or vegetables", True),
        ("and", "fruits and/or vegetables", False),
        ("bad", "and/or bad", False),
        # two words in one
        ("e.g.", "E.g. this", True),
        ("u.s.a", "the u.s.a, again", True),
        ("", "anything", False),
    ],
)
def test_words_in_text(value: str, text: str, hidden: bool) -> None:
    if not value:
        items = [{"value": "", "targets": ["content"]}]
        assert muted_words.words([{"$type": muted_words.PREFERENCE, "items": items}]) == ()
        return
    assert muted(value, text) is hidden


def test_tags_are_met_by_either_target_and_text_by_one_alone() -> None:
    assert muted("inlinetag", "nothing here", "tag", tags=("inlineTag",))
    assert muted("inlinetag", "nothing here", "content", tags=("inlineTag",))
    assert not muted("inlinetag", "about inlineTag", "tag")
    assert not muted("inline", "nothing here", "tag", tags=("inlineTag",))


def test_languages_without_spaces_are_looked_through_anywhere() -> None:
    assert muted("インターネット", "私はカメが好きです、特にインターネットのカメ", languages=("ja",))
    assert not muted("インターネット", "私はカメが好きです、特にインターネットのカメ", languages=("en", "ja"))
    assert not muted("インターネット", "私はカメが好きです、特にインターネットのカメ")
    assert muted("インターネット", "インターネット")


@pytest.mark.parametrize(
    ("more", "followed", "hidden"),
    [
        ({}, True, True),
        ({"actorTarget": "all"}, True, True),
        ({"actorTarget": "exclude-following"}, True, False),
        ({"actorTarget": "exclude-following"}, False, True),
        ({"expiresAt": "2026-01-01T00:00:01Z"}, False, True),
        ({"expiresAt": "2025-12-31T23:59:59Z"}, False, False),
        ({"expiresAt": "2026-01-01T01:00:00+02:00"}, False, False),
    ],
)
def test_whom_and_how_long_a_word_is_muted(more: dict[str, str], followed: bool, hidden: bool) -> None:
    one = word("spoiler", "content", **more)
    said = Said("a spoiler")
    assert muted_words.is_muted(said, [one], followed=followed, now_us=NOW_US) is hidden


def view(**more: Any) -> dict[str, Any]:
    record = {"$type": "app.bsky.feed.post", "text": "fine"}
    return {"author": {"did": ANN, "viewer": {}}, "record": record, **more}


QUOTED = {
    "$type": "app.bsky.embed.record#viewRecord",
    "value": {"$type": "app.bsky.feed.post", "text": "quoted", "tags": ["outline"]},
    "embeds": [{"$type": "app.bsky.embed.images#view", "images": [{"alt": "deep picture"}]}],
}
IMAGES = {"$type": "app.bsky.embed.images#view", "images": [{"alt": "a cat"}, {"alt": "a dog"}]}
CARD = {"title": "News", "description": "of the world"}


@pytest.mark.parametrize(
    ("embed", "value"),
    [
        (IMAGES, "dog"),
        ({"$type": "app.bsky.embed.external#view", "external": CARD}, "world"),
        ({"$type": "app.bsky.embed.record#view", "record": QUOTED}, "quoted"),
        ({"$type": "app.bsky.embed.record#view", "record": QUOTED}, "outline"),
        ({"$type": "app.bsky.embed.record#view", "record": QUOTED}, "picture"),
        (
            {"$type": "app.bsky.embed.recordWithMedia#view", "media": IMAGES, "record": {"record": QUOTED}},
            "cat",
        ),
        (
            {"$type": "app.bsky.embed.recordWithMedia#view", "media": IMAGES, "record": {"record": QUOTED}},
            "quoted",
        ),
    ],
)
def test_what_is_shown_with_a_post_counts_with_it(embed: dict[str, Any], value: str) -> None:
    assert muted_words.hides(view(embed=embed), [word(value)], BOB, NOW_US)
    assert not muted_words.hides(view(embed=embed), [word("absent")], BOB, NOW_US)


def test_tags_of_facets_count_and_own_posts_never_do() -> None:
    facet = {"index": {}, "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Cats"}]}
    post = view(record={"text": "fine", "facets": [facet]})
    assert muted_words.hides(post, [word("cats", "tag")], BOB, NOW_US)
    assert not muted_words.hides(post, [word("cats", "tag")], ANN, NOW_US)
    post["author"]["viewer"] = {"following": "at://x"}
    exclude = word("cats", "tag", actorTarget="exclude-following")
    assert not muted_words.hides(post, [exclude], BOB, NOW_US)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, st.dictionaries(st.sampled_from(["record", "embed", "author"]), json_values))
def test_nothing_that_comes_in_breaks_it(preferences: Any, post: dict[str, Any]) -> None:
    assert muted_words.words(preferences) == ()
    muted_words.words([{"$type": muted_words.PREFERENCE, "items": preferences}])
    muted_words.hides(post, [word("x")], None, NOW_US)
