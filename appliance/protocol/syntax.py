"""The identifier and string formats of the protocol: is it one, and what are its parts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

from appliance.errors import BadInput

# https://atproto.com/specs/did, /handle, /nsid, /record-key, /tid, /at-uri-scheme, /lexicon
DID_MAX = 2048
HANDLE_MAX = 253
NSID_MAX = 317
RECORD_KEY_MAX = 512
URI_MAX = 8192
DATETIME_MAX = 64

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]")
_HANDLE = re.compile(rf"(?:{_LABEL}\.)+[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?")
_NSID = re.compile(
    rf"[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}"
)
_RECORD_KEY = re.compile(r"[A-Za-z0-9_~.:-]{1,512}")
_TID = re.compile(r"[2-7a-j][2-7a-z]{12}")
_CID = re.compile(r"[a-zA-Z0-9+=]{8,256}")
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,80}:(?://)?[^\s/\x00-\x20\x7f][^\s\x00-\x20\x7f]*")
_DATETIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,20})?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_ZERO_US = 62_167_219_200_000_000  # from 0000-01-01 to 1970-01-01; 0000 is a leap year

# BCP 47. Capitals in the primary subtag are refused, as the published vectors do.
_LANGUAGE = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-zA-Z]{3}){0,3}|[a-z]{5,8})"
    r"(?:-[a-zA-Z]{4})?"
    r"(?:-(?:[a-zA-Z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-zA-Z0-9]{5,8}|[0-9][a-zA-Z0-9]{3}))*)"
    r"(?P<extensions>(?:-[0-9a-wyzA-WYZ](?:-[a-zA-Z0-9]{2,8})+)*)"
    r"(?:-[xX](?:-[a-zA-Z0-9]{1,8})+)?"
)
_PRIVATE_LANGUAGE = re.compile(r"[xX](?:-[a-zA-Z0-9]{1,8})+")
_GRANDFATHERED = frozenset(
    (
        *("en-gb-oed", "i-ami", "i-bnn", "i-default", "i-enochian", "i-hak", "i-klingon", "i-lux"),
        *("i-mingo", "i-navajo", "i-pwn", "i-tao", "i-tay", "i-tsu"),
        *("sgn-be-fr", "sgn-be-nl", "sgn-ch-de"),
    )
)


class AtUri(msgspec.Struct, frozen=True, gc=False, order=True):
    """``at://authority/collection/rkey``; the last two are empty where the URI stops earlier."""

    authority: str
    collection: str = ""
    rkey: str = ""

    def __str__(self) -> str:
        if self.rkey:
            return f"at://{self.authority}/{self.collection}/{self.rkey}"
        return f"at://{self.authority}/{self.collection}" if self.collection else f"at://{self.authority}"


def is_did(text: str) -> bool:
    """Of any method."""
    return len(text) <= DID_MAX and _DID.fullmatch(text) is not None


def is_handle(text: str) -> bool:
    """In any case; reserved endings pass."""
    return len(text) <= HANDLE_MAX and _HANDLE.fullmatch(text) is not None


def is_at_identifier(text: str) -> bool:
    """A DID or a handle."""
    return is_did(text) if text.startswith("did:") else is_handle(text)


def is_nsid(text: str) -> bool:
    """The name of a collection or a method."""
    return len(text) <= NSID_MAX and _NSID.fullmatch(text) is not None


def is_record_key(text: str) -> bool:
    """The last part of a record's address."""
    return _RECORD_KEY.fullmatch(text) is not None and text not in (".", "..")


def is_tid(text: str) -> bool:
    """Thirteen characters that tell a time."""
    return _TID.fullmatch(text) is not None


def is_cid(text: str) -> bool:
    """Whether it could be a CID of any version and base; ``cid.from_text`` is what we follow."""
    return _CID.fullmatch(text) is not None and not text.startswith("Qmb")


def is_uri(text: str) -> bool:
    """Of any scheme."""
    return len(text) <= URI_MAX and _URI.fullmatch(text) is not None


def is_at_uri(text: str) -> bool:
    """Strictly: no fragment, no query, no slash at the end."""
    return _at_uri(text) is not None


def is_datetime(text: str) -> bool:
    """Whether syntax and calendar hold; the year 0000 is allowed, what lies before it is not."""
    return _datetime_us(text) is not None


def is_language(text: str) -> bool:
    """A well-formed BCP 47 tag without repeated variants or extensions."""
    if text.lower() in _GRANDFATHERED or _PRIVATE_LANGUAGE.fullmatch(text):
        return True
    match = _LANGUAGE.fullmatch(text)
    if match is None:
        return False
    variants = match["variants"].lower().split("-")[1:]
    singletons = [part for part in match["extensions"].lower().split("-") if len(part) == 1]
    return len(set(variants)) == len(variants) and len(set(singletons)) == len(singletons)


def parse_at_uri(text: str) -> AtUri:
    """Raises BadInput. The authority stays as written; only record URIs have an rkey."""
    found = _at_uri(text)
    if found is None:
        raise BadInput("not an at:// address", name="InvalidRequest")
    return found


def normalise_handle(text: str) -> str:
    """In lower case; raises BadInput where it isn't a handle."""
    if not is_handle(text):
        raise BadInput("not a handle")
    return text.lower()


def normalise_did(text: str) -> str:
    """A DID of a method that the network uses (plc, web), its host in lower case; raises BadInput."""
    if is_did(text):
        if text.startswith("did:plc:"):
            return text
        if text.startswith("did:web:"):
            host = text[8:].lower().replace("%3a", "%3A")
            # https://atproto.com/specs/did allows did:web for whole hosts only; a host with a dot behind
            # it is the same host under a second name.
            if ":" not in host and not host.endswith(".") and ".%3A" not in host:
                return "did:web:" + host
    raise BadInput("not a did:plc or did:web")


def parse_datetime_us(text: str) -> int:
    """Microseconds since 1970, negative before; finer digits are cut. Raises BadInput."""
    found = _datetime_us(text)
    if found is None:
        raise BadInput("not a datetime")
    return found


def _at_uri(text: str) -> AtUri | None:
    if not text.startswith("at://") or len(text) > URI_MAX:
        return None
    parts = text[5:].split("/")
    if len(parts) > 3 or not is_at_identifier(parts[0]):
        return None
    if len(parts) > 1 and not is_nsid(parts[1]):
        return None
    if len(parts) > 2 and not is_record_key(parts[2]):
        return None
    return AtUri(*parts)


def _datetime_us(text: str) -> int | None:
    if len(text) > DATETIME_MAX:
        return None
    match = _DATETIME.fullmatch(text)
    if match is None or text.endswith("-00:00"):
        return None
    try:
        if match[1] != "0000":
            return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
        # Python's years begin with 1; year 0 has the calendar of any leap year.
        moment = datetime.fromisoformat("2000" + text[4:])
    except (ValueError, OverflowError):
        return None
    since_start_us = (moment - datetime(2000, 1, 1, tzinfo=UTC)) // _MICROSECOND
    return since_start_us - _YEAR_ZERO_US if since_start_us >= 0 else None
