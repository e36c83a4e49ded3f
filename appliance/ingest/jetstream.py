"""Parts of events that both Jetstream wires wrap: what the relay said of identity, account and repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from appliance.errors import BadInput
from appliance.protocol.events import AccountEvent, IdentityEvent

Part = TypeVar("Part")


class Identity(msgspec.Struct, gc=False):
    """``com.atproto.sync.subscribeRepos#identity``; its seq is the relay's."""

    did: str
    seq: int
    handle: str | None = None


class Account(msgspec.Struct, gc=False):
    """``com.atproto.sync.subscribeRepos#account``; its seq is the relay's."""

    did: str
    seq: int
    active: bool
    status: str | None = None


class Sync(msgspec.Struct, gc=False):
    """``com.atproto.sync.subscribeRepos#sync``."""

    rev: str


def json_decoder(part: type[Part]) -> Callable[[msgspec.Raw], Part]:
    """A decoder of that part. Raises BadInput."""
    decode = msgspec.json.Decoder(part).decode

    def read(raw: msgspec.Raw) -> Part:
        try:
            return decode(raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise BadInput("a malformed part of an event") from error

    return read


def identity_event(part: Identity, did: str, time_us: int) -> IdentityEvent:
    """Raises BadInput when envelope and part name different accounts."""
    if part.did != did:
        raise BadInput("an identity event about another account")
    return IdentityEvent(did, part.handle, time_us, part.seq)


def account_event(part: Account, did: str, time_us: int) -> AccountEvent:
    """Raises BadInput when envelope and part name different accounts."""
    if part.did != did:
        raise BadInput("an account event about another account")
    return AccountEvent(did, part.active, None if part.active else part.status, time_us, part.seq)
