"""Reading in a real browser: where pages open, that nothing moves, keys, two devices."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.web.chromium import browser
from tests.web.reading_rig import COOKIE, House, house

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as launched:
        yield launched


@contextlib.asynccontextmanager
async def device(
    chromium: Browser, place: House, *, script: bool = True, size: dict[str, int] | None = None
) -> AsyncIterator[Page]:
    """A browser of Alice's that fails the test for anything it complains of."""
    context = await chromium.new_context(viewport=size or PHONE, java_script_enabled=script)  # type: ignore[arg-type]
    await context.add_cookies([{"name": "session", "value": COOKIE, "url": place.site.origin}])
    page = await context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    # With script the marker has focus before the browser gets round to it: that is wanted.
    assert [c for c in complaints if not c.startswith("Autofocus processing was blocked")] == []


async def write(place: House, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        await place.village.post("bob", f"post {n} " + "and some more words of it " * (n % 5))


async def top_of(page: Page, text: str) -> float:
    """How far down on the screen that post stands."""
    box = await page.locator("article").filter(has_text=text).first.bounding_box()
    assert box is not None
    return box["y"]


async def mark(page: Page, text: str) -> None:
    row = page.locator("article").filter(has_text=text).first
    await row.get_by_role("button", name="Read up to here").click()


async def settled(page: Page) -> None:
    """Scrolling and focus of a fresh page are done."""
    await page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("script", [True, False])
async def test_one_reads_marks_leaves_and_goes_on_at_the_same_place_on_another_device(
    tmp_path: Path, chromium: Browser, script: bool
) -> None:
    async with house(tmp_path) as place:
        await write(place, 60)
        async with device(chromium, place, script=script) as phone:
            await phone.goto(place.site.origin + "/")
            await mark(phone, "post 40 ")
            await phone.locator("#marker").wait_for()
            await phone.get_by_text("19 unread").wait_for()
        await write(place, 10, 60)
        async with device(chromium, place, script=script) as other:
            await other.goto(place.site.origin + "/")
            if script:
                await settled(other)
            assert "(29)" in await other.title()
            await other.screenshot()  # nothing is painted before what has focus is scrolled to
            box = await other.locator("#marker").bounding_box()
            assert box is not None
            if script:
                assert box["y"] == pytest.approx(PHONE["height"] * 2 / 3, abs=1)
            # The marker is in sight, with something unread above it and something read below.
            assert 100 < box["y"] < PHONE["height"] - 60
            below = await top_of(other, "post 40 ")
            assert box["y"] < below < PHONE["height"]
            assert await top_of(other, "post 41 ") < box["y"]


async def test_nothing_that_comes_in_moves_what_is_read(tmp_path: Path, chromium: Browser) -> None:
    async with house(tmp_path) as place:
        await write(place, 60)
        async with device(chromium, place, size=DESK) as page:
            await page.clock.install()
            await page.goto(place.site.origin + "/")
            await mark(page, "post 30 ")
            await page.get_by_text("29 unread").wait_for()
            await page.goto(place.site.origin + "/")
            for unread, start in ((49, 60), (89, 80)):
                before = await top_of(page, "post 31 ")
                await write(place, 20 if start == 60 else 40, start)
                await page.clock.run_for(31_000)
                await page.get_by_text(f"{unread} unread").wait_for()
                assert await page.title() == f"({unread}) Home"
                assert await top_of(page, "post 31 ") == pytest.approx(before, abs=0.5)

            # Taken when asked for: above, and what is read stays.
            at = await page.evaluate("scrollY")
            await page.evaluate("scrollTo(0, 300)")
            first = (await page.locator("#rows article").first.inner_text()).split(" and")[0]
            assert "post 59" in first
            before = await top_of(page, "post 58 ")
            await page.keyboard.press(".")
            await page.locator("article").filter(has_text="post 60 ").wait_for()
            assert await top_of(page, "post 58 ") == pytest.approx(before, abs=0.5)
            assert at > 0
            texts = await page.locator("#rows article .text").all_inner_texts()
            numbers = [int(text.split()[1]) for text in texts]
            assert numbers == sorted(set(numbers), reverse=True)
            assert numbers[0] == 109
            await page.get_by_text("10 newer").wait_for()
            await page.keyboard.press(".")
            await page.locator("article").filter(has_text="post 119 ").wait_for()
            assert await page.locator("#newer").count() == 0


async def test_going_back_from_a_post_finds_the_same_place(tmp_path: Path, chromium: Browser) -> None:
    async with house(tmp_path) as place:
        await write(place, 60)
        async with device(chromium, place, size=DESK) as page:
            await page.goto(place.site.origin + "/")
            await mark(page, "post 30 ")
            await page.get_by_text("29 unread").wait_for()
            await page.goto(place.site.origin + "/")
            await page.evaluate("scrollTo(0, 1234)")
            before = await page.evaluate(
                """() => [...document.querySelectorAll('#rows article')].map(a =>
                    [a.id, a.getBoundingClientRect().top]).find(([, top]) => top > 100)"""
            )
            row = page.locator(f"[id='{before[0]}']")
            await page.reload()
            await settled(page)
            box = await row.bounding_box()
            assert box is not None
            assert box["y"] == pytest.approx(before[1], abs=1)
            await page.goto(place.site.origin + "/completeness")
            await page.go_back()
            await settled(page)
            box = await row.bounding_box()
            assert box is not None
            assert box["y"] == pytest.approx(before[1], abs=1)


async def test_keys_go_through_the_posts_and_mark_and_take_back(tmp_path: Path, chromium: Browser) -> None:
    async with house(tmp_path) as place:
        await write(place, 20)
        async with device(chromium, place, size=DESK) as page:
            await page.goto(place.site.origin + "/")
            for _ in range(3):
                await page.keyboard.press("j")
            assert "post 17" in await page.evaluate("document.activeElement.innerText")
            await page.keyboard.press("k")
            await page.keyboard.press("m")
            await page.get_by_text("1 unread").wait_for()
            assert "post 18" in await page.locator("#marker + article").inner_text()
            await page.keyboard.press("j")
            await page.keyboard.press("K")
            assert "post 19" in await page.evaluate("document.activeElement.innerText")
            await (
                page.locator("article")
                .filter(has_text="post 15 ")
                .get_by_role("button", name="Set the marker back to here")
                .click()
            )
            await page.get_by_text("4 unread").wait_for()
            await page.keyboard.press("Z")
            await page.get_by_text("1 unread").wait_for()


async def test_a_like_is_done_in_place(tmp_path: Path, chromium: Browser) -> None:
    async with house(tmp_path) as place:
        await write(place, 20)
        async with device(chromium, place, size=DESK) as page:
            await page.goto(place.site.origin + "/")
            await page.evaluate("window.same = true")
            row = page.locator("article").filter(has_text="post 12 ")
            await row.get_by_role("button", name="Like post").scroll_into_view_if_needed()
            before = await top_of(page, "post 12 ")
            await row.get_by_role("button", name="Like post").click()
            await page.locator("[aria-busy]").wait_for(state="detached")
            assert place.site.pen.done[0][0] == "like"
            assert await page.evaluate("window.same")
            assert await top_of(page, "post 12 ") == before
            assert await page.evaluate("document.activeElement.className") == "like"
