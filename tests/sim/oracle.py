"""The judge: what the world is and was, against what the appliance holds and shows.

It shares no code with the appliance: it reads the world from devnet's state and chronicle, the timelines
through the public door, and the rows by SQL of its own. Every complaint is a sentence; none means that
nothing was wrong at that moment.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from appliance.devnet import truth
from appliance.devnet.entries import CommitBody
from appliance.devnet.losses import Lost
from appliance.devnet.state import Hosted
from appliance.devnet.times import iso_ms
from appliance.protocol import cid
from tests.sim.rig import Sim, token

JUDGED = ("app.bsky.feed.post", "app.bsky.feed.repost")
# What is kept of whoever is followed, and is no member.
FOLLOWEE = (*JUDGED, "app.bsky.actor.profile")
PROMISED_S = 6 * 3600.0
# How long an operation may be on its way while nothing is wrong.
TRANSIT_S = 30.0
LIVING, DELETED, UNFIT = 1, 2, 3
PAGE = 100
PAGES_MAX = 400


class Row(NamedTuple):
    """One record row of the appliance."""

    did: str
    path: str
    state: int
    epoch: int
    rev: str
    cid: str | None
    sort_ms: int | None


class Repo(NamedTuple):
    """What the appliance says of one account."""

    did: str
    state: str
    reason: str
    doubt: str
    epoch: int
    base_rev: str
    seen_rev: str
    cert_rev: str | None
    cert_method: str | None
    cert_digest: bytes | None
    cert_count: int | None
    refs: int


@dataclass
class Seen:
    """What the oracle remembers of a key from look to look."""

    state: int
    epoch: int
    rev: str
    sort_ms: int | None


@dataclass
class Report:
    """One look."""

    complaints: list[str] = field(default_factory=list)
    accounts: int = 0
    certified: int = 0
    rows: int = 0
    operations: int = 0
    incomplete: int = 0

    def complain(self, text: str) -> None:
        if len(self.complaints) < 50:
            self.complaints.append(text)

    def __bool__(self) -> bool:
        return bool(self.complaints)


class Oracle:
    """Looks again and again at one simulation; remembers what it saw, for what must never be undone."""

    def __init__(self, sim: Sim, database: Path | None = None) -> None:
        self.sim = sim
        self.database = database or sim.appliance.database
        self.state = sim.network.state
        assert self.state.chronicle is not None, "the world keeps its history"
        self.chronicle = self.state.chronicle
        self.looks = 0
        self.checks: Counter[str] = Counter()
        self.states: set[str] = set()
        self._keys: dict[tuple[str, str], Seen] = {}
        self._read_to = 1
        self._collections: set[str] = set()
        self._operations: list[tuple[int, int, str, str, str, str]] = []

    # ---- looks

    def look(self, *, promised_s: float = PROMISED_S) -> Report:
        """What must hold at every moment. Costs no virtual time."""
        report = Report()
        self.looks += 1
        with closing(self._connect()) as rows:
            repos = {repo.did: repo for repo in _repos(rows)}
            records = list(_records(rows))
            findings = _open_findings(rows)
            reached_us = rows.execute("SELECT coalesce(max(time_us), 0) FROM upstream").fetchone()[0]
            self._collections = {nsid for (nsid,) in rows.execute("SELECT nsid FROM collection")}
        self.states |= {repo.state for repo in repos.values()}
        report.accounts = len(repos)
        report.rows = len(records)
        by_account: dict[str, dict[str, Row]] = {}
        for row in records:
            by_account.setdefault(row.did, {})[row.path] = row
        for repo in repos.values():
            self._judge_certificate(repo, by_account.get(repo.did, {}), report)
        self._judge_memory(records, repos, report)
        self._judge_operations(repos, by_account, findings, report, promised_s, reached_us)
        report.incomplete = sum(repo.state != "LIVE" for repo in repos.values())
        return report

    async def final(self) -> Report:
        """What must hold in the end, when every fault is over and the promised time has passed."""
        report = self.look()
        with closing(self._connect()) as rows:
            repos = {repo.did: repo for repo in _repos(rows)}
            records = list(_records(rows))
        here: dict[str, dict[str, str]] = {}
        for row in records:
            if row.state in (LIVING, UNFIT) and row.cid is not None:
                here.setdefault(row.did, {})[row.path] = row.cid
        for repo in repos.values():
            account = self.state.accounts.get(repo.did)
            if account is None or not account.active or repo.refs == 0:
                continue
            self.checks["digests"] += 1
            ours, theirs = here.get(repo.did, {}), self.world(repo.did)
            if repo.state == "LIVE" and digest(ours) != digest(theirs):
                report.complain(f"{repo.did} is LIVE and differs: {difference(ours, theirs)}")
        for member in self.sim.members:
            await self._judge_timeline(member, repos, report)
        return report

    # ---- the world

    def world(self, did: str, rev: str | None = None) -> dict[str, str]:
        """Path to CID of the judged collections, now or at a rev."""
        hidden = self._hidden(did)
        if rev is None:
            found: dict[str, bytes] | None = dict(self.state.repository(did).records())
        else:
            found = self.chronicle.records(did, rev)
        return {
            path: cid.to_text(cid.cid_of(block))
            for path, block in (found or {}).items()
            if path.split("/")[0] in JUDGED and path not in hidden
        }

    def operations(self) -> list[tuple[int, int, str, str, str, str]]:
        """(n, time, did, path, action, rev) of every write of the judged collections, in order."""
        log = self.state.log
        while self._read_to < log.end:
            for told in log.read(self._read_to, 1000):
                event = told.event
                self._read_to = event.n + 1
                if not isinstance(event.body, CommitBody):
                    continue
                for write in event.body.writes:
                    if write.path.split("/")[0] in JUDGED:
                        self._operations.append(
                            (event.n, event.time_us, event.did, write.path, write.action, event.body.rev)
                        )
        return self._operations

    def lost(self) -> list[Lost]:
        """Operations that some stream never told, of what is judged."""
        return [
            lost
            for stream in self.sim.network.streams.values()
            for lost in stream.losses.lost
            if lost.path.split("/")[0] in JUDGED
        ]

    def follows(self, did: str) -> bool:
        """Whether some member's timeline shows this account, who is none of them and active."""
        account = self.state.accounts[did]
        with closing(self._connect()) as rows:
            wanted = rows.execute(
                "SELECT 1 FROM repo r JOIN actor a ON a.id = r.actor WHERE a.did = ? AND r.refs > 0", (did,)
            ).fetchone()
        return account.active and wanted is not None and not self._is_member(did)

    # ---- judgements

    def _judge_certificate(self, repo: Repo, rows: dict[str, Row], report: Report) -> None:
        """A certificate names a rev; at that rev the repository held exactly this."""
        if repo.state != "LIVE" or repo.cert_rev is None:
            return
        report.certified += 1
        records = self.chronicle.records(repo.did, repo.cert_rev)
        if records is None:
            report.complain(f"{repo.did} is certified at {repo.cert_rev}, which never was")
            return
        then = self.world(repo.did, repo.cert_rev)
        self.checks["certificates"] += 1
        if repo.cert_digest is not None:
            self._judge_digest(repo, records, report)
        for path in then.keys() | rows.keys():
            row = rows.get(path)
            ours = row.cid if row is not None and row.state in (LIVING, UNFIT) else None
            if ours == then.get(path) or (
                row is not None and (row.epoch, row.rev) > (repo.epoch, repo.cert_rev)
            ):
                continue
            if repo.cert_digest is None and ours in self._values_since(repo.did, repo.cert_rev, path):
                # It was written to while it was listed: right by the merge rule, and of no single rev.
                continue
            report.complain(
                f"{repo.did} is certified at {repo.cert_rev}, and {path} is {ours}, there {then.get(path)};"
                f" {row} {repo}"
            )

    def _values_since(self, did: str, rev: str, path: str) -> set[str | None]:
        """Every value of that key at this rev and later."""
        found: set[str | None] = set()
        for later in self.chronicle.since(did, rev):
            block = (self.chronicle.records(did, later) or {}).get(path)
            found.add(None if block is None else cid.to_text(cid.cid_of(block)))
        return found

    def _judge_digest(self, repo: Repo, records: dict[str, bytes], report: Report) -> None:
        """Of what is kept of that kind of account, less what its server has taken down."""
        kept = self._collections if self._is_member(repo.did) else FOLLOWEE
        hidden = self._hidden(repo.did)
        paths = {
            path: cid.to_text(cid.cid_of(block))
            for path, block in records.items()
            if path.split("/")[0] in kept and path not in hidden
        }
        self.checks["digests of certificates"] += 1
        told = repo.cert_count, (repo.cert_digest or b"").hex()
        if told != (len(paths), digest(paths)):
            report.complain(f"{repo.did}: certified {told[0]} records at {repo.cert_rev}, there {len(paths)}")

    def _hidden(self, did: str) -> set[str]:
        """Paths that the account's server leaves out of listings: its own word counts for those."""
        server = self.sim.network.pds[self.state.accounts[did].pds]
        mine = f"at://{did}/"
        return {uri.removeprefix(mine) for uri in server.faults.hide_records if uri.startswith(mine)}

    def _judge_memory(self, records: list[Row], repos: dict[str, Repo], report: Report) -> None:
        """What was hidden by a newer fact is never visible again; a place in the order never changes."""
        for row in records:
            key = row.did, row.path
            before = self._keys.get(key)
            if before is not None:
                self.checks["memory"] += 1
                back = before.state == DELETED and row.state in (LIVING, UNFIT)
                if back and (row.epoch, row.rev) <= (before.epoch, before.rev) and not self._so_it_was(row):
                    report.complain(f"{row.did}/{row.path} is back at {row.rev}, deleted at {before.rev}")
                if None not in (before.sort_ms, row.sort_ms) and before.sort_ms != row.sort_ms:
                    report.complain(f"{row.did}/{row.path} moved from {before.sort_ms} to {row.sort_ms}")
            self._keys[key] = Seen(row.state, row.epoch, row.rev, row.sort_ms)
        present = {(row.did, row.path) for row in records}
        for key in [key for key in self._keys if key not in present]:
            # Pruned, or a tombstone collected: its memory goes with it.
            if key[0] not in repos or self._keys[key].state == DELETED:
                del self._keys[key]

    def _so_it_was(self, row: Row) -> bool:
        """The tombstone was the mistake: a server lied about that rev, and a second look found out."""
        there = row.path in self.world(row.did, row.rev)
        self.checks["tombstones taken back"] += there
        return there

    def _judge_operations(
        self,
        repos: dict[str, Repo],
        rows: dict[str, dict[str, Row]],
        findings: set[tuple[str, str]],
        report: Report,
        promised_s: float,
        reached_us: int,
    ) -> None:
        """Every operation of the world was applied or superseded, or its absence is admitted."""
        now_us = self.state.clock.now_us()
        owed = {(lost.n, lost.path): lost for lost in self.lost()}
        starting = self.sim.now_s() - self.sim.appliance.started_s < TRANSIT_S
        for n, time_us, did, path, action, rev in self.operations():
            repo = repos.get(did)
            if repo is None or repo.refs == 0 or repo.state != "LIVE" or repo.doubt:
                continue
            if now_us - time_us < TRANSIT_S * 1_000_000 or (did, path) in findings:
                continue
            if time_us <= self.chronicle.broken_us(did):
                # The repository was replaced since: what it holds is judged, not how it came about.
                self.checks["before a break"] += 1
                continue
            if starting and time_us > reached_us:
                # It has not yet asked for what it missed, and says so: its position is its word.
                self.checks["not asked for yet"] += 1
                continue
            self.checks["operations"] += 1
            report.operations += 1
            row = rows.get(did, {}).get(path)
            if row is not None and (row.rev >= rev or row.epoch > 0):
                continue
            if row is None and (action == "delete" or path not in self.world(did)):
                continue
            if rev <= repo.base_rev:
                # A complete scan that began later has shown how it ended.
                ended = self.world(did).get(path)
                if (row.cid if row is not None and row.state != DELETED else None) == ended:
                    continue
            lost = owed.get((n, path))
            if lost is not None and now_us - lost.time_us < promised_s * 1_000_000:
                self.checks["losses not found yet"] += 1
                continue
            why = "" if lost is None else f" ({lost.why})"
            report.complain(
                f"{did} is LIVE, and {action} of {path} at {rev}{why} has left no trace:"
                f" {None if row is None else (row.state, row.rev)}"
            )

    async def _judge_timeline(self, member: Hosted, repos: dict[str, Repo], report: Report) -> None:
        """Complete, nothing too much, in order, each once; small pages give the same as large ones."""
        shown = await self.walk(member)
        self.checks["timelines"] += 1
        open_now = {did for did, repo in repos.items() if repo.state not in ("LIVE", "SUSPECT")}
        expected = truth.from_state(self.state).timeline(member.did)
        wrong = expected.compare(uri for uri, _, _ in shown)
        for what, uris in (("lacks", wrong.missing), ("has too much", wrong.extra), ("twice", wrong.twice)):
            named = [uri for uri in uris if _author(uri) not in open_now]
            if named:
                report.complain(f"timeline of {member.handle} {what}: {len(named)} {named[:3]}")
        # Of equal times the cid decides that was stored first: of what was edited that is not the one shown.
        edited = {
            f"at://{did}/{path}" for _, _, did, path, action, _ in self.operations() if action == "update"
        }
        now = iso_ms(self.state.clock.now_us())
        created = {
            row.uri: row.created_at for row in expected.rows if len(row.instead) < 2 and row.uri not in edited
        }
        for uri, at, _ in shown:
            said = created.get(uri)
            # Whoever claims the future, or writes times of another form, is another test's matter.
            if said is not None and len(said) == len(now) and said <= now and at != said:
                report.complain(f"timeline of {member.handle}: {uri} stands at {at}, made at {said}")
        for above, below in itertools.pairwise(shown):
            tie = above[1] == below[1] and not {above[0], below[0]} & edited
            if above[1] < below[1] or (tie and above[2] < below[2]):
                report.complain(f"timeline of {member.handle}: {above} stands above {below}")
        if await self.walk(member, limit=7) != shown:
            report.complain(f"timeline of {member.handle}: pages of 7 show something else")

    async def walk(self, member: Hosted, limit: int = PAGE) -> list[tuple[str, str, str]]:
        """(uri, sort time, cid) of every row, through the public door."""
        http = self.sim.appliance.http
        headers = {"authorization": f"Bearer {await token(self.sim.appliance, member)}"}
        rows: list[tuple[str, str, str]] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX * PAGE // limit):
            params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
            answer = await http.get("/xrpc/app.bsky.feed.getTimeline", params=params, headers=headers)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            rows += [_shown(item) for item in page["feed"]]
            cursor = page.get("cursor")
            if cursor is None:
                return rows
        raise AssertionError("the timeline has no end")

    # ---- inside

    def _is_member(self, did: str) -> bool:
        return any(member.did == did for member in self.sim.members)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.database.absolute().as_uri()}?mode=ro", uri=True)


