"""A PDS's reading half of com.atproto.repo, in the dialect of this server."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import orjson

from appliance.devnet import pds_view
from appliance.devnet.http import Answer, Request, Site, invalid, json_answer
from appliance.devnet.options import Dialect
from appliance.protocol import cbor, cid, syntax

if TYPE_CHECKING:
    from appliance.devnet.pds import Pds


def add(site: Site, pds: Pds) -> None:
    """The routes."""
    state = pds.state

    async def get_record(request: Request) -> Answer:
        account = pds.find(request.get("repo"))
        collection, rkey, wanted = request.get("collection"), request.get("rkey"), request.find("cid")
        if account is None or pds.status(account) is not None:
            raise invalid(f"Could not find repo: {request.get('repo')}")
        found = pds_view.repository(pds, account, listed=True).find(collection, rkey)
        uri = f"at://{account.did}/{collection}/{rkey}"
        if found is None or (wanted is not None and cid.to_text(found[0]) != wanted):
            raise invalid(f"Could not locate record: {uri}", "RecordNotFound")
        return Answer(orjson.dumps(_view(uri, *found)))

    async def list_records(request: Request) -> Answer:
        account = pds.find(request.get("repo"))
        collection = request.get("collection")
        if not syntax.is_nsid(collection):
            raise invalid("Error: collection must be a valid nsid")
        limit = request.limit(50, 100)
        if account is None or pds.status(account) is not None:
            raise invalid(f"Could not find repo: {request.get('repo')}")
        pds_view.disturb(pds, account)
        if pds.status(account) is not None:
            raise invalid(f"Could not find repo: {request.get('repo')}")
        records = pds_view.repository(pds, account, listed=True).collections.get(collection, {})
        descending = pds.dialect.descending != (request.find("reverse") == "true")
        page, cursor = list_page(
            list(records), limit, _read_cursor(pds.dialect, request), descending, pds.dialect
        )
        views = []
        for rkey in page:
            uri = f"at://{account.did}/{collection}/{rkey}"
            if uri in pds.faults.hide_records:
                pds.faults.note("hide", pds.requests, account.did, uri)
                continue
            views.append(_view(uri, *records[rkey]))
        return Answer(orjson.dumps({"records": views} | ({"cursor": cursor} if cursor else {})))

    async def describe_repo(request: Request) -> Answer:
        account = pds.find(request.get("repo"))
        if account is None or pds.status(account) is not None:
            raise invalid(f"Could not find user: {request.get('repo')}")
        return json_answer(
            {
                "handle": account.handle,
                "did": account.did,
                "didDoc": state.directory.document(account.did),
                "collections": sorted(state.repository(account.did).collections),
                "handleIsCorrect": state.handles.get(account.handle) == account.did,
            }
        )

    site.get("/xrpc/com.atproto.repo.getRecord", get_record)
    site.get("/xrpc/com.atproto.repo.listRecords", list_records)
    site.get("/xrpc/com.atproto.repo.describeRepo", describe_repo)


def list_page(
    rkeys: list[str], limit: int, after: str | None, descending: bool, dialect: Dialect
) -> tuple[list[str], str | None]:
    """One page of record keys beyond ``after``, and the cursor that goes with it."""
    rkeys = sorted(rkeys, reverse=descending)
    if after is not None:
        rkeys = [rkey for rkey in rkeys if (rkey < after if descending else rkey > after)]
    page = rkeys[:limit]
    more = {
        "full": len(page) == limit,
        "always": bool(page),
        "never": len(rkeys) > limit,
    }[dialect.cursor]
    if not page or not more:
        return page, None
    return page, _write_cursor(dialect, page[-1])


def _write_cursor(dialect: Dialect, rkey: str) -> str:
    return base64.urlsafe_b64encode(f"after:{rkey}".encode()).decode() if dialect.opaque_cursor else rkey


def _read_cursor(dialect: Dialect, request: Request) -> str | None:
    text = request.find("cursor")
    if text is None or not dialect.opaque_cursor:
        return text
    try:
        mark, _, rkey = base64.urlsafe_b64decode(text).decode().partition(":")
    except ValueError:
        raise invalid("malformed cursor") from None
    if mark != "after":
        raise invalid("malformed cursor")
    return rkey


def _view(uri: str, name: bytes, block: bytes) -> dict[str, Any]:
    return {"uri": uri, "cid": cid.to_text(name), "value": orjson.Fragment(cbor.to_json(block))}
