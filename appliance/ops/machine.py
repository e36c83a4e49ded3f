"""What the process and its files take of the machine."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

_PAGE_BYTES = resource.getpagesize()


class Machine(NamedTuple):
    """Sizes in bytes; 0 where the system doesn't tell."""

    database: int
    wal: int
    free: int
    resident: int
    open_files: int
    files_max: int


def look(database: Path) -> Machine:
    """As it is now. A few calls of the system, no reading."""
    return Machine(
        _size(database),
        _size(database.with_name(f"{database.name}-wal")),
        shutil.disk_usage(database.parent).free,
        _resident(),
        _open_files(),
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError):
        # Elsewhere only the highest is known, in kilobytes or, on macOS, in bytes.
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest if sys.platform == "darwin" else highest * 1024


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    except OSError:
        return 0
