"""The pages in a real browser: painted, keyed, pressed, narrow, and quiet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import Browser, Page

from tests.web import proof_samples
from tests.web.chromium import browser
from tests.web.samples import ME, World, did_of
from tests.web.site_rig import APP_PASSWORD, Site

PAGES = ("/", "/profile/ivo.example.net", "POST", "/login", "/nowhere", "/status", "/completeness?show=all")


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as launched:
        yield launched


@contextlib.asynccontextmanager
async def opened(
    chromium: Browser, site: Site, *, signed_in: bool = True, **named: Any
) -> AsyncIterator[Page]:
    """A page that fails the test for anything it complains of or asks of others."""
    context = await chromium.new_context(**named)
    if signed_in:
        site.door.inside["cookie-of-the-member"] = ME
        await context.add_cookies([{"name": "session", "value": "cookie-of-the-member", "url": site.origin}])
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((site.origin, "data:"))
            else complaints.append(f"request: {request.url}")
        ),
    )
    yield page
    await context.close()
    assert [c for c in complaints if "404" not in c] == []


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_no_page_is_wider_than_its_window(
    site: Site, world: World, chromium: Browser, width: int
) -> None:
    proof_samples.furnish(site)
    async with opened(chromium, site, viewport={"width": width, "height": 800}) as page:
        for path in PAGES:
            await page.goto(site.origin + path.replace("POST", f"/post/{world.focus}"))
            wide = await page.evaluate(
                """() => [...document.querySelectorAll('body *')].filter(e => {
                    const box = e.getBoundingClientRect();
                    for (let up = e; up !== document.body; up = up.parentElement)
                        if (up.matches('.skip, .brand b')) return false;
                        else if (up !== e && getComputedStyle(up).overflowX !== 'visible') return false;
                    return box.width && (box.right > innerWidth + 1 || box.left < -1);
                }).map(e => e.outerHTML.slice(0, 120))"""
            )
            assert wide == [], path
            assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_nothing_moves_when_pictures_arrive(site: Site, world: World, chromium: Browser) -> None:
    async with opened(chromium, site, viewport={"width": 390, "height": 844}) as page:
        await page.add_init_script(
            """window.moved = 0; new PerformanceObserver(list => {
                for (const entry of list.getEntries()) window.moved += entry.value;
            }).observe({type: 'layout-shift', buffered: true});"""
        )
        pictures: list[Any] = []

        held = True

        async def hold(route: Any) -> None:
            if held:
                pictures.append(route)
            else:
                await route.continue_()

        await page.route("**/img/**", hold)
        await page.goto(site.origin + "/", wait_until="domcontentloaded")
        await page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        places = "[...document.querySelectorAll('article')].map(a => a.getBoundingClientRect().top)"
        before = await page.evaluate(places)
        held = False
        for route in pictures:
            await route.continue_()
        await page.evaluate(
            """() => Promise.all([...document.images].map(
                i => i.complete || new Promise(done => { i.onload = i.onerror = done })))"""
        )
        after = await page.evaluate(places)

        assert len(pictures) > 10
        assert before == after
        assert await page.evaluate("window.moved") <= 0.02


async def test_pictures_have_the_shape_that_the_record_names(
    site: Site, world: World, chromium: Browser
) -> None:
    async with opened(chromium, site, viewport={"width": 1280, "height": 900}) as page:
        await page.goto(site.origin + "/")
        boxes = await page.eval_on_selector_all(
            ".n1 img",
            "all => all.map(i => [i.getBoundingClientRect().width, i.getBoundingClientRect().height])",
        )

        whole = boxes[0][0]
        assert whole > 540
        assert boxes[0] == pytest.approx([whole, whole / 1.6], abs=2)  # 1600 × 1000 over the whole width
        assert boxes[1] == pytest.approx([288, 480], abs=2)  # 500 × 1500, cut to a strip that fits
        assert all(width <= 552 and height <= 481 for width, height in boxes)


async def test_icons_of_the_sprite_are_painted(site: Site, world: World, chromium: Browser) -> None:
    async with opened(chromium, site, viewport={"width": 800, "height": 900}) as page:
        await page.goto(site.origin + "/", wait_until="networkidle")
        for name in ("reply", "repost", "like"):
            icon = page.locator(f"article .actions svg:has(use[href$='#{name}'])").nth(1)
            shades = Image.open(io.BytesIO(await icon.screenshot())).convert("L").getcolors()
            assert shades is not None
            assert len(shades) > 5, name


async def test_without_script_a_reader_signs_in_likes_posts_and_is_back_where_they_were(
    site: Site, world: World, chromium: Browser
) -> None:
    async with opened(
        chromium, site, signed_in=False, java_script_enabled=False, viewport={"width": 390, "height": 844}
    ) as page:
        await page.goto(site.origin + "/")
        await page.get_by_role("link", name="Sign in").first.click()
        await page.get_by_label("Handle").fill(ME.handle)
        await page.get_by_label("App password").fill(APP_PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(site.origin + "/")

        button = page.get_by_role("button", name="Like post by Dora ✨, 33 likes")
        await button.scroll_into_view_if_needed()
        await button.click()
        await page.wait_for_url("**#*")
        article = page.locator(f"[id='{page.url.partition('#')[2]}']")
        assert "This, exactly" in await article.inner_text()
        box = await article.bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 844
        assert await article.get_by_role("button", name="Like post").get_attribute("aria-pressed") == "true"

        await page.goto(site.origin + "/")
        await page.get_by_label("New post").fill("Without script.")
        await page.get_by_role("button", name="Post", exact=True).click()
        await page.get_by_text("Posted.").wait_for()
        assert [done[0] for done in site.pen.done] == ["like", "post"]

        own = page.locator("article").filter(has_text="How tide tables")
        await own.get_by_label("More for this post").click()
        await own.get_by_role("button", name="Delete for good").click()
        await page.get_by_text("Deleted.").wait_for()
        assert await page.locator("article").filter(has_text="How tide tables").count() == 0


async def test_after_an_action_the_keyboard_goes_on_at_the_post(
    site: Site, world: World, chromium: Browser
) -> None:
    async with opened(
        chromium, site, java_script_enabled=False, viewport={"width": 800, "height": 900}
    ) as page:
        await page.goto(site.origin + "/")
        await page.get_by_role("button", name="Like post by Ivo Berger, 41 likes").press("Enter")
        await page.wait_for_url("**#*")

        name = page.url.partition("#")[2]
        assert await page.evaluate("document.activeElement.id") == name
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.closest('article').id") == name


async def test_the_keyboard_reaches_everything_in_reading_order_and_shows_where_it_is(
    site: Site, world: World, chromium: Browser
) -> None:
    async with opened(chromium, site, viewport={"width": 800, "height": 900}) as page:
        await page.goto(site.origin + "/")
        reached = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate(
                    """() => { const e = document.activeElement, s = getComputedStyle(e);
                       return [e.getAttribute('aria-label') || e.innerText || e.id, s.outlineStyle] }"""
                )
            )

        names = [name.replace("\n", " ") for name, _ in reached]
        assert names[:5] == ["Skip to the content", "Timeline", "Home", "Notifications", "Search"]
        assert names[5:10] == ["Menu", "Details", "Go to …", "text", "Post"]
        assert names[10].startswith("Mara Lindqvist")
        assert all(outline != "none" for _, outline in reached)


async def test_everything_that_can_be_pressed_is_large_enough(
    site: Site, world: World, chromium: Browser
) -> None:
    for touch, least in ((False, 24), (True, 44)):
        async with opened(
            chromium, site, viewport={"width": 390, "height": 844}, has_touch=touch, is_mobile=touch
        ) as page:
            await page.goto(site.origin + "/")
            small = await page.evaluate(
                """least => [...document.querySelectorAll('button, summary, .actions > a, .go, .top a')]
                    .filter(e => { const b = e.getBoundingClientRect();
                        return b.height && (b.height < least || b.width < 24) })
                    .map(e => e.outerHTML.slice(0, 90))""",
                least,
            )
            assert small == []


async def test_controls_are_named_after_what_they_act_on(site: Site, world: World, chromium: Browser) -> None:
    async with opened(chromium, site) as page:
        await page.goto(site.origin + "/")
        assert await page.get_by_role("main").count() == 1
        assert await page.get_by_role("banner").count() == 1
        assert await page.get_by_role("navigation", name="Main").count() == 1
        assert await page.get_by_role("heading", level=1).count() == 1
        assert await page.get_by_role("link", name="Skip to the content").count() == 1
        articles = page.get_by_role("article")
        assert await articles.count() == 50
        nameless = await page.evaluate(
            """() => [...document.querySelectorAll('button, a, summary, input:not([type=hidden]), textarea')]
                .filter(e => !e.closest('[aria-hidden=true]') && !e.getAttribute('aria-label')
                    && !e.textContent.trim() && !e.querySelector('img')?.alt && !e.labels?.length)
                .map(e => e.outerHTML.slice(0, 90))"""
        )
        assert nameless == []
        second = page.get_by_role("img", name="Image 2 of 3: No description by the author")
        assert await second.count() == 1


async def test_a_right_to_left_post_is_set_from_the_right_and_names_do_not_mix(
    site: Site, world: World, chromium: Browser
) -> None:
    async with opened(chromium, site, viewport={"width": 800, "height": 900}) as page:
        await page.goto(site.origin + "/")
        text = page.locator("[lang=ar]").first
        place = await text.evaluate(
            """e => { const r = document.createRange(); r.selectNodeContents(e);
               const box = e.getBoundingClientRect();
               const all = [...r.getClientRects()];
               return [box.right - Math.max(...all.map(l => l.right)), all[0].left - box.left] }"""
        )
        assert place[0] < 2 < place[1]
        by = page.locator("article").filter(has_text="القاهرة").locator(".by")
        name, handle = by.locator(".name"), by.locator(".handle")
        assert (await name.bounding_box())["x"] < (await handle.bounding_box())["x"]  # type: ignore[index]


async def test_labelled_pictures_are_shown_only_when_asked_for(
    site: Site, world: World, chromium: Browser
) -> None:
    async with opened(chromium, site, java_script_enabled=False) as page:
        await page.goto(site.origin + "/")
        cover = page.locator("details.cover")
        assert not await cover.locator("img").is_visible()
        await cover.locator("summary").click()
        assert await cover.locator("img").is_visible()


async def test_the_style_follows_the_theme_of_the_reader(site: Site, world: World, chromium: Browser) -> None:
    grounds = {}
    for theme in ("light", "dark"):
        async with opened(chromium, site, color_scheme=theme) as page:
            await page.goto(site.origin + "/login")
            grounds[theme] = await page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert grounds == {"light": "rgb(246, 244, 239)", "dark": "rgb(16, 18, 20)"}


async def test_what_the_policy_forbids_is_not_run(site: Site, world: World, chromium: Browser) -> None:
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"{site.origin}/profile/{did_of('ivo')}")
    blocked = await page.evaluate(
        """async () => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', e => seen.push(e.effectiveDirective));
            const script = document.createElement('script');
            try { script.text = 'window.ran = true'; } catch (e) { seen.push('trusted-types') }
            document.head.append(script);
            const image = new Image(); image.src = 'http://localhost:9/x.png';
            document.body.append(image);
            const style = document.createElement('style'); style.textContent = 'body{display:none}';
            document.head.append(style);
            await new Promise(done => setTimeout(done, 300));
            return [seen, window.ran === undefined, getComputedStyle(document.body).display];
        }"""
    )
    await context.close()

    assert {"img-src", "style-src-elem"} <= set(blocked[0])
    assert {"trusted-types", "require-trusted-types-for"} & set(blocked[0])
    assert blocked[1:] == [True, "block"]
