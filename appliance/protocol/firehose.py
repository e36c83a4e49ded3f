"""The frames of ``com.atproto.sync.subscribeRepos``: reading, writing, checking.

Format: https://atproto.com/specs/event-stream and https://atproto.com/specs/sync
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from appliance.errors import BadInput
from appliance.protocol import car, cbor, cbor_exact, cid, commits, mst, syntax
from appliance.protocol.datamodel import Link, Value
from appliance.protocol.events import (
    AccountEvent,
    BrokenEvent,
    CommitEvent,
    Event,
    IdentityEvent,
    Operation,
    SyncEvent,
)
from appliance.protocol.tid import tid_us

FRAME_MAX: Final = 5_000_000
OPERATIONS_MAX: Final = 200
BLOCKS_MAX: Final = 2_000_000
SYNC_BLOCKS_MAX: Final = 10_000
REV_AHEAD_MAX_US: Final = 300_000_000

_ACTIONS: Final[dict[str, Operation]] = {"create": "create", "update": "update", "delete": "delete"}
# Which fields of a body are links: the frame's codec doesn't say.
_LINKS: Final = frozenset(("commit", "prevData", "prev", "cid"))


class Frame(msgspec.Struct, frozen=True):
    """``kind`` is ``#commit``, ``#sync``, ``#identity``, ``#account``, ``#info``, or a newer word;
    ``error`` for an error frame. CIDs in ``body`` are bare bytes."""

    kind: str
    body: dict[str, Any]

    @property
    def seq(self) -> int | None:
        """The stream's position after this frame; None where it carries none."""
        seq = self.body.get("seq")
        return seq if isinstance(seq, int) else None

    @property
    def did(self) -> str | None:
        """Whose event it is, unchecked."""
        did = self.body.get("repo" if self.kind == "#commit" else "did")
        return did if isinstance(did, str) else None


class RepoOperation(msgspec.Struct, frozen=True):
    """One entry of a commit's ``ops``. ``prev`` is the CID before it, None where not told."""

    action: Operation
    path: str
    cid: bytes | None
    prev: bytes | None


def decode_frame(data: bytes) -> Frame:
    """Raises BadInput for what is no frame. Unknown kinds pass: whoever reads leaves them out."""
    if len(data) > FRAME_MAX:
        raise BadInput("frame too large")
    items = cbor.decode_sequence(data)
    if len(items) != 2 or not isinstance(items[0], dict) or not isinstance(items[1], dict):
        raise BadInput("not a frame")
    header, body = items
    if header.get("op") == -1:
        return Frame("error", body)
    kind = header.get("t")
    if header.get("op") != 1 or not isinstance(kind, str):
        return Frame("unknown", body)
    return Frame(kind, body)


def encode_frame(kind: str, body: dict[str, Value]) -> bytes:
    """The bytes to send; ``error`` makes an error frame. CIDs in ``body`` may be bare bytes."""
    header = {"op": -1} if kind == "error" else {"op": 1, "t": kind}
    return cbor_exact.encode(header) + cbor_exact.encode(_with_links(body))


def events(frame: Frame, raw: bytes = b"", archive: car.Car | None = None) -> list[Event]:
    """What the frame says, as events; none for kinds that carry none. Never raises: what can't be
    understood is a ``BrokenEvent`` with ``raw`` in it. ``archive`` saves reading the blocks again."""
    try:
        if frame.kind == "#commit":
            return list(operations(frame, raw, archive))
        if frame.kind == "#identity":
            return [_identity(frame)]
        if frame.kind == "#account":
            return [_account(frame)]
        if frame.kind == "#sync":
            return [_sync(frame)]
    except BadInput as error:
        return [BrokenEvent(frame.did, raw, error.message, _time_or_zero(frame))]
    return []


