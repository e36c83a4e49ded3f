"""The whole lives of many accounts in one database, on the store's own code.

Accounts are followed and left, read, compared, hidden, deleted, begun anew, restored from copies, pruned; the
stream repeats and loses what it tells, and tells lies; everybody is read or those of a list, and that
changes. Each step is one transaction or one look at the world, so those of different accounts, and of one
account's worker, mix in every order. After each round, and in the end, what is said to be complete must be
so.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from appliance.backfill import audit, compare, job, verdicts
from appliance.backfill.compare import Theirs
from appliance.backfill.tools import FOLLOWEE, Overtaken, still
from appliance.backfill.verdicts import Compared
from appliance.ingest import index, prune, snapshot
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.ingest.snapshot import Seen
from appliance.protocol.events import CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store import (
    actors,
    audits,
    backlog,
    coverage,
    gaps,
    pruning,
    records,
    repos,
    retention,
    scans,
)
from appliance.store.backlog import Due
from appliance.store.collections import OF_EVERYBODY
from appliance.store.database import Transaction
from appliance.store.migrations import schema_text
from appliance.store.repos import Repo
from tests.merge.accounts import BODY, RKEYS, Clock, World, cid, did_of, digest_of
from tests.merge.checker import index_faults

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
HOST: Final = "https://pds.test"
MEMBERS: Final = 2
ROUNDS: Final = 24
# Nothing of what this many rounds of undisturbed work leave undone will ever be done.
SETTLING: Final = 60
GRACE_US: Final = 24 * HOUR_US
GONE_GRACE_US: Final = 72 * HOUR_US

_SAME: Final = {f"{state}>{state}" for state in repos.STATES}
_STEPS: Final = _SAME | {
    f"{old}>{new}" for leaves, reaches in repos.ALLOWED.values() for old in leaves for new in reaches
}
_GUARD: Final = f"""
CREATE TEMP TRIGGER guard BEFORE UPDATE ON repo WHEN OLD.state || '>' || NEW.state NOT IN
  ({", ".join(f"'{step}'" for step in sorted(_STEPS))})
  OR NEW.epoch < OLD.epoch OR (NEW.state = 'LIVE' AND NEW.doubt <> '')
