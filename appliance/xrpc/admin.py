"""The operator's takedowns by XRPC: of accounts, records and blobs. They exist only with ADMIN_PASSWORD."""

from __future__ import annotations

from typing import Any

import orjson

from appliance.clock import Clock
from appliance.errors import BadInput
from appliance.protocol.syntax import AtUri, parse_at_uri
from appliance.store import actor_reads, acts, post_reads, records, takedowns
from appliance.store.acts import By
from appliance.store.collections import PROFILE
from appliance.store.database import Database, Reader, Transaction
from appliance.timeline.answering import Answer
from appliance.timeline.json_text import instant, joined, text
from appliance.xrpc.methods import Access, Call, Method

REPO = "com.atproto.admin.defs#repoRef"
RECORD = "com.atproto.repo.strongRef"
BLOB = "com.atproto.admin.defs#repoBlobRef"
INFOS_MAX = 100


def methods(database: Database, clock: Clock) -> list[Method]:
    """Takedowns, and what is taken down."""

    async def update_subject_status(call: Call) -> Answer:
        subject, takedown = call.body["subject"], call.body.get("takedown")

        def change(tx: Transaction) -> None:
            if takedown is None:
                return
            reference = (takedown.get("ref") or "operator") if takedown["applied"] else None
            name = "put back" if reference is None else "take down"
            about = " ".join(subject[key] for key in ("did", "uri", "cid") if key in subject)
            acts.add(tx, By("password"), name, about, "", reference or "", clock.now_us())
            match subject.get("$type"):
                case "com.atproto.admin.defs#repoRef":
                    takedowns.mark_actor(tx, _actor(tx, subject["did"]), reference)
                case "com.atproto.repo.strongRef":
                    takedowns.mark_record(tx, _record(tx, subject["uri"]), reference)
                case "com.atproto.admin.defs#repoBlobRef":
                    takedowns.mark_blob(tx, _actor(tx, subject["did"]), subject["cid"], reference)
                case _:
                    raise BadInput("Only accounts, records and blobs can be taken down")

        await database.write(change, durable=True)
        answer = {"subject": subject}
        if takedown is not None:
            answer["takedown"] = takedown
        return Answer(orjson.dumps(answer))

    async def get_subject_status(call: Call) -> Answer:
        p = call.parameters

        def look(reader: Reader) -> dict[str, Any]:
            if "blob" in p:
                if "did" not in p:
                    raise BadInput("A blob is named by its did, too")
                subject = {"$type": BLOB, "did": p["did"], "cid": p["blob"]}
                reference = takedowns.of_blob(reader, p["did"], p["blob"])
            elif "uri" in p:
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

    async def get_account_infos(call: Call) -> Answer:
        dids = list(dict.fromkeys(call.parameters["dids"]))
        if len(dids) > INFOS_MAX:
            raise BadInput(f"No more than {INFOS_MAX} accounts at once")

        def look(reader: Reader) -> list[bytes]:
            return [view for did in dids if (view := _account(reader, did)) is not None]

        return Answer(b'{"infos":' + joined(await database.read(look)) + b"}")

    return [
        Method("com.atproto.admin.getAccountInfos", Access.OPERATOR, get_account_infos),
        Method(
            "com.atproto.admin.updateSubjectStatus", Access.OPERATOR, update_subject_status, procedure=True
        ),
        Method("com.atproto.admin.getSubjectStatus", Access.OPERATOR, get_subject_status),
    ]


def _account(reader: Reader, did: str) -> bytes | None:
    """An accountView, as far as anything is known of the account."""
    found = actor_reads.find_actor(reader, did)
    if found is None:
        return None
    (row,) = actor_reads.actors(reader, [found])
    if not row.known:
        return None
    profile = next(
        (each for each in actor_reads.self_records(reader, [found]) if each.collection == PROFILE), None
    )
    bodies = {} if profile is None else post_reads.bodies(reader, [profile.id])
    body = bodies.get(profile.id) if profile is not None else None
    seen_ms = actor_reads.first_seen_ms(reader, found) or 0
    # As they do: the time of the profile, where there is one.
    shown_ms = seen_ms if body is None else min(body.sort_ms, body.indexed_ms)
    parts = [
        b'"did":%b,"handle":%b' % (text(did), text(row.handle or "handle.invalid")),
        b'"relatedRecords":' + joined([] if body is None else [body.json]),
        b'"indexedAt":' + text(instant(shown_ms)),
    ]
    return b"{" + b",".join(parts) + b"}"


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
