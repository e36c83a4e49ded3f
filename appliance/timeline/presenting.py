"""From what was read to bytes of JSON: profiles, posts, embeds, feed items.

Finished pieces come from the cache; only counts and the viewer's own bits are written for each answer.
``inner`` means the members of an object without its braces, so that a ``$type`` can go before.
"""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.actor_reads import Counts
from appliance.store.post_reads import RecordRow
from appliance.store.timeline import BREAKS_POST_GATE, BREAKS_THREAD_GATE, Item
from appliance.store.timeline import REPOST as REPOST_FLAG
from appliance.timeline import names, permissions, standing
from appliance.timeline.hydration import State
from appliance.timeline.json_text import instant, joined, label, text
from appliance.timeline.posts import PostText
from appliance.timeline.thing_views import ThingViews

_NO_RELATION = (
    b',"viewer":{"muted":false,"mutedOnlyReposts":false,"mutedOnlyQuoteposts":false,"blockedBy":false}'
)
_NOTHING_DONE = b',"viewer":{"bookmarked":false,"threadMuted":false,"embeddingDisabled":false}'
# What most viewers did with most posts: views with these are worth keeping.
_COMMON = (b"", _NOTHING_DONE)
_EMBEDS_MAX = 2
_COUNTED_OUTSIDE = b',"countsFrom":"constellation"'
KNOWN_MAX = 5
# How a quoted record begins that can't be shown.
_NO_RECORD = tuple(
    b'{"record":{"$type":"app.bsky.embed.record#%b"' % why
    for why in (b"viewBlocked", b"viewDetached", b"viewNotFound")
)
_THREAD_GATE = 256
_RULED = BREAKS_THREAD_GATE | _THREAD_GATE | 512