def operations(
    frame: Frame, raw: bytes = b"", archive: car.Car | None = None
) -> list[CommitEvent | BrokenEvent]:
    """One event per operation of a ``#commit``, numbered from 0.

    A record whose block isn't in the frame is None. Raises BadInput where the commit itself can't
    be read; a single unreadable operation is a ``BrokenEvent``. Signatures: see ``check_commit``.
    """
    did, rev, time_us = _text(frame, "repo"), _text(frame, "rev"), _time_us(frame)
    if not syntax.is_did(did) or not syntax.is_tid(rev):
        raise BadInput("malformed commit message")
    blocks = (archive or blocks_of(frame)).blocks
    found: list[CommitEvent | BrokenEvent] = []
    for n, entry in enumerate(_entries(frame)):
        try:
            operation = _operation(entry)
            collection, rkey = split_path(operation.path)
            block = None if operation.cid is None else blocks.get(operation.cid)
            record = None if block is None else cbor.to_json(block)
            cid_text = None if operation.cid is None else cid.to_text(operation.cid)
        except BadInput as error:
            found.append(BrokenEvent(did, raw, f"operation {n}: {error.message}", time_us))
            continue
        found.append(CommitEvent(did, rev, n, operation.action, collection, rkey, cid_text, record, time_us))
    return found


def split_path(path: str) -> tuple[str, str]:
    """Collection and record key; raises BadInput."""
    collection, _, rkey = path.partition("/")
    if not syntax.is_nsid(collection) or not syntax.is_record_key(rkey):
        raise BadInput("not a repository path")
    return collection, rkey


def repo_operations(frame: Frame) -> list[RepoOperation]:
    """A commit's ``ops``; raises BadInput."""
    return [_operation(entry) for entry in _entries(frame)]


def invert(tree: mst.Tree, operations: list[RepoOperation]) -> bytes:
    """The root before these operations; the tree may be as partial as a commit's blocks are.

    Raises BadInput where they don't fit the tree, ``mst.Missing`` where its nodes don't suffice.
    """
    undo: dict[str, bytes | None] = {}
    for operation in operations:
        if operation.path in undo:
            raise BadInput("two operations on one path")
        if operation.action != "create" and operation.prev is None:
            raise BadInput("operation without its previous CID")
        if tree.get(operation.path) != operation.cid:
            raise BadInput("operation doesn't match the tree")
        undo[operation.path] = None if operation.action == "create" else operation.prev
    return tree.root_before(undo)


def check_commit(frame: Frame, did_key: str, *, now_us: int | None = None) -> commits.Commit:
    """The signed commit of a ``#commit`` or ``#sync``, if all that the frame says agrees with it.

    Checked: what ``signed_commit`` checks, and with ``prevData`` that undoing the operations leads
    there. Raises BadInput, with the name ``InvalidSignature`` where another key may help.
    """
    archive = blocks_of(frame)
    commit = signed_commit(frame, archive, did_key, now_us=now_us)
    if frame.kind == "#commit":
        check_operations(frame, archive, commit)
    return commit


def blocks_of(frame: Frame) -> car.Car:
    """The blocks of a ``#commit`` or ``#sync``, each hashed; raises BadInput."""
    blocks = frame.body.get("blocks")
    most = BLOCKS_MAX if frame.kind == "#commit" else SYNC_BLOCKS_MAX
    if not isinstance(blocks, bytes) or len(blocks) > most:
        raise BadInput("malformed blocks")
    return car.read(blocks)


def signed_commit(
    frame: Frame, archive: car.Car, did_key: str, *, now_us: int | None = None
) -> commits.Commit:
    """The commit of the frame, as far as it goes without its operations: DID, rev and signature, rev not
    ahead of ``now_us`` by more than five minutes. Raises as ``check_commit``."""
    block = archive.blocks.get(archive.root)
    if block is None:
        raise BadInput("commit block is missing")
    commit = commits.parse(block)
    if commit.did != frame.did or commit.rev != _text(frame, "rev"):
        raise BadInput("message doesn't match its commit")
    if frame.kind == "#commit" and archive.root != frame.body.get("commit"):
        raise BadInput("message doesn't match its commit")
    if now_us is not None and tid_us(commit.rev) > now_us + REV_AHEAD_MAX_US:
        raise BadInput("rev lies in the future")
    if not commits.verify(commit, did_key):
        raise BadInput("signature doesn't match", name="InvalidSignature")
    return commit


