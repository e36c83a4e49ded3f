"""The installation's secret: where it lies, and what is sealed or derived with it.

Losing it costs everybody a new sign-in and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.config import Settings
from appliance.errors import BadInput, Refused

KEY_FILE = "session.key"
SECRET_CHARS_MIN = 32
_KEYS_MAX = 16
_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_PLACEHOLDER = re.compile(r"change.?me|your.?secret|example|placeholder|xxxx|1234567890", re.IGNORECASE)


class Secrets:
    """A ring of keys: the first seals and signs, all of them open."""

    def __init__(self, roots: list[bytes]) -> None:
        self._roots = roots
        self._sealing = [_derive(root, "seal") for root in roots]
        self._ids = [_derive(root, "id")[:_ID_BYTES] for root in roots]

    def __repr__(self) -> str:
        return f"Secrets({len(self._roots)} keys)"

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose, from which neither the secret nor another subkey follows."""
        return self.subkeys(purpose)[0]

    def subkeys(self, purpose: str) -> list[bytes]:
        """The same of every key in the ring, the newest first."""
        return [_derive(root, f"subkey {purpose}") for root in self._roots]

    def seal(self, plain: bytes, place: str) -> bytes:
        """Encrypt for one place (table, row, column): elsewhere it does not open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        head = _VERSION + self._ids[0]
        return head + nonce + AESGCM(self._sealing[0]).encrypt(nonce, plain, head + place.encode())

    def unseal(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for this place. Raises Refused for anything else."""
        head, rest = sealed[: 1 + _ID_BYTES], sealed[1 + _ID_BYTES :]
        for key_id, key in zip(self._ids, self._sealing, strict=True):
            if head == _VERSION + key_id and len(rest) > _NONCE_BYTES:
                try:
                    return AESGCM(key).decrypt(
                        rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + place.encode()
                    )
                except InvalidTag:
                    break
        raise Refused("this was sealed with another key")


def open_secrets(settings: Settings) -> Secrets:
    """The secret of the settings, else that of the key file, which is made on the first start.

    The file holds one key a line in hexadecimal, the newest first. Raises BadInput for a secret
    that protects nothing: short, a placeholder, or readable by others.
    """
    if settings.session_secret:
        return Secrets([_from_setting(settings.session_secret)])
    path = settings.data_path / KEY_FILE
    if not path.exists():
        _make(path)
    return Secrets(_read(path))


def _from_setting(text: str) -> bytes:
    if len(text) < SECRET_CHARS_MIN or len(set(text)) < 8 or _PLACEHOLDER.search(text):
        raise BadInput(
            f"SESSION_SECRET must be {SECRET_CHARS_MIN} random characters or more;"
            " leave it empty and a key file is made"
        )
    return _derive(text.encode(), "setting")


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a key file cut short by a crash would stop every later start.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".key-") as file:  # mode 0600
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another start was quicker
            os.link(file.name, path)


def _read(path: Path) -> list[bytes]:
    if path.stat().st_mode & 0o077:
        raise BadInput(f"{path} can be read by others: chmod 600 it")
    lines = path.read_text("ascii", "replace").split()
    if not lines or len(lines) > _KEYS_MAX or not all(re.fullmatch("[0-9a-f]{64}", line) for line in lines):
        raise BadInput(f"{path} holds no key: one of 64 hexadecimal digits a line is expected")
    return [bytes.fromhex(line) for line in lines]


def _derive(root: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, None, f"appliance {purpose}".encode()).derive(root)
