"""A browser's PushSubscription as clients hand it to us: JSON in the ``token`` of registerPush."""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from appliance.errors import BadInput
from appliance.push.encryption import SECRET_BYTES, public_key

ENDPOINT_MAX: Final = 2000


class _Keys(msgspec.Struct):
    p256dh: str
    auth: str


class _Token(msgspec.Struct):
    endpoint: str
    keys: _Keys


class Browser(msgspec.Struct, frozen=True):
    """Where to send, and with which keys."""

    endpoint: str
    receiver: bytes
    secret: bytes


_token = msgspec.json.Decoder(_Token).decode


def parse(platform: str, token: str) -> Browser | None:
    """The browser that this names; None for what Web Push can't reach, such as a phone's token.

    Raises BadInput for a subscription whose keys are none.
    """
    if platform != "web" or not token.lstrip().startswith("{"):
        return None
    try:
        found = _token(token)
        receiver, secret = _unbased(found.keys.p256dh), _unbased(found.keys.auth)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadInput("not a push subscription") from error
    public_key(receiver)
    if len(secret) != SECRET_BYTES or len(found.endpoint) > ENDPOINT_MAX:
        raise BadInput("not a push subscription")
    return Browser(found.endpoint, receiver, secret)


def _unbased(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
