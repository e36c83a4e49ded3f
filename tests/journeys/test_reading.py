"""The website of a running appliance: sign in, read, mark, come back elsewhere, look around."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from tests.devnet.devnets import small
from tests.journeys.harness import comes_true, running

PAGES = (
    "/notifications",
    "/search?q=word",
    "/search?q=member&show=people",
    "/bookmarks",
    "/lists",
    "/muted",
    "/reading",
    "/late",
    "/feeds",
    "/compose",
    "/keyboard",
    "/about",
    "/profile/member.test?show=likes",
    "/profile/member.test/follows",
)


async def test_a_member_signs_in_marks_and_goes_on_in_another_browser(tmp_path: Path) -> None:
    async with small() as net:
        account, author = net.create_account("member.test"), net.create_account("author.test")
        net.follow(account.did, author.did)
        for n in range(12):
            net.post(author.did, f"word {n}")
        settings = {
            "JETSTREAM_URLS": net.info["jetstream_v2"],
            "PLC_URL": net.info["plc"],
            "HANDLE_RESOLVERS": ",".join(net.info["pds"]),
            "MEMBERS": "*",
        }
        async with running(tmp_path / "appliance", settings) as process:

            @contextlib.asynccontextmanager
            async def browser() -> AsyncIterator[httpx.AsyncClient]:
                http = httpx.AsyncClient(
                    base_url=process.origin,
                    trust_env=False,
                    headers={"Origin": process.origin},
                    timeout=60,
                    follow_redirects=True,
                )
                page = await http.get("/login")
                hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
                answer = await http.post(
                    "/api/auth/login",
                    data={**hidden, "identifier": "member.test", "password": account.entry.password},
                )
                assert answer.status_code == 200
                yield http
                await http.aclose()

            async with browser() as phone, browser() as desk:

                async def all_here() -> str:
                    home = (await phone.get("/")).text
                    return "" if all(f">word {n}<" in home for n in range(12)) else "not all posts are here"

                await comes_true(all_here, within_s=120)
                home = (await phone.get("/")).text
                form = home[home.index('<form id="mark"') :].partition("</form>")[0]
                fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
                # Made within a millisecond they stand in an order of their own.
                order = re.findall(r">(word \d+)<", home)
                button = re.search(r'name="place" value="([^"]+)"', home[home.index(f">{order[7]}<") :])
                assert button
                marked = await phone.post("/api/reading/mark", data={**fields, "place": button[1]})
                assert marked.status_code == 200

                there = (await desk.get("/")).text
                assert "<title>(7) Home</title>" in there
                line = there.index('id="marker"')
                assert there.index(f">{order[6]}<") < line < there.index(f">{order[7]}<")
                state = (await desk.get("/api/timeline/state")).json()
                assert state["unread"] == "7"
                for path in PAGES:
                    assert (await desk.get(path)).status_code == 200, path
