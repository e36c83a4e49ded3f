import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.auth.secrets import KEY_FILE, Secrets, open_secrets
from appliance.config import Settings
from appliance.errors import BadInput, Refused

GOOD = "0b7e1a5c9d3f4826a1c0e9b8d7f6a5c4"
HERE = "pds_session/1/sealed"


def at(path: Path, secret: str = "") -> Settings:
    return Settings(data_dir=str(path), session_secret=secret)


def test_a_key_file_for_the_owner_alone_is_made_once(tmp_path: Path) -> None:
    first = open_secrets(at(tmp_path / "new"))
    path = tmp_path / "new" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [KEY_FILE]
    again = open_secrets(at(tmp_path / "new"))
    assert again.unseal(first.seal(b"x", HERE), HERE) == b"x"
    assert again.subkey("a") == first.subkey("a") != first.subkey("b")
    assert path.read_text().strip() not in repr(first)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o622])
def test_a_key_that_others_can_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    open_secrets(at(tmp_path))
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(BadInput, match="chmod 600"):
        open_secrets(at(tmp_path))


@pytest.mark.parametrize("text", ["", "short\n", "zz" * 32, "ab" * 31, "ab" * 32 + "\nrest"])
def test_a_key_file_without_key_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BadInput):
        open_secrets(at(tmp_path))


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "x" * 64,
        "abababab" * 8,
        "change-me-please-change-me-please-0",
        "your_secret_key_goes_here_0123456",
    ],
)
def test_a_secret_that_protects_nothing_stops_the_start(tmp_path: Path, secret: str) -> None:
    with pytest.raises(BadInput, match="SESSION_SECRET"):
        open_secrets(at(tmp_path, secret))


def test_a_secret_of_the_settings_needs_no_file(tmp_path: Path) -> None:
    sealed = open_secrets(at(tmp_path, GOOD)).seal(b"x", HERE)
    assert open_secrets(at(tmp_path, GOOD)).unseal(sealed, HERE) == b"x"
    assert list(tmp_path.iterdir()) == []


def test_the_newest_key_seals_and_every_key_opens(tmp_path: Path) -> None:
    old = open_secrets(at(tmp_path))
    sealed = old.seal(b"x", HERE)
    path = tmp_path / KEY_FILE
    path.write_text("ab" * 32 + "\n" + path.read_text())
    ring = open_secrets(at(tmp_path))
    assert ring.unseal(sealed, HERE) == b"x"
    assert ring.subkey("a") != old.subkey("a")
    with pytest.raises(Refused):
        old.unseal(ring.seal(b"y", HERE), HERE)


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_what_was_sealed_opens_at_its_place_and_unchanged_only(plain: bytes, at: int, flip: int) -> None:
    keys = Secrets([b"k" * 32])
    sealed = keys.seal(plain, HERE)
    assert keys.unseal(sealed, HERE) == plain
    assert keys.seal(plain, HERE) != sealed
    broken = bytearray(sealed)
    broken[at % len(sealed)] ^= flip
    for text, place in ((bytes(broken), HERE), (sealed[:-1], HERE), (sealed, HERE + "x"), (b"", HERE)):
        with pytest.raises(Refused):
            keys.unseal(text, place)
