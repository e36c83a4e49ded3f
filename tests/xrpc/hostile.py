"""Calls as nobody should make them, made from the schemas: values of a wrong kind, size and meaning."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

from appliance.protocol import lexicons
from appliance.protocol.lexicon_rules import Schema
from appliance.protocol.lexicons import Parameter
from tests.timeline.village import did

DEPTH_MAX = 4
TEXTS = [
    "",
    " ",
    "\x00",
    "\x00\x00a",
    "null",
    "true",
    "NaN",
    "-1",
    "0",
    "1e9",
    "9" * 20,
    "9" * 5000,
    "١٢",
    "é",
    "e\u0301",
    "👩‍👩‍👧‍👦",
    "\u202e" + "abc",
    "\ufeff",
    "%00",
    "%s%n",
    "'; DROP TABLE actor; --",
    '"',
    '"*" OR (',
    "NEAR(a b",
    "a" * 3000,
    "*",
    "../../etc/passwd",
    "{}",
    "[]",
]
URIS = [
    "at://",
    "at:///",
    "at://x",
    "at://nobody.test/app.bsky.feed.post/3kaaaaaaaaa2a",
    f"at://{did('zoe')}/app.bsky.feed.post/3kaaaaaaaaa2a",
    f"at://{did('ann')}",
    f"at://{did('ann')}/",
    f"at://{did('ann')}/app.bsky.feed.post",
    f"at://{did('ann')}/app.bsky.feed.post/",
    f"at://{did('ann')}/app.bsky.feed.post/3kaaaaaaaaa2a/more",
    f"at://{did('ann')}/app.bsky.feed.post/3kaaaaaaaaa2a#frag",
    f"at://{did('ann')}/app.bsky.feed.post/3kaaaaaaaaa2a?q=1",
    f"at://{did('ann')}/app.bsky.actor.profile/self",
    f"at://{did('ann')}/com.example.unknown/self",
    f"at://{did('ann')}/app.bsky.feed.post/{'k' * 512}",
    f"at://{did('ann')}/app.bsky.feed.post/..",
    "at://ann.test/app.bsky.graph.list/none",
    "https://example.com/",
]
ACTORS = [
    "ann.test",
    "bob.test",
    "ANN.TEST",
    "@ann.test",
    "nobody.test",
    "handle.invalid",
    did("ann"),
    did("bob"),
    did("zoe"),
    "did:plc:",
    "did:web:example.com",
    "did:web:localhost%3A1",
    "did:plc:" + "a" * 4000,
    "did:example:x",
]
CURSORS = [
    "1__2",
    "1__2__3",
    "0__bafyrei",
    "-1__bafyreiaaaaaaa",
    "9999999999999999__z",
    "5__bafyrei222222222222.17",
    "5__bafyrei222222222222.999999999999999999",
    "x::y",
    "25",
    "-25",
    "999999",
    "1000000000000000000000",
    "3kaaaaaaaaa2a",
    "2026-01-01T00:00:00.000Z",
    "0000-00-00T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z__999999999999999999.99",
    "0001-01-01T00:00:00.000Z",
    base64.urlsafe_b64encode(b"[1,2]").decode(),
    base64.urlsafe_b64encode(b'["a","b","c","d"]').decode(),
    base64.urlsafe_b64encode(b"\xff\xfe\x00").decode(),
    base64.urlsafe_b64encode(b'{"a":1}').decode(),
    "\ud800".encode("utf-8", "replace").decode(),
]
OTHERS = [
    "2026-01-01T00:00:00.000Z",
    "2026-13-45T99:99:99Z",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "1969-12-31T23:59:59.999Z",
    "en",
    "xx-YY-zzzzzzzzz",
    "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",
    "bafkqaaa",
    "app.bsky.feed.post",
    "a..b",
    "3kaaaaaaaaa2a",
    "self",
    "top",
    "latest",
    "posts_no_replies",
    "wss://[::1",
    "mailto:x",
]
# So long as this, and no longer, are texts that no list here has.
ANY = st.one_of(
    st.sampled_from([*TEXTS, *URIS, *ACTORS, *CURSORS, *OTHERS]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63)])
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.floats(allow_nan=False, allow_infinity=False),
    ANY,
    st.just([]),
    st.just({}),
    st.just([[[[[[]]]]]]),
    st.just({"$type": "nobody#knows"}),
    st.just({"$link": "x"}),
    st.just({"$bytes": "*"}),
)


def query(nsid: str, good: dict[str, Any], cursors: list[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Pairs of a query string; ``good`` is a call that is answered, of which some parts go wrong."""
    parameters = lexicons.query_parameters(nsid)

    @st.composite
    def draw_pairs(draw: st.DrawFn) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        for parameter in parameters:
            how = draw(st.integers(0, 5))
            kept = good.get(parameter.name)
            if how <= 1 and kept is not None:
                values = kept if isinstance(kept, list) else [kept]
                pairs += [(parameter.name, _text(value)) for value in values]
            elif how <= 1 or how == 5:
                continue
            else:
                many = draw(st.integers(1, 3)) if how == 4 else 1
                pairs += [(parameter.name, draw(_value(parameter, cursors))) for _ in range(many)]
        if draw(st.integers(0, 8)) == 0:
            pairs.append((draw(ANY), draw(ANY)))
        return pairs

    return draw_pairs()


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(parameter: Parameter, cursors: list[str]) -> st.SearchStrategy[str]:
    choices: list[st.SearchStrategy[str]] = [ANY]
    if parameter.type == "integer":
        bounds = [edge for edge in (parameter.minimum, parameter.maximum) if edge is not None]
        near = [str(edge + step) for edge in bounds for step in (-1, 0, 1)]
        choices += [st.sampled_from([*near, "5", "05", "+5", "5.0", " 5"])]
    if parameter.name == "cursor":
        choices += [st.sampled_from([*CURSORS, *cursors])] * 3
    if parameter.format in ("at-uri", "uri"):
        choices += [st.sampled_from(URIS)] * 3
    if parameter.format in ("at-identifier", "did", "handle"):
        choices += [st.sampled_from(ACTORS)] * 3
    return st.one_of(choices)


