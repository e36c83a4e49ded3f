"""Random schedules of what may reach a store about one repository, and what it holds in truth.

Independent of the code under test: commits of a small repository, the operations of a stream from some
point of coverage on (duplicated, and lost ones delivered again by a replay), and listings read page
by page while commits go on. Where the stream has a gap, a scan that begins after it mends what it did.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

KEYS = 6
PAGE = 2

Value = int


@dataclass(frozen=True, slots=True)
class Live:
    """One operation: ``value`` None deletes."""

    rev: int
    n: int
    key: int
    value: Value | None


@dataclass(frozen=True, slots=True)
class Page:
    """What one request of a scan showed."""

    scan: int
    base: int
    rows: list[tuple[int, Value]]
    last: bool


@dataclass(frozen=True)
class How:
    """What kind of schedule; two wrong ways of reading are here too."""

    scans: int = 1
    loss: float = 0.0
    ascending: bool = False
    exact: bool = False
    base_read: Literal["before", "after"] = "before"
    late_coverage: bool = False
    gap: bool = False


@dataclass
class Schedule:
    """Steps in the order of their arrival, and the repository as it is in the end."""

    steps: list[Live | Page] = field(default_factory=list)
    truth: dict[int, Value] = field(default_factory=dict)
    bases: list[int] = field(default_factory=list)


def make(seed: int, how: How) -> Schedule:
    """The schedule of that seed. Revs are 1, 2, 3 …; 0 stands for the empty repository."""
    chance = random.Random(seed)
    below = chance.random
    now: dict[int, Value] = {}
    states: list[dict[int, Value]] = [{}]
    live: list[Live] = []
    commits = chance.randint(4, 14)
    firsts = [0]
    for rev in range(1, commits + 1):
        for n in range(chance.choice((1, 1, 1, 2, 3))):
            key = int(below() * KEYS)
            if key in now and below() < 0.5:
                del now[key]
                live.append(Live(rev, n, key, None))
            else:
                now[key] = value = int(below() * 2**30)
                live.append(Live(rev, n, key, value))
        firsts.append(len(live))
        states.append(dict(now))

    schedule = Schedule(truth=now)
    starts = sorted(int(below() * (commits + 1)) for _ in range(how.scans))
    covered = int(below() * (starts[0] + 1))
    if how.late_coverage:
        covered = min(commits, starts[0] + 1 + int(below() * 2))
    gap = range(0)
    if how.gap:
        gap = range(covered + 1, covered + 1 + int(below() * (commits - covered + 1)))
        starts[-1] = max(starts[-1], gap.stop - 1)
    scans = [_scan(scan, start, states, how, chance) for scan, start in enumerate(starts, 1)]
    schedule.bases = [pages[0].base for pages in scans]

    stream = [operation for operation in live[firsts[covered] :] if operation.rev not in gap]
    lost = [place for place in range(len(stream)) if below() < how.loss] if how.loss else []
    feed = [operation for place, operation in enumerate(stream) if place not in lost]
    if feed:
        back = int(below() * len(feed))
        until = back + int(below() * (len(feed) - back + 1))
        feed = feed[:until] + feed[back:until] + feed[until:]
    if lost:
        feed += stream[lost[0] : lost[-1] + 1]
    schedule.steps = _interleave(feed, scans, chance)
    return schedule


def _scan(
    scan: int, start: int, states: list[dict[int, Value]], how: How, chance: random.Random
) -> list[Page]:
    at = start
    seen_to: int | None = None
    pages: list[list[tuple[int, Value]]] = []
    while not pages or pages[-1]:
        if not how.exact:
            at = min(len(states) - 1, at + chance.choice((0, 0, 1, 2)))
        state = states[at]
        keys = sorted(state, reverse=not how.ascending)
        if seen_to is not None:
            keys = [key for key in keys if (key > seen_to if how.ascending else key < seen_to)]
        keys = keys[:PAGE]
        pages.append([(key, state[key]) for key in keys])
        if keys:
            seen_to = keys[-1]
    base = start if how.base_read == "before" else at
    return [Page(scan, base, rows, rows is pages[-1]) for rows in pages]


def _interleave(feed: list[Live], scans: list[list[Page]], chance: random.Random) -> list[Live | Page]:
    """Each source keeps its own order; the stream is as likely to come next as all scans together."""
    stream = list(reversed(feed))
    pages = [list(reversed(scan)) for scan in scans]
    steps: list[Live | Page] = []
    while stream or pages:
        if stream and (not pages or chance.random() < 0.5):
            steps.append(stream.pop())
        else:
            place = int(chance.random() * len(pages))
            steps.append(pages[place].pop())
            if not pages[place]:
                del pages[place]
    return steps
