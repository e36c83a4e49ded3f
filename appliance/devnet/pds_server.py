"""A PDS's com.atproto.server and identity calls: sessions, service tokens, handles."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import orjson

from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.state import Hosted
from appliance.devnet.tokens import SERVICE_MAX_S, SERVICE_S, service_token
from appliance.protocol import cid, syntax

if TYPE_CHECKING:
    from appliance.devnet.pds import Pds

# Calls for which an app password's service token is never made.
_PROTECTED = frozenset(
    f"com.atproto.{name}"
    for name in (
        "admin.sendEmail",
        "identity.requestPlcOperationSignature",
        "identity.signPlcOperation",
        "identity.updateHandle",
        "server.activateAccount",
        "server.confirmEmail",
        "server.createAppPassword",
        "server.deactivateAccount",
        "server.getAccountInviteCodes",
        "server.getSession",
        "server.listAppPasswords",
        "server.requestAccountDelete",
        "server.requestEmailConfirmation",
        "server.requestEmailUpdate",
        "server.revokeAppPassword",
        "server.updateEmail",
    )
)


def add(site: Site, pds: Pds) -> None:
    """The routes."""
    state = pds.state

    def describe(account: Hosted) -> dict[str, object]:
        status = pds.status(account)
        known: dict[str, object] = {
            "did": account.did,
            "didDoc": state.directory.document(account.did),
            "handle": account.handle,
            "email": f"{account.handle.partition('.')[0]}@example.com",
            "emailConfirmed": True,
            "emailAuthFactor": False,
            "active": status is None,
        }
        return known if status is None else known | {"status": status}

    async def describe_server(_: Request) -> Answer:
        return json_answer(
            {
                "did": pds.sessions.server_did,
                "availableUserDomains": [".test"],
                "inviteCodeRequired": True,
                "phoneVerificationRequired": False,
                "links": {},
                "contact": {},
            }
        )

    async def create_session(request: Request) -> Answer:
        body = request.json()
        name, password = body.get("identifier"), body.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            raise invalid("Input must have identifier and password")
        account = pds.find(name.removeprefix("@").lower() if not name.startswith("did:") else name)
        right = account.entry.password if account is not None else ""
        same = hmac.compare_digest(password.encode(), right.encode())
        if account is None or not same or account.pds != pds.number or account.status == "deleted":
            raise XrpcError(401, "AuthenticationRequired", "Invalid identifier or password")
        if account.status in ("takendown", "suspended"):
            raise XrpcError(401, "AccountTakedown", "Account has been taken down")
        return json_answer(pds.sessions.begin(account) | describe(account))

    async def get_session(request: Request) -> Answer:
        return json_answer(describe(pds.sessions.caller(request)))

    async def refresh_session(request: Request) -> Answer:
        account, tokens = pds.sessions.refresh(request)
        return json_answer(tokens | describe(account))

    async def delete_session(request: Request) -> Answer:
        pds.sessions.end(request)
        return Answer(b"")

    async def get_service_auth(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        aud, lxm, exp = request.get("aud"), request.find("lxm"), request.find("exp")
        did, _, fragment = aud.partition("#")
        if not syntax.is_did(did) or ("#" in aud and not fragment):
            raise invalid("aud must be a DID or a service of one")
        if lxm is not None and not syntax.is_nsid(lxm):
            raise invalid("malformed lxm")
        if (
            lxm in _PROTECTED
            or (lxm or "").startswith("chat.bsky.")
            or lxm == "com.atproto.server.createAccount"
        ):
            raise invalid(f"cannot request a service auth token for the following method: {lxm}")
        now_s = state.clock.now_us() // 1_000_000
        exp_s = None
        if exp is not None:
            if not exp.isascii() or not exp.isdigit() or int(exp) <= now_s:
                raise invalid("expiration is in past", "BadExpiration")
            exp_s = int(exp)
            most_s = SERVICE_S if lxm is None else SERVICE_MAX_S
            if exp_s > now_s + most_s:
                raise invalid("expiration too far in the future", "BadExpiration")
        token = service_token(account.key, iss=account.did, aud=aud, lxm=lxm, now_s=now_s, exp_s=exp_s)
        return json_answer({"token": token})

    async def check_account(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        repository = state.repository(account.did)
        listed = {name for names in repository.blobs.values() for name in names}
        return json_answer(
            {
                "activated": pds.status(account) is None,
                "validDid": True,
                "repoCommit": cid.to_text(repository.commit),
                "repoRev": repository.rev,
                "repoBlocks": 0,
                "indexedRecords": sum(map(len, repository.collections.values())),
                "privateStateValues": 0,
                "expectedBlobs": len(listed),
                "importedBlobs": len(listed & account.blobs.keys()),
            }
        )

    async def activate(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        if account.status == "deactivated":
            state.set_status(account.did, None)
        return Answer(b"")

    async def deactivate(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        if account.active:
            state.set_status(account.did, "deactivated")
        return Answer(b"")

    async def update_handle(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        handle = request.json().get("handle")
        if not isinstance(handle, str) or not syntax.is_handle(handle):
            raise invalid("Invalid handle", "InvalidHandle")
        state.change_handle(account.did, handle.lower())
        return Answer(b"")

    async def resolve_handle(request: Request) -> Answer:
        handle = request.get("handle").lower()
        if not syntax.is_handle(handle):
            raise invalid("Error: handle must be a valid handle")
        did = state.handles.get(handle)
        if did is None:
            raise invalid("Unable to resolve handle", "HandleNotFound")
        return json_answer({"did": did})

    async def well_known(request: Request) -> Answer:
        did = state.handles.get(request.headers.get("host", "").partition(":")[0].lower())
        if did is None:
            return Answer(b"User not found", status=404, content_type="text/plain")
        return Answer(did.encode(), content_type="text/plain")

    async def server_document(_: Request) -> Answer:
        did = pds.sessions.server_did
        service = {
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": pds.origin,
        }
        context = ["https://www.w3.org/ns/did/v1"]
        return json_answer({"@context": context, "id": did, "service": [service]})

    async def get_preferences(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        return Answer(b'{"preferences":' + account.preferences + b"}")

    async def put_preferences(request: Request) -> Answer:
        account = pds.sessions.caller(request)
        items = request.json().get("preferences")
        if not isinstance(items, list) or not all(isinstance(i, dict) and "$type" in i for i in items):
            raise invalid("Preference is missing a $type")
        state.keep_preferences(account.did, orjson.dumps(items))
        return Answer(b"")

    server = "/xrpc/com.atproto.server."
    site.get(f"{server}describeServer", describe_server)
    site.post(f"{server}createSession", create_session)
    site.get(f"{server}getSession", get_session)
    site.post(f"{server}refreshSession", refresh_session)
    site.post(f"{server}deleteSession", delete_session)
    site.get(f"{server}getServiceAuth", get_service_auth)
    site.get(f"{server}checkAccountStatus", check_account)
    site.post(f"{server}activateAccount", activate)
    site.post(f"{server}deactivateAccount", deactivate)
    site.post("/xrpc/com.atproto.identity.updateHandle", update_handle)
    site.get("/xrpc/com.atproto.identity.resolveHandle", resolve_handle)
    site.get("/.well-known/atproto-did", well_known)
    site.get("/.well-known/did.json", server_document)
    site.get("/xrpc/app.bsky.actor.getPreferences", get_preferences)
    site.post("/xrpc/app.bsky.actor.putPreferences", put_preferences)
