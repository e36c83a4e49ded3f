"""Which labelers' words count for a request: ``atproto-accept-labelers`` and its echo.

https://atproto.com/specs/label#labels-in-apis
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.errors import BadInput
from appliance.protocol.syntax import is_did, parse_datetime_us

LABELERS_MAX = 20


class Labeler(msgspec.Struct, frozen=True, gc=False):
    """A labeler; with ``redact`` its word can take content out of answers."""

    did: str
    redact: bool


def default(dids: Sequence[str]) -> tuple[Labeler, ...]:
    """Those that count when the client names none."""
    return tuple(Labeler(did, True) for did in dids)


def parse(header: str | None, otherwise: tuple[Labeler, ...]) -> tuple[Labeler, ...]:
    """Those that the client names; ``otherwise`` when there is no such header or it makes no sense."""
    if header is None:
        return otherwise
    if not header.strip():
        return ()
    found: dict[str, bool] = {}
    for entry in header.split(","):
        did, *parameters = (part.strip() for part in entry.split(";"))
        if not is_did(did):
            return otherwise
        redact = any(p.lower() in ("redact", "redact=?1") for p in parameters)
        found[did] = found.get(did, False) or redact
    return tuple(Labeler(did, redact) for did, redact in list(found.items())[:LABELERS_MAX])


def text_of(labelers: Sequence[Labeler]) -> str:
    """For ``atproto-content-labelers``: those that were applied."""
    return ",".join(f"{each.did};redact" if each.redact else each.did for each in labelers)


def is_over(expires: str, now_us: int) -> bool:
    """Whether a label with this end holds no more; one whose end makes no sense does not hold."""
    try:
        return parse_datetime_us(expires) <= now_us
    except BadInput:
        return True
