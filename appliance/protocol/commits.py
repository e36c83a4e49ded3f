"""Commits: the signed root of a repository."""

from __future__ import annotations

import msgspec

from appliance.errors import BadInput
from appliance.protocol import cbor, cbor_exact, cid, keys, syntax
from appliance.protocol.datamodel import Link

# https://atproto.com/specs/repository
VERSION = 3


class Commit(msgspec.Struct, frozen=True):
    """``data`` is the root of the tree; ``prev`` is kept by old repositories and means nothing."""

    did: str
    rev: str
    data: bytes
    prev: bytes | None
    sig: bytes


def sign(
    did: str, rev: str, data: bytes, key: keys.PrivateKey, *, prev: bytes | None = None
) -> tuple[bytes, bytes]:
    """The CID and the block of a new commit."""
    commit = Commit(did, rev, data, prev, b"")
    block = encode(Commit(did, rev, data, prev, key.sign(_unsigned(commit))))
    return cid.cid_of(block), block


def encode(commit: Commit) -> bytes:
    """The block."""
    return cbor_exact.encode(_fields(commit) | {"sig": commit.sig})


def parse(block: bytes) -> Commit:
    """Raises BadInput unless it is a canonical commit of version 3. The signature is not looked at."""
    fields = cbor.decode_loosely(block)
    if not isinstance(fields, dict):
        raise BadInput("not a commit")
    did, rev, data, prev, sig = (fields.get(name) for name in ("did", "rev", "data", "prev", "sig"))
    if fields.get("version") != VERSION:
        raise BadInput("commit of an unknown version")
    if (
        not isinstance(did, str)
        or not syntax.is_did(did)
        or not isinstance(rev, str)
        or not syntax.is_tid(rev)
    ):
        raise BadInput("malformed commit")
    if not isinstance(data, bytes) or not isinstance(sig, bytes) or not isinstance(prev, bytes | None):
        raise BadInput("malformed commit")
    commit = Commit(did, rev, data, prev, sig)
    # Also refuses fields that we don't know: the signature covers them and we could not check it.
    if encode(commit) != block:
        raise BadInput("commit is not in its canonical form")
    return commit


def verify(commit: Commit, did_key: str) -> bool:
    """Whether that key signed it; raises BadInput for a key that is none."""
    return keys.verify(did_key, _unsigned(commit), commit.sig)


def _unsigned(commit: Commit) -> bytes:
    return cbor_exact.encode(_fields(commit))


def _fields(commit: Commit) -> dict[str, object]:
    return {
        "did": commit.did,
        "rev": commit.rev,
        "data": Link(commit.data),
        "prev": None if commit.prev is None else Link(commit.prev),
        "version": VERSION,
    }
