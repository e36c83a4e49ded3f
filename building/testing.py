"""The whole test run: all cores share the work, and what failed has a second look, alone.

docs/decisions/0021-a-second-look-at-what-failed.md says why, and what keeps it from hiding a defect.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from building.environment import run, say

WORKERS_MAX = 4
# More than these is no accident of a busy machine.
SECOND_LOOKS_MAX = 5
_SOME_FAILED = 1


def run_all(arguments: Sequence[str]) -> int:
    """Every test; the exit code. What fails among the others and then holds alone is named, not counted."""
    with TemporaryDirectory() as folder:
        failed = Path(folder) / "failed"
        together = ["-n", str(min(os.cpu_count() or 1, WORKERS_MAX)), "--failed-to", str(failed)]
        code = run(["-m", "pytest", *together, *arguments])
        if code != _SOME_FAILED or not failed.exists():
            return code
        tests = failed.read_text("utf-8").splitlines()
    if not 0 < len(tests) <= SECOND_LOOKS_MAX:
        return code
    say(f"{len(tests)} failed among the others; each has a second look, alone")
    code = run(["-m", "pytest", *arguments, *tests])
    if code == 0:
        say("UNSTEADY, each of them a defect to be found: " + ", ".join(tests))
    return code
