"""A thread as rows: what the post answers from the top, the post, and its answers with their depth."""

from __future__ import annotations

from typing import Any, NamedTuple

from appliance.web import present
from appliance.web.doors import THREAD_DEPTH
from appliance.web.present import Card, Look

INDENTS_MAX = 5


class Reply(NamedTuple):
    """An answer. ``indent`` steps in; ``more``: how many answers to it are on its own page only."""

    card: Card
    indent: int
    more: int


class Conversation(NamedTuple):
    """Everything on a thread page, in reading order. ``further`` leads to what the topmost row answers."""

    above: list[Card]
    post: Card
    below: list[Reply]
    further: str


def flattened(thread: Any, look: Look) -> Conversation:
    """From a threadViewPost, as deep as it may be."""
    node = thread if isinstance(thread, dict) else {}
    above: list[Card] = []
    parent = node.get("parent")
    while isinstance(parent, dict):
        above.append(_card(parent, look))
        parent = parent.get("parent")
    below: list[Reply] = []
    stack = [(reply, 1) for reply in reversed(_replies(node))]
    while stack:
        reply, depth = stack.pop()
        answers = _replies(reply)
        card = _card(reply, look)
        hidden = depth >= THREAD_DEPTH and not answers
        below.append(Reply(card, min(depth - 1, INDENTS_MAX), card.counts.get("reply", 0) if hidden else 0))
        stack += [(answer, depth + 1) for answer in reversed(answers)]
    further = present.post_path(_parent_of(_topmost(node)))
    return Conversation(above[::-1], _card(node, look), below, further)


def _topmost(node: dict[str, Any]) -> dict[str, Any]:
    while isinstance(node.get("parent"), dict):
        node = node["parent"]
    return node


def _parent_of(node: dict[str, Any]) -> str:
    """The address of the post that the topmost row answers, if there is one."""
    post = node.get("post")
    record = post.get("record") if isinstance(post, dict) else None
    reply = record.get("reply") if isinstance(record, dict) else None
    parent = reply.get("parent") if isinstance(reply, dict) else None
    uri = parent.get("uri") if isinstance(parent, dict) else None
    return uri if isinstance(uri, str) else ""


def _replies(node: dict[str, Any]) -> list[dict[str, Any]]:
    replies = node.get("replies")
    return [reply for reply in replies if isinstance(reply, dict)] if isinstance(replies, list) else []


def _card(node: dict[str, Any], look: Look) -> Card:
    return present.card(node["post"] if isinstance(node.get("post"), dict) else node, look)
