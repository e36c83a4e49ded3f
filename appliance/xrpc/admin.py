"""The operator's takedowns by XRPC: of an account or of one record. They exist only with ADMIN_PASSWORD."""

from __future__ import annotations

from typing import Any

import orjson

from appliance.errors import BadInput
from appliance.protocol.syntax import AtUri, parse_at_uri
from appliance.store import actor_reads, records, takedowns
from appliance.store.database import Database, Reader, Transaction
from appliance.timeline.answering import Answer
from appliance.xrpc.methods import Access, Call, Method

REPO = "com.atproto.admin.defs#repoRef"
RECORD = "com.atproto.repo.strongRef"


def methods(database: Database) -> list[Method]:
    """Takedowns, and what is taken down."""

    async def update_subject_status(call: Call) -> Answer:
        subject, takedown = call.body["subject"], call.body.get("takedown")

        def change(tx: Transaction) -> None:
            if takedown is None:
                return
            reference = (takedown.get("ref") or "operator") if takedown["applied"] else None
            match subject.get("$type"):
                case "com.atproto.admin.defs#repoRef":
                    takedowns.mark_actor(tx, _actor(tx, subject["did"]), reference)
                case "com.atproto.repo.strongRef":
                    takedowns.mark_record(tx, _record(tx, subject["uri"]), reference)
                case _:
                    raise BadInput("Only accounts and records can be taken down here")

        await database.write(change, durable=True)
        answer = {"subject": subject}
        if takedown is not None:
            answer["takedown"] = takedown
        return Answer(orjson.dumps(answer))

    async def get_subject_status(call: Call) -> Answer:
        p = call.parameters

        def look(reader: Reader) -> dict[str, Any]:
            if "uri" in p:
                record = _record(reader, p["uri"])
                cid = records.find(reader, p["uri"])
                subject = {"$type": RECORD, "uri": p["uri"], "cid": (cid.cid if cid else None) or ""}
                reference = takedowns.of_record(reader, record)
            elif "did" in p:
                subject = {"$type": REPO, "did": p["did"]}
                reference = takedowns.of_actor(reader, _actor(reader, p["did"]))
            else:
                raise BadInput("Give a did or a uri")
            takedown = {"applied": True, "ref": reference} if reference else {"applied": False}
            return {"subject": subject, "takedown": takedown}

        return Answer(orjson.dumps(await database.read(look)))

    return [
        Method(
            "com.atproto.admin.updateSubjectStatus", Access.OPERATOR, update_subject_status, procedure=True
        ),
        Method("com.atproto.admin.getSubjectStatus", Access.OPERATOR, get_subject_status),
    ]


def _actor(reader: Reader, did: str) -> int:
    found = actor_reads.find_actor(reader, did)
    if found is None:
        raise BadInput("Subject not found")
    return found


def _record(reader: Reader, uri: str) -> int:
    at: AtUri = parse_at_uri(uri)
    found = records.find(reader, str(at))
    if found is None:
        raise BadInput("Subject not found")
    return found.id