class Presenter:
    """Writes the views of one answer; the same view is written once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._basic: dict[int, bytes | None] = {}
        self._relations = state.relations.json
        self._standing: dict[int, bytes] = {}
        self._posts: dict[tuple[int, int], bytes | None] = {}
        self.things = ThingViews(state, self.profile_basic, self.profile)

    # ------------------------------------------------------------ people

    def profile_basic(self, actor: int) -> bytes | None:
        """profileViewBasic; None where the account does not exist for the caller."""
        try:
            return self._basic[actor]
        except KeyError:
            view = self._profile(actor)
            self._basic[actor] = view
            return view

    def profile(self, actor: int) -> bytes | None:
        """profileView."""
        if not self._state.sees_actor(actor):
            return None
        more = self._state.cards[actor].more
        return self._profile(actor, more=b"," + more if more else b"")

    def _profile(self, actor: int, *, more: bytes = b"") -> bytes | None:
        state = self._state
        if not state.sees_actor(actor):
            return None
        card = state.cards[actor]
        labels = card.labels_json if not state.labels else self._actor_labels(actor)
        standing = self._standing_of(actor)
        return b"".join((card.opening, self._relation_of(actor), b',"labels":', labels, more, standing, b"}"))

    def _standing_of(self, actor: int) -> bytes:
        """Who vouches for the account, and its status."""
        if not self._state.shared.verifiers and self._state.cards[actor].status is None:
            return b""
        found = self._standing.get(actor)
        if found is None:
            found = self._standing[actor] = standing.members(self._state, actor)
        return found

    def _relation_of(self, actor: int) -> bytes:
        if self._state.viewer is None:
            return b""
        relation = self._relations.get(actor)
        if relation is None:
            relation = self._relation(actor)
            known = self._state.relations
            if actor not in known.on_lists and actor not in known.blocking_lists:
                self._relations[actor] = relation
        return relation

    def subscribed_profile(self, actor: int) -> bytes | None:
        """profileView with what of the account the viewer wants to be told."""
        view = self.profile(actor)
        told = self._subscription(actor)
        if view is None or not told:
            return view
        # The viewer's bits are one object, and its end is the first that closes after them.
        relation = self._relation_of(actor)
        return view.replace(relation, relation[:-1] + told + b"}", 1)

    def _subscription(self, actor: int) -> bytes:
        subscribed = self._state.relations.subscribed.get(actor)
        if subscribed is None or not self._may_be_told(actor):
            return b""
        told = _bool(subscribed.post), _bool(subscribed.reply)
        return b',"activitySubscription":{"post":%b,"reply":%b}' % told

    def profile_detailed(
        self, actor: int, counts: Counts, owned: dict[str, int], known: tuple[int, list[int]] | None
    ) -> bytes | None:
        """profileViewDetailed. ``known``: how many followers the viewer knows, and some of them."""
        state = self._state
        if not state.sees_actor(actor):
            return None
        card = state.cards[actor]
        viewer = b""
        if known is not None:
            views = [view for i in known[1] if (view := self.profile_basic(i)) is not None]
            viewer = b',"knownFollowers":{"count":%d,"followers":%b}' % (known[0], joined(views))
        viewer += self._subscription(actor)
        outside = state.outside.get(card.did)
        numbers = b'"followersCount":%d,"followsCount":%d,"postsCount":%d%b' % (
            counts.followers if outside is None else max(counts.followers, outside.followers),
            counts.follows,
            counts.posts,
            b"" if outside is None else _COUNTED_OUTSIDE,
        )
        associated = b'"lists":%d,"feedgens":%d,"starterPacks":%d,"labeler":%b,' % (
            owned[names.LIST],
            owned[names.GENERATOR],
            owned[names.STARTER_PACK],
            b"true" if card.is_labeler else b"false",
        )
        pack = state.packs.get(card.joined_uri) if card.joined_uri else None
        joined_via = None if pack is None else self.things.starter_pack_basic(pack)
        members = [
            card.basic,
            b'"associated":{' + associated + card.associated + b"}",
            card.more,
            card.detail,
            numbers,
            _member("joinedViaStarterPack", joined_via)[1:],
            b'"labels":' + self._actor_labels(actor),
        ]
        told = self._standing_of(actor) + self._relation(actor, viewer)
        return b"{" + b",".join(m for m in members if m) + told + b"}"

    def _relation(self, actor: int, more: bytes = b"") -> bytes:
        state = self._state
        if state.viewer is None:
            return b""
        if actor == state.viewer and not more:
            return _NO_RELATION
        following = state.following.get(actor) if actor != state.viewer else None
        followed_by = state.followed_by.get(actor) if actor != state.viewer else None
        blocking = state.blocking.get(actor)
        block_list, mute_list = state.blocking_list(actor), state.muting_list(actor)
        muted = actor in state.muted or mute_list is not None
        in_part = state.relations.muted_of.get(actor, 0)
        blocked_by = actor in state.blocked_by or state.is_blocked_by_list(actor)
        told = following, followed_by, blocking, muted, in_part, blocked_by, more
        if not any(told) and block_list is None:
            return _NO_RELATION
        parts = [
            b',"viewer":{"muted":%b,"mutedOnlyReposts":%b,"mutedOnlyQuoteposts":%b,"blockedBy":%b'
            % (_bool(muted), _bool(in_part & 1), _bool(in_part & 2), _bool(blocked_by))
        ]
        if mute_list is not None:
            parts.append(_member("mutedByList", self.things.list_basic(mute_list)))
        if block_list is not None:
            parts.append(_member("blockingByList", self.things.list_basic(block_list)))
        if blocking:
            parts.append(_address("blocking", state.viewer_did, names.BLOCK, blocking))
        elif block_list is not None:
            parts.append(b',"blocking":' + text(state.sayings[block_list].uri))
        elif not blocked_by:
            if following:
                parts.append(_address("following", state.viewer_did, names.FOLLOW, following))
            if followed_by:
                did = state.cards[actor].did
                parts.append(_address("followedBy", did, names.FOLLOW, followed_by))
        parts.append(more)
        parts.append(b"}")
        return b"".join(parts)

    def _may_be_told(self, actor: int) -> bool:
        """Whether the account lets the viewer subscribe to what it does."""
        state = self._state
        allowed = state.cards[actor].allows_subscriptions
        if allowed == "none" or state.blocked(actor):
            return False
        mutual = actor in state.followed_by
        return actor in state.following and (mutual if allowed == "mutuals" else True)

    def _actor_labels(self, actor: int) -> bytes:
        card = self._state.cards[actor]
        labels = self._state.labels
        stated = [*labels.get(card.did, ()), *labels.get(card.labels_uri, ())]
        return joined([*map(label, stated), *card.labels]) if stated else card.labels_json

    # ------------------------------------------------------------ posts

    def post(self, record: int) -> bytes | None:
        """postView, inner; None where the post does not exist for the caller."""
        key = (record, 0)
        if key in self._posts:
            return self._posts[key]
        view = self._post(record)
        self._posts[key] = view
        return view

    def _post(self, record: int) -> bytes | None:
        state = self._state
        if not state.sees_post(record):
            return None
        row, said = state.records[record], state.texts[record]
        done = self._done(row, said)
        labelled = state.labels and self._is_labelled(row.actor, said.uri)
        if said.quote_uri is not None or labelled or (row.flags or 0) & _THREAD_GATE:
            before, after = self._around_relation(row, said, done)
        else:
            # Nothing of others is in it, and of the viewer's only what is in the key.
            card = state.cards[row.actor].number
            counts = self._counts(row, said)
            key = (said.number, card, counts, row.bookmarks, done, self._standing_of(row.actor))
            cache = state.shared.fragments
            found: tuple[bytes, bytes] | None = cache.get(key)
            if found is None:
                found = self._around_relation(row, said, done)
                if done in _COMMON:
                    cache.put(key, found, len(found[0]) + len(found[1]))
            before, after = found
        return before + self._relation_of(row.actor) + after

    def _is_labelled(self, actor: int, uri: str) -> bool:
        card, labels = self._state.cards[actor], self._state.labels
        return uri in labels or card.did in labels or card.labels_uri in labels

    def _around_relation(self, row: RecordRow, said: PostText, done: bytes) -> tuple[bytes, bytes]:
        """postView up to the viewer's relation with the author, and from there on."""
        state = self._state
        card = state.cards[row.actor]
        labels = self._actor_labels(row.actor) if state.labels else card.labels_json
        embed = self._embed(row, said, depth=0)
        before = b"".join((said.head, b',"author":', card.opening))
        after = b"".join(
            (
                b',"labels":',
                labels,
                self._standing_of(row.actor),
                b'},"record":',
                said.record,
                b',"embed":' + embed if embed else b"",
                b',"bookmarkCount":%d' % (row.bookmarks or 0),
                self._counts(row, said),
                done,
                b',"labels":',
                self._post_labels(said),
                _member("threadgate", self.things.thread_gate(row.id)) if row.root is None else b"",
            )
        )
        return before, after

    def _counts(self, row: RecordRow, said: PostText) -> bytes:
        """What others did with the post, as far as it is known here or counted outside."""
        own = row.replies or 0, row.reposts or 0, row.likes or 0, row.quotes or 0
        outside = self._state.outside.get(said.uri)
        mark = b""
        if outside is not None:
            theirs = outside.replies, outside.reposts, outside.likes, outside.quotes
            own = (
                max(own[0], theirs[0]),
                max(own[1], theirs[1]),
                max(own[2], theirs[2]),
                max(own[3], theirs[3]),
            )
            mark = _COUNTED_OUTSIDE
        return b',"replyCount":%d,"repostCount":%d,"likeCount":%d,"quoteCount":%d%b' % (*own, mark)

    def _done(self, row: RecordRow, said: PostText) -> bytes:
        """What the viewer did with the post, or may do."""
        state = self._state
        if state.viewer is None:
            return b""
        like, repost = state.likes.get(row.id), state.reposts.get(row.id)
        own = row.actor == state.viewer
        bookmarked = row.id in state.bookmarked
        root = row.id if row.root is None else row.root
        muted = root in state.relations.muted_threads
        flags = (row.flags or 0) | (state.records[root].flags or 0 if root in state.records else 0)
        likers = state.known_likers.get(row.id)
        if not (like or repost or own or bookmarked or muted or likers or flags & _RULED):
            return _NOTHING_DONE
        parts = [
            b',"viewer":{"bookmarked":%b,"threadMuted":%b,"embeddingDisabled":%b'
            % (_bool(bookmarked), _bool(muted), _bool(permissions.quotes_closed(state, row)))
        ]
        closed = permissions.replies_closed(state, row, root)
        if closed is not None:
            parts.append(b',"replyDisabled":%b' % _bool(closed))
        if like:
            parts.append(_address("like", state.viewer_did, names.LIKE, like))
        if repost:
            parts.append(_address("repost", state.viewer_did, names.REPOST, repost))
        if own and state.cards[row.actor].pinned_uri:
            parts.append(b',"pinned":' + text(state.cards[row.actor].pinned_uri == said.uri))
        if likers:
            shown = [view for i in likers[1][:KNOWN_MAX] if (view := self.profile_basic(i)) is not None]
            parts.append(b',"knownLikers":{"count":%d,"actors":%b}' % (likers[0], joined(shown)))
        parts.append(b"}")
        return b"".join(parts)

    def labels_of(self, record: int, uri: str) -> bytes:
        """The labels of a record of any kind; of a post its own as well."""
        if record in self._state.texts:
            return self._post_labels(self._state.texts[record])
        return joined(map(label, self._state.labels.get(uri, ())))

    def _post_labels(self, said: PostText) -> bytes:
        stated = self._state.labels.get(said.uri)
        return joined([*map(label, stated), *said.labels]) if stated else said.labels_json

    # ------------------------------------------------------------ embeds

    def _embed(self, row: RecordRow, said: PostText, *, depth: int) -> bytes | None:
        if said.embed is not None:
            return said.embed
        if said.quote_uri is None or depth >= _EMBEDS_MAX:
            return None
        quoted = b'{"record":' + self._quoted(row, said.quote_uri, depth=depth + 1) + b"}"
        if said.media is not None:
            if quoted.startswith(_NO_RECORD):
                quoted = b'{"$type":"app.bsky.embed.record#view",' + quoted[1:]
            return (
                b'{"$type":"app.bsky.embed.recordWithMedia#view","media":'
                + said.media
                + b',"record":'
                + quoted
                + b"}"
            )
        return b'{"$type":"app.bsky.embed.record#view",' + quoted[1:]

    def _quoted(self, row: RecordRow, uri: str, *, depth: int) -> bytes:
        state = self._state
        target = row.quote
        author = state.actor_of(target)
        if author is not None and (
            state.blocked(author)
            or (not state.operator and author != row.actor and state.blocking_each_other(row.actor, author))
        ):
            return b'{"$type":"app.bsky.embed.record#viewBlocked",' + self._blocked(uri, author) + b"}"
        if (row.flags or 0) & BREAKS_POST_GATE or permissions.is_detached(state, row, target):
            return b'{"$type":"app.bsky.embed.record#viewDetached","detached":true,"uri":' + text(uri) + b"}"
        if target in state.things and (thing := self.things.embedded(target)) is not None:
            return thing
        if target is None or not state.sees_post(target):
            return b'{"$type":"app.bsky.embed.record#viewNotFound","notFound":true,"uri":' + text(uri) + b"}"
        key = (target, depth)
        view = self._posts.get(key)
        if view is None:
            view = self._quoted_post(target, depth)
            self._posts[key] = view
        return view

    def _quoted_post(self, record: int, depth: int) -> bytes:
        state = self._state
        row, said = state.records[record], state.texts[record]
        author = self.profile_basic(row.actor)
        assert author is not None
        embeds = b""
        if depth < _EMBEDS_MAX:
            embed = self._embed(row, said, depth=depth)
            embeds = b',"embeds":' + joined([embed] if embed else [])
        return b"".join(
            (
                b'{"$type":"app.bsky.embed.record#viewRecord",',
                said.head,
                b',"author":',
                author,
                b',"value":',
                said.record,
                b',"labels":',
                self._post_labels(said),
                self._counts(row, said),
                embeds,
                b"}",
            )
        )

    # ------------------------------------------------------------ what is not shown

    def _blocked(self, uri: str, author: int) -> bytes:
        return b'"uri":%b,"blocked":true,"author":%b' % (text(uri), self.blocked_author(author))

    def blocked_author(self, author: int) -> bytes:
        """blockedAuthor."""
        state = self._state
        viewer = b""
        if state.viewer is not None:
            blocked_by = author in state.blocked_by or state.is_blocked_by_list(author)
            viewer = b',"viewer":{"blockedBy":%b' % _bool(blocked_by)
            blocking, by_list = state.blocking.get(author), state.blocking_list(author)
            if blocking:
                viewer += _address("blocking", state.viewer_did, names.BLOCK, blocking)
            elif by_list is not None:
                viewer += b',"blocking":' + text(state.sayings[by_list].uri)
            viewer += b"}"
        did = text(state.actors[author].did)
        return b'{"did":%b%b}' % (did, viewer)

    def blocked_post(self, uri: str, author: int) -> bytes:
        """blockedPost."""
        return b'{"$type":"app.bsky.feed.defs#blockedPost",' + self._blocked(uri, author) + b"}"

    @staticmethod
    def not_found_post(uri: str) -> bytes:
        """notFoundPost."""
        return b'{"$type":"app.bsky.feed.defs#notFoundPost","notFound":true,"uri":' + text(uri) + b"}"

    # ------------------------------------------------------------ feed items

    def feed_item(self, item: Item, *, pinned: bool = False) -> bytes | None:
        """feedViewPost; None where it can't be shown."""
        state = self._state
        post = self.post(item.subject)
        if post is None:
            return None
        parts = [b'{"post":{', post, b"}"]
        if pinned:
            parts.append(b',"reason":{"$type":"app.bsky.feed.defs#reasonPin"}')
        elif item.flags & REPOST_FLAG:
            by = self.profile_basic(item.actor)
            if by is None or not state.sees_record(item.id):
                return None
            row = state.records[item.id]
            parts.append(
                b',"reason":{"$type":"app.bsky.feed.defs#reasonRepost","by":%b,"uri":%b,"cid":%b,"indexedAt":"%b"}'
                % (by, self._repost_uri(row), text(row.cid), instant(item.sort_ms).encode())
            )
        row, said = state.records[item.subject], state.texts[item.subject]
        if said.parent_uri is not None and not (row.flags or 0) & BREAKS_THREAD_GATE:
            parts.append(b',"reply":' + self._reply(row, said))
        parts.append(b"}")
        return b"".join(parts)

    def _repost_uri(self, row: RecordRow) -> bytes:
        return text(f"at://{self._state.actors[row.actor].did}/{names.REPOST}/{row.rkey}")

    def _reply(self, row: RecordRow, said: PostText) -> bytes:
        """replyRef: root and parent as far as viewer, and those who wrote in between, let them be seen."""
        state = self._state
        parent_row = state.records.get(row.parent) if row.parent is not None else None
        root_row = state.records.get(row.root) if row.root is not None else None
        parent = self._context(parent_row, said.parent_uri or "")
        root = parent if row.root == row.parent else self._context(root_row, said.root_uri or "")
        if not state.operator and state.any_blocks:
            if parent_row is not None and root_row is not None and root.is_post:
                above = state.actor_of(parent_row.root)
                if state.blocking_each_other(row.actor, root_row.actor) or (
                    above is not None and state.blocking_each_other(parent_row.actor, above)
                ):
                    root = _Context(self.blocked_post(said.root_uri or "", root_row.actor), is_post=False)
            if (
                parent_row is not None
                and parent.is_post
                and state.blocking_each_other(row.actor, parent_row.actor)
            ):
                parent = _Context(self.blocked_post(said.parent_uri or "", parent_row.actor), is_post=False)
        grandparent = b""
        if parent.is_post and parent_row is not None:
            actor = state.actor_of(parent_row.parent)
            view = self.profile_basic(actor) if actor is not None else None
            if view is not None:
                grandparent = b',"grandparentAuthor":' + view
        return b'{"root":%b,"parent":%b%b}' % (root.view, parent.view, grandparent)

    def _context(self, row: RecordRow | None, uri: str) -> _Context:
        view = None if row is None else self.post(row.id)
        if row is None or view is None:
            return _Context(self.not_found_post(uri), is_post=False)
        if self._state.blocked(row.actor):
            return _Context(self.blocked_post(uri, row.actor), is_post=False)
        return _Context(b'{"$type":"app.bsky.feed.defs#postView",' + view + b"}", is_post=True)


class _Context(NamedTuple):
    """What stands for a post that another one answers."""

    view: bytes
    is_post: bool


def _address(name: str, did: str | None, collection: str, rkey: str) -> bytes:
    """A member that names a record; DIDs and record keys have nothing that JSON escapes."""
    return f',"{name}":"at://{did}/{collection}/{rkey}"'.encode()


def _member(name: str, value: bytes | None) -> bytes:
    return b"" if value is None else b',"%b":%b' % (name.encode(), value)


def _bool(value: object) -> bytes:
    return b"true" if value else b"false"
