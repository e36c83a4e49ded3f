"""Lexicon definitions as functions: each compiled once, then called per value.

A check returns None, or a sentence that says where and why the value doesn't fit.
Language: https://atproto.com/specs/lexicon
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from appliance.protocol import syntax
from appliance.protocol.datamodel import Link, Value

Check: TypeAlias = Callable[[Value], str | None]
Schema: TypeAlias = Mapping[str, Any]
Find: TypeAlias = Callable[[str], Schema | None]

FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "at-identifier": syntax.is_at_identifier,
    "at-uri": syntax.is_at_uri,
    "cid": syntax.is_cid,
    "datetime": syntax.is_datetime,
    "did": syntax.is_did,
    "handle": syntax.is_handle,
    "language": syntax.is_language,
    "nsid": syntax.is_nsid,
    "record-key": syntax.is_record_key,
    "tid": syntax.is_tid,
    "uri": syntax.is_uri,
}


class Rules:
    """Checks by reference (``nsid`` or ``nsid#name``). ``find`` gives a definition by that name.

    With ``blob_limits`` the sizes and types that schemas ask of blobs are enforced, and the blob form
    of 2022 is refused; without, blobs are judged as other servers judge what is already published.
    """

    def __init__(self, find: Find, *, blob_limits: bool) -> None:
        self._find = find
        self._blob_limits = blob_limits
        self._compiled: dict[str, Check] = {}

    def of(self, reference: str) -> Check:
        """The check of a whole definition; of an unknown one, a check that always fails."""
        check = self._compiled.get(reference)
        if check is None:
            schema = self._find(reference)
            nsid = reference.partition("#")[0]
            check = _always(f"unknown schema {reference}") if schema is None else self.compile(schema, nsid)
            self._compiled[reference] = check
        return check

    def compile(self, schema: Schema, nsid: str) -> Check:
        """The check of a schema that stands in the document ``nsid``."""
        kind = schema.get("type")
        if kind == "object" or kind == "params":
            return self._object(schema, nsid)
        if kind == "record":
            return self._record(schema, nsid)
        if kind == "array":
            return self._array(schema, nsid)
        if kind == "ref":
            return self._ref(absolute(schema["ref"], nsid))
        if kind == "union":
            return self._union(schema, nsid)
        if kind == "blob":
            return _blob(schema, limits=self._blob_limits)
        make = _PLAIN.get(str(kind))
        return make(schema) if make is not None else _always(f"a {kind} holds no values")

    def _record(self, schema: Schema, nsid: str) -> Check:
        inner = self.compile(schema["record"], nsid)

        def check(value: Value) -> str | None:
            if not isinstance(value, dict):
                return _wrong("an object")
            if value.get("$type") != nsid:
                return f"$type: must be {nsid}"
            return inner(value)

        return check

    def _object(self, schema: Schema, nsid: str) -> Check:
        properties = {
            name: self.compile(definition, nsid) for name, definition in schema.get("properties", {}).items()
        }
        required = tuple(schema.get("required", ()))
        nullable = frozenset(schema.get("nullable", ()))

        def check(value: Value) -> str | None:
            if not isinstance(value, dict):
                return _wrong("an object")
            for name in required:
                if name not in value:
                    return f"{name}: is required"
            for name, item in value.items():
                rule = properties.get(name)
                if rule is None or (item is None and name in nullable):
                    continue
                failure = rule(item)
                if failure is not None:
                    return _inside(name, failure)
            return None

        return check

    def _array(self, schema: Schema, nsid: str) -> Check:
        rule = self.compile(schema["items"], nsid)
        least, most = _bounds(schema, "minLength", "maxLength")

        def check(value: Value) -> str | None:
            if not isinstance(value, list):
                return _wrong("an array")
            if not least <= len(value) <= most:
                return _range("elements", schema, "minLength", "maxLength")
            for place, item in enumerate(value):
                failure = rule(item)
                if failure is not None:
                    return _inside(str(place), failure)
            return None

        return check

    def _ref(self, reference: str) -> Check:
        # Looked up at the first call: definitions may hold themselves.
        found: list[Check] = []

        def check(value: Value) -> str | None:
            if not found:
                found.append(self.of(reference))
            return found[0](value)

        return check

    def _union(self, schema: Schema, nsid: str) -> Check:
        references = [absolute(reference, nsid) for reference in schema["refs"]]
        rules = {reference: self._ref(reference) for reference in references}
        closed = bool(schema.get("closed"))

        def check(value: Value) -> str | None:
            if not isinstance(value, dict):
                return _wrong("an object")
            kind = value.get("$type")
            if not isinstance(kind, str):
                return "$type: is required"
            rule = rules.get(kind.removesuffix("#main"))
            if rule is not None:
                return rule(value)
            return f"$type: must be one of {', '.join(references)}" if closed else None

        return check


def absolute(reference: str, nsid: str) -> str:
    """``#name`` as ``nsid#name``; ``#main`` is left away."""
    full = nsid + reference if reference.startswith("#") else reference
    return full.removeprefix("lex:").removesuffix("#main")


def mime_type_matches(mime_type: str, accept: list[str]) -> bool:
    """Whether a list of types like ``image/*`` names this one."""
    plain = mime_type.partition(";")[0].strip().lower()
    return any(
        pattern in ("*/*", plain) or (pattern.endswith("/*") and plain.startswith(pattern[:-1]))
        for pattern in accept
    )


def graphemes_reach(text: str, number: int) -> bool:
    """Whether the text has that many graphemes, or more."""
    if len(text) < number:
        return False
    if text.isascii() and "\r" not in text:
        return True
    # Most texts are judged above; the tables for the others take a while to load.
    from grapheme import length

    return bool(length(text, number) >= number)


def _inside(name: str, failure: str) -> str:
    return f"{name}{': ' if ': ' not in failure else '/'}{failure}"


def _wrong(kind: str) -> str:
    return f"must be {kind}"


def _range(what: str, schema: Schema, low: str, high: str) -> str:
    bounds = [
        f"{word} {schema[key]}" for word, key in (("at least", low), ("at most", high)) if key in schema
    ]
    return f"must have {' and '.join(bounds)} {what}"


def _bounds(schema: Schema, low: str, high: str) -> tuple[float, float]:
    return schema.get(low, float("-inf")), schema.get(high, float("inf"))


def _always(failure: str) -> Check:
    return lambda _value: failure


def _boolean(schema: Schema) -> Check:
    const = schema.get("const")

    def check(value: Value) -> str | None:
        if not isinstance(value, bool):
            return _wrong("a boolean")
        return None if const is None or value is const else f"must be {str(const).lower()}"

    return check


def _integer(schema: Schema) -> Check:
    least, most = _bounds(schema, "minimum", "maximum")
    allowed = _allowed(schema)

    def check(value: Value) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return _wrong("an integer")
        if allowed is not None and value not in allowed:
            return f"must be one of {', '.join(map(str, allowed))}"
        if value < least:
            return f"can not be less than {least}"
        return f"can not be greater than {most}" if value > most else None

    return check


def _string(schema: Schema) -> Check:
    steps: list[Check] = []
    allowed = _allowed(schema)
    if allowed is not None:
        steps.append(lambda text: None if text in allowed else f"must be one of {', '.join(allowed)}")
    if "minLength" in schema or "maxLength" in schema:
        steps.append(_string_length(schema))
    if "minGraphemes" in schema or "maxGraphemes" in schema:
        steps.append(_string_graphemes(schema))
    if "format" in schema:
        steps.append(_string_format(schema["format"]))

    def check(value: Value) -> str | None:
        if not isinstance(value, str):
            return _wrong("a string")
        for step in steps:
            failure = step(value)
            if failure is not None:
                return failure
        return None

    return check


def _string_length(schema: Schema) -> Check:
    least, most = _bounds(schema, "minLength", "maxLength")

    def check(text: str) -> str | None:
        # A character takes one to four bytes.
        if least <= len(text) and len(text) * 4 <= most:
            return None
        length = len(text) if text.isascii() else len(text.encode())
        return None if least <= length <= most else _range("bytes", schema, "minLength", "maxLength")

    return check


def _string_graphemes(schema: Schema) -> Check:
    least, most = schema.get("minGraphemes", 0), schema.get("maxGraphemes")

    def check(text: str) -> str | None:
        if least and not graphemes_reach(text, least):
            return _range("graphemes", schema, "minGraphemes", "maxGraphemes")
        if most is not None and graphemes_reach(text, most + 1):
            return _range("graphemes", schema, "minGraphemes", "maxGraphemes")
        return None

    return check


def _string_format(name: str) -> Check:
    # A format of a later time says nothing to us.
    is_one = FORMATS.get(name)
    if is_one is None:
        return lambda _text: None
    failure = f"must be a valid {name}"
    return lambda text: None if is_one(text) else failure


def _bytes(schema: Schema) -> Check:
    least, most = _bounds(schema, "minLength", "maxLength")

    def check(value: Value) -> str | None:
        if not isinstance(value, bytes) or isinstance(value, Link):
            return _wrong("bytes")
        return None if least <= len(value) <= most else _range("bytes", schema, "minLength", "maxLength")

    return check


def _cid_link(_schema: Schema) -> Check:
    return lambda value: None if isinstance(value, Link) else _wrong("a link")


def _blob(schema: Schema, *, limits: bool) -> Check:
    most, accept = schema.get("maxSize"), schema.get("accept")

    def check(value: Value) -> str | None:
        if not isinstance(value, dict) or value.get("$type") != "blob":
            return None if not limits and is_legacy_blob(value) else _wrong("a blob")
        if limits and most is not None and value["size"] > most:
            return f"can not be larger than {most} bytes"
        if limits and accept is not None and not mime_type_matches(value["mimeType"], accept):
            return f"must be of type {', '.join(accept)}"
        return None

    return check


def is_legacy_blob(value: Value) -> bool:
    """Whether it is a blob as written in 2022: ``cid`` and ``mimeType`` as texts, nothing else."""
    return (
        isinstance(value, dict)
        and set(value) == {"cid", "mimeType"}
        and isinstance(value["cid"], str)
        and syntax.is_cid(value["cid"])
        and isinstance(value["mimeType"], str)
    )


def _unknown(_schema: Schema) -> Check:
    def check(value: Value) -> str | None:
        return None if isinstance(value, dict) and value.get("$type") != "blob" else _wrong("an object")

    return check


def _token(_schema: Schema) -> Check:
    return lambda value: None if isinstance(value, str) else _wrong("a token")


def _allowed(schema: Schema) -> tuple[Any, ...] | None:
    if "const" in schema:
        return (schema["const"],)
    return tuple(schema["enum"]) if "enum" in schema else None


_PLAIN: Final[dict[str, Callable[[Schema], Check]]] = {
    "boolean": _boolean,
    "bytes": _bytes,
    "cid-link": _cid_link,
    "integer": _integer,
    "string": _string,
    "token": _token,
    "unknown": _unknown,
}
