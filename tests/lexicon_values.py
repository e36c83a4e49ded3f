"""Values made from the published schemas: right ones, and ones that break a rule of theirs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from appliance.protocol import lexicons
from appliance.protocol.lexicon_rules import FORMATS, absolute
from appliance.protocol.lexicons import Parameter

CID = "bafyreihffx5a2e7k5uwrmmgofbvzujc5cmw5h4espouwuxt3liqoflx3ee"
NOBODY = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
SAMPLES = {
    "at-identifier": NOBODY,
    "at-uri": f"at://{NOBODY}/app.bsky.feed.post/3jui7kd54zh2y",
    "cid": CID,
    "datetime": "2026-01-01T00:00:00Z",
    "did": NOBODY,
    "handle": "nobody.test",
    "language": "en",
    "nsid": "app.bsky.feed.post",
    "record-key": "3jui7kd54zh2y",
    "tid": "3jui7kd54zh2y",
    "uri": "https://example.com/",
}
# Each hurts some reader of text: too long, not printable, not normal, not text.
ODD_TEXTS = (
    "0",
    "null",
    "' OR 1=1 --",
    '"*" NEAR(',
    "%",
    "a\x00b",
    "\u202e\u0645\u0631\u062d\u0628\u0627",
    "e\u0301" * 400,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 30,
    "x" * 9000,
    "../../etc/passwd",
)
ODD_URIS = (
    "at://",
    f"at://{NOBODY}",
    f"at://{NOBODY}/app.bsky.feed.post",
    f"at://{NOBODY}/app.bsky.feed.post/..",
    f"at://{NOBODY}/app.bsky.feed.post/3jui7kd54zh2y/more",
    f"at://{NOBODY}/app.bsky.feed.post/3jui7kd54zh2y?x=1",
    "at://nobody.test/app.bsky.feed.generator/x",
    f"at://{NOBODY}/com.example.unknown/self",
    "at://did:web:localhost%3A1/app.bsky.feed.post/a",
    f"at://{NOBODY}/app.bsky.feed.post/" + "k" * 600,
)
ODD_CURSORS = ("0", "-1", "::", "now", "MTIz", "eyJ9", "1767225600000::" + CID, "9" * 40, "\U0001f600", " ")
ODD_NUMBERS = ("", "-1", "0", "1.5", "1e3", "0x10", "\u0661", "9" * 30, str(2**63), "NaN", "ten", " 5")


def odd_parameters(parameter: Parameter) -> Iterator[list[str]]:
    """What may stand in this parameter's place, right by accident at most."""
    if parameter.is_array:
        for (text,) in _odd_texts(parameter):
            yield [text]
            yield [_sample(parameter), text]
        yield [_sample(parameter)] * ((parameter.length_max or 100) + 1)
        return
    yield from _odd_texts(parameter)
    yield [_sample(parameter), _sample(parameter)]


def _odd_texts(parameter: Parameter) -> Iterator[list[str]]:
    if parameter.type == "integer":
        bounds = [parameter.minimum, parameter.maximum]
        yield from ([text] for text in ODD_NUMBERS)
        yield from ([str(bound + step)] for bound in bounds if bound is not None for step in (-1, 1))
        return
    yield from ([text] for text in ODD_TEXTS)
    if parameter.name == "cursor":
        yield from ([text] for text in ODD_CURSORS)
    if parameter.format in ("at-uri", "uri") or "uri" in parameter.name.lower():
        yield from ([text] for text in ODD_URIS)
    if parameter.format in ("did", "at-identifier", "handle"):
        yield from (
            [text] for text in (NOBODY, "nobody.test", "did:web:localhost", "did:plc:x", "@ann", "-.test")
        )


def _sample(parameter: Parameter) -> str:
    if parameter.type == "integer":
        return str(parameter.minimum or 1)
    if parameter.type == "boolean":
        return "true"
    if parameter.enum:
        return str(parameter.enum[0])
    return SAMPLES.get(parameter.format or "", "hello")


def right_parameters(nsid: str, known: Mapping[str, str]) -> dict[str, list[str]]:
    """The required ones. ``known`` has values by format that stand for something that is there."""
    return {
        parameter.name: [known.get(parameter.format or "", _sample(parameter))]
        for parameter in lexicons.query_parameters(nsid)
        if parameter.required
    }


def example(schema: Mapping[str, Any], nsid: str, depth: int = 0) -> Any:
    """A value that this schema of that document allows, with everything in it that may be there."""
    kind = schema["type"]
    if kind == "ref":
        reference = absolute(schema["ref"], nsid)
        found = lexicons.definition(reference)
        assert found is not None, reference
        return example(found, reference.partition("#")[0], depth)
    if kind == "union":
        return _of_union(schema, nsid, depth)
    if kind == "object":
        return {
            name: example(each, nsid, depth + 1)
            for name, each in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or depth < 3
        }
    if kind == "array":
        fewest = schema.get("minLength", 0)
        return [example(schema["items"], nsid, depth + 1)] * max(fewest, 1 if depth < 3 else 0)
    return _plain(schema, nsid)


def _of_union(schema: Mapping[str, Any], nsid: str, depth: int) -> Any:
    for reference in schema["refs"]:
        name = absolute(reference, nsid).removesuffix("#main")
        found = lexicons.definition(name)
        if found is not None and found["type"] == "object":
            return {"$type": name, **example(found, name.partition("#")[0], depth)}
    return {"$type": "com.example.unknown"}


def _plain(schema: Mapping[str, Any], nsid: str) -> Any:
    kind = schema["type"]
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if kind == "string":
        known = schema.get("knownValues")
        if known:
            return absolute(known[0], nsid) if known[0].startswith("#") else known[0]
        return SAMPLES.get(schema.get("format", ""), "x" * max(1, schema.get("minLength", 1)))
    if kind == "blob":
        kinds = [each for each in schema.get("accept", []) if "*" not in each]
        mime = kinds[0] if kinds else "image/png"
        return {"$type": "blob", "ref": {"$link": CID}, "mimeType": mime, "size": 1}
    return {
        "integer": schema.get("minimum", 1),
        "boolean": True,
        "cid-link": {"$link": CID},
        "bytes": {"$bytes": "AAAA"},
        "unknown": {"$type": "app.bsky.feed.post", "text": "x", "createdAt": SAMPLES["datetime"]},
    }[kind]


def body_schema(nsid: str) -> Mapping[str, Any] | None:
    """Of a procedure that takes JSON; None of another."""
    taken = lexicons.method(nsid).get("input")
    return None if taken is None or taken["encoding"] != "application/json" else taken.get("schema")


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*ODD_TEXTS, *ODD_URIS, *SAMPLES.values()])
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with up to three places in it changed, taken away or doubled."""
    made = {"": copy.deepcopy(value)}
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(_places(made))))
        change = draw(st.sampled_from(["replace", "replace", "drop", "double"]))
        if change == "replace" or key == "":
            holder[key] = draw(_JSON)
        elif change == "drop":
            del holder[key]
        elif isinstance(holder, list):
            holder.extend([copy.deepcopy(holder[key])] * draw(st.integers(1, 200)))
        else:
            holder[draw(st.text(max_size=8))] = copy.deepcopy(holder[key])
    return made[""]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def is_format(text: str, name: str) -> bool:
    """Does the text follow the format of that name?"""
    return FORMATS[name](text)
