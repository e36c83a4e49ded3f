"""Bad input to pages and forms (AUTH §9.6): refused, and nothing of it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.clock import ManualClock
from tests.web.reading_html import Document
from tests.web.samples import ME, NOW_US
from tests.web.site_rig import Site, running

VICTIM = "did:plc:victimvictimvictimvictim"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running(ME, tmp_path, clock=ManualClock(NOW_US)) as running_site:
        yield running_site


async def token_of(client: httpx.AsyncClient) -> str:
    return Document((await client.get("/")).text).token


async def test_t30_a_bearer_token_means_nothing_to_pages(site: Site) -> None:
    async with site.client() as browser:
        cookie = "cookie-of-the-member"
        site.door.inside[cookie] = site.member
        for shown in (f"Bearer {cookie}", f"DPoP {cookie}", f"Basic {cookie}"):
            page = await browser.get("/", headers={"Authorization": shown})
            assert 'action="/api/auth/logout"' not in page.text
        site.sign_in(browser)
        assert 'action="/api/auth/logout"' in (await browser.get("/")).text


async def test_t68_no_field_of_a_form_says_whose_record_or_which_kind_is_written(site: Site) -> None:
    async with site.client() as browser:
        site.sign_in(browser)
        forged = {
            "token": await token_of(browser),
            "repo": VICTIM,
            "did": VICTIM,
            "collection": "app.bsky.graph.block",
            "rkey": "self",
            "cookie": "somebody else's",
            "$type": "chat.bsky.convo.message",
        }
        answer = await browser.post("/api/actions/post", data={**forged, "text": "mine", "once": "1"})
        assert answer.status_code == 303
        assert site.pen.done == [("post", "mine", "", [])]


BODIES = {
    "no boundary": ("multipart/form-data", b"--x\r\n\r\n"),
    "empty boundary": ("multipart/form-data; boundary=", b"--\r\n\r\n----"),
    "never ends": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nz',
    ),
    "many parts": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 1000 + b"--x--",
    ),
    "nested": (
        "multipart/form-data; boundary=x",
        b"\r\n".join(
            [
                b'--x\r\nContent-Disposition: form-data; name="a"',
                b"Content-Type: multipart/mixed; boundary=y\r\n",
                b'--y\r\nContent-Disposition: file; filename="../../etc/passwd"\r\n\r\nz\r\n--y--\r\n--x--',
            ]
        ),
    ),
    "a file": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="/etc/cron.d/x"\r\n\r\nz\r\n--x--',
    ),
    "too large": ("multipart/form-data; boundary=x", b"--x\r\n" + b"z" * 70_000),
    "other kind": ("text/xml", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>"),
    "json list": ("application/json", b"[[[[1]]]]"),
    "deep json": ("application/json", b"[" * 50_000),
    "json nan": ("application/json", b'{"a":NaN}'),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
async def test_t105_no_body_of_a_form_is_our_mistake_and_nothing_of_it_is_done(site: Site, name: str) -> None:
    kind, body = BODIES[name]
    async with site.client() as browser:
        site.sign_in(browser)
        answer = await browser.post(
            "/api/actions/post",
            content=body,
            headers={"Content-Type": kind, "X-Form-Token": "x" if "json" in kind else ""},
        )
        assert 400 <= answer.status_code < 500
        assert site.pen.done == []


async def test_no_cookie_header_form_or_address_is_our_mistake(site: Site) -> None:
    chance = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), max_size=60)
    found: list[tuple[str, str, str]] = []

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(chance, chance, chance), min_size=1, max_size=5))
    def gather(triples: list[tuple[str, str, str]]) -> None:
        found.extend(triples)

    gather()
    async with site.client() as browser:
        token = Document((await browser.get("/login")).text).token
        for one, two, three in found[:150]:
            header = two.encode("utf-8").strip()
            answers = [
                await browser.get("/login", headers={b"Cookie": b"session=" + header, b"Accept": header}),
                await browser.post("/api/auth/login", data={"token": token, one: two, "identifier": three}),
                await browser.get("/login", params={"return": one, two: three}),
                await browser.get(f"/profile/{quote(three, safe='') or 'x'}"),
            ]
            assert all(answer.status_code < 500 for answer in answers), (one, two, three)
