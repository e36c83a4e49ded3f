"""A PDS's writing half of com.atproto.repo: records checked as the reference checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from appliance.devnet.entries import Event
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.pictures import mime_of
from appliance.devnet.repository import Change, Repository, blobs_of
from appliance.devnet.state import Hosted
from appliance.protocol import cbor, cid, datamodel, lexicons, syntax

if TYPE_CHECKING:
    from appliance.devnet.pds import Pds

WRITES_MAX = 200
BLOB_MAX = 5 << 20
RECORD_MAX = 1_000_000
# Of these a person has one for each subject.
_ONE_EACH = {
    "app.bsky.feed.like": "uri",
    "app.bsky.feed.repost": "uri",
    "app.bsky.graph.follow": "did",
    "app.bsky.graph.block": "did",
}


def add(site: Site, pds: Pds) -> None:
    """The routes."""
    state = pds.state

    def caller(request: Request, body: dict[str, Any]) -> tuple[Hosted, Repository]:
        account = pds.sessions.caller(request)
        if not isinstance(body.get("repo"), str):
            raise invalid('Input must have the property "repo"')
        if account is not pds.find(body["repo"]):
            raise invalid("Could not find repo: the repo is not the caller's", "InvalidRequest")
        if pds.status(account) is not None:
            raise invalid("Account is deactivated", "AccountDeactivated")
        repository = state.repository(account.did)
        swap = body.get("swapCommit")
        if swap is not None and swap != cid.to_text(repository.commit):
            raise invalid(f"Commit was at {cid.to_text(repository.commit)}", "InvalidSwap")
        return account, repository

    def prepare(
        account: Hosted, collection: object, rkey: object, record: object, validate: object
    ) -> tuple[str, bytes, str | None]:
        """Path, block and validation status."""
        path = _path(collection, rkey)
        assert isinstance(collection, str), "_path checked it"
        block, status = _encode(collection, record, validate)
        problem = None if validate is False else lexicons.validate_record_key(collection, path.split("/")[1])
        if problem:
            raise invalid(f"Invalid {collection} record: {problem}", "InvalidRecord")
        for name in blobs_of(block):
            if name not in account.blobs:
                raise invalid(f"Could not find blob: {name}", "BlobNotFound")
        return path, block, status

    def outcome(account: Hosted, path: str, name: bytes, event: Event | None, status: str | None) -> Answer:
        body: dict[str, Any] = {"uri": f"at://{account.did}/{path}", "cid": cid.to_text(name)}
        if event is not None:
            body["commit"] = _meta(state.repository(account.did))
        return json_answer(body if status is None else body | {"validationStatus": status})

    async def create_record(request: Request) -> Answer:
        body = request.json()
        account, repository = caller(request, body)
        rkey = body.get("rkey") or state.tid(pds.number)
        path, block, status = prepare(
            account, body.get("collection"), rkey, body.get("record"), body.get("validate")
        )
        if repository.find(*_split(path)) is not None:
            raise invalid(f"Record already exists: {path}")
        replaced = [] if body.get("validate") is False else _rivals(repository, path, block)
        event = state.write(account.did, [*(Change(rival, None) for rival in replaced), Change(path, block)])
        return outcome(account, path, cid.cid_of(block), event, status)

    async def put_record(request: Request) -> Answer:
        body = request.json()
        account, repository = caller(request, body)
        path, block, status = prepare(
            account, body.get("collection"), body.get("rkey"), body.get("record"), body.get("validate")
        )
        before = repository.find(*_split(path))
        _check_swap(body, before)
        name = cid.cid_of(block)
        if before is not None and before[0] == name:
            return outcome(account, path, name, None, status)
        event = state.write(account.did, [Change(path, block)])
        return outcome(account, path, name, event, status)

    async def delete_record(request: Request) -> Answer:
        body = request.json()
        account, repository = caller(request, body)
        path = _path(body.get("collection"), body.get("rkey"))
        before = repository.find(*_split(path))
        if before is None:
            return json_answer({})
        _check_swap(body, before)
        state.write(account.did, [Change(path, None)])
        return json_answer({"commit": _meta(repository)})

    async def apply_writes(request: Request) -> Answer:
        body = request.json()
        account, repository = caller(request, body)
        writes = body.get("writes")
        if not isinstance(writes, list) or len(writes) > WRITES_MAX:
            raise invalid(f"Too many writes. Max: {WRITES_MAX}")
        changes: list[Change] = []
        results: list[dict[str, Any]] = []
        for write in writes:
            if not isinstance(write, dict):
                raise invalid("malformed write")
            change, result = one_write(account, repository, write, body.get("validate"))
            changes.append(change)
            results.append(result)
        if not changes:
            return json_answer({"results": []})
        state.write(account.did, changes)
        return json_answer({"commit": _meta(repository), "results": results})

    def one_write(
        account: Hosted, repository: Repository, write: dict[str, Any], validate: object
    ) -> tuple[Change, dict[str, Any]]:
        kind = str(write.get("$type")).removeprefix("com.atproto.repo.applyWrites#")
        result: dict[str, Any] = {"$type": f"com.atproto.repo.applyWrites#{kind}Result"}
        if kind == "delete":
            path = _path(write.get("collection"), write.get("rkey"))
            if repository.find(*_split(path)) is None:
                raise invalid(f"Could not find record: {path}")
            return Change(path, None), result
        if kind not in ("create", "update"):
            raise invalid("Action not supported")
        rkey = write.get("rkey") or (state.tid(pds.number) if kind == "create" else None)
        path, block, status = prepare(account, write.get("collection"), rkey, write.get("value"), validate)
        if (repository.find(*_split(path)) is None) != (kind == "create"):
            raise invalid(f"Record {'exists' if kind == 'create' else 'does not exist'}: {path}")
        result |= {"uri": f"at://{account.did}/{path}", "cid": cid.to_text(cid.cid_of(block))}
        return Change(path, block), result if status is None else result | {"validationStatus": status}

    async def upload_blob(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        if len(request.body) > BLOB_MAX:
            raise XrpcError(413, "PayloadTooLarge", "request entity too large")
        given = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip()
        blob = state.store_blob(account.did, request.body, mime_of(request.body) or given)
        ref = {"$link": blob.cid}
        return json_answer({"blob": {"$type": "blob", "ref": ref, "mimeType": blob.mime, "size": blob.size}})

    repo = "/xrpc/com.atproto.repo."
    site.post(f"{repo}createRecord", create_record)
    site.post(f"{repo}putRecord", put_record)
    site.post(f"{repo}deleteRecord", delete_record)
    site.post(f"{repo}applyWrites", apply_writes)
    site.post(f"{repo}uploadBlob", upload_blob)


def _split(path: str) -> tuple[str, str]:
    collection, _, rkey = path.partition("/")
    return collection, rkey


def _path(collection: object, rkey: object) -> str:
    if not isinstance(collection, str) or not syntax.is_nsid(collection):
        raise invalid("Error: collection must be a valid nsid")
    if not isinstance(rkey, str) or not syntax.is_record_key(rkey):
        raise invalid("Error: rkey must be a valid record key")
    return f"{collection}/{rkey}"


def _encode(collection: str, record: object, validate: object) -> tuple[bytes, str | None]:
    if not isinstance(record, dict):
        raise invalid("record must be an object", "InvalidRecord")
    record = {"$type": collection} | record
    if record["$type"] != collection:
        raise invalid(f"Invalid $type: expected {collection}, got {record['$type']}", "InvalidRecord")
    block = cbor.encode(datamodel.from_parsed(record))
    if len(block) > RECORD_MAX:
        raise invalid("record too large", "InvalidRecord")
    if validate is False:
        return block, None
    if not lexicons.is_record(collection):
        if validate is True:
            raise invalid(f"Unknown lexicon type: {collection}", "InvalidRecord")
        return block, "unknown"
    problem = lexicons.validate_record(collection, orjson.dumps(record))
    if problem is not None:
        raise invalid(f"Invalid {collection} record: {problem}", "InvalidRecord")
    return block, "valid"


def _check_swap(body: dict[str, Any], before: tuple[bytes, bytes] | None) -> None:
    if "swapRecord" not in body:
        return
    now = None if before is None else cid.to_text(before[0])
    if body["swapRecord"] != now:
        raise invalid(f"Record was at {now}", "InvalidSwap")


def _rivals(repository: Repository, path: str, block: bytes) -> list[str]:
    """Earlier records that say the same about the same subject; the new one takes their place."""
    collection, _ = _split(path)
    if collection not in _ONE_EACH:
        return []
    subject = _subject(block)
    if subject is None:
        return []
    records = repository.collections.get(collection, {})
    return [f"{collection}/{rkey}" for rkey, (_, other) in records.items() if _subject(other) == subject]


def _subject(block: bytes) -> str | None:
    record = cbor.decode(block)
    subject = record.get("subject") if isinstance(record, dict) else None
    found = subject.get("uri") if isinstance(subject, dict) else subject
    return found if isinstance(found, str) else None


def _meta(repository: Repository) -> dict[str, str]:
    return {"cid": cid.to_text(repository.commit), "rev": repository.rev}
