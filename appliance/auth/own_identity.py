"""Who we are to others: our signing key and the DID document that names it.

The key follows from the installation's secret, so it lasts as long as the key file, and no other copy
of it lies anywhere. https://atproto.com/specs/did
"""

from __future__ import annotations

from typing import Any

from appliance.auth.secrets import Secrets
from appliance.config import Settings
from appliance.protocol.keys import PrivateKey

_SERVICES = (
    ("bsky_appview", "BskyAppView"),
    ("bsky_notif", "BskyNotificationService"),
    ("bsky_fg", "BskyFeedGenerator"),
)


def signing_key(secrets: Secrets) -> PrivateKey:
    """The key under ``#atproto``, with which anything that we say in our own name is signed."""
    return PrivateKey.from_hex(secrets.subkey("identity").hex(), "k256")


def document(settings: Settings, key: PrivateKey) -> dict[str, Any]:
    """Our DID document: clients and PDSs learn from it where our services are."""
    did = settings.service_did
    return {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": did,
        "verificationMethod": [
            {
                "id": f"{did}#atproto",
                "type": "Multikey",
                "controller": did,
                "publicKeyMultibase": key.multibase,
            }
        ],
        "service": [
            {"id": f"#{name}", "type": kind, "serviceEndpoint": settings.origin} for name, kind in _SERVICES
        ],
    }
