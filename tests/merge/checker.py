"""Runs schedules against the real store code and compares the rows with the truth."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from appliance.ingest import prune, snapshot
from appliance.ingest.apply import Applier, Batch
from appliance.ingest.merge import Rules
from appliance.protocol.events import CommitEvent, Event
from appliance.protocol.tid import tid_of
from appliance.store import actors, collections, repos
from appliance.store.database import Transaction
from appliance.store.migrations import schema_text
from tests.merge.schedules import KEYS, How, Live, Page, Schedule, make

START_US = 1_767_225_600_000_000
NOW_US = START_US + 3_600_000_000
# Where the keys of a repository live: posts and replies, and links that are each other's duplicates.
SHAPES = (collections.POST, collections.LIKE, collections.REPOST, collections.FOLLOW)
REVS = [tid_of(START_US + number * 1_000_000) for number in range(16)]
RKEYS = [tid_of(START_US - 1_000_000 + key) for key in range(KEYS)]
TARGETS = ["did:plc:" + letter * 24 for letter in "xyz"]
_DIGITS = str.maketrans("0189", "abcd")


class Store:
    """One database, its transaction open, in which many repositories go through their schedules."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.connection.execute("PRAGMA foreign_keys=ON")
        # The product runs one scan of an account at a time; the rule has to hold for several.
        one_scan = "actor INTEGER NOT NULL UNIQUE REFERENCES actor (id),\n  epoch"
        assert one_scan in schema_text()
        self.connection.executescript(schema_text().replace(one_scan, one_scan.replace("UNIQUE ", "")))
        self.connection.execute("BEGIN")
        self.tx = Transaction(self.connection)
        self.rules = Rules(validate=lambda _collection, _body: None)
        self.applier = Applier(self.rules)


class Case:
    """One repository in the store."""

    def __init__(self, store: Store, number: int, schedule: Schedule) -> None:
        self.did = f"did:plc:{number:024d}".translate(_DIGITS)
        self.schedule = schedule
        self.collection = SHAPES[number % len(SHAPES)]
        self.nsid = collections.NSIDS[self.collection]
        self._steps = iter(schedule.steps)
        self.next: Live | Page | None = next(self._steps, None)
        self.actor = actors.ensure(store.tx, self.did)
        # Members: whom they follow is tracked.
        store.tx.run("INSERT INTO member (actor, via, admitted_us) VALUES (?, 'open', 0)", (self.actor,))
        repos.want(store.tx, self.actor, START_US)
        self.scan_ids = [
            store.tx.insert(
                "INSERT INTO scan (actor, epoch, host, method, base_rev, collections, started_us)"
                " VALUES (?, 0, 'https://pds.test', 'listing', ?, '[]', 0)",
                (self.actor, REVS[base]),
            )
            for base in schedule.bases
        ]

    def step(self) -> None:
        self.next = next(self._steps, None)

    def event(self, live: Live) -> CommitEvent:
        return CommitEvent(
            self.did,
            REVS[live.rev],
            live.n,
            "delete" if live.value is None else "create",
            self.nsid,
            RKEYS[live.key],
            None if live.value is None else cid(live.value),
            None if live.value is None else self.body(live.key, live.value),
            START_US + live.rev * 1_000_000,
        )

    def body(self, key: int, value: int) -> bytes:
        target = TARGETS[(key + value) % len(TARGETS)]
        if self.collection == collections.POST:
            if value % 3 == 0:
                parent = f"at://{target}/app.bsky.feed.post/{RKEYS[key]}".encode()
                return _REPLY % (value, parent, parent)
            return _POST % value
        if self.collection == collections.FOLLOW:
            return _FOLLOW % target.encode()
        return _TO_RECORD % f"at://{target}/app.bsky.feed.post/{RKEYS[0]}".encode()


_TIME = b'"createdAt":"2026-01-01T00:00:00Z"'
_POST = b'{"text":"%d",' + _TIME + b"}"
_REPLY = b'{"text":"%d",' + _TIME + b',"reply":{"parent":{"uri":"%s"},"root":{"uri":"%s"}}}'
_FOLLOW = b'{"subject":"%s",' + _TIME + b"}"
_TO_RECORD = b'{"subject":{"uri":"%s"},' + _TIME + b"}"


def cid(value: int) -> str:
    """A CID that tells the value."""
    return f"bafyrei{value:012d}".translate(_DIGITS) + "a" * 40


def wrong(
    seeds: Iterable[int],
    how: How,
    *,
    together: int = 400,
    collect: Callable[[Transaction], None] | None = None,
    withhold: Callable[[Case, Live], bool] | None = None,
    check_index: bool = True,
) -> tuple[int, int]:
    """(schedules run, those after which the store did not hold what the repository holds).

    ``collect`` runs after every round; ``withhold`` says which operations the store never gets to see.
    """
    todo = list(seeds)
    bad = 0
    for start in range(0, len(todo), together):
        store = Store()
        cases = [Case(store, seed, make(seed, how)) for seed in todo[start : start + together]]
        _run(store, cases, collect, withhold)
        bad += sum(not _right(store, case) for case in cases)
        if check_index:
            faults = index_faults(store.tx)
            assert not faults, faults
            assert repos.wrong_refs(store.tx) == []
        store.connection.close()
    return len(todo), bad


