"""How every answer is made: one hop into one snapshot, finished JSON, and what goes into headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import BadInput
from appliance.protocol.syntax import AtUri, parse_at_uri
from appliance.store import actor_reads, post_reads
from appliance.store.collections import NUMBERS
from appliance.store.database import Database, Reader
from appliance.timeline import labelers, profiles
from appliance.timeline.asker import Asker
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.json_text import text
from appliance.timeline.shared import Shared

# What every answer with numbers says that counts only what is kept here (docs/xrpc-own.md).
KNOWN_HERE = b'"countsScope":"tracked"'


class Answer(msgspec.Struct, frozen=True):
    """JSON, and what goes into headers: the viewer's revision here, the labelers that counted.

    ``error`` is set instead of a body where even a refusal carries those headers. ``newer`` is the
    cursor above the first row of a home timeline, '' where that is not known or nothing is there.
    ``records`` and ``people`` are ids of what a member's answer would show if it were here; ``uncounted`` are
    addresses and DIDs whose numbers an index outside may know. ``language`` is what a feed generator says its
    answer is in.
    """

    body: bytes
    rev: str | None = None
    labelers: str = ""
    error: BadInput | None = None
    newer: str = ""
    records: tuple[int, ...] = ()
    uncounted: tuple[str, ...] = ()
    people: tuple[int, ...] = ()
    language: str = ""

    def parsed(self) -> Any:
        """The JSON as values, for pages. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return orjson.loads(self.body)


class Answering:
    """Makes answers from one database; what is kept between them is shared by all that hold this."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self.database = database
        self.shared = Shared(settings, clock)
        # Is told what members' answers would show if it were here: ids of records and of actors.
        # Is told of which posts and accounts members would see the numbers of strangers.
        self.uncounted: Callable[[tuple[str, ...]], object] = lambda _targets: None
        self.wanted: Callable[[tuple[int, ...], tuple[int, ...]], object] = lambda _records, _people: None

    async def answer(
        self,
        asker: Asker,
        members: Callable[[State], bytes],
        *,
        with_rev: bool = False,
        rev_on_errors: bool = False,
        labelled: bool = True,
    ) -> Answer:
        """The object whose members ``members`` writes. Raises what it raises.

        ``with_rev``: methods after which a PDS adds what its user wrote since. ``labelled`` is False where
        labels play no part.
        """

        def work(reader: Reader) -> Answer:
            state = State(reader, self.shared, asker)
            error = None
            try:
                inner = members(state)
                if labelled and not self.shared.counts_all:
                    inner += (b"," if inner else b"") + KNOWN_HERE
                body = b"{" + inner + b"}"
            except BadInput as refused:
                if not rev_on_errors:
                    raise
                body, error = b"", refused
            rev = None
            if with_rev and state.viewer is not None and state.viewer != STRANGER:
                rev = actor_reads.rev(reader, state.viewer)
            if error is not None:
                return Answer(b"", rev, error=error)
            wanted, people = state.lacks() if asker.member else ((), ())
            named = labelers.text_of(state.labelers) if labelled else ""
            uncounted = tuple(state.uncounted) if asker.member else ()
            return Answer(body, rev, named, records=wanted, people=people, uncounted=uncounted)

        answer = await self.database.read(work)
        if answer.records or answer.people:
            self.wanted(answer.records, answer.people)
        if answer.uncounted:
            self.uncounted(answer.uncounted)
        return answer


def paged(members: bytes, cursor: str | None) -> bytes:
    """The members, and the cursor where more follows."""
    return members if cursor is None else members + b',"cursor":' + text(cursor)


def visible(state: State, did_or_handle: str) -> int | None:
    """Who that is, if he exists for the caller."""
    found = profiles.find(state, did_or_handle)
    if found is None:
        return None
    state.finish(actors=[found])
    return found if state.sees_actor(found) else None


def with_did(uri: str) -> str:
    """The address, unless it names its account by handle: lists are of exact addresses."""
    if not uri.startswith("at://did:"):
        raise BadInput("The address must name its account by DID")
    return uri


def record_of(state: State, uri: str, *, by_handle: bool = True) -> int | None:
    """The id of a record. None for what has no row, or names no record."""
    try:
        at: AtUri = parse_at_uri(uri)
    except BadInput:
        return None
    if not at.rkey or not (by_handle or at.authority.startswith("did:")):
        return None
    actor = actor_reads.find_actor(state.reader, at.authority)
    if actor is None:
        return None
    collection = NUMBERS.get(at.collection)
    if collection is None:
        return None
    return post_reads.find_record(state.reader, actor, collection, at.rkey)
