"""How the viewer stands to people and posts, read in batches and kept from one answer to the next."""

from __future__ import annotations

from collections.abc import Collection

from appliance.store import actor_reads, list_reads, post_reads, thing_reads
from appliance.store.actor_reads import BLOCK
from appliance.store.database import Reader
from appliance.store.post_reads import LIKE
from appliance.timeline.shared import Relations


def load_people(reader: Reader, relations: Relations, viewer: int, people: Collection[int]) -> int:
    """What lies between the viewer and these; how many of them were not known yet."""
    new = set(people) - relations.people
    if not new:
        return 0
    relations.people |= new
    for kind, actor, rkey in actor_reads.from_viewer(reader, viewer, new):
        (relations.blocking if kind == BLOCK else relations.following)[actor] = rkey
    for kind, actor, rkey in actor_reads.to_viewer(reader, viewer, new):
        (relations.blocked_by if kind == BLOCK else relations.followed_by)[actor] = rkey
    for actor, only in actor_reads.muted(reader, viewer, new).items():
        if only:
            relations.muted_of[actor] = only
        else:
            relations.muted.add(actor)
    relations.subscribed.update((row.subject, row) for row in thing_reads.subscriptions(reader, viewer, new))
    _load_by_list(reader, relations, viewer, new)
    return len(new)


def _load_by_list(reader: Reader, relations: Relations, viewer: int, new: set[int]) -> None:
    if not relations.lists_read:
        relations.lists_read = True
        relations.muted_lists |= list_reads.muted_lists(reader, viewer)
        if list_reads.any_blocks(reader):
            relations.blocked_lists.update(list_reads.blocked_lists(reader, viewer))
            relations.holding += list_reads.holding(reader, viewer)
    own = relations.muted_lists | relations.blocked_lists.keys()
    for each, person in list_reads.members_among(reader, own, new):
        relations.on_lists.setdefault(person, []).append(each)
    for person, each in list_reads.blockers_among(reader, relations.holding, new):
        relations.blocking_lists.setdefault(person, []).append(each)


def load_posts(reader: Reader, relations: Relations, viewer: int, posts: Collection[int]) -> int:
    """What the viewer did with these; how many of them were not known yet."""
    new = set(posts) - relations.posts
    if not new:
        return 0
    relations.posts |= new
    for kind, post, rkey in post_reads.viewer_marks(reader, viewer, new):
        (relations.likes if kind == LIKE else relations.reposts)[post] = rkey
    relations.bookmarked |= post_reads.bookmarked(reader, viewer, new)
    return len(new)


def load_threads(reader: Reader, relations: Relations, viewer: int, roots: Collection[int]) -> None:
    """Which of these threads the viewer muted."""
    new = set(roots) - relations.threads
    if new:
        relations.threads |= new
        relations.muted_threads |= thing_reads.muted_threads(reader, viewer, new)