BEGIN SELECT RAISE(ABORT, 'no such transition'); END;
"""


@dataclass
class How:
    """Which kinds of trouble there are; each seldom enough that lives come to rest between them."""

    loses: bool = True
    accounts: bool = True
    goes_back: bool = True
    lists: bool = False
    leaves: bool = True


@dataclass
class Work:
    """What a worker has in hand: from its claim on until it gives the account back."""

    due: Due
    repo: Repo
    kind: Literal["scan", "settle", "audit"]
    scan: int | None = None
    phase: str = "ask"
    level: audits.Level = "listing"
    status: str | None = None
    rev: str = ""
    secrets: int = 0
    page: tuple[list[Seen], str | None] | None = None
    listed: dict[str, str] = field(default_factory=dict)
    cursor: str | None = None


class Life:
    """One account: its world, who follows it, and the worker that has it in hand."""

    def __init__(self, store: Store, number: int, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(did_of("a", number), self.chance, store.clock)
        self.number = number
        self.actor = actors.ensure(store.tx, self.world.did)
        self.follows: dict[tuple[int, int], bool] = {}
        self.work: Work | None = None
        self.noticed = 0  # of the world's secrets, those that we know of or have read past
        self.owed = False

    @property
    def blind(self) -> bool:
        """Something has happened of which nobody can know yet."""
        return self.world.secrets > self.noticed


class Store:
    """One database, its transaction open, and the streams that are read into it."""

    def __init__(self, how: How, seed: int) -> None:
        self.how = how
        self.chance = random.Random(seed)
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.connection.executescript(schema_text())
        self.connection.executescript(_GUARD)
        self.connection.execute("BEGIN")
        self.tx = Transaction(self.connection)
        self.rules = Rules(validate=lambda _collection, _body: None)
        self.applier = Applier(self.rules)
        self.clock = Clock()
        self.position = 0
        self.member_events: list[Event] = []
        self.members = [did_of("m", number) for number in range(MEMBERS)]
        for did in self.members:
            actor = actors.ensure(self.tx, did)
            self.tx.run("INSERT INTO member (actor, via, admitted_us) VALUES (?, 'open', 0)", (actor,))
            repos.want(self.tx, actor, self.clock.tick())
        self.listed: set[str] = set()
        self.candidate: tuple[int, set[str] | None, int, coverage.Mode] | None = None
        self.line = coverage.opened(self.tx, "test", "FULL", "", None, None, None, self.clock.us)

    # ---------------------------------------------------------------- the streams

    def carries(self, did: str) -> bool:
        """Does any connection that stands bring what happens to this account?"""
        if coverage_mode(self) == "FULL" or did in self.listed or did in self.members:
            return True
        return self.candidate is not None and (self.candidate[1] is None or did in self.candidate[1])

    def deliver(self, events: list[Event]) -> None:
        """A batch, as the pipeline hands it to the writer."""
        self.position += 1
        line = "" if coverage_mode(self) == "FULL" else "test dids"
        batch = Batch("test", "jetstream-v2", self.position, self.clock.tick(), events, line=line)
        self.applier.apply_batch(self.tx, batch, now_us=self.clock.us)

    def change_lines(self, lives: list[Life]) -> None:
        """The lines: a candidate opens, is proved or lost, takes over."""
        tx, now_us = self.tx, self.clock.tick()
        mode = coverage_mode(self)
        if self.candidate is None:
            target: coverage.Mode = mode
            if self.chance.random() < 0.1:
                target = "FULL" if mode == "DIDS" else "DIDS"
            wanted = set(coverage.wanted(tx))
            if target == mode and (mode == "FULL" or wanted == self.listed):
                return
            dids = None if target == "FULL" else wanted
            row = coverage.opened(tx, "test", target, "x", len(wanted), self.position, now_us, now_us)
            for life in lives:
                if not self.carries(life.world.did):
                    life.world.feed.clear()  # of the time before its cursor nothing is asked for
            self.candidate = (row, dids, now_us, target)
            return
        row, dids, from_us, target = self.candidate
        if self.chance.random() < 0.2:
            coverage.closed(tx, row, None, "lost", now_us)
            self.candidate = None
            return
        coverage.live(tx, row, now_us)
        coverage.sealed(tx, row, now_us)
        if self.chance.random() < 0.5:
            return
        self.candidate = None
        if dids is not None:
            if any(proved and did not in dids for did, proved in coverage.wanted(tx).items()):
                coverage.closed(tx, row, None, "left somebody out", now_us)
                return
            coverage.unprove_leaving(tx)
        coverage.prove(tx, from_us, dids)
        coverage.set_mode(tx, target)
        coverage.closed(tx, self.line, now_us, "another took over", now_us)
        self.line, self.listed = row, dids or set()

    # ---------------------------------------------------------------- upkeep

    def upkeep(self, rows_max: int = 1) -> None:
        """What the pruner and the schedule do in a round."""
        tx, now_us = self.tx, self.clock.tick()
        for actor in repos.find_unwanted(tx, now_us - GRACE_US, 20):
            repos.prune(tx, actor, now_us - GRACE_US, now_us)
            prune.prune_batch(tx, actor, rows_max, now_us)
        for old in retention.of_gone(tx, now_us - GONE_GRACE_US, rows_max):
            if old.state == records.LIVING:
                index.vanish(tx, old.id, old.collection, now_us, forgotten=True)
            pruning.forget_record(tx, old.id)
        prune.collect_tombstones(tx, now_us, 50)
        audits.plan(tx, now_us)
        gaps.close_settled(tx, now_us)


def coverage_mode(store: Store) -> coverage.Mode:
    """As it is stored; not by the function under test, which a wrong variant changes."""
    found: coverage.Mode = store.tx.value("SELECT value FROM meta WHERE name = 'coverage'") or "FULL"
    return found


# -------------------------------------------------------------------- what happens in the world


def happen(store: Store, life: Life) -> None:
    """One thing happens to the account."""
    world, how = life.world, store.how
    dice = life.chance.random()
    if dice < 0.5:
        world.commit()
    elif dice < 0.62 and how.leaves:
        _follow(store, life)
    elif dice < 0.68 and how.loses and world.feed:
        world.lose()
        life.owed = True
        if life.chance.random() < 0.5:
            notice(store, life)
    elif dice < 0.76 and life.owed:
        notice(store, life)
    elif dice < 0.80 and world.told:
        world.feed.extendleft(reversed(world.told))  # a replay: older than what is still to be told
    elif dice < 0.86 and how.accounts:
        if world.status is None:
            status = life.chance.choice(("deactivated", "takendown", "deleted"))
            world.turn(status, told=life.chance.random() < 0.7)
        elif world.status != "deleted":
            world.turn(None, told=life.chance.random() < 0.7)
        elif not world.feed:
            world.begin_anew(told=life.chance.random() < 0.7)
    elif dice < 0.89 and how.accounts:
        world.say(life.chance.choice((None, "deleted", "deactivated", "desynchronized")))
    elif dice < 0.92 and how.goes_back and not world.feed and world.status is None:
        world.roll_back()


def notice(store: Store, life: Life) -> None:
    """The stream finds that it has not told everything: of this account, or of nobody knows whom."""
    now_us = store.clock.tick()
    gaps.add(store.tx, "test", now_us - HOUR_US, now_us, "model", now_us)
    repos.suspect(store.tx, life.actor, f"{repos.STREAM_GAP}: model", now_us, from_us=now_us - HOUR_US)
    life.noticed, life.owed = life.world.secrets, False


def _follow(store: Store, life: Life) -> None:
    """A member follows the account, follows it once more, or takes one of these back."""
    slot = (int(life.chance.random() * MEMBERS), int(life.chance.random() * 2))
    at_us = store.clock.tick()
    begins = not life.follows.get(slot)
    life.follows[slot] = begins
    member, times = slot
    body = b'{"subject":"%s","createdAt":"2026-01-01T00:00:00Z"}' % life.world.did.encode()
    store.member_events.append(
        CommitEvent(
            store.members[member],
            tid_of(at_us),
            0,
            "create" if begins else "delete",
            "app.bsky.graph.follow",
            tid_of(life.number * 10 + times),
            cid(at_us % 2**30) if begins else None,
            body if begins else None,
            at_us,
        )
    )


# -------------------------------------------------------------------- what the workers do


def work(store: Store, life: Life, due: Due | None, *, fails: bool) -> None:
    """One step of the account's worker; ``due`` where there is something to begin."""
    task = life.work
    if task is None:
        if due is not None:
            _claim(store, life, due)
        elif life.chance.random() < 0.3:
            _begin_audit(store, life)
        return
    if fails and life.chance.random() < 0.08:
        _fail(store, life, task)
        return
    try:
        _STEP[task.phase](store, life, task)
    except Overtaken:
        life.work = None


