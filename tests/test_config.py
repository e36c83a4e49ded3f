"""Settings: the file, the environment, and what can't go together."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from appliance.config import Settings, load
from appliance.errors import BadInput


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "appliance.toml"
    path.write_text(text)
    return path


def test_without_file_and_environment_the_defaults_hold() -> None:
    assert load(None, {}) == Settings()


def test_the_file_gives_settings_in_either_case(tmp_path: Path) -> None:
    settings = load(file(tmp_path, 'PORT = 80\nmembers = ["alice.test", "did:plc:bob"]\n'), {})

    assert settings.port == 80
    assert settings.members == ("alice.test", "did:plc:bob")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, 'PORT = 80\nMEMBERS = ["alice.test"]\n')

    settings = load(path, {"PORT": "81", "MEMBERS": "bob.test, carol.test,", "HOME": "/somewhere"})

    assert settings.port == 81
    assert settings.members == ("bob.test", "carol.test")


@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False), ("False", False)]
)
def test_the_environment_says_yes_and_no_in_words_or_digits(text: str, expected: bool) -> None:
    assert load(None, {"ALLOW_LOOPBACK": text}).allow_loopback is expected


def test_a_list_in_the_environment_may_be_empty() -> None:
    assert load(None, {"LABELERS": ""}).labelers == ()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"PORT": "65536"}, "port"),
        ({"PORT": "many"}, "port"),
        ({"READERS": "0"}, "readers"),
        ({"ADMISSION": "everyone"}, "admission"),
        ({"OUTBOUND_RATE_PER_HOST": "0"}, "outbound_rate_per_host"),
        ({"ALLOW_LOOPBACK": "perhaps"}, "allow_loopback"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_name(environment: Mapping[str, str], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        load(None, environment)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("PROT = 80", "there is no setting PROT"),
        ("PORT = ", "appliance.toml"),
        ('PORT = "x"', "port"),
        ("MEMBERS = 5", "members"),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        load(file(tmp_path, text), {})


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        load(tmp_path / "nowhere.toml", {})
    path = tmp_path / "appliance.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="settings file"):
        load(path, {})


@pytest.mark.parametrize(
    "together",
    [
        {"ALLOW_LOOPBACK": "true", "APPVIEW_HOSTNAME": "appliance.example"},
        {"ALLOW_LOOPBACK": "true", "PUBLIC_URL": "https://appliance.example"},
        {"ALLOW_LOOPBACK": "true", "PUBLIC_URL": "http://127.appliance.example"},
        {"RATE_LIMITS": "off", "APPVIEW_HOSTNAME": "appliance.example"},
        {"HANDLE_RESOLVERS": "http://localhost:1"},
    ],
)
def test_what_would_be_dangerous_together_is_refused(together: Mapping[str, str]) -> None:
    with pytest.raises(BadInput):
        load(None, together)


@pytest.mark.parametrize(
    "together",
    [
        {"ALLOW_LOOPBACK": "true", "HANDLE_RESOLVERS": "http://localhost:1"},
        {"ALLOW_LOOPBACK": "true", "RATE_LIMITS": "off", "PUBLIC_URL": "http://127.0.0.1:2580"},
        {"ALLOW_LOOPBACK": "true", "RATE_LIMITS": "off", "PUBLIC_URL": "http://[::1]:2580"},
        {"ALLOW_LOOPBACK": "true", "APPVIEW_HOSTNAME": "localhost"},
    ],
)
def test_devnet_may_have_what_a_public_host_may_not(together: Mapping[str, str]) -> None:
    assert load(None, together).allow_loopback


@pytest.mark.parametrize(
    ("changes", "origin", "did"),
    [
        ({"port": 99}, "http://localhost:99", "did:web:localhost%3A99"),
        ({"appview_hostname": "a.example"}, "https://a.example", "did:web:a.example"),
        ({"public_url": "https://b.example/"}, "https://b.example", "did:web:localhost%3A2580"),
        ({"appview_hostname": "a.example", "appview_did": "did:web:c"}, "https://a.example", "did:web:c"),
    ],
)
def test_who_we_are_follows_from_what_was_set(changes: dict[str, object], origin: str, did: str) -> None:
    settings = msgspec.structs.replace(Settings(), **changes)

    assert settings.origin == origin
    assert settings.service_did == did
    assert settings.service_audiences == {did, f"{did}#bsky_appview"}


@pytest.mark.parametrize(
    ("environment", "relay"),
    [
        ({}, False),
        ({"RELAY_URL": "wss://relay.example.com"}, True),
        ({"RELAY_URL": "wss://relay.example.com", "JETSTREAM_URLS": "wss://j.example.com/subscribe"}, False),
        ({"RELAY_URL": "wss://relay.example.com", "UPSTREAM": "jetstream"}, False),
        (
            {
                "RELAY_URL": "wss://relay.example.com",
                "JETSTREAM_URLS": "wss://j.example.com/subscribe",
                "UPSTREAM": "relay",
            },
            True,
        ),
    ],
)
def test_a_relay_that_is_named_is_read(environment: dict[str, str], relay: bool) -> None:
    assert load(None, environment).reads_relay is relay


def test_a_relay_to_read_has_to_be_named() -> None:
    with pytest.raises(BadInput, match="RELAY_URL"):
        load(None, {"UPSTREAM": "relay"})


@pytest.mark.parametrize(
    ("environment", "origin"),
    [
        ({}, ""),
        ({"ARCHIVE_TOKEN": "t"}, "https://jetstream.us-east.bsky.network"),
        ({"ARCHIVE_URL": "https://archive.test/"}, "https://archive.test"),
        ({"ARCHIVE_TOKEN": "t", "JETSTREAM_URLS": "wss://a.test/subscribe"}, ""),
        (
            {
                "ARCHIVE_TOKEN": "t",
                "JETSTREAM_URLS": "wss://a.test/subscribe, wss://b.test:444/xrpc/x.subscribeEvents",
            },
            "https://b.test:444",
        ),
    ],
)
def test_the_archive_is_that_of_the_first_v2_host_where_there_is_a_token(
    environment: dict[str, str], origin: str
) -> None:
    assert load(None, environment).archive_origin == origin


@pytest.mark.parametrize(
    "url", ["archive.test", "wss://archive.test", "https://archive.test/xrpc", "https://"]
)
def test_an_archive_address_that_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="ARCHIVE_URL"):
        load(None, {"ARCHIVE_URL": url})
