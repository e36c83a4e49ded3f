"""A PDS's com.atproto.sync calls: what others read of its repositories and blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.devnet import pds_view
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.repository import Repository
from appliance.devnet.state import Hosted
from appliance.protocol import car, cid, syntax

if TYPE_CHECKING:
    from appliance.devnet.pds import Pds

CAR = "application/vnd.ipld.car"


def add(site: Site, pds: Pds) -> None:
    """The routes."""
    state = pds.state

    def active(request: Request) -> tuple[Hosted, Repository]:
        did = request.get("did")
        if not syntax.is_did(did):
            raise invalid("Error: did must be a valid did")
        account = pds.require_active(pds.get(did))
        return account, pds_view.repository(pds, account, listed=True)

    async def get_repo(request: Request) -> Answer:
        _, repository = active(request)
        return Answer(pds_view.export(pds, repository), content_type=CAR)

    async def get_latest_commit(request: Request) -> Answer:
        if not pds.dialect.latest_commit:
            raise XrpcError(501, "MethodNotImplemented", "Method Not Implemented")
        account, _ = active(request)
        repository = pds_view.repository(pds, account, listed=False)
        return json_answer({"cid": cid.to_text(repository.commit), "rev": repository.rev})

    async def get_repo_status(request: Request) -> Answer:
        account = pds.get(request.get("did"))
        return json_answer(describe(account) | ({} if pds.status(account) else {"rev": rev(account)}))

    def rev(account: Hosted) -> str:
        return pds_view.repository(pds, account, listed=False).rev

    def describe(account: Hosted) -> dict[str, Any]:
        status = pds.status(account)
        known: dict[str, Any] = {"did": account.did, "active": status is None}
        return known if status is None else known | {"status": status}

    async def get_record(request: Request) -> Answer:
        _, repository = active(request)
        path = f"{request.get('collection')}/{request.get('rkey')}"
        return Answer(repository.prove(path), content_type=CAR)

    async def get_blocks(request: Request) -> Answer:
        _, repository = active(request)
        found: dict[bytes, bytes] = {}
        for text in request.all("cids"):
            name = cid.from_text(text)
            block = repository.block(name)
            if block is None:
                raise invalid(f"Could not find cids: {text}", "BlockNotFound")
            found[name] = block
        return Answer(car.header([]) + b"".join(car.frame(*pair) for pair in found.items()), content_type=CAR)

    async def get_blob(request: Request) -> Answer:
        account, repository = active(request)
        name = request.get("cid")
        blob = account.blobs.get(name)
        # A blob that no record holds is not there for anybody yet.
        if blob is None or not any(name in names for names in repository.blobs.values()):
            raise invalid("Blob not found", "BlobNotFound")
        return Answer(
            state.blob_bytes(name),
            content_type=blob.mime,
            headers={
                "x-content-type-options": "nosniff",
                "content-disposition": "attachment",
                "content-security-policy": "default-src 'none'; sandbox",
                "cache-control": "private",
            },
        )

    async def list_blobs(request: Request) -> Answer:
        _, repository = active(request)
        limit, after = request.limit(500, 1000), request.find("cursor") or ""
        names = sorted({name for names in repository.blobs.values() for name in names})
        page = [name for name in names if name > after][:limit]
        more = {"cursor": page[-1]} if len(page) == limit else {}
        return json_answer(more | {"cids": page})

    async def list_repos(request: Request) -> Answer:
        limit, cursor = request.limit(500, 1000), request.find("cursor") or "0"
        if not cursor.isascii() or not cursor.isdigit():
            raise invalid("Malformed cursor")
        at = int(cursor)
        hosted = [account for account in state.hosted_by(pds.number) if account.status != "deleted"]
        page = hosted[at : at + limit]
        repos = []
        for account in page:
            repository = pds_view.repository(pds, account, listed=False)
            head = {"head": cid.to_text(repository.commit), "rev": repository.rev}
            repos.append(describe(account) | head)
        more = {"cursor": str(at + limit)} if len(page) == limit else {}
        return json_answer(more | {"repos": repos})

    sync = "/xrpc/com.atproto.sync."
    site.get(f"{sync}getRepo", get_repo)
    site.get(f"{sync}getLatestCommit", get_latest_commit)
    site.get(f"{sync}getRepoStatus", get_repo_status)
    site.get(f"{sync}getRecord", get_record)
    site.get(f"{sync}getBlocks", get_blocks)
    site.get(f"{sync}getBlob", get_blob)
    site.get(f"{sync}listBlobs", list_blobs)
    site.get(f"{sync}listRepos", list_repos)