def _claim(store: Store, life: Life, due: Due) -> None:
    try:
        repo, scan = job._claim(store.tx, due, store.clock.tick())
    except Overtaken:
        return
    kind: Literal["scan", "settle"] = "settle" if scan is None and job.is_auditable(repo) else "scan"
    found = repos.find(store.tx, life.actor)
    assert found is not None
    task = Work(due, found, kind, None if scan is None else scan.id)
    if scan is not None:
        # Where an earlier worker left off; what it had read past is not known any more.
        task.phase = "read" if scan.collections else "finish"
        task.rev, task.cursor, task.secrets = scan.base_rev, scan.cursor, -1
    life.work = task


def _begin_audit(store: Store, life: Life) -> None:
    repo = repos.find(store.tx, life.actor)
    due = backlog.due_of(store.tx, life.actor)
    if repo is not None and due is not None and repo.state == "LIVE":
        level: audits.Level = "rev" if life.chance.random() < 0.5 else "listing"
        life.work = Work(due, repo, "audit", level=level)


def _fail(store: Store, life: Life, task: Work) -> None:
    """The process ends, the server fails, or the account has moved."""
    life.work = None
    tx, now_us, dice = store.tx, store.clock.tick(), life.chance.random()
    repo = repos.find(tx, life.actor)
    if dice < 0.4 or repo is None:
        return
    if task.kind == "audit":
        audits.judged(tx, life.actor, task.level, "failed", None, now_us + HOUR_US, now_us)
    elif dice < 0.8:
        if not repos.wait(tx, life.actor, repo.epoch, "host: no answer", repo.attempts + 1, now_us, now_us):
            repos.put_off(tx, life.actor, repo.epoch, repo.attempts + 1, now_us)
    elif repo.state == "SCANNING" and repo.epoch == task.repo.epoch:
        scans.end_of(tx, life.actor)
        repos.restart(tx, life.actor, repo.epoch, "the account has moved", now_us)


