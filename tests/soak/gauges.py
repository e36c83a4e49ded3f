"""What a running process holds, read from outside while it works, and whether that grows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

MB = 1024 * 1024


class Sample(NamedTuple):
    """One look at the process."""

    at_s: float
    resident_mb: float
    log_mb: float
    handles: int
    database_mb: float
    events: float
    lag_s: float


def look(pid: int, database: Path, metrics: str) -> Sample:
    """Memory and handles from the system, files by their size, the rest from what the process tells."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(
        time.monotonic(),
        pages * os.sysconf("SC_PAGE_SIZE") / MB,
        _size_mb(database.with_name(f"{database.name}-wal")),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        _size_mb(database),
        sum(value for name, value in told(metrics) if name.startswith("appliance_ingest_events_total{")),
        next(value for name, value in told(metrics) if name == "appliance_ingest_lag_seconds"),
    )


def told(metrics: str) -> list[tuple[str, float]]:
    """Name, labels included, and value of each line in Prometheus form."""
    lines = [line for line in metrics.splitlines() if line and not line.startswith("#")]
    return [(line.rpartition(" ")[0], float(line.rpartition(" ")[2])) for line in lines]


def slope_per_hour(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """How much it grows in an hour, by the line that fits the samples best."""
    middle_s = sum(each.at_s for each in samples) / len(samples)
    middle = sum(of(each) for each in samples) / len(samples)
    spread = sum((each.at_s - middle_s) ** 2 for each in samples)
    return sum((each.at_s - middle_s) * (of(each) - middle) for each in samples) / spread * 3600


def _size_mb(path: Path) -> float:
    return path.stat().st_size / MB if path.exists() else 0.0
