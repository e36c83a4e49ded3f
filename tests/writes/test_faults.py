"""Whatever a member's server or our own process does in between: one record, and the truth about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import orjson
import pytest

from appliance import crash_points
from appliance.errors import ApplianceError
from appliance.outbound.limits import PDS_WRITE
from appliance.protocol.events import CommitEvent
from appliance.store import written
from appliance.timeline.asker import Asker
from appliance.timeline.views import Views
from appliance.writes import repos
from appliance.writes.operations import CREATE, DELETE
from appliance.writes.repos import Repos, Unconfirmed
from appliance.writes.writer import Writer
from tests.auth.house import ALICE
from tests.auth.small_pds import Asked, Reply, cid_of
from tests.writes.desk import Desk

TRIALS = 210
GET_RECORD = "com.atproto.repo.getRecord"
BEFORE = ("500 before", "503 before", "cut before", "429", "hang before", "late")
AFTER = ("500 after", "502 after", "cut after", "hang after", "nonsense after")
DEATHS = ("write-before-call", "write-after-call", "write-after-commit", "in flight", "in flight, done")
FAULTS = ("none", "expired", *BEFORE, *AFTER, *DEATHS)
Told = Literal["done", "refused", "unknown", "died"]


class Died(BaseException):
    """The process is no more: nothing in it may answer this."""


class Ruin:
    """Alice's desk at a server that does what it likes; each commit of it is kept for the stream."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.commits: list[CommitEvent] = []
        self.late: list[Asked] = []
        self.hanging = asyncio.Event()
        self.met: set[str] = set()
        self.heal()

    def heal(self) -> None:
        """A good server from now on; what hangs ends."""
        self.hanging.set()
        self.hanging = asyncio.Event()
        crash_points.reach = lambda point: None
        self.desk.pds.instead = {CREATE: self.write, DELETE: self.write}

    async def write(self, asked: Asked) -> Reply:
        """As a PDS does it: a key that is taken is not written again."""
        body, pds = asked.json, self.desk.pds
        if pds.viewer(asked) is None:
            return 400, {"error": "ExpiredToken", "message": "Token has expired"}
        uri = f"at://{ALICE}/{body['collection']}/{body['rkey']}"
        record = body.get("record")
        if record is None and uri not in pds.records:
            return 200, {}
        if record is not None and uri in pds.records:
            return 400, {"error": "InvalidRequest", "message": "There is already a value"}
        commit = pds.commit()
        cid = None if record is None else cid_of(record)
        action: Literal["create", "delete"] = "delete" if record is None else "create"
        data = None if record is None else orjson.dumps(record)
        self.commits.append(
            CommitEvent(
                ALICE, commit["rev"], 0, action, body["collection"], body["rkey"], cid, data,
                self.desk.clock.now_us(),
            )
        )  # fmt: skip
        if record is None:
            del pds.records[uri]
            return 200, {"commit": commit}
        return 200, {**pds.put(ALICE, body, record), "commit": commit}

    def arm(self, fault: str, *, silent: bool) -> None:
        """The next write goes wrong in this way; ``silent``: looking for it afterwards does too."""
        self.met.add(fault)
        if fault.startswith("write-"):

            def die(point: str) -> None:
                if point == fault:
                    crash_points.reach = lambda point: None
                    raise Died(point)

            crash_points.reach = die
            return

        async def handle(asked: Asked) -> Reply:
            self.desk.pds.instead = {CREATE: self.write, DELETE: self.write}
            if silent:
                self.desk.pds.instead[GET_RECORD] = self.unwell
            if fault == "expired":
                self.desk.pds.access.clear()
            if fault == "late":
                self.late.append(asked)
            reply: Reply = (0, {}) if fault in BEFORE or fault == "in flight" else await self.write(asked)
            if fault.startswith("in flight"):
                for task in self.desk.repos._under_way:
                    task.cancel()
            match fault.split(" ")[0]:
                case "500" | "502" | "503":
                    return int(fault[:3]), {"error": "InternalServerError"}
                case "429":
                    return 429, {"error": "RateLimitExceeded"}, {"retry-after": "20"}
                case "cut":
                    raise ConnectionError
                case "hang" | "late" | "in":
                    await self.hanging.wait()
                    raise ConnectionError
                case "nonsense":
                    return 200, b"<html>"
            return reply

        self.desk.pds.instead = {CREATE: handle, DELETE: handle}

    async def unwell(self, asked: Asked) -> Reply:
        return 503, {"error": "NotNow"}

    async def land(self) -> None:
        """What hung at the server is done after all, when nobody waits for it any more."""
        for asked in self.late:
            # The server let it in when it came, whatever has become of the token.
            self.desk.pds.access.setdefault(asked.bearer, (ALICE, float("inf")))
            await self.write(asked)
        self.late.clear()

    def restart(self) -> None:
        """A new process over the same file."""
        desk = self.desk
        desk.auth = desk.build()
        desk.repos = Repos(desk.database, desk.auth.pds_sessions, desk.applier, desk.clock)
        desk.writer = Writer(
            desk.database, desk.auth.web_sessions, desk.repos, desk.book.resolve_handle, desk.clock
        )

    async def tried(self, act: Callable[[Writer], Awaitable[Any]]) -> Told:
        """What the member is told."""
        try:
            await self.desk.moving(act(self.desk.writer), 40)
        except Unconfirmed:
            return "unknown"
        except ApplianceError:
            return "refused"
        except (Died, asyncio.CancelledError):
            self.restart()
            return "died"
        return "done"

    async def stream(self) -> None:
        """Everything that the server has committed comes by the stream, twice."""
        for event in [*self.commits, *self.commits[-2:]]:
            await self.desk.apply(event)


