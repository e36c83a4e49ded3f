"""What a repository procedure asks for, read from its body: pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import orjson

from appliance.errors import BadInput
from appliance.protocol import cbor, cid, datamodel, syntax

CREATE = "com.atproto.repo.createRecord"
PUT = "com.atproto.repo.putRecord"
DELETE = "com.atproto.repo.deleteRecord"
APPLY = "com.atproto.repo.applyWrites"
PROCEDURES = frozenset({CREATE, PUT, DELETE, APPLY})
WRITES_MAX = 200

Action = Literal["create", "update", "delete"]
_ACTIONS: dict[str, Action] = {
    f"{APPLY}#create": "create",
    f"{APPLY}#update": "update",
    f"{APPLY}#delete": "delete",
}


class Operation(msgspec.Struct, frozen=True):
    """One record to write. ``cid`` is what the PDS has to answer, None where we can't tell.

    ``fresh``: we chose the key just now, so whatever is found there is this very write.
    """

    action: Action
    collection: str
    rkey: str
    body: bytes | None = None
    cid: str | None = None
    fresh: bool = False


def plan(
    nsid: str,
    body: dict[str, Any],
    did: str,
    handle: str | None,
    next_key: Callable[[], str],
    *,
    own_key: bool = False,
) -> list[Operation]:
    """The operations of a call, in order.

    ``body`` is completed: the repository by DID, a key for each new record. A key that is chosen before
    sending lets an unknown outcome be settled by looking; ``own_key`` says that the one in ``body`` is
    such a one. Raises BadInput, also where the body is about somebody else's repository.
    """
    repo = body.get("repo")
    if repo != did and (handle is None or str(repo).lower() != handle):
        raise BadInput("Write to your own repository only")
    body["repo"] = did
    if nsid != APPLY:
        action: Action = "delete" if nsid == DELETE else "update" if nsid == PUT else "create"
        return [_operation(action, body, "record", next_key, own_key)]
    writes = body.get("writes")
    if not isinstance(writes, list) or not 0 < len(writes) <= WRITES_MAX:
        raise BadInput(f"From 1 to {WRITES_MAX} writes at once")
    operations = []
    for write in writes:
        if not isinstance(write, dict) or write.get("$type") not in _ACTIONS:
            raise BadInput("A write is a create, an update or a delete")
        operations.append(_operation(_ACTIONS[write["$type"]], write, "value", next_key, False))
    return operations


def is_record_cid(text: object) -> bool:
    """Is this the CID of a record, spelled as CIDs of records are?"""
    try:
        return isinstance(text, str) and cid.to_text(cid.from_text(text)) == text
    except BadInput:
        return False


def _operation(
    action: Action, write: dict[str, Any], content: str, next_key: Callable[[], str], own_key: bool
) -> Operation:
    collection = write.get("collection")
    if not isinstance(collection, str) or not syntax.is_nsid(collection):
        raise BadInput("The collection is not an NSID")
    fresh = action == "create" and (own_key or write.get("rkey") is None)
    if fresh and not own_key:
        write["rkey"] = next_key()
    rkey = write.get("rkey")
    if not isinstance(rkey, str) or not syntax.is_record_key(rkey):
        raise BadInput("That is not a record key")
    if action == "delete":
        return Operation(action, collection, rkey)
    record = write.get(content)
    if not isinstance(record, dict):
        raise BadInput("The record is not an object")
    if record.setdefault("$type", collection) != collection:
        raise BadInput("The record is of another type than its collection")
    try:
        data = orjson.dumps(record)
        text = cid.to_text(cid.cid_of(cbor.encode(datamodel.from_json(data))))
    except (TypeError, BadInput) as error:
        raise BadInput("The record is not AT Protocol data") from error
    return Operation(action, collection, rkey, data, text, fresh)
