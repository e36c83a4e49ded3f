"""Our own method by which a member brings along what he kept at another AppView."""

from __future__ import annotations

from typing import Any

import orjson

from appliance.errors import BadInput, NotFound, Refused
from appliance.members.importing import OFFICIAL, Importing, Told
from appliance.timeline.answering import Answer
from appliance.xrpc.methods import Access, Call, Method

NSID = "computer.aesthetic.appliance.importFromAppView"
# Less than the servers in between wait for an answer.
WITHIN_S = 5.0


def methods(importing: Importing) -> list[Method]:
    """importFromAppView."""

    async def import_from_app_view(call: Call) -> Answer:
        did = call.asker.did
        if did is None or not call.asker.member:
            raise Refused("Only members keep anything here", name="NotAMember")
        service, cursor = call.body.get("service", OFFICIAL), call.body.get("cursor", "")
        try:
            report = await importing.step(did, service, cursor, within_s=WITHIN_S)
        except NotFound as error:
            raise BadInput(error.message, name=error.name) from error
        body: dict[str, Any] = {"kinds": [_told(each) for each in report.kinds]}
        if report.cursor is not None:
            body["cursor"] = report.cursor
        return Answer(orjson.dumps(body))

    return [Method(NSID, Access.REQUIRED, import_from_app_view, procedure=True)]


def _told(told: Told) -> dict[str, Any]:
    numbers = {"read": told.read, "added": told.added, "kept": told.kept, "skipped": told.skipped}
    return {"kind": told.kind, **numbers} | ({"error": told.error} if told.error else {})
