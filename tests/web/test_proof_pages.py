"""The page of details and the public status page, without script."""

from __future__ import annotations

import httpx
import pytest

from tests.web.proof_samples import HOUR_US, account, furnish
from tests.web.reading_html import Document
from tests.web.samples import ME, NOW_US, World, did_of
from tests.web.site_rig import WELL, Site


async def page(client: httpx.AsyncClient, path: str) -> Document:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return Document(answer.text)


async def test_details_name_who_is_not_complete_and_why(site: Site, member: httpx.AsyncClient) -> None:
    furnish(site)

    shown = await page(member, "/completeness")
    words = shown.one("main").words

    assert "Loading the history of 1 of 8 accounts" in words
    assert "doubt.test ! Complete until 04:56 UTC: being checked again: the live stream had a gap" in words
    assert "checked 5 h ago by signed copy, 412 records" in words
    assert "new.test … Loading history: 300 records in 3 pages so far; since 05:56 UTC" in words
    assert (
        "wait.test … Waiting: their server is not reachable (no answer in time). Tried again in 10 min"
        in words
    )
    assert "off.test – Not active: deactivated" in words
    assert "whole.test" not in words
    assert "Between 04:56 UTC and 05:56 UTC 1 account: the live stream had a gap." in words
    everybody = await page(member, "/completeness?show=all")
    assert "whole.test ✓ Complete" in everybody.one("main").words


async def test_late_rows_are_listed_since_the_marker(site: Site, member: httpx.AsyncClient) -> None:
    """Catalogue 52: what arrived below the top is there to be found."""
    furnish(site)

    since = await page(member, "/completeness?since=77")
    lately = await page(member, "/completeness")

    assert "Repost of @handle.invalid belongs to 04:56 UTC arrived 06:56 UTC" in since.one("main").words
    assert "Post of @new.test" not in since.one("main").words
    assert "Post of @new.test belongs to 20 Nov, 05:56 UTC" in lately.one("main").words
    assert since.one("a", href="/completeness?since=500").words == "What arrives late from now on"
    assert lately.one("a", href=f"/post/at://{did_of('new.test')}/app.bsky.feed.post/3k")
    assert (await member.get("/completeness?since=x")).status_code == 400


async def test_details_are_for_who_is_signed_in(site: Site, guest: httpx.AsyncClient) -> None:
    answer = await guest.get("/completeness")

    assert (answer.status_code, answer.headers["location"]) == (303, "/login?return=%2Fcompleteness")


async def test_a_new_follow_s_profile_tells_its_progress(
    site: Site, world: World, member: httpx.AsyncClient
) -> None:
    """Catalogue 72, and GI-5."""
    view = next(iter(site.shelf.profiles.values()))
    site.shelf.known = [account("x", "catching-up", rows=120)._replace(did=view["did"])]
    loading = (await page(member, f"/profile/{view['handle']}")).one("p", class_="state").words
    site.shelf.known = [account("x", "complete-until", proved_us=NOW_US - HOUR_US)._replace(did=view["did"])]
    doubtful = (await page(member, f"/profile/{view['handle']}")).one("p", class_="state").words
    site.shelf.known = [account("x", "complete")._replace(did=view["did"])]
    whole = await page(member, f"/profile/{view['handle']}")

    assert loading == "… Loading history Earlier posts may still appear. 120 records read so far."
    assert doubtful.startswith("! Complete until 05:56 UTC")
    assert whole.all("p", class_="state") == []


async def test_the_status_page_says_that_all_is_well_and_names_nobody(
    site: Site, guest: httpx.AsyncClient
) -> None:
    answer = await guest.get("/status")
    shown = Document(answer.text).one("main").words

    assert "✓ Everything is as it should be." in shown
    assert "1 412 complete" in shown
    assert "Checked by revision 1 412 accounts within a day none overdue" in shown
    assert "did:" not in answer.text
    assert ME.handle not in answer.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"stream": WELL["stream"] | {"live": False, "downSince": "2026-11-21T05:56:31Z"}},
            "Live no not since 21 Nov 2026, 05:56 UTC",
        ),
        ({"gaps": {"open": 2, "oldest": "2026-11-21T05:56:31Z", "lastDay": 2}}, "Gaps 2 open"),
        (
            {"doubts": {"accounts": 3, "oldest": "2026-11-21T05:56:31Z"}},
            "Accounts in doubt 3 the oldest since 21 Nov 2026, 05:56 UTC",
        ),
        ({"findings": {"open": 1, "lastDay": 1}}, "Differences found 1 open 1 found within a day"),
        (
            {"audits": {"rev": WELL["audits"]["rev"] | {"overdue": 7}}},
            "Checked by revision 1 412 accounts within a day 7 overdue",
        ),
    ],
)
async def test_the_status_page_turns_with_each_fact(
    site: Site, guest: httpx.AsyncClient, changed: dict[str, object], words: str
) -> None:
    well = (await page(guest, "/status")).one("main").words
    problem = {"fact": "x", "words": "something is wrong", "grave": True}
    site.shelf.status = WELL | changed | {"healthy": False, "problems": [problem]}

    shown = await page(guest, "/status")

    assert words in shown.one("main").words
    assert words not in well
    assert "Something is wrong." in shown.one("main").words
    assert "Not everything is as it should be." in shown.one("p", class_="verdict").words
    assert shown.all("div", class_="off")


async def test_machines_get_the_status_as_json(site: Site, guest: httpx.AsyncClient) -> None:
    for path, headers in (("/status.json", {}), ("/status", {"Accept": "application/json"})):
        answer = await guest.get(path, headers=headers)
        assert answer.json() == WELL
        assert answer.headers["cache-control"] == "public, max-age=10"
        assert answer.headers["access-control-allow-origin"] == "*"