def _run(
    store: Store,
    cases: list[Case],
    collect: Callable[[Transaction], None] | None,
    withhold: Callable[[Case, Live], bool] | None,
) -> None:
    busy = cases
    position = 0
    while busy:
        events: list[Event] = []
        for case in busy:
            step = case.next
            if isinstance(step, Live):
                if withhold is None or not withhold(case, step):
                    events.append(case.event(step))
                case.step()
        if events:
            position += 1
            tally = store.applier.apply_batch(
                store.tx, Batch("test", "jetstream-v2", position, START_US, events), now_us=NOW_US
            )
            assert tally.dead == tally.suspected == tally.strangers == 0
        for case in busy:
            step = case.next
            if isinstance(step, Page):
                _page(store, case, step)
                case.step()
        if collect is not None:
            collect(store.tx)
        busy = [case for case in busy if case.next is not None]


def _page(store: Store, case: Case, page: Page) -> None:
    scan = case.scan_ids[page.scan - 1]
    for key, value in page.rows:
        snapshot.snapshot_row(
            store.tx,
            store.rules,
            case.actor,
            case.did,
            case.collection,
            RKEYS[key],
            cid(value),
            case.body(key, value),
            epoch=0,
            base_rev=REVS[page.base],
            scan=scan,
            now_us=NOW_US,
        )
    if page.last:
        snapshot.collection_done(store.tx, case.actor, case.collection, 0, REVS[page.base], scan, NOW_US)
        store.tx.run("DELETE FROM scan WHERE id = ?", (scan,))


def _right(store: Store, case: Case) -> bool:
    rows = store.tx.all("SELECT rkey, cid, body FROM record WHERE actor = ? AND state = 1", (case.actor,))
    truth = {RKEYS[key]: (cid(value), case.body(key, value)) for key, value in case.schedule.truth.items()}
    return {rkey: (held, body) for rkey, held, body in rows} == truth


def collect_by_rule(tx: Transaction) -> None:
    """Tombstones that the rule allows to drop, as if each were old enough."""
    prune.collect_tombstones(tx, NOW_US + prune.TOMBSTONE_AGE_US + 1, 10_000)


def index_faults(tx: Transaction) -> list[str]:
    """Names of index rows and counters that aren't what the living records say, whatever came before."""
    return [name for name, sql in _FAULTS.items() if tx.value(sql) != 0]


def _count(column: str, truth: str) -> str:
    return (
        f"SELECT count(*) FROM record r LEFT JOIN post_count c ON c.id = r.id"
        f" WHERE coalesce(c.{column}, 0) <> ({truth})"
    )


def _actor_count(column: str, truth: str) -> str:
    return (
        f"SELECT count(*) FROM actor a LEFT JOIN actor_count c ON c.actor = a.id"
        f" WHERE coalesce(c.{column}, 0) <> ({truth})"
    )


_FAULTS = {
    "items of posts": "SELECT count(*) FROM record r LEFT JOIN item i ON i.id = r.id"
    " WHERE r.collection = 1 AND (r.state = 1) <> (i.id IS NOT NULL)",
    "posts": "SELECT count(*) FROM record r LEFT JOIN post p ON p.id = r.id"
    " WHERE r.collection = 1 AND (r.state = 1) <> (p.id IS NOT NULL)",
    "links": "SELECT count(*) FROM record r LEFT JOIN link l ON l.id = r.id"
    " WHERE r.collection IN (2, 3, 4, 6) AND (r.state = 1) <> (l.id IS NOT NULL)",
    "items of reposts": "SELECT count(*) FROM record r LEFT JOIN link l ON l.id = r.id"
    " LEFT JOIN item i ON i.id = r.id LEFT JOIN record s ON s.id = l.subject"
    " WHERE r.collection = 2 AND (r.state = 1 AND s.state <> 2) <> (i.id IS NOT NULL)",
    "items of second reposts": "SELECT count(*) FROM link l JOIN item i USING (id)"
    " WHERE l.kind = 2 AND (i.flags & 128 <> 0) <> l.waiting",
    "items of nothing": "SELECT count(*) FROM item JOIN record USING (id) WHERE collection NOT IN (1, 2)",
    "order": "SELECT count(*) FROM item i JOIN record r USING (id)"
    " WHERE (i.sort_ms, i.tie, i.arrival) <> (r.sort_ms, r.tie, r.arrival)",
    "arrivals": "SELECT count(*) - count(DISTINCT arrival) FROM record WHERE arrival IS NOT NULL",
    "pairs": "SELECT count(*) FROM link w WHERE waiting = 1 AND NOT EXISTS (SELECT 1 FROM link c"
    " WHERE (c.kind, c.actor, c.subject) = (w.kind, w.actor, w.subject) AND c.waiting = 0)",
    "likes": _count("likes", "SELECT count(*) FROM link WHERE kind = 1 AND waiting = 0 AND subject = r.id"),
    "reposts": _count(
        "reposts", "SELECT count(*) FROM link WHERE kind = 2 AND waiting = 0 AND subject = r.id"
    ),
    "replies": _count("replies", "SELECT count(*) FROM post p WHERE p.parent = r.id AND NOT p.flags & 32"),
    "quotes": _count("quotes", "SELECT count(*) FROM post p WHERE p.quote = r.id"),
    "follows": _actor_count(
        "follows", "SELECT count(*) FROM link WHERE kind = 3 AND waiting = 0 AND actor = a.id"
    ),
    "followers": _actor_count(
        "followers", "SELECT count(*) FROM link WHERE kind = 3 AND waiting = 0 AND subject = a.id"
    ),
    "actors' posts": _actor_count("posts", "SELECT count(*) FROM post p WHERE p.actor = a.id"),
}
