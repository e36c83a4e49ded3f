"""Everything that is kept here about a member and nowhere else: told as one whole, and erased as one.

``OF_MEMBERS`` names each private table; a test compares it with schema.sql.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from appliance.store import private
from appliance.store.database import Reader, Transaction


class _Table(NamedTuple):
    """By which column rows are a member's, and what is told of each: name and expression."""

    whose: str
    told: dict[str, str]


def _did(column: str) -> str:
    return f"(SELECT did FROM actor WHERE id = {column})"


def _uri(column: str) -> str:
    return (
        "(SELECT 'at://' || o.did || '/' || c.nsid || '/' || r.rkey FROM record r"
        " JOIN actor o ON o.id = r.actor"
        f" JOIN collection c ON c.id = r.collection WHERE r.id = {column})"
    )


def _as_they_are(*columns: str) -> dict[str, str]:
    return {column: column for column in columns}


# What is sealed or opens a session is a secret, and not told.
OF_MEMBERS: Final[dict[str, _Table]] = {
    "member": _Table("actor", _as_they_are("via", "admitted_us")),
    "mute": _Table("viewer", {"did": _did("subject"), **_as_they_are("only", "created_us")}),
    "list_mute": _Table("viewer", {"uri": _uri("list"), **_as_they_are("created_us")}),
    "thread_mute": _Table("viewer", {"uri": _uri("root"), **_as_they_are("created_us")}),
    "activity_subscription": _Table(
        "viewer", {"did": _did("subject"), **_as_they_are("post", "reply", "key")}
    ),
    "bookmark": _Table("viewer", {"uri": _uri("post"), **_as_they_are("cid", "created_us")}),
    "reading": _Table(
        "viewer",
        _as_they_are("timeline", "sort_ms", "tie", "item", "moved_us", "device", "hide", "oldest_first"),
    ),
    "account_filter": _Table("viewer", {"did": _did("subject"), **_as_they_are("hide")}),
    "late_row": _Table("viewer", {"uri": _uri("item")}),
    "draft": _Table(
        "viewer", {"draft": "json(CAST(body AS TEXT))", **_as_they_are("key", "created_us", "updated_us")}
    ),
    "notification_state": _Table(
        "viewer", {"preferences": "json(preferences)", **_as_they_are("seen_ms", "priority")}
    ),
    # Where its messages go, and with which keys, is a secret between the browser and us.
    "push_subscription": _Table("viewer", _as_they_are("about", "created_us", "failures")),
    "labeler_subscription": _Table("viewer", {"labeler": "did", **_as_they_are("seen_us")}),
    "feed_key": _Table("viewer", _as_they_are("timeline", "created_us")),
    "session": _Table(
        "actor", _as_they_are("kind", "about", "created_us", "rotated_us", "seen_us", "expires_us")
    ),
    "pds_session": _Table(
        "actor", _as_they_are("pds", "created_us", "refreshed_us", "dead", "issuer", "scope")
    ),
    "report": _Table(
        "actor", _as_they_are("kind", "reason", "subject", "cid", "at_us", "forwarded", "settled_us")
    ),
    # The name of a form is a secret of the page that it was on.
    "written": _Table("actor", _as_they_are("action", "collection", "rkey", "at_us", "outcome")),
}
# Private too, but no member's.
OF_THE_HOUSE: Final = frozenset({"invite", "blob_takedown", "ban", "act", "oauth_flow"})


def told(reader: Reader, actor: int) -> dict[str, list[dict[str, Any]]]:
    """By table: its rows about this member, with DIDs and addresses for our numbers."""
    found = {}
    for name, table in OF_MEMBERS.items():
        members = ", ".join(f"'{key}', {expression}" for key, expression in table.told.items())
        sql = f"SELECT json_object({members}) FROM {name} WHERE {table.whose} = ?"
        found[name] = [orjson.loads(row) for (row,) in reader.all(sql, (actor,))]
    return found


def erase(tx: Transaction, actor: int) -> None:
    """Nothing of it is here afterwards. What was counted with it is counted without it."""
    for (post,) in tx.all("SELECT post FROM bookmark WHERE viewer = ?", (actor,)):
        private.remove_bookmark(tx, actor, post)
    for name, table in OF_MEMBERS.items():
        tx.run(f"DELETE FROM {name} WHERE {table.whose} = ?", (actor,))
