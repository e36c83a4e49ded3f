"""Profile cards: what an actor's own records say, as finished pieces without anything of the viewer's."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import orjson

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_datetime_us
from appliance.store.actor_reads import ActorRow, SelfRecord
from appliance.store.post_reads import Body
from appliance.timeline import names
from appliance.timeline.json_text import instant, joined, normal_instant, text

_numbers = itertools.count()
# Whatever an account asks for, its status is shown as current for at least and at most that long.
STATUS_MINUTES_MIN = 5
STATUS_MINUTES_MAX = 240


class Status(msgspec.Struct, frozen=True, gc=False):
    """What an account says it is doing; ``opening`` are the members of its view but labels and isActive."""

    uri: str
    opening: bytes
    expires_ms: int | None


class Card(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Pieces of one actor's views; ``members`` are those of an object, without its braces."""

    number: int  # of this value: no other of the process has it
    did: str
    handle: str
    basic: bytes  # members of profileViewBasic but associated, viewer, labels
    opening: bytes  # profileViewBasic up to where viewer and labels follow
    associated: bytes  # members of "associated" that every view has
    more: bytes  # members that profileView adds
    detail: bytes  # members that profileViewDetailed adds
    labels: tuple[bytes, ...]
    labels_json: bytes  # the array of them
    labels_uri: str
    pinned_uri: str | None
    is_labeler: bool
    allows_subscriptions: str
    joined_uri: str | None  # of the starter pack by which the account came
    display_name: str
    status: Status | None

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        pieces = (
            self.basic,
            self.opening,
            self.labels_json,
            self.associated,
            self.more,
            self.detail,
            b"" if self.status is None else self.status.opening,
            *self.labels,
        )
        return sum(map(len, pieces)) + 80 * len(pieces)


def build(
    actor: ActorRow,
    records: dict[str, tuple[SelfRecord, Body]],
    images: str,
) -> Card:
    """From the actor's ``self`` records by collection name."""
    did, handle = actor.did, actor.handle or "handle.invalid"
    basic: dict[str, Any] = {"did": did, "handle": handle}
    more: dict[str, Any] = {}
    detail: dict[str, Any] = {}
    labels: list[bytes] = []
    labels_uri = f"at://{did}/{names.PROFILE}/self"
    pinned_uri = joined_uri = None
    profile = records.get(names.PROFILE)
    if profile is not None:
        row, body = profile
        record = parsed(body.json)
        _take_text(basic, record, "displayName")
        _take_text(basic, record, "pronouns")
        avatar = blob_cid(record.get("avatar"))
        if avatar:
            basic["avatar"] = f"{images}/avatar/plain/{did}/{avatar}"
        if isinstance(record.get("createdAt"), str):
            basic["createdAt"] = normal_instant(record["createdAt"])
        _take_text(more, record, "description")
        more["indexedAt"] = instant(shown_ms(record.get("createdAt"), body))
        banner = blob_cid(record.get("banner"))
        if banner:
            detail["banner"] = f"{images}/banner/plain/{did}/{banner}"
        website = record.get("website")
        if isinstance(website, str) and website.startswith("https://"):
            detail["website"] = website
        pinned = record.get("pinnedPost")
        if isinstance(pinned, dict) and isinstance(pinned.get("uri"), str):
            pinned_uri = pinned["uri"]
            detail["pinnedPost"] = {"uri": pinned_uri, "cid": pinned.get("cid")}
        joined_via = record.get("joinedViaStarterPack")
        if isinstance(joined_via, dict) and isinstance(joined_via.get("uri"), str):
            joined_uri = joined_via["uri"]
        labels = self_labels(record, did, labels_uri, row.cid)
    values = {name: parsed(body.json) for name, (_, body) in records.items()}
    associated = _associated(values)
    is_labeler = names.LABELER in records
    labeler = b'"labeler":true,' if is_labeler else b""
    return Card(
        number=next(_numbers),
        did=did,
        handle=handle,
        basic=_members(basic),
        opening=b'{%b,"associated":{%b%b}' % (_members(basic), labeler, associated),
        associated=associated,
        more=_members(more),
        detail=_members(detail),
        labels=tuple(labels),
        labels_json=joined(labels),
        labels_uri=labels_uri,
        pinned_uri=pinned_uri,
        is_labeler=is_labeler,
        allows_subscriptions=_allowed(values),
        joined_uri=joined_uri,
        display_name=basic.get("displayName", ""),
        status=_status(records.get(names.STATUS), did, images),
    )


def _status(found: tuple[SelfRecord, Body] | None, did: str, images: str) -> Status | None:
    if found is None:
        return None
    row, body = found
    record = parsed(body.json)
    if not isinstance(record.get("status"), str):
        return None
    uri = f"at://{did}/{names.STATUS}/self"
    members: dict[str, Any] = {"uri": uri, "cid": row.cid, "status": record["status"]}
    embed, minutes = record.get("embed"), record.get("durationMinutes")
    expires_ms = None
    if isinstance(minutes, int) and minutes:
        lasting = min(max(minutes, STATUS_MINUTES_MIN), STATUS_MINUTES_MAX)
        expires_ms = shown_ms(record.get("createdAt"), body) + lasting * 60_000
        members["expiresAt"] = instant(expires_ms)
    opening = b'%b,"record":%b' % (_members(members), body.json)
    if isinstance(embed, dict) and embed.get("$type") == "app.bsky.embed.external":
        view = external(embed, did, images)
        opening += b"" if view is None else b',"embed":' + view
    return Status(uri, opening, expires_ms)


def external(embed: dict[str, Any], did: str, images: str) -> bytes | None:
    """The view of a link card."""
    card = embed.get("external")
    if not isinstance(card, dict):
        return None
    view = {name: card.get(name, "") for name in ("uri", "title", "description")}
    thumb = blob_cid(card.get("thumb"))
    if thumb:
        view["thumb"] = f"{images}/feed_thumbnail/plain/{did}/{thumb}"
    return text({"$type": "app.bsky.embed.external#view", "external": view})


def shown_ms(created: object, body: Body) -> int:
    """The time of the version shown, of what is not read in the order of its time."""
    try:
        claimed_ms = parse_datetime_us(created) // 1000 if isinstance(created, str) else body.indexed_ms
    except BadInput:
        claimed_ms = 0
    return min(claimed_ms, body.indexed_ms)


def _associated(records: dict[str, dict[str, Any]]) -> bytes:
    members = []
    chat = records.get(names.CHAT_DECLARATION)
    if chat is not None:
        shown = {k: chat[k] for k in ("allowIncoming", "allowGroupInvites") if isinstance(chat.get(k), str)}
        members.append(b'"chat":' + text(shown))
    members.append(b'"activitySubscription":' + text({"allowSubscriptions": _allowed(records)}))
    return b",".join(members)


def _allowed(records: dict[str, dict[str, Any]]) -> str:
    allow = records.get(names.NOTIFICATION_DECLARATION, {}).get("allowSubscriptions")
    return allow if isinstance(allow, str) else "followers"


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


def parsed(body: bytes) -> dict[str, Any]:
    """A record as values; one too deep for that shows nothing but itself."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _members(values: dict[str, Any]) -> bytes:
    return text(values)[1:-1]
