"""How long work shows its progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
from typing import Any, Final, TextIO

EVERY_S: Final = {True: 0.1, False: 5.0}
BAR_CHARS: Final = 24


class ProgressLine:
    """Told every step; writes when it is time. ``now_s`` is any clock that doesn't step back."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._written_s: float | None = None
        self._shown = ""

    def step(self, done: int, total: int, seconds: float, now_s: float, note: str = "") -> None:
        """So many of so many after so many seconds."""
        last = done == total
        due = self._written_s is None or now_s - self._written_s >= EVERY_S[self._terminal]
        if not due and not (last and self._terminal):
            return
        self._written_s = now_s
        rate = done / seconds if seconds > 0 else 0.0
        parts = [f"{done} of {total} accounts"]
        if done:
            parts.append(f"{rate:.1f}/s")
        if done and not last and rate > 0:
            parts.append(f"{_time((total - done) / rate)} left")
        if note:
            parts.append(note)
        line = ", ".join(parts)
        if self._terminal:
            full = BAR_CHARS if total == 0 else BAR_CHARS * done // total
            width = shutil.get_terminal_size().columns - 1
            line = f"[{'#' * full}{'.' * (BAR_CHARS - full)}] {line}"[:width]
            self._out.write("\r" + line.ljust(len(self._shown)))
            self._shown = line
        else:
            self._out.write(line + "\n")
        self._out.flush()

    def close(self) -> None:
        """Leave the bar where it stands, and go on below it."""
        if self._terminal and self._shown:
            self._out.write("\n")
            self._out.flush()
            self._shown = ""


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def note_of(step: dict[str, Any]) -> str:
    """What has been found so far."""
    found = step.get("found", 0)
    return "no difference" if not found else f"{found} difference{'' if found == 1 else 's'}"
