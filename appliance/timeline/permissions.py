"""What the gates of today allow the viewer; how a post was judged when it came is in its flags."""

from __future__ import annotations

from appliance.store import thing_reads
from appliance.store.post_reads import RecordRow
from appliance.store.timeline import BREAKS_THREAD_GATE
from appliance.timeline.cards import parsed
from appliance.timeline.gates import ThreadGate
from appliance.timeline.hydration import STRANGER, State


def replies_closed(state: State, row: RecordRow, root: int) -> bool | None:
    """Whether the viewer may not answer this post; None where its thread has no gate."""
    if (row.flags or 0) & BREAKS_THREAD_GATE:
        return True
    gate = state.thread_gate(root)
    if gate is None:
        return None
    author = state.actor_of(root)
    if author == state.viewer or gate.everybody:
        return False
    return not _welcome(state, gate, root, author)


def _welcome(state: State, gate: ThreadGate, root: int, author: int | None) -> bool:
    viewer = state.viewer
    if viewer is None or viewer == STRANGER or author is None:
        return False
    if gate.followed and author in state.followed_by:
        return True
    if gate.followers and author in state.following:
        return True
    if gate.mentioned and state.viewer_did is not None and _mentions(state, root, state.viewer_did):
        return True
    lists = [state.gate_lists[uri] for uri in gate.lists if uri in state.gate_lists]
    return any(thing_reads.is_on(state.reader, each, viewer) for each in lists)


def _mentions(state: State, post: int, did: str) -> bool:
    said = state.texts.get(post)
    if said is None or did.encode() not in said.record:
        return False
    facets = parsed(said.record).get("facets")
    for facet in facets if isinstance(facets, list) else []:
        features = facet.get("features") if isinstance(facet, dict) else None
        for feature in features if isinstance(features, list) else []:
            if (
                isinstance(feature, dict)
                and feature.get("$type") == "app.bsky.richtext.facet#mention"
                and feature.get("did") == did
            ):
                return True
    return False


def quotes_closed(state: State, row: RecordRow) -> bool:
    """Whether the viewer may not quote this post."""
    gate = state.post_gate(row.id)
    return gate is not None and gate.closed and row.actor != state.viewer


def is_detached(state: State, quoting: RecordRow, quoted: int | None) -> bool:
    """Whether the quoted post's author has taken himself out of this quote."""
    gate = state.post_gate(quoted) if quoted is not None else None
    said = state.texts.get(quoting.id)
    return gate is not None and said is not None and said.uri in gate.detached
