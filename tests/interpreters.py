"""The Pythons of this machine, whoever installed them."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

MINORS = range(6, 16)


@functools.cache
def interpreters() -> dict[tuple[int, int], Path]:
    """One working interpreter for each version found."""
    names = ["python2.7", "python3", *(f"python3.{minor}" for minor in MINORS)]
    candidates = [Path(sys.executable)]
    candidates += [Path(path) for path in map(shutil.which, names) if path]
    # Version managers keep one folder a version, side by side.
    candidates += sorted(Path(sys.base_prefix).parent.glob("*/bin/python3"))
    candidates += sorted(Path(sys.base_prefix).parent.glob("2.*/bin/python"))
    found: dict[tuple[int, int], Path] = {}
    for candidate in candidates:
        version = _version(candidate)
        if version is not None:
            found.setdefault(version, candidate)
    return found


def _version(candidate: Path) -> tuple[int, int] | None:
    if not os.access(candidate, os.X_OK):
        return None
    done = subprocess.run(
        [candidate, "-c", "import sys; print('%d %d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)
