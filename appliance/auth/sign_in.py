"""Signing in with an app password at the member's own PDS and nowhere else; letting in who is proven."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from appliance import crash_points, telemetry
from appliance.auth import pds
from appliance.auth.accounts import Account, Accounts
from appliance.auth.attempts import Attempts
from appliance.auth.pds import Tokens
from appliance.auth.pds_sessions import PdsSessions
from appliance.auth.standing import check, inactive
from appliance.clock import Clock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, NotFound, Refused
from appliance.outbound.client import Outbound
from appliance.protocol import syntax
from appliance.store import sessions
from appliance.store.database import Database, Transaction

log = telemetry.Log("auth")
T = TypeVar("T")

# What we know of an account must be younger than this before a password goes to its PDS.
IDENTITY_AGE_S = 600.0
PASSWORD_CHARS_MAX = 512
IDENTIFIER_CHARS_MAX = 2048
_APP_PASSWORD = re.compile(r"[a-z0-9]{4}(-[a-z0-9]{4}){3}", re.IGNORECASE)

SIGN_INS = telemetry.counter("sign_ins", "Sign-ins, by outcome.", ["outcome"])

Join = Callable[[Transaction, str, str | None, str, int], object]
"""``(tx, did, handle, invite, now_us)``: let the proven DID in, or raise Refused."""


class Credentials(Struct, frozen=True):
    """What a person typed. ``client`` is the address they came from, for the limits on wrong tries."""

    identifier: str
    password: str
    code: str = ""
    invite: str = ""
    client: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"


class Proven(Struct, frozen=True):
    """An account whose owner has proven to be it, before anything was written."""

    did: str
    handle: str | None
    pds: str
    tokens: Tokens


class Welcome(Struct, frozen=True):
    """Somebody who is in."""

    did: str
    handle: str | None
    actor: int
    pds_session: int


class SigningIn:
    """Proves accounts by their own PDSs and lets them in."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        outbound: Outbound,
        pds_sessions: PdsSessions,
        join: Join,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._outbound = outbound
        self._pds_sessions = pds_sessions
        self._join = join
        self._clock = clock
        self._attempts = Attempts(
            clock,
            on=settings.rate_limits == "on",
            per_pair=settings.sign_in_tries,
            per_client=settings.sign_in_tries_address,
        )

    async def sign_in(
        self, credentials: Credentials, begin: Callable[[Transaction, Welcome], T]
    ) -> tuple[Welcome, T]:
        """Prove the account at its PDS, admit it, and keep the sign-in.

        ``begin`` runs in the same durable transaction and makes the session that rests on it. Raises
        BadInput, Refused and Unavailable with sentences for the person.
        """
        try:
            proven = await self._prove(credentials)
        except ApplianceError as error:
            SIGN_INS.labels(error.name).inc()
            raise
        return await self.let_in(proven, credentials.invite, begin)

    async def let_in(
        self, proven: Proven, invite: str, begin: Callable[[Transaction, Welcome], T]
    ) -> tuple[Welcome, T]:
        """Admit an account that is proven, and keep the sign-in; ``begin`` as with ``sign_in``.

        Raises Refused for somebody who may not be here; the tokens are given back then.
        """
        crash_points.reach("sign-in-after-call")
        try:
            welcome, begun = await self._database.write(
                lambda tx: self._enter(tx, proven, invite, begin), durable=True
            )
        except BaseException:
            # Not let in, or not stored: then nobody shall hold tokens of that account.
            self._pds_sessions.say_goodbye(proven.pds, proven.tokens)
            raise
        crash_points.reach("sign-in-after-commit")
        SIGN_INS.labels("ok").inc()
        log.info("signed_in", did=proven.did, pds=proven.pds)
        return welcome, begun

    async def _prove(self, credentials: Credentials) -> Proven:
        identifier = parse_identifier(credentials.identifier)
        if not 0 < len(credentials.password) <= PASSWORD_CHARS_MAX:
            raise BadInput(f"A password has 1 to {PASSWORD_CHARS_MAX} characters")
        await self._attempts.admit(identifier, credentials.client)
        account = await self._find(identifier, credentials)
        if account.pds is None:
            raise Refused("This account has no server that we could ask")
        try:
            signed_in = await pds.create_session(
                self._outbound, account.pds, account.did, credentials.password, credentials.code
            )
        except Refused as error:
            if error.name != "AuthFactorTokenRequired" or credentials.code:
                self._attempts.failed(identifier, credentials.client)
            raise
        if signed_in.did != account.did:
            self._pds_sessions.say_goodbye(account.pds, signed_in.tokens)
            raise Refused("Your server answered for another account", name="InvalidDid")
        if not signed_in.active:
            self._pds_sessions.say_goodbye(account.pds, signed_in.tokens)
            raise inactive(signed_in.status)
        return Proven(account.did, account.handle, account.pds, signed_in.tokens)

    async def _find(self, identifier: str, credentials: Credentials) -> Account:
        """The account, looked up by ourselves before the password leaves us."""
        did: str | None = identifier
        if not identifier.startswith("did:"):
            did = await self._accounts.resolve_handle(identifier)
        try:
            if did is None:
                raise NotFound("nobody has this handle")
            account = await self._accounts.get(did, max_age_s=IDENTITY_AGE_S)
        except (NotFound, BadInput) as error:
            self._attempts.failed(identifier, credentials.client)
            raise Refused(pds.WRONG) from error
        if identifier != did and account.handle != identifier:
            raise Refused(
                "This handle points at an account that does not use it: sign in with the account's DID",
                name="InvalidHandle",
            )
        return account

    def _enter(
        self, tx: Transaction, proven: Proven, invite: str, begin: Callable[[Transaction, Welcome], T]
    ) -> tuple[Welcome, T]:
        self._join(tx, proven.did, proven.handle, invite, self._clock.now_us())
        standing = sessions.standing(tx, proven.did)
        if standing is None or not standing.member:
            raise Refused("This server is for its members only.", name="NotAdmitted")
        # The PDS has just said that the account is active; what counts beside that is our own takedown.
        check(None, standing.takedown)
        pds_session = self._pds_sessions.add(tx, standing.actor, proven.pds, proven.tokens)
        welcome = Welcome(proven.did, proven.handle, standing.actor, pds_session)
        begun = begin(tx, welcome)
        crash_points.reach("sign-in-before-commit")
        return welcome, begun


def parse_identifier(text: str) -> str:
    """A handle in lower case or a DID. Raises BadInput for anything else, e-mail addresses included."""
    text = text.strip().removeprefix("@")
    if len(text) > IDENTIFIER_CHARS_MAX:
        raise BadInput("Sign in with your handle or DID")
    if "@" in text:
        raise BadInput("An e-mail address does not tell us your server: sign in with your handle or DID")
    if syntax.is_did(text):
        return text
    if syntax.is_handle(text):
        return syntax.normalise_handle(text)
    raise BadInput("Sign in with your handle or DID")


def has_app_password_shape(password: str) -> bool:
    """Four groups of four: what PDSs give out as app passwords."""
    return _APP_PASSWORD.fullmatch(password) is not None
