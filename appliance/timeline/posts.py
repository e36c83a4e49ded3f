"""What a post's own record says, as finished pieces without counts, people or the viewer."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote as percent

import orjson

from appliance.timeline.cards import blob_cid, self_labels
from appliance.timeline.json_text import instant, joined, text

GALLERY_SHOWN_MAX = 10


class PostText:
    """Pieces of one version of a post. ``weight`` is roughly its size in bytes."""

    __slots__ = (
        "embed",
        "head",
        "labels",
        "media",
        "parent_uri",
        "quote_uri",
        "record",
        "root_uri",
        "uri",
        "weight",
    )

    head: bytes  # members uri, cid, indexedAt
    record: bytes
    embed: bytes | None  # the finished embed, where it shows nothing of others
    media: bytes | None  # the media beside a quoted record
    quote_uri: str | None


def build(did: str, uri: str, cid: str, sort_ms: int, body: bytes, images: str, videos: str) -> PostText:
    """From the stored JSON of a valid post."""
    record = orjson.loads(body)
    post = PostText()
    post.uri = uri
    post.head = text({"uri": uri, "cid": cid, "indexedAt": instant(sort_ms)})[1:-1]
    post.record = body
    post.labels = self_labels(record, did, uri, cid)
    reply = record.get("reply")
    post.root_uri = post.parent_uri = None
    if isinstance(reply, dict):
        post.root_uri, post.parent_uri = _ref_uri(reply.get("root")), _ref_uri(reply.get("parent"))
    post.embed = post.media = post.quote_uri = None
    embed = record.get("embed")
    if isinstance(embed, dict):
        kind = embed.get("$type")
        if kind == "app.bsky.embed.record":
            post.quote_uri = _ref_uri(embed.get("record"))
        elif kind == "app.bsky.embed.recordWithMedia":
            inner = embed.get("record")
            post.quote_uri = _ref_uri(inner.get("record")) if isinstance(inner, dict) else None
            media = embed.get("media")
            post.media = _media(media, did, images, videos) if isinstance(media, dict) else None
            if post.media is None:
                post.quote_uri = None
        else:
            post.embed = _media(embed, did, images, videos)
    post.weight = 2 * len(body) + 3 * len(post.head) + len(post.embed or b"") + len(post.media or b"")
    return post


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
            external = embed.get("external")
            if not isinstance(external, dict):
                return None
            view = {name: external.get(name, "") for name in ("uri", "title", "description")}
            thumb = blob_cid(external.get("thumb"))
            if thumb:
                view["thumb"] = f"{images}/feed_thumbnail/plain/{did}/{thumb}"
            return text({"$type": "app.bsky.embed.external#view", "external": view})
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
