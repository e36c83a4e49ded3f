"""A cache of finished pieces, limited by bytes.

Two generations instead of an exact order of use: a look-up is one dictionary read that needs no
lock, so reader threads share it. When the young half is full it becomes the old half, and
what nobody asked for since then is gone. Keys carry the versions of what they show, so an entry is
never wrong, only unused.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

# Object headers, the key and the dictionary's slot, roughly.
ENTRY_OVERHEAD_BYTES = 400


class Fragments(Generic[V]):
    """Values by key, up to ``limit_bytes`` of what ``put`` was told they weigh."""

    def __init__(self, limit_bytes: int) -> None:
        self._half = limit_bytes // 2
        self._young: dict[Hashable, tuple[V, int]] = {}
        self._old: dict[Hashable, tuple[V, int]] = {}
        self._young_bytes = 0

    def get(self, key: Hashable) -> V | None:
        """The value, if it is still here."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is None:
                return None
            self.put(key, *entry)
        return entry[0]

    def put(self, key: Hashable, value: V, weight: int) -> None:
        """Keep it for now. Two threads may do this at once: the sum is then a little off."""
        self._young[key] = (value, weight)
        self._young_bytes += weight + ENTRY_OVERHEAD_BYTES
        if self._young_bytes > self._half:
            self._old, self._young, self._young_bytes = self._young, {}, 0