def digest(paths: dict[str, str]) -> str:
    """SHA-256 over the sorted lines ``collection/rkey cid``."""
    lines = sorted(f"{path} {name}\n".encode() for path, name in paths.items())
    return sha256(b"".join(lines)).hexdigest()


def difference(ours: dict[str, str], theirs: dict[str, str]) -> str:
    """In words."""
    missing, extra = theirs.keys() - ours.keys(), ours.keys() - theirs.keys()
    other = [path for path in theirs.keys() & ours.keys() if theirs[path] != ours[path]]
    return f"missing {sorted(missing)[:3]}, extra {sorted(extra)[:3]}, other {sorted(other)[:3]}"


def _shown(item: dict[str, Any]) -> tuple[str, str, str]:
    reason, post = item.get("reason"), item["post"]
    of = post if reason is None else reason
    return of["uri"], of["indexedAt"], of["cid"]


def _author(uri: str) -> str:
    return uri.removeprefix("at://").partition("/")[0]


def _repos(rows: sqlite3.Connection) -> Iterator[Repo]:
    for row in rows.execute(
        "SELECT a.did, r.state, r.reason, r.doubt, r.epoch, r.base_rev, r.seen_rev, r.cert_rev,"
        " r.cert_method, r.cert_digest, r.cert_count, r.refs FROM repo r JOIN actor a ON a.id = r.actor"
    ):
        yield Repo(*row)


def _records(rows: sqlite3.Connection) -> Iterator[Row]:
    for row in rows.execute(
        "SELECT a.did, c.nsid || '/' || r.rkey, r.state, r.epoch, r.rev, r.cid, r.sort_ms FROM record r"
        " JOIN repo p ON p.actor = r.actor JOIN actor a ON a.id = r.actor"
        " JOIN collection c ON c.id = r.collection WHERE r.state IN (1, 2, 3) AND c.nsid IN (?, ?)",
        JUDGED,
    ):
        yield Row(*row)


def _open_findings(rows: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(
        rows.execute(
            "SELECT a.did, c.nsid || '/' || f.rkey FROM finding f JOIN actor a ON a.id = f.actor"
            " JOIN collection c ON c.id = f.collection WHERE f.outcome = 'open'"
        )
    )
