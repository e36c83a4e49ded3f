"""What all requests of the process have in common: addresses, numbers of collections, the cache."""

from __future__ import annotations

from typing import Any

from appliance.clock import Clock
from appliance.config import Settings
from appliance.store import post_reads
from appliance.store.database import Reader
from appliance.timeline import labelers
from appliance.timeline.fragments import Fragments

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
LIKE = "app.bsky.feed.like"
FOLLOW = "app.bsky.graph.follow"
BLOCK = "app.bsky.graph.block"
PROFILE = "app.bsky.actor.profile"
STATUS = "app.bsky.actor.status"
LABELER = "app.bsky.labeler.service"
CHAT_DECLARATION = "chat.bsky.actor.declaration"
NOTIFICATION_DECLARATION = "app.bsky.notification.declaration"
GERM_DECLARATION = "com.germnetwork.declaration"
LIST = "app.bsky.graph.list"
GENERATOR = "app.bsky.feed.generator"
STARTER_PACK = "app.bsky.graph.starterpack"


class Shared:
    """Lives as long as the process. Read from several threads; each field changes only as a whole."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self.images = (settings.image_url or f"{settings.origin}/img").rstrip("/")
        self.videos = (settings.video_url or f"{settings.origin}/vid").rstrip("/")
        self.labelers = labelers.default(settings.labelers)
        self.own_labelers = frozenset(settings.labelers)
        self.fragments: Fragments[Any] = Fragments(settings.cache_mb * 1_000_000)
        self._number_of: dict[str, int] = {}
        self._name_of: dict[int, str] = {}

    def collection(self, reader: Reader, nsid: str) -> int:
        """The number of a collection; -1 while no record of it was ever seen."""
        number = self._number_of.get(nsid)
        if number is None:
            self._load(reader)
            number = self._number_of.get(nsid, -1)
        return number

    def collection_name(self, reader: Reader, number: int) -> str:
        """Its name."""
        name = self._name_of.get(number)
        if name is None:
            self._load(reader)
            name = self._name_of[number]
        return name

    def _load(self, reader: Reader) -> None:
        numbers = post_reads.collections(reader)
        self._name_of = {number: name for name, number in numbers.items()}
        self._number_of = numbers
