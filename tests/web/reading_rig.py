"""The website over a real database: a village whose posts are read at their marker."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx

from appliance.auth.web_sessions import Member
from appliance.timeline.graph_views import GraphViews
from appliance.timeline.notification_views import NotificationViews
from appliance.timeline.own_views import OwnViews
from appliance.timeline.search_views import SearchViews
from appliance.web.marking import Keys, Marking
from appliance.web.reading import Pages
from appliance.web.syndication import syndication
from appliance.xrpc import graph, notifications, own, private, reads, search
from appliance.xrpc.calling import Calling
from appliance.xrpc.methods import Method
from tests.timeline.village import Village, did, village
from tests.web.reading_html import Document
from tests.web.site_rig import Site, running

COOKIE = "cookie-of-the-reader"


class House(NamedTuple):
    """A village, and the website on which Alice reads it."""

    village: Village
    site: Site

    def device(self, **named: str) -> httpx.AsyncClient:
        """A browser in which Alice is signed in."""
        client = self.site.client(headers=named, follow_redirects=True)
        client.cookies.set("session", COOKIE)
        return client


def methods(place: Village) -> list[Method]:
    """What clients can call, as far as pages need it."""
    answering = place.views.answering
    return [
        *reads.methods(place.views, place.settings, "1"),
        *graph.methods(GraphViews(answering)),
        *own.methods(OwnViews(answering)),
        *search.methods(SearchViews(answering, place.settings.store_scope)),
        *notifications.methods(NotificationViews(answering), place.database, place.clock, lambda _: False),
        *private.methods(place.database, place.clock),
    ]


@contextlib.asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """Alice follows Bob and Carol."""
    async with village(folder) as place:
        await place.join("alice", "bob", "carol")
        await place.follow("alice", "bob", "carol")
        reading, marking = Pages(place.views), Marking(place.database, place.clock)
        alice = Member(did("alice"), "alice.test", session=7)
        async with running(
            alice,
            folder / "pictures",
            clock=place.clock,
            reading=reading,
            marking=marking,
            ask=Calling(methods(place)),
            more=lambda frame: [syndication(frame, reading, Keys(place.database, place.clock))],
        ) as site:
            site.door.inside[COOKIE] = alice
            yield House(place, site)


class Screen:
    """A page of a timeline as a reader without script has it before him."""

    def __init__(self, client: httpx.AsyncClient, answer: httpx.Response) -> None:
        assert answer.status_code == 200, (answer.status_code, answer.text[:300])
        self.client = client
        self.address = answer.url
        self.html = answer.text
        self.document = Document(answer.text)

    @property
    def texts(self) -> list[str]:
        """What the posts say, in the order of the page; the marker is '—'."""
        found, starts = [], False
        for element in self.document.elements:
            if element.name == "article":
                starts = True
            elif starts and element.name == "p" and "text" in element.get("class").split():
                found.append(element.words)
                starts = False
            elif element.get("id") == "marker":
                found.append("—")
        return found

    @property
    def title(self) -> str:
        return self.document.one("title").words

    @property
    def tools(self) -> str:
        return next(e for e in self.document.elements if e.get("id") == "tools").words

    def link(self, rel: str) -> str:
        """Where to go on; '' where there is no such link."""
        found = self.document.all("a", rel=rel)
        return found[0]["href"] if found else ""

    def button(self, text: str) -> tuple[str, str]:
        """The button that marks the post with that text."""
        part = self.html[self.html.index(f">{text}<") :]
        match = re.search(r'<button form="mark" name="(\w+)" value="([^"]+)"', part)
        assert match
        return match[1], match[2]

    async def go(self, path: str) -> Screen:
        return Screen(self.client, await self.client.get(path))

    async def press(self, *field: str, path: str = "/api/reading/mark", **more: str) -> Screen:
        """Send the form of marks with one more field."""
        start = self.html.index('<form id="mark"')
        form = self.html[start : self.html.index("</form>", start)]
        data = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        data = {name: value.replace("&amp;", "&") for name, value in data.items()} | more
        if field:
            data[field[0]] = field[1]
        return Screen(self.client, await self.client.post(path, data=data))

    async def read_to(self, text: str) -> Screen:
        return await self.press(*self.button(text))


async def opened(client: httpx.AsyncClient, path: str = "/") -> Screen:
    """A page of the website."""
    return Screen(client, await client.get(path))
