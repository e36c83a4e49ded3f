"""Limits on readers: by session, by address, and none on whoever comes from this machine."""

from pathlib import Path

from appliance.auth.budgets import Budgets
from appliance.clock import ManualClock
from appliance.config import Settings
from tests.web.reading_html import Document
from tests.web.samples import ME, NOW_US
from tests.web.site_rig import running

SETTINGS = Settings(limit_guest_pages="60/minute 2", limit_pages="60/minute 4", limit_writes="60/minute 1")


def budgets() -> Budgets:
    return Budgets(SETTINGS, ManualClock(NOW_US))


async def test_a_reader_who_asks_too_much_is_told_when_to_come_back(tmp_path: Path) -> None:
    ours = budgets()
    async with running(ME, tmp_path, budgets=ours) as site, site.client() as browser:
        # Nobody but a proxy on this machine may name another address, and here is none.
        for _ in range(5):
            assert (await browser.get("/login")).status_code == 200
        site.sign_in(browser)
        for n in range(4):
            assert (await browser.get("/")).headers["ratelimit-remaining"] == str(3 - n)
        refused = await browser.get("/")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert "Too many requests" in refused.text
        assert (await browser.get("/static/x/style.css")).status_code != 429


async def test_writes_have_a_budget_of_their_own_and_beyond_it_nothing_is_done(tmp_path: Path) -> None:
    async with running(ME, tmp_path, budgets=budgets()) as site, site.client() as browser:
        site.sign_in(browser)
        token = Document((await browser.get("/")).text).token
        answers = [
            await browser.post("/api/actions/post", data={"token": token, "text": text, "once": text})
            for text in ("one", "two")
        ]
        assert [answer.status_code for answer in answers] == [303, 429]
        assert (await browser.get("/")).status_code == 200
