"""Asking the feed generators of others for the skeletons of their feeds.

https://docs.bsky.app/docs/starter-templates/custom-feeds. Clients know some failures by their words:
"could not find feed", "feed unavailable", "invalid did document", "invalid response".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from appliance import telemetry
from appliance.errors import BadAnswer, BadInput, NotFound, Unavailable
from appliance.outbound.addresses import Params
from appliance.outbound.client import Answer, Outbound
from appliance.outbound.limits import SERVICE
from appliance.protocol import did_document, lexicons
from appliance.timeline.skeletons import Entry

SKELETON = "app.bsky.feed.getFeedSkeleton"
SERVICE_ID = "bsky_fg"
SERVICE_TYPE = "BskyFeedGenerator"
MESSAGE_CHARS_MAX = 300
# Words on which clients end or renew sessions: those that a generator says are not about ours.
_ABOUT_SESSIONS = frozenset({"ExpiredToken", "InvalidToken"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}")
_LANGUAGE = re.compile(r"[A-Za-z0-9, -]{1,100}")

ASKED = telemetry.counter("feed_generators_asked", "Skeletons asked of generators.", ["outcome"])


class Documents(Protocol):
    """Where DID documents come from; ``identity.Identities`` is one."""

    async def document(self, did: str) -> did_document.Identity: ...


class Skeleton(msgspec.Struct, frozen=True):
    """What a generator answered. ``language`` is its Content-Language."""

    entries: list[Entry]
    cursor: str | None
    req_id: str
    language: str


class Generators:
    """The way to generators. Everything raises BadInput for what the feed's makers or callers can mend,
    BadAnswer where the generator fails."""

    def __init__(self, documents: Documents, outbound: Outbound) -> None:
        self._documents = documents
        self._outbound = outbound

    async def endpoint(self, did: str) -> str:
        """The origin of a generator's service. Raises also Unavailable where nobody knows."""
        try:
            document = await self._documents.document(did)
        except (NotFound, BadInput) as error:
            raise BadInput(f"could not resolve did document: {did}") from error
        service = document.services.get(SERVICE_ID)
        if service is None or service.type != SERVICE_TYPE:
            raise BadInput(f"invalid did document: {did} names no feed generator")
        return service.endpoint

    async def skeleton(
        self, did: str, feed: str, *, cursor: str | None, limit: int, headers: Mapping[str, str]
    ) -> Skeleton:
        """One page of a feed, at most ``limit`` entries of it."""
        origin = await self.endpoint(did)
        params: Params = {"feed": feed, "limit": limit}
        if cursor:
            params["cursor"] = cursor
        outcome = "unavailable"
        try:
            answer = await self._outbound.get(
                f"{origin}/xrpc/{SKELETON}", limits=SERVICE, params=params, headers=headers
            )
            outcome = "refused"
            if not answer.ok:
                raise _refusal(answer)
            outcome = "invalid"
            found = _read(answer, cursor, limit)
            outcome = "ok"
            return found
        except BadAnswer:
            raise
        except (BadInput, Unavailable) as error:
            if outcome == "refused":
                raise
            raise BadAnswer("feed unavailable") from error
        finally:
            ASKED.labels(outcome).inc()


def _refusal(answer: Answer) -> BadInput | BadAnswer:
    """The generator's own words about the caller's mistake; of its own failures no more than the name."""
    name = answer.error_name()
    if not _NAME.fullmatch(name) or name in _ABOUT_SESSIONS:
        name = "InvalidRequest" if 400 <= answer.status < 500 else "UpstreamFailure"
    if not 400 <= answer.status < 500:
        return BadAnswer("feed unavailable", name=name)
    message = "the feed does not answer this"
    try:
        body = answer.json()
    except BadInput:
        body = None
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        said = "".join(each for each in body["message"] if each.isprintable())
        message = said[:MESSAGE_CHARS_MAX] or message
    return BadInput(message, name=name)


def _read(answer: Answer, asked_cursor: str | None, limit: int) -> Skeleton:
    try:
        body: Any = answer.json()
    except BadInput:
        body = None
    if not isinstance(body, dict) or lexicons.validate_output(SKELETON, body) is not None:
        raise BadAnswer("feed provided an invalid response", name="InvalidFeedResponse")
    entries = [Entry.of(each) for each in body["feed"][:limit]]
    cursor = body.get("cursor")
    if not entries or not cursor or cursor == asked_cursor:
        cursor = None
    language = answer.headers.get("content-language", "")
    return Skeleton(
        entries, cursor, body.get("reqId") or "", language if _LANGUAGE.fullmatch(language) else ""
    )
