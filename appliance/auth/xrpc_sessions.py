"""Sessions of XRPC clients that were given nothing but our address."""

from __future__ import annotations

from cachetools import TTLCache
from msgspec import Struct

from appliance import telemetry
from appliance.auth import jwt
from appliance.auth.pds_sessions import PdsSessions
from appliance.auth.sign_in import Credentials, SigningIn, Welcome
from appliance.auth.standing import check
from appliance.auth.token_pairs import GRACE_S, REFRESH_S, Claims, Pair, TokenPairs, hash_of
from appliance.clock import Clock
from appliance.errors import BadInput, Refused
from appliance.store import sessions
from appliance.store.database import Database, Transaction
from appliance.store.sessions import Session

log = telemetry.Log("auth")

ABOUT_CHARS_MAX = 200
FOUND_S = 5.0
FOUND_MAX = 10_000
# Tokens at the PDS die of old age too: whoever only reads has them renewed with ours.
PDS_RENEW_US = 30 * 86_400_000_000


class Begun(Struct, frozen=True):
    """A session with a fresh pair of tokens."""

    did: str
    handle: str | None
    pair: Pair


class XrpcSessions:
    """createSession, refreshSession, getSession and deleteSession at our own origin."""

    def __init__(
        self,
        database: Database,
        signing_in: SigningIn,
        pds_sessions: PdsSessions,
        pairs: TokenPairs,
        clock: Clock,
    ) -> None:
        self._database = database
        self._signing_in = signing_in
        self._pds_sessions = pds_sessions
        self._pairs = pairs
        self._clock = clock
        # A look-up a request would cost more than the rest of the check; an end is heard of at once.
        self._found: TTLCache[int, Session] = TTLCache(FOUND_MAX, FOUND_S, timer=clock.monotonic_s)
        self._ends = 0
        pds_sessions.when_ended(self._ended)

    async def create(self, credentials: Credentials, about: str = "") -> Begun:
        """Sign in; raises as ``SigningIn.sign_in``. ``about`` is the client's own description."""
        now_us = self._clock.now_us()
        first = self._pairs.first_id()

        def begin(tx: Transaction, welcome: Welcome) -> int:
            return sessions.add(
                tx,
                "xrpc",
                token=hash_of(first),
                actor=welcome.actor,
                pds_session=welcome.pds_session,
                about=about[:ABOUT_CHARS_MAX],
                now_us=now_us,
                expires_us=now_us + REFRESH_S * 1_000_000,
            )

        welcome, session = await self._signing_in.sign_in(credentials, begin)
        return Begun(welcome.did, welcome.handle, self._pairs.pair(welcome.did, session, first, now_us))

    async def refresh(self, authorization: str | None) -> Begun:
        """The next pair for a refresh token. Asked again within minutes with the same token, the same
        refresh token comes back; later that token ends the session, since somebody copied it.

        Raises BadInput, ExpiredToken, when the session is over.
        """
        claims = self._refresh_claims(authorization)
        # Rotated in one transaction, so of two who come at once one rotates and the other sees it done.
        session = await self._database.write(lambda tx: self._rotate(tx, claims), durable=True)
        if session is None:
            self._ends += 1
            self._found.pop(claims.session, None)
            log.warning("refresh_token_reused", did=claims.did)
        if session is None or session.dead is not None:
            raise _over()
        check(session.status, session.takedown)
        if self._clock.now_us() - session.pds_refreshed_us > PDS_RENEW_US:
            self._pds_sessions.renew_behind(session.pds_session)
        pair = self._pairs.pair(session.did, session.id, self._pairs.successor(claims.id), session.rotated_us)
        return Begun(session.did, session.handle, pair)

    async def delete(self, authorization: str | None) -> None:
        """End the session of a refresh token, here at once, at the PDS if it listens."""
        claims = self._refresh_claims(authorization)
        session = await self._database.read(lambda r: sessions.find(r, claims.session))
        if session is not None and session.did == claims.did and session.kind == "xrpc":
            await self._pds_sessions.end(session.pds_session)

    async def find(self, claims: Claims) -> Session:
        """The living session of an access token. Raises BadInput, ExpiredToken, when it is over."""
        session = self._found.get(claims.session)
        if session is None:
            ends = self._ends
            session = await self._database.read(lambda r: sessions.find(r, claims.session))
            if session is not None and ends == self._ends:
                self._found[claims.session] = session
        if session is None or session.did != claims.did or session.kind != "xrpc" or session.dead is not None:
            raise _over()
        check(session.status, session.takedown)
        return session

    def _ended(self, pds_session: int) -> None:
        self._ends += 1  # what is being read at this moment may be of before
        for number in [n for n, session in self._found.items() if session.pds_session == pds_session]:
            self._found.pop(number, None)

    def _refresh_claims(self, authorization: str | None) -> Claims:
        if not authorization:
            raise Refused("This method needs a refresh token", name="AuthMissing")
        return self._pairs.read(jwt.parse(jwt.bearer(authorization)), "refresh+jwt")

    def _rotate(self, tx: Transaction, claims: Claims) -> Session | None:
        """The session with its token rotated; None when the token is one of the past."""
        session = sessions.find(tx, claims.session)
        if session is None or session.did != claims.did or session.kind != "xrpc":
            raise _over()
        now_us = self._clock.now_us()
        presented = hash_of(claims.id)
        if presented == session.previous and now_us - session.rotated_us <= GRACE_S * 1_000_000:
            return session
        if presented != session.token:
            sessions.remove_pds_session(tx, session.pds_session)
            return None
        sessions.rotate(
            tx,
            session.id,
            old=session.token,
            new=hash_of(self._pairs.successor(claims.id)),
            now_us=now_us,
            expires_us=now_us + REFRESH_S * 1_000_000,
        )
        return sessions.find(tx, session.id)


def _over() -> BadInput:
    return BadInput("This session is over: sign in again", name="ExpiredToken")
