"""The pages' view of the timeline: the same answers that XRPC clients get, as values."""

from __future__ import annotations

from appliance.errors import BadInput, NotFound
from appliance.store.reading import Marker
from appliance.timeline import cursors
from appliance.timeline.asker import PUBLIC, Asker
from appliance.timeline.reading_views import Counts, Part, ReadingViews, Wanted
from appliance.timeline.views import Views
from appliance.web.doors import THREAD_DEPTH, Json, Page

THREAD_HEIGHT = 80
_UNKNOWN = "This account does not exist, or it is not known here."
# For a member it was asked for just now, and may still be on its way.
_UNKNOWN_TO_MEMBER = "This account does not exist, or its server takes long to answer: try again in a moment."


class Pages:
    """The views' answers as values."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._reading = ReadingViews(views.answering)

    async def part(self, viewer: str, timeline: str, wanted: Wanted, limit: int) -> Part:
        """A page of a timeline with the reader's marker, counts and what came late."""
        return await self._reading.part(viewer, timeline, wanted, limit)

    async def counts(self, viewer: str, timeline: str, top: str) -> Counts:
        """What an open page asks now and then."""
        return await self._reading.counts(viewer, timeline, top)

    async def late_rows(self, viewer: str) -> tuple[list[Json], int]:
        """What came late below the marker, and the number that says that it was looked at."""
        return await self._reading.late(viewer)

    async def options(self, viewer: str, timeline: str) -> Marker:
        """How a timeline is shown to the reader."""
        return await self._reading.filters_of(viewer, timeline)

    async def account_filter(self, viewer: str, did: str) -> int:
        """What the reader leaves out of one account."""
        return await self._reading.account_filter(viewer, did)

    async def timeline(self, viewer: str, *, limit: int, before: str, after: str) -> Page:
        """The page after the one cursor or before the other; the newest without any."""
        if after:
            answer = await self._views.newer_timeline(
                Asker(did=viewer, member=True), after=after, limit=limit
            )
        else:
            answer = await self._views.timeline(
                Asker(did=viewer, member=True), cursor=before or None, limit=limit
            )
        body = answer.parsed()
        newest = not before and not after
        return Page(
            body["feed"],
            body.get("cursor", ""),
            "" if newest else answer.newer,
            _just_above(answer.newer) if newest and answer.newer else "",
        )

    async def author_feed(
        self, viewer: str | None, actor: str, *, limit: int, before: str, kinds: str
    ) -> Page:
        """One account's posts."""
        answer = await self._views.author_feed(
            _asker(viewer), actor, only=kinds, cursor=before or None, limit=limit, pins=True
        )
        body = answer.parsed()
        return Page(body["feed"], body.get("cursor", ""), "")

    async def profile(self, viewer: str | None, actor: str) -> Json:
        """An account in detail. Raises NotFound for one that has not shown up here."""
        try:
            found: Json = (await self._views.profile(_asker(viewer), actor)).parsed()
        except BadInput as error:
            if error.name == BadInput.name:
                raise NotFound(_UNKNOWN_TO_MEMBER if viewer else _UNKNOWN) from error
            raise
        return found

    async def thread(self, viewer: str | None, uri: str) -> Json:
        """A post between what it answers and what answers it."""
        answer = await self._views.thread(_asker(viewer), uri, depth=THREAD_DEPTH, height=THREAD_HEIGHT)
        if answer.error is not None:
            raise answer.error
        found: Json = answer.parsed()
        return found


def _just_above(cursor: str) -> str:
    """The cursor before the row of this one, so that the page below begins with that row."""
    place = cursors.parse(cursor)
    return cursors.text_of(place._replace(id=place.id + 1), ambiguous=True)


def _asker(viewer: str | None) -> Asker:
    return Asker(did=viewer, member=True) if viewer else PUBLIC
