"""Profile cards: what an actor's own records say, as finished pieces without anything of the viewer's."""

from __future__ import annotations

from typing import Any

import orjson

from appliance.store.actor_reads import ActorRow, SelfRecord
from appliance.timeline import shared as names
from appliance.timeline.json_text import instant, normal_instant, text

_FOLLOWERS = b'{"allowSubscriptions":"followers"}'


class Card:
    """Pieces of one actor's views. ``weight`` is roughly its size in bytes."""

    __slots__ = (
        "associated",
        "basic",
        "created",
        "detail",
        "did",
        "handle",
        "is_labeler",
        "labels",
        "labels_uri",
        "more",
        "pinned_cid",
        "pinned_uri",
        "weight",
    )

    basic: bytes  # members of profileViewBasic up to, not including, associated
    associated: bytes  # members inside "associated" that every view has
    more: bytes  # members that profileView adds
    detail: bytes  # members that profileViewDetailed adds
    labels: list[bytes]


def build(
    actor: ActorRow,
    records: dict[str, tuple[SelfRecord, bytes, int]],
    images: str,
) -> Card:
    """From the actor's ``self`` records: collection name to (row, JSON, sort_ms)."""
    card = Card()
    card.did, card.handle = actor.did, actor.handle or "handle.invalid"
    basic: dict[str, Any] = {"did": card.did, "handle": card.handle}
    more: dict[str, Any] = {}
    detail: dict[str, Any] = {}
    card.labels, card.labels_uri = [], f"at://{actor.did}/{names.PROFILE}/self"
    card.pinned_uri = card.pinned_cid = None
    profile = records.get(names.PROFILE)
    if profile is not None:
        row, body, sort_ms = profile
        record = _object(body)
        _take_text(basic, record, "displayName")
        _take_text(basic, record, "pronouns")
        avatar = blob_cid(record.get("avatar"))
        if avatar:
            basic["avatar"] = f"{images}/avatar/plain/{actor.did}/{avatar}"
        if isinstance(record.get("createdAt"), str):
            basic["createdAt"] = normal_instant(record["createdAt"])
        _take_text(more, record, "description")
        more["indexedAt"] = instant(sort_ms)
        banner = blob_cid(record.get("banner"))
        if banner:
            detail["banner"] = f"{images}/banner/plain/{actor.did}/{banner}"
        website = record.get("website")
        if isinstance(website, str) and website.startswith("https://"):
            detail["website"] = website
        pinned = record.get("pinnedPost")
        if isinstance(pinned, dict) and isinstance(pinned.get("uri"), str) and isinstance(pinned.get("cid"), str):
            card.pinned_uri, card.pinned_cid = pinned["uri"], pinned["cid"]
            detail["pinnedPost"] = {"uri": pinned["uri"], "cid": pinned["cid"]}
        card.labels = self_labels(record, card.did, card.labels_uri, row.cid)
    card.is_labeler = names.LABELER in records
    card.basic = _members(basic)
    card.more = _members(more)
    card.detail = _members(detail)
    card.associated = _associated({name: _object(body) for name, (_, body, _) in records.items()})
    card.weight = 4 * (len(card.basic) + len(card.more) + len(card.detail)) + sum(map(len, card.labels))
    return card


def _associated(records: dict[str, dict[str, Any]]) -> bytes:
    members = []
    chat = records.get(names.CHAT_DECLARATION)
    if chat is not None:
        shown = {k: chat[k] for k in ("allowIncoming", "allowGroupInvites") if isinstance(chat.get(k), str)}
        members.append(b'"chat":' + text(shown))
    allow = records.get(names.NOTIFICATION_DECLARATION, {}).get("allowSubscriptions")
    allow = allow if isinstance(allow, str) else "followers"
    members.append(b'"activitySubscription":' + text({"allowSubscriptions": allow}))
    return b",".join(members)


def self_labels(record: dict[str, Any], did: str, uri: str, cid: str) -> list[bytes]:
    """What an author says about a record of his own, as labels."""
    labels = record.get("labels")
    values = labels.get("values") if isinstance(labels, dict) else None
    if not isinstance(values, list):
        return []
    cts = normal_instant(record.get("createdAt"))
    return [
        text({"src": did, "uri": uri, "cid": cid, "val": value["val"], "cts": cts})
        for value in values
        if isinstance(value, dict) and isinstance(value.get("val"), str)
    ]


def blob_cid(blob: object) -> str | None:
    """The cid of a blob reference, of today's or of the oldest form."""
    if not isinstance(blob, dict):
        return None
    ref = blob.get("ref")
    link = ref.get("$link") if isinstance(ref, dict) else blob.get("cid")
    return link if isinstance(link, str) else None


def _take_text(into: dict[str, Any], record: dict[str, Any], name: str) -> None:
    value = record.get(name)
    if isinstance(value, str):
        into[name] = value


def _object(body: bytes) -> dict[str, Any]:
    value = orjson.loads(body)
    return value if isinstance(value, dict) else {}


def _members(values: dict[str, Any]) -> bytes:
    return text(values)[1:-1]
