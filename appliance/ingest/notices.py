"""Whom a record tells something: made when it begins to live, taken back when it ends.

Of what members are told there is one row for each member and record; accounts that are no members have none.
"""

from __future__ import annotations

import msgspec

from appliance.errors import BadInput
from appliance.ingest import content
from appliance.ingest.content import LinkContent, PostContent
from appliance.protocol.syntax import is_tid, normalise_did
from appliance.protocol.tid import tid_us
from appliance.store import actors, collections, gates, links, notifications, posts, records
from appliance.store.database import Transaction
from appliance.store.notifications import Answered, Candidate, Cause

_REASONS = {links.LIKE: notifications.LIKE, links.REPOST: notifications.REPOST}
_VIA = {links.LIKE: notifications.LIKE_VIA_REPOST, links.REPOST: notifications.REPOST_VIA_REPOST}


class _Gate(msgspec.Struct, gc=False):
    hiddenReplies: list[str] = []  # noqa: N815 - the lexicon's name


class _Declaration(msgspec.Struct, gc=False):
    allowSubscriptions: str = "followers"  # noqa: N815 - the lexicon's name


_gate = msgspec.json.Decoder(_Gate).decode
_declaration = msgspec.json.Decoder(_Declaration).decode


def of_post(tx: Transaction, cause: Cause, said: PostContent, flags: int, ties: posts.Ties) -> None:
    """A post: who is mentioned, quoted, answered, or waits for it; of these the first that holds."""
    for did in dict.fromkeys(said.mentions):
        try:
            mentioned = actors.find_id(tx, normalise_did(did))
        except BadInput:
            continue
        if mentioned is not None and mentioned != cause.author:
            notifications.tell(tx, cause, notifications.MENTION, mentioned, once=True)
    if flags & posts.QUOTE and ties.quote is not None and not flags & posts.BREAKS_POST_GATE:
        notifications.tell_owner(tx, cause, notifications.QUOTE, ties.quote, once=True)
    above = notifications.answered_by(tx, ties.parent)
    if above and not flags & posts.BREAKS_THREAD_GATE:
        _tell_answered(tx, cause, above, ties.root)
    is_member, has_subscribers = notifications.interest(tx, cause.author)
    if has_subscribers and cause.only is None:
        _tell_subscribers(tx, cause, is_reply=ties.parent is not None)
    if is_member or any(each.is_members for each in above):
        _tell_of_earlier_answers(tx, cause, cause.record if ties.root is None else ties.root)


def of_link(tx: Transaction, cause: Cause, kind: int, subject: int, via: str) -> None:
    """A like, repost, follow, or a profile whose owner joined by a starter pack. The first of its pair."""
    if kind == links.FOLLOW:
        notifications.tell(tx, cause, notifications.FOLLOW, subject)
    elif kind == links.JOINED:
        notifications.tell_owner(tx, cause, notifications.JOINED, subject)
    elif kind in _REASONS:
        notifications.tell_owner(tx, cause, _REASONS[kind], subject)
        if via and notifications.owner_of(tx, subject) != cause.author:
            repost = records.mention(tx, via)
            if repost is not None:
                notifications.tell_owner(tx, cause, _VIA[kind], repost)


def of_verification(tx: Transaction, cause: Cause, did: str) -> None:
    """Somebody vouches for an account."""
    try:
        verified = actors.find_id(tx, normalise_did(did))
    except BadInput:
        return
    if verified is not None:
        notifications.tell(tx, cause, notifications.VERIFIED, verified)


def gone(tx: Transaction, record: int, now_us: int, *, forgotten: bool) -> None:
    """The record lives no more. The end of a verification is news itself, unless it is only ``forgotten``."""
    verified = notifications.gone(tx, record)
    for viewer in () if forgotten else verified:
        ended = Cause(record, notifications.owner_of(tx, record), now_us // 1000)
        notifications.tell(tx, ended, notifications.UNVERIFIED, viewer)


def found(tx: Transaction, candidate: Candidate, only: int | None = None) -> None:
    """Tell of a record that was here before: everybody, or ``only`` the member who came since."""
    cause = Cause(candidate.id, candidate.actor, candidate.sort_ms, only)
    said = content.read(
        candidate.collection, candidate.did, candidate.rkey, candidate.body, lambda _collection, _body: None
    )
    if isinstance(said, PostContent):
        standing = posts.standing(tx, candidate.id)
        if standing is not None:
            of_post(tx, cause, said, *standing)
    elif isinstance(said, LinkContent) and candidate.collection == collections.VERIFICATION:
        of_verification(tx, cause, said.subject)
    elif isinstance(said, LinkContent):
        link = links.counting(tx, candidate.id)
        if link is not None and link.kind != links.JOINED:
            of_link(tx, cause, link.kind, link.subject, said.via)


def _tell_answered(tx: Transaction, cause: Cause, above: list[Answered], root: int | None) -> None:
    """The authors of the posts above, up to one that the thread's author hid."""
    if not any(each.is_members for each in above):
        return
    hidden = _hidden(tx, root)
    for each in above:
        if each.is_members:
            notifications.tell_owner(tx, cause, notifications.REPLY, each.id, once=True)
        if hidden and records.uri(tx, each.id) in hidden:
            return


def _tell_of_earlier_answers(tx: Transaction, cause: Cause, root: int) -> None:
    """The posts below came first and could not see who is above them."""
    for answer, parent in notifications.answers_to(tx, cause.record):
        above = notifications.answered_by(tx, parent)
        _tell_answered(tx, answer._replace(only=cause.only), above, root)


def _hidden(tx: Transaction, root: int | None) -> frozenset[str]:
    gate = gates.thread_gate(tx, root) if root is not None else None
    return frozenset() if gate is None else frozenset(_gate(gate.body).hiddenReplies)


def _tell_subscribers(tx: Transaction, cause: Cause, *, is_reply: bool) -> None:
    """Who subscribed before it was written, as far as its author allows that."""
    waiting = [
        each
        for each in notifications.subscribers(tx, cause.author)
        if (each.reply if is_reply else each.post) and _began_ms(each.key) <= cause.sort_ms
    ]
    if not waiting:
        return
    body = records.body_at(tx, cause.author, collections.NOTIFICATION_DECLARATION, "self")
    allowed = "followers" if body is None else _declaration(body).allowSubscriptions
    if allowed == "none":
        return
    notifications.tell_subscribers(
        tx,
        cause,
        [each.viewer for each in waiting if each.follows and (allowed != "mutuals" or each.is_followed)],
    )


def _began_ms(key: str) -> int:
    """Since when somebody is subscribed: always, where his key does not tell."""
    return tid_us(key) // 1000 if is_tid(key) else 0
