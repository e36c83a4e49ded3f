"""The public page that says how this appliance fares, and the same for machines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import orjson
from quart import Blueprint, Response, request

from appliance.web import bodies
from appliance.web.frame import Frame

KEPT_S: Final = 10
# Words for the states of docs/glossary.md, in the order in which they are told.
STATES: Final = (
    ("LIVE", "complete"),
    ("SUSPECT", "being checked again"),
    ("SCANNING", "being read"),
    ("QUEUED", "waiting for their turn"),
    ("WAIT", "whose server can’t be read just now"),
    ("INACTIVE", "deactivated"),
    ("GONE", "deleted"),
    ("PRUNING", "that nobody follows any more"),
)
LEVELS: Final = {
    "rev": "by revision",
    "tail": "by newest records",
    "listing": "record by record",
    "signed": "by signed copy",
}

Told = Callable[[], Awaitable[dict[str, Any]]]


class Fact(NamedTuple):
    """A line of the page. ``low`` is a second, smaller line; ``bad`` marks what is not as it should be."""

    name: str
    value: str
    low: str = ""
    bad: bool = False


def status(frame: Frame, told: Told) -> Blueprint:
    """``told`` gives what anybody may know (``ops.status``)."""
    blueprint = Blueprint("status", __name__)

    @blueprint.get("/status")
    async def page() -> Response:
        """How the appliance fares, for everybody; as JSON for programs (also at `/status.json`)."""
        found = await told()
        if bodies.wants_json(request):
            return _json(found)
        grave = [problem for problem in found["problems"] if problem["grave"]]
        return await frame.render(
            "status.html",
            here="status",
            name=frame.origin.split("://")[-1],
            healthy=found["healthy"],
            problems=grave or found["problems"],
            facts=facts(found),
            version=found["version"],
            at=found["at"],
        )

    @blueprint.get("/status.json")
    async def machine() -> Response:
        """The same as JSON."""
        return _json(await told())

    return blueprint


def facts(found: dict[str, Any]) -> list[tuple[str, list[Fact]]]:
    """What the page tells, by heading."""
    stream, gaps, doubts = found["stream"], found["gaps"], found["doubts"]
    findings = found["findings"]
    behind = "unknown" if stream["lagSeconds"] is None else _span(stream["lagSeconds"])
    live = Fact("Live", "yes" if stream["live"] else "no", "", not stream["live"])
    if not stream["live"] and stream["downSince"]:
        live = live._replace(low=f"not since {_short(stream['downSince'])}")
    reading = [
        live,
        Fact("Behind the network", behind),
        Fact("Read up to", _short(stream["positionAt"]) if stream["positionAt"] else "nothing yet"),
        Fact(
            "Gaps",
            "none open" if not gaps["open"] else f"{gaps['open']} open",
            _day(gaps["lastDay"], "noticed"),
            bool(gaps["open"]),
        ),
    ]
    states = found["accounts"]
    accounts = [
        Fact(
            _count(states[state]["number"]),
            words,
            "" if state == "LIVE" else f"the first since {_short(states[state]['oldest'])}",
        )
        for state, words in STATES
        if state in states
    ] or [Fact("0", "accounts are followed by anybody here yet")]
    proof = [
        Fact(
            f"Checked {LEVELS[level]}",
            f"{_count(one['lastDay'])} accounts within a day",
            f"{_count(one['overdue'])} overdue" if one["overdue"] else "none overdue",
            bool(one["overdue"]),
        )
        for level, one in found["audits"].items()
    ]
    proof += [
        Fact("Certified records", _count(found["records"])),
        Fact(
            "Accounts in doubt",
            _count(doubts["accounts"]) if doubts["accounts"] else "none",
            f"the oldest since {_short(doubts['oldest'])}" if doubts["oldest"] else "",
            bool(doubts["accounts"]),
        ),
        Fact(
            "Differences found",
            f"{_count(findings['open'])} open" if findings["open"] else "none open",
            _day(findings["lastDay"], "found"),
            bool(findings["open"]),
        ),
    ]
    return [("Reading", reading), ("Accounts", accounts), ("Proof", proof)]


def _json(found: dict[str, Any]) -> Response:
    response = Response(orjson.dumps(found), content_type="application/json")
    # The same for everybody, and read by monitors from anywhere.
    response.headers["Cache-Control"] = f"public, max-age={KEPT_S}"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _day(number: int, done: str) -> str:
    return f"{_count(number) if number else 'none'} {done} within a day"


def _short(text: str) -> str:
    moment = dt.datetime.fromisoformat(text)
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def _span(seconds: float) -> str:
    if seconds < 90:
        return "less than a second" if seconds < 1 else f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{round(seconds / 3600)} h"
