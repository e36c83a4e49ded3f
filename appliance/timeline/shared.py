"""What all requests of the process have in common: addresses of pictures, the default labelers, caches."""

from __future__ import annotations

from typing import Any

from appliance.clock import Clock
from appliance.config import Settings
from appliance.store.actor_reads import ActorRow, Verification
from appliance.store.changes import Changed
from appliance.store.database import Reader
from appliance.store.post_reads import RecordRow
from appliance.store.thing_reads import Subscription, ThingRow
from appliance.timeline import labelers
from appliance.timeline.cards import Card
from appliance.timeline.fragments import Fragments
from appliance.timeline.gates import PostGate, ThreadGate
from appliance.timeline.posts import PostText
from appliance.timeline.things import Thing

ROWS_MAX = 50_000
RELATIONS_MAX = 200_000


class Shared:
    """Lives as long as the process, and is used by several reader threads."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self.images = (settings.image_url or f"{settings.origin}/img").rstrip("/")
        self.videos = (settings.video_url or f"{settings.origin}/vid").rstrip("/")
        self.labelers = labelers.default(settings.labelers)
        self.own_labelers = frozenset(settings.labelers)
        self.counts_all = settings.store_scope == "network"
        self.counts_outside = bool(settings.constellation_url)
        self.verifiers = tuple(dict.fromkeys(settings.verifiers))
        self.fragments: Fragments[Any] = Fragments(settings.cache_mb * 1_000_000)
        self._rows: dict[int, Rows] = {}

    def rows(self, reader: Reader) -> Rows:
        """What this connection has read and no commit has changed since.

        A file that changed while nothing was published was written by somebody else: all is read anew.
        """
        connection, version = reader.snapshot()
        rows = self._rows.get(connection)
        if rows is not None and not rows.full():
            changes = reader.changes(rows.settled)
            if changes is not None and (changes or rows.version == version):
                for changed in changes:
                    rows.forget(changed)
                rows.version, rows.settled = version, reader.settled
                return rows
        rows = self._rows[connection] = Rows(version, reader.settled)
        return rows


class Relations:
    """How one viewer stands to people and posts, as far as it was asked: ``people`` and ``posts``."""

    def __init__(self) -> None:
        self.people: set[int] = set()
        self.following: dict[int, str] = {}
        self.followed_by: dict[int, str] = {}
        self.blocking: dict[int, str] = {}
        self.blocked_by: dict[int, str] = {}
        self.muted: set[int] = set()
        self.muted_of: dict[int, int] = {}  # who is muted in part, and of what
        self.muted_lists: set[int] = set()
        self.blocked_lists: dict[int, str] = {}
        self.holding: list[int] = []  # lists with the viewer on them that somebody blocks
        self.lists_read = False
        # Lists by person: of those that the viewer mutes or blocks, who is on which; of those that hold
        # the viewer, who blocks which.
        self.on_lists: dict[int, list[int]] = {}
        self.blocking_lists: dict[int, list[int]] = {}
        self.subscribed: dict[int, Subscription] = {}
        self.threads: set[int] = set()
        self.muted_threads: set[int] = set()
        self.posts: set[int] = set()
        self.likes: dict[int, str] = {}
        self.reposts: dict[int, str] = {}
        self.bookmarked: set[int] = set()
        self.json: dict[int, bytes] = {}  # of people: the finished "viewer" member


class Rows:
    """What was read and still holds. Requests add to it; only ``forget`` takes away.

    All of it is a function of rows whose changes store/changes.py tells. Nothing is kept about ids
    that have no row, but relations: those of a viewer go as a whole.
    """

    def __init__(self, version: int, settled: int) -> None:
        self.version = version
        self.settled = settled
        self.records: dict[int, RecordRow] = {}
        self.texts: dict[int, PostText] = {}
        self.actors: dict[int, ActorRow] = {}
        self.cards: dict[int, Card] = {}
        self.verified: dict[int, tuple[Verification, ...]] = {}
        self.pairs: set[tuple[int, int]] = set()
        self.blocks: set[tuple[int, int]] = set()
        self.list_blocks: dict[tuple[int, int], list[int]] = {}
        self.things: dict[int, ThingRow] = {}
        self.sayings: dict[int, Thing] = {}
        self.gates: dict[int, dict[int, ThreadGate | PostGate]] = {}  # by post and collection
        self.viewers: dict[int, Relations] = {}
        self.relations_kept = 0

    def full(self) -> bool:
        """Whether it is time to begin anew."""
        return max(len(self.records), len(self.pairs)) > ROWS_MAX or self.relations_kept > RELATIONS_MAX

    def forget(self, changed: Changed) -> None:
        """Let go of what a commit may have changed."""
        for record in changed.records:
            self.records.pop(record, None)
            self.texts.pop(record, None)
            self.things.pop(record, None)
            self.sayings.pop(record, None)
            self.gates.pop(record, None)
        for actor in changed.actors:
            self.actors.pop(actor, None)
            self.cards.pop(actor, None)
            self.verified.pop(actor, None)
        for viewer in changed.viewers:
            self.viewers.pop(viewer, None)
        if changed.blocks:
            self.pairs.clear()
            self.blocks.clear()
            self.list_blocks.clear()
        if changed.lists:
            self.viewers.clear()
