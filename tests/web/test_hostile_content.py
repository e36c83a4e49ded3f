"""Script, tricks and noise in every field that others write: inert and legible (AUTH T98–T100)."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from appliance.errors import BadInput
from appliance.web import richtext
from tests.web.chromium import browser
from tests.web.reading_html import Document
from tests.web.samples import ME, World, did_of
from tests.web.site_rig import Site
from tests.web.test_in_chromium import opened

SCRIPTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title></textarea><script src=//evil.example/x.js></script>",
    "{{ 7*7 }}{% raw %}<iframe src=//evil.example>",
    "javascript:alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt;\u2028\u2029<base href=//evil.example>",
    "--><style>@import '//evil.example/x.css'</style>",
)
NOISE = (
    "\u202eevil\u202c gnitirw \u2066isolates\u2069",
    "z" + "\u0336\u0489\u0300" * 3000,
    "🎉" * 300,
    "👩‍👩‍👧‍👦" * 80,
    "\u200b\u200c\u2060\ufeff",
    "a" * 20_000,
    "\x00\x1b[31m\x07\r\nb",
    "\U000e0041\U000e0042",
    "﷽" * 60,
    "\ud800 half",
)
# Keys whose values the protocol itself has checked before anything is shown.
CHECKED = frozenset({"did", "uri", "cid", "$type", "indexedAt", "createdAt", "src", "cts"})


def poisoned(view: Any, poison: str) -> Any:
    """The view with the poison in every text that somebody else may write freely."""
    view = copy.deepcopy(view)
    _poison(view, poison)
    return view


def _poison(value: Any, poison: str) -> None:
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, dict):
        pairs = iter(list(value.items()))
    elif isinstance(value, list):
        pairs = iter(list(enumerate(value)))
    for key, part in pairs:
        free = key not in CHECKED or (key == "uri" and not str(part).startswith("at://"))
        if isinstance(part, str) and free:
            value[key] = poison
        else:
            _poison(part, poison)


def spread(site: Site, world: World, poison: str) -> list[str]:
    """Put the poison everywhere; the pages to look at."""
    shelf = site.shelf
    shelf.timelines[ME.did] = poisoned(shelf.timelines[ME.did], poison)
    for did, view in list(shelf.profiles.items()):
        shelf.profiles[did] = poisoned(view, poison)
        shelf.feeds[did] = poisoned(shelf.feeds[did], poison)
    for uri, thread in list(shelf.threads.items()):
        shelf.threads[uri] = poisoned(thread, poison)
    return ["/", f"/profile/{did_of('ivo')}", f"/post/{world.focus}"]


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with browser() as launched:
        yield launched


@pytest.mark.parametrize("poison", [*SCRIPTS, *NOISE])
async def test_whatever_is_written_the_page_keeps_its_shape_and_its_size(
    site: Site, world: World, member: httpx.AsyncClient, poison: str
) -> None:
    clean: dict[str, list[str]] = {}
    for path in ("/", f"/profile/{did_of('ivo')}", f"/post/{world.focus}"):
        clean[path] = [e.name for e in Document((await member.get(path)).text).elements]

    for path in spread(site, world, poison):
        answer = await member.get(path)
        assert answer.status_code == 200, path
        document = Document(answer.text)
        only_ours(document)
        names = [element.name for element in document.elements]
        assert not {"iframe", "object", "embed", "style", "base"} & set(names)
        # Bad addresses drop their elements; nothing is ever added.
        for name in set(names):
            assert names.count(name) <= clean[path].count(name) + 2 * (name in ("p", "span")), (path, name)
        for element in document.elements:
            assert not [key for key in element.attributes if key.startswith("on")]
            for key in ("href", "src", "action", "formaction"):
                if value := element.get(key):
                    assert value.startswith(("/", "#", site.origin)), (key, value)
        for character in "\u202e\u202d\x00\x1b\ud800":
            assert character not in answer.text
        assert len(answer.content) < 2_500_000


def only_ours(document: Document) -> None:
    """Of scripts, the page has our own file and nothing else."""
    (script,) = document.all("script")
    assert script.get("src").startswith("/static/")
    assert not script.words


@pytest.mark.parametrize("where", ["?done=", "?before=", "?show=", "?x="])
@pytest.mark.parametrize("poison", SCRIPTS)
async def test_nothing_of_an_address_comes_back_as_markup(
    site: Site, world: World, member: httpx.AsyncClient, where: str, poison: str
) -> None:
    for path in ("/", "/profile/ivo.example.net", "/login", "/nowhere/" + poison.replace("?", "")):
        answer = await member.get(path + where + poison.replace("#", "").replace("&", ""))
        if answer.status_code == 303:
            continue
        only_ours(Document(answer.text))
        assert "onerror=alert" not in answer.text.replace("&#34;", '"').split("<main")[0]
        Document(answer.text)


async def test_an_error_with_script_in_its_words_is_inert(site: Site, guest: httpx.AsyncClient) -> None:
    site.shelf.failures["x.example"] = BadInput(SCRIPTS[0])

    answer = await guest.get("/profile/x.example")

    assert answer.status_code == 400
    only_ours(Document(answer.text))
    assert SCRIPTS[0] in Document(answer.text).one("main").words


async def test_no_script_runs_and_nobody_else_is_asked(site: Site, world: World, chromium: Browser) -> None:
    for poison in ("".join(SCRIPTS), "javascript:alert(1)"):
        paths = spread(site, world, poison)
        async with opened(chromium, site) as page:
            for path in [*paths, f"/nowhere/{poison.replace('?', '')}", f"/?done={poison}"]:
                await page.goto(site.origin + path, wait_until="networkidle")
                assert await page.locator("iframe, base").count() == 0
                (script,) = await page.locator("script").all()
                assert str(await script.get_attribute("src")).startswith("/static/")


@pytest.mark.parametrize("poison", NOISE[:6])
async def test_noise_stays_inside_its_own_post(
    site: Site, world: World, chromium: Browser, poison: str
) -> None:
    """One post of noise between quiet ones: the page is no wider, the neighbours are where they belong."""
    rows = site.shelf.timelines[ME.did]
    rows[2] = poisoned(rows[2], poison)
    async with opened(chromium, site, viewport={"width": 390, "height": 844}) as page:
        await page.goto(site.origin + "/")
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        over = await page.evaluate(
            """() => { const [a, b, c] = [...document.querySelectorAll('article')].slice(1, 4)
                    .map(e => e.getBoundingClientRect());
                return [b.top >= a.bottom - 1, c.top >= b.bottom - 1] }"""
        )
        assert over == [True, True]
        handle = page.locator("article").nth(2).locator(".handle").first
        box = await handle.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
        # The direction of the neighbours is their own.
        assert await page.locator("article").nth(1).locator(".text").inner_text() == "Up before the fog."


def test_a_name_of_nothing_visible_gives_way_to_the_handle(site: Site, world: World) -> None:
    for empty in ("\u200b\u200c", "\u3164", "\u2800 \u115f", "\u202e", " \n ", "\ufe0f"):
        assert richtext.name(empty) == ""
