"""Everything of auth, put together."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from appliance import telemetry
from appliance.auth.accounts import Accounts
from appliance.auth.dpop import Proofs
from appliance.auth.oauth_calls import OAuthCalls
from appliance.auth.oauth_client import OAuthClient, check_published
from appliance.auth.oauth_grants import Grants
from appliance.auth.oauth_servers import Servers
from appliance.auth.oauth_sign_in import OAuthSignIn
from appliance.auth.pds_sessions import PdsSessions
from appliance.auth.secrets import Secrets
from appliance.auth.service_tokens import ServiceTokens
from appliance.auth.sign_in import Join, SigningIn
from appliance.auth.signing_keys import Keys
from appliance.auth.token_pairs import TokenPairs
from appliance.auth.viewers import Viewers
from appliance.auth.web_sessions import WebSessions, sweep
from appliance.auth.xrpc_sessions import XrpcSessions
from appliance.clock import Clock
from appliance.config import Settings
from appliance.outbound.client import Outbound
from appliance.store import sessions
from appliance.store.database import Database

log = telemetry.Log("auth")

SWEEP_EVERY_S = 3600.0


class Identities(Accounts, Keys, Protocol):
    """What auth asks of ``identity.Identities``."""


class Auth(Struct, frozen=True):
    """The doors of auth."""

    service_tokens: ServiceTokens
    pds_sessions: PdsSessions
    xrpc_sessions: XrpcSessions
    web_sessions: WebSessions
    oauth: OAuthSignIn
    viewers: Viewers
    database: Database
    clock: Clock

    async def run(self) -> None:
        """Drop what has expired, now and every hour, for ever."""
        await self._retire()
        while True:
            await sweep(self.database, self.clock)
            await self.clock.sleep(SWEEP_EVERY_S)

    async def _retire(self) -> None:
        """End the sign-ins that are bound to keys of ours that are no longer published."""
        keys = self.oauth.client.key_ids
        used = await self.database.read(sessions.keys_in_use)
        if set(used) - keys:
            gone = await self.database.write(
                lambda tx: sessions.kill_by_oauth(tx, "key", but=keys), durable=True
            )
            log.warning("oauth_keys_withdrawn", sessions=gone)

    async def close(self) -> None:
        """Let what must not be cut off finish."""
        await self.pds_sessions.close()


def build(
    database: Database,
    identities: Identities,
    outbound: Outbound,
    secrets: Secrets,
    join: Join,
    settings: Settings,
    clock: Clock,
) -> Auth:
    """Auth over these parts."""
    client, proofs, servers = OAuthClient(settings, secrets, clock), Proofs(clock), Servers(outbound, clock)
    calls = OAuthCalls(outbound, client, proofs, clock)
    grants = Grants(calls, servers, identities, proofs, clock)
    pds_sessions = PdsSessions(database, outbound, secrets, grants, clock)
    signing_in = SigningIn(database, identities, outbound, pds_sessions, join, settings, clock)
    pairs = TokenPairs(secrets, settings, clock)
    service_tokens = ServiceTokens(identities, settings, clock)
    xrpc_sessions = XrpcSessions(database, signing_in, pds_sessions, pairs, clock)
    oauth = OAuthSignIn(
        database,
        identities,
        outbound,
        client,
        servers,
        calls,
        signing_in,
        pds_sessions,
        secrets,
        clock,
        limited=settings.rate_limits == "on",
    )
    if client.usable:
        check_published(client.metadata(), client.jwks(), settings.origin)
    return Auth(
        service_tokens,
        pds_sessions,
        xrpc_sessions,
        WebSessions(database, signing_in, oauth, pds_sessions, clock),
        oauth,
        Viewers(database, service_tokens, pairs, xrpc_sessions, clock),
        database,
        clock,
    )
