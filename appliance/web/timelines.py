"""Timelines as they are read: home and lists at the reader's marker, the ways around, the live counter."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from quart import Blueprint, Response, redirect, request

from appliance import errors
from appliance.auth.web_sessions import Member
from appliance.protocol.syntax import is_at_uri
from appliance.store import reading as markers
from appliance.store.completeness import Doubt
from appliance.timeline.reading_views import COUNTED_MAX, Part, Wanted
from appliance.web import completeness, present
from appliance.web.doors import Proving, Reading
from appliance.web.frame import Frame, json_answer

PAGE_ROWS: Final = 50
PAGE_ROWS_MAX: Final = 100
LONG_ABSENCE: Final = 500
DAY_MS: Final = 86_400_000
LIST: Final = "app.bsky.graph.list"


class Row(NamedTuple):
    """A row with the cursor that marks it, and how it stands to the marker."""

    entry: present.Entry
    place: str
    late: bool
    read: bool
    gaps: tuple[completeness.Interval, ...] = ()


class Line(NamedTuple):
    """The marker as a line among the rows: before which of them it stands."""

    before: int
    words: str
    iso: str
    device: str
    may_undo: bool


def timelines(frame: Frame, reading: Reading, proving: Proving) -> Blueprint:
    """Home, lists, and what open pages ask."""
    blueprint = Blueprint("timelines", __name__)

    @blueprint.get("/")
    async def home() -> Any:
        """The timeline at the marker; `before`, `after`, `at` lead elsewhere. What this is, for a guest."""
        viewer = await frame.viewer()
        if viewer is None:
            return await frame.render("welcome.html", here="home", name=frame.origin.split("://")[-1])
        return await timeline(viewer, markers.HOME, "/")

    @blueprint.get("/l/<did>/<rkey>")
    async def of_list(did: str, rkey: str) -> Any:
        """The timeline of a list, with a marker of its own; ways as at home."""
        viewer = await frame.viewer()
        if viewer is None:
            return redirect(f"/login?{urlencode({'return': request.path})}", 303)
        return await timeline(viewer, list_uri(did, rkey), f"/l/{quote(did, safe=':.')}/{quote(rkey)}")

    async def timeline(viewer: Member, name: str, base: str) -> Any:
        wanted = _wanted()
        part = await reading.part(viewer.did, name, wanted, PAGE_ROWS)
        if wanted.after and not part.feed and not part.between:
            return redirect(base, 303)
        look = await frame.look()
        now_us = look.now_us
        report = await proving.of(viewer.did)
        rows = [
            Row(present.entry(item, look), place, n in part.late, n >= part.read_from)
            for n, (item, place) in enumerate(zip(part.feed, part.places, strict=True))
        ]
        between = [
            Row(present.entry(item, look), place, late=True, read=False)
            for item, place in zip(part.between, part.between_places, strict=True)
        ]
        upwards = not part.marker.oldest_first
        if report.state != "complete" and rows:
            rows = _with_gaps(rows, await proving.doubts(viewer.did), now_us)
        line = _line(part, now_us)
        if not upwards:
            rows.reverse()
            if line is not None:
                line = line._replace(before=len(rows) - line.before)
        keep = {"all": "1"} if wanted.whole else {}
        lead = {"seen": str(part.arrival), **keep}
        newer = f"{base}?{urlencode({'after': part.newer, **lead})}" if part.newer else ""
        older = f"{base}?{urlencode({'before': part.older, **keep})}" if part.older else ""
        return await frame.render(
            "home.html",
            here="home" if name == markers.HOME else "lists",
            title=part.title or "Home",
            timeline=name,
            base=base,
            state=completeness.of_timeline(report, now_us),
            first_page=name == markers.HOME and not part.newer and not wanted.before,
            # The newest page moves on: what is done on it leads back to these very rows.
            back=f"{base}?{urlencode({'before': part.here, **keep})}"
            if part.here and not wanted.after
            else None,
            once=secrets.token_urlsafe(12),
            rows=rows,
            between=between,
            line=line,
            at_marker=wanted == Wanted() and line is not None,
            upwards=upwards,
            older=older,
            newer=newer,
            above=_number(part.above),
            unread=_number(part.unread),
            hidden=part.hidden,
            whole=wanted.whole,
            late_below=part.late_below,
            marker=part.marker,
            arrival=part.arrival,
            now_ms=now_us // 1000,
            day_ms=DAY_MS,
            long_absence=part.unread > LONG_ABSENCE,
            caught_up=_caught_up(part, report.state, report.total - report.complete - report.inactive),
            start=_start(part, report.catching_up, report.history_since),
            top=part.places[0] if part.places else "",
            asked=request.args.get("done", ""),
        )

    @blueprint.get("/api/timeline")
    async def rows() -> Response:
        """The timeline as JSON: `feed`, `cursor`, `newer`; takes `limit`, `cursor`, `after`."""
        viewer = await member()
        page = await reading.timeline(
            viewer.did,
            limit=_limit(request.args.get("limit", "")),
            before=request.args.get("before", request.args.get("cursor", "")),
            after=request.args.get("after", ""),
        )
        answer: dict[str, Any] = {"feed": page.feed}
        if page.older:
            answer["cursor"] = page.older
        if page.newer:
            answer["newer"] = page.newer
        return json_answer(answer)

    @blueprint.get("/api/timeline/state")
    async def state() -> Response:
        """What an open page asks now and then: unread rows, hidden ones, rows above `top`."""
        viewer = await member()
        counts = await reading.counts(
            viewer.did, timeline_of(request.args.get("timeline", "")), request.args.get("top", "")
        )
        response = json_answer(
            {
                "unread": _number(counts.unread),
                "above": _number(counts.above),
                "hidden": counts.hidden,
                "version": counts.version,
                "marked": counts.marked,
            }
        )
        response.set_etag(str(hash(counts) & 0xFFFFFFFFFFFF))
        return await response.make_conditional(request)

    @blueprint.get("/late")
    async def late() -> Any:
        """What came in below the marker after the reader had passed there."""
        viewer = await frame.viewer()
        if viewer is None:
            return redirect("/login?return=/late", 303)
        found, arrival = await reading.late_rows(viewer.did)
        look = await frame.look()
        return await frame.render(
            "late.html",
            here="home",
            entries=[present.entry(item, look) for item in found],
            arrival=arrival,
        )

    async def member() -> Member:
        viewer = await frame.viewer()
        if viewer is None:
            raise errors.Refused("Sign in first.")
        return viewer

    return blueprint


def list_uri(did: str, rkey: str) -> str:
    """The address of a list. Raises NotFound for what can't be one."""
    uri = f"at://{did}/{LIST}/{rkey}"
    if not is_at_uri(uri):
        raise errors.NotFound("That is no list.")
    return uri


