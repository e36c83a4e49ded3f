"""Whether a reply or a quote keeps to the gate that the other post's author set.

Judged once, when the post is indexed, by what is known then. Where our knowledge may have holes
the post gets the benefit of the doubt: a wrong verdict would hide it for good.
"""

from __future__ import annotations

import msgspec

from appliance.ingest.content import mentions
from appliance.store import gates as rows
from appliance.store import links
from appliance.store.collections import FOLLOW, LIST_ITEM
from appliance.store.database import Transaction

_RULE = "app.bsky.feed.threadgate#"


class _Rule(msgspec.Struct, gc=False):
    type: str = msgspec.field(name="$type", default="")
    list: str = ""


class _ThreadGate(msgspec.Struct, gc=False):
    allow: list[_Rule] | None = None


class _PostGate(msgspec.Struct, gc=False):
    embeddingRules: list[_Rule] = []  # noqa: N815 - the lexicon's name


_thread_gate = msgspec.json.Decoder(_ThreadGate).decode
_post_gate = msgspec.json.Decoder(_PostGate).decode


def breaks_thread_gate(tx: Transaction, did: str, actor: int, root: int, *, all_known: bool) -> bool:
    """Is this account kept from replying under that root? ``all_known``: we hold everybody's follows."""
    gate = rows.thread_gate(tx, root)
    if gate is None or gate.owner == actor:
        return False
    allow = _thread_gate(gate.body).allow
    if allow is None:
        return False
    kinds = {rule.type.removeprefix(_RULE) for rule in allow}
    if "mentionRule" in kinds and gate.post is not None and did in mentions(gate.post):
        return False
    if "followingRule" in kinds and _may_link(
        tx, links.FOLLOW, gate.owner, actor, gate.owner, FOLLOW, all_known
    ):
        return False
    if "followerRule" in kinds and _may_link(tx, links.FOLLOW, actor, gate.owner, actor, FOLLOW, all_known):
        return False
    for rule in allow:
        if rule.type == _RULE + "listRule":
            found = rows.list_at(tx, rule.list)
            if found is None:
                if not all_known:
                    return False
            elif _may_link(tx, links.LIST_ITEM, found.record, actor, found.owner, LIST_ITEM, all_known):
                return False
    return True


def breaks_post_gate(tx: Transaction, actor: int, quoted: int) -> bool:
    """Did the quoted post's author switch quotes off?"""
    gate = rows.post_gate(tx, quoted)
    if gate is None or gate.owner == actor:
        return False
    rules = _post_gate(gate.body).embeddingRules
    return any(rule.type == "app.bsky.feed.postgate#disableRule" for rule in rules)


def _may_link(
    tx: Transaction, kind: int, actor: int, subject: int, writer: int, collection: int, all_known: bool
) -> bool:
    if links.exists(tx, kind, actor, subject):
        return True
    return not all_known and not rows.is_complete(tx, writer, collection)
