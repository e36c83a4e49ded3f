"""The published schemas, shipped with the package, and what they say about a value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import orjson

from appliance.errors import BadInput, NotFound
from appliance.protocol import datamodel, syntax
from appliance.protocol.datamodel import Value
from appliance.protocol.lexicon_rules import FORMATS, Check, Rules, Schema, is_legacy_blob

FILES: Final = Path(__file__).with_name("lexicon_files")

# An answer may nest as deeply as a thread does: three containers for every reply.
_ANSWER_DEPTH_MAX: Final = 300
_INTEGER = re.compile(r"-?[0-9]{1,16}")


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a query. For an array, ``type`` and the string rules are its items',
    and ``length_min``, ``length_max`` bound how many there are."""

    name: str
    type: Literal["string", "integer", "boolean"]
    is_array: bool
    required: bool
    default: str | int | bool | None
    minimum: int | None
    maximum: int | None
    format: str | None
    enum: tuple[str | int, ...] | None
    length_min: int | None
    length_max: int | None


@cache
def document(nsid: str) -> dict[str, Any] | None:
    """The published document, or None. Shared: leave it as it is."""
    if not syntax.is_nsid(nsid):
        return None
    try:
        data = FILES.joinpath(*nsid.split(".")).with_suffix(".json").read_bytes()
    except OSError:
        return None
    found: dict[str, Any] = orjson.loads(data)
    return found


def documents() -> Iterable[str]:
    """The NSIDs of all documents that are shipped."""
    for path in sorted(FILES.rglob("*.json")):
        yield ".".join(path.relative_to(FILES).with_suffix("").parts)


def definition(reference: str) -> Schema | None:
    """``nsid`` (its main definition) or ``nsid#name``; None where there is none."""
    nsid, _, name = reference.partition("#")
    found = document(nsid)
    return None if found is None else found["defs"].get(name or "main")


_as_written = Rules(definition, blob_limits=True)
_as_published = Rules(definition, blob_limits=False)


def is_record(collection: str) -> bool:
    """Whether a schema for records of this collection is shipped."""
    schema = definition(collection)
    return schema is not None and schema["type"] == "record"


def validate_record(
    collection: str, record: bytes, *, rkey: str | None = None, published: bool = False
) -> str | None:
    """None where the record is valid or its collection unknown, otherwise a sentence for its author.

    ``published`` judges as the network's servers judge what others wrote: they pass blobs of any
    size and type, and the blob form of 2022. Without it, the record is one about to be written.
    """
    try:
        return validate_value(collection, datamodel.from_json(record), rkey=rkey, published=published)
    except BadInput as error:
        return error.message


def validate_value(
    collection: str, value: Value, *, rkey: str | None = None, published: bool = False
) -> str | None:
    """The same for a data-model value that has passed ``datamodel.check``."""
    if not isinstance(value, dict):
        return "must be an object"
    if value.get("$type") != collection:
        return f"$type: must be {collection}"
    if not published and _holds_legacy_blob(value):
        return "holds a blob of the form that is no longer written"
    if not is_record(collection):
        return None
    failure = (_as_published if published else _as_written).of(collection)(value)
    return failure if failure is not None or rkey is None else validate_record_key(collection, rkey)


def validate_record_key(collection: str, rkey: str) -> str | None:
    """Whether the collection's schema allows this record key; None if so."""
    if not syntax.is_record_key(rkey):
        return "record key: must be a valid record-key"
    schema = definition(collection)
    kind = "any" if schema is None else schema.get("key", "any")
    if kind.startswith("literal:"):
        wanted = kind.removeprefix("literal:")
        return None if rkey == wanted else f"record key: must be {wanted}"
    if kind in ("tid", "nsid"):
        return None if FORMATS[kind](rkey) else f"record key: must be a valid {kind}"
    return None


def validate_output(nsid: str, answer: Any) -> str | None:
    """Whether parsed JSON is an answer of this method; None if so."""
    return _validate_body(nsid, "output", answer)


def validate_input(nsid: str, body: Any) -> str | None:
    """Whether parsed JSON is a body for this procedure; None if so."""
    return _validate_body(nsid, "input", body)


@cache
def method(nsid: str) -> Schema:
    """The query, procedure or subscription; raises NotFound (``MethodNotImplemented``)."""
    schema = definition(nsid)
    if schema is None or schema["type"] not in ("query", "procedure", "subscription"):
        raise NotFound("unknown method", name="MethodNotImplemented")
    return schema


@cache
def query_parameters(nsid: str) -> tuple[Parameter, ...]:
    """The parameters of a method, in the document's order; raises NotFound."""
    schema = method(nsid).get("parameters", {})
    required = schema.get("required", ())
    return tuple(
        _parameter(name, found, required=name in required)
        for name, found in schema.get("properties", {}).items()
    )


def parse_parameters(nsid: str, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Typed parameters of a query string, defaults filled in; raises BadInput or NotFound.

    An empty value counts as absent, of a repeated single parameter the last one counts, and
    unknown ones are left out, as the official server does.
    """
    given: dict[str, list[str]] = {}
    for name, text in pairs:
        if text:
            given.setdefault(name, []).append(text)
    found: dict[str, Any] = {}
    for parameter in query_parameters(nsid):
        texts = given.get(parameter.name)
        if texts is not None:
            values = [_parse_parameter(nsid, parameter, text) for text in texts]
            found[parameter.name] = values if parameter.is_array else values[-1]
        elif parameter.default is not None:
            found[parameter.name] = parameter.default
    failure = _parameter_check(nsid)(found)
    if failure is not None:
        raise BadInput(f"Invalid {nsid} params: {failure}")
    return found


@cache
def _parameter_check(nsid: str) -> Check:
    return _as_written.compile(method(nsid).get("parameters", {"type": "params"}), nsid)


@cache
def _body_check(nsid: str, part: str) -> Check | None:
    schema = method(nsid).get(part, {}).get("schema")
    return None if schema is None else _as_written.compile(schema, nsid)


def _validate_body(nsid: str, part: str, body: Any) -> str | None:
    check = _body_check(nsid, part)
    if check is None:
        return None
    try:
        return check(datamodel.from_parsed(body, depth_max=_ANSWER_DEPTH_MAX))
    except BadInput as error:
        return error.message
    except RecursionError:
        return "nested too deeply"


def _parameter(name: str, schema: Schema, *, required: bool) -> Parameter:
    is_array = schema["type"] == "array"
    item = schema["items"] if is_array else schema
    return Parameter(
        name=name,
        type=item["type"],
        is_array=is_array,
        required=required,
        default=item.get("default"),
        minimum=item.get("minimum"),
        maximum=item.get("maximum"),
        format=item.get("format"),
        enum=tuple(item["enum"]) if "enum" in item else None,
        length_min=schema.get("minLength"),
        length_max=schema.get("maxLength"),
    )


def _parse_parameter(nsid: str, parameter: Parameter, text: str) -> str | int | bool:
    if parameter.type == "boolean":
        return text == "true"
    if parameter.type == "string":
        return text
    if _INTEGER.fullmatch(text) is None:
        raise BadInput(f"Invalid {nsid} params: {parameter.name}: must be an integer")
    return int(text)


def _holds_legacy_blob(value: Value) -> bool:
    if isinstance(value, dict):
        return is_legacy_blob(value) or any(map(_holds_legacy_blob, value.values()))
    return isinstance(value, list) and any(map(_holds_legacy_blob, value))
