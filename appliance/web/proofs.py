"""The page behind the line of completeness: who is not complete and why, doubts, what came late."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from quart import Blueprint, redirect, request

from appliance import errors
from appliance.web import completeness
from appliance.web.doors import Proving
from appliance.web.frame import Frame

ACCOUNTS: Final = 100
LATE_ROWS: Final = 50
# Without a marker of the reader's: what came late among so many arrivals here.
LATE_BACK: Final = 1000


def proofs(frame: Frame, proving: Proving) -> Blueprint:
    """The page. ``show=all`` lists every account, ``since`` is a marker of an earlier visit."""
    blueprint = Blueprint("proofs", __name__)

    @blueprint.get("/completeness")
    async def details() -> Any:
        """How complete the timeline is, account by account; takes `show=all`, `cursor`, `since`."""
        viewer = await frame.viewer()
        if viewer is None:
            return redirect(f"/login?{urlencode({'return': '/completeness'})}", 303)
        now_us = frame.clock.now_us()
        report = await proving.of(viewer.did)
        everybody = request.args.get("show", "") == "all"
        cursor = request.args.get("cursor", "")
        found, following = await proving.accounts(
            viewer.did, cursor=cursor, limit=ACCOUNTS, incomplete=not everybody
        )
        doubts = await proving.doubts(viewer.did)
        given = request.args.get("since", "")
        since = _marker(given) if given else max(0, report.arrival - LATE_BACK)
        late, marker, more = await proving.late(viewer.did, since, LATE_ROWS)
        show = {"show": "all"} if everybody else {}
        return await frame.render(
            "completeness.html",
            state=completeness.of_timeline(report, now_us)._replace(href=""),
            report=report,
            everybody=everybody,
            entries=[completeness.entry(account, now_us) for account in found],
            following=f"/completeness?{urlencode({**show, 'cursor': following})}" if following else "",
            doubts=[completeness.interval(doubt, now_us) for doubt in doubts],
            late=[completeness.late(row, now_us) for row in late],
            since_given=bool(given),
            next_late=f"/completeness?{urlencode({**show, 'since': marker})}",
            more_late=more,
        )

    return blueprint


def _marker(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise errors.BadInput("since is the number of an arrival")
    return int(text)
