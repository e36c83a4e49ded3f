"""Drafts: a member's own, kept here and shown to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import orjson

from appliance.clock import Clock
from appliance.errors import BadInput, Refused
from appliance.protocol.syntax import is_tid
from appliance.protocol.tid import TidGenerator
from appliance.store import actors, drafts
from appliance.store.database import Database, Reader, Transaction
from appliance.store.drafts import Draft
from appliance.timeline.answering import Answer, paged
from appliance.timeline.json_text import instant, joined, text
from appliance.xrpc.methods import Access, Call, Method

DRAFTS_MAX: Final = 500
_DONE = Answer(b"")
T = TypeVar("T")


def methods(database: Database, clock: Clock) -> list[Method]:
    """The list, and what changes it."""

    keys = TidGenerator(clock.now_us, clock_id=1)

    async def write(call: Call, change: Callable[[Transaction, int], T]) -> T:
        did = call.asker.did
        assert did is not None
        if not call.asker.member:
            raise Refused("Only members keep anything here", name="NotAMember")
        return await database.write(lambda tx: change(tx, actors.ensure(tx, did)), durable=True)

    async def create_draft(call: Call) -> Answer:
        key, body = keys.next(), orjson.dumps(call.body["draft"])

        def change(tx: Transaction, viewer: int) -> bool:
            return drafts.create(tx, viewer, key, body, clock.now_us(), DRAFTS_MAX)

        if not await write(call, change):
            raise BadInput(f"No more than {DRAFTS_MAX} drafts are kept", name="DraftLimitReached")
        return Answer(orjson.dumps({"id": key}))

    async def update_draft(call: Call) -> Answer:
        key, body = call.body["draft"]["id"], orjson.dumps(call.body["draft"]["draft"])
        await write(call, lambda tx, viewer: drafts.update(tx, viewer, key, body, clock.now_us()))
        return _DONE

    async def delete_draft(call: Call) -> Answer:
        await write(call, lambda tx, viewer: drafts.delete(tx, viewer, call.body["id"]))
        return _DONE

    async def get_drafts(call: Call) -> Answer:
        did, limit, cursor = call.asker.did, call.parameters["limit"], call.parameters.get("cursor") or ""
        assert did is not None
        if cursor and not is_tid(cursor):
            raise BadInput("Malformed cursor")

        def look(reader: Reader) -> list[Draft]:
            return drafts.page(reader, did, cursor, limit + 1)

        found = await database.read(look)
        more, found = len(found) > limit, found[:limit]
        members = b'"drafts":' + joined(map(_view, found))
        return Answer(b"{" + paged(members, found[-1].key if more else None) + b"}")

    required = Access.REQUIRED
    return [
        Method("app.bsky.draft.getDrafts", required, get_drafts),
        Method("app.bsky.draft.createDraft", required, create_draft, procedure=True),
        Method("app.bsky.draft.updateDraft", required, update_draft, procedure=True),
        Method("app.bsky.draft.deleteDraft", required, delete_draft, procedure=True),
    ]


def _view(draft: Draft) -> bytes:
    made, changed = (text(instant(us // 1000)) for us in (draft.created_us, draft.updated_us))
    return b'{"id":%b,"draft":%b,"createdAt":%b,"updatedAt":%b}' % (
        text(draft.key),
        draft.body,
        made,
        changed,
    )
