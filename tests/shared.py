"""Where the given data lies."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("APPLIANCE_SHARED", Path(__file__).parents[1] / ".." / "shared")).resolve()


def shared(path: str) -> Path:
    """A given file or folder; the test is skipped where it is absent, and fails in CI."""
    found = ROOT / path
    if not found.exists():
        if os.environ.get("CI"):
            pytest.fail(f"given data is absent: {path}")
        pytest.skip(f"given data is absent: {path} (set APPLIANCE_SHARED)")
    return found
