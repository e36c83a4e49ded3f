"""What stands around posts and people: lists, feeds, starter packs, labelers, gates. Read into a State."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from appliance.store import actor_reads, list_reads, post_reads, thing_reads
from appliance.store.collections import NSIDS, POST_GATE, STARTER_PACK, THREAD_GATE
from appliance.store.post_reads import LIVING
from appliance.timeline import gates, things

if TYPE_CHECKING:
    from appliance.timeline.hydration import State

_GATED = 256 | 512
_WEEK_MS = 7 * 86_400_000


def load_things(state: State, ids: Iterable[int]) -> None:
    """Those of these records that are lists, feeds, starter packs or labelers."""
    records, known = state.records, state.things
    missing = [
        i
        for i in ids
        if i not in known and i in records and records[i].flags is None and records[i].state == LIVING
    ]
    if missing:
        known.update((row.id, row) for row in thing_reads.things(state.reader, missing))
    unknown = []
    for i in missing:
        row = known.get(i)
        if row is None:
            continue
        key = ("thing", i, row.cid, state.actors[row.actor].did)
        said = state.shared.fragments.get(key)
        if said is None:
            unknown.append((key, row))
        else:
            state.sayings[i] = said
    bodies = post_reads.bodies(state.reader, [row.id for _, row in unknown]) if unknown else {}
    for key, row in unknown:
        said = things.build(row, state.actors[row.actor].did, bodies[row.id], state.shared.images)
        state.shared.fragments.put(key, said, said.weight)
        state.sayings[row.id] = said


def load_lists(state: State) -> None:
    """The lists that stand between viewer and people, or that gates name: their own rows and owners."""
    lists = state.lists
    if lists:
        state.load_records(lists)
        owners = {state.records[i].actor for i in lists if i in state.records}
        state.load_actors(owners)
        load_things(state, lists)
    shown = [i for i in state.shown | lists if i in state.sayings and state.sayings[i].purpose]
    if shown:
        state.list_sizes.update(list_reads.item_counts(state.reader, shown))
    packs = [i for i in state.shown if i in state.things and state.things[i].collection == STARTER_PACK]
    if packs:
        week_ago_ms = state.shared.clock.now_us() // 1000 - _WEEK_MS
        state.joined.update(thing_reads.joined(state.reader, packs, week_ago_ms))


def load_gates(state: State, roots: set[int]) -> None:
    """Gates of what is shown and of its threads."""
    known = state.gates
    gated = [
        i
        for i in roots | state.shown
        if i not in known and i in state.records and (state.records[i].flags or 0) & _GATED
    ]
    if gated:
        found = thing_reads.gates(state.reader, gated)
        bodies = post_reads.bodies(state.reader, [row.id for row in found])
        for i in gated:
            known[i] = {}
        for row in found:
            if row.takedown is not None or row.id not in bodies:
                continue
            post = state.records[row.post]
            state.people.add(post.actor)
            body = bodies[row.id].json
            if row.collection == POST_GATE:
                known[row.post][POST_GATE] = gates.post_gate(body)
                continue
            owner = state.actors.get(post.actor)
            did = owner.did if owner is not None else actor_reads.did_of(state.reader, post.actor)
            uri = f"at://{did}/{NSIDS[THREAD_GATE]}/{row.rkey}"
            known[row.post][THREAD_GATE] = gates.thread_gate(uri, row.cid, body)
    for i in roots:
        gate = state.thread_gate(i)
        if gate is None:
            continue
        for uri in gate.lists:
            found_list = thing_reads.find(state.reader, uri)
            if found_list is not None:
                state.gate_lists[uri] = found_list
                state.lists.add(found_list)
