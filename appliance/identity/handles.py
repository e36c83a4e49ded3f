"""From a handle to the DID that it points at: DNS and the well-known address, asked side by side."""

from __future__ import annotations

import asyncio

from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Unavailable
from appliance.outbound.client import Outbound
from appliance.outbound.limits import HANDLE_RESOLVER, HANDLE_WELL_KNOWN
from appliance.protocol.syntax import is_did, is_handle


async def resolve(outbound: Outbound, settings: Settings, handle: str) -> str | None:
    """The DID; None when the handle points nowhere. DNS wins over https. Raises Unavailable."""
    if not is_handle(handle):
        return None
    if settings.handle_resolvers:
        return await _by_resolvers(outbound, settings.handle_resolvers, handle)
    by_dns, by_https = await asyncio.gather(
        _by_dns(outbound, handle), _by_https(outbound, handle), return_exceptions=True
    )
    for found in (by_dns, by_https):
        if isinstance(found, str):
            return found or None
        if isinstance(found, BaseException) and not isinstance(found, ApplianceError):
            raise found
    for found in (by_dns, by_https):
        # A host that does not exist is an answer; a door at which nobody opens is none.
        if isinstance(found, Unavailable) and found.name != "HostNotFound":
            raise found
    return None


async def _by_dns(outbound: Outbound, handle: str) -> str | None:
    """The DID; empty where the records contradict each other, which nothing else can mend."""
    texts = await outbound.names.texts(f"_atproto.{handle}")
    dids = {text.removeprefix("did=").strip() for text in texts if text.startswith("did=")}
    if len(dids) > 1:
        return ""
    did = next(iter(dids), "")
    return did if is_did(did) else None


async def _by_https(outbound: Outbound, handle: str) -> str | None:
    answer = await outbound.get(f"https://{handle}/.well-known/atproto-did", limits=HANDLE_WELL_KNOWN)
    if answer.status >= 500 or answer.status == 429:
        raise Unavailable("the handle could not be looked up")
    if answer.status != 200:
        return None
    did = answer.body.decode("ascii", "replace").strip().split("\n", 1)[0].strip()
    return did if is_did(did) else None


async def _by_resolvers(outbound: Outbound, origins: tuple[str, ...], handle: str) -> str | None:
    """Ask servers that answer resolveHandle, in their order: devnet's handles are in no DNS."""
    failed: ApplianceError | None = None
    for origin in origins:
        try:
            answer = await outbound.get(
                f"{origin.rstrip('/')}/xrpc/com.atproto.identity.resolveHandle",
                limits=HANDLE_RESOLVER,
                params={"handle": handle},
            )
        except (Unavailable, BadInput) as error:
            failed = error
            continue
        if answer.status == 200:
            body = answer.json()
            did = body.get("did") if isinstance(body, dict) else None
            if isinstance(did, str) and is_did(did):
                return did
        elif answer.status >= 500:
            failed = Unavailable("the resolver is out of order")
    if failed is not None:
        raise Unavailable("the handle could not be looked up") from failed
    return None
