"""What lists, feeds, starter packs and labelers say of themselves, as finished pieces."""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgspec

from appliance.store import collections
from appliance.store.collections import NSIDS
from appliance.store.post_reads import Body
from appliance.store.thing_reads import ThingRow
from appliance.timeline.cards import blob_cid, parsed, self_labels, shown_ms
from appliance.timeline.json_text import instant, joined, text

MODERATING: Final = "app.bsky.graph.defs#modlist"
_numbers = itertools.count()


class Thing(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Pieces of one version of such a record; all are members of an object, without its braces.

    ``basic`` is what every view of it shows, ``more`` what the fuller one adds; counts, people, labels and
    the viewer's bits are added for each answer. ``purpose`` is a list's, ``service`` the DID of a feed's
    generator, ``list_uri`` and ``feed_uris`` what a starter pack offers.
    """

    number: int
    uri: str
    basic: bytes
    more: bytes
    detail: bytes = b""
    labels: tuple[bytes, ...]
    labels_json: bytes
    purpose: str = ""
    service: str = ""
    list_uri: str = ""
    feed_uris: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        return len(self.basic) + len(self.more) + len(self.labels_json) + sum(map(len, self.labels)) + 400


def build(row: ThingRow, did: str, body: Body, images: str) -> Thing:
    """From the stored JSON of a valid record."""
    record = parsed(body.json)
    uri = f"at://{did}/{NSIDS[row.collection]}/{row.rkey}"
    # What lists and feeds say of themselves in labels is shown nowhere.
    own = row.collection not in (collections.LIST, collections.GENERATOR)
    labels = self_labels(record, did, uri, row.cid) if own else []
    pieces: dict[str, Any] = {"labels": tuple(labels), "labels_json": joined(labels)}
    seen = instant(shown_ms(record.get("createdAt"), body))
    head: dict[str, Any] = {"uri": uri, "cid": row.cid, "indexedAt": seen}
    if row.collection == collections.LIST:
        pieces |= _list(record, head, did, images)
    elif row.collection == collections.GENERATOR:
        pieces |= _generator(record, head, did, images)
    elif row.collection == collections.STARTER_PACK:
        pieces |= _starter_pack(record, head, body.json)
    else:
        pieces |= _labeler(record, head)
    return Thing(number=next(_numbers), uri=uri, **pieces)


def _list(record: dict[str, Any], head: dict[str, Any], did: str, images: str) -> dict[str, Any]:
    purpose = _words(record, "purpose")
    basic = head | {"name": _words(record, "name"), "purpose": purpose}
    _add_avatar(basic, record, did, images)
    return {"basic": _members(basic), "more": _members(_described(record)), "purpose": purpose}


def _generator(record: dict[str, Any], head: dict[str, Any], did: str, images: str) -> dict[str, Any]:
    service = _words(record, "did")
    basic = head | {"did": service, "displayName": _words(record, "displayName")} | _described(record)
    _add_avatar(basic, record, did, images)
    for name, kind in (("acceptsInteractions", bool), ("contentMode", str)):
        if isinstance(record.get(name), kind):
            basic[name] = record[name]
    return {"basic": _members(basic), "more": b"", "service": service}


def _starter_pack(record: dict[str, Any], head: dict[str, Any], body: bytes) -> dict[str, Any]:
    feeds = record.get("feeds")
    uris = [each.get("uri") for each in feeds if isinstance(each, dict)] if isinstance(feeds, list) else []
    return {
        "basic": _members(head) + b',"record":' + body,
        "more": b"",
        "list_uri": _words(record, "list"),
        "feed_uris": tuple(uri for uri in uris if isinstance(uri, str)),
    }


def _labeler(record: dict[str, Any], head: dict[str, Any]) -> dict[str, Any]:
    policies = record.get("policies")
    detail = {"policies": policies if isinstance(policies, dict) else {"labelValues": []}}
    for name in ("reasonTypes", "subjectTypes", "subjectCollections"):
        if isinstance(record.get(name), list):
            detail[name] = record[name]
    return {"basic": _members(head), "more": b"", "detail": _members(detail)}


def _described(record: dict[str, Any]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if isinstance(record.get("description"), str):
        members["description"] = record["description"]
    if isinstance(record.get("descriptionFacets"), list):
        members["descriptionFacets"] = record["descriptionFacets"]
    return members


def _add_avatar(members: dict[str, Any], record: dict[str, Any], did: str, images: str) -> None:
    avatar = blob_cid(record.get("avatar"))
    if avatar:
        members["avatar"] = f"{images}/avatar/plain/{did}/{avatar}"


def _words(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _members(values: dict[str, Any]) -> bytes:
    return text(values)[1:-1]
