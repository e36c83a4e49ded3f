"""Rows of a Jetstream v2 archive as events: what the stream of that host told, or found out, back then."""

from __future__ import annotations

from typing import Final

from appliance.errors import BadInput
from appliance.ingest.upstream import RAW_KEPT_MAX, SKIPPED, Places
from appliance.protocol import cbor, cid, firehose, segments
from appliance.protocol.events import BrokenEvent, CommitEvent, Event, IdentityEvent, Operation
from appliance.protocol.firehose import Frame
from appliance.protocol.segments import Row
from appliance.protocol.tid import tid_us
from appliance.store import collections

# As whole rows of a block are chosen: what we keep, and what is about an account as a whole.
RECORDS: Final = frozenset(nsid.encode() for nsid in collections.NUMBERS)
MARKERS: Final = frozenset({b""})

# Within this of its commit the writer of the archive heard of a record; later it came upon it.
HEARD_WITHIN_US: Final = 5 * 60 * 1_000_000

_OPERATIONS: Final[dict[int, Operation]] = {
    segments.CREATE: "create",
    segments.UPDATE: "update",
    segments.DELETE: "delete",
    segments.RESYNC: "create",
}
_MARKERS: Final = {segments.IDENTITY: "#identity", segments.ACCOUNT: "#account", segments.SYNC: "#sync"}


def event_of(row: Row, places: Places) -> Event | None:
    """The event that the row holds; None for a kind that is not known yet. Never raises.

    ``places`` counts operations of a commit, as it does for the stream.
    """
    operation = _OPERATIONS.get(row.kind)
    if operation is not None:
        return _commit(row, operation, places)
    marker = _MARKERS.get(row.kind)
    if marker is None:
        SKIPPED.labels("archive", "kind").inc()
        return None
    return _marker(row, marker)


def _commit(row: Row, operation: Operation, places: Places) -> CommitEvent:
    record = cid_text = None
    if operation != "delete":
        cid_text = cid.to_text(cid.cid_of(row.payload))
        try:
            record = cbor.to_json(row.payload)
        except BadInput:
            # The repository has it, so it counts; no lexicon allows it, so nobody sees it.
            record = b"{}"
    return CommitEvent(
        row.did,
        row.rev,
        places.next(row.did, row.rev),
        operation,
        row.collection,
        row.rkey,
        cid_text,
        record,
        row.time_us,
        found=not _was_heard(row),
    )


def _was_heard(row: Row) -> bool:
    """Whether the archive's time is when the record was written, not when its repository was downloaded.

    Then it is that of the commit as well, and a key that names a time names no other: a repository that
    is downloaded right after a commit shows old records under the rev of that commit, too.
    """
    if row.kind == segments.RESYNC:
        return False
    try:
        if abs(row.time_us - tid_us(row.rev)) > HEARD_WITHIN_US:
            return False
    except BadInput:
        return False
    try:
        return tid_us(row.rkey) >= row.time_us - HEARD_WITHIN_US
    except BadInput:
        return True


def _marker(row: Row, kind: str) -> Event:
    if kind == "#identity" and not row.payload:
        return IdentityEvent(row.did, None, row.time_us, 0)
    try:
        body = cbor.decode_loosely(row.payload)
        if not isinstance(body, dict) or body.get("did") != row.did:
            raise BadInput("a marker about another account")
        (event,) = firehose.events(Frame(kind, body), row.payload[:RAW_KEPT_MAX])
    except BadInput as error:
        return BrokenEvent(row.did, row.payload[:RAW_KEPT_MAX], error.message, row.time_us)
    return event
