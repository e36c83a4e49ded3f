"""Events as the three wires spell them.

A row is one message: repository streams have one an event, Jetstream one an operation.
"""

from __future__ import annotations

import base64
from typing import Any, Literal, TypeAlias

import msgspec
import orjson
import zstandard

from appliance.devnet.entries import AccountBody, CommitBody, Event, IdentityBody, SyncBody, Write
from appliance.devnet.log import Told
from appliance.devnet.times import iso_ms, iso_us
from appliance.protocol import car, cbor, cid, dictionaries, firehose

Kind: TypeAlias = Literal["commit", "identity", "account", "sync"]

_V2 = "network.bsky.jetstream.subscribeEvents#"


class Row(msgspec.Struct, frozen=True):
    """One message of one stream. ``position`` is what its cursor counts, ``n`` the event's number."""

    position: int
    n: int
    kind: Kind
    did: str
    collection: str
    data: bytes


def repository_row(told: Told, seq: int) -> Row:
    """The frame of a relay or a PDS, which number events on their own."""
    event = told.event
    body = event.body
    common: dict[str, Any] = {"seq": seq, "time": iso_ms(event.time_us)}
    kind: Kind
    if isinstance(body, CommitBody):
        kind, fields = "commit", _commit_fields(told, body)
    elif isinstance(body, SyncBody):
        kind = "sync"
        root = cid.cid_of(body.commit)
        fields = {"did": event.did, "rev": body.rev, "blocks": car.write(root, [(root, body.commit)])}
    elif isinstance(body, IdentityBody):
        kind, fields = "identity", {"did": event.did, "handle": body.handle}
    else:
        kind, fields = "account", _account_fields(event.did, body)
    data = firehose.encode_frame(f"#{kind}", common | fields)
    return Row(seq, event.n, kind, event.did, "", data)


def relay_rows(told: Told) -> list[Row]:
    """The relay's frame, made once for all readers."""
    rows: list[Row] | None = told.forms.get("relay")
    if rows is None:
        rows = told.forms["relay"] = [repository_row(told, told.relay_seq)]
    return rows


def v1_rows(told: Told) -> list[Row]:
    """Lines of Jetstream v1; their position is ``time_us``, one microsecond apart."""
    rows: list[Row] | None = told.forms.get("v1")
    if rows is None:
        rows = told.forms["v1"] = _v1_rows(told)
    return rows


def v2_rows(told: Told) -> list[Row]:
    """Messages of Jetstream v2; their position is its seq."""
    rows: list[Row] | None = told.forms.get("v2")
    if rows is None:
        rows = told.forms["v2"] = _v2_rows(told)
    return rows


def info(name: str, message: str) -> bytes:
    """Jetstream v2's ``#info``, which has no position."""
    return orjson.dumps(
        {"$type": "message", "payload": {"$type": f"{_V2}info", "name": name, "message": message}}
    )


class Compressor:
    """Zstd frames with a dictionary; a row is compressed once for all readers."""

    def __init__(self, dictionary: bytes) -> None:
        self._zstd = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))
        self._key = dictionaries.id_of(dictionary)

    def compress(self, told: Told | None, row: Row | None, data: bytes) -> bytes:
        """The frame of a row; ``told`` remembers it."""
        if told is None or row is None:
            return self._zstd.compress(data)
        key = (self._key, row.position)
        frame: bytes | None = told.forms.get(key)
        if frame is None:
            frame = told.forms[key] = self._zstd.compress(data)
        return frame


def _commit_fields(told: Told, body: CommitBody) -> dict[str, Any]:
    root = cid.cid_of(body.commit)
    blocks = {root: body.commit}
    blocks |= {cid.cid_of(node): node for node in told.nodes}
    ops: list[dict[str, Any]] = []
    for write in body.writes:
        op: dict[str, Any] = {"action": write.action, "path": write.path, "cid": write.cid}
        if write.prev is not None:
            op["prev"] = write.prev
        if write.cid is not None and write.block is not None:
            blocks[write.cid] = write.block
        ops.append(op)
    fields: dict[str, Any] = {
        "repo": told.event.did,
        "commit": root,
        "rev": body.rev,
        "since": body.since,
        "blocks": car.write(root, blocks),
        "ops": ops,
        "blobs": [],
        "tooBig": False,
        "rebase": False,
    }
    return fields if body.prev_data is None else fields | {"prevData": body.prev_data}


def _account_fields(did: str, body: AccountBody) -> dict[str, Any]:
    fields: dict[str, Any] = {"did": did, "active": body.active}
    return fields if body.status is None else fields | {"status": body.status}


def _operation(rev: str, write: Write) -> dict[str, Any]:
    collection, _, rkey = write.path.partition("/")
    fields: dict[str, Any] = {
        "rev": rev,
        "operation": write.action,
        "collection": collection,
        "rkey": rkey,
    }
    if write.block is not None and write.cid is not None:
        fields["record"] = orjson.Fragment(cbor.to_json(write.block))
        fields["cid"] = cid.to_text(write.cid)
    return fields


def _v1_rows(told: Told) -> list[Row]:
    event = told.event
    body = event.body
    if isinstance(body, SyncBody):
        return []
    if isinstance(body, CommitBody):
        rows = []
        for i, write in enumerate(body.writes):
            line = {
                "did": event.did,
                "time_us": event.time_us + i,
                "kind": "commit",
                "commit": _operation(body.rev, write),
            }
            rows.append(_row(event, event.time_us + i, "commit", orjson.dumps(line), write.path))
        return rows
    kind, fields = _marker(told, body)
    line = {"did": event.did, "time_us": event.time_us, "kind": kind, kind: fields}
    return [_row(event, event.time_us, kind, orjson.dumps(line))]


def _v2_rows(told: Told) -> list[Row]:
    event = told.event
    body = event.body
    rows: list[Row] = []

    def add(kind: Kind, fields: dict[str, Any], path: str = "") -> None:
        seq = event.row + len(rows)
        head = {"$type": f"{_V2}{kind}", "seq": seq, "did": event.did, "time": iso_us(event.time_us)}
        message = {"$type": "message", "payload": head | fields}
        rows.append(_row(event, seq, kind, orjson.dumps(message), path))

    if isinstance(body, CommitBody):
        for write in body.writes:
            add("commit", _operation(body.rev, write), write.path)
    elif isinstance(body, SyncBody):
        block = car.write(root := cid.cid_of(body.commit), [(root, body.commit)])
        relayed = {"did": event.did, "rev": body.rev, "seq": told.relay_seq, "time": iso_ms(event.time_us)}
        add("sync", {"sync": relayed | {"blocks": {"$bytes": _base64(block)}}})
        for path, record in body.resync:
            write = Write("create", path, cid.cid_of(record), None, record)
            add("commit", _operation(body.rev, write), path)
    else:
        kind, fields = _marker(told, body)
        add(kind, {kind: fields})
    return rows


def _marker(told: Told, body: IdentityBody | AccountBody) -> tuple[Kind, dict[str, Any]]:
    common: dict[str, Any] = {"seq": told.relay_seq, "time": iso_ms(told.event.time_us)}
    if isinstance(body, IdentityBody):
        return "identity", {"did": told.event.did, "handle": body.handle} | common
    return "account", _account_fields(told.event.did, body) | common


def _row(event: Event, position: int, kind: Kind, data: bytes, path: str = "") -> Row:
    return Row(position, event.n, kind, event.did, path.partition("/")[0], data)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()