def check_operations(frame: Frame, archive: car.Car, commit: commits.Commit) -> None:
    """Raise BadInput unless the operations fit the commit's tree, and undone lead back to ``prevData``;
    ``mst.Missing`` where the frame's blocks don't show it."""
    tree = mst.Tree(archive.blocks.get, commit.data)
    entries = repo_operations(frame)
    before = previous_data(frame)
    if before is None:
        for operation in entries:
            if tree.get(operation.path) != operation.cid:
                raise BadInput("operation doesn't match the tree")
    elif invert(tree, entries) != before:
        raise BadInput("operations don't lead back to the previous tree")


def since(frame: Frame) -> str | None:
    """The rev before this commit, None for a first one; raises BadInput."""
    value = frame.body.get("since")
    if value is not None and not (isinstance(value, str) and syntax.is_tid(value)):
        raise BadInput("malformed since")
    return value


def previous_data(frame: Frame) -> bytes | None:
    """The tree's root before this commit; None where the sender doesn't tell. Raises BadInput."""
    value = frame.body.get("prevData")
    if value is not None and not (isinstance(value, bytes) and cid.is_raw(value)):
        raise BadInput("malformed prevData")
    return value


def _identity(frame: Frame) -> IdentityEvent:
    handle = frame.body.get("handle")
    return IdentityEvent(
        _did(frame), handle if isinstance(handle, str) else None, _time_us(frame), _seq(frame)
    )


def _account(frame: Frame) -> AccountEvent:
    active, status = frame.body.get("active"), frame.body.get("status")
    if not isinstance(active, bool) or not isinstance(status, str | None):
        raise BadInput("malformed account message")
    return AccountEvent(_did(frame), active, None if active else status, _time_us(frame), _seq(frame))


def _sync(frame: Frame) -> SyncEvent:
    rev = _text(frame, "rev")
    if not syntax.is_tid(rev):
        raise BadInput("malformed sync message")
    return SyncEvent(_did(frame), rev, _time_us(frame))


def _did(frame: Frame) -> str:
    did = _text(frame, "did")
    if not syntax.is_did(did):
        raise BadInput("malformed DID")
    return did


def _seq(frame: Frame) -> int:
    seq = frame.seq
    if seq is None:
        raise BadInput("message without a sequence number")
    return seq


def _text(frame: Frame, field: str) -> str:
    value = frame.body.get(field)
    if not isinstance(value, str):
        raise BadInput(f"message without {field}")
    return value


def _time_us(frame: Frame) -> int:
    return syntax.parse_datetime_us(_text(frame, "time"))


def _time_or_zero(frame: Frame) -> int:
    try:
        return _time_us(frame)
    except BadInput:
        return 0


def _entries(frame: Frame) -> list[Any]:
    entries = frame.body.get("ops")
    if not isinstance(entries, list) or len(entries) > OPERATIONS_MAX:
        raise BadInput("malformed operations")
    return entries


def _operation(entry: object) -> RepoOperation:
    if not isinstance(entry, dict):
        raise BadInput("malformed operation")
    action, path = entry.get("action"), entry.get("path")
    name, prev = entry.get("cid"), entry.get("prev")
    if not isinstance(action, str) or action not in _ACTIONS or not isinstance(path, str):
        raise BadInput("malformed operation")
    if prev is not None and not (isinstance(prev, bytes) and cid.is_raw(prev)):
        raise BadInput("malformed operation")
    if action == "delete":
        return RepoOperation("delete", path, None, prev)
    if not isinstance(name, bytes) or not cid.is_raw(name):
        raise BadInput("operation without a CID")
    return RepoOperation(_ACTIONS[action], path, name, prev if action == "update" else None)


def _with_links(body: dict[str, Value]) -> dict[str, Value]:
    made: dict[str, Value] = {}
    for field, value in body.items():
        if field in _LINKS and isinstance(value, bytes):
            made[field] = Link(value)
        elif field == "ops" and isinstance(value, list):
            made[field] = [_with_links(entry) for entry in value]
        else:
            made[field] = value
    return made
