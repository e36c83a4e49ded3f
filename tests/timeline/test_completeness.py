"""How complete a timeline is: by real rows, and never more than they say."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import BadInput
from appliance.store import actors, completeness, repos
from appliance.store.collections import NUMBERS, OF_EVERYBODY
from appliance.store.database import Reader, Transaction
from appliance.store.repos import Certificate
from appliance.timeline.completeness import Completeness, Report, Stream, judge
from tests.timeline.village import POST, Village, did, village

LIVE = Stream(None, 0.4)
REV = "3l5zoqfzlqk2a"
DIGEST = b"d" * 32


class Place:
    """A village whose people follow each other, and the states of their repositories."""

    def __init__(self, people: Village) -> None:
        self.people = people
        self.stream = LIVE
        self.proving = Completeness(people.database, lambda: self.stream)

    async def all_live(self, *names: str) -> None:
        for name in names:
            await self.change(name, live)

    async def change(self, name: str, work: Any, *arguments: Any) -> None:
        now_us = self.people.clock.now_us()

        def act(tx: Transaction) -> None:
            actor = actors.find_id(tx, did(name))
            assert actor is not None
            work(tx, actor, *arguments, now_us)

        await self.people.database.write(act)

    async def report(self, who: str = "ann") -> Report:
        return await self.proving.of(did(who))


def live(tx: Transaction, actor: int, now_us: int) -> None:
    assert repos.start(tx, actor, 0, now_us)
    assert repos.finalise(tx, actor, 0, REV, Certificate(REV, "listing", DIGEST, 7, (DIGEST, 7)), now_us)


def in_doubt(tx: Transaction, actor: int, from_us: int | None, now_us: int) -> None:
    assert repos.suspect(tx, actor, "stream gap: too old", now_us, from_us=from_us)


def settled(tx: Transaction, actor: int, now_us: int) -> None:
    tx.run("UPDATE repo SET state = 'LIVE', doubt_us = NULL WHERE actor = ?", (actor,))


def found_wrong(tx: Transaction, actor: int, from_us: int | None, now_us: int) -> None:
    tx.run(
        "INSERT INTO finding (actor, collection, rkey, kind, level, rev, door, from_us, found_us)"
        " VALUES (?, 1, 'x', 'missing', 'listing', ?, 'test', ?, ?)",
        (actor, REV, from_us, now_us),
    )


def waits(tx: Transaction, actor: int, reason: str, now_us: int) -> None:
    assert repos.wait(tx, actor, 0, reason, 1, now_us + 60_000_000, now_us)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with village(tmp_path) as people:
        await people.join("ann", "bob", "cat", "dan")
        member = (
            "INSERT INTO member (actor, via, admitted_us) SELECT id, 'operator', 1 FROM actor WHERE did = ?"
        )
        await people.mark(member, did("ann"))
        await people.mark(
            "INSERT INTO repo (actor, state, since_us, refs, cover_us)"
            " SELECT id, 'QUEUED', 1, 1, 1 FROM actor WHERE did = ?",
            did("ann"),
        )
        await people.follow("ann", "bob", "cat", "dan")
        yield Place(people)


async def test_complete_is_said_only_when_every_account_has_its_certificate(place: Place) -> None:
    await place.all_live("ann", "bob", "cat")
    before = await place.report()
    await place.all_live("dan")
    after = await place.report()

    assert (before.state, before.total, before.complete, before.catching_up) == ("catching-up", 4, 3, 1)
    assert before.until_us is None
    assert (after.state, after.complete, after.records) == ("complete", 4, 28)
    await place.people.mark("UPDATE repo SET cert_rev = NULL WHERE actor = 2")
    assert (await place.report()).state == "catching-up"


async def test_one_account_in_doubt_bounds_all_of_it(place: Place) -> None:
    """Of several the earliest: catalogue 99, and GAPFREE §3.1."""
    await place.all_live("ann", "bob", "cat", "dan")
    await place.change("bob", in_doubt, 5_000_000)
    await place.change("cat", in_doubt, 3_000_000)

    report = await place.report()

    assert (report.state, report.until_us, report.doubtful, report.complete) == (
        "complete-until",
        3_000_000,
        2,
        2,
    )
    (doubts,) = [await place.proving.doubts(did("ann"))]
    assert [(one.from_us, one.accounts, one.dids) for one in doubts] == [
        (3_000_000, 1, [did("cat")]),
        (5_000_000, 1, [did("bob")]),
    ]


async def test_the_interval_of_a_gap_has_the_gap_s_end(place: Place) -> None:
    await place.all_live("ann", "bob", "cat", "dan")
    await place.people.mark(
        "INSERT INTO gap (upstream, from_us, to_us, reason, noticed_us) VALUES ('u', 10, 90, 'r', 100)"
    )
    await place.change("bob", in_doubt, 10)

    (doubt,) = await place.proving.doubts(did("ann"))

    assert (doubt.from_us, doubt.to_us, doubt.reason) == (10, 90, "stream gap: too old")


async def test_a_doubt_without_a_beginning_leaves_what_the_certificate_proved_unless_something_is_wrong(
    place: Place,
) -> None:
    await place.all_live("ann", "bob", "cat", "dan")
    await place.change("bob", in_doubt, None)
    certified = await place.report()
    await place.change("bob", found_wrong, None)
    contradicted = await place.report()

    assert (certified.state, certified.until_us) == ("complete-until", place.people.clock.now_us())
    assert (contradicted.state, contradicted.until_us) == ("catching-up", None)


async def test_an_open_finding_takes_complete_away_whatever_the_state_says(place: Place) -> None:
    await place.all_live("ann", "bob", "cat", "dan")
    await place.change("dan", found_wrong, 4_000_000)
    wrong = await place.report()
    await place.people.mark("UPDATE finding SET outcome = 'repaired', settled_us = 1")

    assert (wrong.state, wrong.until_us) == ("complete-until", 4_000_000)
    assert (await place.report()).state == "complete"


async def test_a_stream_that_is_down_or_behind_is_never_shown_as_complete(place: Place) -> None:
    """Catalogue 99: consumer dead, timelines served as fresh."""
    await place.all_live("ann", "bob", "cat", "dan")
    position_us = await place.people.database.read(lambda r: r.value("SELECT max(time_us) FROM upstream"))

    place.stream = Stream(down_since_us=123, lag_s=None)
    down = await place.report()
    place.stream = Stream(None, 61.0)
    behind = await place.report()
    place.stream = Stream(None, None)
    unknown = await place.report()
    place.stream = Stream(None, 59.0)

    assert (down.state, down.down_since_us, down.until_us) == ("not-live", 123, position_us)
    assert (behind.state, behind.until_us) == ("complete-until", position_us)
    assert (unknown.state, unknown.until_us) == ("complete-until", position_us)
    assert (await place.report()).state == "complete"
    await place.change("bob", in_doubt, 2_000_000)
    place.stream = Stream(None, 61.0)
    assert (await place.report()).until_us == 2_000_000
    await place.change("bob", settled)
    place.stream = Stream(123, None)
    assert [doubt.from_us for doubt in await place.proving.doubts(did("ann"))] == [position_us]


async def test_those_that_wait_are_told_by_the_class_of_their_reason(place: Place) -> None:
    """Catalogue 81 and 101: a directory or host that fails, or asks to wait, is no silent gap."""
    await place.all_live("ann")
    await place.change("bob", waits, "host: no answer")
    await place.change("cat", waits, "rate: asked to wait")
    await place.change("dan", waits, "host: closed the connection")

    report = await place.report()

    assert (report.state, report.waiting) == ("waiting", 3)
    assert [(wait.reason, wait.accounts) for wait in report.waits] == [("host", 2), ("rate", 1)]
    assert report.waits[0].next_at_us == place.people.clock.now_us() + 60_000_000


async def test_a_long_first_scan_is_shown_with_its_progress(place: Place) -> None:
    """Catalogue 72: the newest page is there in a second, and the timeline is not called complete."""
    await place.all_live("ann", "bob", "cat")
    await place.change("dan", lambda tx, actor, now_us: repos.start(tx, actor, 0, now_us))
    await place.people.mark(
        "INSERT INTO scan (actor, epoch, host, method, base_rev, collections, pages, rows, started_us)"
        " SELECT id, 0, 'h', 'listing', '', '[]', 20, 2000, 1 FROM actor WHERE did = ?",
        did("dan"),
    )

    report = await place.report()
    found, cursor = await place.proving.accounts(did("ann"), incomplete=True)

    assert (report.state, report.catching_up) == ("catching-up", 1)
    assert [(one.did, one.shown, one.pages, one.rows) for one in found] == [
        (did("dan"), "catching-up", 20, 2000)
    ]
    assert cursor == ""


async def test_who_is_not_active_is_listed_and_spoils_nothing(place: Place) -> None:
    await place.all_live("ann", "bob", "cat", "dan")
    await place.people.status("cat", "deactivated")
    await place.change("cat", lambda tx, actor, now_us: repos.deactivate(tx, actor, "deactivated", now_us))

    report = await place.report()
    found, _ = await place.proving.accounts(did("ann"), incomplete=True)

    assert (report.state, report.complete, report.inactive) == ("complete", 3, 1)
    assert [(one.shown, one.reason) for one in found] == [("inactive", "deactivated")]


async def test_pages_of_accounts_meet_without_a_gap(place: Place) -> None:
    names = []
    cursor = ""
    while True:
        found, cursor = await place.proving.accounts(did("ann"), cursor=cursor, limit=1)
        names += [one.did for one in found]
        if not cursor:
            break

    assert sorted(names) == sorted(map(did, ("ann", "bob", "cat", "dan")))
    with pytest.raises(BadInput) as caught:
        await place.proving.accounts(did("ann"), cursor="9x")
    assert caught.value.name == "BadCursor"


async def test_what_arrives_below_the_top_is_reported_since_the_marker(place: Place) -> None:
    """Catalogue 52: a late row lands below the reader's top and is never seen."""
    now_us = place.people.clock.now_us()
    await place.people.post("bob", "on top", at_us=now_us)
    marker = (await place.report()).arrival
    late = await place.people.post("cat", "late", at_us=now_us, created="2020-01-01T00:00:00Z")
    mine = await place.people.post("ann", "late too", at_us=now_us, created="2020-01-02T00:00:00Z")
    await place.people.post("bob", "new", at_us=now_us + 9_000_000)
    await place.people.join("eve")
    await place.people.post("eve", "nobody follows her", at_us=now_us, created="2020-01-01T00:00:00Z")

    first, following, more = await place.proving.late(did("ann"), marker, 1)
    rest, end, over = await place.proving.late(did("ann"), following, 10)

    assert ([row.uri for row in first], more) == ([late["uri"]], True)
    assert [row.uri for row in rest] == [mine["uri"]]
    assert (first[0].sort_ms, first[0].handle) == (1_577_836_800_000, "cat.test")
    assert not over
    assert await place.proving.late(did("ann"), end, 10) == ([], end, False)
    assert end == (await place.report()).arrival


