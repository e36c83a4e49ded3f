"""What the index needs of a record's body, typed. The body itself stays as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from appliance.errors import BadInput
from appliance.protocol.syntax import parse_at_uri
from appliance.store import collections, posts

Validator: TypeAlias = Callable[[str, bytes], str | None]


class PostContent(msgspec.Struct, frozen=True, gc=False):
    """A post: addresses of what it hangs on, its flags, and the DIDs of whom it mentions.

    ``quote`` may be a record of any kind.
    """

    created: str
    flags: int
    root: str | None
    parent: str | None
    quote: str | None
    mentions: tuple[str, ...] = ()


class LinkContent(msgspec.Struct, frozen=True, gc=False):
    """A record that points at one thing: ``subject`` is an address or a DID; ``list`` of list items.

    ``via`` is the address of the repost by which a liker or reposter came.
    """

    created: str
    subject: str
    list: str = ""
    via: str = ""


class OtherContent(msgspec.Struct, frozen=True, gc=False):
    """Anything else that is kept."""

    created: str | None


Content: TypeAlias = PostContent | LinkContent | OtherContent


class _Reference(msgspec.Struct, gc=False):
    uri: str


class _Reply(msgspec.Struct, gc=False):
    root: _Reference
    parent: _Reference


class _Embed(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    record: msgspec.Raw = msgspec.Raw()
    media: msgspec.Raw = msgspec.Raw()


class _RecordEmbed(msgspec.Struct, gc=False):
    record: _Reference


class _Typed(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")


class _Post(msgspec.Struct, gc=False):
    createdAt: str  # noqa: N815 - the lexicon's name
    reply: _Reply | None = None
    embed: _Embed | None = None


class _ToRecord(msgspec.Struct, gc=False):
    createdAt: str  # noqa: N815 - the lexicon's name
    subject: _Reference
    via: _Reference | None = None


class _ToText(msgspec.Struct, gc=False):
    createdAt: str  # noqa: N815 - the lexicon's name
    subject: str
    list: str = ""


class _Feature(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    did: str = ""


class _Facet(msgspec.Struct, gc=False):
    features: list[_Feature] = []


class _Facets(msgspec.Struct, gc=False):
    facets: list[_Facet] = []


class _Profile(msgspec.Struct, gc=False):
    createdAt: str | None = None  # noqa: N815 - the lexicon's name
    joinedViaStarterPack: _Reference | None = None  # noqa: N815 - the lexicon's name


class _Gate(msgspec.Struct, gc=False):
    createdAt: str  # noqa: N815 - the lexicon's name
    post: str


class _Other(msgspec.Struct, gc=False):
    createdAt: str | None = None  # noqa: N815 - the lexicon's name


_post = msgspec.json.Decoder(_Post).decode
_to_record = msgspec.json.Decoder(_ToRecord).decode
_to_text = msgspec.json.Decoder(_ToText).decode
_profile = msgspec.json.Decoder(_Profile).decode
_gate = msgspec.json.Decoder(_Gate).decode
_other = msgspec.json.Decoder(_Other).decode
_reference = msgspec.json.Decoder(_Reference).decode
_record_embed = msgspec.json.Decoder(_RecordEmbed).decode
_facets = msgspec.json.Decoder(_Facets).decode
_typed = msgspec.json.Decoder(_Typed).decode

_MEDIA: Final = {
    "app.bsky.embed.images": posts.IMAGES,
    "app.bsky.embed.gallery": posts.IMAGES,
    "app.bsky.embed.video": posts.VIDEO,
}
_TO_RECORD: Final = frozenset({collections.LIKE, collections.REPOST})
_TO_TEXT: Final = frozenset(
    {
        collections.FOLLOW,
        collections.BLOCK,
        collections.LIST_BLOCK,
        collections.LIST_ITEM,
        collections.VERIFICATION,
    }
)
_MENTION: Final = b"#mention"
_GATES: Final = frozenset({collections.THREAD_GATE, collections.POST_GATE})


def read(collection: int, did: str, rkey: str, body: bytes, validate: Validator) -> Content:
    """Raises BadInput for a record that isn't valid: it is kept, not indexed and not shown."""
    fault = validate(collections.NSIDS[collection], body)
    if fault is not None:
        raise BadInput(fault)
    try:
        if collection == collections.POST:
            return _read_post(_post(body), mentions(body))
        if collection in _TO_RECORD:
            to_record = _to_record(body)
            via = to_record.via.uri if to_record.via is not None else ""
            return LinkContent(to_record.createdAt, to_record.subject.uri, via=via)
        if collection in _TO_TEXT:
            to_text = _to_text(body)
            if collection == collections.LIST_ITEM and parse_at_uri(to_text.list).authority != did:
                raise BadInput("an item of somebody else's list")
            return LinkContent(to_text.createdAt, to_text.subject, to_text.list)
        if collection in _GATES:
            gate = _gate(body)
            if gate.post != f"at://{did}/{collections.NSIDS[collections.POST]}/{rkey}":
                raise BadInput("a gate of another post")
            return OtherContent(gate.createdAt)
        if collection in collections.ONLY_SELF and rkey != "self":
            raise BadInput("this record's key is self")
        if collection == collections.PROFILE:
            profile = _profile(body)
            if profile.joinedViaStarterPack is not None:
                return LinkContent(profile.createdAt or "", profile.joinedViaStarterPack.uri)
            return OtherContent(profile.createdAt)
        return OtherContent(_other(body).createdAt)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(str(error)) from error


def created(body: bytes) -> str | None:
    """The time that even an invalid record may tell."""
    try:
        return _other(body).createdAt
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def mentions(post: bytes) -> tuple[str, ...]:
    """The DIDs of whom a valid post mentions."""
    if _MENTION not in post:
        return ()
    return tuple(
        feature.did
        for facet in _facets(post).facets
        for feature in facet.features
        if feature.type == "app.bsky.richtext.facet#mention"
    )


def _read_post(post: _Post, mentioned: tuple[str, ...]) -> PostContent:
    flags = 0
    root = parent = quote = None
    if post.reply is not None:
        flags |= posts.REPLY
        root, parent = post.reply.root.uri, post.reply.parent.uri
    if post.embed is not None:
        media = post.embed.type
        if media == "app.bsky.embed.record":
            quote = _reference(post.embed.record).uri
        elif media == "app.bsky.embed.recordWithMedia":
            quote = _record_embed(post.embed.record).record.uri
            media = _typed(post.embed.media).type
        flags |= _MEDIA.get(media, 0)
        if quote is not None and "/app.bsky.feed.post/" in quote:
            flags |= posts.QUOTE
    return PostContent(post.createdAt, flags, root, parent, quote, mentioned)