def _ask(_store: Store, life: Life, task: Work) -> None:
    world = life.world
    task.status, task.rev, task.secrets = world.status, world.rev, world.secrets
    task.phase = "decide"


def _decide(store: Store, life: Life, task: Work) -> None:
    """The server has said how it stands: end here, or read."""
    tx, now_us, repo = store.tx, store.clock.tick(), task.repo
    if task.status is not None:
        if task.kind == "audit":
            now = repos.find(tx, life.actor)
            if now is not None and (now.state, now.epoch) == (repo.state, repo.epoch):
                _set_aside(store, task)
        else:
            _set_aside(store, task)
        life.work = None
        return
    if repo.state in ("INACTIVE", "GONE"):
        repos.reactivate(tx, life.actor, now_us)
        actors.confirm_status(tx, life.actor, None)
        life.work = None
        return
    if task.kind == "scan":
        _decide_scan(store, life, task, now_us)
        return
    if task.kind == "audit" and task.level == "rev":
        outcome = audit.by_rev(tx, repo, task.rev, now_us)
        audits.judged(tx, life.actor, "rev", outcome, task.rev, now_us + HOUR_US, now_us)
        life.work = None
        return
    if repos.confirm_rev(tx, life.actor, repo.epoch, repo.state, task.rev, now_us):
        life.work = None
        return
    said = verdicts.rev_says(repo, task.rev)
    if said == "back":
        if task.kind == "settle":
            verdicts.regressed(tx, repo, now_us)
        else:
            audit.by_rev(tx, repo, task.rev, now_us)
    if said == "undecided":
        task.phase = "compare"
    else:
        life.work = None


def _decide_scan(store: Store, life: Life, task: Work, now_us: int) -> None:
    tx, repo = store.tx, task.repo
    life.work = None
    if repo.base_rev <= task.rev < repo.seen_rev and repo.attempts < job.BEHIND_ATTEMPTS_MAX:
        repos.wait(tx, life.actor, repo.epoch, "host: behind", repo.attempts + 1, now_us, now_us)
        return
    if task.rev < max(repo.base_rev, repo.seen_rev):
        repos.raise_epoch(tx, life.actor, repo.epoch, "the PDS went back", now_us)
        return
    still(tx, repo)
    actors.confirm_status(tx, life.actor, None)
    task.scan = snapshot.begin_scan(
        tx,
        life.actor,
        epoch=repo.epoch,
        host=HOST,
        method="listing",
        base_rev=task.rev,
        collections=OF_EVERYBODY,
        now_us=now_us,
    )
    if task.scan is not None:
        life.work, task.phase = task, "read"


def _set_aside(store: Store, task: Work) -> None:
    tx, repo, now_us = store.tx, task.repo, store.clock.tick()
    assert task.status is not None
    repos.deactivate(tx, repo.actor, task.status, now_us)
    if task.status == "deleted":
        repos.bury(tx, repo.actor, repo.epoch, now_us)
    actors.confirm_status(tx, repo.actor, task.status)
    again = repo.state in ("INACTIVE", "GONE") and repo.reason == task.status
    repos.put_off(tx, repo.actor, repo.epoch, repo.attempts + 1 if again else 1, now_us + HOUR_US)


def _read(_store: Store, life: Life, task: Work) -> None:
    world = life.world
    if world.status is not None:
        task.phase = "ask"  # it refuses: what has become of it?
        return
    shown = world.listing(task.cursor)
    task.page = [Seen(RKEYS[key], cid(value), BODY % value) for key, value in shown.rows], shown.cursor
    task.phase = "store"


