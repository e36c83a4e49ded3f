"""What pages may weigh: exact bytes as they go over the wire, and elements."""

from __future__ import annotations

import gzip

import httpx

from appliance.web.doors import Json
from tests.web.reading_html import Document
from tests.web.samples import ME, World, quoting, reposted, row
from tests.web.site_rig import Site

HTML_BYTES_MAX = 30_000
HTML_RAW_BYTES_MAX = 150_000
CSS_BYTES_MAX = 12_000
SCRIPT_BYTES_MAX = 15_000
WELCOME_BYTES_MAX = 10_000
ELEMENTS_MAX = 1800


async def wire_bytes(client: httpx.AsyncClient, path: str) -> tuple[int, int, str]:
    """Bytes as sent, bytes unpacked, the text."""
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        sent = b"".join([part async for part in answer.aiter_raw()])
    data = gzip.decompress(sent)
    return len(sent), len(data), data.decode()


def ordinary(site: Site, world: World) -> None:
    """Fifty rows as they come: each with a text of its own, half with something added."""
    names = ("Mara", "Ivo", "Noor", "Kenji", "Sam", "Dora", "Lena", "Otto")
    people = [
        world.person(f"{name} Surname", f"{name.lower()}.example.org", avatar=n)
        for n, name in enumerate(names)
    ]
    words = ("tide", "table", "river", "stone", "paper", "bridge", "lamp", "morning", "letter", "engine")
    rows: list[Json] = []
    for n in range(50):
        author = people[n * 5 % 8]
        text = " ".join(words[(n * k + k * k) % len(words)] for k in range(3, 12 + n % 14)) + f" {n * 7919}."
        post = world.post(author, text, minutes=n * 11, counts=(n % 5, n % 7, n * 13))
        if n % 5 == 1:
            post["embed"] = world.images(author, (1000, 700), alts=(f"A picture of {words[n % 10]}",))
        if n % 10 == 3:
            post["embed"] = quoting(rows[-1]["post"])
        rows.append(reposted(post, people[n % 8], minutes=n * 10) if n % 6 == 0 else row(post))
    site.shelf.timelines[ME.did] = rows


async def test_home_with_fifty_posts_is_light(site: Site, world: World, member: httpx.AsyncClient) -> None:
    ordinary(site, world)

    sent, raw, html = await wire_bytes(member, "/")
    document = Document(html)

    assert len(document.all("article")) == 50
    assert sent <= HTML_BYTES_MAX
    assert raw <= HTML_RAW_BYTES_MAX
    assert len(document.elements) <= ELEMENTS_MAX


async def test_home_with_everything_on_it_is_light_too(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    sent, raw, html = await wire_bytes(member, "/")

    assert len(Document(html).all("article")) == 50
    assert sent <= HTML_BYTES_MAX
    assert raw <= HTML_RAW_BYTES_MAX


async def test_style_and_script_are_one_small_file_each_and_there_is_no_font(
    guest: httpx.AsyncClient,
) -> None:
    sent, _, html = await wire_bytes(guest, "/")
    document = Document(html)
    [style] = [link["href"] for link in document.all("link", rel="stylesheet")]
    css_sent, _, css = await wire_bytes(guest, style)

    assert sent <= WELCOME_BYTES_MAX
    assert css_sent <= CSS_BYTES_MAX
    assert "@font-face" not in css
    assert "@import" not in css
    assert "url(" not in css
    [script] = document.all("script")
    assert "defer" in script.attributes
    script_sent, _, _ = await wire_bytes(guest, script["src"])
    assert script_sent <= SCRIPT_BYTES_MAX
    assert not document.all("style")
    assert not [element for element in document.elements if "style" in element.attributes]
