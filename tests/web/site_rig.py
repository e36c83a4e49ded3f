"""The real website over a real socket, with what lies behind the pages' doors kept in memory."""

from __future__ import annotations

import asyncio
import colorsys
import contextlib
import functools
import math
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Blueprint

from appliance.auth.budgets import Budgets
from appliance.auth.web_sessions import Member
from appliance.clock import Clock, ManualClock
from appliance.errors import ApplianceError, BadInput, NotFound, Refused
from appliance.media.images import Images
from appliance.media.renderer import Renderer
from appliance.protocol import cid as cids
from appliance.store import reading as markers
from appliance.store.completeness import Account, Doubt, Late
from appliance.timeline.completeness import Report
from appliance.timeline.reading_views import Counts, Part, Wanted
from appliance.web.doors import Asking, Json, Marking, Outcome, Page, Reading
from appliance.web.frame import Frame
from appliance.web.security import Guard
from appliance.web.site import site
from appliance.web.status import status

KEY = b"k" * 32
APP_PASSWORD = "abcd-efgh-ijkl-mnop"
ALL_LIVE = Report("complete", lag_s=0.4, total=12, complete=12, records=4711)
WELL: Json = {
    "version": "1.2.3",
    "healthy": True,
    "at": "2026-11-20T12:16:31Z",
    "uptimeSeconds": 90_000,
    "problems": [],
    "stream": {"live": True, "lagSeconds": 0.4, "downSince": None, "positionAt": "2026-11-20T12:16:30Z"},
    "accounts": {"LIVE": {"number": 1412, "oldest": "2026-11-02T08:00:00Z"}},
    "records": 1_204_711,
    "doubts": {"accounts": 0, "oldest": None},
    "gaps": {"open": 0, "oldest": None, "lastDay": 1},
    "audits": {
        "rev": {"accounts": 1412, "due": 2, "overdue": 0, "lastDay": 1412},
        "listing": {"accounts": 1412, "due": 0, "overdue": 0, "lastDay": 203},
    },
    "findings": {"open": 0, "lastDay": 2},
}
# Where recorded answers say that pictures are.
RECORDED_ORIGIN = "https://bsky.public.url"


