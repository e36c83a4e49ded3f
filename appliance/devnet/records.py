"""Records of the app.bsky lexicons as the world's people write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.devnet.entries import Blob
from appliance.devnet.times import iso_ms
from appliance.devnet.writing import Card, Draft
from appliance.protocol import cbor, cid
from appliance.protocol.datamodel import Link

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
LIKE = "app.bsky.feed.like"
FOLLOW = "app.bsky.graph.follow"
PROFILE = "app.bsky.actor.profile"


@dataclass(frozen=True, slots=True)
class Ref:
    """A record as others point at it; ``root`` is its thread's first post, or itself."""

    uri: str
    cid: str
    did: str
    language: str = "en"
    root_uri: str = ""
    root_cid: str = ""

    @property
    def strong(self) -> dict[str, str]:
        return {"uri": self.uri, "cid": self.cid}

    @property
    def root(self) -> dict[str, str]:
        return {"uri": self.root_uri or self.uri, "cid": self.root_cid or self.cid}


@dataclass(frozen=True, slots=True)
class Attached:
    """A stored blob that is a picture."""

    blob: Blob
    width: int
    height: int
    alt: str

    @property
    def value(self) -> dict[str, Any]:
        ref = Link(cid.from_text(self.blob.cid))
        return {"$type": "blob", "ref": ref, "mimeType": self.blob.mime, "size": self.blob.size}


def post(
    draft: Draft,
    created_us: int,
    *,
    parent: Ref | None = None,
    embed: dict[str, Any] | None = None,
) -> bytes:
    """A post's block."""
    record: dict[str, Any] = {"$type": POST, "text": draft.text, "createdAt": iso_ms(created_us)}
    record["langs"] = [draft.language]
    if draft.facets:
        record["facets"] = draft.facets
    if parent is not None:
        record["reply"] = {"root": parent.root, "parent": parent.strong}
    if embed is not None:
        record["embed"] = embed
    return cbor.encode(record)


def images(pictures: list[Attached]) -> dict[str, Any]:
    """An embed of up to four pictures."""
    return {
        "$type": "app.bsky.embed.images",
        "images": [
            {
                "image": picture.value,
                "alt": picture.alt,
                "aspectRatio": {"width": picture.width, "height": picture.height},
            }
            for picture in pictures
        ],
    }


def card(preview: Card, thumb: Attached | None) -> dict[str, Any]:
    """An embed of an external address."""
    external: dict[str, Any] = {
        "uri": preview.uri,
        "title": preview.title,
        "description": preview.description,
    }
    if thumb is not None:
        external["thumb"] = thumb.value
    return {"$type": "app.bsky.embed.external", "external": external}


def quote(quoted: Ref, media: dict[str, Any] | None = None) -> dict[str, Any]:
    """An embed of another post, with pictures if wanted."""
    record = {"$type": "app.bsky.embed.record", "record": quoted.strong}
    if media is None:
        return record
    return {"$type": "app.bsky.embed.recordWithMedia", "record": record, "media": media}


def pointing(collection: str, subject: Ref, created_us: int) -> bytes:
    """A like's or a repost's block."""
    return cbor.encode({"$type": collection, "subject": subject.strong, "createdAt": iso_ms(created_us)})


def follow(did: str, created_us: int) -> bytes:
    """A follow's block."""
    return cbor.encode({"$type": FOLLOW, "subject": did, "createdAt": iso_ms(created_us)})


def profile(
    name: str,
    bio: str,
    created_us: int,
    *,
    avatar: Attached | None = None,
    banner: Attached | None = None,
    pinned: Ref | None = None,
) -> bytes:
    """A profile's block."""
    record: dict[str, Any] = {
        "$type": PROFILE,
        "displayName": name,
        "description": bio,
        "createdAt": iso_ms(created_us),
    }
    if avatar is not None:
        record["avatar"] = avatar.value
    if banner is not None:
        record["banner"] = banner.value
    if pinned is not None:
        record["pinnedPost"] = pinned.strong
    return cbor.encode(record)


def ref_of(did: str, rkey: str, block: bytes) -> Ref:
    """How others point at a post."""
    record = cbor.decode(block)
    root = (record.get("reply") or {}).get("root") or {}
    return Ref(
        uri=f"at://{did}/{POST}/{rkey}",
        cid=cid.to_text(cid.cid_of(block)),
        did=did,
        language=(record.get("langs") or ["en"])[0],
        root_uri=root.get("uri", ""),
        root_cid=root.get("cid", ""),
    )