def _store(store: Store, life: Life, task: Work) -> None:
    tx, now_us = store.tx, store.clock.tick()
    assert task.scan is not None
    assert task.page is not None
    rows, task.cursor = task.page
    found = snapshot.page_done(tx, task.scan, store.rules, rows, task.cursor, now_us)
    while found is not None and task.cursor is None and found.collections:
        found = snapshot.page_done(tx, task.scan, store.rules, (), None, now_us)
    if found is None:
        raise Overtaken
    task.phase = "read" if found.collections else "finish"


def _finish(store: Store, life: Life, task: Work) -> None:
    tx, now_us = store.tx, store.clock.tick()
    still(tx, task.repo)
    scan = None if task.scan is None else scans.find(tx, task.scan)
    if scan is None:
        raise Overtaken
    exact = life.world.rev == scan.base_rev
    snapshot.finish_scan(tx, scan.id, now_us, read=OF_EVERYBODY)
    found = repos.find(tx, life.actor)
    assert found is not None
    if not exact or found.seen_rev > scan.base_rev:
        backlog.forget_digest(tx, life.actor)
        audits.hasten(tx, [life.actor], "listing", now_us)
    life.noticed = max(life.noticed, task.secrets)
    life.work = None


def _compare(_store: Store, life: Life, task: Work) -> None:
    """Page by page, while the account goes on writing."""
    world = life.world
    if world.status is not None:
        task.phase = "ask"
        return
    shown = world.listing(task.cursor)
    task.listed.update((RKEYS[key], cid(value)) for key, value in shown.rows)
    task.cursor = shown.cursor
    if shown.cursor is None:
        task.phase = "conclude"


def _conclude(store: Store, life: Life, task: Work) -> None:
    tx, now_us, repo = store.tx, store.clock.tick(), task.repo
    life.work = None
    listed: dict[str, dict[str, str]] = {nsid: {} for nsid in FOLLOWEE}
    listed[FOLLOWEE[0]] = task.listed
    theirs = Theirs(task.rev, life.world.rev, "listing", listed, dict.fromkeys(FOLLOWEE, ""))
    found = compare.differences(tx, life.actor, repo.epoch, theirs)
    seen = Compared(theirs, found, not life.world.feed, 0, [])
    settles = task.kind == "settle"
    outcome = verdicts.conclude(tx, task.due, repo, "listing", seen, now_us, at_once=settles)
    if outcome is not None:
        audits.judged(tx, life.actor, "listing", outcome, task.rev, now_us + DAY_US, now_us)
    now = repos.find(tx, life.actor)
    if settles and now is not None and (now.state, now.epoch) == (repo.state, repo.epoch):
        repos.resync(tx, life.actor, repo.epoch, repo.reason, 0, now_us)


_STEP: Final = {
    "ask": _ask,
    "decide": _decide,
    "read": _read,
    "store": _store,
    "finish": _finish,
    "compare": _compare,
    "conclude": _conclude,
}


# -------------------------------------------------------------------- running, and judging


def wrong(seeds: Iterable[int], how: How, *, together: int = 60) -> tuple[int, int]:
    """(lives run, those about which something untrue was said at any moment, or that never came to rest)."""
    todo = list(seeds)
    bad = 0
    for start in range(0, len(todo), together):
        some = todo[start : start + together]
        store = Store(how, some[0])
        lives = [Life(store, number, seed) for number, seed in enumerate(some)]
        bad += len(_run(store, lives))
        store.connection.close()
    return len(todo), bad


def _run(store: Store, lives: list[Life]) -> set[int]:
    bad: set[int] = set()
    for life in lives:
        _follow(store, life)
    for number in range(ROUNDS + SETTLING):
        disturbed = number < ROUNDS
        if not disturbed and number == ROUNDS:
            for life in lives:
                notice(store, life)  # whatever was lost is found out in the end
        _round(store, lives, disturbed=disturbed)
        bad |= _untrue(store, lives)
        if not disturbed and number > ROUNDS + 4 and _at_rest(store, lives):
            break
    return bad | _unfinished(store, lives)


