"""Views of lists, feeds, starter packs, labelers and gates."""

from __future__ import annotations

from collections.abc import Callable

from appliance.store import collections
from appliance.store.thing_reads import ThingRow
from appliance.timeline import names
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, label, text
from appliance.timeline.things import Thing

Profile = Callable[[int], bytes | None]

_TYPES = {
    collections.LIST: b"app.bsky.graph.defs#listView",
    collections.GENERATOR: b"app.bsky.feed.defs#generatorView",
    collections.STARTER_PACK: b"app.bsky.graph.defs#starterPackViewBasic",
    collections.LABELER: b"app.bsky.labeler.defs#labelerView",
}


class ThingViews:
    """Writes them for one answer. ``basic`` and ``full`` write people: profileViewBasic and profileView."""

    def __init__(self, state: State, basic: Profile, full: Profile) -> None:
        self._state = state
        self._basic = basic
        self._full = full

    def embedded(self, record: int) -> bytes | None:
        """The view of whatever it is, with its ``$type``, as a post shows it; None where it doesn't exist."""
        state = self._state
        if not state.sees_thing(record):
            return None
        row = state.things[record]
        view = {
            collections.LIST: self.list_view,
            collections.GENERATOR: self.generator,
            collections.STARTER_PACK: self.starter_pack_basic,
            collections.LABELER: self.labeler,
        }[row.collection](record)
        return None if view is None else b'{"$type":"%b",%b' % (_TYPES[row.collection], view[1:])

    def list_basic(self, record: int) -> bytes | None:
        """listViewBasic; None where the list does not exist for the caller."""
        inner = self._list(record)
        return None if inner is None else b"{" + inner + b"}"

    def list_view(self, record: int) -> bytes | None:
        """listView."""
        inner = self._list(record)
        if inner is None:
            return None
        row, said = self._of(record)
        creator = self._full(row.actor)
        if creator is None:
            return None
        more = b"," + said.more if said.more else b""
        return b'{%b,"creator":%b%b}' % (inner, creator, more)

    def _list(self, record: int) -> bytes | None:
        state = self._state
        if not state.sees_thing(record):
            return None
        _, said = self._of(record)
        viewer = b""
        if state.viewer is not None:
            known = state.relations
            muted = b"true" if record in known.muted_lists else b"false"
            block = known.blocked_lists.get(record)
            blocked = b""
            if block is not None:
                blocked = f',"blocked":"at://{state.viewer_did}/{names.LIST_BLOCK}/{block}"'.encode()
            viewer = b',"viewer":{"muted":%b%b}' % (muted, blocked)
        return b'%b,"listItemCount":%d,"labels":%b%b' % (
            said.basic,
            state.list_sizes.get(record, 0),
            self._labels(said),
            viewer,
        )

    def generator(self, record: int) -> bytes | None:
        """generatorView."""
        return self._liked(record)

    def labeler(self, record: int) -> bytes | None:
        """labelerView."""
        return self._liked(record)

    def labeler_detailed(self, record: int) -> bytes | None:
        """labelerViewDetailed."""
        view = self._liked(record)
        return None if view is None else view[:-1] + b"," + self._state.sayings[record].detail + b"}"

    def _liked(self, record: int) -> bytes | None:
        """What a feed and a labeler have in common: who made it, and likes."""
        state = self._state
        if not state.sees_thing(record):
            return None
        row, said = self._of(record)
        creator = self._full(row.actor)
        if creator is None:
            return None
        viewer = b""
        if state.viewer is not None:
            like = state.likes.get(record)
            done = f'"like":"at://{state.viewer_did}/{names.LIKE}/{like}"'.encode() if like else b""
            viewer = b',"viewer":{%b}' % done
        return b'{%b,"creator":%b,"likeCount":%d,"labels":%b%b}' % (
            said.basic,
            creator,
            row.likes or 0,
            self._labels(said),
            viewer,
        )

    def starter_pack_basic(self, record: int) -> bytes | None:
        """starterPackViewBasic."""
        inner = self.starter_pack_members(record)
        return None if inner is None else b"{" + inner + b"}"

    def starter_pack_members(self, record: int) -> bytes | None:
        """What both views of a starter pack show, without braces."""
        state = self._state
        if not state.sees_thing(record):
            return None
        row, said = self._of(record)
        creator = self._basic(row.actor)
        if creator is None:
            return None
        joined_ever, joined_lately = state.joined.get(record, (0, 0))
        return b'%b,"creator":%b,"joinedAllTimeCount":%d,"joinedWeekCount":%d,"labels":%b' % (
            said.basic,
            creator,
            joined_ever,
            joined_lately,
            self._labels(said),
        )

    def thread_gate(self, root: int) -> bytes | None:
        """threadgateView of the gate that stands at the thread's first post."""
        gate = self._state.thread_gate(root)
        if gate is None:
            return None
        lists = [self._state.gate_lists[uri] for uri in gate.lists if uri in self._state.gate_lists]
        views = [view for each in lists if (view := self.list_basic(each)) is not None]
        return b'{"uri":%b,"cid":%b,"record":%b,"lists":%b}' % (
            text(gate.uri),
            text(gate.cid),
            gate.body,
            joined(views),
        )

    def _of(self, record: int) -> tuple[ThingRow, Thing]:
        return self._state.things[record], self._state.sayings[record]

    def _labels(self, said: Thing) -> bytes:
        stated = self._state.labels.get(said.uri)
        return joined([*map(label, stated), *said.labels]) if stated else said.labels_json
