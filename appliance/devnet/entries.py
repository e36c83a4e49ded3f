"""What is written down: every fact of the network as one entry of the journal.

Entries are never changed; the state is what reading them in order gives. CIDs are 36 raw bytes,
times microseconds since 1970.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

Action: TypeAlias = Literal["create", "update", "delete"]


class Started(Struct, tag="started", array_like=True):
    """The first entry: what must stay the same over restarts."""

    seed: int
    secret: bytes
    ports: dict[str, int]


class Ports(Struct, tag="ports", array_like=True):
    """The services moved to other ports."""

    ports: dict[str, int]


class PlcOperation(Struct, tag="plc", array_like=True):
    """A signed operation that the directory took; JSON as it was sent."""

    did: str
    cid: str
    operation: bytes
    created_us: int


class Account(Struct, tag="account", array_like=True):
    """An account begins, or a later entry of the same DID takes its place."""

    did: str
    handle: str
    pds: int
    signing_key: str
    rotation_key: str
    password: str
    created_us: int
    status: str | None = None
    left: tuple[int, ...] = ()


class Bulk(Struct, tag="bulk", array_like=True):
    """A whole repository as of one commit: the history of the seed, or an import.

    ``records`` are (path, block).
    """

    did: str
    rev: str
    commit: bytes
    records: list[tuple[str, bytes]]


class Blob(Struct, tag="blob", array_like=True):
    """An account's blob; its bytes are a file named by the CID."""

    did: str
    cid: str
    mime: str
    size: int


class Refresh(Struct, tag="refresh", array_like=True):
    """A refresh token by its id; the newest entry of an id counts."""

    jti: str
    did: str
    expires_us: int
    next_jti: str | None = None
    gone: bool = False


class Preferences(Struct, tag="preferences", array_like=True):
    """An account's private preferences, JSON of the array."""

    did: str
    items: bytes


class Note(Struct, tag="note", array_like=True):
    """A named fact; the newest counts."""

    name: str
    value: str


class Write(Struct, array_like=True):
    """One record operation. ``prev`` is the record's CID before, ``block`` its bytes after."""

    action: Action
    path: str
    cid: bytes | None
    prev: bytes | None
    block: bytes | None


class CommitBody(Struct, tag="commit", array_like=True):
    """A commit as the streams tell it. ``since`` and ``prev_data`` are None for the first one."""

    rev: str
    since: str | None
    commit: bytes
    prev_data: bytes | None
    writes: list[Write]


class IdentityBody(Struct, tag="identity", array_like=True):
    """A prompt to resolve the DID anew."""

    handle: str


class AccountBody(Struct, tag="status", array_like=True):
    """Hosting status; ``status`` is None while active."""

    active: bool
    status: str | None


class SyncBody(Struct, tag="sync", array_like=True):
    """The repository jumped to this commit.

    ``resync`` holds (path, block) of what Jetstream v2 then tells of it, where it had to read it anew.
    """

    rev: str
    commit: bytes
    resync: list[tuple[str, bytes]] = []


Body: TypeAlias = CommitBody | IdentityBody | AccountBody | SyncBody


class Event(Struct, tag="event", array_like=True):
    """One event of the network's log, in the order in which every stream tells them.

    ``n`` counts from 1; ``row`` is the Jetstream v2 seq of its first row, ``rows`` how many it has
    there; ``time_us`` is the relay's clock and leaves room for one microsecond a row.
    """

    n: int
    time_us: int
    pds: int
    pds_seq: int
    row: int
    rows: int
    did: str
    body: Body


class Proof(Struct, tag="proof", array_like=True):
    """The tree nodes that event ``n`` carries on the repository streams."""

    n: int
    nodes: list[bytes]


Entry: TypeAlias = (
    Started | Ports | PlcOperation | Account | Bulk | Blob | Refresh | Preferences | Note | Event | Proof
)

encoder = msgspec.msgpack.Encoder()
decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
