"""Pages over a real database, both themes: python -m tests.web.reading_screenshots FOLDER [page ...]."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.timeline.village import did
from tests.web.chromium import browser
from tests.web.reading_rig import COOKIE, house, opened
from tests.web.screenshots import WIDTHS
from tests.web.test_lookups import admit

WORDS = "The clerks of the tide office wrote by lamplight, and nobody checked them twice. "


async def main(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as files:
        async with house(Path(files)) as place, browser() as chromium, place.device() as phone:
            people = place.village
            await admit(place, "alice")
            mine = await people.post("alice", "Where are the old tide tables kept?")
            for n in range(30):
                text = f"Letter {n}. {WORDS * (n % 3)}".strip()
                post = await people.post("bob" if n % 3 else "carol", text)
            await people.reply("bob", mine)
            for name in ("bob", "carol"):
                await people.write(name, "app.bsky.feed.like", {"subject": mine})
            made = await people.write(
                "alice", "app.bsky.graph.list", {"name": "Maps", "purpose": "app.bsky.graph.defs#curatelist"}
            )
            await people.write(
                "alice", "app.bsky.graph.listitem", {"list": made["uri"], "subject": did("bob")}
            )
            await (await opened(phone)).read_to("Letter 18.")
            paths = {
                "home": "/",
                "notifications": "/notifications",
                "search": "/search?q=letter",
                "search-start": "/search",
                "lists": "/lists",
                "muted": "/muted",
                "follows": "/profile/alice.test/follows",
                "profile": "/profile/bob.test",
                "thread": f"/post/{post['uri']}",
                "options": "/reading",
                "late": "/late",
                "compose": "/compose",
                "keyboard": "/keyboard",
                "about": "/about",
            }
            for name, path in paths.items():
                if only and name not in only:
                    continue
                for size, (width, height) in WIDTHS.items():
                    for theme in ("light", "dark"):
                        context = await chromium.new_context(
                            viewport={"width": width, "height": height},
                            color_scheme="dark" if theme == "dark" else "light",
                        )
                        await context.add_cookies(
                            [{"name": "session", "value": COOKIE, "url": place.site.origin}]
                        )
                        page = await context.new_page()
                        answer = await page.goto(place.site.origin + path, wait_until="networkidle")
                        assert answer is not None
                        assert answer.ok, name
                        await page.screenshot(path=folder / f"{name}-{size}-{theme}.png")
                        await context.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