async def test_a_marker_of_long_ago_is_answered_in_portions_that_miss_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "LATE_LOOKED_AT_MAX", 2)
    now_us = place.people.clock.now_us()
    await place.people.post("bob", "on top", at_us=now_us)
    marker = (await place.report()).arrival
    wanted = [
        (await place.people.post("cat", "late", at_us=now_us, created=f"2020-01-0{n}T00:00:00Z"))["uri"]
        for n in range(1, 8)
    ]

    seen: list[str] = []
    more = True
    while more:
        rows, marker, more = await place.proving.late(did("ann"), marker, 100)
        seen += [row.uri for row in rows]

    assert seen == wanted


async def test_anybody_can_compute_the_digest_of_a_certificate(place: Place) -> None:
    from appliance.store import records

    post = await place.people.post("bob", "proved")

    def certify(tx: Transaction, actor: int, now_us: int) -> None:
        shown = records.digest(tx, actor, list(OF_EVERYBODY))
        assert repos.start(tx, actor, 0, now_us)
        assert repos.finalise(tx, actor, 0, REV, Certificate(REV, "signed", b"of all", 7, shown), now_us)

    await place.change("bob", certify)
    found = await place.proving.certificate("bob.test")

    profile = await place.people.database.read(
        lambda reader: reader.value(
            "SELECT r.cid FROM record r JOIN actor a ON a.id = r.actor WHERE a.did = ? AND r.collection = 5",
            (did("bob"),),
        )
    )
    lines = f"app.bsky.actor.profile/self {profile}\n{POST}/{post['uri'].rsplit('/', 1)[1]} {post['cid']}\n"
    assert found.collections == ["app.bsky.actor.profile", POST, "app.bsky.feed.repost"]
    assert found.account.digest == sha256(lines.encode()).digest()
    assert (found.account.records, found.account.rev, found.account.method) == (2, REV, "signed")
    for nobody in ("nobody.test", did("nobody")):
        with pytest.raises(BadInput) as caught:
            await place.proving.certificate(nobody)
        assert caught.value.name == "AccountNotTracked"
    with pytest.raises(BadInput):
        await place.proving.certificate("no handle")