class Shelf:
    """doors.Reading and doors.Proving: timelines, profiles, threads and states as they were put here."""

    def __init__(self) -> None:
        self.timelines: dict[str, list[Json]] = {}
        self.feeds: dict[str, list[Json]] = {}
        self.profiles: dict[str, Json] = {}
        self.threads: dict[str, Json] = {}
        self.failures: dict[str, ApplianceError] = {}
        self.report = ALL_LIVE
        self.known: list[Account] = []
        self.in_doubt: list[Doubt] = []
        self.arrived: list[Late] = []
        self.status = WELL

    async def timeline(self, viewer: str, *, limit: int, before: str, after: str) -> Page:
        rows = self.timelines.get(viewer, [])
        if after:
            end = _place(after)
            start = max(0, end - limit)
            return Page(rows[start:end], str(end) if end < len(rows) else "", str(start) if start else "")
        start = _place(before) if before else 0
        end = min(start + limit, len(rows))
        newer = str(start) if before else ""
        return Page(rows[start:end], str(end) if end < len(rows) else "", newer, "" if before else "0")

    async def part(self, viewer: str, timeline: str, wanted: Wanted, limit: int) -> Part:
        rows = self.timelines.get(viewer, [])
        start, end = 0, limit
        if wanted.after:
            end = _place(wanted.after)
            start = max(0, end - limit)
        elif wanted.before:
            start = _place(wanted.before)
            end = start + limit
        end = min(end, len(rows))
        return Part(
            feed=rows[start:end],
            places=[str(n) for n in range(start, end)],
            late=frozenset(),
            between=[],
            between_places=[],
            read_from=end - start,
            older=str(end) if end < len(rows) else "",
            newer=str(start) if start else "",
            above=start,
            marker=markers.UNREAD,
            marked="",
            unread=0,
            hidden=0,
            late_below=0,
            arrival=self.report.arrival,
            oldest=None,
            here=str(start),
        )

    async def counts(self, viewer: str, timeline: str, top: str) -> Counts:
        return Counts(0, 0, _place(top) if top else 0, 0, "")

    async def late_rows(self, viewer: str) -> tuple[list[Json], int]:
        return [], 0

    async def options(self, viewer: str, timeline: str) -> markers.Marker:
        return markers.UNREAD

    async def account_filter(self, viewer: str, did: str) -> int:
        return 0

    async def author_feed(
        self, viewer: str | None, actor: str, *, limit: int, before: str, kinds: str
    ) -> Page:
        rows = self.feeds.get(actor, [])
        if kinds == "posts_with_media":
            rows = [row for row in rows if row["post"].get("embed")]
        start = _place(before) if before else 0
        end = min(start + limit, len(rows))
        return Page(rows[start:end], str(end) if end < len(rows) else "", "")

    async def profile(self, viewer: str | None, actor: str) -> Json:
        if actor in self.failures:
            raise self.failures[actor]
        for view in self.profiles.values():
            if actor in (view["did"], view["handle"], *view.get("formerly", ())):
                return view
        raise NotFound("This account does not exist, or it is not known here.")

    async def thread(self, viewer: str | None, uri: str) -> Json:
        if uri in self.failures:
            raise self.failures[uri]
        if uri not in self.threads:
            raise BadInput(f"Post not found: {uri}", name="NotFound")
        return {"thread": self.threads[uri]}

    async def of(self, viewer: str) -> Report:
        return self.report

    async def of_account(self, did: str) -> Account | None:
        return next((account for account in self.known if account.did == did), None)

    async def doubts(self, viewer: str) -> list[Doubt]:
        return self.in_doubt

    async def accounts(
        self, viewer: str, *, cursor: str = "", limit: int = 50, incomplete: bool = False
    ) -> tuple[list[Account], str]:
        start = _place(cursor) if cursor else 0
        rows = [one for one in self.known if not incomplete or one.shown != "complete"]
        return rows[start : start + limit], str(start + limit) if start + limit < len(rows) else ""

    async def late(self, viewer: str, since: int, limit: int) -> tuple[list[Late], int, bool]:
        rows = [row for row in self.arrived if row.arrival > since]
        return rows[:limit], self.report.arrival, len(rows) > limit

    async def told(self) -> Json:
        return self.status


class Marks:
    """doors.Marking for pages whose timeline has no database."""

    async def mark(self, viewer: str, timeline: str, cursor: str, **_: Any) -> bool:
        return False

    async def mark_time(self, viewer: str, timeline: str, at_ms: int, **_: Any) -> bool:
        return False

    async def undo(self, viewer: str, timeline: str, *, device: str) -> bool:
        return False

    async def choose(self, viewer: str, timeline: str, *, hide: int, oldest_first: bool) -> None:
        raise NotFound("no database")

    async def filter_account(self, viewer: str, did: str, hide: int) -> None:
        raise NotFound("no database")

    async def late_seen(self, viewer: str, arrival: int) -> None:
        raise NotFound("no database")


async def silent(
    viewer: str | None,
    nsid: str,
    parameters: Mapping[str, str | list[str]] | None = None,
    body: Any = None,
) -> Any:
    """doors.Asking where nobody is to be asked."""
    raise NotFound(f"{nsid} is not answered here")


