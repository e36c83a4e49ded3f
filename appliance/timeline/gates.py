"""What gates say today: who may answer a thread, whether a post may be quoted, which quotes are detached."""

from __future__ import annotations

import msgspec

_RULE = "app.bsky.feed.threadgate#"


class _Rule(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    list: str = ""


class _ThreadGate(msgspec.Struct, gc=False):
    allow: list[_Rule] | None = None
    hiddenReplies: list[str] = []  # noqa: N815 - the lexicon's name


class _PostGate(msgspec.Struct, gc=False):
    embeddingRules: list[_Rule] = []  # noqa: N815 - the lexicon's name
    detachedEmbeddingUris: list[str] = []  # noqa: N815 - the lexicon's name


_thread_gate = msgspec.json.Decoder(_ThreadGate).decode
_post_gate = msgspec.json.Decoder(_PostGate).decode


class ThreadGate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One version of a thread gate. ``everybody`` may answer, or whom the rules name."""

    uri: str
    cid: str
    body: bytes
    everybody: bool
    mentioned: bool
    followed: bool
    followers: bool
    lists: tuple[str, ...]
    hidden: frozenset[str]


class PostGate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One version of a gate against quotes."""

    closed: bool
    detached: frozenset[str]


def thread_gate(uri: str, cid: str, body: bytes) -> ThreadGate:
    """From the stored JSON of a valid record."""
    gate = _thread_gate(body)
    rules = gate.allow or []
    kinds = {rule.type.removeprefix(_RULE) for rule in rules}
    return ThreadGate(
        uri=uri,
        cid=cid,
        body=body,
        everybody=gate.allow is None,
        mentioned="mentionRule" in kinds,
        followed="followingRule" in kinds,
        followers="followerRule" in kinds,
        lists=tuple(dict.fromkeys(rule.list for rule in rules if rule.type == _RULE + "listRule")),
        hidden=frozenset(gate.hiddenReplies),
    )


def post_gate(body: bytes) -> PostGate:
    """From the stored JSON of a valid record."""
    gate = _post_gate(body)
    closed = any(rule.type == "app.bsky.feed.postgate#disableRule" for rule in gate.embeddingRules)
    return PostGate(closed=closed, detached=frozenset(gate.detachedEmbeddingUris))
