"""When everybody's events are read, and when those of a list: the sizes, and how long each must hold."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from appliance.ingest.lists import V2_MAX
from appliance.store.coverage import Mode


class Limits(NamedTuple):
    """Numbers of accounts, and seconds."""

    up: int = 9_000  # more than that: everybody
    down: int = 7_000  # fewer than that for ``calm_s``: a list again
    v2_up: int = V2_MAX
    v2_down: int = 120  # not at the border itself, where each follow would change the wire
    changes_per_min: int = 60
    restless_s: float = 600.0
    calm_s: float = 86_400.0


class Chooser:
    """Chooses the mode. ``list_modes`` are those that the hosts and the operator allow."""

    def __init__(self, limits: Limits, list_modes: frozenset[Mode]) -> None:
        self.limits = limits
        self.list_modes = list_modes
        self._changes: deque[tuple[float, int]] = deque()
        self._calm_at_s: float | None = None  # since when nothing has asked for everybody
        self._restless_at_s: float | None = None

    def changed(self, now_s: float, number: int) -> None:
        """So many accounts came or went."""
        if number:
            self._changes.append((now_s, number))

    def per_minute(self, now_s: float) -> int:
        """Accounts that came or went within the last minute."""
        while self._changes and self._changes[0][0] <= now_s - 60.0:
            self._changes.popleft()
        return sum(number for _, number in self._changes)

    def crowded_before(self, now_s: float, since_s: float) -> None:
        """It was too much ``since_s`` seconds ago, before this process began."""
        self._calm_at_s = now_s - since_s

    def crowded(self, now_s: float, wanted: int, mode: Mode) -> bool:
        """Whether a list would be too long, or would have to be changed all the time."""
        if self.per_minute(now_s) <= self.limits.changes_per_min:
            self._restless_at_s = None
        elif self._restless_at_s is None:
            self._restless_at_s = now_s
        restless = self._restless_at_s is not None and now_s - self._restless_at_s >= self.limits.restless_s
        # Once everybody is read, only clearly fewer make it worthwhile to change back.
        most = self.limits.down - 1 if mode == "FULL" and self._calm_at_s is not None else self.limits.up
        return restless or wanted > most

    def choose(self, now_s: float, wanted: int, mode: Mode) -> Mode:
        """The mode to be in, from the one at present."""
        if not self.list_modes:
            return "FULL"
        if self.crowded(now_s, wanted, mode):
            self._calm_at_s = now_s
            return "FULL"
        if mode == "FULL" and self._calm_at_s is not None and now_s - self._calm_at_s < self.limits.calm_s:
            return "FULL"
        self._calm_at_s = None
        return self._list_mode(wanted, mode)

    def _list_mode(self, wanted: int, mode: Mode) -> Mode:
        most = self.limits.v2_up if mode != "DIDS" else self.limits.v2_down
        if "DIDS-V2" in self.list_modes and (wanted <= most or "DIDS" not in self.list_modes):
            return "DIDS-V2" if wanted <= self.limits.v2_up else "FULL"
        return "DIDS" if "DIDS" in self.list_modes else "FULL"
