"""DID documents: who an account is, where it is hosted, which key signs for it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson

from appliance.errors import BadInput
from appliance.protocol import keys, syntax

SERVICES_MAX = 50
KEYS_MAX = 20
DOCUMENT_MAX = 65_536
ENDPOINT_MAX = 2048

_HOST = re.compile(r"[a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\]")


class Service(msgspec.Struct, frozen=True):
    """``endpoint`` is an http(s) origin, without a slash at its end."""

    type: str
    endpoint: str


class Identity(msgspec.Struct, frozen=True):
    """What a DID document says; handles are claims until they resolve back to the DID.

    ``handles`` are in the document's order, in lower case, the first counts. ``signing_key`` is a
    did:key. ``services`` go by fragment (``atproto_pds``); those without a usable origin are left out.
    """

    did: str
    handles: tuple[str, ...]
    pds: str | None
    signing_key: str | None
    services: dict[str, Service]
    keys: dict[str, str]


def parse(document: bytes, did: str) -> Identity:
    """Raises BadInput for what is no document, or another DID's. Unusable parts count as absent."""
    if len(document) > DOCUMENT_MAX:
        raise BadInput("DID document too large", name="InvalidDidDocument")
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise BadInput("DID document is not JSON", name="InvalidDidDocument") from None
    return from_parsed(parsed, did)


def from_parsed(parsed: Any, did: str) -> Identity:
    """The same for JSON that is already parsed."""
    if not isinstance(parsed, dict):
        raise BadInput("DID document is no object", name="InvalidDidDocument")
    if parsed.get("id") != did:
        raise BadInput("DID document of another DID", name="InvalidDidDocument")
    services = _services(_entries(parsed, "service", SERVICES_MAX), did)
    found_keys = _keys(_entries(parsed, "verificationMethod", KEYS_MAX), did)
    pds = services.get("atproto_pds")
    return Identity(
        did=did,
        handles=_handles(parsed.get("alsoKnownAs")),
        pds=pds.endpoint if pds is not None and pds.type == "AtprotoPersonalDataServer" else None,
        signing_key=found_keys.get("atproto"),
        services=services,
        keys=found_keys,
    )


def origin(url: object) -> str | None:
    """The URL as an http(s) origin (scheme, host, port if not the usual), or None if it is more."""
    if not isinstance(url, str) or len(url) > ENDPOINT_MAX or not url.isascii() or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc
    if (
        parts.scheme not in ("http", "https")
        or parts.path not in ("", "/")
        or "?" in url
        or "#" in url
        or "\\" in url
        or _HOST.fullmatch(host) is None
    ):
        return None
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host.lower()}" + (f":{port}" if port not in (None, usual) else "")


def _entries(parsed: dict[str, Any], field: str, most: int) -> list[dict[str, Any]]:
    entries = parsed.get(field)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise BadInput(f"DID document with a malformed {field}", name="InvalidDidDocument")
    if len(entries) > most:
        raise BadInput(f"DID document with more than {most} of {field}", name="InvalidDidDocument")
    return [entry for entry in entries if isinstance(entry, dict)]


def _fragment(entry: dict[str, Any], did: str) -> str | None:
    name = entry.get("id")
    if not isinstance(name, str):
        return None
    # ``#x`` and ``did#x`` are one id.
    name = name.removeprefix(did)
    return name[1:] if name.startswith("#") and len(name) > 1 else None


def _services(entries: list[dict[str, Any]], did: str) -> dict[str, Service]:
    found: dict[str, Service] = {}
    seen: set[str] = set()
    for entry in entries:
        fragment = _fragment(entry, did)
        if fragment is None or fragment in seen:
            continue
        seen.add(fragment)
        endpoint = origin(entry.get("serviceEndpoint"))
        if endpoint is not None and isinstance(entry.get("type"), str):
            found[fragment] = Service(entry["type"], endpoint)
    return found


def _keys(entries: list[dict[str, Any]], did: str) -> dict[str, str]:
    found: dict[str, str] = {}
    seen: set[str] = set()
    for entry in entries:
        fragment = _fragment(entry, did)
        if fragment is None or fragment in seen:
            continue
        seen.add(fragment)
        text, kind = entry.get("publicKeyMultibase"), entry.get("type")
        if not isinstance(text, str) or not isinstance(kind, str) or entry.get("controller", did) != did:
            continue
        try:
            found[fragment] = keys.parse_multibase(text, kind)
        except BadInput:
            continue
    return found


def _handles(also_known_as: object) -> tuple[str, ...]:
    if not isinstance(also_known_as, list):
        return ()
    found: list[str] = []
    for name in also_known_as[:100]:
        if isinstance(name, str) and name.startswith("at://") and syntax.is_handle(name[5:]):
            handle = name[5:].lower()
            if handle not in found:
                found.append(handle)
    return tuple(found)