class Deed(NamedTuple):
    """What a member does, and how many records there have to be of it in the end."""

    act: Callable[[Writer], Awaitable[Any]]
    wanted: int
    counted: Callable[[], int]


async def deed(desk: Desk, chance: random.Random, number: int) -> Deed:
    """Something to do, with a subject of its own."""
    cookie, text, once = desk.cookie, f"number {number}", f"form-{number}"
    uri, cid = await desk.post_of_bob(text)
    other = "did:plc:" + f"{number}".translate(str.maketrans("0189", "gxyz")).rjust(24, "a")

    def of(word: str) -> Callable[[], int]:
        return lambda: sum(word in orjson.dumps(record).decode() for record in desk.pds.records.values())

    match chance.choice(["post", "reply", "like", "repost", "follow", "unlike", "delete"]):
        case "post":
            return Deed(lambda w: w.post(cookie, text, once=once), 1, of(f'"{text}"'))
        case "reply":
            return Deed(lambda w: w.post(cookie, text, reply=uri, once=once), 1, of(f'"{text}"'))
        case "like":
            return Deed(lambda w: w.like(cookie, uri, cid), 1, of(uri))
        case "repost":
            return Deed(lambda w: w.repost(cookie, uri, cid), 1, of(uri))
        case "follow":
            return Deed(lambda w: w.follow(cookie, other), 1, of(other))
        case "unlike":
            await desk.writer.like(cookie, uri, cid)
            return Deed(lambda w: w.unlike(cookie, uri), 0, of(uri))
        case _:
            mine = await desk.writer.post(cookie, text)
            return Deed(lambda w: w.delete(cookie, mine), 0, of(f'"{text}"'))


@pytest.fixture
async def ruin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ruin]:
    monkeypatch.setattr(crash_points, "reach", crash_points.reach)
    # What hangs is given up by the wall clock; who is slow here is only one more who is lost and looked for.
    monkeypatch.setattr(repos, "PDS_WRITE", replace(PDS_WRITE, total_s=0.25))
    async with AsyncExitStack() as stack:
        desk = Desk(tmp_path)
        desk.settings = msgspec.structs.replace(desk.settings, outbound_rate_per_host=100_000.0)
        await desk.open(stack)
        ruin = Ruin(desk)
        yield ruin
        ruin.heal()
        await desk.auth.close()


async def shown(ruin: Ruin) -> dict[str, str]:
    """What of Alice is living here: address and CID."""
    rows = await ruin.desk.database.read(
        lambda r: r.all(
            "SELECT 'at://' || a.did || '/' || c.nsid || '/' || r.rkey, r.cid FROM record r"
            " JOIN actor a ON a.id = r.actor JOIN collection c ON c.id = r.collection"
            " WHERE a.did = ? AND r.state = 1",
            (ALICE,),
        )
    )
    return dict(rows)


async def views_of(ruin: Ruin) -> list[bytes]:
    """Alice's own answers: timeline, posts, profile."""
    views = Views(ruin.desk.database, ruin.desk.settings, ruin.desk.clock)
    asker = Asker(did=ALICE, member=True)
    timeline = await views.timeline(asker, limit=100)
    uris = [row["post"]["uri"] for row in timeline.parsed()["feed"] if "reason" not in row]
    assert len(uris) == len(set(uris))
    feed = await views.author_feed(asker, ALICE, limit=100)
    profile = await views.profile(asker, ALICE)
    return [timeline.body, feed.body, profile.body]