async def test_a_certificate_for_anybody_does_not_tell_who_is_a_member(place: Place) -> None:
    """Ann is a member, of whom all is read and proved; bob is followed; both have written the same kinds."""
    from appliance.store import records

    for name in ("ann", "bob"):
        await place.people.like(name, await place.people.post(name, "proved"))

    def certify(tx: Transaction, actor: int, read: tuple[int, ...], now_us: int) -> None:
        of_all = records.digest(tx, actor, list(read))
        shown = records.digest_for_anybody(tx, actor, read, of_all)
        assert repos.start(tx, actor, 0, now_us)
        assert repos.finalise(tx, actor, 0, REV, Certificate(REV, "listing", *of_all, shown), now_us)

    await place.change("ann", certify, tuple(NUMBERS.values()))
    await place.change("bob", certify, OF_EVERYBODY)
    ann, bob = [await place.proving.certificate(f"{name}.test") for name in ("ann", "bob")]
    (own,) = [one for one in (await place.proving.accounts(did("ann")))[0] if one.did == did("ann")]

    assert ann.collections == bob.collections
    assert (ann.account.records, bob.account.records) == (2, 2)  # profile and post
    assert ann.account.digest is not None
    assert bob.account.digest is not None
    assert own.records is not None
    assert own.records > 2
    assert own.digest != ann.account.digest


