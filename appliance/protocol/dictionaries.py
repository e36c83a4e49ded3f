"""The zstd dictionaries of the Jetstream wires: shared knowledge of both ends, so shipped as data.

Frames name their dictionary by its id (RFC 8878 §5): bytes 4 to 7 of the file, little-endian.
"""

from __future__ import annotations

import functools
from importlib.resources import files

LEGACY_ID = 1612007021
CURRENT_ID = 20260811


@functools.cache
def legacy() -> bytes:
    """The dictionary of `/subscribe?compress=true`; its id is LEGACY_ID."""
    return _read("legacy_subscribe.zdict")


@functools.cache
def current() -> tuple[int, bytes]:
    """The newest known dictionary of `subscribeEvents` and its id; a server may have a newer one."""
    return CURRENT_ID, _read(f"subscribe_events_{CURRENT_ID}.zdict")


def id_of(dictionary: bytes) -> int:
    """The id that frames made with this dictionary carry."""
    return int.from_bytes(dictionary[4:8], "little")


def _read(name: str) -> bytes:
    return (files("appliance.protocol") / "dictionaries" / name).read_bytes()
