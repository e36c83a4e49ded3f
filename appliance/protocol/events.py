"""The one typed event that every upstream yields, whichever wire it came by."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Operation: TypeAlias = Literal["create", "update", "delete"]


class CommitEvent(msgspec.Struct, frozen=True, gc=False):
    """One operation on one record.

    ``n`` is the operation's place among those of the same (did, rev), from 0: with ``rev`` it
    makes the version of the merge rule. ``time_us`` is when the network saw it (the upstream's
    clock, microseconds since 1970), which becomes the index time. ``record`` is atproto JSON as
    bytes (``$link``, ``$bytes``), None for a delete; it may also be None on a create whose block
    was missing, and then the record has to be fetched. ``cid`` is base32 text, None for a delete.
    ``found``: the upstream came upon the record in its repository, so ``time_us`` does not say when it was
    written, only that it was there by then.
    """

    did: str
    rev: str
    n: int
    operation: Operation
    collection: str
    rkey: str
    cid: str | None
    record: bytes | None
    time_us: int
    found: bool = False


class IdentityEvent(msgspec.Struct, frozen=True, gc=False):
    """A prompt to resolve this DID anew; ``handle`` is a hint and never a fact."""

    did: str
    handle: str | None
    time_us: int
    upstream_seq: int


class AccountEvent(msgspec.Struct, frozen=True, gc=False):
    """Hosting status. ``status`` is None while active, else takendown, suspended, deleted,
    deactivated, desynchronized, throttled or a word that we do not know yet."""

    did: str
    active: bool
    status: str | None
    time_us: int
    upstream_seq: int


class SyncEvent(msgspec.Struct, frozen=True, gc=False):
    """The repository jumped to ``rev``: what we hold of it is in doubt until compared."""

    did: str
    rev: str
    time_us: int


class HeadEvent(msgspec.Struct, frozen=True, gc=False):
    """Where a commit leaves its repository; comes before the operations of that commit.

    Only of wires whose commits are checked. ``data`` is the root of the tree (base32), None where
    nothing could be checked. ``since`` and ``before`` are rev and root that the commit follows, None
    where not told. A ``jump`` follows nothing (``#sync``). ``doubt`` says what is wrong already.
    """

    did: str
    rev: str
    data: str | None
    since: str | None
    before: str | None
    time_us: int
    jump: bool = False
    doubt: str = ""


class BrokenEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that could not be understood: kept raw as a dead letter, its account in doubt.

    ``did`` is None where not even that could be read.
    """

    did: str | None
    raw: bytes
    error: str
    time_us: int


Event: TypeAlias = CommitEvent | IdentityEvent | AccountEvent | SyncEvent | HeadEvent | BrokenEvent
