"""What all requests of the process have in common: addresses of pictures, the default labelers, caches."""

from __future__ import annotations

from typing import Any

from appliance.clock import Clock
from appliance.config import Settings
from appliance.store.actor_reads import ActorRow
from appliance.store.database import Reader
from appliance.store.post_reads import RecordRow
from appliance.timeline import labelers
from appliance.timeline.cards import Card
from appliance.timeline.fragments import Fragments
from appliance.timeline.posts import PostText

ROWS_MAX = 50_000


class Shared:
    """Lives as long as the process, and is used by several reader threads."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self.images = (settings.image_url or f"{settings.origin}/img").rstrip("/")
        self.videos = (settings.video_url or f"{settings.origin}/vid").rstrip("/")
        self.labelers = labelers.default(settings.labelers)
        self.own_labelers = frozenset(settings.labelers)
        self.fragments: Fragments[Any] = Fragments(settings.cache_mb * 1_000_000)
        self._rows: dict[int, Rows] = {}

    def rows(self, reader: Reader) -> Rows:
        """What this connection has read since the last commit."""
        connection, version = reader.snapshot()
        rows = self._rows.get(connection)
        if rows is None or rows.version != version or len(rows.records) > ROWS_MAX:
            rows = self._rows[connection] = Rows(version)
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
        self.posts: set[int] = set()
        self.likes: dict[int, str] = {}
        self.reposts: dict[int, str] = {}
        self.bookmarked: set[int] = set()
        self.json: dict[int, bytes] = {}  # of people: the finished "viewer" member


class Rows:
    """What was read of one snapshot. Requests add to it, and never change what is there."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.records: dict[int, RecordRow] = {}
        self.texts: dict[int, PostText] = {}
        self.actors: dict[int, ActorRow] = {}
        self.cards: dict[int, Card] = {}
        self.pairs: set[tuple[int, int]] = set()
        self.blocks: set[tuple[int, int]] = set()
        self.viewers: dict[int, Relations] = {}
