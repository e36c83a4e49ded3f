"""Queries that show records and labels as they are stored, without views."""

from __future__ import annotations

import base64
import binascii

import orjson

from appliance.errors import BadInput
from appliance.store import actor_reads, labels, post_reads
from appliance.store.collections import NUMBERS
from appliance.timeline.answering import Answer, Answering, paged, record_of
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined, text
from appliance.timeline.labelers import is_over
from appliance.xrpc.methods import Access, Call, Method

VERSION = 1


def methods(answering: Answering) -> list[Method]:
    """getRecord of the index, and the labels known here."""

    async def get_record(call: Call) -> Answer:
        p = call.parameters

        def members(state: State) -> bytes:
            if actor_reads.find_actor(state.reader, p["repo"]) is None:
                raise BadInput("Could not find repo")
            uri = f"at://{p['repo']}/{p['collection']}/{p['rkey']}"
            found = record_of(state, uri) if p["collection"] in NUMBERS else None
            if found is not None:
                state.load_records([found])
                state.finish()
            row = None if found is None else state.records.get(found)
            gone = row is None or not state.sees_record(row.id) or not state.sees_actor(row.actor)
            if gone or row is None or p.get("cid") not in (None, row.cid):
                raise BadInput(f"Could not locate record: {uri}", name="RecordNotFound")
            body = post_reads.bodies(state.reader, [row.id])[row.id].json
            stored = f"at://{state.actors[row.actor].did}/{p['collection']}/{row.rkey}"
            return b'"uri":%b,"cid":%b,"value":%b' % (text(stored), text(row.cid), body)

        return await answering.answer(call.asker, members, labelled=False)

    async def query_labels(call: Call) -> Answer:
        p = call.parameters
        patterns, sources = p.get("uriPatterns") or [], p.get("sources") or []
        if not sources:
            raise BadInput("source dids are required")
        if any("*" in pattern for pattern in patterns):
            raise BadInput("wildcards are not supported")

        after, limit = _after(p.get("cursor")), p["limit"]

        def members(state: State) -> bytes:
            now_us = state.shared.clock.now_us()
            found = labels.stated(state.reader, sorted(set(patterns)), sources)
            found = [row for row in found if row.exp is None or not is_over(row.exp, now_us)]
            rows = [row for row in sorted(found, key=_place) if after is None or _place(row) > after]
            following = _cursor(rows[limit - 1]) if len(rows) > limit else None
            return paged(b'"labels":' + joined([_signed(row) for row in rows[:limit]]), following)

        return await answering.answer(call.asker, members, labelled=False)

    async def fetch_labels(_: Call) -> Answer:
        return Answer(orjson.dumps({"labels": []}))

    return [
        Method("com.atproto.repo.getRecord", Access.OPTIONAL, get_record, operator_reads=True),
        Method("com.atproto.label.queryLabels", Access.PUBLIC, query_labels),
        Method("com.atproto.temp.fetchLabels", Access.PUBLIC, fetch_labels),
    ]


def _place(row: labels.Stated) -> tuple[str, ...]:
    return row.uri, row.src, row.val, row.cid or ""


def _cursor(row: labels.Stated) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(_place(row))).decode()


def _after(cursor: str | None) -> tuple[str, ...] | None:
    """The label after which a page begins. Raises BadInput."""
    if not cursor:
        return None
    try:
        parts = orjson.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise BadInput("Malformed cursor") from None
    if not isinstance(parts, list) or len(parts) != 4 or not all(isinstance(part, str) for part in parts):
        raise BadInput("Malformed cursor")
    return tuple(parts)


def _signed(row: labels.Stated) -> bytes:
    """A label as its labeler signed it, so that whoever asks can check it."""
    value: dict[str, object] = {"ver": VERSION} if row.sig is not None else {}
    value |= {"src": row.src, "uri": row.uri}
    value |= {"cid": row.cid} if row.cid else {}
    value |= {"val": row.val, "cts": row.cts}
    value |= {"exp": row.exp} if row.exp is not None else {}
    if row.sig is not None:
        value["sig"] = {"$bytes": base64.b64encode(row.sig).decode().rstrip("=")}
    return text(value)
