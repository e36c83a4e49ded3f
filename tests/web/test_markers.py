"""Reading at a marker: only the reader moves it, nothing is missed, nothing is shown twice."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest

from appliance.store import reading
from appliance.store.completeness import Doubt
from appliance.timeline.completeness import Report
from tests.timeline.village import POST, did
from tests.web.reading_rig import House, Screen, house, opened

MINUTE_US = 60_000_000


async def write(place: House, count: int, start: int = 0, who: str = "bob") -> list[str]:
    texts = [f"post {n}" for n in range(start, start + count)]
    for text in texts:
        await place.village.post(who, text)
    return texts


async def test_who_never_marked_sees_the_newest_page_and_no_count(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 60)
        home = await opened(phone)

        assert home.texts[0] == "post 59"
        assert "—" not in home.texts
        assert home.title == "Home"
        assert "Nothing marked yet" in home.tools


async def test_home_opens_at_the_marker_with_what_is_unread_above_it(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 60)
        read = await (await opened(phone)).read_to("post 59")
        assert read.texts[:2] == ["—", "post 59"]
        await write(place, 70, 60)
        home = await opened(phone)

        assert home.title == "(70) Home"
        assert home.texts == [f"post {n}" for n in range(99, 59, -1)] + ["—"] + [
            f"post {n}" for n in range(59, 49, -1)
        ]
        assert "30 newer" in home.document.all("a", rel="prev")[0].words
        above = await home.go(home.link("prev"))
        assert above.texts == [f"post {n}" for n in range(129, 99, -1)]
        assert above.link("prev") == ""
        assert (await home.go(home.link("next"))).texts[0] == "post 49"


@pytest.mark.invariant("marker-is-the-reader-s")
async def test_nothing_but_the_reader_moves_the_marker(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone, place.device() as desk:
        await write(place, 20)
        await (await opened(phone)).read_to("post 9")
        for path in ("/", "/?newest=1", "/api/timeline", "/api/timeline/state", "/late", "/reading"):
            assert (await desk.get(path)).status_code == 200
        await write(place, 5, 20)

        assert (await opened(desk)).title == "(15) Home"
        assert (await opened(phone)).texts.index("—") == 15


async def test_a_second_device_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone, place.device() as desk:
        await write(place, 30)
        left = await (await opened(phone)).read_to("post 17")
        found = await opened(desk)

        assert found.texts[found.texts.index("—") + 1] == "post 17"
        assert left.texts[left.texts.index("—") + 1] == "post 17"


async def test_the_further_mark_of_two_devices_wins_and_an_explicit_one_goes_back(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone, place.device() as desk:
        await write(place, 30)
        first = await (await opened(phone)).read_to("post 5")
        old = await opened(desk)
        await first.read_to("post 20")
        behind = await old.read_to("post 10")
        assert "The marker stays" in behind.document.one("p", class_="notice").words
        assert (await opened(desk)).title == "(9) Home"

        page = await opened(desk)
        name, value = page.button("post 8")
        assert name == "exactly"
        back = await page.press(name, value)
        assert back.title == "(21) Home"
        # A page that was opened before that can't undo it by the way.
        refused = await first.read_to("post 25")
        assert "The marker stays" in refused.document.one("p", class_="notice").words
        assert (await opened(phone)).title == "(21) Home"


async def test_the_last_move_is_undone_and_made_again(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 30)
        page = await (await opened(phone)).read_to("post 5")
        page = await page.read_to("post 28")
        assert page.title == "(1) Home"

        page = await page.press(path="/api/reading/undo")
        assert page.title == "(24) Home"
        page = await page.press(path="/api/reading/undo")
        assert page.title == "(1) Home"


async def test_a_marker_outlives_the_post_that_it_stood_on(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 9)
        post = await place.village.post("bob", "soon gone")
        await (await opened(phone)).read_to("soon gone")
        await write(place, 3, 9)
        await place.village.delete(post)
        home = await opened(phone)

        assert home.texts[:5] == ["post 11", "post 10", "post 9", "—", "post 8"]
        assert home.title == "(3) Home"


async def test_all_is_read_up_to_the_moment_of_the_page_and_no_further(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 9)
        page = await (await opened(phone)).read_to("post 2")
        await place.village.clock.advance((place.village._us - place.village.clock.now_us()) / 1e6 + 0.5)
        page = await page.go("/")
        buttons = [b for b in page.document.all("button") if b.words == "Mark all as read"]
        await write(place, 2, 9)
        page = await page.press("at", buttons[0]["value"])

        assert page.title == "(2) Home"


async def test_filters_are_counted_shown_once_and_taken_off_again(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        first = await place.village.post("bob", "first")
        page = await (await opened(phone)).read_to("first")
        await place.village.reply("carol", first)
        await place.village.repost("carol", await place.village.post("zed", "from afar"))
        own = await place.village.post("bob", "my own")
        await place.village.repost("bob", own)
        await place.village.post("carol", "quoting", embed={"$type": "app.bsky.embed.record", "record": own})
        assert (await opened(phone)).title == "(5) Home"

        async def chosen(**switches: str) -> Screen:
            await page.press(path="/api/reading/options", **switches)
            return await opened(phone)

        home = await chosen(replies="1", reposts="1")
        assert home.texts[:2] == ["quoting", "my own"]
        assert home.title == "(2) Home"
        assert "3 hidden by your filters" in home.tools
        once = await home.go("/?all=1")
        assert len(once.texts) == 7  # five, the marker, and what was read
        assert once.title == "(2) Home"
        assert (await chosen(quotes="1", own_reposts="1")).texts[:3] == [
            "my own",
            "from afar",
            "carol replies",
        ]
        assert (await chosen(no_media="1")).texts == ["—"]
        assert (await chosen(strangers="1")).title == "(5) Home"
        await place.village.reply("carol", await place.village.post("zed", "unknown"))
        assert (await opened(phone)).title == "(5) Home"
        assert (await chosen()).title == "(6) Home"


async def test_some_of_what_one_account_writes_is_left_out_everywhere(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await place.village.join("zed")
        first = await place.village.post("bob", "first")
        page = await (await opened(phone)).read_to("first")
        await place.village.reply("bob", first)
        await place.village.reply("carol", first)
        await page.press(path="/api/reading/account", did=did("carol"), replies="1")
        home = await opened(phone)

        assert (home.title, home.texts[0]) == ("(1) Home", "bob replies")
        assert "1 hidden by your filters" in home.tools
        await page.press(path="/api/reading/account", did=did("carol"))
        home = await opened(phone)
        assert home.title == "(2) Home"


async def test_the_other_way_round_the_oldest_stands_on_top(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 60)
        page = await (await opened(phone)).read_to("post 15")
        await page.press(path="/api/reading/options", order="oldest")
        home = await opened(phone)

        assert home.texts == [f"post {n}" for n in range(6, 16)] + ["—"] + [
            f"post {n}" for n in range(16, 56)
        ]
        following = await home.go(home.link("prev"))
        assert following.texts == [f"post {n}" for n in range(56, 60)]


async def test_a_time_is_jumped_to(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 10)
        at_us = place.village._us
        place.village._us += 3_600_000_000
        await write(place, 10, 10)
        moment = dt.datetime.fromtimestamp(at_us / 1e6 + 600, dt.UTC).strftime("%Y-%m-%dT%H:%M")
        page = await opened(phone, f"/?at={moment}")

        assert page.texts == [f"post {n}" for n in range(19, -1, -1)]
        assert (await phone.get("/?at=yesterday")).status_code == 400
        beyond = await opened(phone, "/?at=2020-01-01T00:00")
        assert beyond.texts[-1] == "post 0"


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report("complete", total=3, complete=3), "You are all caught up."),
        (Report("waiting", total=3, complete=2, waiting=1), "1 account is still being checked"),
        (Report("not-live", total=3, complete=3), "newer posts may be missing"),
    ],
)
async def test_caught_up_is_said_only_where_it_is_proved(tmp_path: Path, report: Report, words: str) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 3)
        place.site.shelf.report = report
        page = await (await opened(phone)).read_to("post 1")
        assert words not in page.html
        page = await page.read_to("post 2")
        assert words in page.html
        assert ("all caught up" in page.html) is (report.state == "complete")


@pytest.mark.parametrize("few", [reading.ARRIVALS_LOOKED_AT_MAX, 0])
async def test_what_arrives_late_below_the_marker_is_told_till_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(reading, "ARRIVALS_LOOKED_AT_MAX", few)
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 5)
        between_us = place.village._us + 500_000
        await write(place, 5, 5)
        page = await (await opened(phone)).read_to("post 9")
        await place.village.post("carol", "late one", at_us=between_us)
        home = await opened(phone)
        assert "1 arrived late below your marker" in home.tools
        assert home.title == "Home"
        row = next(a for a in home.document.all("article") if "late one" in a.words)
        assert "Arrived late" in row.words

        # Going on does not lose it.
        await write(place, 1, 10)
        page = await (await home.go("/")).read_to("post 10")
        assert "1 arrived late" in page.tools
        late = await page.go("/late")
        assert late.texts == ["late one"]
        arrival = late.document.all("input", name="arrival")[0]["value"]
        page = await page.press(path="/api/reading/late", arrival=arrival)
        assert "arrived late" not in page.tools


async def test_the_history_of_a_new_follow_is_not_late(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await place.village.join("dave")
        before_us = place.village._us
        await write(place, 3)
        await (await opened(phone)).read_to("post 2")
        await place.village.follow("alice", "dave")
        await place.village.post("dave", "long ago", at_us=before_us)

        assert "late" not in (await opened(phone)).tools


async def test_a_doubt_stands_where_something_may_be_missing(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 5)
        to_us = place.village._us - 500_000
        doubt = Doubt("stream gap", to_us - 2_000_000, to_us, 2, 0, [did("bob")])
        place.site.shelf.in_doubt = [doubt]
        assert 'class="gap"' not in (await opened(phone)).html
        place.site.shelf.report = Report("complete-until", total=3, complete=1, doubtful=2)
        home = await opened(phone)
        [gap] = home.document.all("p", class_="gap")
        assert "2 accounts" in gap.words
        assert home.html.index(">post 4<") < home.html.index('class="gap"') < home.html.index(">post 3<")


async def test_a_list_has_a_marker_of_its_own(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        made = await place.village.write(
            "alice",
            "app.bsky.graph.list",
            {"name": "Cartographers", "purpose": "app.bsky.graph.defs#curatelist"},
        )
        await place.village.write(
            "alice", "app.bsky.graph.listitem", {"list": made["uri"], "subject": did("bob")}
        )
        await write(place, 4)
        path = f"/l/{did('alice')}/{made['uri'].rpartition('/')[2]}"
        page = await opened(phone, path)
        assert page.document.one("h1").words == "Cartographers"
        page = await page.read_to("post 1")

        assert page.title == "(2) Cartographers"
        assert page.texts == ["post 3", "post 2", "—", "post 1", "post 0"]
        assert (await opened(phone)).title == "Home"
        assert (await phone.get(f"/l/{did('alice')}/3none")).status_code == 404


async def test_an_open_page_hears_what_changes_in_few_bytes(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone:
        await write(place, 5)
        page = await (await opened(phone)).read_to("post 2")
        top = next(e for e in page.document.elements if e.get("id") == "tools")["data-top"]
        await write(place, 3, 5)
        answer = await phone.get("/api/timeline/state", params={"top": top})

        assert answer.json() == {
            "unread": "5",
            "above": "3",
            "hidden": 0,
            "version": 0,
            "marked": answer.json()["marked"],
        }
        assert len(answer.content) <= 300
        again = await phone.get(
            "/api/timeline/state", params={"top": top}, headers={"If-None-Match": answer.headers["etag"]}
        )
        assert again.status_code == 304


async def read_all(place: House, rng: random.Random, posts: int, changes: int) -> None:
    """Read upwards to the end while posts arrive, late ones too, and others go."""
    shown: list[str] = []
    addresses: dict[str, dict[str, str]] = {}
    gone: set[str] = set()
    made = 0
    lows: list[int] = []

    async def add(at_us: int | None = None) -> None:
        nonlocal made
        text = f"post {made}"
        made += 1
        addresses[text] = await place.village.post(rng.choice(("bob", "carol")), text, at_us=at_us)
        lows.append(place.village._us)

    async def change() -> None:
        choice = rng.random()
        if choice < 0.3:
            await add()
        elif choice < 0.7:
            await add(at_us=rng.choice(lows) + rng.randrange(1, 900_000))
        else:
            text = rng.choice([t for t in addresses if t not in gone])
            gone.add(text)
            await place.village.delete(addresses[text])

    await place.village.post("bob", "start")
    async with place.device() as phone:
        await (await opened(phone)).read_to("start")
        # A few hundred in one batch, as a stream brings them.
        for start in range(0, posts, 250):
            events = []
            for _ in range(start, min(start + 250, posts)):
                text = f"post {made}"
                made += 1
                event = place.village.event(rng.choice(("bob", "carol")), POST, {"text": text})
                addresses[text] = {"uri": f"at://{event.did}/{POST}/{event.rkey}"}
                lows.append(place.village._us)
                events.append(event)
            await place.village.apply(*events)
        for rest in (changes, changes // 2, 0):
            page = await opened(phone)
            while True:
                texts = page.texts
                seen = texts[: texts.index("—")] if "—" in texts else texts
                assert not set(seen) & set(shown), "shown twice"
                shown += seen
                for _ in range(rest):
                    await change()
                # The same page again: rows go or come, the others stay as they stood.
                again = (await page.go(str(page.address))).texts
                assert [t for t in again if t in texts] == [t for t in texts if t in again]
                if not page.link("prev"):
                    break
                page = await page.go(page.link("prev"))
            await page.read_to(next(t for t in page.texts if t != "—"))
        late = (await page.go("/late")).texts
        truth = {t for t in addresses if t not in gone}
        assert truth <= set(shown) | set(late), sorted(truth - set(shown) - set(late))[:5]
        assert not set(late) & set(shown)
        assert (await opened(phone)).title == "Home"


@pytest.mark.invariant("marker-is-the-reader-s")
async def test_while_posts_come_late_and_go_the_pages_upwards_are_the_whole_timeline(tmp_path: Path) -> None:
    async with house(tmp_path) as place:
        await read_all(place, random.Random(20261125), posts=180, changes=12)


@pytest.mark.long
async def test_five_thousand_unread_posts_are_read_whole_while_others_come_late_and_go(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as place:
        await read_all(place, random.Random(5000), posts=5000, changes=20)