class Door:
    """doors.SigningIn: who may come in, and who has."""

    def __init__(self, *members: Member) -> None:
        self.members = {name: member for member in members for name in (member.handle, member.did)}
        self.inside: dict[str, Member] = {}
        self.asked: list[dict[str, str]] = []
        self.failure: ApplianceError | None = None
        self._made = 0

    async def sign_in(
        self, identifier: str, password: str, *, factor: str, invite: str, client: str, about: str
    ) -> tuple[str, Member]:
        self.asked.append({"factor": factor, "invite": invite, "client": client, "about": about})
        if self.failure is not None:
            raise self.failure
        member = self.members.get(identifier)
        if member is None or password not in (APP_PASSWORD, "main password"):
            raise Refused("Handle or password is wrong.")
        self._made += 1
        cookie = f"cookie-{self._made}"
        self.inside[cookie] = member._replace(session=self._made)
        return cookie, self.inside[cookie]

    async def who(self, cookie: str) -> Member | None:
        return self.inside.get(cookie)

    async def renew(self, cookie: str) -> str | None:
        member = self.inside.pop(cookie, None)
        if member is None:
            return None
        self.inside[f"{cookie}-renewed"] = member._replace(due=False)
        return f"{cookie}-renewed"

    async def sign_out(self, cookie: str) -> None:
        self.inside.pop(cookie, None)


class Pen:
    """doors.Writing: remembers what was asked, and shows it in the timeline."""

    def __init__(self, door: Door, shelf: Shelf) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.failure: ApplianceError | None = None
        self.confirmed = True
        self._door = door
        self._shelf = shelf
        self._once: dict[str, str] = {}

    async def post(self, cookie: str, text: str, *, reply: str, langs: list[str], once: str) -> Outcome:
        self._check(cookie)
        if not text:
            raise BadInput("Write something first.")
        if len(text) > 300:
            raise BadInput("A post has at most 300 characters.")
        if once not in self._once:
            self._once[once] = (
                f"at://{self._door.inside[cookie].did}/app.bsky.feed.post/3new{len(self.done):04}"
            )
            self.done.append(("post", text, reply, langs))
        return Outcome(self._once[once], self.confirmed) if self.confirmed else Outcome(confirmed=False)

    async def like(self, cookie: str, uri: str, cid: str, *, wanted: bool) -> Outcome:
        return self._mark("like", cookie, uri, cid, wanted)

    async def repost(self, cookie: str, uri: str, cid: str, *, wanted: bool) -> Outcome:
        return self._mark("repost", cookie, uri, cid, wanted)

    async def follow(self, cookie: str, did: str, *, wanted: bool) -> Outcome:
        self._check(cookie)
        self.done.append(("follow", did, wanted))
        if did in self._shelf.profiles:
            self._shelf.profiles[did]["viewer"] = {"following": f"at://x/{did}"} if wanted else {}
        return Outcome(confirmed=self.confirmed)

    async def delete(self, cookie: str, uri: str) -> Outcome:
        self._check(cookie)
        self.done.append(("delete", uri))
        for rows in (*self._shelf.timelines.values(), *self._shelf.feeds.values()):
            rows[:] = [row for row in rows if row["post"]["uri"] != uri]
        return Outcome(confirmed=self.confirmed)

    def _mark(self, name: str, cookie: str, uri: str, cid: str, wanted: bool) -> Outcome:
        self._check(cookie)
        self.done.append((name, uri, cid, wanted))
        for rows in self._shelf.timelines.values():
            for row in rows:
                if row["post"]["uri"] == uri:
                    viewer = row["post"].setdefault("viewer", {})
                    viewer[name] = "at://mine" if wanted else None
        return Outcome(confirmed=self.confirmed)

    def _check(self, cookie: str) -> None:
        if cookie not in self._door.inside:
            raise Refused("Sign in first.")
        if self.failure is not None:
            raise self.failure


class Album:
    """The owners' servers: pictures by CID."""

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

    async def has(self, did: str, cid: str) -> bool:
        return True

    def add(self, data: bytes) -> str:
        """Its CID."""
        name = cids.to_text(cids.blob_cid_of(data))
        self.pictures[name] = data
        return name

    async def fetch(self, did: str, cid: str) -> bytes:
        self.asked.append((did, cid))
        if cid not in self.pictures:
            raise NotFound("gone", name="BlobNotFound")
        return self.pictures[cid]