def timeline_of(text: str) -> str:
    """'' for home, or the address of a list. Raises BadInput."""
    if text and (not is_at_uri(text) or f"/{LIST}/" not in text):
        raise errors.BadInput("timeline is '' or the address of a list")
    return text


def path_of(timeline: str) -> str:
    """Where a timeline is read."""
    if not timeline:
        return "/"
    did, _, rkey = timeline.removeprefix("at://").split("/")
    return f"/l/{quote(did, safe=':.')}/{quote(rkey)}"


def _wanted() -> Wanted:
    seen = request.args.get("seen", "")
    if seen and (not seen.isascii() or not seen.isdecimal() or len(seen) > 18):
        raise errors.BadInput("seen is the number of an arrival")
    return Wanted(
        before=request.args.get("before", ""),
        after=request.args.get("after", ""),
        at_ms=_moment(request.args.get("at", "")),
        whole=request.args.get("all") == "1",
        seen=int(seen) if seen else None,
        newest=request.args.get("newest") == "1",
    )


def _moment(text: str) -> int | None:
    """A time as browsers' fields give it, in UTC. Raises BadInput."""
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise errors.BadInput("A time looks like 2026-11-20T12:00.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1000)


def _with_gaps(rows: list[Row], doubts: list[Doubt], now_us: int) -> list[Row]:
    """The rows, newest first; above the newest one inside each doubt stands that some may be missing."""
    times = [int(row.place.partition("__")[0]) * 1000 if "__" in row.place else 0 for row in rows]
    for doubt in doubts:
        from_us = 0 if doubt.from_us is None else doubt.from_us
        to_us = now_us if doubt.to_us is None else doubt.to_us
        if from_us > times[0] or to_us < times[-1]:
            continue
        at = next((n for n, time_us in enumerate(times) if time_us <= to_us), len(rows) - 1)
        rows[at] = rows[at]._replace(gaps=(*rows[at].gaps, completeness.interval(doubt, now_us)))
    return rows


def _line(part: Part, now_us: int) -> Line | None:
    marker = part.marker
    if marker.place is None:
        return None
    if part.read_from == 0 and part.newer:
        return None
    if part.read_from == len(part.feed) and part.older:
        return None
    # A mark beyond the newest row ("all read") is as far as there are rows.
    at_us = min(marker.place.sort_ms * 1000, now_us)
    moment = dt.datetime.fromtimestamp(max(0, at_us) / 1e6, dt.UTC)
    words = completeness.moment(max(0, at_us), now_us)
    iso = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Line(part.read_from, words, iso, marker.device, marker.was is not None)


def _caught_up(part: Part, state: str, open_accounts: int) -> str:
    """What may be said where nothing is unread: never more than is proved."""
    if part.marker.place is None or part.unread or part.above or part.late_below:
        return ""
    if state == "complete":
        return "You are all caught up."
    if open_accounts > 0:
        still = "1 account is" if open_accounts == 1 else f"{open_accounts} accounts are"
        return f"You have read everything that is here; {still} still being checked."
    return "You have read everything that is here; newer posts may be missing."


def _start(part: Part, catching_up: int, history_since: str) -> str:
    """What stands where the timeline begins."""
    if part.oldest is None:
        return ""
    day = dt.datetime.fromtimestamp(max(0, part.oldest) / 1e3, dt.UTC)
    words = f"This is the start of your timeline: {day.day} {day:%B} {day.year}."
    if catching_up:
        return words + " Earlier posts may still arrive: some histories are being loaded."
    if history_since:
        return words + f" Posts from before {history_since} are not loaded here."
    return words


def _number(count: int) -> str:
    return f"{COUNTED_MAX}+" if count > COUNTED_MAX else str(count)


def _limit(text: str) -> int:
    if not text:
        return PAGE_ROWS
    if not text.isascii() or not text.isdecimal() or len(text) > 3 or not 1 <= int(text) <= PAGE_ROWS_MAX:
        raise errors.BadInput(f"limit is a number from 1 to {PAGE_ROWS_MAX}")
    return int(text)
