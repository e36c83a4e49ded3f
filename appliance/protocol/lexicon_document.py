"""Whether a document is a lexicon: for schemas that come from others.

Language: https://atproto.com/specs/lexicon
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from appliance.protocol import syntax

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]{0,127}")
_KEY = re.compile(r"tid|nsid|any|literal:[A-Za-z0-9_~.:-]{1,512}")
# Only as ``main``; the document is about one of these.
_PRIMARY: Final = frozenset(("record", "query", "procedure", "subscription", "permission-set"))
_NAMED: Final = frozenset(
    ("array", "blob", "boolean", "bytes", "cid-link", "integer", "object", "string", "token")
)
_FIELD: Final = _NAMED - {"token"} | {"ref", "union", "unknown"}
_PARAMETER: Final = frozenset(("boolean", "integer", "string", "unknown"))
_DEPTH_MAX: Final = 32


class _Invalid(Exception):
    """With the sentence as its argument."""


def check(document: object) -> str | None:
    """None where parsed JSON is a lexicon, otherwise a sentence that says what is wrong."""
    try:
        _document(document)
    except _Invalid as invalid:
        return str(invalid)
    return None


def _document(document: object) -> None:
    if not isinstance(document, dict):
        raise _Invalid("must be an object")
    version, nsid, definitions = (document.get(name) for name in ("lexicon", "id", "defs"))
    if version != 1 or isinstance(version, bool):
        raise _Invalid("lexicon: must be 1")
    if not isinstance(nsid, str) or not syntax.is_nsid(nsid):
        raise _Invalid("id: must be a valid nsid")
    if not isinstance(definitions, dict) or not definitions:
        raise _Invalid("defs: must be an object with definitions")
    for name, schema in definitions.items():
        if not _NAME.fullmatch(name):
            raise _Invalid(f"defs: {name!r} is no name")
        _definition(name, _object(schema, name))


def _definition(name: str, schema: Mapping[str, Any]) -> None:
    kind = schema.get("type")
    if kind in _PRIMARY:
        if name != "main":
            raise _Invalid(f"{name}: a {kind} must be the main definition")
        _PRIMARY_CHECKS[kind](schema)
    elif kind in _NAMED:
        _field(schema, name, _NAMED, _DEPTH_MAX)
    else:
        raise _Invalid(f"{name}: no definition is of type {kind!r}")


def _record(schema: Mapping[str, Any]) -> None:
    key = schema.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _Invalid("main: key must be tid, nsid, any or literal:…")
    record = _object(schema.get("record"), "record")
    if record.get("type") != "object":
        raise _Invalid("main: record must be of type object")
    _field(record, "record", _FIELD, _DEPTH_MAX)


def _method(schema: Mapping[str, Any]) -> None:
    if "parameters" in schema:
        parameters = _object(schema["parameters"], "parameters")
        if parameters.get("type") != "params":
            raise _Invalid("parameters: must be of type params")
        _properties(parameters, "parameters", _PARAMETER | {"array"}, _DEPTH_MAX)
    for part in ("input", "output"):
        if part in schema:
            body = _object(schema[part], part)
            if not isinstance(body.get("encoding"), str):
                raise _Invalid(f"{part}: encoding is required")
            _body_schema(body, part)
    if "message" in schema:
        _body_schema(_object(schema["message"], "message"), "message")
    for error in _list(schema.get("errors", []), "errors"):
        if not isinstance(_object(error, "errors").get("name"), str):
            raise _Invalid("errors: name is required")


def _body_schema(body: Mapping[str, Any], part: str) -> None:
    if "schema" in body:
        _field(_object(body["schema"], part), part, frozenset(("object", "ref", "union")), _DEPTH_MAX)


def _permission_set(schema: Mapping[str, Any]) -> None:
    for permission in _list(schema.get("permissions"), "permissions"):
        found = _object(permission, "permissions")
        if found.get("type") != "permission" or not isinstance(found.get("resource"), str):
            raise _Invalid("permissions: must be of type permission, with a resource")


def _field(schema: Mapping[str, Any], where: str, kinds: frozenset[str], depth_left: int) -> None:
    if depth_left <= 0:
        raise _Invalid("nested too deeply")
    kind = schema.get("type")
    if kind not in kinds:
        raise _Invalid(f"{where}: no field here is of type {kind!r}")
    if kind == "object":
        _properties(schema, where, _FIELD, depth_left)
    elif kind == "array":
        items = kinds - {"array"} if kinds is _PARAMETER else _FIELD
        _field(_object(schema.get("items"), where), f"{where}/items", items, depth_left - 1)
    elif kind == "ref":
        _reference(schema.get("ref"), where)
    elif kind == "union":
        for reference in _list(schema.get("refs"), where):
            _reference(reference, where)
    for name in ("minLength", "maxLength", "minGraphemes", "maxGraphemes", "minimum", "maximum", "maxSize"):
        if name in schema and (not isinstance(schema[name], int) or isinstance(schema[name], bool)):
            raise _Invalid(f"{where}: {name} must be an integer")
    for name in ("enum", "knownValues", "accept"):
        if name in schema:
            _list(schema[name], where)


def _properties(schema: Mapping[str, Any], where: str, kinds: frozenset[str], depth_left: int) -> None:
    properties = _object(schema.get("properties", {}), where)
    for name, field in properties.items():
        _field(_object(field, name), name, kinds, depth_left - 1)
    for listed in ("required", "nullable"):
        for name in _list(schema.get(listed, []), where):
            if not isinstance(name, str) or name not in properties:
                raise _Invalid(f"{where}: {listed} names a field that isn't there")


def _reference(reference: object, where: str) -> None:
    if isinstance(reference, str):
        nsid, mark, name = reference.partition("#")
        if (syntax.is_nsid(nsid) or (mark and not nsid)) and (not mark or _NAME.fullmatch(name)):
            return
    raise _Invalid(f"{where}: malformed reference")


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Invalid(f"{where}: must be an object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Invalid(f"{where}: must be an array")
    return value


_PRIMARY_CHECKS: Final = {
    "record": _record,
    "query": _method,
    "procedure": _method,
    "subscription": _method,
    "permission-set": _permission_set,
}
