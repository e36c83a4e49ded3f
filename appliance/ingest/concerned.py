"""Which strangers' records concern members: the question is asked for every record of the network.

A record names an account by its DID, letter for letter, in addresses too. So the bytes are searched for
DIDs and nothing is parsed. Lives in the writer's thread, like the set of tracked accounts.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from appliance.protocol.events import CommitEvent
from appliance.store import collections, fetches, links, lists_in_force, members, records
from appliance.store.collections import NUMBERS
from appliance.store.database import Transaction

_DID: Final = re.compile(rb"did:(?:plc:[a-z2-7]{24}|web:[A-Za-z0-9.%:_-]+)")
# What can concern somebody by naming him.
_NAMING: Final = frozenset(
    {
        collections.POST,
        collections.REPOST,
        collections.LIKE,
        collections.FOLLOW,
        collections.PROFILE,
        collections.BLOCK,
        collections.LIST_ITEM,
        collections.LIST_BLOCK,
        collections.VERIFICATION,
    }
)


class _ListBlock(msgspec.Struct, gc=False):
    subject: str


class _ListItem(msgspec.Struct, gc=False):
    list: str


_list_block = msgspec.json.Decoder(_ListBlock).decode
_list_item = msgspec.json.Decoder(_ListItem).decode


class Concerned:
    """DIDs of all members, as of the transaction that last called ``refresh``."""

    def __init__(self) -> None:
        self._version: str | None = ""
        self._members: frozenset[bytes] = frozenset()

    def refresh(self, tx: Transaction) -> None:
        """Agree with this transaction; cheap when nothing has changed."""
        version = members.version(tx)
        if version != self._version:
            self._members = frozenset(did.encode() for did in members.dids(tx))
            self._version = version

    def by(self, tx: Transaction, event: CommitEvent, collection: int) -> bool:
        """Does what a stranger creates or changes concern a member?"""
        body = event.record
        if body is None or collection not in _NAMING or not self._members:
            return False
        if not self._members.isdisjoint(_DID.findall(body)):
            return True
        if collection == collections.LIST_ITEM:
            return _is_on_list_in_force(tx, body)
        return collection == collections.LIST_BLOCK and _blocks_members(tx, body)


def want_context(tx: Transaction, event: CommitEvent, actor: int, now_us: int) -> None:
    """Ask for what a stranger's kept record needs to be understood: who that is, and the list of an item."""
    priority = event.time_us // 1_000_000
    fetches.want_profile(tx, actor, priority, now_us)
    if event.record is None or NUMBERS.get(event.collection) != collections.LIST_ITEM:
        return
    try:
        found = records.mention(tx, _list_item(event.record).list)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if found is not None and records.state_of(tx, found) == records.MENTIONED:
        fetches.want(tx, "record", found, priority, now_us)


def _is_on_list_in_force(tx: Transaction, body: bytes) -> bool:
    """An item of a stranger's list names no member, but a member may mute or block by the list."""
    try:
        return lists_in_force.holds(tx, _list_item(body).list)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False


def _blocks_members(tx: Transaction, body: bytes) -> bool:
    """A block by a list names no member, but the list may hold some."""
    try:
        found = records.find(tx, _list_block(body).subject)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return found is not None and links.lists_a_member(tx, found.id)
