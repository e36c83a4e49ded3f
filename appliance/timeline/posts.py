"""What a post's own record says, as finished pieces without counts, people or the viewer."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote as percent

import msgspec

from appliance.timeline.cards import blob_cid, external, parsed, self_labels
from appliance.timeline.json_text import instant, joined, text

GALLERY_SHOWN_MAX = 10
_numbers = itertools.count()


class PostText(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Pieces of one version of a post."""

    number: int  # of this value: no other of the process has it
    uri: str
    head: bytes  # members uri, cid, indexedAt
    sort_ms: int
    record: bytes
    labels: tuple[bytes, ...]
    labels_json: bytes  # the array of them
    root_uri: str | None
    parent_uri: str | None
    embed: bytes | None = None  # the finished embed, where it shows nothing of others
    media: bytes | None = None  # the media beside a quoted record
    quote_uri: str | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it takes."""
        pieces = (
            self.head,
            self.record,
            self.labels_json,
            *self.labels,
            self.embed or b"",
            self.media or b"",
        )
        return sum(map(len, pieces)) + 3 * len(self.uri) + 80 * len(pieces)


def build(did: str, uri: str, cid: str, sort_ms: int, body: bytes, images: str, videos: str) -> PostText:
    """From the stored JSON of a valid post."""
    record = parsed(body)
    embed, media, quote_uri = _embed(record.get("embed"), did, images, videos)
    reply = record.get("reply")
    refs = reply if isinstance(reply, dict) else {}
    labels = self_labels(record, did, uri, cid)
    return PostText(
        number=next(_numbers),
        uri=uri,
        head=text({"uri": uri, "cid": cid, "indexedAt": instant(sort_ms)})[1:-1],
        sort_ms=sort_ms,
        record=body,
        labels=tuple(labels),
        labels_json=joined(labels),
        root_uri=_ref_uri(refs.get("root")),
        parent_uri=_ref_uri(refs.get("parent")),
        embed=embed,
        media=media,
        quote_uri=quote_uri,
    )


def _embed(
    embed: object, did: str, images: str, videos: str
) -> tuple[bytes | None, bytes | None, str | None]:
    """(finished embed, media beside a quoted record, address of the quoted record)."""
    if not isinstance(embed, dict):
        return None, None, None
    match embed.get("$type"):
        case "app.bsky.embed.record":
            return None, None, _ref_uri(embed.get("record"))
        case "app.bsky.embed.recordWithMedia":
            inner, beside = embed.get("record"), embed.get("media")
            uri = _ref_uri(inner.get("record")) if isinstance(inner, dict) else None
            media = _media(beside, did, images, videos) if isinstance(beside, dict) else None
            return (None, None, None) if media is None else (None, media, uri)
    return _media(embed, did, images, videos), None, None


def _ref_uri(ref: object) -> str | None:
    uri = ref.get("uri") if isinstance(ref, dict) else None
    return uri if isinstance(uri, str) else None


def _media(embed: dict[str, Any], did: str, images: str, videos: str) -> bytes | None:
    match embed.get("$type"):
        case "app.bsky.embed.images":
            shown = [_image(i, did, images, "thumb", i.get("alt", "")) for i in _objects(embed.get("images"))]
            return b'{"$type":"app.bsky.embed.images#view","images":' + joined(shown) + b"}"
        case "app.bsky.embed.gallery":
            items = _objects(embed.get("items"))[:GALLERY_SHOWN_MAX]
            shown = [_gallery_image(i, did, images) for i in items]
            return b'{"$type":"app.bsky.embed.gallery#view","items":' + joined(shown) + b"}"
        case "app.bsky.embed.external":
            return external(embed, did, images)
        case "app.bsky.embed.video":
            return _video(embed, did, videos)
    return None


def _image(image: dict[str, Any], did: str, images: str, small: str, alt: object) -> bytes:
    cid = blob_cid(image.get("image"))
    view: dict[str, Any] = {
        small: f"{images}/feed_thumbnail/plain/{did}/{cid}",
        "fullsize": f"{images}/feed_fullsize/plain/{did}/{cid}",
        "alt": alt,
    }
    if isinstance(image.get("aspectRatio"), dict):
        view["aspectRatio"] = image["aspectRatio"]
    return text(view)


def _gallery_image(image: dict[str, Any], did: str, images: str) -> bytes:
    view = _image(image, did, images, "thumbnail", image.get("alt", ""))
    return b'{"$type":"app.bsky.embed.gallery#viewImage",' + view[1:]


def _video(embed: dict[str, Any], did: str, videos: str) -> bytes | None:
    cid = blob_cid(embed.get("video"))
    if cid is None:
        return None
    base = f"{videos}/{percent(did, safe='')}/{percent(cid, safe='')}"
    view: dict[str, Any] = {
        "$type": "app.bsky.embed.video#view",
        "cid": cid,
        "playlist": f"{base}/playlist.m3u8",
        "thumbnail": f"{base}/thumbnail.jpg",
    }
    for name in ("alt", "aspectRatio", "presentation"):
        if embed.get(name) is not None:
            view[name] = embed[name]
    return text(view)


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
