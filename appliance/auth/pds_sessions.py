"""Calls to members' PDSs under their sign-in there: sealed tokens, renewed once for all who wait."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
from cachetools import LRUCache

from appliance import telemetry
from appliance.auth import oauth_grants, pds
from appliance.auth.oauth_grants import Grants
from appliance.auth.pds import Tokens
from appliance.auth.secrets import Secrets
from appliance.clock import Clock
from appliance.errors import BadInput, Refused, Unavailable
from appliance.outbound.addresses import Params
from appliance.outbound.client import Answer, NotSent, Outbound
from appliance.outbound.limits import PDS_SESSION, Limits
from appliance.store import sessions
from appliance.store.database import Database, Transaction

log = telemetry.Log("auth")

# A PDS that refuses tokens it has just given will refuse the next ones as well.
REFRESH_AGAIN_S = 60.0
REFRESH_WAIT_S = 20.0
KNOWN_GOOD_S = 300.0
STORE_AGAIN_S = 1.0
GOODBYE_S = 5.0
CLOSE_S = 15.0
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,4096}")
_TOKEN_ERRORS = frozenset({"ExpiredToken", "InvalidToken"})
_WHY = {"AccountTakedown": "takendown", "AccountMoved": "moved"}


class PdsSessions:
    """Every sign-in at a PDS that we hold."""

    def __init__(
        self, database: Database, outbound: Outbound, secrets: Secrets, grants: Grants, clock: Clock
    ) -> None:
        self._database = database
        self._outbound = outbound
        self._grants = grants
        self._secrets = secrets
        self._clock = clock
        self._refreshing: dict[int, asyncio.Task[Tokens]] = {}
        self._told: list[Callable[[int], None]] = []
        self._behind: set[asyncio.Task[None]] = set()
        self._refreshed_s: LRUCache[int, float] = LRUCache(10_000)
        self._good_s: LRUCache[int, float] = LRUCache(10_000)

    def when_ended(self, tell: Callable[[int], None]) -> None:
        """Call this with the number of each sign-in that ends or dies, before anybody is told."""
        self._told.append(tell)

    def add(self, tx: Transaction, actor: int, origin: str, tokens: Tokens) -> int:
        """Keep a new sign-in; its number."""
        pds_session = sessions.add_pds_session(
            tx,
            actor,
            origin,
            self._clock.now_us(),
            issuer=tokens.issuer,
            kid=tokens.kid,
            scope=tokens.scope,
        )
        sessions.keep_tokens(tx, pds_session, self._seal(pds_session, tokens), self._clock.now_us())
        return pds_session

    async def call(
        self,
        pds_session: int,
        method: str,
        nsid: str,
        *,
        limits: Limits,
        params: Params | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; when its token has expired it is renewed and the call made once more.

        Any status is an answer. A body that streams can be sent only once: its token is tried before.
        Raises Refused when the sign-in is over, Unavailable when there was no answer: NotSent when the
        call surely had no effect.
        """
        streams = content is not None and not isinstance(content, bytes)
        if streams:
            with _nothing_sent():
                await self.check(pds_session)
        held = await self._held(pds_session)
        tokens = await self._ready(held)
        send = partial(self._send, held.pds, method, nsid, limits, params, content, headers or {})
        answer = await send(tokens)
        if not _token_refused(answer, tokens):
            self._good_s[pds_session] = self._clock.monotonic_s()
            return answer
        if streams:
            return answer
        with _nothing_sent():
            renewed = await self._renew(pds_session, tokens)
        return answer if renewed == tokens else await send(renewed)

    async def service_token(self, pds_session: int, audience: str, method: str) -> str:
        """A token with which the account calls that method of somebody else. Raises as ``call``."""
        answer = await self.call(
            pds_session,
            "GET",
            "com.atproto.server.getServiceAuth",
            limits=PDS_SESSION,
            params={"aud": audience, "lxm": method},
        )
        try:
            token = answer.json().get("token") if answer.ok else None
        except (BadInput, AttributeError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unavailable("Your server does not vouch for you at the moment")
        return token

    async def check(self, pds_session: int) -> None:
        """Make sure that the token is good for the next minutes. Raises as ``call``."""
        good_s = self._good_s.get(pds_session)
        good = good_s is not None and self._clock.monotonic_s() - good_s <= KNOWN_GOOD_S
        if good:
            held = await self._held(pds_session)
            tokens = self._unseal(held)
            good = not tokens.key or self._grants.nonce_is_good(tokens, held.pds)
        if not good:
            await self.call(pds_session, "GET", "com.atproto.server.getSession", limits=PDS_SESSION)

    async def renew(self, pds_session: int) -> None:
        """Renew the tokens whatever their age. Raises as ``call``."""
        await self._renew(pds_session, self._unseal(await self._held(pds_session)))

    def renew_behind(self, pds_session: int) -> None:
        """Renew the tokens without anybody waiting; a failure shows at the next call."""
        self._start_behind(self._renew_quietly(pds_session))

    async def end(self, pds_session: int) -> None:
        """Forget a sign-in here at once and with it our sessions; tell the PDS if it listens."""
        held = await self._database.read(lambda r: sessions.find_pds_session(r, pds_session))
        await self._database.write(lambda tx: sessions.remove_pds_session(tx, pds_session), durable=True)
        self._tell(pds_session)
        if held is not None and held.dead is None:
            try:
                tokens = self._unseal(held)
            except Refused:
                return
            self.say_goodbye(held.pds, tokens)

    async def end_all(self, actor: int) -> None:
        """As ``end``, every sign-in of the actor."""
        for pds_session in await self._database.read(lambda r: sessions.of_actor(r, actor)):
            await self.end(pds_session)

    def say_goodbye(self, origin: str, tokens: Tokens) -> None:
        """End tokens at their PDS, behind, for five seconds at most."""
        self._start_behind(self._say_goodbye(origin, tokens))

    async def close(self) -> None:
        """Let the renewals under way finish: what a PDS gives only once must not get lost."""
        running = [*self._refreshing.values(), *self._behind]
        if running:
            await asyncio.wait(running, timeout=CLOSE_S)

    def _start_behind(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="pds session")
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def _renew_quietly(self, pds_session: int) -> None:
        with contextlib.suppress(Refused, Unavailable):
            await self.renew(pds_session)

    async def _say_goodbye(self, origin: str, tokens: Tokens) -> None:
        try:
            async with asyncio.timeout(GOODBYE_S):
                if tokens.key:
                    told = await self._grants.revoke(tokens)
                else:
                    told = await pds.delete_session(self._outbound, origin, tokens)
        except (Unavailable, TimeoutError):
            told = False
        log.debug("pds_session_ended", pds=origin, told=told)

    async def _held(self, pds_session: int) -> sessions.PdsSession:
        held = await self._database.read(lambda r: sessions.find_pds_session(r, pds_session))
        if held is None:
            raise Refused("This session has ended: sign in again", name="ExpiredToken")
        if held.dead is not None:
            raise Refused(_reason(held.dead), name="ExpiredToken")
        if held.pds_now is not None and held.pds_now != held.pds:
            await self._kill(pds_session, "moved")
            raise Refused(_reason("moved"), name="ExpiredToken")
        return held

    async def _ready(self, held: sessions.PdsSession) -> Tokens:
        """The tokens for a call, renewed where they are about to end."""
        tokens = self._unseal(held)
        if not self._grants.due(held.id, tokens):
            return tokens
        try:
            with _nothing_sent():
                return await self._renew(held.id, tokens)
        except Unavailable:
            if tokens.expires_us <= self._clock.now_us():
                raise
            return tokens

    async def _kill(self, pds_session: int, why: str) -> None:
        await self._database.write(lambda tx: sessions.kill(tx, pds_session, why), durable=True)
        self._tell(pds_session)

    def _tell(self, pds_session: int) -> None:
        for tell in self._told:
            tell(pds_session)

    async def _send(
        self,
        origin: str,
        method: str,
        nsid: str,
        limits: Limits,
        params: Params | None,
        content: bytes | AsyncIterable[bytes] | None,
        headers: Mapping[str, str],
        tokens: Tokens,
    ) -> Answer:
        url = f"{origin}/xrpc/{nsid}"

        async def ask(credentials: Mapping[str, str]) -> Answer:
            return await self._outbound.request(
                method,
                url,
                limits=limits,
                params=params,
                headers={**headers, **credentials},
                content=content,
            )

        try:
            if not tokens.key:
                return await ask({"authorization": f"Bearer {tokens.access}"})
            again = content is None or isinstance(content, bytes)
            return await self._grants.send(tokens, method, url, ask, again=again)
        except BadInput as error:
            if error.name == "PayloadTooLarge":
                raise  # said of what we were to send
            raise Unavailable("Your server can't be used: its address or its answer is not right") from error

    def _refreshed_lately(self, pds_session: int) -> bool:
        at_s = self._refreshed_s.get(pds_session)
        return at_s is not None and self._clock.monotonic_s() - at_s < REFRESH_AGAIN_S

    async def _renew(self, pds_session: int, tried: Tokens) -> Tokens:
        task = self._refreshing.get(pds_session)
        if task is None:
            task = asyncio.create_task(self._refresh(pds_session, tried), name=f"renew sign-in {pds_session}")
            self._refreshing[pds_session] = task
            task.add_done_callback(lambda done: self._refreshed(pds_session, done))
        try:
            async with asyncio.timeout(REFRESH_WAIT_S):
                # Shielded: once a refresh token is on the wire its answer must be kept, whoever leaves.
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise Unavailable("Your server takes long to renew this sign-in") from error

    def _refreshed(self, pds_session: int, task: asyncio.Task[Tokens]) -> None:
        del self._refreshing[pds_session]
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; with nobody waiting there is nobody to tell

    async def _refresh(self, pds_session: int, tried: Tokens) -> Tokens:
        held = await self._held(pds_session)
        tokens = self._unseal(held)
        if tokens != tried or self._refreshed_lately(pds_session):
            return tokens  # somebody else has renewed them since they were read, or nothing would change
        try:
            renewed = await self._renewed(held, tokens)
        except Refused as error:
            why = _WHY.get(error.name, "expired")
            await self._kill(pds_session, why)
            log.info("pds_session_dead", pds=held.pds, why=why)
            raise
        await self._store(pds_session, renewed)
        self._refreshed_s[pds_session] = self._clock.monotonic_s()
        return renewed

    async def _renewed(self, held: sessions.PdsSession, tokens: Tokens) -> Tokens:
        if tokens.key:
            return await self._grants.renew(held.did, tokens)
        signed_in = await pds.refresh_session(self._outbound, held.pds, tokens)
        if signed_in.did != held.did:
            raise Refused("Your server answered for another account", name="ExpiredToken")
        return signed_in.tokens

    async def _store(self, pds_session: int, renewed: Tokens) -> None:
        """Make the new tokens durable before anybody uses them: the old ones are spent."""
        sealed = self._seal(pds_session, renewed)
        while True:
            try:
                kept = await self._database.write(
                    lambda tx: sessions.keep_tokens(tx, pds_session, sealed, self._clock.now_us()),
                    durable=True,
                )
            except Unavailable as error:
                log.warning("pds_tokens_not_stored", error=error.message)
                await self._clock.sleep(STORE_AGAIN_S)
            else:
                break
        if not kept:
            raise Refused("This session has ended: sign in again", name="ExpiredToken")

    def _seal(self, pds_session: int, tokens: Tokens) -> bytes:
        return self._secrets.seal(msgspec.json.encode(tokens), _place(pds_session))

    def _unseal(self, held: sessions.PdsSession) -> Tokens:
        try:
            return msgspec.json.decode(self._secrets.unseal(held.sealed, _place(held.id)), type=Tokens)
        except Refused as error:
            raise Refused(
                "This session can't be read any more: sign in again", name="ExpiredToken"
            ) from error


@contextlib.contextmanager
def _nothing_sent() -> Iterator[None]:
    """What fails here fails before the call had any effect."""
    try:
        yield
    except Unavailable as error:
        raise NotSent(error.message, name=error.name, retry_after_s=error.retry_after_s) from error


def _place(pds_session: int) -> str:
    return f"pds_session/{pds_session}/sealed"


def _token_refused(answer: Answer, tokens: Tokens) -> bool:
    if tokens.key:
        return oauth_grants.token_refused(answer)
    return answer.status == 401 or (answer.status == 400 and answer.error_name() in _TOKEN_ERRORS)


def _reason(dead: str) -> str:
    match dead:
        case "moved":
            return "Your account has moved to another server: sign in again"
        case "key":
            return "The key of this sign-in has been withdrawn here: sign in again"
        case "restored":
            return "This server was restored from a backup: sign in again"
        case "takendown":
            return "Your server has taken this account down"
        case _:
            return "Your server has ended this sign-in: sign in again"
