"""Named points at which a test ends the process, as a crash would; without effect unless armed.

``CRASH_AT=page-before-commit:3`` in the environment of ``serve`` sends SIGKILL to the process when it
reaches that point for the third time. It takes ALLOW_LOOPBACK, which no public host name goes with.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Final

from appliance.errors import BadInput

VARIABLE: Final = "CRASH_AT"

POINTS: Final = (
    # A batch of the stream: rows and position written, then committed.
    "batch-before-commit",
    "batch-after-commit",
    # Which lines are in force: chosen at the start, proved, handed over.
    "switch-begin",
    "sealed-before-commit",
    "switch-before-commit",
    "switch-after-commit",
    # A snapshot: its beginning, each page of a listing, each portion of a signed export, what it did
    # not see, its end.
    "scan-before-commit",
    "page-before-commit",
    "page-after-commit",
    "portion-before-commit",
    "absence-before-commit",
    "certificate-before-commit",
    "certificate-after-commit",
    # History out of an archive: rows and how far it was read.
    "archive-before-commit",
    "archive-after-commit",
    # An audit: what it proves, and (after) that it was done.
    "verdict-before-commit",
    "verdict-after-commit",
    # A repository that began anew.
    "epoch-before-commit",
    # Removing what nobody follows.
    "prune-before-commit",
    "prune-after-commit",
    # A reference more or less: the row that decides who is kept.
    "want-before-commit",
    "unwant-before-commit",
    # A member's write: not yet sent, written at the PDS and unknown here, known here and not yet answered.
    "write-before-call",
    "write-after-call",
    "write-after-commit",
    # A sign-in: proved at the PDS and unknown here, known here and not yet answered.
    "sign-in-after-call",
    "sign-in-before-commit",
    "sign-in-after-commit",
    # A step of the schema.
    "migration-before-commit",
)


def _go_on(point: str) -> None:
    """Nobody has armed anything."""


reach: Callable[[str], None] = _go_on
"""Called with its name wherever one of ``POINTS`` lies: ``crash_points.reach(name)``."""


def arm(text: str, *, allowed: bool) -> None:
    """Die at ``name`` or ``name:times``, as ``CRASH_AT`` says; '' arms nothing. Raises BadInput."""
    global reach
    if not text:
        return
    if not allowed:
        raise BadInput(f"{VARIABLE} is for tests: it needs ALLOW_LOOPBACK, and no public host name")
    name, _, times = text.partition(":")
    if name not in POINTS:
        raise BadInput(f"{VARIABLE}: there is no point {name}")
    if not (times or "1").isdecimal() or int(times or "1") < 1:
        raise BadInput(f"{VARIABLE}: {times} is no number of times")
    passed = itertools.count(1)

    def die(point: str) -> None:
        if point == name and next(passed) == int(times or "1"):
            os.write(2, f"crash point {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    reach = die
