"""What a member kept elsewhere: taken over where nothing of the kind is here yet."""

from __future__ import annotations

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_at_uri
from appliance.store import collections, notifications, private, records
from appliance.store.collections import NUMBERS
from appliance.store.database import Transaction


def mute(tx: Transaction, viewer: int, subject: int, at_us: int) -> bool:
    """All of the account, unless it is muted here in whatever way."""
    if subject == viewer or _has(tx, "mute", viewer, "subject", subject):
        return False
    private.mute(tx, viewer, subject, 0, at_us)
    return True


def list_mute(tx: Transaction, viewer: int, uri: str, at_us: int) -> bool:
    """Whoever is on the list. Raises BadInput for what is none."""
    found = _record(tx, uri, collections.LIST)
    if _has(tx, "list_mute", viewer, "list", found):
        return False
    private.mute_list(tx, viewer, found, at_us)
    return True


def know_list(tx: Transaction, uri: str) -> None:
    """A member blocks by this list. Raises BadInput for what is none."""
    _record(tx, uri, collections.LIST)


def bookmark(tx: Transaction, viewer: int, uri: str, cid: str, at_us: int) -> bool:
    """Kept since then. Raises BadInput for what is no post."""
    found = _record(tx, uri, collections.POST)
    if _has(tx, "bookmark", viewer, "post", found):
        return False
    private.bookmark(tx, viewer, found, cid, at_us)
    return True


def subscription(tx: Transaction, viewer: int, subject: int, key: str, *, post: bool, reply: bool) -> bool:
    """What they post or answer is to be told, unless it is here to whatever extent."""
    known = _has(tx, "activity_subscription", viewer, "subject", subject)
    if known or subject == viewer or not (post or reply):
        return False
    private.subscribe(tx, viewer, subject, key, post=post, reply=reply)
    return True


def preferences(tx: Transaction, viewer: int, wanted: str) -> bool:
    """Which notifications are wanted (as they are stored), unless the member has said so here."""
    stored = tx.value("SELECT preferences FROM notification_state WHERE viewer = ?", (viewer,))
    if stored not in (None, "{}"):
        return False
    notifications.set_preferences(tx, viewer, wanted)
    return True


def _has(tx: Transaction, table: str, viewer: int, column: str, value: int) -> bool:
    sql = f"SELECT 1 FROM {table} WHERE viewer = ? AND {column} = ?"
    return tx.value(sql, (viewer, value)) is not None


def _record(tx: Transaction, uri: str, collection: int) -> int:
    if NUMBERS.get(parse_at_uri(uri).collection) != collection:
        raise BadInput("this is an address of another kind")
    found = records.mention(tx, uri)
    if found is None:
        raise BadInput("this address names no account by DID")
    return found
