"""Everything at once, at random, from a seed: nothing wrong at any look, and exact in the end."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from appliance.devnet.records import FOLLOW
from appliance.devnet.state import Hosted
from appliance.store import repos
from tests.sim import virtual
from tests.sim.oracle import Oracle
from tests.sim.rig import OPEN, Sim, sim
from tests.sim.village import Village

HOUR_S = 3600.0
# The longest that anything may stay unseen: an audit by rev, spread, and what a resting host adds to it.
PROMISED_S = 9 * HOUR_S


@contextmanager
def transitions() -> Iterator[Counter[str]]:
    """Counts which transitions of the state machine really happened."""
    taken: Counter[str] = Counter()

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            taken[name] += bool(result)
            return result

        return call

    with ExitStack() as patches:
        for name in repos.ALLOWED:
            patches.enter_context(mock.patch.object(repos, name, counted(name, getattr(repos, name))))
        yield taken


class Troubles:
    """What may go wrong: each a deed that fires something, and how long it stays."""

    def __init__(self, made: Sim, village: Village, seed: int) -> None:
        self.made = made
        self.net = made.network
        self.village = village
        self.chance = random.Random(f"troubles {seed}")
        self.done: Counter[str] = Counter()
        self._followed = {person.did for person in village.people}

    def someone(self) -> Hosted | None:
        active = [person for person in self.village.people if person.active]
        return self.chance.choice(active) if active else None

    async def one(self) -> None:
        """One of them, chosen at random; lasts as long as it takes."""
        names = [name for name in dir(self) if name.startswith("trouble_")]
        name = self.chance.choice(names)
        if await getattr(self, name)():
            self.done[name.removeprefix("trouble_")] += 1

    async def _for_a_while(self, of: str, **switches: Any) -> bool:
        faults = self.net.faults[of]
        before = {name: getattr(faults, name) for name in switches}
        faults.switch(switches)
        await asyncio.sleep(self.chance.uniform(300, 1800))
        faults.switch(before)
        return True

    def _server(self) -> str:
        return f"pds{self.chance.randrange(len(self.net.pds))}"

    async def trouble_lose(self) -> bool:
        return await self._for_a_while("jetstream_v2/losses", lose_share=0.2, seed=self.made.seed)

    async def trouble_hide(self) -> bool:
        return await self._for_a_while("jetstream_v2/losses", hide_share=0.3)

    async def trouble_dark_server(self) -> bool:
        return await self._for_a_while("jetstream_v2/losses", hide_pds=[self.chance.randrange(3)])

    async def trouble_cut(self) -> bool:
        return await self._for_a_while("jetstream_v2", cut_every=3)

    async def trouble_twice(self) -> bool:
        return await self._for_a_while("jetstream_v2", duplicate_every=2)

    async def trouble_storm(self) -> bool:
        return await self._for_a_while(self._server(), storm=15)

    async def trouble_down(self) -> bool:
        return await self._for_a_while(self._server(), down=True)

    async def trouble_fail(self) -> bool:
        return await self._for_a_while(self._server(), fail_every=2)

    async def trouble_hang(self) -> bool:
        return await self._for_a_while(self._server(), hang_every=3)

    async def trouble_busy(self) -> bool:
        return await self._for_a_while(self._server(), busy_lists=5)

    async def trouble_torn(self) -> bool:
        return await self._for_a_while(self._server(), torn_exports=True)

    async def trouble_directory(self) -> bool:
        return await self._for_a_while("plc", down=True)

    async def trouble_sleep(self) -> bool:
        person = self.someone()
        if person is None:
            return False
        self.net.deactivate(person.did)
        await asyncio.sleep(self.chance.uniform(300, 3600))
        if person.status == "deactivated":
            self.chance.choice((self.net.activate, self.net.lift_status))(person.did)
        return True

    async def trouble_delete(self) -> bool:
        person = self.someone()
        if person is None:
            return False
        self.net.delete_account(person.did)
        await asyncio.sleep(1800)
        self.net.begin_anew(person.did)
        return True

    async def trouble_slander(self) -> bool:
        person = self.someone()
        if person is not None:
            self.net.claim_status(person.did, self.chance.choice(("deleted", "takendown")))
        return person is not None

    async def trouble_move(self) -> bool:
        person = self.someone()
        to = self.chance.randrange(len(self.net.pds))
        if person is None or person.pds == to:
            return False
        self.chance.choice((self.net.migrate, self.net.leave_behind))(person.did, to)
        return True

    async def trouble_restore(self) -> bool:
        person = self.someone()
        if person is not None:
            self.net.roll_back(person.did, self.chance.randrange(1, 4))
        return person is not None

    async def trouble_import(self) -> bool:
        person = self.someone()
        if person is not None:
            self.net.bring_in(person.did, self.village.past(2), sync=self.chance.random() < 0.5)
        return person is not None

    async def trouble_key(self) -> bool:
        person = self.someone()
        if person is not None:
            self.net.rotate_key(person.did, tell=self.chance.random() < 0.5)
        return person is not None

    async def trouble_resync(self) -> bool:
        person = self.someone()
        if person is not None:
            self.net.resync(person.did)
        return person is not None

    async def trouble_unfollow(self) -> bool:
        """For a moment, or for so long that the rows are gone."""
        member = self.village.member
        follows = self.net.state.repository(member.did).collections.get(FOLLOW, {})
        if len(follows) < 3:
            return False
        rkey = self.chance.choice(sorted(follows))
        uri = f"at://{member.did}/{FOLLOW}/{rkey}"
        subject = (self.net.record(uri) or {})["subject"]
        self.net.delete(uri)
        await asyncio.sleep(self.chance.choice((60, 3 * HOUR_S)))
        self.net.follow(member.did, subject)
        return True

    async def trouble_restart(self) -> bool:
        if not self.made.appliance.runs:
            return False
        await self.made.appliance.stop()
        await asyncio.sleep(self.chance.choice((1, 60, 3 * HOUR_S)))
        await self.made.appliance.start()
        return True


async def mixed(folder: Path, seed: int, *, people: int, hours: float, peace_h: float) -> Counter[str]:
    """So many hours of it, then peace, then the last word."""
    async with sim(
        folder,
        seed,
        accounts=0,
        members=0,
        dialects=OPEN,
        retention_s=3600,
        retention_events=20,
        unfollow_grace_hours=1.0,
    ) as made:
        village = Village(made.network, seed)
        village.settle(people, 5)
        await made.sign_in(village.member)
        oracle = Oracle(made)
        await made.until(lambda: oracle.look().certified > people, within_s=1800)
        troubles = Troubles(made, village, seed)
        ended_s = made.now_s() + hours * HOUR_S

        async def trouble() -> None:
            while made.now_s() < ended_s:
                await asyncio.sleep(troubles.chance.uniform(60, 900))
                await troubles.one()

        async def watch() -> None:
            while made.now_s() < ended_s:
                await asyncio.sleep(600)
                if made.appliance.runs:
                    report = oracle.look(promised_s=PROMISED_S)
                    print(*report.complaints, sep="\n", end="", flush=True)
                    assert report.complaints == [], (seed, report.complaints)

        async with asyncio.TaskGroup() as group:
            group.create_task(village.live(hours * HOUR_S, 60))
            group.create_task(watch())
            for _ in range(3):
                group.create_task(trouble())
        for faults in made.network.faults.values():
            faults.off()
        for person in village.people:
            if not person.active:
                made.network.begin_anew(person.did) if person.status == "deleted" else made.network.activate(
                    person.did
                )
        await asyncio.sleep(peace_h * HOUR_S)
        report = await oracle.final()
        fired = sum((faults.fired for faults in made.network.faults.values()), Counter[str]())
        print(
            f"seed {seed}: {hours} h, {village.deeds} deeds, {sum(troubles.done.values())} troubles"
            f" {dict(troubles.done)}; fired {dict(fired)}; {oracle.looks} looks, {dict(oracle.checks)};"
            f" states {sorted(oracle.states)}"
        )
        assert report.complaints == [], (seed, report.complaints)
        assert report.incomplete == 0, seed
        assert not made.appliance.failures()
        return troubles.done


def test_hours_of_mixed_faults_end_exact_and_was_never_wrong(tmp_path: Path) -> None:
    seed = 51
    with transitions() as taken:
        done, passed = virtual.run(lambda: mixed(tmp_path, seed, people=8, hours=4, peace_h=10), seed)
    print(f"seed {seed}: {passed}; transitions {dict(taken)}")
    assert len(done) >= 8


@pytest.mark.long
def test_days_of_mixed_faults_by_many_seeds_take_every_transition_and_every_trouble(tmp_path: Path) -> None:
    begin = secrets.randbelow(2**31)
    print(f"seeds from {begin}")
    every: Counter[str] = Counter()
    with transitions() as taken:
        for seed in range(begin, begin + 5):
            folder = tmp_path / str(seed)
            done, passed = virtual.run(lambda: mixed(folder, seed, people=12, hours=48, peace_h=30), seed)  # noqa: B023
            print(f"seed {seed}: {passed}")
            every += done
    print(f"transitions {dict(taken)}")
    assert set(every) == {
        name.removeprefix("trouble_") for name in dir(Troubles) if name.startswith("trouble_")
    }
    assert set(repos.ALLOWED) <= set(+taken)
