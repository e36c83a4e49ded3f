"""Who is asking: our own access token, a service token, or nobody."""

from __future__ import annotations

from typing import Literal

from cachetools import TTLCache
from msgspec import Struct

from appliance.auth import jwt
from appliance.auth.service_tokens import ServiceTokens
from appliance.auth.standing import check
from appliance.auth.token_pairs import TokenPairs
from appliance.auth.xrpc_sessions import XrpcSessions
from appliance.clock import Clock
from appliance.store import sessions
from appliance.store.database import Database
from appliance.store.sessions import Session, Standing

# So long a takedown or an admission may take to show; a look-up a request would cost more than the rest.
STANDING_S = 5.0
_STANDINGS_MAX = 10_000


class Viewer(Struct, frozen=True):
    """Who asks, proven.

    ``actor`` is None for an account that was never seen here. Such a one, and one that is no
    ``member``, reads what is public, and nothing is kept for it. ``session`` is set where the proof
    was a token of ours.
    """

    did: str
    actor: int | None
    member: bool
    via: Literal["session", "service"]
    session: Session | None = None


class Viewers:
    """Turns an Authorization header into a viewer."""

    def __init__(
        self,
        database: Database,
        service_tokens: ServiceTokens,
        pairs: TokenPairs,
        xrpc_sessions: XrpcSessions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._service_tokens = service_tokens
        self._pairs = pairs
        self._xrpc_sessions = xrpc_sessions
        self._standings: TTLCache[str, Standing | None] = TTLCache(
            _STANDINGS_MAX, STANDING_S, timer=clock.monotonic_s
        )

    async def authenticate(
        self,
        authorization: str | None,
        nsid: str,
        *,
        procedure: bool = False,
        audiences: frozenset[str] | None = None,
    ) -> Viewer | None:
        """The viewer, None without a header. A header that proves nothing is refused, never ignored.

        ``audiences`` are what a service token may name where it need not be us as an AppView.
        Raises Refused (status 401), Unavailable, and BadInput, ExpiredToken (status 400, as a PDS has it:
        that is what makes clients refresh).
        """
        if authorization is None:
            return None
        token = jwt.parse(jwt.bearer(authorization))
        if self._pairs.is_ours(token) or token.type in ("at+jwt", "refresh+jwt"):
            session = await self._xrpc_sessions.find(self._pairs.read(token, "at+jwt"))
            standing = await self._standing(session.did)
            member = standing is not None and standing.member
            return Viewer(session.did, session.actor, member, "session", session)
        did = await self._service_tokens.verify_token(token, nsid, procedure=procedure, audiences=audiences)
        standing = await self._standing(did)
        if standing is None:
            return Viewer(did, None, member=False, via="service")
        check(standing.status, standing.takedown)
        return Viewer(did, standing.actor, standing.member, "service")

    def forget(self, did: str) -> None:
        """The account's document or standing changed: look again."""
        self._standings.pop(did, None)
        self._service_tokens.forget(did)

    async def _standing(self, did: str) -> Standing | None:
        if did in self._standings:
            return self._standings[did]
        standing = await self._database.read(lambda r: sessions.standing(r, did))
        self._standings[did] = standing
        return standing
