"""Profiles with their numbers, and why one can't be shown."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import BadInput
from appliance.store import actor_reads, graph_reads
from appliance.store.actor_reads import Counts
from appliance.store.collections import NUMBERS
from appliance.timeline import names
from appliance.timeline.hydration import STRANGER, State
from appliance.timeline.presenting import Presenter

KNOWN_FOLLOWERS_SHOWN_MAX = 5
_TAKEN_DOWN = frozenset({"takendown", "suspended"})


def detailed(state: State, actors: Sequence[int]) -> list[bytes]:
    """profileViewDetailed of those that exist for the caller, in this order."""
    known: dict[int, list[int]] = {}
    if state.viewer is not None and state.viewer != STRANGER:
        for subject, follower in graph_reads.known_followers(state.reader, state.viewer, actors):
            known.setdefault(subject, []).append(follower)
    shown = {actor: list(dict.fromkeys(ids)) for actor, ids in known.items()}
    state.load_packs(actors)
    pairs = [(actor, i) for actor, ids in shown.items() for i in ids]
    state.finish(actors=[*actors, *(i for ids in shown.values() for i in ids)], pairs=pairs)
    counts = actor_reads.counts(state.reader, actors)
    state.load_outside(state.actors[actor].did for actor in actors if actor in state.actors)
    presenter = Presenter(state)
    views = []
    for actor in actors:
        owned = {
            name: actor_reads.owned(state.reader, actor, NUMBERS[name])
            for name in (names.LIST, names.GENERATOR, names.STARTER_PACK)
        }
        view = presenter.profile_detailed(
            actor, counts.get(actor, Counts(0, 0, 0)), owned, _known(state, actor, shown.get(actor))
        )
        if view is not None:
            views.append(view)
    return views


def _known(state: State, actor: int, followers: list[int] | None) -> tuple[int, list[int]] | None:
    """All that are left are counted; those are shown who block neither the viewer nor the account."""
    followers = [i for i in followers or () if state.actors[i].status != "deleted"]
    if not followers:
        return None
    visible = [
        i
        for i in followers
        if state.sees_actor(i) and not state.blocked(i) and not state.blocking_each_other(actor, i)
    ]
    return len(followers), visible[:KNOWN_FOLLOWERS_SHOWN_MAX]


def find(state: State, did_or_handle: str) -> int | None:
    """Who that is, if it is anybody who has shown up here. May be somebody whom the caller can't see."""
    found = actor_reads.find_actor(state.reader, did_or_handle)
    if found is None:
        return None
    state.load_actors([found])
    row = state.actors[found]
    return found if row.known and row.status != "deleted" else None


def get(state: State, did_or_handle: str) -> int:
    """Who that is. Raises BadInput with the protocol's names for why it can't be shown."""
    found = find(state, did_or_handle)
    if found is None:
        raise BadInput("Profile not found")
    row = state.actors[found]
    if not state.operator:
        state.finish(actors=[found])
        if row.takedown is not None or row.status in _TAKEN_DOWN or row.did in state.hidden:
            raise BadInput("Account has been suspended", name="AccountTakedown")
        if row.status is not None:
            raise BadInput("Account is deactivated", name="AccountDeactivated")
    return found
