"""Our own feeds: the timeline of whoever asks, for readers in other clients than ours.

The asker is whom the service token names. Somebody who is no member is admitted on the spot where the
admission setting lets him in, else told how to join.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from appliance.errors import BadInput, Refused
from appliance.store import own_feeds
from appliance.store.own_feeds import Kind, OwnFeed
from appliance.store.timeline import TimelineFilter
from appliance.timeline import skeletons
from appliance.timeline.answering import Answer, Answering, paged
from appliance.timeline.asker import Asker
from appliance.timeline.filling import Page
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, text
from appliance.timeline.skeletons import Entry

LIST_PREFIX = "list-"


class Description(msgspec.Struct, frozen=True):
    """What a generator record says."""

    rkey: str
    kind: Kind
    name: str
    about: str


BASIC: Final = (
    Description(
        "timeline",
        "all",
        "Complete timeline",
        "Everything that those whom you follow post, answer and repost: newest first, nothing left out.",
    ),
    Description(
        "no-reposts",
        "no_reposts",
        "Timeline, no reposts",
        "Everything that those whom you follow write themselves, newest first.",
    ),
    Description(
        "no-replies",
        "no_replies",
        "Timeline, no replies",
        "Posts and reposts of those whom you follow, without answers, newest first.",
    ),
    Description(
        "media",
        "media",
        "Pictures and videos",
        "Pictures and videos of those whom you follow, newest first.",
    ),
)
_FILTERS: Final[Mapping[Kind, TimelineFilter]] = {
    "all": "all",
    "no_reposts": "no_reposts",
    "no_replies": "no_replies",
    "media": "media",
}


class OwnFeeds:
    """Answers what feed generators are asked. ``admit(did)`` lets somebody in, or raises BadInput that
    tells how."""

    def __init__(
        self, answering: Answering, service_did: str, admit: Callable[[str], Awaitable[None]]
    ) -> None:
        self._answering = answering
        self._did = service_did
        self._admit = admit

    async def describe(self) -> Answer:
        """describeFeedGenerator: what is published."""
        published = await self._answering.database.read(own_feeds.listing)
        feeds = joined([text({"uri": feed.uri}) for feed in published])
        return Answer(b'{"did":%b,"feeds":%b}' % (text(self._did), feeds))

    async def find(self, uri: str) -> OwnFeed:
        """Raises BadInput, UnknownFeed, for an address under which we publish nothing."""
        found = await self._answering.database.read(lambda reader: own_feeds.find(reader, uri))
        if found is None:
            raise BadInput("could not find feed: it is not published here", name="UnknownFeed")
        return found

    async def skeleton(self, asker: Asker, uri: str, *, cursor: str | None, limit: int) -> Answer:
        """getFeedSkeleton."""
        feed = await self.find(uri)
        if asker.did is None:
            raise Refused("Sign in to see your own timeline", name="AuthMissing")
        if not asker.member:
            await self._admit(asker.did)
            asker = msgspec.structs.replace(asker, member=True)

        def members(state: State) -> bytes:
            page = _page(state, feed, cursor, limit)
            return paged(b'"feed":' + joined(page.views), page.cursor)

        return await self._answering.answer(asker, members, labelled=False)

    async def entries(
        self, asker: Asker, uri: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Entry], str | None]:
        """The same for our own getFeed."""
        answer = (await self.skeleton(asker, uri, cursor=cursor, limit=limit)).parsed()
        return [Entry.of(each) for each in answer["feed"]], answer.get("cursor")


def _page(state: State, feed: OwnFeed, cursor: str | None, limit: int) -> Page:
    if feed.kind == "list":
        return skeletons.of_list(state, feed.list, cursor, limit)
    return skeletons.timeline(state, _FILTERS[feed.kind], cursor, limit)
