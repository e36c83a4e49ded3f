"""Everything of auth, put together."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from appliance.auth.pds_sessions import PdsSessions
from appliance.auth.secrets import Secrets
from appliance.auth.service_tokens import ServiceTokens
from appliance.auth.sign_in import Accounts, Join, SigningIn
from appliance.auth.signing_keys import Keys
from appliance.auth.token_pairs import TokenPairs
from appliance.auth.viewers import Viewers
from appliance.auth.web_sessions import WebSessions, sweep
from appliance.auth.xrpc_sessions import XrpcSessions
from appliance.clock import Clock
from appliance.config import Settings
from appliance.outbound.client import Outbound
from appliance.store.database import Database

SWEEP_EVERY_S = 3600.0


class Identities(Accounts, Keys, Protocol):
    """What auth asks of ``identity.Identities``."""


class Auth(Struct, frozen=True):
    """The doors of auth."""

    service_tokens: ServiceTokens
    pds_sessions: PdsSessions
    xrpc_sessions: XrpcSessions
    web_sessions: WebSessions
    viewers: Viewers
    database: Database
    clock: Clock

    async def run(self) -> None:
        """Drop what has expired, now and every hour, for ever."""
        while True:
            await sweep(self.database, self.clock)
            await self.clock.sleep(SWEEP_EVERY_S)

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
    pds_sessions = PdsSessions(database, outbound, secrets, clock)
    signing_in = SigningIn(database, identities, outbound, pds_sessions, join, settings, clock)
    pairs = TokenPairs(secrets, settings, clock)
    service_tokens = ServiceTokens(identities, settings, clock)
    xrpc_sessions = XrpcSessions(database, signing_in, pds_sessions, pairs, clock)
    return Auth(
        service_tokens,
        pds_sessions,
        xrpc_sessions,
        WebSessions(database, signing_in, pds_sessions, clock),
        Viewers(database, service_tokens, pairs, xrpc_sessions, clock),
        database,
        clock,
    )