def body(nsid: str, good: Any) -> st.SearchStrategy[Any]:
    """Bodies for a procedure: a good one of which parts are replaced, left out or added."""
    schema = lexicons.method(nsid).get("input", {}).get("schema")
    made = st.nothing() if schema is None else _made(schema, nsid, DEPTH_MAX)
    return st.one_of(_spoilt(good), _spoilt(good), made, JUNK)


def _spoilt(good: Any) -> st.SearchStrategy[Any]:
    """The same, but for one or more places in it."""

    @st.composite
    def spoil(draw: st.DrawFn, value: Any) -> Any:
        how = draw(st.integers(0, 9))
        if how == 0:
            return draw(JUNK)
        if isinstance(value, dict):
            found = {}
            for name, part in value.items():
                if draw(st.integers(0, 9)) > 0:
                    found[name] = draw(spoil(part))
            if draw(st.integers(0, 9)) == 0:
                found[draw(ANY)] = draw(JUNK)
            return found
        if isinstance(value, list):
            return [draw(spoil(part)) for part in value] * draw(st.sampled_from([1, 1, 1, 2, 60]))
        return draw(JUNK) if how < 3 else draw(ANY) if how == 3 else value

    return spoil(good)


def _made(schema: Schema, nsid: str, depth: int) -> st.SearchStrategy[Any]:
    """What has the shape that the schema wants, often, and values of all kinds."""
    if depth == 0:
        return JUNK
    match schema["type"]:
        case "ref":
            reference = schema["ref"]
            whole = f"{nsid}{reference}" if reference.startswith("#") else reference
            found = lexicons.definition(whole)
            return JUNK if found is None else _made(found, whole.partition("#")[0], depth - 1)
        case "union":
            parts = [
                f"{nsid}{reference}" if reference.startswith("#") else reference
                for reference in schema["refs"]
            ]
            return st.sampled_from(parts).flatmap(lambda each: _typed(each, depth - 1)) if parts else JUNK
        case "object":
            optional = {
                name: _made(part, nsid, depth - 1) for name, part in schema.get("properties", {}).items()
            }
            required = {name: optional.pop(name) for name in schema.get("required", ()) if name in optional}
            return st.fixed_dictionaries(required, optional=optional)
        case "array":
            return st.lists(_made(schema["items"], nsid, depth - 1), max_size=3)
        case "integer":
            return st.one_of(NUMBERS, st.integers(schema.get("minimum", 0), schema.get("maximum", 100)))
        case "boolean":
            return st.booleans()
        case "string":
            known = list(schema.get("enum", schema.get("knownValues", ())))
            return st.one_of(ANY, st.sampled_from(known)) if known else ANY
    return JUNK


def _typed(reference: str, depth: int) -> st.SearchStrategy[Any]:
    nsid = reference.partition("#")[0]
    found = lexicons.definition(reference)
    if found is None or found["type"] != "object":
        return JUNK
    return _made(found, nsid, depth).map(
        lambda value: {**value, "$type": reference} if isinstance(value, dict) else value
    )
