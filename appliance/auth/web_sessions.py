"""Sessions of browsers: an opaque cookie, of which the database keeps only the hash."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from appliance.auth.oauth_sign_in import FLOW_US, Away, OAuthSignIn, Returned
from appliance.auth.pds_sessions import PdsSessions
from appliance.auth.sign_in import Credentials, SigningIn, Welcome
from appliance.auth.standing import OUT
from appliance.auth.token_pairs import hash_of
from appliance.clock import Clock
from appliance.errors import Refused
from appliance.store import oauth_flows, sessions
from appliance.store.database import Database, Transaction
from appliance.store.sessions import Session

COOKIE_CHARS_MAX = 128
IDLE_US = 30 * 86_400_000_000
LIFE_US = 180 * 86_400_000_000
ROTATE_US = 86_400_000_000
# Requests that were on their way while the cookie changed still count.
FORMER_COOKIE_US = 60_000_000
TOUCH_US = 3_600_000_000


class Member(NamedTuple):
    """Who is signed in on a browser. ``session`` stays while the cookie changes; ``due``: it has to."""

    did: str
    handle: str
    session: int = 0
    due: bool = False


class WebSessions:
    """Signing in and out with a browser, and who a cookie is."""

    def __init__(
        self,
        database: Database,
        signing_in: SigningIn,
        oauth: OAuthSignIn,
        pds_sessions: PdsSessions,
        clock: Clock,
    ) -> None:
        self._database = database
        self._signing_in = signing_in
        self._oauth = oauth
        self._pds_sessions = pds_sessions
        self._clock = clock

    async def sign_in(
        self,
        identifier: str,
        password: str,
        *,
        factor: str = "",
        invite: str = "",
        client: str = "",
        about: str = "",
    ) -> tuple[str, Member]:
        """A new cookie for whoever knows the password; raises as ``SigningIn.sign_in``.

        The form has already asked a second time about a password that isn't an app password.
        """
        cookie, begin = self._beginning(about)
        credentials = Credentials(identifier, password, factor, invite, client)
        welcome, _ = await self._signing_in.sign_in(credentials, begin)
        return cookie, Member(welcome.did, welcome.handle or "handle.invalid")

    async def begin_oauth(
        self, typed: str, *, browser: str, back: str = "/", invite: str = "", address: str = ""
    ) -> Away:
        """Where to send a browser for signing in by OAuth; raises as ``OAuthSignIn.begin``."""
        return await self._oauth.begin(typed, browser=browser, back=back, invite=invite, address=address)

    async def finish_oauth(
        self, answers: Sequence[tuple[str, str]], *, browser: str, about: str = ""
    ) -> tuple[str, Returned] | Away:
        """A new cookie for whoever came back; raises as ``OAuthSignIn.finish``."""
        cookie, begin = self._beginning(about)
        finished = await self._oauth.finish(answers, browser=browser, begin=begin)
        return finished if isinstance(finished, Away) else (cookie, finished[0])

    def _beginning(self, about: str) -> tuple[str, Callable[[Transaction, Welcome], int]]:
        """A new cookie, and what makes the session that it opens."""
        cookie = secrets.token_urlsafe(32)
        now_us = self._clock.now_us()

        def begin(tx: Transaction, welcome: Welcome) -> int:
            return sessions.add(
                tx,
                "web",
                token=hash_of(cookie),
                actor=welcome.actor,
                pds_session=welcome.pds_session,
                about=about[:200],
                now_us=now_us,
                expires_us=now_us + IDLE_US,
            )

        return cookie, begin

    async def who(self, cookie: str) -> Member | None:
        """Who holds this cookie; None when nobody does any more."""
        session = await self.find(cookie)
        if session is None:
            return None
        due = self._clock.now_us() - session.rotated_us >= ROTATE_US
        return Member(session.did, session.handle or "handle.invalid", session.id, due)

    async def find(self, cookie: str) -> Session | None:
        """The living session of a cookie."""
        if not cookie or len(cookie) > COOKIE_CHARS_MAX or not cookie.isascii():
            return None
        token = hash_of(cookie)
        session = await self._database.read(lambda r: sessions.find_by_token(r, "web", token))
        now_us = self._clock.now_us()
        if (
            session is None
            or session.expires_us <= now_us
            or session.takedown is not None
            or session.status in OUT
        ):
            return None
        if session.token != token and now_us - session.rotated_us > FORMER_COOKIE_US:
            return None
        if now_us - session.seen_us > TOUCH_US:
            end_us = min(now_us + IDLE_US, session.created_us + LIFE_US)
            await self._database.write(lambda tx: sessions.touch(tx, session.id, now_us, end_us))
        return session

    async def get(self, cookie: str) -> Session:
        """As ``find``, for those who must be signed in. Raises Refused."""
        session = await self.find(cookie)
        if session is None:
            raise Refused("Sign in first.")
        return session

    async def renew(self, cookie: str) -> str | None:
        """A new cookie in place of one that is a day old; None while it may stay."""
        session = await self.find(cookie)
        token = hash_of(cookie)
        now_us = self._clock.now_us()
        if session is None or session.token != token or now_us - session.rotated_us < ROTATE_US:
            return None
        fresh = secrets.token_urlsafe(32)
        end_us = min(now_us + IDLE_US, session.created_us + LIFE_US)
        rotated = await self._database.write(
            lambda tx: sessions.rotate(
                tx, session.id, old=token, new=hash_of(fresh), now_us=now_us, expires_us=end_us
            ),
            durable=True,
        )
        return fresh if rotated else None

    async def sign_out(self, cookie: str) -> None:
        """End the session of this cookie, here at once, at the PDS if it listens."""
        session = await self.find(cookie)
        if session is not None:
            await self._pds_sessions.end(session.pds_session)

    async def listing(self, actor: int) -> list[Session]:
        """Where an actor is signed in, browsers and XRPC clients alike."""
        now_us = self._clock.now_us()
        return await self._database.read(lambda r: sessions.listing(r, actor, now_us))

    async def end(self, actor: int, session: int) -> bool:
        """End one of the actor's own sessions by its number; False when it isn't theirs."""
        found = await self._database.read(lambda r: sessions.find(r, session))
        if found is None or found.actor != actor:
            return False
        await self._pds_sessions.end(found.pds_session)
        return True

    async def end_others(self, actor: int, session: int) -> int:
        """End all of the actor's sessions but this one; how many."""
        others = [one for one in await self.listing(actor) if one.id != session]
        for one in others:
            await self._pds_sessions.end(one.pds_session)
        return len(others)


async def sweep(database: Database, clock: Clock) -> int:
    """Drop sessions past their end and the sign-ins under them; how many. Run it now and then."""
    now_us = clock.now_us()

    def drop(tx: Transaction) -> int:
        oauth_flows.remove_older(tx, now_us - FLOW_US)
        return sessions.remove_expired(tx, now_us)

    return await database.write(drop)
