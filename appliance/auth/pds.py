"""The calls of a member's PDS that make, renew and end a sign-in there."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from appliance.errors import BadInput, Refused, Unavailable
from appliance.outbound.client import Answer, Outbound
from appliance.outbound.limits import PDS_SESSION, Limits

# One wording for an unknown account and a wrong password: neither tells which accounts exist.
WRONG = "Invalid identifier or password"
_CREATE = "com.atproto.server.createSession"
_REFRESH = "com.atproto.server.refreshSession"
_DELETE = "com.atproto.server.deleteSession"
_TOKEN_CHARS_MAX = 8192


class Tokens(Struct, frozen=True, omit_defaults=True):
    """What a PDS gave us to act for its account. Never shown: neither printed nor answered.

    Those of OAuth are bound: to ``key``, the secret half of the sign-in's own key, and to ``kid``, ours
    of that time. They come from ``issuer`` and end at ``expires_us``.
    """

    access: str
    refresh: str
    key: str = ""
    kid: str = ""
    issuer: str = ""
    scope: str = ""
    expires_us: int = 0

    def __repr__(self) -> str:
        return "Tokens(…)"


class SignedIn(Struct, frozen=True):
    """The answer to createSession and refreshSession, as far as we use it."""

    did: str
    handle: str
    access: str = field(name="accessJwt")
    refresh: str = field(name="refreshJwt")
    active: bool = True
    status: str | None = None

    def __repr__(self) -> str:
        return f"SignedIn({self.did})"

    @property
    def tokens(self) -> Tokens:
        return Tokens(self.access, self.refresh)


async def create_session(
    outbound: Outbound, pds: str, identifier: str, password: str, code: str = ""
) -> SignedIn:
    """Sign in. Raises Refused for what the account's owner can mend, Unavailable for the rest."""
    asked = {"identifier": identifier, "password": password}
    if code:
        asked["authFactorToken"] = code
    answer = await _post(outbound, pds, _CREATE, json=asked)
    if answer.ok:
        return _signed_in(answer)
    name = answer.error_name()
    if name == "AuthFactorTokenRequired":
        raise Refused("A sign in code has been sent to your email address", name=name)
    if code and name in ("InvalidToken", "ExpiredToken"):
        raise Refused("Token is invalid", name="AuthFactorTokenRequired")
    if name == "AccountTakedown":
        raise Refused("Your server has taken this account down", name=name)
    if answer.status in (400, 401, 403):
        raise Refused(WRONG)
    raise Unavailable("Your server can't sign you in at the moment")


async def refresh_session(outbound: Outbound, pds: str, tokens: Tokens) -> SignedIn:
    """New tokens for old ones. Raises Refused when the sign-in is over, Unavailable when that is unknown."""
    answer = await _post(outbound, pds, _REFRESH, bearer=tokens.refresh)
    if answer.ok:
        return _signed_in(answer)
    if answer.status in (400, 401, 403):
        if answer.error_name() == "AccountTakedown":
            raise Refused("Your server has taken this account down", name="AccountTakedown")
        raise Refused("Your server has ended this sign-in: sign in again", name="ExpiredToken")
    raise Unavailable("Your server can't renew this sign-in at the moment")


async def delete_session(
    outbound: Outbound, pds: str, tokens: Tokens, *, limits: Limits = PDS_SESSION
) -> bool:
    """End a sign-in; whether the PDS confirmed it."""
    answer = await _post(outbound, pds, _DELETE, bearer=tokens.refresh, limits=limits)
    return answer.ok


async def _post(
    outbound: Outbound,
    pds: str,
    nsid: str,
    *,
    json: object = None,
    bearer: str = "",
    limits: Limits = PDS_SESSION,
) -> Answer:
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    try:
        return await outbound.post(f"{pds}/xrpc/{nsid}", limits=limits, json=json, headers=headers)
    except BadInput as error:
        # Not the caller's fault: an address that is not allowed, or an answer beyond all measure.
        raise Unavailable("Your server can't be used: its address or its answer is not right") from error


def _signed_in(answer: Answer) -> SignedIn:
    try:
        signed_in = msgspec.json.decode(answer.body, type=SignedIn)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Without the cause: it quotes the answer, and the answer holds tokens.
        raise Unavailable("Your server gave an answer that is not understood") from None
    for token in (signed_in.access, signed_in.refresh):
        if (
            not 0 < len(token) <= _TOKEN_CHARS_MAX
            or not token.isascii()
            or not token.isprintable()
            or " " in token
        ):
            raise Unavailable("Your server gave an answer that is not understood")
    return signed_in
