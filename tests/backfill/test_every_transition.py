"""Every transition of the table is taken by the real parts, and none that the table does not list."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.backfill.audit import Auditor
from appliance.backfill.pruner import Pruner
from appliance.protocol.events import AccountEvent, BrokenEvent
from appliance.protocol.tid import tid_of
from appliance.store import actors, repos
from appliance.store.audits import DAY_US, Level
from appliance.store.database import Transaction
from tests.backfill.rig import Rig, rig
from tests.backfill.scripted_network import START_US, Account, Answer, Network, Request, error
from tests.backfill.test_backfill import fill

GAP = f"{repos.STREAM_GAP}: tested"
Move = tuple[str, str, str]
# These write for many, or for others: what they do is named by the transition that they take.
ALSO = {"suspect_all": "suspect"}


class Recorder:
    """Stands in front of every function of the table and sees what it did."""

    def __init__(self) -> None:
        self.taken: set[Move] = set()
        self.changes = 0

    def around(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def watched(tx: Transaction, *args: Any, **named: Any) -> Any:
            before = states(tx)
            found = work(tx, *args, **named)
            after = states(tx)
            for actor in before.keys() | after.keys():
                was, now = before.get(actor, "UNKNOWN"), after.get(actor, "UNKNOWN")
                if was != now:
                    self.changes += 1
                elif not found or name in ALSO or args[0] != actor:
                    continue
                self.taken.add((ALSO.get(name, name), was, now))
            return found

        return watched


def states(tx: Transaction) -> dict[int, str]:
    return dict(tx.all("SELECT actor, state FROM repo"))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    for name in [*repos.ALLOWED, *ALSO]:
        monkeypatch.setattr(repos, name, made.around(name, getattr(repos, name)))
    return made


class Story:
    """The parts of an appliance, and accounts that are brought into each state by what happens outside."""

    def __init__(self, here: Rig, network: Network) -> None:
        self.here = here
        self.network = network
        self.number = 0

    async def account(self, posts: int = 2) -> Account:
        self.number += 1
        made = self.network.add_account(f"who{chr(97 + self.number // 26)}{chr(97 + self.number % 26)}")
        fill(made, posts)
        return made

    async def reach(self, account: Account, *states: str, step_s: float = 1) -> None:
        self.here.start()
        await self.here.until_state(account, *states, step_s=step_s)
        await self.here.stop()

    async def live(self, posts: int = 2) -> Account:
        account = await self.account(posts)
        await self.here.track(account)
        await self.reach(account, "LIVE")
        return account

    async def in_state(self, state: str) -> Account:
        """An account that came into that state by itself; the worker stands still."""
        account = await self.account()
        if state == "SCANNING":
            account.host.script = hanging(account)
        if state == "WAIT":
            account.host.script = down(account)
        if state == "GONE":
            account.host.script = gone(account)
        await self.here.track(account)
        if state == "QUEUED":
            return account
        if state in ("SCANNING", "WAIT", "GONE"):
            await self.reach(account, state)
            account.host.script = None
            return account
        await self.reach(account, "LIVE")
        if state == "SUSPECT":
            await self.here.deliver([BrokenEvent(account.did, b"?", "poison", START_US)])
        if state == "INACTIVE":
            await self.status(account, "deactivated")
        repo = await self.here.repo(account)
        assert repo is not None
        assert repo.state == state
        return account

    async def status(self, account: Account, status: str | None) -> None:
        """The stream tells a new status."""
        self.number += 1
        event = AccountEvent(account.did, status is None, status, START_US, self.number)
        await self.here.deliver([event])

    async def gap(self) -> None:
        await self.here.database.write(lambda tx: repos.suspect_all(tx, GAP, self.here.clock.now_us()))

    async def audit(self, account: Account, level: Level) -> None:
        auditor = Auditor(self.here.backfill.tools)
        (told,) = [one async for one in auditor.audit([account.did], repair=True, level=level)]
        assert told.state == "LIVE"

    async def unwant(self, account: Account) -> None:
        def work(tx: Transaction) -> None:
            repos.unwant(tx, actors.ensure(tx, account.did), self.here.clock.now_us())

        await self.here.database.write(work)


def only(account: Account, name: str, answer: Answer) -> Callable[[Request], Answer | None]:
    def script(request: Request) -> Answer | None:
        mine = account.did in (request.params.get("did"), request.params.get("repo"))
        return answer if mine and request.nsid.endswith(name) else None

    return script


def hanging(account: Account) -> Callable[[Request], Answer | None]:
    return only(account, "listRecords", Answer(hang=True))


def down(account: Account) -> Callable[[Request], Answer | None]:
    return only(account, "", Answer(503, b""))


def gone(account: Account) -> Callable[[Request], Answer | None]:
    return only(account, "", error(400, "RepoNotFound"))


async def scans_and_doubts(story: Story) -> None:
    here, network = story.here, story.network
    # A doubt met while reading; what is left of it is settled by comparing.
    bob = await story.account()

    async def disturb(request: Request) -> None:
        if request.nsid.endswith("listRecords"):
            bob.host.script = None
            await story.gap()

    bob.host.script = disturb
    await here.track(bob)
    await story.reach(bob, "SUSPECT")
    await story.reach(bob, "LIVE")
    # Nothing was written in the gap; by the schedule; after events that came.
    await story.gap()
    await story.reach(bob, "LIVE")
    await story.audit(bob, "rev")
    bob.post("told")
    await here.deliver(bob.events[-1:])
    await story.audit(bob, "listing")
    # Something was lost in it.
    bob.post("lost")
    await story.gap()
    await story.reach(bob, "LIVE")
    # The host is down, then up; the directory is down before the host is known.
    carl = await story.in_state("WAIT")
    await story.reach(carl, "LIVE", step_s=10)
    dora = await story.account()
    network.plc_down = True
    await here.track(dora)
    await story.reach(dora, "WAIT")
    network.plc_down = False
    await story.reach(dora, "LIVE", step_s=10)
    # It moves to another host while it is read.
    emil = await story.account()
    other = await network.add_host()

    def moves(request: Request) -> Answer | None:
        if not request.nsid.endswith("listRecords"):
            return None
        emil.host.script = None
        network.move(emil, other)
        return error(400, "InvalidRequest")

    emil.host.script = moves
    await here.track(emil)
    await story.reach(emil, "LIVE", step_s=10)
    # Its host is restored from an old copy.
    emil.rev = tid_of(START_US - 399 * DAY_US, 7)
    await story.gap()
    await story.reach(emil, "LIVE", step_s=10)


async def comings_and_goings(story: Story) -> None:
    for state in ("QUEUED", "SCANNING", "LIVE", "SUSPECT", "WAIT"):
        account = await story.in_state(state)
        await story.status(account, "deactivated")
    # From then on the last of them: another word for it, back again, deleted, created anew.
    await story.status(account, "suspended")
    await story.status(account, None)
    await story.reach(account, "LIVE", step_s=10)
    lost = await story.in_state("GONE")
    await story.status(lost, "deleted")
    await story.status(lost, None)
    await story.reach(lost, "LIVE", step_s=10)


async def asked_for(story: Story) -> None:
    """What a person or another part of the appliance may ask for at any time: more of it, or all anew."""
    here = story.here

    def more(tx: Transaction, actor: int) -> bool:
        return repos.resync(tx, actor, 0, "more is wanted", 0, here.clock.now_us())

    def anew(tx: Transaction, actor: int) -> bool:
        return repos.raise_epoch(tx, actor, 0, "a copy was restored", here.clock.now_us())

    wishes = [("LIVE", more), *((state, anew) for state in ("QUEUED", "LIVE", "SUSPECT", "WAIT"))]
    for state, work in wishes:
        account = await story.in_state(state)
        repo = await here.repo(account)
        assert repo is not None
        assert await here.database.write(functools.partial(work, actor=repo.actor))
        await story.reach(account, "LIVE", step_s=10)


async def leaving(story: Story) -> None:
    here = story.here
    pruner = Pruner(here.database, here.settings, here.clock)
    for state in repos.STATES:
        if state != "PRUNING":
            # From then on no worker touches it.
            await story.unwant(await story.in_state(state))
    big = await story.live(posts=230)
    await story.unwant(big)
    await here.clock.advance(60)
    await pruner.step()
    repo = await here.repo(big)
    assert repo is not None
    assert repo.state == "PRUNING"
    await here.track(big)
    while await here.all("SELECT 1 FROM repo WHERE refs = 0"):
        await pruner.step()
    await story.reach(big, "LIVE", step_s=10)


async def test_every_transition_of_the_table_is_taken_and_no_other(
    network: Network, tmp_path: Path, recorder: Recorder
) -> None:
    network.now_us = START_US - 300 * DAY_US
    async with rig(network, tmp_path, unfollow_grace_hours=0) as here:
        here.backfill.tools.lag_s = lambda: 0.0
        await here.stop()
        await here.database.write(
            lambda tx: tx.run(
                "CREATE TRIGGER watch AFTER UPDATE OF state ON repo WHEN OLD.state <> NEW.state BEGIN"
                " INSERT INTO meta (name, value) VALUES ('watched', '1')"
                " ON CONFLICT (name) DO UPDATE SET value = value + 1; END"
            )
        )
        story = Story(here, network)
        for tell in (scans_and_doubts, comings_and_goings, asked_for, leaving):
            await tell(story)
        watched = int((await here.all("SELECT value FROM meta WHERE name = 'watched'"))[0][0])
        made = (await here.all("SELECT count(*) FROM repo"))[0][0]
        forgotten = len([None for state in repos.STATES if state != "PRUNING"])

    allowed = {(name, was) for name, (before, _) in repos.ALLOWED.items() for was in before}
    assert {(name, was) for name, was, _ in recorder.taken} == allowed
    reached = {name: {now for other, _, now in recorder.taken if other == name} for name in repos.ALLOWED}
    assert reached == {name: set(after) for name, (_, after) in repos.ALLOWED.items()}
    # Whatever changed the state went through a function of the table; coming and going are no updates.
    assert recorder.changes == watched + made + 2 * forgotten


def test_the_recorder_sees_what_the_table_does_not_list(recorder: Recorder) -> None:
    def breaks_the_rules(tx: Any, actor: int) -> bool:
        tx.state = "LIVE"
        return True

    class Fake:
        state = "GONE"

        def all(self, _: str) -> list[tuple[int, str]]:
            return [(1, self.state)]

    recorder.around("reactivate", breaks_the_rules)(Fake(), 1)
    assert recorder.taken == {("reactivate", "GONE", "LIVE")}
