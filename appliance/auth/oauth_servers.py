"""Which authorization server speaks for a PDS, found by the documents of both and judged before use."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from cachetools import TTLCache
from msgspec import Struct

from appliance.clock import Clock
from appliance.errors import BadInput, Refused
from appliance.outbound.client import Outbound
from appliance.outbound.limits import OAUTH_METADATA
from appliance.protocol import did_document

KNOWN_S = 600.0
KNOWN_MAX = 2_000
_RESOURCE = "/.well-known/oauth-protected-resource"
_SERVER = "/.well-known/oauth-authorization-server"

T = TypeVar("T")


class Server(Struct, frozen=True):
    """An authorization server that keeps to the rules of the network; addresses by purpose."""

    issuer: str
    authorize: str
    token: str
    push: str
    revoke: str | None


class _Resource(Struct):
    resource: str
    authorization_servers: list[str]


class _Metadata(Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    pushed_authorization_request_endpoint: str
    revocation_endpoint: str | None = None
    response_types_supported: list[str] = []
    grant_types_supported: list[str] = []
    code_challenge_methods_supported: list[str] = []
    token_endpoint_auth_methods_supported: list[str] = []
    token_endpoint_auth_signing_alg_values_supported: list[str] = []
    scopes_supported: list[str] = []
    dpop_signing_alg_values_supported: list[str] = []
    authorization_response_iss_parameter_supported: bool = False
    require_pushed_authorization_requests: bool = False
    client_id_metadata_document_supported: bool = False
    require_request_uri_registration: bool = True


class Servers:
    """Looks up authorization servers and remembers them for some minutes."""

    def __init__(self, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._issuers: TTLCache[str, str] = TTLCache(KNOWN_MAX, KNOWN_S, timer=clock.monotonic_s)
        self._servers: TTLCache[str, Server] = TTLCache(KNOWN_MAX, KNOWN_S, timer=clock.monotonic_s)

    async def of_pds(self, pds: str, *, fresh: bool = False) -> Server:
        """The server that speaks for a PDS; ``fresh`` asks both now.

        Raises Refused, OAuthUnsupported, when there is none that can be trusted, Unavailable when
        nobody says.
        """
        issuer = None if fresh else self._issuers.get(pds)
        if issuer is None:
            issuer = self._issuers[pds] = await self._issuer(pds)
        return await self.of_issuer(issuer, fresh=fresh)

    async def of_issuer(self, issuer: str, *, fresh: bool = False) -> Server:
        """The server of that name. Raises as ``of_pds``."""
        server = None if fresh else self._servers.get(issuer)
        if server is None:
            server = self._servers[issuer] = await self._server(issuer)
        return server

    async def _issuer(self, pds: str) -> str:
        found = await self._document(pds + _RESOURCE, _Resource)
        if found is None:
            return pds  # of before there were such documents: the PDS is its own server
        if found.resource != pds or len(found.authorization_servers) != 1:
            raise _unfit("its document is of another server, or names not exactly one that signs in")
        [issuer] = found.authorization_servers
        return issuer

    async def _server(self, issuer: str) -> Server:
        self._check_address(issuer)
        if did_document.origin(issuer) != issuer:
            raise _unfit("the server that signs in is no plain origin")
        found = await self._document(issuer + _SERVER, _Metadata)
        if found is None:
            raise _unfit("it does not tell how")
        if found.issuer != issuer:
            raise _unfit("the server that signs in goes by another name")
        lacking = _lacking(found)
        if lacking:
            raise _unfit(f"the server that signs in lacks {lacking}")
        addresses = (
            found.authorization_endpoint,
            found.token_endpoint,
            found.pushed_authorization_request_endpoint,
        )
        for url in (*addresses, *([found.revocation_endpoint] if found.revocation_endpoint else [])):
            self._check_address(url)
        return Server(issuer, *addresses, found.revocation_endpoint)

    def _check_address(self, url: str) -> None:
        try:
            self._outbound.policy.target(url, OAUTH_METADATA.ports)
        except BadInput:
            raise _unfit("an address of the server that signs in is not a public one") from None

    async def _document(self, url: str, kind: type[T]) -> T | None:
        """A document; None where there is none. A redirect is none of our way."""
        try:
            answer = await self._outbound.get(url, limits=OAUTH_METADATA)
        except BadInput as error:
            raise _unfit("its address or its answer is not right") from error
        if answer.status == 404:
            return None
        media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status != 200 or media != "application/json":
            raise _unfit("its documents are not as they should be")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _unfit("its documents are not understood") from None


def _lacking(found: _Metadata) -> str:
    """What https://atproto.com/specs/oauth asks of a server and this one does not state."""
    algorithms = found.token_endpoint_auth_signing_alg_values_supported
    needed = {
        "the code flow": "code" in found.response_types_supported,
        "refreshing": {"authorization_code", "refresh_token"} <= set(found.grant_types_supported),
        "PKCE with S256": "S256" in found.code_challenge_methods_supported,
        "the ways of clients to prove themselves": {"none", "private_key_jwt"}
        <= set(found.token_endpoint_auth_methods_supported),
        "sound signatures": "ES256" in algorithms and "none" not in algorithms,
        "the scope atproto": "atproto" in found.scopes_supported,
        "its name in its answers": found.authorization_response_iss_parameter_supported,
        "pushed requests": found.require_pushed_authorization_requests,
        "DPoP with ES256": "ES256" in found.dpop_signing_alg_values_supported,
        "documents of clients": found.client_id_metadata_document_supported,
        "registration of requests": found.require_request_uri_registration,
    }
    return next((what for what, there in needed.items() if not there), "")


def _unfit(why: str) -> Refused:
    return Refused(
        f"Signing in at this account's server does not work this way: {why}", name="OAuthUnsupported"
    )