class Site(NamedTuple):
    """A running website and what stands behind it."""

    origin: str
    shelf: Shelf
    door: Door
    pen: Pen
    album: Album
    member: Member

    def client(self, **named: Any) -> httpx.AsyncClient:
        """A browser without script: keeps cookies, names its origin."""
        headers = {"Origin": self.origin, **named.pop("headers", {})}
        return httpx.AsyncClient(base_url=self.origin, headers=headers, trust_env=False, **named)

    def sign_in(self, client: httpx.AsyncClient) -> None:
        """Give a browser the cookie of the member."""
        cookie = "cookie-of-the-member"
        self.door.inside[cookie] = self.member
        client.cookies.set("session", cookie)


@contextlib.asynccontextmanager
async def running(
    member: Member,
    folder: Path,
    *,
    clock: Clock | None = None,
    public: str = "",
    budgets: Budgets | None = None,
    reading: Reading | None = None,
    marking: Marking | None = None,
    ask: Asking | None = None,
    more: Callable[[Frame], list[Blueprint]] = lambda _: [],
) -> AsyncIterator[Site]:
    """The website on a free port of this machine. ``public`` is another name under which it goes.

    ``reading``, ``marking`` and ``ask`` stand in for the shelf where a real timeline is wanted; ``more``
    makes further pages.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        # The server closes it.
        descriptor = listener.detach()
        origin = f"http://127.0.0.1:{port}"
        shelf, door, album = Shelf(), Door(member), Album()
        pen = Pen(door, shelf)
        guard = Guard(KEY, public or origin)
        frame = Frame(guard, door, clock or ManualClock(1_795_244_191_751_000), public or origin)
        images = Images(folder, album.fetch, Renderer().render, album.has, cache_bytes=100_000_000)
        application = site(
            frame,
            reading or shelf,
            marking or Marks(),
            ask or silent,
            shelf,
            door,
            pen,
            images,
            [status(frame, shelf.told), *more(frame)],
            budgets,
        )
        config = Config()
        config.bind = [f"fd://{descriptor}"]
        config.accesslog = config.errorlog = None
        config.include_server_header = False
        config.graceful_timeout = 0.2
        stop = asyncio.Event()

        async def stopping() -> None:
            await stop.wait()

        task = asyncio.create_task(serve(application, config, shutdown_trigger=stopping, mode="asgi"))
        try:
            yield Site(origin, shelf, door, pen, album, member)
        finally:
            stop.set()
            await task


@functools.lru_cache(maxsize=1000)
def png(width: int, height: int, seed: int) -> bytes:
    """A picture that looks like hills under a sky, differing by seed."""
    tone = (seed * 47) % 360
    sky, hill, ground = _rgb(tone, 0.45, 0.82), _rgb(tone + 40, 0.35, 0.55), _rgb(tone + 70, 0.4, 0.32)
    rows = []
    for y in range(height):
        fade = y / height
        row = bytearray(b"\x00")
        for x in range(width):
            phase = x / width * math.tau + seed
            ridge = 0.55 + 0.13 * math.sin(phase) + 0.05 * math.sin(phase * 2.7 + seed)
            near = 0.78 + 0.08 * math.sin(phase * 1.3 + 2 * seed)
            colour = ground if fade > near else hill if fade > ridge else sky
            light = 1 - 0.25 * fade if colour is sky else 1
            row += bytes(min(255, round(c * light)) for c in colour)
        rows.append(bytes(row))
    return _png_of(width, height, b"".join(rows))


def _png_of(width: int, height: int, raw: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(raw, 6))
        + chunk(b"IEND", b"")
    )


def _rgb(hue: int, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((hue % 360) / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _place(cursor: str) -> int:
    if not cursor.isdecimal():
        raise BadInput("Malformed cursor")
    return int(cursor)
