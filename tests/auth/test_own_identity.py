"""Our DID document says who we are, with a key that is ours."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.auth import own_identity
from appliance.auth.secrets import KEY_FILE, open_secrets
from appliance.config import Settings
from appliance.protocol import did_document
from appliance.protocol.keys import verify


def at(path: Path) -> Settings:
    return Settings(data_dir=str(path), appview_hostname="reader.example")


def parsed(path: Path) -> did_document.Identity:
    settings = at(path)
    key = own_identity.signing_key(open_secrets(settings))
    document = own_identity.document(settings, key)
    return did_document.parse(json.dumps(document).encode(), "did:web:reader.example")


def test_others_read_our_key_and_services_from_the_document(tmp_path: Path) -> None:
    found = parsed(tmp_path)
    key = own_identity.signing_key(open_secrets(at(tmp_path)))
    assert found.signing_key == key.did_key
    assert verify(key.did_key, b"said by us", key.sign(b"said by us"))
    assert found.services == {
        "bsky_appview": did_document.Service("BskyAppView", "https://reader.example"),
        "bsky_notif": did_document.Service("BskyNotificationService", "https://reader.example"),
        "bsky_fg": did_document.Service("BskyFeedGenerator", "https://reader.example"),
    }
    # We are a service, and nobody's account.
    assert found.pds is None
    assert found.handles == ()


def test_the_key_stays_with_the_key_file_and_no_other_installation_has_it(tmp_path: Path) -> None:
    first, other = parsed(tmp_path / "one"), parsed(tmp_path / "other")
    assert parsed(tmp_path / "one").signing_key == first.signing_key != other.signing_key
    assert [path.name for path in (tmp_path / "one").iterdir()] == [KEY_FILE]
    secret = (tmp_path / "one" / KEY_FILE).read_text().strip()
    assert own_identity.signing_key(open_secrets(at(tmp_path / "one"))).to_hex() != secret