async def test_the_sum_is_what_the_accounts_add_up_to_in_every_mixture(place: Place) -> None:
    """The two statements of the store, and a judge that was written from GAPFREE's table, agree."""
    chance = random.Random(20)
    for round_ in range(150):
        states = {}
        for name in ("ann", "bob", "cat", "dan"):
            states[name] = (
                chance.choice(["LIVE", "LIVE", "SUSPECT", "WAIT", "QUEUED", "SCANNING", "INACTIVE", "GONE"]),
                chance.choice([None, REV, REV]),
                chance.choice([None, 40, 50]),
                chance.choice([None, None, None, 0, 30]),
            )
        await place.people.database.write(lambda tx, states=states: put(tx, states))  # type: ignore[misc]
        shares = await place.people.database.read(lambda r: completeness.of_viewer(r, viewer(r)))
        found, _ = await place.proving.accounts(did("ann"), limit=10)
        report = judge(shares, LIVE, 99, 0)

        expected = {did(name): judged(*state) for name, state in states.items()}
        assert {one.did: (one.shown, one.proved_us) for one in found} == expected, (round_, states)
        shown = [each for each, _ in expected.values()]
        assert report.complete == shown.count("complete")
        assert report.doubtful == shown.count("complete-until")
        assert report.catching_up == shown.count("catching-up")
        if report.state == "complete":
            assert set(shown) <= {"complete", "inactive"}
        if report.until_us is not None:
            assert set(shown) <= {"complete", "complete-until", "inactive"}
            assert report.until_us == min(until for _, until in expected.values() if until is not None)


def judged(state: str, cert: str | None, doubt: int | None, wrong: int | None) -> tuple[str, int | None]:
    if state in ("INACTIVE", "GONE"):
        return "inactive", None
    if state == "WAIT":
        return "waiting", None
    if state == "LIVE" and cert and wrong is None:
        return "complete", None
    if state in ("LIVE", "SUSPECT") and cert and wrong != 0:
        begin = doubt if wrong is None else min(wrong, doubt or wrong)
        return "complete-until", 70 if begin is None else begin
    return "catching-up", None


def viewer(reader: Reader) -> int:
    found = actors.find_id(reader, did("ann"))
    assert found is not None
    return found


def put(tx: Transaction, states: dict[str, tuple[str, str | None, int | None, int | None]]) -> None:
    tx.run("DELETE FROM finding")
    for name, (state, cert, doubt, wrong) in states.items():
        actor = actors.find_id(tx, did(name))
        assert actor is not None
        tx.run(
            "UPDATE repo SET state = ?, cert_rev = ?, cert_us = iif(?2 IS NULL, NULL, 70), doubt_us = ?,"
            " reason = '' WHERE actor = ?",
            (state, cert, doubt, actor),
        )
        if wrong is not None:
            found_wrong(tx, actor, wrong or None, 100)
