"""HTTP replies of XRPC: JSON, the error envelope, CORS."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import orjson

from appliance.auth.budgets import Exceeded, Left
from appliance.errors import ApplianceError, BadAnswer, BadInput, NotFound, Refused, Unavailable

Header = tuple[bytes, bytes]

# Browsers may call from anywhere: there are no cookies here, a token has to be shown.
CORS: list[Header] = [
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        (
            b"atproto-repo-rev, atproto-content-labelers, dpop-nonce, retry-after, ratelimit-limit,"
            b" ratelimit-remaining, ratelimit-reset, ratelimit-policy, www-authenticate"
        ),
    ),
]
PREFLIGHT: list[Header] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
    (
        b"access-control-allow-headers",
        (
            b"authorization, content-type, dpop, atproto-proxy, atproto-accept-labelers, x-bsky-topics,"
            b" accept-language, x-atproto-accept-labelers"
        ),
    ),
    (b"access-control-max-age", b"86400"),
]
_JSON: Header = (b"content-type", b"application/json; charset=utf-8")
_ALWAYS: list[Header] = [
    *CORS,
    (b"x-content-type-options", b"nosniff"),
    (b"vary", b"authorization, atproto-accept-labelers"),
]

# Refusals that no better token would lift.
_FORBIDDEN = frozenset({"NotAMember", "Forbidden"})
_GATEWAY = frozenset({"UpstreamFailure", "UpstreamTimeout", "InvalidFeedResponse"})


class Reply(NamedTuple):
    """Everything that goes back."""

    status: int
    headers: list[Header]
    body: bytes


def json_reply(body: bytes, *more: Header, status: int = 200) -> Reply:
    """Finished JSON."""
    length = (b"content-length", b"%d" % len(body))
    return Reply(status, [_JSON, length, *more, *_ALWAYS], body)


def empty_reply(status: int = 200) -> Reply:
    """Nothing but a status, for procedures without output."""
    return Reply(status, [(b"content-length", b"0"), *_ALWAYS], b"")


def preflight() -> Reply:
    """What a browser asks before it asks."""
    return Reply(204, [(b"content-length", b"0"), *PREFLIGHT], b"")


def error_reply(status: int, name: str, message: str, *more: Header) -> Reply:
    """The error envelope."""
    envelope: dict[str, Any] = {"error": name}
    if message:
        envelope["message"] = message
    return json_reply(orjson.dumps(envelope), *more, status=status)


def limit_headers(left: Left | None) -> list[Header]:
    """What is left of the caller's budget."""
    return [] if left is None else [(name.encode(), value.encode()) for name, value in left.headers]


def reply_to(error: ApplianceError, *more: Header) -> Reply:
    """The reply for a foreseen failure."""
    match error:
        case BadInput() | NotFound():
            status = 501 if error.name == "MethodNotImplemented" else 400
            return error_reply(status, error.name, error.message, *more)
        case Refused():
            status = 403 if error.name in _FORBIDDEN else 401
            return error_reply(status, error.name, error.message, *more)
        case Exceeded():
            seconds = max(1, math.ceil(error.retry_after_s or 1))
            more = (*more, *limit_headers(error.left), (b"retry-after", b"%d" % seconds))
            return error_reply(429, error.name, error.message, *more)
        case BadAnswer():
            return error_reply(502, error.name, error.message, *more)
        case Unavailable():
            status = 502 if error.name in _GATEWAY and error.retry_after_s is None else 503
            seconds = 30 if error.retry_after_s is None else max(1, round(error.retry_after_s))
            retry = (b"retry-after", b"%d" % seconds)
            return error_reply(status, error.name, error.message, retry, *more)
    return error_reply(500, "InternalServerError", "Internal Server Error", *more)
