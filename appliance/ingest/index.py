"""The index rows that follow from a record: made when it begins to live, taken back when it ends.

Each function says what one record means; counters change here and nowhere else.
"""

from __future__ import annotations

from typing import Final

from appliance.errors import BadInput
from appliance.ingest import gates, notices
from appliance.ingest.content import Content, LinkContent, PostContent
from appliance.protocol.syntax import normalise_did
from appliance.store import actors, collections, counts, links, notifications, posts, records, repos, search
from appliance.store.database import Transaction
from appliance.store.notifications import Cause

_KINDS: Final = {
    collections.LIKE: links.LIKE,
    collections.REPOST: links.REPOST,
    collections.FOLLOW: links.FOLLOW,
    collections.BLOCK: links.BLOCK,
    collections.LIST_BLOCK: links.LIST_BLOCK,
    collections.LIST_ITEM: links.LIST_ITEM,
    # A profile may say by which starter pack its owner came.
    collections.PROFILE: links.JOINED,
    collections.VERIFICATION: links.VERIFICATION,
}
_GATES: Final = {
    collections.THREAD_GATE: posts.THREAD_GATE,
    collections.POST_GATE: posts.POST_GATE,
}
# What members are told of.
_TELLING: Final = frozenset(
    {
        collections.POST,
        collections.LIKE,
        collections.REPOST,
        collections.FOLLOW,
        collections.PROFILE,
        collections.VERIFICATION,
    }
)
# What feeds list gets a number of arrival.
LISTED: Final = frozenset({collections.POST, collections.REPOST})


def appear(
    tx: Transaction,
    record: int,
    did: str,
    actor: int,
    collection: int,
    content: Content,
    body: bytes,
    order: records.Order,
    *,
    all_known: bool,
    now_us: int,
    cover_us: int | None,
    again: bool = False,
) -> int | None:
    """The record lives from now on. The actor whom that made tracked, if any.

    ``again``: it is another version of what lived already.
    """
    if collection in search.SEARCHED:
        search.add(tx, record, actor, collection, body, order.sort_ms, order.tie)
    elif collection == collections.PROFILE:
        search.person(tx, actor)
    if isinstance(content, PostContent):
        _post_appears(tx, record, did, actor, content, order, all_known)
    elif collection == collections.VERIFICATION and isinstance(content, LinkContent):
        _verification_appears(tx, record, actor, content, order)
    elif isinstance(content, LinkContent):
        return _link_appears(tx, record, actor, collection, content, order, now_us, cover_us, again)
    elif collection in _GATES:
        posts.mark_gate(tx, record, _GATES[collection], there=True)
    return None


def vanish(
    tx: Transaction,
    record: int,
    collection: int,
    now_us: int,
    *,
    again: bool = False,
    forgotten: bool = False,
) -> None:
    """The record lives no more, or not in this version: ``again``, another one follows. Its row still has
    the body.

    ``forgotten``: it may live on in its repository, but not here.
    """
    if collection in search.SEARCHED:
        search.remove(tx, record)
    elif collection == collections.PROFILE:
        search.profile_ends(tx, record)
    # By which starter pack somebody came doesn't change with his picture.
    if collection in _TELLING and not (again and collection == collections.PROFILE):
        notices.gone(tx, record, now_us, forgotten=forgotten)
    if collection == collections.POST:
        posts.remove(tx, record)
        return
    if collection in _GATES:
        posts.mark_gate(tx, record, _GATES[collection], there=False)
        return
    if collection not in _KINDS:
        return
    removed = links.remove(tx, record)
    if removed is None:
        return
    if removed.kind == links.REPOST:
        posts.remove_repost(tx, record)
        if removed.successor is not None:
            posts.repost_counts(tx, removed.successor)
    if removed.successor is not None and removed.kind != links.VERIFICATION:
        _tell_of_successor(tx, removed.successor)
    if not removed.pair_ended:
        return
    if removed.kind == links.LIKE:
        counts.add_likes(tx, removed.subject, -1)
    elif removed.kind == links.REPOST:
        counts.add_reposts(tx, removed.subject, -1)
    elif removed.kind == links.FOLLOW:
        counts.add_follow(tx, removed.actor, removed.subject, -1)
        repos.unfollowed(tx, removed.actor, removed.subject, now_us)


def _post_appears(
    tx: Transaction,
    record: int,
    did: str,
    actor: int,
    content: PostContent,
    order: records.Order,
    all_known: bool,
) -> None:
    flags = content.flags
    root = parent = quote = None
    if content.parent is not None and content.root is not None:
        parent = records.mention(tx, content.parent)
        root = parent if content.root == content.parent else records.mention(tx, content.root)
        if root is not None and gates.breaks_thread_gate(tx, did, actor, root, all_known=all_known):
            flags |= posts.BREAKS_THREAD_GATE
    if content.quote is not None:
        quote = records.mention(tx, content.quote)
        if flags & posts.QUOTE and quote is not None and gates.breaks_post_gate(tx, actor, quote):
            flags |= posts.BREAKS_POST_GATE
    flags |= posts.gates_of(tx, record)
    assert order.arrival is not None
    ties = posts.Ties(root, parent, quote)
    posts.add(tx, record, actor, order.sort_ms, order.tie, order.arrival, flags, ties)
    notices.of_post(tx, Cause(record, actor, order.sort_ms), content, flags, ties)


def _verification_appears(
    tx: Transaction, record: int, actor: int, content: LinkContent, order: records.Order
) -> None:
    notices.of_verification(tx, Cause(record, actor, order.sort_ms), content.subject)
    try:
        subject = actors.ensure(tx, normalise_did(content.subject))
    except BadInput:
        return
    links.add(tx, record, links.VERIFICATION, actor, subject, order.sort_ms, order.tie)


def _link_appears(
    tx: Transaction,
    record: int,
    actor: int,
    collection: int,
    content: LinkContent,
    order: records.Order,
    now_us: int,
    cover_us: int | None,
    again: bool,
) -> int | None:
    kind = _KINDS[collection]
    source: int | None = actor
    subject: int | None
    if kind in (links.FOLLOW, links.BLOCK, links.LIST_ITEM):
        try:
            subject = actors.ensure(tx, normalise_did(content.subject))
        except BadInput:
            subject = None
        if kind == links.LIST_ITEM:
            source = records.mention(tx, content.list)
    else:
        subject = records.mention(tx, content.subject)
    if subject is None or source is None:
        return None
    first = links.add(tx, record, kind, source, subject, order.sort_ms, order.tie)
    if kind == links.REPOST:
        assert order.arrival is not None
        posts.add_repost(tx, record, actor, subject, order.sort_ms, order.tie, order.arrival, again=not first)
    if not first:
        return None
    if kind != links.JOINED or not again:
        notices.of_link(tx, Cause(record, actor, order.sort_ms), kind, subject, content.via)
    if kind == links.LIKE:
        counts.add_likes(tx, subject, 1)
    elif kind == links.REPOST:
        counts.add_reposts(tx, subject, 1)
    elif kind == links.FOLLOW:
        counts.add_follow(tx, actor, subject, 1)
        if repos.followed(tx, actor, subject, now_us, cover_us):
            return subject
    return None


def _tell_of_successor(tx: Transaction, record: int) -> None:
    """It waited behind another record of its pair, which is gone: now this is the one."""
    waited = notifications.candidate(tx, record)
    if waited is not None:
        notices.found(tx, waited)