@pytest.mark.invariant("written-once")
async def test_whatever_fails_there_is_one_record_and_the_member_is_told_the_truth(ruin: Ruin) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    told: dict[str, int] = {}
    for number in range(TRIALS):
        desk = ruin.desk
        act, wanted, counted = await deed(desk, chance, number)
        # Every fault has its turn.
        faults = [FAULTS[number % len(FAULTS)], *chance.choices(FAULTS, k=chance.randint(0, 2))]
        hidden = done = False
        for fault in faults:
            silent = chance.random() < 0.3
            ruin.arm(fault, silent=silent)
            outcome = await ruin.tried(act)
            told[outcome] = told.get(outcome, 0) + 1
            ruin.heal()
            if outcome == "done":
                assert counted() == wanted, (number, faults)
                if silent and not wanted:
                    await ruin.stream()  # deleted at an earlier try: only looking or the stream says when
                assert await shown(ruin) == {uri: cid_of(r) for uri, r in desk.pds.records.items()}
            elif outcome == "refused" and not hidden:
                assert counted() == (wanted if done else 1 - wanted), (number, faults)
            hidden = hidden or outcome in ("unknown", "died")
            done = done or outcome == "done"
            if chance.random() < 0.5:
                await ruin.land()
            await desk.clock.advance(30)
        for _ in range(20):
            if await ruin.tried(act) == "done":
                break
            await desk.clock.advance(30)
        await ruin.land()
        assert counted() == wanted, (number, faults)
        truth = {uri: cid_of(record) for uri, record in desk.pds.records.items()}
        if "late" in faults or number % 10 == 0:
            # A server that did it late has told nobody but the stream.
            await ruin.stream()
            before = await views_of(ruin)
            await ruin.stream()
            assert await views_of(ruin) == before
        assert await shown(ruin) == truth, (number, faults)
    assert ruin.met == set(FAULTS)
    assert set(told) == {"done", "refused", "unknown", "died"}, told
    print(told)


async def test_after_a_death_in_flight_the_same_form_finds_what_it_wrote(ruin: Ruin) -> None:
    desk = ruin.desk

    async def post(writer: Writer, text: str) -> str:
        return await writer.post(desk.cookie, text, once=text)

    for fault in ("write-after-call", "in flight, done"):
        ruin.arm(fault, silent=False)
        assert await ruin.tried(partial(post, text=fault)) == "died"
        ruin.heal()
        [uri] = [uri for uri, record in desk.pds.records.items() if record["text"] == fault]
        assert await post(desk.writer, fault) == uri
        assert await desk.find(uri) is not None


async def test_what_was_written_is_kept_without_content_for_a_month(ruin: Ruin) -> None:
    desk = ruin.desk
    session = await desk.session()
    await desk.writer.post(desk.cookie, "a canary in a cage", once="f")
    ruin.arm("cut before", silent=False)
    assert await ruin.tried(lambda w: w.like(desk.cookie, desk.bobs, desk.bobs_cid)) == "unknown"
    ruin.arm("429", silent=False)
    assert await ruin.tried(lambda w: w.repost(desk.cookie, desk.bobs, desk.bobs_cid)) == "refused"

    rows = await desk.database.read(lambda r: r.all("SELECT * FROM written ORDER BY id"))
    assert [row[-1] for row in rows] == ["done", "unknown", "refused"]
    assert "canary" not in str(rows)
    end_us = desk.clock.now_us() + 1
    assert await desk.database.write(partial(written.forget, before_us=end_us)) == 3
    assert await desk.database.read(lambda r: written.last(r, session.actor, "post f")) is None


async def test_somebody_who_leaves_does_not_cut_a_write_off(ruin: Ruin) -> None:
    desk = ruin.desk
    began = asyncio.Event()

    async def slow(asked: Asked) -> Reply:
        began.set()
        await asyncio.sleep(0)
        return await ruin.write(asked)

    desk.pds.instead[CREATE] = slow
    task = asyncio.ensure_future(desk.writer.post(desk.cookie, "gone home", once="f"))
    await began.wait()
    task.cancel()
    await asyncio.wait([task])
    await desk.repos.close()
    [uri] = desk.pds.records
    assert await desk.find(uri) is not None
    assert await desk.writer.post(desk.cookie, "gone home", once="f") == uri
