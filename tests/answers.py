"""Whether what an appliance answers over XRPC is what the published schemas say, errors as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache

import httpx
import orjson

from appliance.errors import NotFound
from appliance.protocol import lexicon_rules, lexicons
from tests.tidy import generated

PREFIX = "/xrpc/"
# By this an appliance is known, among other servers of tests.
MARK = "atproto-content-labelers"
# https://atproto.com/specs/xrpc#error-responses, and the names that the official servers use everywhere.
GENERAL_ERRORS = frozenset(
    {
        "InvalidRequest",
        "MethodNotImplemented",
        "AuthenticationRequired",
        "AuthMissing",
        "AccountTakedown",
        "AccountDeactivated",
        "ExpiredToken",
        "InvalidToken",
        "BadJwt",
        "BadJwtType",
        "BadJwtAudience",
        "BadJwtIss",
        "BadJwtLexiconMethod",
        "BadJwtSignature",
        "JwtExpired",
        "Forbidden",
        "NotFound",
        "NotAMember",
        "NotAdmitted",
        "MembersFull",
        "PayloadTooLarge",
        "StorageFull",
        "RateLimitExceeded",
        "InternalServerError",
        "InvalidFeedResponse",
        "UpstreamFailure",
        "UpstreamTimeout",
        "NotEnoughResources",
    }
)
# How often each method was answered so, by status.
seen: Counter[tuple[str, int]] = Counter()


@cache
def _served() -> frozenset[str]:
    return frozenset(method.nsid for method in generated.xrpc_methods() if method.status == "served")


def verdict(reply: httpx.Response) -> str | None:
    """What is wrong with this answer; None if nothing is."""
    nsid = reply.url.path.removeprefix(PREFIX)
    return failure(nsid, reply.status_code, reply.headers, reply.content)


def failure(nsid: str, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    """The same for the parts of an answer."""
    seen[nsid, status] += 1
    try:
        schema: lexicon_rules.Schema | None = lexicons.method(nsid)
    except NotFound:
        schema = None
    if status < 300:
        if schema is None:
            return None
        output = schema.get("output")
        if output is None:
            return None if not body else f"{nsid} has no output, and answers {body[:100]!r}"
        if output["encoding"] != "application/json":
            return None
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return f"{nsid}: its answer is not JSON"
        wrong = lexicons.validate_output(nsid, answer)
        return None if wrong is None else f"{nsid}: {wrong}"
    if status < 400:
        return None
    try:
        envelope = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"{nsid}: the error {status} is not JSON"
    if not isinstance(envelope, dict) or not isinstance(envelope.get("error"), str):
        return f"{nsid}: the error {status} has no name"
    if not headers.get("content-type", "").startswith("application/json"):
        return f"{nsid}: the error {status} does not say that it is JSON"
    if not isinstance(envelope.get("message", ""), str):
        return f"{nsid}: the message is no text"
    own = {error["name"] for error in (schema or {}).get("errors", ())}
    name = envelope["error"]
    if nsid == "app.bsky.feed.getFeed":
        # The generator's own names are handed on.
        return None
    return None if name in own | GENERAL_ERRORS else f"{nsid}: nobody knows the error {name}"


def watched(reply: httpx.Response) -> str | None:
    """The same for an answer to whatever a test asked; None for one that no appliance gave over XRPC."""
    if not reply.is_closed or not reply.request.url.path.startswith(PREFIX):
        return None
    if MARK not in reply.headers.get("access-control-expose-headers", "") or reply.request.method == "HEAD":
        return None
    # What others answer is theirs: a PDS that calls are passed on to, and whoever stands in for one.
    nsid = reply.request.url.path.removeprefix(PREFIX)
    if nsid not in _served() or "atproto-proxy" in reply.request.headers or "x-rest" in reply.headers:
        return None
    return verdict(reply)