def _round(store: Store, lives: list[Life], *, disturbed: bool) -> None:
    chance = store.chance
    store.clock.us += chance.choice((HOUR_US // 60, HOUR_US, HOUR_US, 8 * HOUR_US, 3 * DAY_US))
    tx = store.tx
    events: list[Event] = store.member_events
    store.member_events = []
    for life in lives:
        if disturbed:
            happen(store, life)
        if not store.carries(life.world.did):
            life.world.feed.clear()
        elif not disturbed or life.chance.random() < 0.7:
            events += life.world.take()
    store.deliver(events)
    store.upkeep()
    due = {one.actor: one for one in backlog.due(tx, store.clock.us, (), (), 10_000, 10_000)}
    for life in lives:
        for _ in range(1 if life.chance.random() < 0.5 else 3):
            work(store, life, due.pop(life.actor, None), fails=disturbed)
    if store.how.lists:
        store.change_lines(lives)
    if disturbed and chance.random() < 0.02:
        repos.suspect_all(tx, f"{repos.STREAM_GAP}: everybody", store.clock.tick(), from_us=None)
        for life in lives:
            life.noticed, life.owed = life.world.secrets, False


def _held(store: Store) -> dict[int, dict[str, str]]:
    held: dict[int, dict[str, str]] = {}
    for actor, rkey, found in store.tx.all(
        "SELECT actor, rkey, cid FROM record WHERE collection = 1 AND state = 1"
    ):
        held.setdefault(actor, {})[rkey] = found
    return held


def _untrue(store: Store, lives: list[Life]) -> set[int]:
    """Lives about which the database says what is not so."""
    rows = {
        row[0]: row[1:]
        for row in store.tx.all(
            "SELECT actor, state, cert_rev, cert_digest, cover_us, doubt, epoch FROM repo"
        )
    }
    held = _held(store)
    lists = coverage_mode(store) != "FULL"
    bad = set()
    for life in lives:
        world = life.world
        state, rev, digest, cover_us, _doubt, _epoch = rows.get(life.actor, ("", None, None, None, "", 0))
        if lists and cover_us is not None and state != "PRUNING" and not store.carries(world.did):
            bad.add(life.number)
        if state != "LIVE" or life.blind or world.status is not None:
            continue
        if not world.feed and held.get(life.actor, {}) != _rows(world.state):
            bad.add(life.number)
        if digest is not None and not any(
            digest == digest_of(state)[0] for at, state in world.past if at == rev
        ):
            bad.add(life.number)
    return bad


def _rows(state: dict[int, int]) -> dict[str, str]:
    return {RKEYS[key]: cid(value) for key, value in state.items()}


def _at_rest(store: Store, lives: list[Life]) -> bool:
    return store.candidate is None and not _open(store, lives)


def _open(store: Store, lives: list[Life]) -> set[int]:
    """Lives that are not yet as they have to be in the end."""
    rows = {row[0]: row[1:] for row in store.tx.all("SELECT actor, state, cert_rev, refs FROM repo")}
    held = _held(store)
    left = {row[0] for row in store.tx.all("SELECT DISTINCT actor FROM record WHERE state <> 0")}
    found = set()
    for life in lives:
        world = life.world
        state, rev, _refs = rows.get(life.actor, ("", None, 0))
        if not any(life.follows.values()):
            right = state == "" and life.actor not in left
        elif world.status == "deleted":
            right = state == "GONE"
        elif world.status is not None:
            right = state in ("INACTIVE", "GONE")  # who was deleted once may be only asleep by now
        else:
            right = state == "LIVE" and rev is not None and held.get(life.actor, {}) == _rows(world.state)
        if not right:
            found.add(life.number)
    return found


def _unfinished(store: Store, lives: list[Life]) -> set[int]:
    """What is not right in the end; raises where that is nobody's in particular."""
    faults = index_faults(store.tx)
    assert not faults, faults
    assert repos.wrong_refs(store.tx) == []
    assert store.tx.value("SELECT count(*) FROM audit WHERE actor NOT IN (SELECT actor FROM repo)") == 0
    still_open = "SELECT count(*) FROM finding f JOIN repo r ON r.actor = f.actor AND r.state = 'LIVE'"
    assert store.tx.value(f"{still_open} WHERE f.outcome = 'open'") == 0, "a finding stays open"
    return _open(store, lives)
