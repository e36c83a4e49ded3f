"""What goes wrong on the way, and that nothing is lost by it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from appliance.backfill.tools import Outcome
from appliance.protocol.events import AccountEvent, CommitEvent
from appliance.store import repos
from tests.backfill.rig import rig, shown
from tests.backfill.scripted_network import START_US, Answer, Host, Network, Request
from tests.backfill.test_backfill import POST, assert_complete, doubt, fill


def once(host: Host, nsid: str, answer: Answer, *, times: int = 1, after: int = 0) -> None:
    """Answer so, that often, when asked for this the n-th time; then be honest."""
    seen = 0

    def script(request: Request) -> Answer | None:
        nonlocal seen
        if not request.nsid.endswith(nsid):
            return None
        seen += 1
        return answer if after < seen <= after + times else None

    host.script = script


async def test_a_rate_limit_is_obeyed_and_the_same_scan_goes_on(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 350)
    once(bob.host, "listRecords", Answer(429, b"{}", {"retry-after": "300"}), after=3)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "WAIT")
        scan = await here.scan(bob)

        assert repo.reason.startswith("rate:")
        assert 299 <= (repo.next_at_us - here.clock.now_us()) / 1e6 <= 361
        assert scan is not None
        asked = len(bob.host.requests)
        await here.clock.advance(290)
        assert len(bob.host.requests) == asked

        await here.clock.advance(80)
        resumed = await here.until_state(bob, "LIVE")
        assert resumed.base_rev == scan.base_rev
        await assert_complete(here, bob)
        # Pages that were read before the pause were not read again.
        assert len(bob.host.asked("listRecords")) == 1 + 6


async def test_the_reset_time_of_a_rate_limit_is_obeyed(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 10)
    reset_s = START_US // 1_000_000 + 900
    limited = Answer(429, b"{}", {"ratelimit-limit": "3000", "ratelimit-reset": str(reset_s)})
    once(bob.host, "getRepoStatus", limited)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "WAIT")
        assert repo.next_at_us >= reset_s * 1_000_000

        await here.clock.advance(1100)
        await assert_complete(here, bob)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500),
        Answer(502, b"<html>"),
        Answer(200, b'{"records":['),
        Answer(200, b"[" * 100_000),
        Answer(200, b'{"records":[]}', {}, cut_at=5),
        Answer(400, b"no json"),
    ],
    ids=["500", "502", "cut json", "deep", "cut body", "400 without a name"],
)
async def test_failures_are_tried_again_after_a_growing_pause(
    network: Network, tmp_path: Path, answer: Answer
) -> None:
    bob = network.add_account("bob")
    fill(bob, 130)
    once(bob.host, "listRecords", answer, times=2)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        for attempts, pause_s in ((1, 60), (2, 120)):

            async def failed(attempts: int = attempts) -> bool:
                repo = await here.repo(bob)
                return repo is not None and (repo.state, repo.attempts) == ("WAIT", attempts)

            await here.until(failed)
            repo = await here.until_state(bob, "WAIT")
            assert 0.8 * pause_s <= (repo.next_at_us - repo.since_us) / 1e6 <= 1.2 * pause_s
            await here.pass_s((repo.next_at_us - here.clock.now_us()) / 1e6 + 1)
        await assert_complete(here, bob)


async def test_a_host_that_hangs_does_not_hold_up_the_others(network: Network, tmp_path: Path) -> None:
    slow, quick = network.hosts[0], await network.add_host()
    stuck = [network.add_account(f"stuck{letter}", slow) for letter in "abcdefgh"]
    fine = [network.add_account(f"fine{letter}", quick) for letter in "abcdefgh"]
    for account in (*stuck, *fine):
        fill(account, 3)
    slow.script = lambda request: Answer(hang=True)
    async with rig(network, tmp_path) as here:
        await here.track(*stuck, *fine)
        for account in fine:
            await assert_complete(here, account)

        assert slow.requests
        assert slow.in_flight_most <= 2


async def test_a_dead_host_rests_as_a_whole(network: Network, tmp_path: Path) -> None:
    host = network.hosts[0]
    accounts = [network.add_account(f"name{letter}", host) for letter in "abcdefghijklmnop"]
    for account in accounts:
        fill(account, 1)
    host.script = lambda request: Answer(503)
    async with rig(network, tmp_path) as here:
        await here.track(*accounts)
        await here.until_state(accounts[0], "WAIT")
        await here.until(lambda: not host.in_flight)
        asked = len(host.requests)
        for _ in range(20):
            here.backfill.wake()
            await here.clock.advance(0.1)
        # Not each of the sixteen had to find out for itself.
        assert asked <= 4
        assert len(host.requests) == asked

        host.script = None
        await here.clock.advance(120)
        for account in accounts:
            await assert_complete(here, account)


@pytest.mark.parametrize("kills", [1, 2, 3, 4, 5, 6, 7, 8])
async def test_a_restart_after_any_page_goes_on_where_it_was(
    network: Network, tmp_path: Path, kills: int
) -> None:
    bob = network.add_account("bob")
    fill(bob, 250, 230)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        for pages in range(1, kills + 1):

            async def reached(pages: int = pages) -> bool:
                scan = await here.scan(bob)
                return (scan is not None and scan.pages >= pages) or bool((await here.repo(bob)).cert_rev)  # type: ignore[union-attr]

            await here.until(reached)
            await here.restart()
        await assert_complete(here, bob)

        # 3 + 3 + 1 pages; a page under way at a restart is asked for once more.
        assert len(bob.host.asked("listRecords")) <= 7 + kills
        first = [p for p in bob.host.asked("listRecords") if p["collection"] == POST and "cursor" not in p]
        assert len(first) <= 2


async def test_a_scan_older_than_a_day_begins_anew(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 350)
    once(bob.host, "listRecords", Answer(503), after=3)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await here.until_state(bob, "WAIT")
        await here.stop()
        bob.post("a day later")
        await here.clock.advance(25 * 3600)
        here.start()
        repo = await assert_complete(here, bob)
        assert repo.base_rev == bob.rev


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("order", ["descending", "ascending always"])
async def test_what_is_written_while_pages_are_read_is_neither_lost_nor_doubled(
    network: Network, tmp_path: Path, seed: int, order: str
) -> None:
    rng = random.Random(seed)
    bob = network.add_account("bob")
    bob.host.order = order  # type: ignore[assignment]
    fill(bob, 330)
    waiting: list[CommitEvent] = []
    async with rig(network, tmp_path) as here:

        async def write(request: Request) -> None:
            for _ in range(rng.randrange(3)):
                paths = sorted(path for path in bob.paths if path.startswith(POST))
                match rng.randrange(4):
                    case 0:
                        waiting.extend(bob.commit([("delete", rng.choice(paths), None)]))
                    case 1:
                        record = {"text": f"edited {rng.random()}", "createdAt": network.next_datetime()}
                        waiting.extend(bob.commit([("update", rng.choice(paths), record)]))
                    case _:
                        bob.post(f"new {rng.random()}")
                        waiting.append(bob.events[-1])
            # The stream may be late, but keeps the order.
            count = rng.randrange(len(waiting) + 1)
            await here.deliver(waiting[:count])
            del waiting[:count]

        bob.host.script = write
        await here.track(bob)
        await here.until_state(bob, "LIVE")
        await here.deliver(waiting)

        assert await here.held(bob) == shown(bob)


async def test_an_update_that_comes_between_a_page_and_its_use_stays_56(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    (path, *_) = (path for path in bob.paths if path.startswith(POST))
    shown_old: list[str] = []
    async with rig(network, tmp_path) as here:

        async def overtake(request: Request) -> Answer | None:
            if not request.nsid.endswith("listRecords") or request.params["collection"] != POST or shown_old:
                return None
            page = bob.host.honest(request)
            shown_old.append(bob.paths[path])
            record = {"text": "edited meanwhile", "createdAt": network.next_datetime()}
            await here.deliver(bob.commit([("update", path, record)]))
            return page

        bob.host.script = overtake
        await here.track(bob)
        await here.until_state(bob, "LIVE")

        assert shown_old[0] != bob.paths[path]
        assert await here.held(bob) == shown(bob)


async def test_a_deletion_seen_before_its_page_is_applied_stays(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    soon = bob.post("soon gone")
    async with rig(network, tmp_path) as here:

        async def delete(request: Request) -> Answer | None:
            if not request.nsid.endswith("listRecords") or request.params["collection"] != POST:
                return None
            stale = bob.host.honest(request)
            if soon.split("/", 3)[3] in bob.paths:
                await here.deliver(bob.delete(soon))
            return stale

        bob.host.script = delete
        await here.track(bob)
        await here.until_state(bob, "LIVE")

        assert await here.state_of(soon) == 2
        assert await here.held(bob) == shown(bob)


@pytest.mark.parametrize("page", range(1, 7))
async def test_an_account_that_moves_in_mid_scan_is_read_at_its_new_home(
    network: Network, tmp_path: Path, page: int
) -> None:
    bob = network.add_account("bob")
    fill(bob, 250, 150)
    new = await network.add_host()
    pages = 0

    def move(request: Request) -> None:
        nonlocal pages
        if request.nsid.endswith("listRecords"):
            pages += 1
            if pages == page:
                network.move(bob, new)
                # An import brings records without commits.
                bob.post("written at the new home")

    network.hosts[0].script = move
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "LIVE")

        assert await here.held(bob) == shown(bob)
        assert repo.cert_rev == bob.rev
        assert new.asked("listRecords")


@pytest.mark.parametrize("status", ["deactivated", "takendown", "suspended"])
async def test_an_account_that_turns_inactive_in_mid_scan_is_set_aside_until_it_is_back(
    network: Network, tmp_path: Path, status: str
) -> None:
    bob = network.add_account("bob")
    fill(bob, 350)

    def turn(request: Request) -> None:
        if "cursor" in request.params:
            bob.status = status

    bob.host.script = turn
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "INACTIVE")
        assert repo.reason == status
        assert await here.all("SELECT status FROM actor WHERE did = ?", bob.did) == [(status,)]
        assert await here.scan(bob) is None

        bob.status = None  # lifted without an event
        bob.host.script = None
        await here.clock.advance(8 * 3600)
        await assert_complete(here, bob)
        assert await here.all("SELECT status FROM actor WHERE did = ?", bob.did) == [(None,)]


async def test_74_who_wakes_in_a_gap_is_shown_again_without_waiting_for_the_next_look(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    bob.status = "deactivated"
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await here.until_state(bob, "INACTIVE")
        bob.status = None
        await here.pass_s(600, step_s=60)
        assert len(bob.host.asked("getRepoStatus")) == 1, "nobody said a word"
        await doubt(here, f"{repos.STREAM_GAP}: outage")
        await here.until_state(bob, "LIVE")


async def test_an_inactive_account_is_asked_about_ever_more_rarely(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    bob.status = "deactivated"
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await here.until_state(bob, "INACTIVE")
        await here.pass_s(200 * 3600, step_s=1800)
        # 6 h, 12 h, 24 h, 48 h, 96 h …
        assert 4 <= len(bob.host.asked("getRepoStatus")) <= 8


async def test_a_deleted_account_is_gone_only_by_its_own_hosts_word(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)
        # What a relay says of it is false.
        await here.deliver([AccountEvent(bob.did, False, "deleted", here.clock.now_us(), 5)])
        await assert_complete(here, bob)

        del bob.host.accounts[bob.did]
        await doubt(here, "gap")
        await here.until_state(bob, "GONE")

        bob.host.accounts[bob.did] = bob
        await here.deliver([AccountEvent(bob.did, True, None, here.clock.now_us(), 6)])
        repo = await assert_complete(here, bob)
        assert repo.epoch == 1


async def test_bad_news_from_an_old_host_counts_for_nothing_while_the_directory_is_down(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)
        network.plc_down = True
        await here.clock.advance(120)
        bob.post("while the directory is down")
        await doubt(here, "gap")
        await assert_complete(here, bob)

        network.move(bob, await network.add_host())
        await here.clock.advance(120)
        await doubt(here, "gap")
        repo = await here.until_state(bob, "WAIT")
        assert repo.reason.startswith("host:")

        network.plc_down = False
        await here.clock.advance(200)
        await assert_complete(here, bob)


async def test_a_host_restored_from_an_old_copy_raises_the_epoch(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    kept = dict(bob.records), bob.rev
    lost = bob.post("lost by the restore")
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)

        bob.records, bob.rev = kept
        await doubt(here, "gap")
        repo = await assert_complete(here, bob)

        assert repo.epoch == 1
        assert await here.state_of(lost) == 2


async def test_a_host_behind_the_stream_is_given_time(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)
        old = dict(bob.records), bob.rev
        bob.post("the replica does not have it yet")
        new = dict(bob.records), bob.rev
        await here.deliver(bob.events[-1:])
        bob.records, bob.rev = old
        await doubt(here, "seam")
        repo = await here.until_state(bob, "WAIT")
        assert "behind" in repo.reason

        bob.records, bob.rev = new
        await here.clock.advance(90)
        repo = await assert_complete(here, bob)
        assert repo.epoch == 0


async def test_a_list_in_a_circle_is_no_list(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 250)
    bob.host.missing = {"getRepo"}

    def circle(request: Request) -> Answer | None:
        if request.params.get("collection") != POST:
            return None
        request.params.pop("cursor", None)
        return bob.host.honest(request)

    bob.host.script = circle
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "WAIT")
        assert repo.reason.startswith("data:")

        bob.host.script = None
        await here.clock.advance(90)
        await assert_complete(here, bob)


async def test_a_host_that_lists_in_no_order_is_read_by_its_tree(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 250)

    def shuffled(request: Request) -> Answer | None:
        if request.params.get("collection") != POST:
            return None
        answer = bob.host.honest(request)
        text = answer.body.decode()
        head, tail = text.split('{"records":[', 1)[1].rsplit("]", 1)
        rows = head.split(',{"uri"')
        rows = [rows[0], *('{"uri"' + row for row in rows[1:])]
        rows[3], rows[7] = rows[7], rows[3]
        return Answer(200, f'{{"records":[{",".join(rows)}]{tail}'.encode())

    bob.host.script = shuffled
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob, "signed")


async def test_rows_of_others_and_broken_rows_are_left_out_and_the_signed_repository_decides(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)

    def mix(request: Request) -> Answer | None:
        if request.params.get("collection") != POST:
            return None
        answer = bob.host.honest(request)
        foreign = b'{"uri":"at://did:plc:eveeveeveeveeveeveeveeve/app.bsky.feed.post/3jzfcijpj2z2a","cid":"x","value":{}}'
        broken = b'{"uri":"what?","cid":"x","value":{"a":1}}'
        return Answer(body=answer.body.replace(b"]}", b"," + foreign + b"," + broken + b"]}"))

    bob.host.script = mix
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob, "signed")


async def test_doubt_in_mid_scan_is_answered_by_another_scan(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 250)
    doubted = False
    async with rig(network, tmp_path) as here:

        async def shake(request: Request) -> None:
            nonlocal doubted
            if "cursor" in request.params and not doubted:
                doubted = True
                bob.post("in the gap")  # the stream never tells
                await doubt(here, "an event could not be applied")

        bob.host.script = shake
        await here.track(bob)
        await here.until(lambda: doubted)
        await assert_complete(here, bob)


async def test_a_job_that_fails_in_an_unforeseen_way_is_tried_again(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.backfill import job

    bob = network.add_account("bob")
    fill(bob, 3)
    honest = job._take
    failed = False

    async def fail(step: job._Step) -> Outcome:
        nonlocal failed
        if not failed:
            failed = True
            raise RuntimeError("nobody foresaw this")
        return await honest(step)

    monkeypatch.setattr(job, "_take", fail)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await here.until(lambda: failed)
        await asyncio.sleep(0.05)
        await here.clock.advance(70)
        await assert_complete(here, bob)


async def test_an_unfollow_in_mid_scan_costs_nothing_when_taken_back(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 250)
    async with rig(network, tmp_path) as here:

        async def waver(request: Request) -> None:
            repo = await here.repo(bob)
            assert repo is not None
            now_us = here.clock.now_us()
            await here.database.write(lambda tx: repos.unwant(tx, repo.actor, now_us))
            await here.database.write(lambda tx: repos.want(tx, repo.actor, now_us))

        bob.host.script = waver
        await here.track(bob)
        await assert_complete(here, bob)
        assert len(bob.host.asked("listRecords")) == 5


async def test_a_page_of_huge_records_is_read_in_smaller_portions(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 5)
    for number in range(15):
        bob.post(f"{number}" + "x" * 400_000)
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob)
        assert "10" in {params["limit"] for params in bob.host.asked("listRecords")}


@pytest.mark.parametrize("awake", [True, False])
async def test_35_an_answer_that_an_event_overtakes_is_not_believed(
    network: Network, tmp_path: Path, awake: bool
) -> None:
    """The account changes once its server has answered; the stream says so before the answer is written."""
    bob = network.add_account("bob")
    fill(bob, 3)
    before, after = ("deactivated", None) if awake else (None, "deactivated")
    events: list[asyncio.Task[None]] = []
    async with rig(network, tmp_path) as here:
        bob.status = None if awake else "deactivated"
        await here.track(bob)
        await here.until_state(bob, "LIVE" if awake else "INACTIVE")

        def overtake(request: Request) -> Answer | None:
            if not request.nsid.endswith("getRepoStatus") or events:
                return None
            bob.status = before
            answer = bob.host.honest(request)
            bob.status = after
            event = AccountEvent(bob.did, awake, after, here.clock.now_us(), 99)
            events.append(asyncio.create_task(here.deliver([event])))
            return answer

        bob.host.script = overtake
        if awake:
            await doubt(here, "operator")
        async with asyncio.timeout(60):
            while not events:
                await here.pass_s(3600, step_s=60)
        await events[0]
        await here.pass_s(600, step_s=60)
        repo = await here.until_state(bob, "LIVE" if awake else "INACTIVE")
        assert await here.all("SELECT status FROM actor WHERE did = ?", bob.did) == [(after,)]
        assert repo.reason == (after or "")
